//! Networks that this program has joined and has to leave again, and looks that it has to end: also where it is stopped in the
//! middle, or was killed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use zbus::zvariant::{ObjectPath, OwnedObjectPath};

use crate::error::WifiError;
use crate::radio;
use crate::said;
use crate::supplicant::{INTERFACE, P2P, Supplicant};

/// What this program has joined or begun, and not undone.
static JOINED: Mutex<Vec<Entry>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Something that has to be undone, once this is dropped or told to.
pub(crate) struct Membership(u64);

#[derive(Clone)]
struct Entry {
    number: u64,
    /// Whoever joined it has gone away without leaving.
    is_dropped: bool,
    bus: Option<String>,
    radio: String,
    end: End,
}

/// What has to be undone.
#[derive(Clone)]
pub(crate) enum End {
    /// A group that is joined as its client. Interfaces that there were before are others' concern.
    Group { device: OwnedObjectPath, before: Vec<OwnedObjectPath> },
    /// A network of the radio, which was in others before.
    Network { device: OwnedObjectPath, network: OwnedObjectPath, before: Vec<OwnedObjectPath> },
    /// A look for devices, which asks those that it finds for their services.
    Look { device: OwnedObjectPath, query: u64 },
}

fn joined() -> MutexGuard<'static, Vec<Entry>> {
    JOINED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Membership {
    pub(crate) fn new(supplicant: &Supplicant, end: End) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (bus, radio) = (supplicant.address().map(str::to_owned), supplicant.radio().to_owned());
        joined().push(Entry { number, is_dropped: false, bus, radio, end });
        Membership(number)
    }

    /// Leaves it, or ends it.
    pub(crate) async fn leave(self) {
        leave(|entry| entry.number == self.0).await;
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        joined().iter_mut().filter(|entry| entry.number == self.0).for_each(|entry| entry.is_dropped = true);
    }
}

/// Leaves every network that somebody in this program has joined and dropped, as where joining was given up in the middle; ends
/// such looks.
pub async fn leave_dropped() {
    leave(|entry| entry.is_dropped).await;
}

/// Leaves every network that this program has joined, and ends its looks: it is about to end.
pub async fn leave_all() {
    leave(|_| true).await;
}

async fn leave(which: impl Fn(&Entry) -> bool) {
    let entries: Vec<Entry> = joined().iter().filter(|entry| which(entry)).cloned().collect();
    for Entry { number, bus, radio, end, .. } in entries {
        // A connection lives no longer than what it was made in, which may have ended by now.
        let done = match Supplicant::connect(bus.as_deref(), &radio).await {
            Ok(supplicant) => undo(&supplicant, &end).await,
            Err(error) => Err(error),
        };
        // Only now: whoever is stopped in the middle of it is followed by somebody who does it again.
        match done {
            // Whoever opens the radio next tries again.
            Err(error @ WifiError::Hung(_)) => {
                log::warn!("the radio could not be given back yet: {error}");
                joined()
                    .iter_mut()
                    .filter(|entry| entry.number == number)
                    .for_each(|entry| entry.is_dropped = true);
            }
            done => {
                if let Err(error) = done {
                    log::debug!("{error}");
                }
                joined().retain(|entry| entry.number != number);
            }
        }
    }
}

async fn undo(supplicant: &Supplicant, end: &End) -> Result<(), WifiError> {
    match end {
        End::Group { device, before } => leave_group(supplicant, device, before).await,
        End::Network { device, network, before } => leave_network(supplicant, device, network, before).await,
        End::Look { device, query } => end_look(supplicant, device, *query).await,
    }
}

async fn end_look(supplicant: &Supplicant, device: &ObjectPath<'_>, query: u64) -> Result<(), WifiError> {
    let ended: Result<(), _> = supplicant.call("end looking", device, P2P, "StopFind", &()).await;
    let () = supplicant
        .call("ask for services no more", device, P2P, "ServiceDiscoveryCancelRequest", &query)
        .await?;
    ended
}

