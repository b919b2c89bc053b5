//! The daemon: one event loop. Next event, one exhaustive match, drain outputs.

mod access;
mod backhaul;
mod bluetooth;
mod bundles;
mod callers;
mod follow;
mod host;
mod requests;
mod time;
mod uploads;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand_core::RngCore;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use waypost_backhaul::{Networks, Watch};
use waypost_config::{Config, LogPlace, Problem};
use waypost_lan::{Announcement, Listener};
use waypost_link::Link;
use waypost_node::{Node, NodeEvent, system_rng};
use waypost_protocol::refusal::Goodbye;
use waypost_protocol::session::{Identity, Introduction};
use waypost_protocol::sync::PeerHello;
use waypost_protocol::time::Monotonic;
use waypost_store::{Store, Writer, WriterOptions};

pub(crate) use self::uploads::largest_body;

use self::backhaul::Backhauls;
use self::bluetooth::{Bluetooth, Facts};
use self::bundles::Bundles;
use self::callers::{Called, Caller, Schedule};
use self::host::GatewayHost;
use self::time::TrustedTime;
use self::uploads::{Shared, Upload, UploadNews};
use crate::bundle::Job;
use crate::control::{Asked, ControlSocket};
use crate::destinations::{Destinations, Served};
use crate::remote_log::AtFolder;
use crate::{control, logging, remote_log, setup};

