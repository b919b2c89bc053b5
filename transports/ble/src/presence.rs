//! Whether the Bluetooth service is still the one it was. One that is killed says nothing, and the next one knows neither
//! what was advertised nor the GATT service, though it answers; bluer does not tell, so the message bus is asked.

use dbus::message::MatchRule;
use dbus::nonblock::MsgMatch;
use dbus_tokio::connection::IOResourceError;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio_util::task::AbortOnDropHandle;

use crate::bluez::{BleError, CALL};

const BUS: &str = "org.freedesktop.DBus";
const SERVICE: &str = "org.bluez";

/// A watch over the service's name on the bus.
pub(crate) struct Presence {
    /// A name, its owner before, its owner now: empty for none (`NameOwnerChanged` of the D-Bus specification).
    changes: BoxStream<'static, (String, String, String)>,
    bus: AbortOnDropHandle<IOResourceError>,
    _signals: MsgMatch,
}

impl Presence {
    /// Begins to watch.
    pub(crate) async fn watch() -> Result<Self, BleError> {
        let no_bus = |error: dbus::Error| BleError::NoService(error.to_string());
        let (resource, connection) = dbus_tokio::connection::new_system_sync().map_err(no_bus)?;
        let bus = AbortOnDropHandle::new(tokio::spawn(resource));
        let rule = MatchRule::new_signal(BUS, "NameOwnerChanged").with_sender(BUS);
        let signals = tokio::time::timeout(CALL, connection.add_match(rule))
            .await
            .map_err(|_| BleError::Hung("watch the message bus"))?
            .map_err(no_bus)?;
        let (signals, changes) = signals.stream();
        let changes = changes.map(|(_, change)| change).boxed();
        Ok(Presence { changes, bus, _signals: signals })
    }

    /// Waits until the service has ended that runs now, or the bus.
    pub(crate) async fn ended(&mut self) {
        let ended = async {
            while let Some((name, before, _)) = self.changes.next().await {
                if name == SERVICE && !before.is_empty() {
                    return;
                }
            }
        };
        tokio::select! {
            () = ended => {}
            _ = &mut self.bus => {}
        }
    }
}
