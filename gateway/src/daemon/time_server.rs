//! Whether the kernel's clock follows a time server, as systemd tells over D-Bus. The kernel itself is not asked: the call that
//! tells can set the clock as well, which this program may not.

use std::time::Duration;

use dbus::nonblock::Proxy;
use dbus::nonblock::stdintf::org_freedesktop_dbus::Properties as _;

use super::time::TrustedTime;

/// systemd-timedated is started for each question, and ends after half a minute.
const EVERY: Duration = Duration::from_secs(300);
const PATIENCE: Duration = Duration::from_secs(20);
const SERVICE: &str = "org.freedesktop.timedate1";

/// Asks now and then, for as long as it is polled. Where nobody answers the clock counts as not following any.
pub(super) async fn watch(time: TrustedTime) {
    loop {
        match is_synchronized().await {
            Ok(is_synchronized) => time.follows_server(is_synchronized),
            Err(error) => {
                log::debug!(error:%; "whether the clock follows a time server cannot be told: {error}");
                time.follows_server(false);
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// `NTPSynchronized` of org.freedesktop.timedate1(5).
async fn is_synchronized() -> Result<bool, dbus::Error> {
    let (resource, connection) = dbus_tokio::connection::new_system_sync()?;
    let reading = tokio::spawn(resource);
    let path = "/org/freedesktop/timedate1";
    let answer = Proxy::new(SERVICE, path, PATIENCE, connection).get(SERVICE, "NTPSynchronized").await;
    reading.abort();
    answer
}