/// Rows that one sweep of the store looks at.
const SWEEP_ROWS: usize = 1_000;
/// How soon a sweep goes on that has more to do.
const SWEEP_ON: Duration = Duration::from_millis(200);
/// How soon a sweep is tried again that failed.
const SWEEP_AGAIN: Duration = Duration::from_secs(10);
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
    Called(Box<Called>),
    Asked(Asked),
    Upload(UploadNews),
    Networks(Networks),
    Bundle(Box<Job>),
    Mounts,
    Minute,
    Visible,
    Sweep,
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
    /// Phones that were called over Bluetooth.
    called: mpsc::Receiver<Called>,
    bluetooth: Option<Bluetooth>,
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
    daemon.stop().await;
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
    async fn start(path: &Path, config: Arc<Config>, problems: &[Problem]) -> anyhow::Result<Self> {
        let store = setup::open_store(&config)?;
        let identity = setup::open_identity(&config)?;
        let writer = Writer::start(store.clone(), WriterOptions::default())?;
        let (mut destinations, found) = Destinations::load(&config);
        destinations.go_on(&Destinations::default(), &store);
        log_problems(problems.iter().chain(&found));
        let problems = unusable(problems.iter().chain(&found));
        let destinations = Arc::new(destinations);
        let hello = setup::hello(&config, &store, &destinations);
        let limits = setup::limits(&config);
        let node = Node::new(identity.clone(), hello, limits, store.clone(), writer.clone(), system_rng()?);
        let (news_in, news) = mpsc::channel(64);
        let (asked_in, asked) = mpsc::channel(8);
        let (links_in, links) = mpsc::channel(16);
        let control = control::listen(&config.control.socket, asked_in)?;
        let (listening, port) = listen(&config, links_in.clone()).await;
        let announcement =
            port.filter(|_| config.lan.advertise).and_then(|port| announce(&config, &identity, port));
        let time = TrustedTime::load(store.clone(), writer.clone());
        let backhauls = Arc::new(Backhauls::new(
            config.backhaul.clone(),
            store.clone(),
            writer.clone(),
            time.clone(),
            news_in.clone(),
        ));
        let host = GatewayHost {
            config: config.clone(),
            destinations: destinations.clone(),
            store: store.clone(),
            time: time.clone(),
            new_documents: false,
            new_confirmations: false,
            look_again: false,
            contacts: 0,
            link_bytes: 0,
        };
        let way = backhauls.clone();
        let bundles = Bundles::new(&config);
        let signer = remote_log::signer(&config)?;
        let shared = Shared { store, writer, clock: node.clock(), time, way, news: news_in, signer };
        let (called_in, called) = mpsc::channel(1);
        let caller = caller(&config, &shared.store, called_in);
        let (key, now) = (identity.advertising_key(), node.clock().now());
        let bluetooth = Bluetooth::start(&config, key, system_rng()?, now, links_in, caller);
        let mut daemon = Daemon {
            path: path.to_owned(),
            config,
            destinations,
            identity,
            node,
            host,
            uploads: Vec::new(),
            folder_log: None,
            problems,
            shared,
            listening,
            links,
            called,
            bluetooth,
            asked,
            news,
            watch: watch_networks(),
            networks: Networks::default(),
            bundles,
            backhauls,
            next_look: Monotonic(LOOK_EVERY),
            next_sweep: Monotonic(SWEEP_ON),
            _announcement: announcement,
            _control: control,
        };
        if daemon.watch.is_none() {
            daemon.backhauls.look(None, Some(Vec::new()));
        }
        daemon.start_uploads(true);
        daemon.look_for_sticks();
        daemon.start_folder_log();
        log::info!(
            name = daemon.config.name.as_str(), key:% = daemon.identity.public(), listening:? = daemon.listening,
            destinations = daemon.destinations.0.len();
            "gateway is running"
        );
        Ok(daemon)
    }

    /// One uploader per destination. Those go on that nothing has changed for; `all`: none does.
    fn start_uploads(&mut self, all: bool) {
        let (mut kept, mut ended): (Vec<Upload>, Vec<Upload>) = (Vec::new(), Vec::new());
        for upload in self.uploads.drain(..) {
            let same = |served: &&Served| !all && served.uploads_like(&upload.served);
            let goes_on = upload.uploader.is_running() && self.destinations.0.iter().any(|one| same(&one));
            if goes_on { kept.push(upload) } else { ended.push(upload) }
        }
        // The news that they may be telling has nobody who reads it meanwhile: they are given a second.
        stop_uploads(ended, Duration::from_secs(1));
        let seed = system_rng().map_or(0, |mut rng| rng.next_u64());
        for served in &self.destinations.0 {
            if let Some(at) = kept.iter().position(|upload| served.uploads_like(&upload.served)) {
                self.uploads.push(kept.swap_remove(at));
                continue;
            }
            match uploads::start(served, &self.destinations, &self.config, &self.shared, seed) {
                Ok(upload) => self.uploads.push(upload),
                Err((key, message)) => {
                    let problem = served.config.problem(waypost_config::Severity::Error, key, &message);
                    log_problems([&problem]);
                    self.problems.push(problem.to_string());
                }
            }
        }
    }

    /// Remote logs in a folder, begun anew.
    fn start_folder_log(&mut self) {
        self.folder_log = None;
        let logs = &self.config.remote_log;
        let LogPlace::Folder(path) = &logs.to else { return };
        if !remote_log::is_wanted(logs) {
            return;
        }
        let parts = self.shared.for_logs(&self.config, &self.destinations);
        match AtFolder::start(parts, path, self.shared.clock) {
            Ok(running) => self.folder_log = Some(running),
            Err(error) => log::error!(error:%; "no remote logs in {}: {error}", path.display()),
        }
    }

    /// True when it was told to end, false when the store must be opened anew.
    async fn run(&mut self, signals: &mut Signals) -> bool {
        loop {
            match self.next_event(signals).await {
                Event::Node(event) => self.node.handle(event, &mut self.host),
                Event::Deadline => self.node.handle_deadline(&mut self.host),
                Event::Link(link) => {
                    self.node.accept(*link);
                }
                Event::Called(called) => {
                    if let Err(error) = self.node.open(called.link, &Introduction::Known(called.peer)) {
                        log::warn!(peer:% = called.peer, error:%; "no session with a phone that was called: {error}");
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
                Event::Visible => self.tell_everyone(),
                Event::Sweep => self.sweep(),
                Event::Reload => {
                    self.reload();
                }
                Event::Stop => return true,
            }
            if self.shared.store.is_broken() {
                log::error!("the store has stopped after an error of the disk; it is opened anew");
                return false;
            }
            self.follow_up();
        }
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
        tokio::select! {
            biased;
            event = signals.next() => event,
            Some(asked) = self.asked.recv() => Event::Asked(asked),
            event = self.node.next_event() => Event::Node(event),
            Some(news) = self.news.recv() => Event::Upload(news),
            networks = networks => Event::Networks(networks),
            event = self.bundles.next() => event,
            () = minute => Event::Minute,
            Some(link) = self.links.recv() => Event::Link(Box::new(link)),
            Some(called) = self.called.recv() => Event::Called(Box::new(called)),
            () = renew => Event::Visible,
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
        if std::mem::take(&mut self.host.look_again) {
            self.tell_everyone();
        }
        if std::mem::take(&mut self.host.new_confirmations) {
            self.node.confirmations_changed(&mut self.host);
            self.sweep_soon();
        }
    }

    /// A network came or went: what could not be reached may be reached now.
    fn networks_changed(&mut self, networks: Networks) {
        let outward = networks.outward();
        let names: Vec<String> = outward.iter().map(|network| network.interface.clone()).collect();
        log::info!(networks:? = names; "networks with a way out: {}", listed(&names));
        self.look_at_backhauls(None, Some(outward));
        if networks.adds_to(&self.networks) {
            self.uploads.iter().for_each(|upload| upload.uploader.path_up());
        } else if networks.is_empty() {
            self.uploads.iter().for_each(|upload| upload.uploader.path_down());
        }
        self.networks = networks;
        self.tell_everyone();
    }

    /// Says how things stand: to peers that come, and over Bluetooth to everyone near.
    fn tell_everyone(&mut self) {
        let has_backhaul = self.has_backhaul();
        if self.node.hello().has_backhaul != has_backhaul {
            self.set_hello();
        }
        let Some(bluetooth) = &mut self.bluetooth else { return };
        let room = match self.shared.store.usage() {
            Ok(usage) => usage.room,
            Err(error) => {
                log::warn!(error:%; "the store does not say how much room it has: {error}");
                0
            }
        };
        bluetooth.tell(Facts { has_backhaul, room }, self.config.name.as_str(), self.node.clock().now());
    }

    /// Whether a path to a destination may be there: a network with a way out. Where the kernel does not tell of networks,
    /// a path is found by trying only.
    fn has_backhaul(&self) -> bool {
        self.watch.is_none() || !self.networks.outward().is_empty()
    }

    fn set_hello(&mut self) {
        let hello = setup::hello(&self.config, &self.shared.store, &self.destinations);
        let has_backhaul = self.has_backhaul();
        self.node.set_hello(PeerHello { has_backhaul, ..hello });
    }

    /// Another backhaul may be used now.
    fn look_at_backhauls(
        &mut self,
        configured: Option<Vec<waypost_config::Backhaul>>,
        outward: Option<Vec<waypost_backhaul::Network>>,
    ) {
        self.next_look = self.node.clock().now() + LOOK_EVERY;
        if self.backhauls.look(configured, outward) {
            self.uploads.iter().for_each(|upload| upload.uploader.path_up());
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
    }

    /// Takes no more links, lets what is under way end, and leaves everything durable.
    async fn stop(mut self) {
        log::info!("gateway is stopping");
        self.bluetooth = None;
        self.links.close();
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
        self.bundles.stop();
        // An uploader may be telling the loop something, which nobody reads any more.
        self.news.close();
        self.folder_log = None;
        stop_uploads(std::mem::take(&mut self.uploads), DRAIN / 2);
        self.shared.writer.stop();
        log::info!("gateway has stopped");
    }
}

/// Calls phones, where the configuration says so: from one adapter, so that one only scans.
fn caller(config: &Config, store: &Store, called: mpsc::Sender<Called>) -> Option<Caller> {
    let ble = &config.ble;
    let adapter = bluetooth::adapters(config).into_iter().next()?;
    let schedule =
        Schedule { adapter, interval: ble.call_interval.duration(), window: ble.call_window.duration() };
    (ble.enabled && ble.call).then(|| Caller::start(schedule, store.clone(), called))
}

fn watch_networks() -> Option<Watch> {
    match Watch::start() {
        Ok(watch) => Some(watch),
        Err(error) => {
            log::warn!(error:%; "the kernel does not tell of networks ({error}); a backhaul is found by trying only");
            None
        }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Ends uploads side by side.
fn stop_uploads(uploads: Vec<Upload>, within: Duration) {
    let until = std::time::Instant::now() + within;
    uploads.iter().for_each(|upload| upload.uploader.wind_down());
    for upload in uploads {
        upload.uploader.stop(until.saturating_duration_since(std::time::Instant::now()));
    }
}

async fn listen(config: &Config, links: mpsc::Sender<Link>) -> (Vec<String>, Option<u16>) {
    let (mut listening, mut port) = (Vec::new(), None);
    if !config.lan.enabled {
        return (listening, port);
    }
    for address in &config.lan.listen {
        match Listener::bind(&address.to_string()).await {
            Ok(listener) => {
                if let Ok(bound) = listener.local_address() {
                    port.get_or_insert(bound.port());
                    listening.push(bound.to_string());
                }
                tokio::spawn(accept(listener, links.clone()));
            }
            // One transport that fails stops no other.
            Err(error) => log::error!(error:%; "no LAN links on one address: {error}"),
        }
    }
    (listening, port)
}

async fn accept(listener: Listener, links: mpsc::Sender<Link>) {
    loop {
        match listener.accept().await {
            Ok(link) => {
                if links.send(link).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                log::warn!(error:%; "a LAN link could not be taken: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn announce(config: &Config, identity: &Identity, port: u16) -> Option<Announcement> {
    let key = identity.public();
    match waypost_lan::announce(config.name.as_str(), &key.as_bytes()[..4], port) {
        Ok(announcement) => Some(announcement),
        Err(error) => {
            log::error!(error:%; "phones must be told the gateway's address: {error}");
            None
        }
    }
}

fn unusable<'a>(problems: impl IntoIterator<Item = &'a Problem>) -> Vec<String> {
    let errors = problems.into_iter().filter(|problem| problem.severity != waypost_config::Severity::Warning);
    errors.map(ToString::to_string).collect()
}

fn log_problems<'a>(problems: impl IntoIterator<Item = &'a Problem>) {
    for problem in problems {
        match problem.severity {
            waypost_config::Severity::Warning => log::warn!("{problem}"),
            waypost_config::Severity::Error | waypost_config::Severity::Fatal => log::error!("{problem}"),
        }
    }
}

impl Daemon {
    /// Reads the configuration again and puts into effect what can be without a restart.
    fn reload(&mut self) -> (Vec<Problem>, Vec<waypost_config::Change>) {
        let loaded = waypost_config::load(&self.path);
        if loaded.is_fatal() {
            log_problems(&loaded.problems);
            log::error!("the configuration is not used; the one before goes on");
            return (loaded.problems, Vec::new());
        }
        let changes = waypost_config::reload_diff(&self.config, &loaded.config);
        let config = waypost_config::after_reload(&self.config, &loaded.config);
        let upload_changed =
            config.upload != self.config.upload || config.remote_log != self.config.remote_log;
        let (mut destinations, found) = Destinations::load(&config);
        destinations.go_on(&self.destinations, &self.shared.store);
        log_problems(loaded.problems.iter().chain(&found));
        let problems: Vec<Problem> = loaded.problems.into_iter().chain(found).collect();
        self.problems = unusable(&problems);
        (self.config, self.destinations) = (Arc::new(config), Arc::new(destinations));
        (self.host.config, self.host.destinations) = (self.config.clone(), self.destinations.clone());
        logging::set_level(self.config.log.level);
        self.node.set_limits(setup::limits(&self.config));
        self.set_hello();
        self.node.narrow_wants(&self.destinations.subscribable());
        self.end_unserved();
        self.look_at_backhauls(Some(self.config.backhaul.clone()), None);
        self.start_uploads(upload_changed);
        self.look_for_sticks();
        self.start_folder_log();
        self.tell_everyone();
        log::info!(changed = changes.len(); "configuration read again");
        for change in &changes {
            let when = if change.needs_restart { "needs restart" } else { "in effect" };
            log::info!("{}: {when}", change.key);
        }
        (problems, changes)
    }

    /// Ends the sessions of peers that the configuration no longer lets in.
    fn end_unserved(&mut self) {
        for peer in self.node.peers() {
            if let Err(reason) = access::still_served(&self.config, &self.shared.store, &peer) {
                self.node.end_peer(&peer, reason);
            }
        }
    }
}
