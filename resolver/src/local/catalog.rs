//! Putting a question to a hickory catalog and taking its answer into the shape all answers have here.
//!
//! The catalog never sees a client's bytes: the question is written anew (name, type, class IN, nothing else), and what
//! comes back is walked like a provider's answer. Id, flags, case, OPT, size and truncation are then what they are for
//! every reply, because the same code writes them.
//!
//! Zone handlers of ours never wait, so a question is answered by one poll, on the spot, without a job and its permit:
//! local names are there when everything else is busy. hickory's code runs where a listener does, which a panic would
//! end; it is caught here, though no input is known that causes one.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use hickory_server::net::NetError;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::rr::{LowerName, Record};
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::server::{Request, RequestHandler as _, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{Catalog, MessageResponse, ZoneHandler};
use parking_lot::Mutex;

use super::zone::Zone;
use super::zones::Zones;
use crate::wire::code::class;
use crate::wire::{Answer, Expected, NameBuf, QueryOut, accept, build_query};

/// A catalog of all zones that are built in and switched on.
pub(super) fn of_built_in(zones: &Zones) -> Catalog {
    let mut catalog = Catalog::new();
    for zone in zones.iter() {
        match Zone::built_in(zone) {
            Some(zone) => add(&mut catalog, zone),
            None => debug_assert!(false, "{} is a zone", zone.name),
        }
    }
    catalog
}

/// A catalog of one zone, made for one question.
pub(super) fn of_one(zone: Zone) -> Catalog {
    let mut catalog = Catalog::new();
    add(&mut catalog, zone);
    catalog
}

fn add(catalog: &mut Catalog, zone: Zone) {
    let origin: LowerName = zone.origin().clone();
    catalog.upsert(origin, vec![Arc::new(zone) as Arc<dyn ZoneHandler>]);
}

/// The catalog's answer to a question of class IN; `None` if it has none, which is a mistake of ours.
pub(super) fn ask(catalog: &Catalog, name: &NameBuf, qtype: u16) -> Option<Answer> {
    catch_unwind(AssertUnwindSafe(|| try_ask(catalog, name, qtype)))
        .ok()
        .flatten()
}

fn try_ask(catalog: &Catalog, name: &NameBuf, qtype: u16) -> Option<Answer> {
    let query = QueryOut {
        id: 0,
        name,
        qtype,
        qclass: class::IN,
        ad: false,
        cd: false,
        case_bits: None,
        edns: None,
    };
    let mut message = Vec::with_capacity(300);
    let question = build_query(&mut message, &query);
    let expected = Expected {
        id: 0,
        question: message.get(question)?,
        check_case: true,
        encrypted: false,
    };
    // Handlers of ours look at neither: who asks has been judged already, and the whole answer is wanted.
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let request = Request::from_bytes(message.clone(), nobody, Protocol::Tcp).ok()?;
    let capture = Capture::default();
    let answering = pin!(catalog.handle_request::<_, NoTime>(&request, capture.clone()));
    let polled = answering.poll(&mut Context::from_waker(Waker::noop()));
    debug_assert!(polled.is_ready(), "zone handlers of ours do not wait");
    let Poll::Ready(_info) = polled else {
        return None;
    };
    let bytes = capture.0.lock();
    let accepted = accept(&bytes, &expected).ok()?;
    Some(accepted.answer.into_authoritative())
}

/// Keeps the answer in place of sending it.
#[derive(Debug, Clone, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

#[async_trait]
impl ResponseHandler for Capture {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::with_capacity(512);
        let info = {
            let mut encoder = BinEncoder::new(&mut bytes);
            encoder.set_max_size(u16::MAX);
            response.destructive_emit(&mut encoder)?
        };
        *self.0.lock() = bytes;
        Ok(info)
    }
}

/// Time as hickory would ask for it, which no zone handler of ours does. Its own clock panics on a machine whose clock
/// stands before 1970.
#[derive(Debug)]
struct NoTime;

#[async_trait]
impl Time for NoTime {
    async fn delay_for(_duration: Duration) {}

    async fn timeout<F: 'static + Future + Send>(_duration: Duration, future: F) -> Result<F::Output, io::Error> {
        Ok(future.await)
    }

    fn current_time() -> u64 {
        0
    }
}
