//! A second far end, by other people: hickory-server over UDP, TCP, DoT, DoH, DoQ and DoH over HTTP/3, with the same names as the fakes.
//!
//! It is honest and quick, and nothing here can be made wrong. What it is for: a client that works against the fakes
//! may share their mistakes; frames, TLS, QUIC and HTTP of this one are hickory's, and so are the bytes of its answers. It
//! answers one query at a time per connection and takes DoH by POST only, for its own name and with an `accept` header,
//! so it is no place for load.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Header, HeaderCounts, Message, MessageType, Metadata, ResponseCode};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};

use crate::authority::{Authority, Shown, Subject, new_key, server_name};
use crate::fake::StartError;
use crate::fake::reply::honest;
use crate::fake::sockets::{bind, bind_datagrams, bind_tcp};
use crate::message::{EDNS_BYTES, Query, encode_reply};
use crate::transport::{DOH_PATH, ListedTransports, Transport};

/// A connection on which nothing is asked for this long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Replies that wait on one TCP connection.
const REPLIES_MAX: usize = 32;
/// More than any message: what is not to be cut.
const UNCUT_BYTES: usize = 65_535;

/// A running far end. Dropping it ends it.
pub struct FarEnd {
    name: Box<str>,
    addresses: Vec<(Transport, SocketAddr)>,
    server: Server<Zone>,
}

impl FarEnd {
    /// Binds every transport on loopback, on ports of the system's choice, and serves. Must be called within a tokio
    /// runtime with I/O and time enabled.
    ///
    /// # Errors
    /// When nothing can be bound, or no certificate can be made for its name.
    pub fn start(name: &str, authority: &Authority) -> Result<Self, StartError> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let register = |source| StartError::Register { source };
        let host = server_name(name);
        let (udp, tcp) = bind(any, any)?;
        let udp = UdpSocket::from_std(udp).map_err(register)?;
        let tcp = TcpListener::from_std(tcp).map_err(register)?;
        let dot = TcpListener::from_std(bind_tcp(any, Transport::Dot)?).map_err(register)?;
        let doh = TcpListener::from_std(bind_tcp(any, Transport::Doh)?).map_err(register)?;
        let doq = UdpSocket::from_std(bind_datagrams(any, Transport::Doq, false)?).map_err(register)?;
        let doh3 = UdpSocket::from_std(bind_datagrams(any, Transport::Doh3, false)?).map_err(register)?;
        let addresses = vec![
            (Transport::Udp, udp.local_addr().map_err(register)?),
            (Transport::Tcp, tcp.local_addr().map_err(register)?),
            (Transport::Dot, dot.local_addr().map_err(register)?),
            (Transport::Doh, doh.local_addr().map_err(register)?),
            (Transport::Doq, doq.local_addr().map_err(register)?),
            (Transport::Doh3, doh3.local_addr().map_err(register)?),
        ];
        let subject = Subject {
            name: &host,
            address: any.ip(),
            shown: Shown::Right,
        };
        let tls = |protocol: &[u8]| authority.server(&new_key()?, subject, protocol, true);
        let mut server = Server::new(Zone);
        server.register_socket(udp);
        server.register_listener(tcp, IDLE, REPLIES_MAX);
        server
            .register_tls_listener_with_tls_config(dot, IDLE, tls(b"dot")?)
            .map_err(register)?;
        let https = tls(b"h2")?;
        server
            .register_https_listener_with_tls_config(doh, IDLE, https, Some(host.clone()), DOH_PATH.to_owned())
            .map_err(register)?;
        let foreign = |source| register(io::Error::other(source));
        let quic = tls(b"doq")?;
        server
            .register_quic_listener_and_tls_config(doq, IDLE, quic)
            .map_err(foreign)?;
        let h3 = tls(b"h3")?;
        server
            .register_h3_listener_with_tls_config(doh3, IDLE, h3, Some(host))
            .map_err(foreign)?;
        Ok(Self {
            name: name.into(),
            addresses,
            server,
        })
    }

    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name in its certificate.
    #[must_use]
    pub fn server_name(&self) -> String {
        server_name(&self.name)
    }

    /// Where it answers over this transport.
    #[must_use]
    pub fn address_of(&self, transport: Transport) -> Option<SocketAddr> {
        let mut addresses = self.addresses.iter();
        addresses
            .find(|(own, _)| *own == transport)
            .map(|(_, address)| *address)
    }

    /// Its endpoints over these transports, as a node's configuration names them.
    #[must_use]
    pub fn endpoints(&self, listed: ListedTransports) -> Vec<String> {
        let name = self.server_name();
        let endpoint = |transport: &Transport| Some(transport.endpoint(self.address_of(*transport)?, Some(&name)));
        listed.transports().iter().filter_map(endpoint).collect()
    }

    /// Ends all its tasks and waits for them.
    pub async fn shutdown(mut self) {
        // A listener that had failed has been noticed by whoever asked it.
        self.server.shutdown_gracefully().await.ok();
    }
}

