//! Who is served: open, paired, listed; codes that work once, revoking at once, changes without dropping anyone.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use nix::sys::signal::Signal;
use serde_json::Value;
use waypost_protocol::envelope::Header;
use waypost_protocol::ids::RecordTag;
use waypost_protocol::refusal::{Goodbye, Reason};
use waypost_protocol::session::Introduction;
use waypost_tests::rogue::{
    RawSession, RogueDestination, Told, document, hello, identity, introduced_to, known_to, recorded,
};
use waypost_tests::scenario::{Site, content, wait_until};

fn open(site: &Site, introduction: &Introduction, seed: u64) -> RawSession {
    let address = site.gateway.link.address();
    RawSession::open(address, introduction, &identity(seed), &hello("raw", &[])).unwrap()
}

fn served(site: &Site) -> Header {
    Header::to(site.destination.fingerprint().parse().unwrap())
}

#[test]
fn a_phone_that_is_not_paired_is_told_to_pair() {
    let site = Site::start();
    let known = known_to(&site.gateway);
    assert_eq!(open(&site, &known, 1).goodbye().unwrap(), Goodbye::NotPaired);
    assert_eq!(open(&site, &Introduction::Open, 1).goodbye().unwrap(), Goodbye::NotPaired);

    let phone = site.new_phone("anna");
    phone.add_destination(&site.destination);
    phone.add(&[("form.xml", b"<form/>")]);
    let address = site.gateway.link.address().to_string();
    let ran = phone.try_run(&["sync", "--address", &address, "--unverified"]);
    let (status, report) = (ran.status.code(), ran.last());
    assert_eq!((status, &report["ending"]), (Some(1), &"turned away".into()), "{report}");
    assert!(report["why"].as_str().unwrap().contains("scan its QR code"), "{report}");
    assert_eq!(phone.list(false)[0]["state"], "ready");
    // Nothing was written down of somebody who was turned away.
    assert!(site.gateway.ask(&serde_json::json!({ "do": "peers" })).as_array().unwrap().is_empty());
}

#[test]
fn a_code_works_once_and_for_whoever_used_it_first() {
    let site = Site::start();
    let code = site.gateway.pairing_code();
    let (anna, bela) = (site.new_phone("anna"), site.new_phone("bela"));
    anna.run(&["pair", &code]);
    let second = bela.try_run(&["pair", &code]);
    let why = second.last()["report"]["why"].as_str().unwrap();
    assert!(!second.status.success() && why.contains("used up or too old"), "{second:#?}");
    assert_eq!(second.last()["gateway"]["paired"], false);
    assert!(bela.try_run(&["sync"]).last()["why"].as_str().unwrap().contains("ask for a new one"));
    // An answer that was lost is no reason to need another code.
    anna.run(&["pair", &code]);
    anna.run(&["sync"]);
    assert_eq!(site.gateway.status()["codes_used"], 1, "neither a refusal nor a repetition uses a code up");
    // The kiosk's screen shows another code then, also where the phone is known already.
    anna.pair(&site.gateway);
    assert_eq!(site.gateway.status()["codes_used"], 2);
    bela.pair(&site.gateway);
    assert_eq!(site.gateway.status()["codes_used"], 3);
    // Names are written down after a phone is answered.
    wait_until("both names are known", || {
        let peers = site.gateway.ask(&serde_json::json!({ "do": "peers" }));
        let labels: Vec<&Value> = peers.as_array().unwrap().iter().map(|peer| &peer["label"]).collect();
        (labels == ["anna", "bela"]).then_some(())
    });
}

#[test]
fn revoking_ends_a_live_session_at_once_and_those_to_come() {
    let site = Site::start();
    let (mut mallory, mut other) =
        (open(&site, &introduced_to(&site.gateway), 1), open(&site, &introduced_to(&site.gateway), 2));
    let phone = site.paired_phone("anna");
    let held = document(&served(&site), 1, 500);
    assert_eq!(mallory.deposit(&held), Told::Ack);
    let key = identity(1).public().to_string();
    let began = std::time::Instant::now();
    site.gateway.run(&["peers", "revoke", &key]);
    assert_eq!(mallory.goodbye().unwrap(), Goodbye::Revoked);
    assert!(began.elapsed().as_secs() < 5, "at once was {:?}", began.elapsed());
    assert_eq!(open(&site, &known_to(&site.gateway), 1).goodbye().unwrap(), Goodbye::Revoked);
    // What it had deposited stays, and others are served as before.
    assert_eq!(site.gateway.documents().len(), 1);
    assert_eq!(other.deposit(&document(&served(&site), 2, 500)), Told::Ack);
    site.gateway.run(&["peers", "revoke", "anna"]);
    phone.add_destination(&site.destination);
    let ran = phone.try_run(&["sync"]);
    assert!(ran.last()["why"].as_str().unwrap().contains("revoked; ask the admin"), "{ran:#?}");
    // The admin's next code lets it in again.
    phone.pair(&site.gateway);
    phone.sync();
}

