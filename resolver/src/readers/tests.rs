//! Both ways to wait, alike.

use std::net::UdpSocket;
use std::sync::Arc;

use super::{Descriptor, READY_MAX, WAKE};

/// A socket with a datagram to read.
fn readable() -> Arc<dyn Descriptor> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"here", socket.local_addr().unwrap()).unwrap();
    Arc::new(socket)
}

fn silent() -> Arc<dyn Descriptor> {
    Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap())
}

macro_rules! tests_of {
    ($name:ident, $waiting:ty) => {
        mod $name {
            use super::*;

            fn waiting() -> Arc<$waiting> {
                Arc::new(<$waiting>::new().unwrap())
            }

            fn ready(waiting: &$waiting, now_or_never: bool) -> Vec<u64> {
                let mut keys = [0; READY_MAX];
                let count = waiting.wait(now_or_never, &mut keys).unwrap();
                keys[..count].to_vec()
            }

            #[test]
            fn what_can_be_read_is_told_until_it_was_or_is_removed() {
                let waiting = waiting();
                assert_eq!(ready(&waiting, true), []);
                let (first, second) = (readable(), silent());
                waiting.add(&second, 2).unwrap();
                waiting.add(&first, 1).unwrap();
                // A word about what is new may come first.
                assert!([vec![], vec![1]].contains(&ready(&waiting, true)));
                assert_eq!(ready(&waiting, true), [1]);
                assert_eq!(ready(&waiting, false), [1]);
                waiting.remove(&first, 1);
                assert_eq!(ready(&waiting, true), []);
                waiting.remove(&first, 1);
            }

            #[test]
            fn a_call_ends_one_wait() {
                let waiting = waiting();
                let own = Arc::clone(&waiting);
                let thread = std::thread::spawn(move || ready(&own, false));
                waiting.call();
                assert_eq!(thread.join().unwrap(), [WAKE]);
                assert_eq!(ready(&waiting, true), []);
                waiting.call();
                waiting.call();
                assert_eq!(ready(&waiting, false), [WAKE]);
                assert_eq!(ready(&waiting, true), []);
            }

            #[test]
            fn a_wait_under_way_sees_what_is_new() {
                let waiting = waiting();
                let own = Arc::clone(&waiting);
                let thread = std::thread::spawn(move || {
                    loop {
                        let ready = ready(&own, false);
                        if !ready.is_empty() {
                            return ready;
                        }
                    }
                });
                let first = readable();
                waiting.add(&first, 7).unwrap();
                assert_eq!(thread.join().unwrap(), [7]);
            }

            #[test]
            fn all_get_their_turn() {
                let waiting = waiting();
                let all: Vec<_> = (0..40).map(|_| readable()).collect();
                for (key, one) in (0..).zip(&all) {
                    waiting.add(one, key).unwrap();
                }
                let mut told = [false; 40];
                for _ in 0..40 {
                    for key in ready(&waiting, true) {
                        told[usize::try_from(key).unwrap()] = true;
                    }
                }
                assert_eq!(told, [true; 40]);
            }
        }
    };
}

#[cfg(target_os = "linux")]
tests_of!(epoll, crate::readers::epoll::Waiting);
tests_of!(plain, crate::readers::plain::Waiting);
