//! The gateway learns from the kernel that a backhaul is there, and what is wrong with one it says in words.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;
use waypost_tests::scenario::{Gateway, Site, content, default_route, over_a_line, replug, wait_until};
use waypost_tests::wan::Conditions;

#[test]
fn a_path_that_appears_is_used_within_three_seconds_however_long_it_was_away() {
    let mobile = Conditions { delay: Duration::from_millis(100), ..Conditions::default() };
    over_a_line(mobile, true, |wan, destination, gateway, phone| {
        default_route(wan);
        wait_until("the network", || (gateway.status()["networks"] == json!(["wan0"])).then_some(()));
        wan.near().plug(false).unwrap();
        wait_until("its loss", || (gateway.status()["networks"] == json!([])).then_some(()));
        phone.add(&[("photo.jpg", &content(1, 200_000))]);
        phone.sync();
        wait_until("a failure", || gateway.trouble().contains("connect a backhaul").then_some(()));
        assert_eq!(gateway.state(), "no network");
        std::thread::sleep(Duration::from_secs(2));
        let begun = Instant::now();
        wan.near().plug(true).unwrap();
        default_route(wan);
        wait_until("the document", || (destination.inbox().len() == 1).then_some(()));
        let took = begun.elapsed();
        println!("{took:?} from the route to the whole document at the server");
        assert!(took < Duration::from_secs(3), "{took:?}");
        wait_until("its verdict", || (gateway.status()["opened"] == 1).then_some(()));
        assert_eq!(gateway.state(), "ok");
        let log = std::fs::read_to_string(gateway.log()).unwrap();
        for line in
            ["networks with a way out: none", "networks with a way out: wan0", "destination is no network: "]
        {
            assert!(log.contains(line), "{line:?} is not in {log}");
        }
    });
}

#[test]
fn whether_the_destination_can_be_reached_is_seen_before_anything_waits_for_it() {
    over_a_line(Conditions::default(), true, |wan, destination, gateway, _| {
        default_route(wan);
        wait_until("the server", || (gateway.state() == "ok").then_some(()));
        wan.near().plug(false).unwrap();
        wait_until("its loss", || (gateway.state() == "no network").then_some(()));
        destination.backhaul.refuse(true);
        wan.near().plug(true).unwrap();
        default_route(wan);
        wait_until("the server's absence", || {
            ["unreachable", "TLS refused"].contains(&gateway.state().as_str()).then_some(())
        });
        destination.backhaul.refuse(false);
        replug(wan);
        wait_until("the server, again", || (gateway.state() == "ok").then_some(()));
        assert!(destination.inbox().is_empty());
    });
}

/// Answers every request on a port with the same head.
fn answer(listener: TcpListener, head: &'static str) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // Who asks has sent all of it in one packet.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(head.as_bytes());
        }
    });
}

#[test]
fn a_network_that_wants_a_login_is_told_from_a_server_that_is_down() {
    wants_a_login("");
}

#[test]
fn a_login_is_asked_for_over_the_backhaul_that_connections_are_bound_to() {
    wants_a_login("[[backhaul]]\nname = \"modem\"\ninterfaces = [\"wan0\"]\n");
}

fn wants_a_login(backhaul: &str) {
    over_a_line(Conditions::default(), true, |wan, destination, gateway, phone| {
        gateway.configure("60-backhaul", backhaul);
        gateway.run(&["reload"]);
        default_route(wan);
        destination.backhaul.refuse(true);
        phone.add(&[("form.xml", b"<form/>")]);
        phone.sync();
        wait_until("the server's absence", || {
            ["unreachable", "TLS refused"].contains(&gateway.state().as_str()).then_some(())
        });
        let far = wan.far();
        let listener = far.namespace().run(|| TcpListener::bind((far.address(), 80))).unwrap();
        answer(
            listener,
            "HTTP/1.1 302 Found\r\nLocation: http://login.cafe/?id=7\r\nContent-Length: 0\r\n\r\n",
        );
        replug(wan);
        wait_until("the portal", || (gateway.state() == "captive portal").then_some(()));
        assert!(
            gateway.trouble().contains("open http://login.cafe/?id=7 in a browser"),
            "{}",
            gateway.trouble()
        );
        destination.backhaul.refuse(false);
        replug(wan);
        wait_until("the document", || (destination.inbox().len() == 1).then_some(()));
    });
}

