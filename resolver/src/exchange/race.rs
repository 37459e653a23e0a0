//! Connects to several addresses in turn, and keeps the one that stands first; when each begins is
//! [`detour_core::eyeballs`]'s to say.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use detour_core::Clock;
use detour_core::eyeballs::{Race, STAGGER_US};
use detour_core::outcome::Failure;

/// The first of these addresses that can be connected to, and the connection; else why the first one cannot. Those that
/// are still being tried are given up.
pub(super) async fn first_of<T, E, F>(
    addresses: &[SocketAddr],
    clock: &dyn Clock,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<(SocketAddr, T), E>
where
    E: From<Failure>,
    F: Future<Output = Result<T, E>>,
{
    let mut race = Race::new(addresses.len(), clock.now());
    let mut tries: Vec<(SocketAddr, Pin<Box<F>>)> = Vec::with_capacity(1);
    let mut failure_of_first = None;
    while !race.is_lost() {
        let now = clock.now();
        let next = race.poll_begin(now).and_then(|index| addresses.get(index));
        if let Some(address) = next {
            tries.push((*address, Box::pin(connect(*address))));
        }
        let due_us = race.poll_timeout().map(|(at, _why)| at.since(now));
        let timer = async {
            match due_us {
                Some(us) => tokio::time::sleep(Duration::from_micros(us)).await,
                None => std::future::pending().await,
            }
        };
        let ended = poll_fn(|cx| {
            for (index, (_, connecting)) in tries.iter_mut().enumerate() {
                if let Poll::Ready(result) = connecting.as_mut().poll(cx) {
                    return Poll::Ready((index, result));
                }
            }
            Poll::Pending
        });
        tokio::select! {
            biased;
            // Cancel safe: what has not ended stays in the list.
            (index, result) = ended => {
                let (address, _) = tries.swap_remove(index);
                match result {
                    Ok(connected) => return Ok((address, connected)),
                    Err(failure) => {
                        if addresses.first() == Some(&address) {
                            failure_of_first = Some(failure);
                        }
                        race.handle_failed(clock.now());
                    }
                }
            }
            // Cancel safe: a timer.
            () = timer => {}
        }
    }
    Err(failure_of_first.unwrap_or_else(|| Failure::Local.into()))
}

/// Waits for a connection; says so once it takes longer than an address is given alone.
pub(super) async fn telling_if_slow<T>(dial: impl Future<Output = T>, tell: impl FnOnce()) -> T {
    let mut dial = std::pin::pin!(dial);
    match tokio::time::timeout(Duration::from_micros(STAGGER_US), &mut dial).await {
        Ok(dialled) => dialled,
        Err(_elapsed) => {
            tell();
            dial.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    use detour_core::Time;
    use detour_core::time::MS;

    /// A clock that goes on by a tenth of a second whenever somebody looks.
    #[derive(Debug, Default)]
    struct Hasty(AtomicU64);

    impl Clock for Hasty {
        fn now(&self) -> Time {
            Time::from_micros(self.0.fetch_add(100 * MS, Ordering::Relaxed))
        }
    }

    fn addresses(count: u16) -> Vec<SocketAddr> {
        (1..=count)
            .map(|port| SocketAddr::from(([192, 0, 2, 1], port)))
            .collect()
    }

    #[tokio::test]
    async fn whoever_stands_first_is_kept_and_who_is_silent_costs_little() {
        let connect = |address: SocketAddr| async move {
            match address.port() {
                1 => std::future::pending().await,
                2 => Err(Failure::Unreachable),
                port => Ok(port),
            }
        };
        let all = addresses(4);
        let won = first_of(&all, &Hasty::default(), connect).await;
        assert_eq!(won, Ok((all[2], 3)));
    }

    #[tokio::test]
    async fn where_nobody_is_there_the_first_ones_failure_counts() {
        let connect = |address: SocketAddr| async move {
            Err::<(), _>(if address.port() == 1 {
                Failure::Reset
            } else {
                Failure::Unreachable
            })
        };
        assert_eq!(
            first_of(&addresses(3), &Hasty::default(), connect).await,
            Err(Failure::Reset)
        );
        // Also where it fails last.
        let last = tokio::sync::Notify::new();
        let slow = |address: SocketAddr| {
            let last = &last;
            async move {
                match address.port() {
                    1 => {
                        last.notified().await;
                        return Err::<(), _>(Failure::Reset);
                    }
                    3 => last.notify_one(),
                    _ => {}
                }
                Err(Failure::Unreachable)
            }
        };
        assert_eq!(
            first_of(&addresses(3), &Hasty::default(), slow).await,
            Err(Failure::Reset)
        );
        assert_eq!(first_of(&[], &Hasty::default(), connect).await, Err(Failure::Local));
    }

    #[tokio::test]
    async fn a_slow_connection_is_told_of_once_and_waited_for() {
        let mut told = 0;
        assert_eq!(telling_if_slow(async { 7 }, || told += 1).await, 7);
        assert_eq!(told, 0);
        let slow = async {
            tokio::time::sleep(Duration::from_micros(STAGGER_US + 50 * MS)).await;
            7
        };
        assert_eq!(telling_if_slow(slow, || told += 1).await, 7);
        assert_eq!(told, 1);
    }
}
