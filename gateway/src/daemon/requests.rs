//! Requests of the control socket that need the running daemon.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::PoisonError;

use nix::ifaddrs::getifaddrs;
use rand_core::RngCore;
use waypost_config::{Problem, Severity, printable};
use waypost_node::system_rng;
use waypost_openpgp::Certificate;
use waypost_protocol::invite::{CodeSecret, Pairing};
use waypost_protocol::refusal::Goodbye;
use waypost_protocol::time::UnixTime;
use waypost_store::{Change, PeerClass};
use waypost_upload::PathState;

use super::Daemon;
use super::bluetooth::Bluetooth;
use super::uploads::LAST_UPLOAD;
use super::wifi::Wifi;
use crate::admin::{self, Answer, DestinationStatus, PosterWish, Request, Status};
use crate::control::Asked;
use crate::destinations::stored_chain;
use crate::remote_log::{AtFolder, LogStatus};

/// Characters in a poster's name at most.
const MAX_NAME: usize = 64;

fn new_secret() -> Result<CodeSecret, String> {
    let mut secret = [0; 16];
    system_rng().map_err(|error| error.to_string())?.fill_bytes(&mut secret);
    Ok(CodeSecret::new(secret))
}

impl Daemon {
    /// Answers, at once or, where that takes long, from a thread of its own.
    pub(super) fn answer(&mut self, Asked { request, reply }: Asked) {
        let answer = match request {
            Request::CheckStore => {
                let store = self.shared.store.clone();
                // Not one of the runtime's threads: the runtime's end would wait for it.
                let check = move || {
                    let _ = reply.send(admin::answer(&store, &Request::CheckStore));
                };
                if let Err(error) = std::thread::Builder::new().name("store-check".to_owned()).spawn(check) {
                    log::warn!(error:% = error; "no thread for a check of the store: {error}");
                }
                return;
            }
            request => self.answer_now(&request),
        };
        // Whoever asked may have gone.
        let _ = reply.send(answer);
    }

    fn answer_now(&mut self, request: &Request) -> Result<Answer, String> {
        match request {
            Request::Status => self.status().map(|status| Answer::Status(Box::new(status))),
            Request::Pair => self.pair(),
            Request::Poster { name, wish } => self.poster(name, *wish),
            Request::RevokePoster { .. } => {
                let answer = admin::answer(&self.shared.store, request);
                if let Ok(Answer::PosterRevoked { peers }) = &answer {
                    peers.iter().for_each(|peer| self.node.end_peer(peer, Goodbye::Revoked));
                }
                answer
            }
            Request::Wifi => match &self.wifi {
                Some(wifi) => Ok(Answer::Wifi(wifi.invitation())),
                None => Err("Wi-Fi Direct is off: set wifi_direct.mode, and restart the gateway".into()),
            },
            Request::Reload => {
                let (problems, changes) = self.reload();
                Ok(reloaded(&problems, &changes))
            }
            Request::Changes => {
                let loaded = waypost_config::load(&self.path);
                Ok(reloaded(&[], &waypost_config::reload_diff(&self.config, &loaded.config)))
            }
            Request::Revoke { .. } => {
                let answer = admin::answer(&self.shared.store, request);
                if let Ok(Answer::Revoked(peer)) = &answer {
                    self.node.end_peer(peer, Goodbye::Revoked);
                }
                answer
            }
            Request::ResetCertificates { destination, .. } => {
                let served = self.host.destinations.get(destination).cloned();
                let served =
                    served.ok_or("this gateway does not serve that destination; `waypost reload` first")?;
                let answer = admin::answer(&self.shared.store, request)?;
                if let Some(chain) = stored_chain(&self.shared.store, destination) {
                    served.set_chain(chain);
                }
                log::warn!(destination = served.config.name.as_str(); "learnt certificates were forgotten by the admin");
                Ok(answer)
            }
            Request::Bundle(task) => {
                let number = self.start_bundle(task.clone())?;
                self.bundle_job(number)
            }
            Request::BundleJob { number } => self.bundle_job(*number),
            Request::DeleteDocument { .. } => {
                // Who deletes may need the room.
                self.sweep_soon();
                admin::answer(&self.shared.store, request)
            }
            Request::Documents { .. }
            | Request::Document { .. }
            | Request::Peers
            | Request::Posters
            | Request::CheckStore => admin::answer(&self.shared.store, request),
        }
    }

