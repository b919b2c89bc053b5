//! What peers do who mean harm, each within bounds of time and of the gateway's memory, while it goes on serving others.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use waypost_protocol::mvds::Payload;
use waypost_protocol::session::Introduction;
use waypost_tests::rogue::{RawSession, hello, identity, introduced_to, known_to, recorded};
use waypost_tests::scenario::{Phone, Site, say};

/// The gateway's data file, whose mapping is the kernel's cache and not counted.
const DATA_FILE: &str = "data.mdb";
const LIMITS: &str = "[limits]\nhandshake_timeout = \"1s\"\nidle_timeout = \"5s\"\n";

/// Runs `harm` beside a gateway that a phone has used before, and uses after it. Says how long it took, and how much more memory was
/// resident meanwhile, which may be `most_kib`.
fn bounded<T>(site: &Site, what: &str, most_kib: u64, most: Duration, harm: impl FnOnce() -> T) -> T {
    let phone = site.paired_phone("anna");
    sends(&phone, "before");
    let gateway = site.gateway.running();
    let before = gateway.rss_kib(DATA_FILE).unwrap();
    let begun = Instant::now();
    let (peak, done) = gateway.peak_kib(DATA_FILE, harm).unwrap();
    let (took, more) = (begun.elapsed(), peak.saturating_sub(before));
    say(&format!("{what}: {took:.1?}, {more} KiB more than {before}"));
    assert!(more <= most_kib && took <= most, "{what}: {took:?}, {more} KiB more than {before}");
    sends(&phone, "after");
    done
}

fn sends(phone: &Phone, name: &str) {
    phone.add(&[(name, name.as_bytes())]);
    assert_eq!(phone.run(&["sync", "--wait", "30s"]).last()["opened"], 1);
}

/// Whether the other side has ended the connection.
fn is_ended(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut rest = [0; 4_096];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

/// Sends one byte of each over and over, until all are ended.
fn drip(links: &mut Vec<(TcpStream, Vec<u8>)>) {
    for at in 0.. {
        if links.is_empty() {
            return;
        }
        links.retain_mut(|(stream, bytes)| {
            let byte = bytes.get(at).copied().unwrap_or(0);
            !is_ended(stream) && stream.write_all(&[byte]).is_ok()
        });
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn links_that_drip_before_they_have_proven_who_they_are_are_ended_in_time() {
    let site = Site::configured(LIMITS);
    let address = site.gateway.link.address();
    let handshake = recorded(&known_to(&site.gateway), &identity(1), &hello("slow", &[])).unwrap();
    // 64 KiB that never come, in a frame; and frames of one byte.
    let (endless, tiny) = (vec![0xff; 100_000], [0, 1, 7].repeat(1_000));
    bounded(&site, "links that drip", 4 << 10, Duration::from_secs(10), || {
        let kinds = [&handshake, &endless, &tiny].into_iter().cycle().take(48);
        drip(&mut kinds.map(|bytes| (TcpStream::connect(address).unwrap(), bytes.clone())).collect());
    });
}

#[test]
fn a_phone_that_drips_within_a_frame_is_ended_in_time() {
    let site = Site::configured(LIMITS);
    let mut sessions: Vec<RawSession> =
        (0..10).map(|seed| session(&site, &introduced_to(&site.gateway), seed)).collect();
    bounded(&site, "phones that drip", 4 << 10, Duration::from_secs(12), || {
        let links = sessions.iter_mut().map(|session| {
            let stream = session.stream().try_clone().unwrap();
            (stream, [&60_000u16.to_be_bytes()[..], &[0xaa; 1_000]].concat())
        });
        drip(&mut links.collect());
    });
}

#[test]
fn a_phone_that_never_reads_costs_little_memory_and_is_ended() {
    let site = Site::configured(LIMITS);
    let mut sessions: Vec<RawSession> =
        (0..4).map(|seed| session(&site, &introduced_to(&site.gateway), seed)).collect();
    bounded(&site, "phones that never read", 16 << 10, Duration::from_secs(30), || {
        std::thread::scope(|scope| {
            for (seed, session) in sessions.iter_mut().enumerate() {
                scope.spawn(move || {
                    // Each is answered with a REQUEST, until the gateway has had enough of that.
                    let offers = |round: u64| {
                        let id = |n: u64| {
                            [&[u8::try_from(seed).unwrap(); 16][..], &round.to_be_bytes(), &n.to_be_bytes()]
                                .concat()
                        };
                        Payload { offers: (0..1_000).map(|n| id(n).into()).collect(), ..Payload::default() }
                    };
                    let sent = (0..).take_while(|round| session.send(&offers(*round)).is_ok()).count();
                    assert!(sent > 0);
                });
            }
        });
    });
}

#[test]
fn names_that_a_terminal_or_a_browser_would_obey_are_shown_harmlessly() {
    let site = Site::configured("log.level = \"trace\"\n");
    let name = "\u{1b}]0;owned\u{7}\u{1b}[2J<script>alert(1)</script>\u{202e}\r\n\u{9b}31m";
    let mut phone = RawSession::open(
        site.gateway.link.address(),
        &introduced_to(&site.gateway),
        &identity(1),
        &hello(name, &[]),
    )
    .unwrap();
    phone.receive().unwrap();
    waypost_tests::scenario::wait_until("the name is known", || {
        let peers = site.gateway.ask(&serde_json::json!({ "do": "peers" }));
        peers[0]["label"].as_str().filter(|label| label.contains("script")).map(drop)
    });
    let bundle = site.folder().join("support.tar.gz");
    let mut shown = vec![("log", std::fs::read_to_string(site.gateway.log()).unwrap())];
    for arguments in [&["peers", "list"][..], &["status"], &["support", bundle.to_str().unwrap()]] {
        // For people, not for programs.
        let for_programs = site.gateway.command(arguments);
        let mut command = std::process::Command::new(for_programs.get_program());
        let ran = command.args(for_programs.get_args().filter(|one| *one != "--json")).output().unwrap();
        assert!(ran.status.success(), "{command:?}: {ran:?}");
        shown.push((arguments[0], String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap()));
    }
    assert!(shown[1].1.contains("script"), "the name is there: {}", shown[1].1);
    for (what, text) in shown {
        let obeyed = text.chars().find(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || *c == '\u{202e}');
        assert_eq!(obeyed, None, "{what}: {text}");
    }
}

fn session(site: &Site, introduction: &Introduction, seed: u64) -> RawSession {
    let address = site.gateway.link.address();
    RawSession::open(address, introduction, &identity(seed), &hello("raw", &[])).unwrap()
}
