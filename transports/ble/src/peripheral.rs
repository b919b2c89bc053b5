//! Being found and called: for each adapter that is meant, the service, its L2CAP listener and the advertisement, for as
//! long as the adapter works, and again when it works again.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use waypost_link::Link;

use crate::adapter::{self, Which};
use crate::bluez::{self, BleError, call};
use crate::care::{self, Ended};
use crate::presence::Presence;
use crate::status::{AdapterStatus, Board, State};

/// How soon adapters are looked for again where none is there, at first.
const LOOK_AT_ONCE: Duration = Duration::from_secs(1);
/// What is missing for longer is said.
const MOMENT: Duration = Duration::from_secs(3);
/// How soon where all is well. Adapters that come or go are noticed at once.
const LOOK: Duration = Duration::from_secs(60);

/// What everyone near is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visible {
    /// The name; a legacy packet has room for 29 bytes of it.
    pub name: String,
    /// Manufacturer's data of the advertisement, at most 6 bytes.
    pub data: Vec<u8>,
}

/// How to be found.
#[derive(Debug, Clone)]
pub struct Options {
    /// On which adapters.
    pub adapters: Vec<Which>,
    /// Links at most on each adapter. Some more are taken for a moment, to be told that there is no room.
    pub links: usize,
    /// Whether to advertise slowly while nobody is here.
    pub sparing: bool,
    /// Whether links run over L2CAP where the other side can; else over GATT only.
    pub l2cap: bool,
    /// A file that is made where the Bluetooth service hangs and only its restart helps, for whoever may restart it and waits
    /// for the file.
    pub restart_request: Option<PathBuf>,
}

/// What all adapters' tasks need.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) options: Arc<Options>,
    pub(crate) visible: watch::Receiver<Visible>,
    pub(crate) links: mpsc::Sender<Link>,
    pub(crate) board: Board,
    /// When a restart of the service was asked for last.
    pub(crate) restart_asked: Arc<Mutex<Option<Instant>>>,
}

/// Being found; ends when it is dropped.
pub struct Peripheral {
    task: JoinHandle<()>,
    board: Board,
}

impl Peripheral {
    /// Begins. Links that others open go to `links`; `visible` may change at any time.
    pub fn start(options: Options, visible: watch::Receiver<Visible>, links: mpsc::Sender<Link>) -> Self {
        let board = Board::default();
        let restart_asked = Arc::default();
        let shared =
            Shared { options: Arc::new(options), visible, links, board: board.clone(), restart_asked };
        Peripheral { task: tokio::spawn(attend(shared)), board }
    }

    /// Each adapter's state, the adapters by name.
    pub fn status(&self) -> Vec<AdapterStatus> {
        self.board.all()
    }

    /// Waits until some state has changed.
    pub async fn changed(&mut self) {
        self.board.changed().await;
    }
}

impl Drop for Peripheral {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tasks that end with the one who holds them.
#[derive(Default)]
struct Tasks(BTreeMap<String, JoinHandle<Ended>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.values().for_each(JoinHandle::abort);
    }
}

/// Holds the connection to the service for as long as it lasts, for ever.
async fn attend(shared: Shared) {
    let mut told = Told::default();
    loop {
        let trouble = match with_service(&shared, &mut told).await {
            Err(trouble) => trouble,
            Ok(never) => match never {},
        };
        // However it was noticed first. Not where it has not been there yet.
        let had_adapters = shared.board.all().iter().any(|one| !one.name.is_empty());
        if had_adapters && matches!(trouble, BleError::NoService(_)) {
            log::warn!("the Bluetooth service has ended; adapters are set up again when it is back");
        }
        told.missing(&trouble, &shared.board);
        tokio::time::sleep(told.pause()).await;
    }
}

/// Has a task for each adapter that is meant and there, until the service ends or does not answer.
async fn with_service(shared: &Shared, told: &mut Told) -> Result<Infallible, BleError> {
    // Begun first: one that ends meanwhile is noticed.
    let mut presence = Presence::watch().await?;
    let session = bluez::session().await?;
    let events = call("watch the adapters", session.events()).await?;
    tokio::pin!(events);
    let mut tasks = Tasks::default();
    loop {
        let current = tasks.0.keys().cloned().collect();
        let chosen = adapter::choose(&session, &shared.options.adapters, &current).await?;
        let names = chosen.there;
        tasks.0.retain(|name, task| {
            let stays = !task.is_finished() && names.contains(name);
            if !stays {
                task.abort();
                shared.board.remove(name);
            }
            stays
        });
        let again = if names.is_empty() {
            let wanted: Vec<String> = shared.options.adapters.iter().map(ToString::to_string).collect();
            told.missing(&BleError::NoAdapter(wanted.join(", ")), &shared.board);
            told.pause()
        } else {
            told.found(&shared.board);
            told.some_missing(chosen.missing, &shared.board);
            LOOK
        };
        for name in names {
            let begin = || tokio::spawn(care::attend(name.clone(), shared.clone()));
            tasks.0.entry(name.clone()).or_insert_with(begin);
        }
        let ended = async {
            let all = tasks.0.values_mut().map(|task| Box::pin(async move { task.await.ok() }));
            match all.collect::<futures_util::stream::FuturesUnordered<_>>().next().await {
                Some(ended) => ended,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = ended => match ended {
                Some(Ended::Service(why)) => return Err(BleError::NoService(why)),
                // It comes back under the same name: not in a tight loop.
                Some(Ended::Gone) | None => tokio::time::sleep(Duration::from_millis(500)).await,
            },
            event = events.next() => if event.is_none() {
                return Err(BleError::NoService("it has ended".into()));
            },
            () = presence.ended() => return Err(BleError::NoService("it has ended".into())),
            () = tokio::time::sleep(again) => {}
        }
    }
}

/// What is missing: said once, and only if it lasts, since a service that is restarted is back in a moment.
#[derive(Default)]
struct Told {
    since: Option<Instant>,
    said: Option<String>,
    /// Those that are missing while others are there.
    some: Vec<String>,
}

impl Told {
    fn missing(&mut self, trouble: &BleError, board: &Board) {
        let text = trouble.to_string();
        let lasts = self.since.get_or_insert_with(Instant::now).elapsed() > MOMENT;
        board.only(AdapterStatus::none(&text));
        if lasts && self.said.as_ref() != Some(&text) {
            log::warn!("no phones over Bluetooth: {text}");
            self.said = Some(text);
        }
    }

    fn found(&mut self, board: &Board) {
        (self.since, self.said) = (None, None);
        board.remove("");
    }

    /// These are missing of several.
    fn some_missing(&mut self, names: Vec<String>, board: &Board) {
        for name in self.some.iter().filter(|name| !names.contains(name)) {
            board.found(name);
        }
        for name in &names {
            board.set(
                name,
                "",
                State::Missing,
                "it is not there; plug it in, or take it out of ble.adapters",
            );
        }
        self.some = names;
    }

    /// A tenth of how long it has been missing: an adapter that comes is told of, a service that starts is not.
    fn pause(&self) -> Duration {
        let missing = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        (missing / 10).clamp(LOOK_AT_ONCE, LOOK)
    }
}
