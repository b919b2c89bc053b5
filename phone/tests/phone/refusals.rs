//! What goes wrong is told apart, and holds back nothing else.

use waypost_protocol::ids::PeerKey;
use waypost_protocol::invite::{CodeSecret, Pairing};

use crate::kiosk::{Kiosk, Manners};
use crate::kit::*;

#[test]
fn a_kiosk_that_does_not_serve_the_destination_is_said_to() {
    let (key, other) = (destination("Clinic"), destination("Other"));
    let kiosk = Kiosk::start(Manners::serving(&other));
    let cli = Cli::new();
    cli.add_destination(&key);
    cli.add(&cli.write("form", b"form"));
    cli.pair(&kiosk.pairing());
    let said = cli.expect(3, &["sync"]);
    assert!(said.stdout.contains("takes nothing for Clinic; 1 document stays here"), "{said:?}");
    let report = cli.json(3, &["sync"]).last();
    assert_eq!(report["not_served"][0]["documents"], 1);
    assert_eq!(report["ending"], "nothing new");
    assert_eq!(cli.state("form"), "ready");
    assert!(kiosk.documents().is_empty());
}

#[test]
fn a_document_that_is_too_large_does_not_hold_back_the_others() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners { max_document: 100_000, ..Manners::serving(&key) });
    let cli = Cli::new();
    cli.add_destination(&key);
    cli.add(&cli.write("film.mp4", &noise(500_000)));
    cli.add(&cli.write("form", b"form"));
    cli.pair(&kiosk.pairing());
    assert_eq!(kiosk.documents().len(), 1);
    assert_eq!(cli.state("form"), "at-the-kiosk");
    assert_eq!(cli.state("film.mp4"), "ready");
    let report = cli.json(3, &["sync"]).last();
    assert_eq!(report["refused"][0]["reason"], "too large for this kiosk", "{report}");
}

#[test]
fn a_full_kiosk_refuses_with_the_reason_and_takes_it_later() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners { quota: 300_000, ..Manners::serving(&key) });
    let cli = Cli::new();
    cli.add_destination(&key);
    cli.add(&cli.write("film.mp4", &noise(2_000_000)));
    cli.add(&cli.write("form", b"form"));
    cli.pair(&kiosk.pairing());
    let states = cli.states();
    assert_eq!(cli.state("form"), "at-the-kiosk", "{states:?}");
    let (_, state, why) = &states[0];
    assert_eq!(state, "ready");
    assert!(why.contains("no room for it at the moment"), "{why}");
    let report = cli.json(3, &["sync"]).last();
    assert_eq!(report["refused"][0]["is_temporary"], true, "{report}");
}

#[test]
fn a_second_kiosk_gets_what_the_first_does_not_serve() {
    let (clinic, other) = (destination("Clinic"), destination("Other"));
    let (first, second) = (Kiosk::start(Manners::serving(&other)), Kiosk::start(Manners::serving(&clinic)));
    let cli = Cli::new();
    cli.add_destination(&clinic);
    cli.add_destination(&other);
    cli.pair(&second.pairing());
    cli.pair(&first.pairing());
    for to in ["Clinic", "Other"] {
        let form = cli.write(to, to.as_bytes());
        cli.expect(0, &["add".as_ref(), "--destination".as_ref(), to.as_ref(), form.as_os_str()]);
    }
    let said = cli.expect(1, &["add".as_ref(), cli.write("form", b"").as_os_str()]);
    assert!(said.stderr.contains("--destination"), "{said:?}");
    let report = cli.json(0, &["sync"]).last();
    assert_eq!(
        (&report["transferred"], &report["not_served"]),
        (&2.into(), &serde_json::json!([])),
        "{report}"
    );
    assert_eq!((first.documents().len(), second.documents().len()), (1, 1));
}

#[test]
fn a_kiosk_of_another_version_is_named_so() {
    use std::io::{Read as _, Write as _};
    use waypost_protocol::session::{Versions, encode_no_common_version};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let pairing = Pairing {
        gateway: PeerKey([5; 32]),
        secret: CodeSecret::new([6; 16]),
        name: "Newer kiosk".into(),
        addresses: vec![listener.local_addr().unwrap().to_string()],
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 512]);
            let answer = encode_no_common_version(Versions { lowest: 7, highest: 9 });
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            let _ = stream.write_all(&[&length[..], &answer].concat());
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let cli = Cli::new();
    cli.expect(0, &["pair", "--later", &pairing.to_text()]);
    let said = cli.expect(1, &["sync"]);
    assert!(said.stdout.contains("speaks 7 to 9, this program 1; update the older one"), "{said:?}");
}

#[test]
fn nobody_there_is_not_nothing_new() {
    let key = destination("Clinic");
    let mut kiosk = Kiosk::start(Manners::serving(&key));
    let cli = Cli::new();
    cli.add_destination(&key);
    let said = cli.expect(1, &["sync"]);
    assert!(said.stdout.contains("no kiosk is known yet; pair with one"), "{said:?}");
    cli.pair(&kiosk.pairing());
    kiosk.stop();
    let said = cli.json(1, &["sync"]);
    assert_eq!(said.last()["ending"], "not reached");
}

#[test]
fn another_kiosk_at_the_address_is_not_taken_for_the_one_that_is_known() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners { open: true, ..Manners::serving(&key) });
    let cli = Cli::new();
    cli.add_destination(&key);
    cli.add(&cli.write("form", b"form"));
    let stranger = Pairing {
        gateway: PeerKey([5; 32]),
        secret: CodeSecret::new([6; 16]),
        name: "Real kiosk".into(),
        addresses: vec![kiosk.address.clone()],
    };
    let said = cli.expect(1, &["pair", &stranger.to_text()]);
    assert!(said.stdout.contains("not paired with Real kiosk: "), "{said:?}");
    cli.expect(1, &["sync", "--to", "Real kiosk", "--address", &kiosk.address]);
    assert!(kiosk.documents().is_empty());
    assert_eq!(cli.state("form"), "ready");
    // Without asking who it is, sealed documents may go all the same, when their user says so.
    let report = cli.json(0, &["sync", "--unverified", "--address", &kiosk.address]).last();
    assert_eq!(report["transferred"], 1);
    assert_eq!(cli.state("form"), "at-the-kiosk");
}

#[test]
fn a_code_that_is_used_up_is_named() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners::serving(&key));
    let (first, second) = (Cli::new(), Cli::new());
    first.expect(0, &["pair", &kiosk.pairing()]);
    let said = second.expect(1, &["pair", &kiosk.pairing()]);
    assert!(said.stdout.contains("used up or too old"), "{said:?}");
    let said = second.expect(1, &["sync"]);
    assert!(said.stdout.contains("used up or too old"), "{said:?}");
    // Whom it has made known may show it again.
    first.expect(0, &["pair", &kiosk.pairing()]);
    let again = first.json(0, &["sync"]).last();
    assert_eq!(again["ending"], "nothing new");
}
