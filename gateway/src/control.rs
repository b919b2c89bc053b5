//! The control socket: one JSON request a line, one JSON answer a line; how commands reach the running daemon.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader as AsyncBufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::admin::{Answer, Request};

/// The longest request line, in bytes.
const MAX_REQUEST: u64 = 64 * 1024;
/// The longest answer line that a command reads, in bytes.
const MAX_ANSWER: u64 = 64 << 20;
/// How long a command waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Commands served at the same time.
const MAX_COMMANDS: usize = 8;

/// Why a command does not reach the daemon.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error(
        "no gateway runs at {path} ({source}); start it with `waypost run`, or `systemctl start waypost`"
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Somebody listens, but not to this user.
    #[error("not allowed to talk to the gateway at {path}; be root, or in the group of that socket")]
    NotAllowed {
        /// The socket.
        path: PathBuf,
    },
    /// It does not answer.
    #[error("the gateway at {path} does not answer: {source}; see its log")]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error(
        "cannot make the control socket {path}: {source}; set [control] socket to a place that can be written"
    )]
    Listen {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another daemon listens there.
    #[error("another gateway is running with the control socket {0}")]
    InUse(PathBuf),
}

/// What goes over the wire: the answer, or what went wrong in words.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Answer(Box<Answer>),
    Error(String),
}

/// Asks the running daemon.
pub fn ask(socket: &Path, request: &Request) -> Result<Result<Answer, String>, ControlError> {
    let path = || socket.to_owned();
    let stream = StdStream::connect(socket).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ControlError::NotAllowed { path: path() },
        _ => ControlError::NotRunning { path: path(), source },
    })?;
    let exchange = || -> io::Result<Line> {
        // Everything is read in a check; a daemon that ends meanwhile closes the socket.
        let patience = (!matches!(request, Request::CheckStore)).then_some(PATIENCE);
        stream.set_read_timeout(patience)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        (&stream).write_all(&line)?;
        let mut answer = String::new();
        BufReader::new((&stream).take(MAX_ANSWER)).read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    };
    match exchange().map_err(|source| ControlError::NoAnswer { path: path(), source })? {
        Line::Answer(answer) => Ok(Ok(*answer)),
        Line::Error(message) => Ok(Err(message)),
    }
}

/// Whether a daemon listens at the socket.
pub fn is_running(socket: &Path) -> bool {
    StdStream::connect(socket).is_ok()
}

/// A request on its way through the event loop.
pub struct Asked {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Answer, String>>,
}

/// The daemon's end of the socket; removed when dropped.
pub struct ControlSocket {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.task.abort();
        // Left behind, it is replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Listens; requests go to `requests`. The socket gets mode 0660.
pub fn listen(path: &Path, requests: mpsc::Sender<Asked>) -> Result<ControlSocket, ControlError> {
    let failed = |source| ControlError::Listen { path: path.to_owned(), source };
    if is_running(path) {
        return Err(ControlError::InUse(path.to_owned()));
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    let task = tokio::spawn(serve(listener, requests));
    Ok(ControlSocket { path: path.to_owned(), task })
}

async fn serve(listener: UnixListener, requests: mpsc::Sender<Asked>) {
    let places = std::sync::Arc::new(Semaphore::new(MAX_COMMANDS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let requests = requests.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve_one(stream, requests).await {
                        log::debug!(error:%; "a command went away");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                log::warn!(error:%; "the control socket failed for a command");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_one(stream: UnixStream, requests: mpsc::Sender<Asked>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut text = String::new();
    let mut reader = AsyncBufReader::new(reader.take(MAX_REQUEST));
    tokio::time::timeout(PATIENCE, reader.read_line(&mut text)).await??;
    let answer = match serde_json::from_str(&text) {
        Err(error) => Err(format!(
            "the request cannot be read ({error}); command and gateway are of different versions"
        )),
        Ok(request) => {
            let (reply, answer) = oneshot::channel();
            let sent = requests.send(Asked { request, reply }).await;
            match (sent, answer.await) {
                (Ok(()), Ok(answer)) => answer,
                _ => Err("the gateway is stopping; try again when it runs".into()),
            }
        }
    };
    let line = match answer {
        Ok(answer) => Line::Answer(Box::new(answer)),
        Err(message) => Line::Error(message),
    };
    let mut bytes = serde_json::to_vec(&line)?;
    bytes.push(b'\n');
    writer.write_all(&bytes).await
}