async fn leave_group(
    supplicant: &Supplicant,
    device: &ObjectPath<'_>,
    before: &[OwnedObjectPath],
) -> Result<(), WifiError> {
    let given_up: Result<(), _> = supplicant.call("give up joining", device, P2P, "Cancel", &()).await;
    if let Err(error) = given_up {
        log::debug!("{error}");
    }
    // Where the driver has no interface of its own for a group.
    let role: Result<String, _> = supplicant.get("ask for the radio's part in it", device, P2P, "Role").await;
    if role.is_ok_and(|role| role == "client") {
        let () = supplicant.call("leave the group", device, P2P, "Disconnect", &()).await?;
    }
    for interface in supplicant.interfaces().await? {
        if before.contains(&interface) {
            continue;
        }
        let Ok(name) = supplicant.name(&interface).await else { continue };
        if radio::is_group_on(&name, supplicant.radio()) {
            let () = supplicant.call("leave the group", &interface, P2P, "Disconnect", &()).await?;
        }
    }
    Ok(())
}

async fn leave_network(
    supplicant: &Supplicant,
    device: &ObjectPath<'_>,
    network: &ObjectPath<'_>,
    before: &[OwnedObjectPath],
) -> Result<(), WifiError> {
    for network in before {
        if let Err(error) = supplicant.enable(network).await {
            log::warn!("a network that the radio was in is not used any more: {error}");
        }
    }
    // Last: where this is cut short the mark is still there.
    supplicant.call("leave the network", device, INTERFACE, "RemoveNetwork", network).await
}

/// What a network is marked with that this program joins: by whom, and which the radio was in before, as wpa_supplicant numbers
/// them. Where this program is killed the next one finds it there.
pub(crate) fn mark(before: &[OwnedObjectPath]) -> String {
    let process = std::process::id().cast_signed();
    let mut mark = format!("waypost {process} {}", begun_at(process).unwrap_or_default());
    for number in before.iter().filter_map(|path| path.as_str().rsplit('/').next()) {
        mark.push(' ');
        mark.push_str(number);
    }
    mark
}

/// When a process has begun, in ticks since the machine started (`proc_pid_stat(5)`, field 22); `None` where there is none.
fn begun_at(process: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is a name with whatever is in it, in parentheses.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The process that has marked a network, when it has begun, and what the radio was in before.
fn read_mark(mark: &str, device: &str) -> Option<(i32, u64, Vec<OwnedObjectPath>)> {
    let mut words = mark.trim_matches('"').strip_prefix("waypost ")?.split(' ');
    let process = words.next()?.parse().ok().filter(|process| *process > 0)?;
    let begun = words.next()?.parse().ok()?;
    let path = |number: &str| OwnedObjectPath::try_from(format!("{device}/Networks/{number}")).ok();
    let is_number = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    Some((process, begun, words.filter(is_number).filter_map(path).collect()))
}

/// Leaves what a process has joined that was killed before it could.
pub(crate) async fn leave_left(supplicant: &Supplicant, device: &OwnedObjectPath) -> Result<(), WifiError> {
    for network in supplicant.networks(device).await? {
        let Ok(said) = supplicant.network(&network).await else { continue };
        let mark = said::text(&said, "id_str").unwrap_or_default();
        let Some((process, begun, before)) = read_mark(&mark, device.as_str()) else { continue };
        if begun_at(process) != Some(begun) {
            log::info!("the radio is taken out of a network that a process which is gone has joined");
            undo(supplicant, &End::Network { device: device.clone(), network, before }).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_who_has_joined_and_what_the_radio_was_in() {
        let device = "/fi/w1/wpa_supplicant1/Interfaces/3";
        let path = |number| OwnedObjectPath::try_from(format!("{device}/Networks/{number}")).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        for before in [vec![], vec![path(0)], vec![path(4), path(17)]] {
            let quoted = format!("\"{}\"", mark(&before));
            let begun = begun_at(own).unwrap();
            assert!(begun > 0);
            assert_eq!(read_mark(&quoted, device), Some((own, begun, before)));
        }
        for other in
            ["", "home", "waypost", "waypost x 1", "waypost -1 1", "waypost 0 1", "waypost 5", "xwaypost 5 1"]
        {
            assert_eq!(read_mark(other, device), None, "{other}");
        }
        assert_eq!(read_mark("waypost 5 7 ../1  2", device), Some((5, 7, vec![path(2)])));
    }
}
