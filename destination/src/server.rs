//! The listener: TLS, connections, limits, an orderly end.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs as _};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::fcntl::{Flock, FlockArg};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::api::{self, PeerCertificate, Shared};
use crate::chores;
use crate::clock::now;
use crate::home::Home;
use crate::intake::{Intake, IntakeError};
use crate::metrics;
use crate::tls::{TlsError, certificate_hash, server_config};
use crate::webhook::{Webhook, WebhookError};

/// Connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 256;
/// For the TLS handshake: several round trips by satellite.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// For a request's headers, and for the silence between requests.
const HEADERS: Duration = Duration::from_secs(60);
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// What requests under way are given at the end.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No address to listen on.
    #[error("cannot listen on {listen}: {error}; choose another with --listen ADDRESS:PORT")]
    Listen {
        /// As configured.
        listen: String,
        /// The system's words.
        error: io::Error,
    },
    /// Another process serves the same home.
    #[error("another server runs with {0}; stop it first")]
    Running(std::path::PathBuf),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Store and folders.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// Whom to tell of opened documents.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// Threads or files of the process.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// A running server; it ends when this is dropped.
pub struct Server {
    address: SocketAddr,
    metrics: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts serving that home. `listen` is `ADDRESS:PORT`; port 0 lets the system choose one, see
    /// [`Server::address`].
    pub fn start(home: &Home, listen: &str) -> Result<Self, StartError> {
        let lock = lock(home)?;
        let (certificate, key) = home.tls_files();
        let tls = TlsAcceptor::from(Arc::new(server_config(&certificate, &key)?));
        let intake = Intake::open(home)?;
        // Whoever opens held documents at this moment writes temporary files too.
        let opener = lock_opener(home);
        intake.recover(opener.is_ok())?;
        drop(opener);
        let webhook = Webhook::new(home, intake.content().inbox())?;
        let takeover = u64::from(home.settings().takeover_after);
        let takeover = home.settings().is_shared().then(|| Duration::from_secs(takeover));
        if let Some(warning) = home.key_warning(now()) {
            log::warn!("{warning}");
        }
        let listener =
            bind(listen).map_err(|error| StartError::Listen { listen: listen.to_owned(), error })?;
        let address = listener.local_addr()?;
        let monitored = home.settings().metrics.as_deref().map(|listen| {
            let error = |error| StartError::Listen { listen: listen.to_owned(), error };
            bind(listen).map_err(error)
        });
        let monitored = monitored.transpose()?;
        let metrics = monitored.as_ref().map(StdListener::local_addr).transpose()?;
        let shared = Arc::new(Shared::new(home, intake));
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(64)
            .thread_name("destination")
            .enable_all()
            .build()?;
        let chores = {
            let (shared, mut stopped) = (shared.clone(), stopped.clone());
            let work = move || chores::run(&shared, webhook.as_ref(), takeover, &mut stopped);
            std::thread::Builder::new().name("chores".to_owned()).spawn(work)?
        };
        let serve = move || {
            let _lock = lock;
            let router = api::router(shared.clone());
            if let Some(listener) = monitored {
                runtime.spawn(monitor(listener, metrics::router(shared.clone())));
            }
            if let Err(error) = runtime.block_on(accept(listener, tls, router, stopped)) {
                log::error!("the server ends: {error}");
            }
            runtime.shutdown_timeout(DRAIN);
            // Its own words are in the log.
            let _ = chores.join();
            if let Err(error) = shared.intake().finish() {
                log::warn!("{error}");
            }
        };
        let thread = std::thread::Builder::new().name("destination".to_owned()).spawn(serve)?;
        Ok(Server { address, metrics, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where metrics are served, if anywhere.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Ends it: no new requests, those under way are given ten seconds.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Held while a server runs.
fn lock(home: &Home) -> Result<Flock<std::fs::File>, StartError> {
    exclusive(home, "server.lock").map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => StartError::Running(home.path().to_owned()),
        _ => StartError::System(error),
    })
}

/// Held while held documents are opened.
pub fn lock_opener(home: &Home) -> io::Result<impl Sized> {
    exclusive(home, "open.lock")
}

/// Held while a document of the destination's own is published from this home. Waits for others.
pub(crate) fn lock_publishing(home: &Home) -> io::Result<impl Sized> {
    locked(home, "publishing.lock", FlockArg::LockExclusive)
}

fn exclusive(home: &Home, name: &str) -> io::Result<Flock<std::fs::File>> {
    locked(home, name, FlockArg::LockExclusiveNonblock)
}

fn locked(home: &Home, name: &str, how: FlockArg) -> io::Result<Flock<std::fs::File>> {
    let file =
        std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(home.path().join(name))?;
    Flock::lock(file, how).map_err(|(_, errno)| errno.into())
}

fn bind(listen: &str) -> io::Result<StdListener> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no such address");
    for address in listen.to_socket_addrs()? {
        match StdListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok(listener);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Serves metrics, without encryption.
async fn monitor(listener: StdListener, router: Router) {
    let served = async { axum::serve(TcpListener::from_std(listener)?, router).await };
    if let Err(error) = served.await {
        log::warn!("metrics are not served any more: {error}");
    }
}

async fn accept(
    listener: StdListener,
    tls: TlsAcceptor,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // The semaphore is never closed.
            let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
            listener.accept().await.map(|(stream, peer)| (stream, peer, permit))
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            _ = stopped.changed() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer, permit)) => {
                crate::window::open_wide(&stream);
                let (tls, router, stopped) = (tls.clone(), router.clone(), stopped.clone());
                connections.spawn(async move {
                    if let Err(error) = serve(stream, tls, router, stopped).await {
                        log::debug!("connection from {peer}: {error}");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, say: what is open goes on, and may end.
                log::warn!("no connection accepted: {error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    drop(listener);
    let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

async fn serve(
    stream: TcpStream,
    tls: TlsAcceptor,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let stream = timeout(HANDSHAKE, tls.accept(stream)).await??;
    let certificates = stream.get_ref().1.peer_certificates();
    let peer = PeerCertificate(certificates.and_then(|chain| chain.first()).map(certificate_hash));
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_headers(MAX_HEADERS)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return Ok(result?),
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}