#[test]
fn a_reload_lets_listed_phones_in_and_out_and_drops_nobody_else() {
    let mut site = Site::start();
    let mut reloads = 0;
    let mut reload = |site: &mut Site, seeds: &[u64]| {
        site.gateway.configure("40-access", &listed(seeds));
        site.gateway.process().signal(Signal::SIGHUP).unwrap();
        reloads += 1;
        wait_until("the reload", || {
            let log = std::fs::read_to_string(site.gateway.log()).unwrap();
            (log.matches("configuration read again").count() == reloads).then_some(())
        });
    };
    reload(&mut site, &[1]);
    let known = known_to(&site.gateway);
    let mut first = open(&site, &known, 1);
    assert_eq!(first.deposit(&document(&served(&site), 1, 500)), Told::Ack);
    assert_eq!(open(&site, &known, 2).goodbye().unwrap(), Goodbye::NotPaired);
    // No code helps here, and none is given.
    let pair = waypost_tests::scenario::run(&mut site.gateway.command(&["pair"]));
    let why = pair.last()["error"].as_str().unwrap();
    assert!(!pair.status.success() && why.contains("access.listed"), "{pair:#?}");

    let other = site.another_destination("other");
    site.gateway.serve_also("other", &other);
    reload(&mut site, &[1, 2]);
    let mut second = open(&site, &known, 2);
    let elsewhere = document(&Header::to(other.fingerprint().parse().unwrap()), 2, 500);
    assert_eq!(second.deposit(&elsewhere), Told::Ack);
    assert_eq!(first.deposit(&document(&served(&site), 3, 500)), Told::Ack, "the first session was dropped");

    reload(&mut site, &[2]);
    assert_eq!(first.goodbye().unwrap(), Goodbye::NotPaired);
    assert_eq!(second.deposit(&document(&served(&site), 4, 500)), Told::Ack);
    // A mistake in a file changes nothing for those that are there.
    site.gateway.configure("40-access", "[access\n");
    assert!(!waypost_tests::scenario::run(&mut site.gateway.command(&["reload"])).status.success());
    assert_eq!(second.deposit(&document(&served(&site), 5, 500)), Told::Ack);
}

#[test]
fn an_open_gateway_takes_small_documents_of_anybody() {
    let site = Site::configured("[access]\nmode = \"open\"\n");
    site.destination.backhaul.refuse(true);
    let mut stranger = open(&site, &Introduction::Open, 1);
    assert_eq!(stranger.deposit(&document(&served(&site), 1, 15_000)), Told::Ack);
    assert_eq!(stranger.start(&document(&served(&site), 2, 70_000)), Told::Refused(Reason::TooLarge));
    assert_eq!(stranger.start(&document(&served(&site), 3, 60_000)), Told::Request);
    stranger.close();

    let phone = site.new_phone("anna");
    phone.add_destination(&site.destination);
    let (small, large) = (content(1, 50_000), content(2, 100_000));
    let ids = phone.add(&[("small.jpg", &small), ("large.jpg", &large)]);
    let address = site.gateway.link.address().to_string();
    let ran = phone.try_run(&["sync", "--address", &address, "--unverified"]);
    assert_eq!((ran.status.code(), &ran.last()["transferred"]), (Some(3), &1.into()), "{ran:#?}");
    let listed = phone.list(false);
    let of = |id: &str| listed.iter().find(|one| one["id"] == id).unwrap();
    assert_eq!(of(&ids[0])["state"], "at-the-kiosk");
    assert_eq!(of(&ids[1])["state"], "refused");
    assert!(of(&ids[1])["why"].as_str().unwrap().contains("too large for this kiosk"), "{listed:#?}");
    // Its name is its own affair where nobody knows whom it talks to.
    let peers = site.gateway.ask(&serde_json::json!({ "do": "peers" }));
    assert!(peers.as_array().unwrap().iter().all(|peer| peer["label"] != "anna"), "{peers}");

    // Paired, it may send all of it.
    phone.pair(&site.gateway);
    site.destination.backhaul.refuse(false);
    phone.run(&["sync", "--wait", "30s"]);
    assert_eq!(site.destination.inbox(), [("large.jpg".into(), large), ("small.jpg".into(), small)].into());
}

