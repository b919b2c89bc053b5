//! One radio's group as wpa_supplicant has it, from when it is taken until either is lost.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use zbus::Message;
use zbus::zvariant::OwnedObjectPath;

use crate::beside::{Beside, Next};
use crate::bonjour;
use crate::channel::{Megahertz, Tries, channel};
use crate::error::WifiError;
use crate::left::{clear, describe, disconnect, forget_ours, hush};
use crate::owner::{Ask, Join, Options};
use crate::radio;
use crate::said::{self, GroupNews, Said, Told};
use crate::status::{Board, State, Up};
use crate::supplicant::{BSS, GROUP, Heard, INTERFACE, News, P2P, Supplicant, WPS, member};
use crate::wish::{Mode, Wish};

/// How long a frequency may take to show whether a group can be there. One that has to be free of radar takes a minute,
/// and is none of those that are tried.
const START: Duration = Duration::from_secs(10);
/// How long wpa_supplicant may take to end a group.
const END: Duration = Duration::from_secs(3);
/// How often it is looked whether the radio is still there and not blocked.
const LOOK: Duration = Duration::from_secs(5);
/// The same while the radio is to be in a network and is not: network managers give one up after 25 s.
const LOOK_BESIDE: Duration = Duration::from_secs(1);
/// A group that was up for so long has lasted.
const LASTING: Duration = Duration::from_secs(30);
/// While there is no group, phones hear the radio on a social channel for so long, so often, in milliseconds.
const LISTEN: (i32, i32) = (500, 2_000);

pub(crate) struct Group<'a> {
    radio: &'a str,
    options: &'a Options,
    board: &'a Board,
    supplicant: Supplicant,
    news: News,
    /// wpa_supplicant's object of the radio.
    device: OwnedObjectPath,
    /// The group as it remembers it.
    persistent: OwnedObjectPath,
    up: Option<Running>,
    /// Interfaces of groups that were ended here, and of which wpa_supplicant has not said so yet.
    ended: Vec<OwnedObjectPath>,
    /// It is waited, and phones hear that there is something to wait for.
    rests: bool,
    /// Somebody has asked for the group while it was ended.
    was_asked: bool,
    tries: Tries,
    /// Nothing is begun before.
    not_before: Instant,
    beside: Beside,
}

/// A group that is up.
struct Running {
    interface: OwnedObjectPath,
    name: String,
    object: OwnedObjectPath,
    since: Instant,
}

impl<'a> Group<'a> {
    /// Takes the radio, and leaves nothing of an earlier group.
    pub(crate) async fn prepare(
        radio: &'a str,
        options: &'a Options,
        board: &'a Board,
    ) -> Result<Self, WifiError> {
        let supplicant = Supplicant::connect(options.bus.as_deref(), radio).await?;
        let device = supplicant.interface().await?;
        let news = supplicant.news().await?;
        let told = said::device(&options.device_name);
        supplicant.set("name the device", &device, P2P, "P2PDeviceConfig", told.into()).await?;
        let methods = "virtual_push_button physical_display keypad";
        if let Err(error) =
            supplicant.set("say how phones join", &device, WPS, "ConfigMethods", methods.into()).await
        {
            log::debug!("{error}");
        }
        let ended = clear(&supplicant, radio).await?;
        let persistent = describe(&supplicant, &device, options).await?;
        let beside = Beside::of(&supplicant, &device).await?;
        let group = Group {
            radio,
            options,
            board,
            supplicant,
            news,
            device,
            persistent,
            up: None,
            ended,
            rests: false,
            was_asked: false,
            tries: Tries::new(options.channels.clone()),
            not_before: Instant::now(),
            beside,
        };
        group.announce().await;
        Ok(group)
    }

    /// Says what there is to those who ask before they join. A group without that can be joined all the same.
    async fn announce(&self) {
        let flush: Result<(), _> =
            self.supplicant.call("forget services", &self.device, P2P, "FlushService", &()).await;
        let mut done = flush;
        for record in bonjour::records(&self.options.service) {
            let told = Told::from([
                ("service_type", "bonjour".into()),
                ("query", record.query.into()),
                ("response", record.response.into()),
            ]);
            done = done.and(
                self.supplicant.call("announce the service", &self.device, P2P, "AddService", &told).await,
            );
        }
        if let Err(error) = done {
            log::warn!(radio = self.radio, error:%; "phones do not see before they join that this is a Waypost: {error}");
        }
    }