    fn status(&self) -> Result<Status, String> {
        let words = |error: waypost_store::StoreError| error.to_string();
        let counts = self.shared.store.counts().map_err(words)?;
        let usage = self.shared.store.usage().map_err(words)?;
        let outward = self.networks.outward();
        let not_tried = PathState::Unknown.to_string();
        let destination = |upload: &super::Upload| {
            let mut status = upload.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let chain = upload.served.chain();
            status.certificates = chain.certificates().iter().map(Certificate::fingerprint).collect();
            drop(chain);
            if status.state == not_tried && self.watch.is_some() {
                status.state = if outward.is_empty() { "no network" } else { "link up" }.to_owned();
            }
            status
        };
        let destinations: Vec<DestinationStatus> = self.uploads.iter().map(destination).collect();
        let taken: Vec<String> = destinations.iter().filter_map(|one| one.interface.clone()).collect();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            name: self.config.name.to_string(),
            key: self.identity.public(),
            store: self.shared.store.store_id(),
            running: self.node.clock().now().0.as_secs(),
            listening: self.listening.clone(),
            bluetooth: self.bluetooth.as_ref().map(Bluetooth::status).unwrap_or_default(),
            wifi: self.wifi.as_ref().map(Wifi::status),
            sessions: self.node.sessions(),
            in_line: self.node.in_line(),
            contacts: self.host.contacts,
            link_bytes: self.host.link_bytes,
            codes_used: self.host.codes_used,
            waiting: counts.waiting,
            opened: counts.opened,
            held: counts.held,
            rejected: counts.rejected,
            partials: counts.partials,
            asked_for_again: counts.lost,
            used: usage.used,
            room: usage.room,
            networks: self
                .watch
                .as_ref()
                .map(|_| outward.iter().map(|network| network.interface.clone()).collect()),
            backhauls: self.backhauls.status(&taken),
            destinations,
            bundle: self.bundles.jobs.last(),
            log_key: self.shared.signer.key().to_string(),
            remote_logs: self.remote_logs(),
            problems: self.problems.clone(),
            last_upload: self.last_upload(),
            clock_trusted: self.shared.time.is_confirmed(),
            peers: self.shared.store.peers().map_err(words)?.len(),
            notices: self.notices(),
        })
    }

    /// How the gateway is, in a line.
    pub(super) fn in_a_line(&self) -> String {
        let waiting = match self.shared.store.counts() {
            Ok(counts) => format!("{} documents wait", counts.waiting),
            Err(error) => format!("the store cannot be read: {error}"),
        };
        let mut line = format!("{waiting}; {} sessions", self.node.sessions());
        if !self.noticed.is_empty() {
            line.push_str(&format!("; {} notices (waypost status)", self.noticed.len()));
        }
        for upload in &self.uploads {
            let status = upload.status.lock().unwrap_or_else(PoisonError::into_inner);
            line.push_str(&format!("; {}: {}", status.name, status.state));
        }
        line
    }

    fn last_upload(&self) -> Option<UnixTime> {
        let bytes = self.shared.store.setting(LAST_UPLOAD).ok().flatten()?;
        Some(UnixTime(u64::from_be_bytes(bytes.try_into().ok()?)))
    }

    fn remote_logs(&self) -> Vec<LogStatus> {
        let read = |status: &std::sync::Mutex<LogStatus>| {
            status.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        let at_destinations = self.uploads.iter().filter_map(|upload| upload.log.as_deref()).map(read);
        at_destinations.chain(self.folder_log.iter().map(AtFolder::status)).collect()
    }

    /// Makes a one-time pairing code.
    fn pair(&self) -> Result<Answer, String> {
        if self.config.access.mode == waypost_config::AccessMode::Listed {
            return Err(
                "access.mode is \"listed\": add the phone's key (`waypost-phone status`) to access.listed"
                    .into(),
            );
        }
        let secret = new_secret()?;
        let valid = self.config.access.code_lifetime.duration();
        let add = Change::AddCode {
            secret: secret.clone(),
            class: PeerClass::Paired,
            valid: Some(valid),
            poster: None,
        };
        self.shared.store.apply_one(add).map_err(|error| error.to_string())?;
        Ok(Answer::Code { text: self.code_text(secret), valid: valid.as_secs() })
    }

    /// Makes, shows or renews a code that is printed.
    fn poster(&self, name: &str, wish: PosterWish) -> Result<Answer, String> {
        if self.config.access.mode == waypost_config::AccessMode::Listed {
            return Err("access.mode is \"listed\": no code lets a phone in".into());
        }
        let store = &self.shared.store;
        let mut known = store.posters().map_err(|error| error.to_string())?.into_iter();
        let known = known.find(|one| one.name == name);
        let is_name = (1..=MAX_NAME).contains(&name.chars().count()) && printable(name) == name;
        let secret = match (wish, known) {
            (PosterWish::Add, _) if !is_name => {
                return Err(format!("a poster's name has 1 to {MAX_NAME} characters that can be printed"));
            }
            (PosterWish::Add, None) => new_secret()?,
            (PosterWish::Add, Some(_)) => {
                return Err(format!("there is a poster {name} already; `show` and `rotate` are for that"));
            }
            (_, None) => return Err(format!("no poster is called {name}; `waypost posters list` shows all")),
            (PosterWish::Rotate, Some(_)) => new_secret()?,
            (PosterWish::Show, Some(known)) => {
                let secret =
                    known.secret.ok_or_else(|| format!("the code of {name} is void; `rotate` makes one"))?;
                return Ok(Answer::Poster { text: self.code_text(secret) });
            }
        };
        let (class, poster) = (PeerClass::Poster, Some(name.to_owned()));
        let add = Change::AddCode { secret: secret.clone(), class, valid: None, poster };
        let remove = Change::RemovePoster { name: name.to_owned(), revoke: false };
        let changes = if wish == PosterWish::Rotate { vec![remove, add] } else { vec![add] };
        for done in store.apply(changes) {
            done.map_err(|error| error.to_string())?;
        }
        Ok(Answer::Poster { text: self.code_text(secret) })
    }

    fn code_text(&self, secret: CodeSecret) -> String {
        let (gateway, name) = (self.identity.public(), self.config.name.to_string());
        Pairing { gateway, secret, name, addresses: self.addresses() }.to_text()
    }

    /// Where phones can reach this gateway: as configured, else the addresses that it listens on, with the machine's own
    /// in the place of "every interface".
    fn addresses(&self) -> Vec<String> {
        if !self.config.lan.addresses.is_empty() {
            return self.config.lan.addresses.iter().map(|address| address.as_str().to_owned()).collect();
        }
        let bound = self.listening.iter().filter_map(|text| text.parse::<SocketAddr>().ok());
        let mut addresses: Vec<String> = Vec::new();
        for address in bound {
            if !address.ip().is_unspecified() {
                addresses.push(address.to_string());
                continue;
            }
            let own = ["192.0.2.1:9", "[2001:db8::1]:9"].into_iter().filter_map(outgoing_address);
            addresses.extend(own.map(|ip| SocketAddr::new(ip, address.port()).to_string()));
            addresses.extend(self.group_address().map(|ip| SocketAddr::new(ip, address.port()).to_string()));
            if addresses.is_empty() {
                addresses.push(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), address.port()).to_string());
            }
        }
        addresses
    }
}