/// The rows of docs/security.md, "Who may do what", that a peer can try: what a class may not is refused with its reason, and what
/// it may is taken in the same session.
#[test]
fn each_class_may_deposit_what_the_table_says() {
    let revision = |site: &Site| Header { record: Some(RecordTag([7; 16])), ..served(site) };
    let large = 70_000;
    for (class, access) in [
        ("paired", String::new()),
        ("listed", format!("[access]\nmode = \"listed\"\nlisted = [\"{}\"]\n", identity(1).public())),
        ("open", "[access]\nmode = \"open\"\n".to_owned()),
    ] {
        let site = Site::configured(&access);
        let introduction = match class {
            "paired" => introduced_to(&site.gateway),
            _ => known_to(&site.gateway),
        };
        let mut peer = open(&site, &introduction, 1);
        let is_known = class != "open";
        let or_refused = |taken: Told, reason| if is_known { taken } else { Told::Refused(reason) };
        assert_eq!(peer.deposit(&document(&served(&site), 1, 5_000)), Told::Ack, "{class}");
        let record = peer.deposit(&document(&revision(&site), 2, 5_000));
        assert_eq!(record, or_refused(Told::Ack, Reason::NotPermitted), "{class}");
        let started = peer.start(&document(&served(&site), 3, large));
        assert_eq!(started, or_refused(Told::Request, Reason::TooLarge), "{class}");
        let peers = site.gateway.ask(&serde_json::json!({ "do": "peers" }));
        assert_eq!(peers[0]["class"], class, "{peers}");
        // It is served all the same.
        let priority = Header { priority: 9, ..served(&site) };
        assert_eq!(peer.deposit(&document(&priority, 4, 5_000)), Told::Ack, "{class}");
    }
}

/// What somebody who has heard a phone begin can do with that: nothing, and it is answered with 1 KiB at most.
#[test]
fn a_phone_pairs_by_a_picture_of_the_code() {
    let site = Site::start();
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("code.png");
    let named = picture.to_str().unwrap();
    let said = waypost_tests::scenario::run(&mut site.gateway.command(&["pair", "--picture", named]));
    assert!(said.status.success(), "{said:#?}");
    site.new_phone("anna").run(&["pair", named]);
    assert_eq!(site.gateway.status()["codes_used"], 1);
    // Never over a picture that is there.
    let said = waypost_tests::scenario::run(&mut site.gateway.command(&["pair", "--picture", named]));
    assert!(!said.status.success(), "{said:#?}");
}

#[test]
fn handshakes_that_were_recorded_and_are_sent_again_change_nothing() {
    let site = Site::start();
    let (code, known) = (introduced_to(&site.gateway), known_to(&site.gateway));
    let recordings = [&code, &known, &Introduction::Open]
        .map(|introduction| recorded(introduction, &identity(1), &hello("anna", &[])).unwrap());
    for recording in &recordings {
        for _ in 0..30 {
            let mut stream = TcpStream::connect(site.gateway.link.address()).unwrap();
            stream.write_all(recording).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!((2..=2 + 1_024).contains(&answer.len()), "{} bytes", answer.len());
        }
    }
    assert_eq!(site.gateway.status()["codes_used"], 0);
    let peers = || site.gateway.ask(&serde_json::json!({ "do": "peers" })).as_array().unwrap().len();
    assert_eq!((peers(), site.gateway.documents().len()), (0, 0));
    // Nobody has used the code, and the phone for which it is has it.
    let mut phone = open(&site, &code, 1);
    assert_eq!(phone.deposit(&document(&served(&site), 1, 5_000)), Told::Ack);
    assert_eq!((peers(), &site.gateway.status()["codes_used"]), (1, &1.into()));
}

