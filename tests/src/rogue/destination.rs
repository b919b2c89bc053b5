//! A destination server with the real one's TLS name, that answers uploads with what a test wants.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use prost::Message as _;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use waypost_protocol::api::{self, Answer, Info};
use waypost_protocol::document::Document;
use waypost_protocol::ids::{Fingerprint, MessageId};
use waypost_protocol::mvds;
use waypost_protocol::time::UnixTime;

use crate::scenario::Destination;

/// What is confirmed, of the documents of one request.
type Script = Box<dyn FnMut(&[MessageId]) -> Vec<mvds::Confirmation> + Send>;

struct Shared {
    fingerprint: Fingerprint,
    script: Mutex<Script>,
    requests: Mutex<Vec<(String, Vec<MessageId>)>>,
}

/// The server; it ends when it is dropped. It takes every document, and says later that it holds none.
pub struct RogueDestination {
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

impl RogueDestination {
    /// Starts one that passes for `destination` as far as TLS goes. Of each request's documents it confirms what
    /// `script` says.
    #[track_caller]
    pub fn start(
        destination: &Destination,
        script: impl FnMut(&[MessageId]) -> Vec<mvds::Confirmation> + Send + 'static,
    ) -> Self {
        let tls = destination.home().join("tls");
        let chain = vec![CertificateDer::from_pem_file(tls.join("server.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(tls.join("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let acceptor =
            tokio_rustls::TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            fingerprint: destination.fingerprint().parse().unwrap(),
            script: Mutex::new(Box::new(script)),
            requests: Mutex::default(),
        });
        let theirs = shared.clone();
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), theirs.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = hyper::service::service_fn(move |request| {
                        let shared = shared.clone();
                        async move { Ok::<_, Infallible>(answer(request, &shared).await) }
                    });
                    let io = hyper_util::rt::TokioIo::new(tls);
                    // A client that hangs up is the test's business.
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                });
            }
        });
        RogueDestination { address, shared, _runtime: runtime }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far: path, and the documents named or sent.
    pub fn requests(&self) -> Vec<(String, Vec<MessageId>)> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let Ok(body) = request.into_body().collect().await else { return reply(StatusCode::BAD_REQUEST, "", "") };
    let body = body.to_bytes();
    if path == api::INFO {
        let info = serde_json::to_string(&info(shared.fingerprint)).unwrap_or_default();
        return reply(StatusCode::OK, "application/json", info);
    }
    let Some(ids) = documents(&path, body) else { return reply(StatusCode::BAD_REQUEST, "", "") };
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push((path, ids.clone()));
    let confirmations = shared.script.lock().unwrap_or_else(PoisonError::into_inner)(&ids);
    let held = api::encode_bitmap(&vec![false; ids.len()]);
    let answer = Answer { confirmations, held, ..Answer::default() };
    reply(StatusCode::OK, api::PROTOBUF, answer.encode_to_vec())
}

fn info(fingerprint: Fingerprint) -> Info {
    Info {
        versions: vec![api::VERSION],
        fingerprint,
        name: "Test".into(),
        max_document: 1 << 30,
        max_batch_documents: 1_000,
        max_batch_bytes: 8 << 20,
        resumable: false,
        log: None,
        chain: String::new(),
        time: UnixTime(1_800_000_000),
    }
}

/// The documents that a request sends or asks about.
fn documents(path: &str, mut body: Bytes) -> Option<Vec<MessageId>> {
    match path {
        api::HAVE | api::CONFIRMATIONS => api::decode_ids(&body).ok(),
        api::BATCH => {
            let mut ids = Vec::new();
            while body.len() >= 4 {
                let length = u32::from_be_bytes(body.split_to(4)[..].try_into().ok()?);
                let length = usize::try_from(length).ok().filter(|length| *length <= body.len())?;
                ids.push(Document::decode(body.split_to(length)).ok()?.id());
            }
            Some(ids)
        }
        path if path.starts_with(api::DOCUMENTS) => Some(vec![Document::decode(body).ok()?.id()]),
        _ => None,
    }
}

fn reply(status: StatusCode, kind: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    if let Ok(kind) = kind.parse() {
        response.headers_mut().insert("content-type", kind);
    }
    response
}
