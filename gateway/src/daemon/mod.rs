//! The daemon: one event loop. Next event, one exhaustive match, drain outputs.

mod access;
mod backhaul;
mod bluetooth;
mod bundles;
mod callers;
mod follow;
mod host;
mod notices;
mod notifier;
mod outlook;
mod reload;
mod requests;
mod start;
mod time;
mod time_server;
mod uploads;
mod wifi;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use waypost_backhaul::{Networks, Watch};
use waypost_config::{Config, Problem};
use waypost_lan::Announcement;
use waypost_link::Link;
use waypost_node::{ConversationId, Node, NodeEvent};
use waypost_protocol::refusal::Goodbye;
use waypost_protocol::session::{Identity, Introduction};
use waypost_protocol::time::Monotonic;
use waypost_store::Trouble;

pub(crate) use self::uploads::largest_body;

use self::backhaul::Backhauls;
use self::bluetooth::Bluetooth;
use self::bundles::Bundles;
use self::callers::Calling;
use self::host::GatewayHost;
use self::notifier::Notifier;
use self::uploads::{Shared, Upload, UploadNews};
use self::wifi::Wifi;
use crate::bundle::Job;
use crate::control::{Asked, ControlSocket};
use crate::destinations::Destinations;
use crate::notices::Notice;
use crate::remote_log::AtFolder;

/// Rows that one sweep of the store looks at.
const SWEEP_ROWS: usize = 1_000;
/// How soon a sweep goes on that has more to do.
const SWEEP_ON: Duration = Duration::from_millis(200);
/// How soon a sweep is tried again that failed.
const SWEEP_AGAIN: Duration = Duration::from_secs(10);
/// A store that cannot be written for so long is opened anew.
const TROUBLE: Duration = Duration::from_secs(30);
/// How often the store is swept when nothing happens.
const SWEEP_EVERY: Duration = Duration::from_secs(900);
/// How often the hours and budgets of backhauls are looked at, where there are any.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long uploads and links may take to end on SIGTERM.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a disk is left alone whose error has stopped the store.
const REOPEN: Duration = Duration::from_secs(1);

enum Event {
    Node(NodeEvent),
    Deadline,
    Link(Box<Link>),
    Calling(Calling),
    Asked(Asked),
    Upload(UploadNews),
    Networks(Networks),
    Bundle(Box<Job>),
    Mounts,
    Minute,
    Visible,
    Wifi,
    Sweep,
    Beat,
    Reload,
    Stop,
}

/// A running gateway.
pub struct Daemon {
    path: PathBuf,
    config: Arc<Config>,
    destinations: Arc<Destinations>,
    identity: Identity,
    node: Node,
    host: GatewayHost,
    uploads: Vec<Upload>,
    /// Remote logs in a folder, where they are configured to be in one.
    folder_log: Option<AtFolder>,
    /// What of the configuration could not be used.
    problems: Vec<String>,
    shared: Shared,
    listening: Vec<String>,
    links: mpsc::Receiver<Link>,
    /// Phones that are called over Bluetooth.
    calling: mpsc::Receiver<Calling>,
    bluetooth: Option<Bluetooth>,
    wifi: Option<Wifi>,
    /// Conversations that are told of the group as soon as it is up.
    moving: Vec<ConversationId>,
    asked: mpsc::Receiver<Asked>,
    news: mpsc::Receiver<UploadNews>,
    /// Where the kernel tells of networks; nothing where it does not.
    watch: Option<Watch>,
    networks: Networks,
    backhauls: Arc<Backhauls>,
    bundles: Bundles,
    /// When hours and budgets are looked at again.
    next_look: Monotonic,
    next_sweep: Monotonic,
    notifier: Notifier,
    /// What the log has told of last.
    noticed: Vec<Notice>,
    _announcement: Option<Announcement>,
    _control: ControlSocket,
}

/// Runs the gateway until SIGTERM or SIGINT. `path` is the configuration's, for SIGHUP.
pub fn run(path: &Path, config: Config, problems: &[Problem]) -> anyhow::Result<()> {
    let mut config = Arc::new(config);
    loop {
        // A runtime of its own: with it goes everything that still has a part of the last one's.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match runtime.block_on(run_once(path, config, problems))? {
            Ended::Told => return Ok(()),
            Ended::StoreBroken(current) => config = current,
        }
    }
}