#[test]
fn who_cannot_prove_to_be_the_destination_is_named_as_what_it_is() {
    let site = Site::start();
    let mut other = site.another_destination("other");
    let phone = site.paired_phone("anna");
    // Somebody else's authority signed its certificate.
    site.gateway.reach(other.backhaul.address());
    site.gateway.run(&["reload"]);
    phone.add(&[("form.xml", b"<form/>")]);
    phone.sync();
    wait_until("the stranger", || (site.gateway.state() == "TLS refused").then_some(()));
    let why = site.gateway.trouble();
    assert!(why.contains("no trusted TLS connection") && why.contains("ca_file"), "{why}");
    // A Waypost server with a certificate that is in order, but of another destination.
    std::fs::copy(other.authority(), site.gateway.folder().join("ca.pem")).unwrap();
    site.gateway.run(&["reload"]);
    wait_until("the other destination", || (site.gateway.state() == "wrong server").then_some(()));
    assert!(site.gateway.trouble().contains(other.fingerprint()), "{}", site.gateway.trouble());
    assert!(other.inbox().is_empty() && site.destination.inbox().is_empty());
    other.stop();
    std::fs::copy(site.destination.authority(), site.gateway.folder().join("ca.pem")).unwrap();
    site.gateway.reach(site.destination.backhaul.address());
    site.gateway.run(&["reload"]);
    wait_until("the document", || (site.destination.inbox().len() == 1).then_some(()));
}

#[test]
fn a_budget_ends_an_upload_in_the_middle_outlives_a_kill_and_is_never_exceeded() {
    const BUDGET: u64 = 900_000;
    over_a_line(Conditions::default(), true, |wan, destination, gateway, phone| {
        let modem = |budget: &str| {
            format!(
                "[[backhaul]]\nname = \"modem\"\ninterfaces = [\"wan*\"]\ncost = \"metered\"\nday = \"{budget}\"\n"
            )
        };
        gateway.configure("60-modem", &modem("900KB"));
        gateway.run(&["reload"]);
        default_route(wan);
        wait_until("the network", || {
            (gateway_status(gateway, "/backhauls/0/state") == "in use").then_some(())
        });
        let before = wan.bytes();
        let photos: Vec<(String, Vec<u8>)> =
            (0..6).map(|number| (format!("{number}.jpg"), content(number, 250_000))).collect();
        let files: Vec<(&str, &[u8])> =
            photos.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
        phone.add(&files);
        phone.sync();
        wait_until("the end of the budget", || (gateway.state() == "backhaul closed").then_some(()));
        let why = gateway.trouble();
        assert!(why.contains("the budget of modem is spent") && why.contains("24 h"), "{why}");
        // The server keeps what came whole before the request broke off.
        let arrived =
            wait_until("the first of them", || Some(destination.inbox().len()).filter(|count| *count > 0));
        std::thread::sleep(Duration::from_secs(1));
        let arrived = destination.inbox().len().max(arrived);
        assert!((1..=3).contains(&arrived), "{arrived} documents for {BUDGET} bytes");
        let spent = || gateway_status(gateway, "/backhauls/0/day").as_u64().unwrap();
        let (said, really) = (spent(), wan.bytes() - before);
        assert!(said <= BUDGET && said > BUDGET - 300_000, "{said} bytes are said to be spent");
        assert!(really <= BUDGET, "{really} bytes were really sent for a budget of {BUDGET}");
        assert!(really > said * 8 / 10, "{really} bytes were sent, {said} counted");

        gateway.kill9();
        gateway.start();
        phone.add(&[("form.xml", b"<form/>")]);
        phone.sync();
        wait_until("the closed door", || (gateway.state() == "backhaul closed").then_some(()));
        assert_eq!(destination.inbox().len(), arrived, "a restart spends nothing again");
        gateway.configure("60-modem", &modem("9MB"));
        gateway.run(&["reload"]);
        wait_until("the rest", || (destination.inbox().len() == 7).then_some(()));
        wait_until("its verdicts", || (gateway.status()["waiting"] == 0).then_some(()));
        assert_eq!(gateway_status(gateway, "/backhauls/0/state"), "in use");
    });
}

fn gateway_status(gateway: &Gateway, pointer: &str) -> serde_json::Value {
    gateway.status().pointer(pointer).unwrap().clone()
}

#[test]
fn outside_its_hours_a_backhaul_is_not_used() {
    over_a_line(Conditions::default(), true, |wan, destination, gateway, phone| {
        let clock = std::process::Command::new("date").arg("+%H").output().unwrap();
        let hour: u32 = String::from_utf8(clock.stdout).unwrap().trim().parse().unwrap();
        let modem = |from: u32, to: u32| {
            format!(
                "[[backhaul]]\nname = \"modem\"\ninterfaces = [\"wan0\"]\nwindows = [\"{}:00-{}:00\"]\n",
                (hour + from) % 24,
                (hour + to) % 24
            )
        };
        gateway.configure("60-modem", &modem(3, 5));
        gateway.run(&["reload"]);
        default_route(wan);
        wait_until("the network", || (gateway.status()["networks"] == json!(["wan0"])).then_some(()));
        let before = wan.bytes();
        phone.add(&[("form.xml", b"<form/>")]);
        phone.sync();
        wait_until("the closed door", || (gateway.state() == "backhaul closed").then_some(()));
        assert!(gateway.trouble().contains("modem is outside its hours"), "{}", gateway.trouble());
        assert_eq!(wan.bytes(), before, "not a byte");
        gateway.configure("60-modem", &modem(23, 3));
        gateway.run(&["reload"]);
        wait_until("the document", || (destination.inbox().len() == 1).then_some(()));
    });
}
