//! Whether the kernel's clock follows a time server, as systemd tells over D-Bus. The kernel itself is not asked: the call that
//! tells can set the clock as well, which this program may not.

use std::time::Duration;

use dbus::nonblock::Proxy;
use dbus::nonblock::stdintf::org_freedesktop_dbus::Properties as _;

use super::time::TrustedTime;

/// How long after the start it is asked again; then after twice as long each time, up to [`LONGEST`]: systemd-timedated is started
/// for each question.
const FIRST: Duration = Duration::from_secs(150);
const LONGEST: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(20);
const SERVICE: &str = "org.freedesktop.timedate1";

/// Asks now and then, for as long as it is polled, until it is so; then it waits for ever.
pub(super) async fn watch(time: TrustedTime) {
    let mut wait = FIRST;
    while !time.has_followed_server() {
        match is_synchronized().await {
            Ok(true) => {
                time.follows_server();
                break;
            }
            Ok(false) => {}
            Err(error) => {
                log::debug!(error:%; "whether the clock follows a time server cannot be told: {error}");
            }
        }
        tokio::time::sleep(wait).await;
        wait = LONGEST.min(wait * 2);
    }
    std::future::pending().await
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