/// Why the daemon has ended.
enum Ended {
    /// It was told to.
    Told,
    /// The store must be opened anew; with this configuration.
    StoreBroken(Arc<Config>),
}

async fn run_once(path: &Path, config: Arc<Config>, problems: &[Problem]) -> anyhow::Result<Ended> {
    let mut signals = Signals::new()?;
    let mut daemon = Daemon::start(path, config, problems).await?;
    let is_told = daemon.run(&mut signals).await;
    let config = daemon.config.clone();
    daemon.stop(is_told).await;
    if is_told {
        return Ok(Ended::Told);
    }
    tokio::select! {
        event = signals.next() => if matches!(event, Event::Stop) { return Ok(Ended::Told) },
        () = tokio::time::sleep(REOPEN) => {}
    }
    Ok(Ended::StoreBroken(config))
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.hangup.recv() => Event::Reload,
            _ = self.terminate.recv() => Event::Stop,
            _ = self.interrupt.recv() => Event::Stop,
        }
    }
}

impl Daemon {
    /// True when it was told to end, false when the store must be opened anew.
    async fn run(&mut self, signals: &mut Signals) -> bool {
        loop {
            match self.next_event(signals).await {
                Event::Node(event) => self.node.handle(event, &mut self.host),
                Event::Deadline => self.node.handle_deadline(&mut self.host),
                Event::Link(link) => {
                    self.node.accept(*link);
                }
                Event::Calling(Calling::May(peer, answer)) => {
                    // Nobody waits for it who has ended meanwhile.
                    let _ = answer.send(!self.node.peers().contains(&peer));
                }
                Event::Calling(Calling::Called(link, peer)) => {
                    if let Err(error) = self.node.open(*link, &Introduction::Known(peer)) {
                        log::warn!(peer:%, error:%; "no session with a phone that was called: {error}");
                    }
                }
                Event::Asked(asked) => self.answer(asked),
                Event::Upload(UploadNews::Confirmed) => self.host.new_confirmations = true,
                Event::Upload(UploadNews::Fetched) => self.host.new_documents = true,
                Event::Upload(UploadNews::StoreFailed) => {}
                Event::Upload(UploadNews::Backhaul) | Event::Minute => self.look_at_backhauls(None, None),
                Event::Networks(networks) => self.networks_changed(networks),
                Event::Bundle(job) => self.bundle_done(&job),
                Event::Mounts => self.look_for_sticks(),
                Event::Visible | Event::Wifi => self.tell_everyone(),
                Event::Sweep => self.sweep(),
                Event::Beat => self.notifier.beat(&self.in_a_line()),
                Event::Reload => {
                    self.reload();
                }
                Event::Stop => return true,
            }
            if self.must_reopen() {
                return false;
            }
            self.follow_up();
        }
    }

    /// Whether the store must be opened anew; where its file system is read-only after an error, that fails, and whoever started
    /// this may do what helps.
    fn must_reopen(&mut self) -> bool {
        let store = &self.shared.store;
        if store.is_broken() {
            log::error!("the store has stopped after an error of the disk; it is opened anew");
            return true;
        }
        let Some(Trouble { error, since }) = store.trouble() else { return false };
        if store.uptime().saturating_sub(since) >= TROUBLE.as_secs() {
            log::error!(error:%; "the store cannot be written; it is opened anew: {error}");
            return true;
        }
        // Which shows whether it is over.
        self.next_sweep = self.next_sweep.min(self.node.clock().now() + SWEEP_AGAIN);
        false
    }

