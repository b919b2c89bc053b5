//! More phones than a radio has room for: real phones and a real kiosk, over links as slow as Bluetooth's.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use waypost_link::Medium;
use waypost_node::{MediumLimits, TurnLength};
use waypost_openpgp::{Compress, SecretKey};
use waypost_phone::{Destination, Ending, Phone, Sending, Standing, SyncOptions};
use waypost_protocol::session::Introduction;
use waypost_store::{Change, PeerClass};

use crate::kiosk::{Kiosk, Manners};
use crate::kit::*;

const PHONES: usize = 10;
const SLOTS: usize = 7;
/// Bytes that each phone brings: three documents, of which the first is most of it.
const SIZE: usize = 1_000_000;
/// Bytes per second of each link.
const RATE: usize = 100_000;

/// Turns a seventh as long as usual, for documents that are a fifth of what they may be.
fn short_turns(links: usize) -> MediumLimits {
    let turn = TurnLength { time: Duration::from_secs(3), bytes: 100_000, hold: Duration::from_secs(1) };
    MediumLimits { links, half_open: 3, turn }
}

struct Own {
    _folder: TempDir,
    phone: Phone,
}

impl Own {
    fn with_documents(key: &SecretKey, number: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let phone = Phone::open(folder.path()).unwrap();
        let destination = phone.put_destination(&Destination::from_certificate(key.certificate())).unwrap();
        for size in [SIZE - 100_000 - number, 90_000 + number, 10_000 + number] {
            let sending = Sending::to(&destination);
            let content = noise(size);
            let sealed = phone.seal_content(&content[..], Some(b"film"), Compress::Never, &sending).unwrap();
            let (sender, done) = std::sync::mpsc::channel();
            phone.store_sealed(sealed, move |outcome| sender.send(outcome).unwrap());
            done.recv().unwrap().unwrap();
        }
        Own { _folder: folder, phone }
    }
}

/// What became of a phone.
struct Outcome {
    done: f64,
    bytes_out: u64,
    places: Vec<u32>,
    contacts: usize,
}

/// Comes as often as it is told to, until everything is at the kiosk.
async fn deliver(own: &Own, kiosk: &Kiosk, number: usize, medium: Medium, began: Instant) -> Outcome {
    let mut outcome = Outcome { done: 0.0, bytes_out: 0, places: Vec::new(), contacts: 0 };
    let how = Introduction::Known(kiosk.key());
    loop {
        let link = kiosk.slow_link(medium, &format!("phone {number}"), RATE);
        let report = own.phone.sync_over(link, &how, SyncOptions::default(), &mut |_| {}).await.unwrap();
        outcome.contacts += 1;
        outcome.bytes_out += report.bytes_out;
        if report.ending.is_whole() {
            outcome.done = began.elapsed().as_secs_f64();
            return outcome;
        }
        assert_eq!(report.ending, Ending::TurnedAway, "phone {number}: {report:?}");
        outcome.places.push(report.place.unwrap_or_else(|| panic!("phone {number}: {report:?}")));
        tokio::time::sleep(report.comes_again().unwrap()).await;
    }
}

#[test]
fn ten_phones_on_seven_links_are_done_within_twice_their_fair_share_and_send_nothing_twice() {
    // Both kinds of links of one adapter count together.
    share_out("fair_turns", 1, |number| match number.is_multiple_of(2) {
        true => Medium::BleL2cap,
        false => Medium::BleGatt,
    });
}

#[test]
fn phones_on_wifi_and_bluetooth_together_each_have_their_fair_share_of_their_radio() {
    share_out("fair_turns_on_two_radios", 2, |number| match number.is_multiple_of(2) {
        true => Medium::BleL2cap,
        false => Medium::WifiDirect,
    });
}

