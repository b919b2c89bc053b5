//! `run`: in the background it meets whom it can, says what was done, and costs little while nothing changes.

use std::time::{Duration, Instant};

use waypost_protocol::confirmation::Verdict;

use crate::kiosk::{Kiosk, Manners};
use crate::kit::*;

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn in_the_background_added_documents_go_out_at_once_and_confirmations_come_in() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners::serving(&key));
    let cli = Cli::new();
    cli.add_destination(&key);
    cli.pair(&kiosk.pairing());
    let mut running = Running::start(&cli, &["--json", "run"]);
    assert_eq!(running.until("report")["ending"], "nothing new");
    let second = cli.expect(1, &["run"]);
    assert!(second.stderr.contains("another `waypost-phone run`"), "{second:?}");
    let id = cli.add(&cli.write("form", b"form"));
    let begun = Instant::now();
    while kiosk.documents().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    kiosk.confirm(&key, &[id], Verdict::Opened);
    let report = running.until("report");
    assert_eq!((&report["ending"], &report["transferred"]), (&"finished".into(), &1.into()));
    assert_eq!(report["opened"], 1, "{report}");
    assert_eq!(running.terminate(), 0);
    assert_eq!(cli.state("form"), "at-the-server");
}

#[test]
fn each_contact_that_did_something_is_a_line_and_nothing_new_is_said_once() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners::serving(&key));
    let cli = Cli::new();
    cli.add_destination(&key);
    cli.pair(&kiosk.pairing());
    let mut running = Running::start(&cli, &["run"]);
    assert_eq!(running.line(), "running; stop with Ctrl-C");
    let first = running.line();
    assert!(first.starts_with("Test kiosk: nothing new; link: "), "{first}");
    let id = cli.add(&cli.write("form", &noise(2_000)));
    let handed = running.line();
    assert!(handed.starts_with("Test kiosk: finished; 1 document handed to Test kiosk (2."), "{handed}");
    // The next looks follow in two, four and eight seconds, and have nothing to tell.
    std::thread::sleep(Duration::from_secs(7));
    kiosk.confirm(&key, &[id], Verdict::Opened);
    let confirmed = running.line();
    assert!(
        confirmed.starts_with("Test kiosk: finished; 1 document at the server, deleted here"),
        "{confirmed}"
    );
    assert_eq!(running.rest(), [""; 0]);
}

#[test]
fn a_kiosk_that_appears_later_is_met_without_being_asked() {
    let key = destination("Clinic");
    let mut kiosk = Kiosk::start(Manners { open: true, ..Manners::serving(&key) });
    let cli = Cli::new();
    cli.add_destination(&key);
    cli.pair(&kiosk.pairing());
    kiosk.stop();
    let mut running = Running::start(&cli, &["run"]);
    assert_eq!(running.line(), "running; stop with Ctrl-C");
    let id = cli.add(&cli.write("form", b"form"));
    // Long enough for a look that finds nobody.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(cli.state("form"), "ready");
    let kiosk = kiosk.wiped();
    until("the kiosk is met", || kiosk.documents() == [id]);
    let met = running.line();
    assert!(
        met.starts_with("Test kiosk: finished; 1 document handed to"),
        "that nobody was there is no line: {met}"
    );
}

#[test]
fn for_a_confirmation_alone_no_link_is_held_open() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners::serving(&key));
    let cli = Cli::new();
    cli.add_destination(&key);
    cli.pair(&kiosk.pairing());
    cli.add(&cli.write("form", b"form"));
    cli.expect(0, &["sync"]);
    let mut running = Running::start(&cli, &["--json", "run"]);
    let report = running.until("report");
    assert_eq!(report["ending"], "nothing new", "{report}");
    assert!(report["seconds"].as_f64().unwrap() < 2.0, "{report}");
}

#[test]
fn other_phones_find_a_fresh_code_after_each_that_came() {
    let key = destination("Clinic");
    let carrier = Cli::new();
    carrier.add_destination(&key);
    let mut running = Running::start(&carrier, &["--json", "run", "--listen", "127.0.0.1:0"]);
    for number in 0..2 {
        let text = running.until("listening")["text"].as_str().unwrap().to_owned();
        let author = Cli::new();
        author.add_destination(&key);
        author.add(&author.write("form", &[number]));
        assert_eq!(author.json(0, &["sync", "--phone", &text]).last()["transferred"], 1);
        assert_eq!(running.until("report")["carried"], 1);
    }
    assert_eq!(running.terminate(), 0);
}
