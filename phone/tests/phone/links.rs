//! The library over links in memory: cut, resumed, and told apart.

use std::time::Duration;

use tempfile::TempDir;
use waypost_link::Link;
use waypost_openpgp::{Compress, SecretKey};
use waypost_phone::{Destination, Ending, Phone, Progress, Role, Sending, Standing, SyncOptions, SyncReport};
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::refusal::Goodbye;
use waypost_protocol::session::Introduction;

use crate::kiosk::{Kiosk, Manners};
use crate::kit::*;

struct Own {
    folder: TempDir,
    phone: Option<Phone>,
    destination: Destination,
}

impl Own {
    fn new(key: &SecretKey) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let phone = Phone::open(folder.path()).unwrap();
        let destination = phone.put_destination(&Destination::from_certificate(key.certificate())).unwrap();
        Own { folder, phone: Some(phone), destination }
    }

    fn phone(&self) -> &Phone {
        self.phone.as_ref().unwrap()
    }

    /// As after a restart.
    fn reopen(&mut self) {
        self.phone = None;
        self.phone = Some(Phone::open(self.folder.path()).unwrap());
    }

    fn add(&self, content: &[u8]) {
        let sending = Sending::to(&self.destination);
        let sealed = self.phone().seal_content(content, Some(b"film"), Compress::Never, &sending).unwrap();
        let (sender, done) = std::sync::mpsc::channel();
        self.phone().store_sealed(sealed, move |outcome| sender.send(outcome).unwrap());
        done.recv().unwrap().unwrap();
    }

    fn states(&self) -> Vec<Standing> {
        self.phone().list(true).unwrap().iter().map(|one| one.state).collect()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_phone_learns_to_recognise_kiosks_and_phones_that_know_it_and_strangers_learn_nothing_of_it() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners { open: true, ..Manners::serving(&key) });
    let (own, other) = (Own::new(&key), Own::new(&key));
    sync(&own, &kiosk, &Introduction::Open, &mut |_| {});
    assert!(own.phone().store().advertising_keys().unwrap().is_empty());
    assert!(kiosk.store().advertising_keys().unwrap().is_empty());

    own.phone().introduce(&kiosk.pairing(), Role::Kiosk).unwrap();
    sync(&own, &kiosk, &Introduction::Code(kiosk.key(), kiosk.secret.clone()), &mut |_| {});
    let invited = other.phone().invite(Vec::new()).unwrap();
    own.phone().introduce(&invited.to_text(), Role::Phone).unwrap();
    let (near, far) = waypost_link::memory_pair(waypost_link::Throttle::default());
    let how = Introduction::Code(invited.gateway, invited.secret);
    block_on(async {
        let (mut quiet, mut still) = (|_: Progress| {}, |_: Progress| {});
        let serve = other.phone().serve_link(far, &mut quiet);
        let sync = own.phone().sync_over(near, &how, SyncOptions::default(), &mut still);
        let (served, synced) = tokio::join!(serve, sync);
        (served.unwrap(), synced.unwrap())
    });
    let known = own.phone().gateways().unwrap();
    let keys: Vec<_> = known.iter().map(|one| (one.role, one.key, one.advertising_key.clone())).collect();
    let of_kiosk = kiosk.identity.advertising_key();
    let learnt = own.phone().store().advertising_keys().unwrap();
    let of_other = learnt.iter().find(|(peer, _)| *peer == other.phone().key()).unwrap().1.clone();
    assert!(keys.contains(&(Role::Kiosk, kiosk.key(), Some(of_kiosk.clone()))), "{keys:?}");
    assert!(keys.contains(&(Role::Phone, other.phone().key(), Some(of_other.clone()))), "{keys:?}");
    let of_own = other.phone().store().advertising_keys().unwrap();
    assert_eq!(of_own.iter().map(|(peer, _)| *peer).collect::<Vec<_>>(), [own.phone().key()]);
    assert_eq!(kiosk.store().advertising_keys().unwrap(), of_own);
    assert!(of_kiosk != of_other && of_own[0].1 != of_other && of_own[0].1 != of_kiosk);
    // Being introduced once more forgets nothing.
    own.phone().introduce(&kiosk.pairing(), Role::Kiosk).unwrap();
    let again = own.phone().gateway_by_key(&kiosk.key()).unwrap().unwrap();
    assert_eq!(again.advertising_key, Some(of_kiosk));
}

#[test]
fn a_phone_tells_nobody_who_it_is_who_does_not_know_it_and_asks_its_kiosk_in_no_weaker_way() {
    let key = destination("Clinic");
    let (own, stranger) = (Own::new(&key), Own::new(&key));
    for (how, is_told) in [(Introduction::Open, false), (Introduction::Known(own.phone().key()), true)] {
        let (near, far) = waypost_link::memory_pair(waypost_link::Throttle::default());
        let (_, report) = block_on(async {
            let (mut quiet, mut still) = (|_: Progress| {}, |_: Progress| {});
            let serve = own.phone().serve_link(far, &mut quiet);
            let ask = stranger.phone().sync_over(near, &how, SyncOptions::default(), &mut still);
            tokio::join!(serve, ask)
        });
        let report = report.unwrap();
        assert_eq!(report.key, is_told.then(|| own.phone().key()), "{report:?}");
        assert_eq!(report.transferred, 0, "neither is served");
    }
    let kiosk = Kiosk::start(Manners::serving(&key));
    own.phone().introduce(&kiosk.pairing(), Role::Kiosk).unwrap();
    for is_paired in [false, true] {
        let ways = own.phone().gateway_by_key(&kiosk.key()).unwrap().unwrap().introductions();
        assert_eq!(ways.len(), if is_paired { 1 } else { 2 });
        assert!(ways.iter().all(|way| !matches!(way, Introduction::Open)), "by its key, whatever it answers");
        sync(&own, &kiosk, &ways[0], &mut |_| {});
    }
}

