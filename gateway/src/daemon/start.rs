//! How the daemon begins: the parts, and the links that may come.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand_core::RngCore;
use tokio::sync::mpsc;
use waypost_backhaul::{Networks, Watch};
use waypost_config::{Config, LogPlace, Problem};
use waypost_lan::{Announcement, Listener};
use waypost_link::{Link, Medium};
use waypost_node::{Node, system_rng};
use waypost_protocol::session::Identity;
use waypost_protocol::time::Monotonic;
use waypost_store::{Store, Writer, WriterOptions};
use waypost_wifi_direct::radio_of;

use super::backhaul::Backhauls;
use super::bluetooth::{self, Bluetooth};
use super::bundles::Bundles;
use super::callers::{Caller, Calling, Schedule};
use super::host::GatewayHost;
use super::notifier::Notifier;
use super::reload::{log_problems, unusable};
use super::time::TrustedTime;
use super::uploads::{self, Shared, Upload};
use super::wifi::Wifi;
use super::{Daemon, LOOK_EVERY, SWEEP_ON, stop_uploads, time_server};
use crate::destinations::{Destinations, Served};
use crate::remote_log::AtFolder;
use crate::{control, remote_log, setup};

impl Daemon {
    pub(super) async fn start(
        path: &Path,
        config: Arc<Config>,
        problems: &[Problem],
    ) -> anyhow::Result<Self> {
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
        tokio::spawn(time_server::watch(time.clone()));
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
            codes_used: 0,
            link_bytes: 0,
        };
        let way = backhauls.clone();
        let bundles = Bundles::new(&config);
        let signer = remote_log::signer(&config)?;
        let shared = Shared { store, writer, clock: node.clock(), time, way, news: news_in, signer };
        let (calling_in, calling) = mpsc::channel(1);
        let caller = caller(&config, &shared.store, calling_in);
        let (key, now) = (identity.advertising_key(), node.clock().now());
        let bluetooth = Bluetooth::start(&config, key, system_rng()?, now, links_in, caller);
        let wifi = Wifi::start(&config, &shared.store, &identity.public(), system_rng()?);
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
            calling,
            bluetooth,
            wifi,
            moving: Vec::new(),
            asked,
            news,
            watch: watch_networks(),
            networks: Networks::default(),
            bundles,
            backhauls,
            next_look: Monotonic(LOOK_EVERY),
            next_sweep: Monotonic(SWEEP_ON),
            notifier: Notifier::new(),
            noticed: Vec::new(),
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
        if daemon.wifi.is_some() && daemon.group_port().is_none() {
            log::warn!(
                "phones that come over Bluetooth are not told of Wi-Fi: lan.listen has no [::] with a port"
            );
        }
        daemon.notifier.ready(&daemon.in_a_line());
        Ok(daemon)
    }

    /// One uploader per destination. Those go on that nothing has changed for; `all`: none does.
    pub(super) fn start_uploads(&mut self, all: bool) {
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
    pub(super) fn start_folder_log(&mut self) {
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
}

/// Calls phones, where the configuration says so: from one adapter, so that one only scans.
fn caller(config: &Config, store: &Store, calling: mpsc::Sender<Calling>) -> Option<Caller> {
    let ble = &config.ble;
    let adapter = bluetooth::adapters(config).into_iter().next()?;
    let schedule =
        Schedule { adapter, interval: ble.call_interval.duration(), window: ble.call_window.duration() };
    (ble.enabled && ble.call).then(|| Caller::start(schedule, store.clone(), calling))
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
            Ok(mut link) => {
                if let Some(radio) = radio_of(&link.info.group) {
                    (link.info.medium, link.info.group) = (Medium::WifiDirect, radio);
                }
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
