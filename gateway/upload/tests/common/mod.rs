//! A destination on a loopback port, over real TLS, that fails on demand.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use prost::Message as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use waypost_protocol::api::{self, Answer, Info};
use waypost_protocol::confirmation::{Confirmation, Statement, Verdict};
use waypost_protocol::document::Document;
use waypost_protocol::ids::{Fingerprint, GroupId, MessageId};
use waypost_protocol::mvds;
use waypost_protocol::time::UnixTime;
use waypost_upload::{Client, ClientCertificate, Settings, Token};

pub(crate) const FINGERPRINT: Fingerprint = Fingerprint::V4([7; 20]);
/// What the tests take for a signature that verifies.
pub(crate) const SIGNATURE: &[u8] = b"good";

/// How the next request is answered.
#[derive(Debug, Clone)]
pub(crate) enum Play {
    /// As it should be.
    Normal,
    /// Confirms with a signature that does not verify.
    Forge,
    /// Takes the documents and gives no verdict.
    NoVerdict,
    /// Reads so many bytes of the body, keeps what was whole in them, and breaks the connection.
    CutAfter(usize),
    /// Does everything, and breaks the connection in place of the answer.
    CutBeforeAnswer,
    /// Does everything, and answers late.
    Late(Duration),
    /// Reads nothing for ever.
    Stall,
    /// Reads the body, then answers like this: status, headers, body.
    Say(u16, Vec<(&'static str, String)>, Bytes),
    /// The same without reading the body.
    SayEarly(u16, &'static str),
    /// Announces more than it sends.
    Truncated,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) script: VecDeque<Play>,
    pub(crate) held: BTreeMap<MessageId, Document>,
    /// Method and path of each request.
    pub(crate) requests: Vec<String>,
    pub(crate) last_headers: hyper::HeaderMap,
    pub(crate) connections: usize,
    /// How often each document came.
    pub(crate) received: BTreeMap<MessageId, u32>,
}

pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) certificates: Certificates,
    _runtime: tokio::runtime::Runtime,
}

/// A throw-away authority, and a server certificate of it.
#[derive(Clone)]
pub(crate) struct Certificates {
    pub(crate) ca_pem: String,
    pub(crate) server_pem: String,
    pub(crate) server_key: String,
    pub(crate) client_pem: String,
    pub(crate) client_key: String,
}