    /// Keeps the group as it is wished, until something ends that.
    pub(crate) async fn attend(
        &mut self,
        wish: &mut Wish,
        asks: &mut mpsc::Receiver<Ask>,
    ) -> Result<Infallible, WifiError> {
        let mut next_look = Instant::now() + LOOK;
        loop {
            let now = Instant::now();
            if std::mem::take(&mut self.was_asked) {
                wish.wanted(now);
            }
            match (wish.is_up(now), &self.up) {
                (true, None) if self.not_before <= now && !self.beside.has_way() => {
                    radio::check(self.radio)?;
                    self.begin(wish).await?;
                }
                (false, Some(_)) => {
                    self.end().await?;
                    continue;
                }
                // Also where the group could not begin, and nobody has waited for that.
                (false, None) if !self.rests && !self.beside.has_way() => self.rest().await,
                _ => {}
            }
            let is_due = self.up.is_none() && wish.is_up(Instant::now()) && !self.beside.has_way();
            let begins = is_due.then_some(self.not_before);
            let due = [begins, wish.ends().filter(|_| self.up.is_some())];
            let wake = due.into_iter().flatten().fold(next_look, Instant::min);
            tokio::select! {
                heard = self.news.next() => match heard {
                    Heard::Said(message) => self.heard(&message, wish).await?,
                    Heard::Ended => return Err(WifiError::NoService("it has ended".into())),
                },
                Some(Ask::Want) = asks.recv() => wish.wanted(Instant::now()),
                () = tokio::time::sleep_until(wake) => {}
            }
            // However much is heard meanwhile.
            if next_look <= Instant::now() {
                radio::check(self.radio)?;
                self.look().await;
                self.look_beside(wish).await?;
                next_look = Instant::now() + LOOK;
            }
            if self.beside.is_waiting() {
                next_look = next_look.min(Instant::now() + LOOK_BESIDE);
            }
        }
    }

    /// While there is no group, phones that look for devices find this one.
    async fn rest(&mut self) {
        self.rests = true;
        self.board.set(self.radio, State::Waiting, "");
        if let Err(error) = self.listen(LISTEN).await {
            log::info!(radio = self.radio, error:%; "phones do not find the radio while there is no group: {error}");
        }
    }

    /// Ends the rest: who joins needs the radio on the group's channel.
    async fn rise(&mut self) {
        self.rests = false;
        if self.options.mode == Mode::OnDemand
            && let Err(error) = self.listen((0, 0)).await
        {
            log::debug!("{error}");
        }
    }

    /// Has the radio hear devices that look for others, so long, so often, in milliseconds; never, with zeros.
    async fn listen(&self, (period, interval): (i32, i32)) -> Result<(), WifiError> {
        let told = Told::from([("period", period.into()), ("interval", interval.into())]);
        self.supplicant.call("listen", &self.device, P2P, "ExtendedListen", &told).await
    }