#[test]
fn priorities_order_one_phones_documents_as_far_as_the_admin_lets_them_and_nobody_elses() {
    // What is allowed, what another phone says of its one document, the order of the first phone's, and where the other's is.
    let mut places = Vec::new();
    for (most, others, expected) in
        [(9, 0, [3, 2, 1]), (9, 9, [3, 2, 1]), (5, 9, [2, 3, 1]), (0, 9, [1, 2, 3])]
    {
        let site = Site::configured(&format!("[limits]\nmax_priority = {most}\n"));
        site.destination.backhaul.refuse(true);
        let rogue = RogueDestination::start(&site.destination, |_| Vec::new());
        site.destination.backhaul.retarget(rogue.address());
        let mut first = open(&site, &introduced_to(&site.gateway), 1);
        let mut ids = Vec::new();
        for (seed, priority) in [(1, 0), (2, 5), (3, 9)] {
            let document = document(&Header { priority, ..served(&site) }, seed, 5_000);
            assert_eq!(first.deposit(&document), Told::Ack);
            ids.push(document.id());
        }
        let mut second = open(&site, &introduced_to(&site.gateway), 2);
        let other = document(&Header { priority: others, ..served(&site) }, 4, 5_000);
        assert_eq!(second.deposit(&other), Told::Ack);
        site.destination.backhaul.refuse(false);
        let sent = wait_until("all of it is uploaded", || {
            let requests = rogue.requests();
            requests
                .into_iter()
                .map(|(_, ids)| ids)
                .find(|sent| sent.len() == 4 && sent.contains(&other.id()))
        });
        let of_first = sent.iter().filter_map(|id| ids.iter().position(|own| own == id)).map(|at| at + 1);
        assert_eq!(of_first.collect::<Vec<_>>(), expected, "limits.max_priority = {most}");
        places.push(sent.iter().position(|id| *id == other.id()));
    }
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
}

/// With what the gateway says that its advertisements are recognised, if it says so.
fn advertising_key(site: &Site, introduction: &Introduction, seed: u64) -> Option<Vec<u8>> {
    let mut session = open(site, introduction, seed);
    let hello = session.receive().unwrap().hello.unwrap();
    Some(hello.advertising_key.to_vec()).filter(|key| !key.is_empty())
}

#[test]
fn only_phones_that_are_known_learn_to_recognise_the_gateway_in_the_air() {
    let site = Site::configured("[access]\nmode = \"open\"\n");
    let known = known_to(&site.gateway);
    // Whoever asks for it by the gateway's key alone is as much a stranger as one who knows nothing.
    assert_eq!(advertising_key(&site, &Introduction::Open, 1), None);
    assert_eq!(advertising_key(&site, &known, 1), None);
    let told = advertising_key(&site, &introduced_to(&site.gateway), 2).unwrap();
    assert_eq!(told.len(), 16);
    // The hello comes before the phone has shown who it is.
    let key = identity(2).public().to_string();
    wait_until("the phone is known", || {
        let peers = site.gateway.ask(&serde_json::json!({ "do": "peers" }));
        peers
            .as_array()
            .unwrap()
            .iter()
            .any(|peer| peer["key"] == key && peer["class"] == "paired")
            .then_some(())
    });
    for introduction in [&known, &Introduction::Open] {
        assert_eq!(advertising_key(&site, introduction, 2), Some(told.clone()));
    }
    assert_eq!(advertising_key(&site, &introduced_to(&site.gateway), 1), Some(told));
    site.gateway.run(&["peers", "revoke", &identity(2).public().to_string()]);
    assert_eq!(advertising_key(&site, &known, 2), None);
}

#[test]
fn a_listed_phone_learns_to_recognise_the_gateway_before_it_was_ever_there_and_others_do_not() {
    let site = Site::configured(&listed(&[1]));
    let known = known_to(&site.gateway);
    assert!(advertising_key(&site, &known, 1).is_some());
    assert_eq!(advertising_key(&site, &known, 2), None);
}

fn listed(seeds: &[u64]) -> String {
    let keys: Vec<String> = seeds.iter().map(|seed| format!("\"{}\"", identity(*seed).public())).collect();
    format!("[access]\nmode = \"listed\"\nlisted = [{}]\n", keys.join(", "))
}
