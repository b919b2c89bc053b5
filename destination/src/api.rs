//! The HTTPS interface: routes, questions, answers. `openapi.json` is its specification.

mod answer;
mod client;
mod digest;
mod log;
mod problem;
mod questions;
mod stream;
mod tus;
mod uploads;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, head, options, patch, post, put};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use waypost_protocol::api::{self, Info};
use waypost_protocol::ids::PeerKey;
use waypost_protocol::succession;
use waypost_protocol::time::UnixTime;

use crate::clock::now;
use crate::home::Home;
use crate::intake::{BatchLimits, Intake};
use crate::metrics::Metrics;

pub use client::PeerCertificate;
pub use problem::Problem;

/// Uploads at a time: each has a thread.
const MAX_UPLOADS: usize = 32;
/// Silence within an upload after which the connection ends: longer than a satellite's pauses.
const STALL: Duration = Duration::from_secs(90);

/// Each route, as `openapi.json` has it.
pub const ROUTES: [(&str, &str); 19] = [
    ("GET", "/v1/info"),
    ("GET", "/v1/certificate"),
    ("GET", "/v1/successions"),
    ("POST", "/v1/have"),
    ("PUT", "/v1/documents/{id}"),
    ("POST", "/v1/batch"),
    ("POST", "/v1/confirmations"),
    ("GET", "/v1/confirmations"),
    ("OPTIONS", "/v1/uploads"),
    ("POST", "/v1/uploads"),
    ("HEAD", "/v1/uploads/{id}"),
    ("PATCH", "/v1/uploads/{id}"),
    ("DELETE", "/v1/uploads/{id}"),
    ("POST", "/v1/content/have"),
    ("POST", "/v1/content/get"),
    ("PUT", "/v1/content/{hash}"),
    ("GET", "/v1/content/{hash}"),
    ("PUT", "/v1/names/{name}"),
    ("GET", "/v1/names/{name}"),
];

/// What all requests share.
pub struct Shared {
    intake: Intake,
    info: Info,
    certificate: Vec<u8>,
    successions: Vec<u8>,
    batch: BatchLimits,
    uploads: Arc<Semaphore>,
    metrics: Metrics,
    /// Until when phones can seal to the key, Unix seconds.
    key_expires: f64,
}

impl Shared {
    /// For that home.
    pub fn new(home: &Home, intake: Intake) -> Self {
        // Without it gateways have nothing to follow; the reason is told, and all else goes on.
        let log = home.log_signer().map(|signer| PeerKey(signer.key().0));
        let log = log.inspect_err(|error| ::log::error!("{error}")).ok();
        let settings = home.settings();
        let successions = succession::encode(&home.successions());
        let info = Info {
            versions: vec![api::VERSION],
            fingerprint: home.destination(),
            name: settings.name.clone(),
            max_document: settings.max_document,
            max_batch_documents: settings.max_batch_documents,
            max_batch_bytes: settings.max_batch_bytes,
            resumable: true,
            log,
            chain: HEXLOWER.encode(Sha256::digest(&successions).first_chunk::<8>().unwrap_or(&[0; 8])),
            time: UnixTime(0),
        };
        let certificate = home.keyring();
        let uploads = Arc::new(Semaphore::new(MAX_UPLOADS));
        let key_expires = home.key_expires(now()).map_or(f64::INFINITY, |time| time.0 as f64);
        let (batch, metrics) = (home.batch_limits(), Metrics::new());
        Shared { intake, info, certificate, successions, batch, uploads, metrics, key_expires }
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Until when phones can seal to the key, Unix seconds; infinite where it does not expire in ten years.
    pub(crate) fn key_expires(&self) -> f64 {
        self.key_expires
    }

    /// Room for one more upload.
    fn permit(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.uploads.clone().try_acquire_owned().map_err(|_| Problem::busy())
    }

    /// Takes documents in.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }
}

/// All of [`ROUTES`]; anything else is a problem in words.
pub fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new();
    for (method, path) in ROUTES {
        let counted = from_fn_with_state((shared.clone(), path), count);
        router = router.route(path, handler(method, path).layer(counted));
    }
    router
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .with_state(shared)
}

/// Counts what was answered, and says with it how the chain is called.
async fn count(
    State((shared, path)): State<(Arc<Shared>, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let mut answer = next.run(request).await;
    shared.metrics.answered(path, answer.status());
    if let Ok(chain) = HeaderValue::from_str(&shared.info.chain) {
        answer.headers_mut().insert(api::CHAIN, chain);
    }
    answer
}

fn handler(method: &str, path: &str) -> MethodRouter<Arc<Shared>> {
    match (method, path) {
        ("GET", api::INFO) => get(questions::info),
        ("GET", api::CERTIFICATE) => get(questions::certificate),
        ("GET", api::SUCCESSIONS) => get(questions::successions),
        ("POST", api::HAVE) => post(questions::have),
        ("POST", api::CONFIRMATIONS) => post(questions::confirmations),
        ("GET", api::CONFIRMATIONS) => get(questions::confirmations_since),
        ("POST", api::BATCH) => post(uploads::batch),
        ("POST", api::CONTENT_HAVE) => post(log::have),
        ("POST", api::CONTENT_GET) => post(log::get_contents),
        ("PUT", path) if path.starts_with(api::CONTENT) => put(log::put_content),
        ("GET", path) if path.starts_with(api::CONTENT) => get(log::get_content),
        ("PUT", path) if path.starts_with(api::NAMES) => put(log::put_name),
        ("GET", path) if path.starts_with(api::NAMES) => get(log::get_name),
        ("PUT", _) => put(uploads::put_document),
        ("OPTIONS", api::UPLOADS) => tus(options(tus::options)),
        ("POST", api::UPLOADS) => tus(post(tus::create)),
        ("HEAD", _) => tus(head(tus::offset)),
        ("PATCH", _) => tus(patch(tus::patch)),
        ("DELETE", _) => tus(delete(tus::delete)),
        // The table above has no other; a test asks for each of them.
        _ => MethodRouter::new().fallback(|_: Method| async { problem::no_such_path().await }),
    }
}

fn tus(routes: MethodRouter<Arc<Shared>>) -> MethodRouter<Arc<Shared>> {
    routes.layer(axum::middleware::from_fn(tus::versioned))
}
