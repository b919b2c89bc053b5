//! A kiosk's group: begun, kept up, brought back when it is lost, and ended.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::bonjour::Service;
use crate::channel::Channels;
use crate::credentials::{Credentials, Pin};
use crate::error::WifiError;
use crate::group::Group;
use crate::left::{end_left, forget_radio};
use crate::radio;
use crate::status::{Board, GroupStatus, State};
use crate::wish::{Mode, Wish};

/// How often it is looked for a radio, or for wpa_supplicant, that is not there.
const LOOK: Duration = Duration::from_secs(5);
/// The first pause after something has failed; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often a radio is tried that cannot do it: its driver may be another one by then.
const RARELY: Duration = Duration::from_secs(600);
/// One that was well for so long begins with short pauses again.
const LASTING: Duration = Duration::from_secs(30);
/// How long the group may take to end.
const END: Duration = Duration::from_secs(5);

/// How phones that know no passphrase come into the group.
#[derive(Clone, PartialEq, Eq)]
pub enum Join {
    /// Whoever asks by button is let in.
    Button,
    /// Whoever types this PIN is let in.
    Pin(Pin),
    /// Nobody is.
    Closed,
}

/// How a group is to be.
#[derive(Clone)]
pub struct Options {
    /// The radio's interface, such as `wlan0`; `None` for the first that there is.
    pub radio: Option<String>,
    /// The D-Bus address of the bus that wpa_supplicant is on; `None` for the system's.
    pub bus: Option<String>,
    /// When it is there.
    pub mode: Mode,
    /// Its name and passphrase.
    pub credentials: Credentials,
    /// What phones show before they have joined, up to 32 bytes.
    pub device_name: String,
    /// Where it may be.
    pub channels: Channels,
    /// How phones come in that do not know it.
    pub join: Join,
    /// On demand: how long it stays up that nobody is in.
    pub idle: Duration,
    /// What is said of it to those who ask by Wi-Fi Direct's service discovery.
    pub service: Service,
}

/// What the task is asked.
pub(crate) enum Ask {
    Want,
}

/// A group that is attended for as long as this lives.
pub struct GroupOwner {
    asks: mpsc::Sender<Ask>,
    status: watch::Receiver<GroupStatus>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl GroupOwner {
    /// Begins to attend it.
    pub fn start(options: Options) -> Self {
        let (asks, asked) = mpsc::channel(1);
        let status = GroupStatus {
            radio: options.radio.clone().unwrap_or_default(),
            state: State::Starting,
            why: String::new(),
            ssid: options.credentials.ssid.to_string(),
            group: None,
            stations: 0,
        };
        let (said, status) = watch::channel(status);
        let stop = CancellationToken::new();
        let attending = attend(options, Board(said), asked, stop.clone());
        GroupOwner { asks, status, stop, task: AbortOnDropHandle::new(tokio::spawn(attending)) }
    }

    /// Somebody is about to come: on demand, the group begins.
    pub fn want(&self) {
        // One that waits to be read says the same.
        let _ = self.asks.try_send(Ask::Want);
    }

    /// How it is.
    pub fn status(&self) -> GroupStatus {
        self.status.borrow().clone()
    }

    /// A view of how it is, to wait for changes.
    pub fn watch(&self) -> watch::Receiver<GroupStatus> {
        self.status.clone()
    }

    /// Ends the group, and waits until it has ended.
    pub async fn stop(self) {
        self.stop.cancel();
        if tokio::time::timeout(END, self.task).await.is_err() {
            log::warn!("the Wi-Fi Direct group could not be ended in time; the next start ends it");
        }
    }
}

async fn attend(options: Options, board: Board, mut asks: mpsc::Receiver<Ask>, stop: CancellationToken) {
    let mut wish = Wish::new(options.mode, options.idle);
    let mut pause = PAUSE;
    // It may have had another radio in an earlier life.
    let (bus, ssid) = (options.bus.as_deref(), &options.credentials.ssid);
    if let Some(radio) = options.radio.clone().or_else(|| radio::find(None).ok()) {
        tokio::select! {
            () = stop.cancelled() => return,
            ended = end_left(bus, ssid, Some(&radio)) => ended.unwrap_or_else(|error| log::debug!("{error}")),
        }
    }
    loop {
        let begun = Instant::now();
        let ended = match radio::find(options.radio.as_deref()) {
            Ok(radio) => {
                let ended = once(&radio, &options, &board, &mut wish, &mut asks, &stop).await;
                wish.ended(Instant::now());
                ended.map_err(|error| (radio, error))
            }
            Err(error) => Err((options.radio.clone().unwrap_or_default(), error)),
        };
        let Err((radio, error)) = ended else { return };
        let (state, wait) = match &error {
            WifiError::NoRadio(_) | WifiError::NoService(_) => (State::Missing, LOOK),
            WifiError::Blocked(_) => (State::Blocked, LOOK),
            WifiError::Unsupported(_) | WifiError::NoGroupInterface(_) => (State::Unsupported, RARELY),
            _ => {
                let lasted = begun.elapsed() >= LASTING;
                let wait = if lasted { PAUSE } else { pause };
                pause = (wait * 2).min(LONGEST_PAUSE);
                (State::Failed, wait)
            }
        };
        board.set(&radio, state, &error.to_string());
        let is_left = matches!(error, WifiError::Hung(_));
        let until = Instant::now() + wait;
        let was = radio::number(&radio);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until.min(Instant::now() + LOOK)) => {
                    if radio::number(&radio) != was {
                        // Another radio may be able to do what this one is not; what wpa_supplicant knows of this one is of no use.
                        if was.is_some() {
                            forget_radio(options.bus.as_deref(), &radio).await;
                        }
                        break;
                    }
                    if until <= Instant::now() {
                        break;
                    }
                }
                () = stop.cancelled() => {
                    // What was not answered may have been done all the same.
                    if is_left && let Ok(mut group) = Group::prepare(&radio, &options, &board).await {
                        let _ = group.withdraw().await;
                    }
                    return;
                }
                Some(Ask::Want) = asks.recv() => wish.wanted(Instant::now()),
            }
        }
    }
}

/// One life of wpa_supplicant and the radio. `Ok`: this was told to end.
async fn once(
    radio: &str,
    options: &Options,
    board: &Board,
    wish: &mut Wish,
    asks: &mut mpsc::Receiver<Ask>,
    stop: &CancellationToken,
) -> Result<(), WifiError> {
    radio::check(radio)?;
    board.set(radio, State::Starting, "");
    let mut group = Group::prepare(radio, options, board).await?;
    // Whatever it is at, also in the middle of beginning a group: what there is of it then is ended.
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        ended = group.attend(wish, asks) => ended.err(),
    };
    let Some(error) = ended else { return group.withdraw().await };
    // What is wrong with the radio says more than what could not be done with it.
    let error = radio::check(radio).err().unwrap_or(error);
    match error {
        WifiError::NoService(_) => {}
        // What wpa_supplicant knows of it is of no use when it comes back.
        WifiError::NoRadio(_) => group.forget().await,
        // Each question would take its whole time.
        WifiError::Hung(_) => {}
        // Nothing is left of the group where it still can be ended.
        _ => {
            let _ = group.withdraw().await;
        }
    }
    Err(error)
}