    async fn next_event(&mut self, signals: &mut Signals) -> Event {
        let clock = self.node.clock();
        let deadline = self.node.deadline().map(|at| clock.instant(at));
        let wait = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let look = self.backhauls.depends_on_time().then(|| clock.instant(self.next_look));
        let minute = async {
            match look {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let renew = self.bluetooth.as_ref().map(|bluetooth| clock.instant(bluetooth.renew_at()));
        let renew = async {
            match renew {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let networks = async {
            match &mut self.watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        let wifi = async {
            match &mut self.wifi {
                Some(wifi) => wifi.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            event = signals.next() => event,
            () = self.notifier.due() => Event::Beat,
            Some(asked) = self.asked.recv() => Event::Asked(asked),
            event = self.node.next_event() => Event::Node(event),
            Some(news) = self.news.recv() => Event::Upload(news),
            networks = networks => Event::Networks(networks),
            event = self.bundles.next() => event,
            () = minute => Event::Minute,
            Some(link) = self.links.recv() => Event::Link(Box::new(link)),
            Some(calling) = self.calling.recv() => Event::Calling(calling),
            () = renew => Event::Visible,
            () = wifi => Event::Wifi,
            () = wait => Event::Deadline,
            () = tokio::time::sleep_until(clock.instant(self.next_sweep)) => Event::Sweep,
        }
    }

    /// What an event has left to be done: uploads of new documents, documents for subscribers and
    /// confirmations for phones that are here.
    fn follow_up(&mut self) {
        if std::mem::take(&mut self.host.new_documents) {
            self.uploads.iter().for_each(|upload| upload.uploader.nudge());
            self.node.documents_changed(&mut self.host);
            self.folder_log.iter().for_each(AtFolder::nudge);
        }
        self.follow_moves();
        if std::mem::take(&mut self.host.look_again) {
            self.tell_everyone();
        }
        if std::mem::take(&mut self.host.new_confirmations) {
            self.node.confirmations_changed(&mut self.host);
            self.sweep_soon();
        }
    }

    /// Bodies were freed: their room shall be there again.
    fn sweep_soon(&mut self) {
        self.next_sweep = self.next_sweep.min(self.node.clock().now() + SWEEP_ON);
    }

    fn sweep(&mut self) {
        let wait = match self.shared.store.sweep(SWEEP_ROWS) {
            Ok(swept) if swept.more => SWEEP_ON,
            Ok(_) => SWEEP_EVERY,
            Err(error) => {
                log::warn!(error:%; "the store could not be swept: {error}");
                SWEEP_AGAIN
            }
        };
        self.next_sweep = self.node.clock().now() + wait;
        self.tell_everyone();
        self.look_for_notices();
    }

    /// Takes no more links, lets what is under way end, and leaves everything durable.
    async fn stop(mut self, is_told: bool) {
        log::info!("gateway is stopping");
        match is_told {
            true => self.notifier.stopping(),
            // Whoever is told of an end kills what does not end.
            false => self.notifier.beat("opening the store anew"),
        }
        // Who comes now finds nobody; what is up is told the end before its radio goes.
        self.links.close();
        self.calling.close();
        self.node.end_all(Goodbye::Stopping);
        let until = tokio::time::Instant::now() + DRAIN / 2;
        while !self.node.is_empty() {
            let clock = self.node.clock();
            let deadline = self.node.deadline().map_or(until, |at| clock.instant(at).min(until));
            tokio::select! {
                event = self.node.next_event() => self.node.handle(event, &mut self.host),
                () = tokio::time::sleep_until(deadline) => self.node.handle_deadline(&mut self.host),
            }
            if tokio::time::Instant::now() >= until {
                break;
            }
        }
        self.node.settle(until.saturating_duration_since(tokio::time::Instant::now())).await;
        self.bluetooth = None;
        if let Some(wifi) = self.wifi.take() {
            wifi.stop().await;
        }
        self.bundles.stop();
        // An uploader may be telling the loop something, which nobody reads any more.
        self.news.close();
        self.folder_log = None;
        stop_uploads(std::mem::take(&mut self.uploads), DRAIN / 2);
        self.shared.writer.stop();
        log::info!("gateway has stopped");
    }
}

/// Ends uploads side by side.
fn stop_uploads(uploads: Vec<Upload>, within: Duration) {
    let until = std::time::Instant::now() + within;
    uploads.iter().for_each(|upload| upload.uploader.wind_down());
    for upload in uploads {
        upload.uploader.stop(until.saturating_duration_since(std::time::Instant::now()));
    }
}