impl Daemon {
    /// Where it is reached in its own Wi-Fi network by those who speak IPv4: link-local addresses of IPv6 mean nothing
    /// without the interface of whoever uses them.
    fn group_address(&self) -> Option<IpAddr> {
        let group = self.wifi.as_ref()?.status().group?;
        getifaddrs().ok()?.find_map(|one| {
            let address = one.address.as_ref()?.as_sockaddr_in()?.ip();
            (one.interface_name == group.interface).then_some(address.into())
        })
    }
}

fn reloaded(problems: &[Problem], changes: &[waypost_config::Change]) -> Answer {
    let keys = |needs_restart| {
        let keys = changes.iter().filter(move |change| change.needs_restart == needs_restart);
        keys.map(|change| change.key.to_string()).collect()
    };
    Answer::Reloaded {
        ok: problems.iter().all(|problem| problem.severity == Severity::Warning),
        problems: problems.iter().map(ToString::to_string).collect(),
        changed: keys(false),
        needs_restart: keys(true),
    }
}

/// The address that this machine would use towards a documentation address (RFC 5737, RFC 3849). Connecting a UDP socket
/// sends nothing.
fn outgoing_address(towards: &str) -> Option<IpAddr> {
    let towards = towards.to_socket_addrs().ok()?.next()?;
    let any: SocketAddr = if towards.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(towards).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
}