/// For one name, valid between years.
pub(crate) fn certificates(name: &str, from: i32, until: i32) -> Certificates {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(vec![]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, &ca_key);
    let make = |name: &str, use_for| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        leaf.not_before = rcgen::date_time_ymd(from, 1, 1);
        leaf.not_after = rcgen::date_time_ymd(until, 1, 1);
        leaf.extended_key_usages = vec![use_for];
        (leaf.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let (server_pem, server_key) = make(name, rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    let (client_pem, client_key) = make("gateway", rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    Certificates { ca_pem, server_pem, server_key, client_pem, client_key }
}

/// TLS as the server with these speaks it.
pub(crate) fn server_config(certificates: &Certificates, mutual: bool) -> rustls::ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if mutual {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificates.ca_pem.as_bytes()).unwrap()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let chain = vec![CertificateDer::from_pem_slice(certificates.server_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(certificates.server_key.as_bytes()).unwrap();
    builder.with_single_cert(chain, key).unwrap()
}

impl Server {
    pub(crate) fn start() -> Server {
        Server::with(certificates("localhost", 2020, 2100), false, "127.0.0.1:0")
    }

    pub(crate) fn with(certificates: Certificates, mutual: bool, address: &str) -> Server {
        let config = server_config(&certificates, mutual);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        runtime.spawn(async move {
            loop {
                let Ok((tcp, _)) = listener.accept().await else { return };
                shared.lock().unwrap().connections += 1;
                let (acceptor, state) = (acceptor.clone(), shared.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let cut = Arc::new(Notify::new());
                    let for_service = cut.clone();
                    let service = hyper::service::service_fn(move |request| {
                        let (state, cut) = (state.clone(), for_service.clone());
                        async move { Ok::<_, Infallible>(answer(request, state, cut).await) }
                    });
                    let io = hyper_util::rt::TokioIo::new(tls);
                    tokio::select! {
                        _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service) => {}
                        () = cut.notified() => {}
                    }
                });
            }
        });
        let url = format!("https://localhost:{}", address.port());
        Server { url, address, state, certificates, _runtime: runtime }
    }

    pub(crate) fn play(&self, plays: impl IntoIterator<Item = Play>) {
        self.state.lock().unwrap().script.extend(plays);
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Settings that fit this server.
    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings::new(&self.url, Some(FINGERPRINT));
        settings.ca_pem = Some(self.certificates.ca_pem.clone().into_bytes());
        settings.token = Some(Token::new("s3cret"));
        settings.connect_timeout = Duration::from_secs(5);
        settings.stall_timeout = Duration::from_secs(5);
        settings.answer_timeout = Duration::from_secs(5);
        settings
    }

    pub(crate) fn client_certificate(&self) -> ClientCertificate {
        ClientCertificate {
            chain_pem: self.certificates.client_pem.clone().into_bytes(),
            key_pem: self.certificates.client_key.clone().into_bytes().into(),
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.settings()).unwrap()
    }
}

pub(crate) fn document(seed: u64, size: usize) -> Document {
    let mut body = vec![0; size];
    for (byte, value) in body.iter_mut().zip(seed.to_le_bytes()) {
        *byte = value;
    }
    Document::new(GroupId([3; 32]), UnixTime(1_800_000_000), body.into()).unwrap()
}

pub(crate) fn confirmation(ids: &[MessageId], signature: &'static [u8]) -> Vec<mvds::Confirmation> {
    let verdicts = |ids: &[MessageId]| ids.iter().map(|id| (*id, Verdict::Opened)).collect();
    let sign = |ids: &[MessageId]| {
        let statement =
            Statement::new(FINGERPRINT, FINGERPRINT, UnixTime(1_800_000_000), verdicts(ids)).unwrap();
        Confirmation::new(statement, Bytes::from_static(signature)).unwrap().to_wire()
    };
    ids.chunks(256).map(sign).collect()
}

type Reply = Response<BoxBody<Bytes, std::io::Error>>;

fn reply(status: u16, headers: &[(&str, String)], body: impl Into<Bytes>) -> Reply {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, value);
    }
    builder.body(Full::new(body.into()).map_err(|never| match never {}).boxed()).unwrap()
}

fn protobuf(answer: &Answer) -> Reply {
    reply(200, &[("content-type", api::PROTOBUF.into())], answer.encode_to_vec())
}

async fn answer(request: Request<Incoming>, state: Arc<Mutex<State>>, cut: Arc<Notify>) -> Reply {
    let (parts, mut body) = request.into_parts();
    let path = parts.uri.path_and_query().unwrap().to_string();
    let play = {
        let mut state = state.lock().unwrap();
        state.requests.push(format!("{} {path}", parts.method));
        state.last_headers = parts.headers.clone();
        state.script.pop_front().unwrap_or(Play::Normal)
    };
    let limit = match play {
        Play::SayEarly(status, text) => {
            return reply(status, &[("content-type", "text/plain".into())], text);
        }
        Play::Stall => std::future::pending().await,
        Play::CutAfter(bytes) => bytes,
        _ => usize::MAX,
    };
    let mut received = BytesMut::new();
    while received.len() < limit {
        match body.frame().await {
            Some(Ok(frame)) => received.extend(frame.into_data().unwrap_or_default()),
            Some(Err(_)) => return reply(400, &[], ""),
            None => break,
        }
    }
    let whole = limit == usize::MAX;
    let answer = perform(&parts, &path, received.freeze(), &state, &play);
    match play {
        _ if !whole => cut.notify_one(),
        Play::CutBeforeAnswer => cut.notify_one(),
        Play::Late(span) => {
            tokio::time::sleep(span).await;
            return answer;
        }
        Play::Say(status, headers, body) => return reply(status, &headers, body),
        Play::Truncated => {
            let frames = [
                Ok(Frame::data(Bytes::from_static(b"\x0a"))),
                Err(std::io::Error::other("the server breaks off")),
            ];
            let body = Frames(frames.into_iter().collect()).boxed();
            let builder = Response::builder().header("content-type", api::PROTOBUF);
            return builder.header("content-length", "100").body(body).unwrap();
        }
        _ => return answer,
    }
    std::future::pending().await
}