impl std::fmt::Debug for FarEnd {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("FarEnd")
            .field("name", &self.name)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// The fakes' names, as hickory asks for them.
struct Zone;

#[async_trait::async_trait]
impl RequestHandler for Zone {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut response: R) -> ResponseInfo {
        let answer = answer(request);
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload().min(EDNS_BYTES));
            edns.set_dnssec_ok(asked.flags().dnssec_ok);
            edns
        });
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        metadata.response_code = answer
            .as_ref()
            .map_or(ResponseCode::ServFail, |answer| answer.metadata.response_code);
        let (answers, authorities) =
            answer.map_or_else(Default::default, |answer| (answer.answers, answer.authorities));
        let message = MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(
            metadata,
            answers.iter(),
            authorities.iter(),
            [],
            [],
        );
        // A client that is gone is no failure of the server, and the return value is for its logs only.
        response.send_response(message).await.unwrap_or_else(|_gone| {
            let mut metadata = Metadata::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
            metadata.response_code = ResponseCode::ServFail;
            let counts = HeaderCounts::default();
            ResponseInfo::from(Header { metadata, counts })
        })
    }
}

/// What the zone says, read by hickory out of what a fake would send. `None` does not happen: hickory has read the
/// request, and we can write.
fn answer(request: &Request) -> Option<Message> {
    let query = Query::parse(request.as_slice()).ok()?;
    Message::from_vec(&encode_reply(&query, &honest(&query), UNCUT_BYTES)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::tests::client::{Client, Http, ask};
    use crate::message::{encode_query, parse_reply, rcode, rtype};
    use crate::zone::expected_a;

    const NAME: &str = "QuEry.birch-harbor.net";

    fn query() -> Vec<u8> {
        encode_query(7, NAME, rtype::A, Some(1232))
    }

    fn assert_right(reply: &[u8]) {
        let reply = parse_reply(reply).unwrap();
        assert_eq!((reply.id, reply.rcode), (7, rcode::NOERROR));
        assert_eq!(reply.addresses, [expected_a(NAME).unwrap()]);
        assert_eq!(
            reply.question,
            query()[12..query().len() - 11],
            "the question is echoed as it was asked"
        );
    }

    #[tokio::test]
    async fn every_transport_has_the_fakes_answers() {
        let authority = Authority::new().unwrap();
        let far_end = FarEnd::start("hickory", &authority).unwrap();
        let [udp, dot, doh] =
            [Transport::Udp, Transport::Dot, Transport::Doh].map(|transport| far_end.address_of(transport).unwrap());

        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(udp).await.unwrap();
        socket.send(&query()).await.unwrap();
        let mut buffer = vec![0; 4096];
        let count = socket.recv(&mut buffer).await.unwrap();
        assert_right(&buffer[..count]);

        let name = far_end.server_name();
        let client = Client::new(&authority, Transport::Dot);
        let mut stream = client.connect(dot, &name).await.unwrap();
        for _ in 0..3 {
            assert_right(&ask(&mut stream, &query()).await.unwrap());
        }
        let missing = encode_query(8, "nowhere.invalid", rtype::A, Some(1232));
        let reply = parse_reply(&ask(&mut stream, &missing).await.unwrap()).unwrap();
        assert_eq!((reply.rcode, reply.addresses.len()), (rcode::NXDOMAIN, 0));

        let client = Client::new(&authority, Transport::Doh);
        let mut http = Http::over(client.connect(doh, &name).await.unwrap(), &name).await;
        for _ in 0..3 {
            assert_right(&http.post(&query()).await.unwrap().body);
        }
        assert_eq!(
            far_end.endpoints(ListedTransports::Doh),
            [format!("https://{doh}/dns-query#hickory.detour.test")]
        );
        far_end.shutdown().await;
    }
}
