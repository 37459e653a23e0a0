//! Clients of the encrypted transports for tests: tokio-rustls, and h2 over it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use http::{Method, Request, StatusCode};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{DEADLINE, read_frame, send_frame};
use crate::authority::Authority;
use crate::fake::Fake;
use crate::transport::Transport;

pub(crate) type Tls = TlsStream<TcpStream>;

/// A client that trusts one authority and keeps the tickets it is given.
pub(crate) struct Client {
    config: Arc<ClientConfig>,
}

impl Client {
    pub(crate) fn new(authority: &Authority, transport: Transport) -> Self {
        let protocol: &[u8] = match transport {
            Transport::Doh => b"h2",
            Transport::Doh3 => b"h3",
            Transport::Doq => b"doq",
            Transport::Udp | Transport::Tcp | Transport::Dot => b"dot",
        };
        Self::speaking(authority, &[protocol])
    }

    pub(crate) fn speaking(authority: &Authority, protocols: &[&[u8]]) -> Self {
        Self::with(authority, protocols, rustls::ALL_VERSIONS)
    }

    pub(crate) fn with(
        authority: &Authority,
        protocols: &[&[u8]],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Self {
            config: Arc::new(config),
        }
    }

    /// What it speaks TLS with.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Connects and shakes hands, for as long as it takes.
    pub(crate) async fn connect(&self, address: SocketAddr, name: &str) -> io::Result<Tls> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }

    /// Connects to a fake by the name in its certificate, which must not take long.
    pub(crate) async fn to(&self, fake: &Fake, transport: Transport) -> io::Result<Tls> {
        let name = fake.server_name();
        let connect = self.connect(fake.address_of(transport).unwrap(), &name);
        // The future is large: it holds both sides of a handshake.
        timeout(DEADLINE, Box::pin(connect)).await.unwrap()
    }

    /// An HTTP/2 connection to a fake.
    pub(crate) async fn http(&self, fake: &Fake) -> Http {
        Http::over(self.to(fake, Transport::Doh).await.unwrap(), &fake.server_name()).await
    }
}

/// How the handshake was made.
pub(crate) fn kind(stream: &Tls) -> HandshakeKind {
    stream.get_ref().1.handshake_kind().unwrap()
}

/// Why the client did not take the certificate.
pub(crate) fn refusal(error: &io::Error) -> &CertificateError {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match error {
        Some(rustls::Error::InvalidCertificate(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

/// One framed question and its answer.
pub(crate) async fn ask(stream: &mut Tls, query: &[u8]) -> io::Result<Vec<u8>> {
    send_frame(stream, query).await;
    read_frame(stream).await
}

/// An HTTP/2 connection and the task that drives it.
pub(crate) struct Http {
    pub(crate) requests: SendRequest<Bytes>,
    pub(crate) pings: h2::PingPong,
    authority: String,
    /// Ends with the connection.
    driver: JoinSet<Result<(), h2::Error>>,
}

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Http {
    pub(crate) async fn over(stream: Tls, authority: &str) -> Self {
        let (requests, mut connection): (_, Connection<Tls, Bytes>) = h2::client::handshake(stream).await.unwrap();
        let pings = connection.ping_pong().unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Self {
            requests,
            pings,
            authority: authority.to_owned(),
            driver,
        }
    }

    /// Sends a request; what it returns waits for the response and may outlive this borrow.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        media_type: &str,
        body: &[u8],
    ) -> Result<impl Future<Output = Result<Response, h2::Error>> + Send + use<>, h2::Error> {
        let uri = format!("https://{}{path}", self.authority);
        let request = Request::builder().method(method).uri(uri);
        let request = request
            .header("content-type", media_type)
            .header("accept", "*/*, application/dns-message")
            .body(())
            .unwrap();
        let mut ready = timeout(DEADLINE, self.requests.clone().ready()).await.unwrap()?;
        let (response, mut sender) = ready.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            sender.send_data(body.to_vec().into(), true)?;
        }
        Ok(async move {
            let (head, mut stream) = response.await?.into_parts();
            let mut body = Vec::new();
            while let Some(part) = stream.data().await {
                let part = part?;
                stream.flow_control().release_capacity(part.len())?;
                body.extend_from_slice(&part);
            }
            Ok(Response {
                status: head.status,
                headers: head.headers,
                body,
            })
        })
    }

    /// A query by POST and its response, which must come soon.
    pub(crate) async fn post(&mut self, query: &[u8]) -> Result<Response, h2::Error> {
        let response = self.send(Method::POST, "/dns-query", "application/dns-message", query);
        let response = response.await?;
        timeout(DEADLINE, response).await.unwrap()
    }

    /// Waits for the end of the connection.
    pub(crate) async fn closed(&mut self) -> Result<(), h2::Error> {
        timeout(DEADLINE, self.driver.join_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    }
}