/// A body of ready frames.
struct Frames(VecDeque<std::io::Result<Frame<Bytes>>>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<std::io::Result<Frame<Bytes>>>> {
        std::task::Poll::Ready(self.0.pop_front())
    }
}

fn perform(
    parts: &hyper::http::request::Parts,
    path: &str,
    body: Bytes,
    state: &Mutex<State>,
    play: &Play,
) -> Reply {
    let mut state = state.lock().unwrap();
    let signature = if matches!(play, Play::Forge) { &b"forged"[..] } else { SIGNATURE };
    let confirm = |ids: &[MessageId]| match play {
        Play::NoVerdict => vec![],
        _ => confirmation(ids, signature),
    };
    let mut keep = |document: Document| {
        let id = document.id();
        *state.received.entry(id).or_default() += 1;
        state.held.insert(id, document);
        id
    };
    match path {
        api::INFO => {
            let info = Info {
                versions: vec![1],
                fingerprint: FINGERPRINT,
                name: "test".into(),
                max_document: 1 << 30,
                max_batch_documents: 1_000,
                max_batch_bytes: 8 << 20,
                resumable: false,
                log: None,
                chain: String::new(),
                time: UnixTime(1_800_000_000),
            };
            let headers = [("content-type", "application/json".into()), ("etag", "\"1\"".into())];
            if parts.headers.get("if-none-match").is_some_and(|tag| tag == "\"1\"") {
                return reply(304, &headers[1..], "");
            }
            reply(200, &headers, serde_json::to_vec(&info).unwrap())
        }
        api::HAVE | api::CONFIRMATIONS => {
            let ids = api::decode_ids(&body).unwrap();
            let held: Vec<bool> = ids.iter().map(|id| state.held.contains_key(id)).collect();
            let mut known: Vec<MessageId> =
                ids.into_iter().filter(|id| state.held.contains_key(id)).collect();
            known.sort_unstable();
            protobuf(&Answer {
                confirmations: confirm(&known),
                held: api::encode_bitmap(&held),
                ..Answer::default()
            })
        }
        api::BATCH => {
            let mut ids = Vec::new();
            let mut failures = Vec::new();
            let mut rest = body;
            let mut index = 0;
            // A batch that was cut ends in the middle of a document, which is dropped.
            while rest.len() >= 4 {
                let length = u32::from_be_bytes(rest.split_to(4)[..].try_into().unwrap()) as usize;
                if rest.len() < length {
                    break;
                }
                let document = Document::decode(rest.split_to(length)).unwrap();
                if document.body().starts_with(b"bad") {
                    let id = Bytes::copy_from_slice(document.id().as_bytes());
                    failures.push(api::Failure { index, id, code: 1, detail: "no \u{1b}[1mgood".into() });
                } else {
                    ids.push(keep(document));
                }
                index += 1;
            }
            ids.sort_unstable();
            protobuf(&Answer { confirmations: confirm(&ids), failures, ..Answer::default() })
        }
        path if path.starts_with(api::DOCUMENTS) => {
            let Ok(document) = Document::decode(body) else { return reply(400, &[], "") };
            let id = keep(document);
            protobuf(&Answer { confirmations: confirm(&[id]), ..Answer::default() })
        }
        path if path.starts_with(api::CONFIRMATIONS) => {
            let ids: Vec<MessageId> = state.held.keys().copied().collect();
            protobuf(&Answer { confirmations: confirm(&ids), cursor: 5, ..Answer::default() })
        }
        _ => reply(404, &[], ""),
    }
}