/// Ten phones on each of so many radios, of seven links each.
#[allow(clippy::print_stdout, reason = "figures for whoever runs it")]
fn share_out(figure: &str, radios: usize, medium: impl Fn(usize) -> Medium) {
    // What one of them does is measured: not both at once.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let key = destination("Clinic");
    let manners = Manners { open: true, links: short_turns(SLOTS), ..Manners::serving(&key) };
    let kiosk = Kiosk::start(manners);
    let phones: Vec<Own> = (0..PHONES * radios).map(|number| Own::with_documents(&key, number)).collect();
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all =
        phones.iter().enumerate().map(|(number, own)| deliver(own, &kiosk, number, medium(number), began));
    let outcomes = runtime.block_on(futures_util::future::join_all(all));

    // All of the work, divided by the slots: what each would take if they were shared out equally at every moment.
    let share = (PHONES * SIZE) as f64 / RATE as f64 / SLOTS as f64;
    for (number, one) in outcomes.iter().enumerate() {
        println!(
            "phone {number}: done after {:.1} s of {share:.1} s fair share, {} contacts, places {:?}, {} bytes out",
            one.done, one.contacts, one.places, one.bytes_out
        );
        assert!(one.done <= 2.0 * share, "phone {number}: {:.1} s, fair is {share:.1} s", one.done);
        assert!(one.places.iter().all(|place| (1..=3).contains(place)), "{:?}", one.places);
        // Handshakes, offers and reports; nothing twice of what was on its way when a turn was over.
        let most = SIZE as u64 + 15_000;
        assert!(one.bytes_out < most, "phone {number} sent {} bytes", one.bytes_out);
    }
    let worst = outcomes.iter().map(|one| one.done).fold(0.0, f64::max) / share;
    println!("{{\"figure\": \"{figure}\", \"value\": {worst:.2}, \"unit\": \"fair shares\", \"target\": 2}}");
    assert_eq!(kiosk.documents().len(), 3 * phones.len());
    for own in &phones {
        assert!(own.phone.list(true).unwrap().iter().all(|one| one.state == Standing::AtTheKiosk));
    }
    assert!(outcomes.iter().any(|one| !one.places.is_empty()), "nobody had to wait");
}

#[test]
fn sync_stays_in_line_says_so_and_delivers_when_its_turn_comes() {
    let key = destination("Clinic");
    let turn = TurnLength { time: Duration::from_secs(4), bytes: 0, hold: Duration::from_secs(2) };
    let links = MediumLimits { links: 1, half_open: 3, turn };
    let kiosk = Kiosk::start(Manners { open: true, links, ..Manners::serving(&key) });
    let (first, second) = (Own::with_documents(&key, 0), Cli::new());
    second.add_destination(&key);
    second.expect(0, &["pair", &kiosk.pairing()]);
    second.add(&second.write("form", b"<form/>"));
    // Somebody else has the only slot, and more to bring than a turn takes; known as well as this phone.
    let known = Change::PutPeer { peer: first.phone.key(), class: PeerClass::Paired, label: None };
    kiosk.store().apply_one(known).unwrap();
    let (link, how) = (kiosk.slow_link(Medium::Lan, "first", RATE), Introduction::Known(kiosk.key()));
    let holder = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(first.phone.sync_over(link, &how, SyncOptions::default(), &mut |_| {})).unwrap()
    });
    std::thread::sleep(Duration::from_millis(300));
    // A program that has no time for that is told so at once, and why.
    let hasty = second.json(1, &["sync", "--timeout", "500ms"]).last();
    assert_eq!((&hasty["ending"], &hasty["place"]), (&"turned away".into(), &1.into()), "{hasty}");
    assert!(hasty["again"].as_u64().is_some_and(|again| (1..=2).contains(&again)), "{hasty}");
    assert!(hasty["why"].as_str().unwrap().contains("next in line; come again in"), "{hasty}");
    let began = Instant::now();
    let said = second.json(0, &["sync"]);
    let waited = said.events("in-line");
    assert!((1..=4).contains(&waited.len()) && waited.iter().all(|one| one["place"] == 1), "{said:?}");
    assert_eq!(
        (&said.last()["ending"], &said.last()["transferred"]),
        (&"finished".into(), &1.into()),
        "{said:?}"
    );
    // In its turn, and not when the other one had finished.
    let took = began.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(8), "{took:?}");
    let held = holder.join().unwrap();
    assert_eq!((held.ending, held.place), (Ending::TurnedAway, Some(1)));
}