    /// Begins the group on the first frequency that is allowed.
    async fn begin(&mut self, wish: &mut Wish) -> Result<(), WifiError> {
        self.board.set(self.radio, State::Starting, "");
        self.rise().await;
        // Where a phone has been let in it has made another group of that, and forgotten this one.
        self.persistent = describe(&self.supplicant, &self.device, self.options).await?;
        let shared = self.frequency_of_station().await;
        self.tries.begin(shared);
        let mut last = None;
        while let Some(frequency) = self.tries.next() {
            let told = said::start(&self.persistent, frequency);
            let asked: Result<(), _> =
                self.supplicant.call("start the group", &self.device, P2P, "GroupAdd", &told).await;
            match asked {
                Ok(()) => {}
                // That frequency is not allowed, or the radio cannot be on it besides the one that it is on.
                Err(error @ WifiError::Failed { .. }) => {
                    log::debug!(radio = self.radio, frequency, error:%; "no group on {frequency} MHz: {error}");
                    last = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            }
            if self.has_begun(frequency, wish).await? {
                return Ok(());
            }
            let cleared = clear(&self.supplicant, self.radio).await?;
            self.ended.extend(cleared);
            last = Some(WifiError::Failed {
                doing: "start the group",
                why: "the driver has ended it at once".into(),
            });
        }
        let pause = self.tries.failed();
        self.not_before = Instant::now() + pause;
        let mut why = match (shared, last) {
            (Some(shared), Some(error)) => format!(
                "the radio is in a network on {shared} MHz, and cannot have a group there or on another frequency ({error}); \
                 use another radio for one of the two, or move the network's access point to {}",
                words(&self.options.channels)
            ),
            (None, Some(error)) => format!(
                "no frequency is allowed ({error}); set the country of the Wi-Fi (`iw reg set`), or choose other channels"
            ),
            (_, None) => "no frequency is configured; choose channels".to_owned(),
        };
        // What wpa_supplicant has of groups has just been ended. NetworkManager takes their interfaces from it.
        if self.ended.is_empty()
            && let Some(left) = radio::groups_on(self.radio).first()
        {
            why.push_str(&format!(
                "; the kernel has {left} of an earlier group, which may be in the way: iw dev {left} del; where NetworkManager \
                 runs, see docs/wifi.md"
            ));
        }
        self.board.set(self.radio, State::Failed, &why);
        Ok(())
    }

    /// Waits for the group; what else is said meanwhile is heard as ever.
    async fn has_begun(&mut self, frequency: Megahertz, wish: &mut Wish) -> Result<bool, WifiError> {
        let until = Instant::now() + START;
        loop {
            match tokio::time::timeout_at(until, self.news.next()).await {
                Ok(Heard::Said(message)) => {
                    // That of the one before may come late.
                    let is_over = match member(&message).as_str() {
                        "GroupFormationFailure" => true,
                        "GroupFinished" => !self.was_ended_here(&message),
                        _ => false,
                    };
                    self.heard(&message, wish).await?;
                    if self.up.is_some() {
                        return Ok(true);
                    }
                    if is_over {
                        return Ok(false);
                    }
                }
                Ok(Heard::Ended) => return Err(WifiError::NoService("it has ended".into())),
                Err(_) => {
                    log::debug!(radio = self.radio, frequency; "no group on {frequency} MHz within {} s", START.as_secs());
                    return Ok(false);
                }
            }
        }
    }

    /// The group is there: what is known of it is told, and whoever may is let in.
    async fn is_up(&mut self) -> Result<(), WifiError> {
        let shared = self.frequency_of_station().await;
        let Some(running) = &self.up else { return Ok(()) };
        let bssid: Vec<u8> =
            self.supplicant.get("ask for the group's address", &running.object, GROUP, "BSSID").await?;
        let frequency = self.frequency(running).await.unwrap_or(0);
        let up = Up {
            interface: running.name.clone(),
            bssid: said::mac(&bssid).unwrap_or_default(),
            frequency,
            address: radio::link_local(&running.name).await,
        };
        let why = match shared {
            Some(shared) if shared != frequency => format!(
                "The radio is on two channels, and half as fast on each: its network is on {shared} MHz"
            ),
            _ => String::new(),
        };
        self.board.up(self.radio, up, &why);
        if let Join::Pin(_) = &self.options.join {
            self.let_in().await;
        }
        Ok(())
    }

    /// Whether the group is where it was.
    async fn look(&mut self) {
        let Some(running) = &self.up else { return };
        if running.since.elapsed() >= LASTING {
            self.tries.lasted();
        }
        // The kernel may have taken long to give it one.
        self.board.has_address(radio::link_local_now(&running.name));
        if let Some(frequency) = self.frequency(running).await {
            self.board.moved(frequency);
        }
    }

    /// Whether a network that the radio is to be in besides is kept out by the group, which gives way then.
    async fn look_beside(&mut self, wish: &mut Wish) -> Result<(), WifiError> {
        let is_joined = self.is_joined().await?;
        match self.beside.look(self.up.is_some(), is_joined).await? {
            Next::Nothing => {}
            Next::GiveWay => {
                log::info!(radio = self.radio; "the Wi-Fi Direct group gives way: the radio is to join a network on another channel; phones can join the group again once it has");
                self.end().await?;
                wish.ended(Instant::now());
                self.board.set(
                    self.radio,
                    State::Starting,
                    "the radio is joining a network on another channel first",
                );
                self.not_before = self.beside.let_in().await?;
            }
            Next::Return => {
                self.not_before = Instant::now();
                // Whoever was on the way to it is not too late.
                self.was_asked = true;
            }
        }
        Ok(())
    }

    async fn frequency(&self, running: &Running) -> Option<Megahertz> {
        let asked =
            self.supplicant.get("ask for the group's frequency", &running.object, GROUP, "Frequency").await;
        asked.ok().filter(|frequency| *frequency > 0)
    }

    /// Whether the radio is in a network.
    async fn is_joined(&self) -> Result<bool, WifiError> {
        let state: String =
            self.supplicant.get("ask for the radio's state", &self.device, INTERFACE, "State").await?;
        Ok(state == "completed")
    }

    /// The frequency of the network that the radio has joined, if it has joined one.
    async fn frequency_of_station(&self) -> Option<Megahertz> {
        if !self.is_joined().await.ok()? {
            return None;
        }
        let bss: OwnedObjectPath =
            self.supplicant.get("ask for the network", &self.device, INTERFACE, "CurrentBSS").await.ok()?;
        let frequency = self.supplicant.get("ask for its frequency", &bss, BSS, "Frequency").await;
        frequency.ok().filter(|frequency| *frequency > 0)
    }

    async fn heard(&mut self, message: &Message, wish: &mut Wish) -> Result<(), WifiError> {
        let now = Instant::now();
        self.beside.heard(message);
        let path = message.header().path().map(|path| path.to_string()).unwrap_or_default();
        let of_group = self.up.as_ref().is_some_and(|up| up.interface.as_str() == path);
        let name = member(message);
        if name == "GroupStarted" && self.started(message).await? {
            // Perhaps begun by somebody else.
            wish.wanted(now);
            if self.rests {
                self.rise().await;
            }
            self.is_up().await?;
        }
        match name.as_str() {
            "GroupFinished" => {
                let finished = group_of(message).and_then(|news| news.interface);
                self.finished(finished.as_ref(), wish, now);
            }
            // It was taken from wpa_supplicant, which says no more of the group.
            "InterfaceRemoved" => {
                let removed = message.body().deserialize::<OwnedObjectPath>().ok();
                self.finished(removed.as_ref(), wish, now);
            }
            name @ ("StaAuthorized" | "StaDeauthorized") if of_group => {
                let Ok(address) = message.body().deserialize::<String>() else { return Ok(()) };
                let is_in = name == "StaAuthorized";
                wish.station(&address, is_in, now);
                log::info!(address = address.as_str(), stations = wish.stations(); "a device has {} the Wi-Fi Direct group", if is_in { "joined" } else { "left" });
                self.board.stations(wish.stations());
                if is_in && matches!(self.options.join, Join::Pin(_)) {
                    // A PIN is good for one.
                    self.let_in().await;
                }
            }
            // Whoever was let in before only wants it to be there.
            name if name.starts_with("ProvisionDiscovery") && name.contains("Request") => {
                wish.wanted(now);
                let is_let_in = match self.options.join {
                    Join::Button => name == "ProvisionDiscoveryPBCRequest",
                    Join::Pin(_) => name == "ProvisionDiscoveryRequestDisplayPin",
                    Join::Closed => false,
                };
                if is_let_in {
                    self.let_in().await;
                }
            }
            // It wants to make a group with this device: there is one in a moment, which it can join.
            "GONegotiationRequest" if self.options.join != Join::Closed => wish.wanted(now),
            // It has been in the group before, and asks for it by itself.
            "InvitationReceived" => wish.wanted(now),
            _ => {}
        }
        Ok(())
    }

    /// Whether it is the group that is kept here, whoever has begun it.
    async fn started(&mut self, message: &Message) -> Result<bool, WifiError> {
        let Some(news) = group_of(message) else { return Ok(false) };
        let (Some(interface), Some(object), true) = (news.interface, news.group, news.is_owner) else {
            return Ok(false);
        };
        let name = match self.supplicant.name(&interface).await {
            Ok(name) if name == self.radio || radio::is_group_on(&name, self.radio) => name,
            Ok(_) => return Ok(false),
            Err(error) => {
                log::warn!("{error}");
                return Ok(false);
            }
        };
        let ssid: Result<Vec<u8>, _> =
            self.supplicant.get("ask for the group's name", &object, GROUP, "SSID").await;
        if ssid.as_deref().ok() != Some(self.options.credentials.ssid.as_bytes()) {
            log::warn!(radio = self.radio, interface = name.as_str(); "another program has begun a Wi-Fi Direct group on this radio; give it another one");
            return Ok(false);
        }
        // The firewall, the addresses and the network managers know groups by interfaces of their own.
        if name == self.radio {
            disconnect(&self.supplicant, &interface).await?;
            return Err(WifiError::NoGroupInterface(self.radio.to_owned()));
        }
        if self.up.is_some() || self.beside.has_way() {
            disconnect(&self.supplicant, &interface).await?;
            self.ended.push(interface);
            return Ok(false);
        }
        let running = Running { interface, name, object, since: Instant::now() };
        // Whoever else begins it knows of no channels.
        if let Some(frequency) =
            self.frequency(&running).await.filter(|one| !self.options.channels.allow(*one))
        {
            log::info!(radio = self.radio, frequency; "the group is begun again: it was begun on {frequency} MHz");
            disconnect(&self.supplicant, &running.interface).await?;
            self.ended.push(running.interface);
            self.was_asked = true;
            return Ok(false);
        }
        self.up = Some(running);
        Ok(true)
    }

    /// The group on this interface is over, and nobody here has ended it.
    fn finished(&mut self, interface: Option<&OwnedObjectPath>, wish: &mut Wish, now: Instant) {
        self.ended.retain(|ended| interface != Some(ended));
        let Some(running) = self.up.take_if(|up| interface == Some(&up.interface)) else { return };
        wish.ended(now);
        if running.since.elapsed() >= LASTING {
            self.tries.lasted();
        }
        self.not_before = now + self.tries.failed();
        self.board.set(self.radio, State::Failed, "the group has ended by itself; it is begun again");
    }

    /// Lets somebody into the group who does not know its passphrase.
    async fn let_in(&self) {
        let Some(running) = &self.up else { return };
        let pin = match &self.options.join {
            Join::Button => None,
            Join::Pin(pin) => Some(pin),
            Join::Closed => return,
        };
        let told = said::let_in(pin);
        let done: Result<Said, _> =
            self.supplicant.call("let a phone in", &running.interface, WPS, "Start", &told).await;
        match done {
            Ok(_) => {
                log::debug!(interface = running.name.as_str(), by_pin = pin.is_some(); "a phone may join")
            }
            Err(error) => log::warn!(error:%; "a phone that asks could not be let in: {error}"),
        }
    }

    /// The radio is gone.
    pub(crate) async fn forget(&self) {
        if let Err(error) = self.supplicant.remove(&self.device).await {
            log::debug!("{error}");
        }
    }

    /// Ends the group, if there is one.
    pub(crate) async fn end(&mut self) -> Result<(), WifiError> {
        let Some(running) = self.up.take() else { return Ok(()) };
        disconnect(&self.supplicant, &running.interface).await?;
        let until = Instant::now() + END;
        loop {
            let message = match tokio::time::timeout_at(until, self.news.next()).await {
                Ok(Heard::Said(message)) => message,
                Ok(Heard::Ended) => return Err(WifiError::NoService("it has ended".into())),
                Err(_) => {
                    self.ended.push(running.interface);
                    break;
                }
            };
            self.beside.heard(&message);
            let finished = group_of(&message).and_then(|news| news.interface);
            let name = member(&message);
            self.was_asked |= name.starts_with("ProvisionDiscovery") || name == "InvitationReceived";
            if name == "GroupFinished" && finished.as_ref() == Some(&running.interface) {
                break;
            }
        }
        log::info!(radio = self.radio; "the Wi-Fi Direct group has ended");
        Ok(())
    }

    /// Leaves the radio as if this had never been: no group, also none that is just beginning, and nobody is told of one.
    pub(crate) async fn withdraw(&mut self) -> Result<(), WifiError> {
        let ended = self.end().await;
        let cleared = clear(&self.supplicant, self.radio).await.map(|_| ());
        let let_in = self.beside.let_all_in().await;
        hush(&self.supplicant, &self.device).await;
        let ssid = &self.options.credentials.ssid;
        let forgotten = forget_ours(&self.supplicant, &self.device, ssid).await.map(|_| ());
        ended.and(cleared).and(let_in).and(forgotten)
    }

    /// Whether a group that was ended here has ended.
    fn was_ended_here(&self, message: &Message) -> bool {
        let finished = group_of(message).and_then(|news| news.interface);
        finished.is_some_and(|interface| self.ended.contains(&interface))
    }
}

/// What a message says of a group.
fn group_of(message: &Message) -> Option<GroupNews> {
    message.body().deserialize::<Said>().ok().map(|said| said::group_news(&said))
}

/// Channels, for people.
fn words(channels: &crate::channel::Channels) -> String {
    use crate::channel::Channels;
    match channels {
        Channels::Auto => "a channel of 2.4 GHz, or 36 to 48".to_owned(),
        Channels::FiveGigahertz => "channel 36, 40, 44 or 48".to_owned(),
        Channels::TwoGigahertz => "channel 1, 6 or 11".to_owned(),
        Channels::These(these) => {
            let numbers: Vec<String> =
                these.iter().filter_map(|one| channel(*one)).map(|one| one.to_string()).collect();
            format!("channel {}", numbers.join(", "))
        }
    }
}