#[test]
fn a_kiosk_that_is_forgotten_is_not_served_where_it_calls() {
    let key = destination("Clinic");
    // Another phone calls as kiosks do.
    let (own, kiosk) = (Own::new(&key), Own::new(&key));
    let invited = kiosk.phone().invite(Vec::new()).unwrap();
    own.phone().introduce(&invited.to_text(), Role::Kiosk).unwrap();
    let call = || {
        let (near, far) = waypost_link::memory_pair(waypost_link::Throttle::default());
        let (_, report) = block_on(async {
            let (mut quiet, mut still) = (|_: Progress| {}, |_: Progress| {});
            let how = Introduction::Known(own.phone().key());
            let serve = own.phone().serve_kiosk(far, &mut quiet);
            let call = kiosk.phone().sync_over(near, &how, SyncOptions::default(), &mut still);
            tokio::join!(serve, call)
        });
        report.unwrap()
    };
    assert_ne!(call().ending, Ending::TurnedAway);
    own.phone().forget_gateway(&kiosk.phone().key()).unwrap();
    let report = call();
    assert_eq!(
        (&report.ending, report.goodbye),
        (&Ending::TurnedAway, Some(Goodbye::NotPaired)),
        "{report:?}"
    );
    assert!(own.phone().store().advertising_keys().unwrap().is_empty());
}

fn sync(own: &Own, kiosk: &Kiosk, how: &Introduction, on: &mut dyn FnMut(Progress)) -> SyncReport {
    sync_over(own, kiosk.link(), how, on)
}

fn sync_over(own: &Own, link: Link, how: &Introduction, on: &mut dyn FnMut(Progress)) -> SyncReport {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(own.phone().sync_over(link, how, SyncOptions::default(), on)).unwrap()
}

#[test]
fn a_link_that_is_cut_within_a_large_document_goes_on_where_it_was_also_after_a_restart() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners::serving(&key));
    let mut own = Own::new(&key);
    let content = noise(20_000_000);
    own.add(&content);
    own.phone().introduce(&kiosk.pairing(), Role::Kiosk).unwrap();
    let code = Introduction::Code(kiosk.key(), kiosk.secret.clone());
    let report = sync_over(&own, kiosk.link_that_breaks(10_000_000), &code, &mut |_| {});
    assert_eq!(report.ending, Ending::LinkLost, "{report:?}");
    own.reopen();
    assert_eq!(own.states(), [Standing::Ready]);
    let report = sync(&own, &kiosk, &Introduction::Known(kiosk.key()), &mut |_| {});
    assert_eq!((&report.ending, report.transferred), (&Ending::Finished, 1), "{report:?}");
    // What was on its way is sent again, at most.
    assert!(report.bytes_out < 11_500_000, "{} bytes for the second half", report.bytes_out);
    let ids = kiosk.documents();
    assert!(kiosk.open(&ids[0], &key).1 == content);
    assert_eq!(own.states(), [Standing::AtTheKiosk]);
    kiosk.confirm(&key, &ids, Verdict::Opened);
    let report = sync(&own, &kiosk, &Introduction::Known(kiosk.key()), &mut |_| {});
    assert_eq!((report.opened, own.states()), (1, vec![Standing::AtTheServer]));
}

#[test]
fn a_lost_link_is_not_an_end_and_what_was_acknowledged_counts() {
    let key = destination("Clinic");
    let mut kiosk = Kiosk::start(Manners { open: true, ..Manners::serving(&key) });
    let own = Own::new(&key);
    own.add(b"small");
    own.add(&noise(8_000_000));
    let mut seen = Vec::new();
    let kiosk_ended = std::cell::Cell::new(false);
    let report = {
        let link = kiosk.link();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut progress = |event: Progress| {
            if matches!(event, Progress::Progress { .. }) && !kiosk_ended.replace(true) {
                kiosk.stop();
            }
            seen.push(event);
        };
        let contact = own.phone().sync_over(link, &Introduction::Open, SyncOptions::default(), &mut progress);
        runtime.block_on(contact).unwrap()
    };
    assert_eq!(report.ending, Ending::LinkLost, "{report:?}");
    assert_eq!(own.states()[1], Standing::Ready);
    let acknowledged = seen.iter().filter(|event| matches!(event, Progress::AtKiosk { .. })).count();
    assert_eq!(own.states().iter().filter(|state| **state == Standing::AtTheKiosk).count(), acknowledged);
    assert_eq!(report.transferred, acknowledged as u64);
}

#[test]
fn nothing_new_finished_and_a_silent_peer_are_three_things() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners { open: true, ..Manners::serving(&key) });
    let own = Own::new(&key);
    let known = Introduction::Known(kiosk.key());
    assert_eq!(sync(&own, &kiosk, &known, &mut |_| {}).ending, Ending::NothingNew);
    own.add(b"form");
    assert_eq!(sync(&own, &kiosk, &known, &mut |_| {}).ending, Ending::Finished);
    let (near, _silent) = waypost_link::memory_pair(waypost_link::Throttle::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = SyncOptions { timeout: Some(Duration::from_millis(300)), ..SyncOptions::default() };
    let report = runtime.block_on(own.phone().sync_over(near, &known, options, &mut |_| {})).unwrap();
    assert_eq!(report.ending, Ending::LinkLost, "{report:?}");
    assert!(report.key.is_none());
}
