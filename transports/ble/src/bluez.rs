//! Talking to BlueZ: calls that may hang get a time limit, and errors are sorted by what follows from them.

use std::future::Future;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use bluer::{ErrorKind, InternalErrorKind, Session};

/// Longer than the kernel waits for a controller's answer to a few commands, each 2 s.
pub(crate) const CALL: Duration = Duration::from_secs(10);

/// Why something could not be done over Bluetooth.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BleError {
    /// Nothing answers on the system's message bus.
    #[error(
        "the Bluetooth service does not run ({0}); install bluez, and start it: systemctl start bluetooth"
    )]
    NoService(String),
    /// No adapter fits.
    #[error("no Bluetooth adapter {0} is there; plug one in, or name another")]
    NoAdapter(String),
    /// The bus lets this user not speak to the service.
    #[error(
        "the message bus does not let this user use the Bluetooth service; on Debian: adduser USER bluetooth, and log in again"
    )]
    Denied,
    /// The adapter is switched off.
    #[error("the Bluetooth adapter {0} is switched off; switch it on: bluetoothctl power on")]
    Off(String),
    /// Switched off by rfkill or a hardware switch.
    #[error("the Bluetooth adapter {0} is blocked; unblock it: rfkill unblock bluetooth")]
    Blocked(String),
    /// The adapter does not answer: what was to be done.
    #[error("it does not answer (tried to {0})")]
    Hung(&'static str),
    /// The peer could not be reached.
    #[error("it does not answer over Bluetooth ({0}); go nearer")]
    Unreachable(String),
    /// The peer is no Waypost, or a newer one.
    #[error("it cannot be used over Bluetooth: {0}")]
    Unusable(String),
    /// The one GATT link of the peer is taken.
    #[error("another phone has its GATT link; try again in a moment")]
    GattTaken,
    /// Anything else.
    #[error("Bluetooth: {doing}: {why}")]
    Failed {
        /// What was to be done.
        doing: &'static str,
        /// BlueZ's or the kernel's reason.
        why: String,
    },
}

/// Makes a call that ends.
pub(crate) async fn call<T>(
    doing: &'static str,
    call: impl Future<Output = bluer::Result<T>>,
) -> Result<T, BleError> {
    within(CALL, doing, call).await
}

/// A connection to the service.
pub(crate) async fn session() -> Result<Session, BleError> {
    call("reach the Bluetooth service", Session::new()).await.map_err(|error| match error {
        BleError::Failed { why, .. } => BleError::NoService(why),
        other => other,
    })
}

/// Makes a call that ends within `limit`.
pub(crate) async fn within<T>(
    limit: Duration,
    doing: &'static str,
    call: impl Future<Output = bluer::Result<T>>,
) -> Result<T, BleError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(sort(doing, &error)),
        Err(_) => Err(BleError::Hung(doing)),
    }
}

fn sort(doing: &'static str, error: &bluer::Error) -> BleError {
    let why = if error.message.is_empty() { error.kind.to_string() } else { error.to_string() };
    match &error.kind {
        ErrorKind::Internal(InternalErrorKind::DBusConnectionLost | InternalErrorKind::Io(_)) => {
            BleError::NoService(why)
        }
        ErrorKind::Internal(InternalErrorKind::DBus(name)) if is_service(name) => BleError::NoService(why),
        _ if is_service(&why) => BleError::NoService(why),
        ErrorKind::Internal(InternalErrorKind::DBus(name)) if name.contains("AccessDenied") => {
            BleError::Denied
        }
        ErrorKind::NotFound | ErrorKind::DoesNotExist => BleError::NoAdapter(why),
        ErrorKind::NotReady => BleError::Off(String::new()),
        ErrorKind::ConnectionAttemptFailed | ErrorKind::ServicesUnresolved => BleError::Unreachable(why),
        _ => BleError::Failed { doing, why },
    }
}

/// Whether an error of the message bus says that nobody answers there.
fn is_service(text: &str) -> bool {
    ["ServiceUnknown", "NameHasNoOwner", "NoReply", "Disconnected", "FileNotFound", "NoServer", "Spawn."]
        .iter()
        .any(|name| text.contains(name))
}

/// Whether an adapter (`hci0`) is blocked by rfkill. A file system that cannot be read says no.
pub(crate) fn is_blocked(adapter: &str) -> bool {
    let is_set = |kind: &str| {
        let switch = rfkill(adapter).map(|(folder, _)| folder.join(kind));
        switch.and_then(|file| std::fs::read_to_string(file).ok()).is_some_and(|value| value.trim() == "1")
    };
    is_set("soft") || is_set("hard")
}

/// The folder and the number of an adapter's switch.
fn rfkill(adapter: &str) -> Option<(PathBuf, u32)> {
    let entries = std::fs::read_dir(format!("/sys/class/bluetooth/{adapter}")).ok()?;
    entries.flatten().find_map(|entry| {
        let number = entry.file_name().to_str()?.strip_prefix("rfkill")?.parse().ok()?;
        Some((entry.path(), number))
    })
}

/// Blocks or unblocks one adapter by its switch, which works also where the adapter answers nothing: the kernel resets
/// it. Needs write access to `/dev/rfkill`.
pub(crate) fn set_blocked(adapter: &str, blocked: bool) -> std::io::Result<()> {
    const BLUETOOTH: u8 = 2;
    const CHANGE: u8 = 2;
    let (_, number) = rfkill(adapter).ok_or(std::io::ErrorKind::NotFound)?;
    // struct rfkill_event of linux/rfkill.h: number, type, operation, soft, hard.
    let [a, b, c, d] = number.to_ne_bytes();
    let event = [a, b, c, d, BLUETOOTH, CHANGE, u8::from(blocked), 0];
    std::fs::OpenOptions::new().write(true).open("/dev/rfkill")?.write_all(&event)
}
