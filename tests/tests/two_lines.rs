//! Two backhauls at once: the free one is preferred, the one that costs money steps in while the free one leads nowhere.

use std::io;
use std::time::{Duration, Instant};

use waypost_tests::scenario::{Destination, Gateway, Phone, content, default_route, folder, wait_until};
use waypost_tests::wan::{Conditions, Wan};

const BACKHAULS: &str = "[upload]\nprobe_interval = \"10min\"\nmax_backoff = \"10min\"\n\
    [[backhaul]]\nname = \"cable\"\ninterfaces = [\"wan0\"]\n\
    [[backhaul]]\nname = \"modem\"\ninterfaces = [\"wan1\"]\ncost = \"metered\"\nday = \"5MB\"\n";

/// Bytes that the modem is charged for so far.
fn charged(gateway: &Gateway) -> u64 {
    gateway.status()["backhauls"][1]["day"].as_u64().unwrap()
}

fn states(gateway: &Gateway) -> [String; 2] {
    [0, 1].map(|at| gateway.status()["backhauls"][at]["state"].as_str().unwrap().to_owned())
}

#[test]
fn the_metered_line_steps_in_while_the_free_one_leads_nowhere_and_no_longer() {
    let folder = folder();
    let mobile = Conditions { delay: Duration::from_millis(20), ..Conditions::default() };
    let cable = Wan::new(mobile.clone()).unwrap();
    let modem = cable.beside(mobile).unwrap();
    let far = cable.far();
    let destination = far.namespace().run(|| {
        let home = folder.path().join("destination");
        let mut destination = Destination::make_at(&home, far.address(), &far.address().to_string());
        destination.start();
        io::Result::Ok(destination)
    });
    let destination = destination.unwrap();
    let scene = || {
        let mut gateway = Gateway::make(&folder.path().join("gateway"), &destination);
        gateway.configure("50-backhauls", BACKHAULS);
        default_route(&cable);
        // The kernel prefers this one.
        default_route(&modem);
        gateway.start();
        let phone = Phone::make(&folder.path().join("anna"), "anna");
        phone.add_destination(&destination);
        phone.pair(&gateway);
        let bring = |seed: u64| {
            phone.add(&[(&format!("{seed}.jpg"), &content(seed, 400_000))]);
            phone.sync();
            let begun = Instant::now();
            let count = usize::try_from(seed).unwrap();
            wait_until("the photo", || (destination.inbox().len() == count).then_some(()));
            wait_until("its verdict", || (gateway.status()["opened"] == seed).then_some(()));
            begun.elapsed()
        };
        bring(1);
        assert!(cable.bytes() > 400_000, "{}", cable.bytes());
        assert_eq!((modem.bytes(), charged(&gateway)), (0, 0), "not a byte of what costs money");
        assert_eq!(states(&gateway), ["in use", "connected"]);

        // Link and route stay as they are: only nothing comes through.
        cable.link(false);
        let took = bring(2);
        println!("the photo went over the modem {took:?} after the phone had brought it");
        assert!(took < Duration::from_secs(30), "{took:?}");
        assert_eq!(states(&gateway), ["connected, but leads nowhere", "in use"]);
        let free = cable.bytes();
        let took = bring(3);
        assert!(took < Duration::from_secs(5), "the dead line is tried again for each photo: {took:?}");
        assert_eq!(cable.bytes(), free);
        wait_until("what was leased and not used", || (charged(&gateway) < 1_000_000).then_some(()));
        let (said, really) = (charged(&gateway), modem.bytes());
        println!("{said} bytes charged, {really} bytes over the modem");
        assert!(really > 800_000 && said >= really * 97 / 100 && said <= really * 110 / 100);

        // Half a minute after it was given up the free line is tried again, by whatever is to be sent.
        cable.link(true);
        let back = Instant::now();
        while states(&gateway)[0] != "in use" {
            assert!(back.elapsed() < Duration::from_secs(45), "{:?}", states(&gateway));
            phone.add(&[(&format!("{:?}.xml", back.elapsed()), b"<form/>")]);
            phone.sync();
            std::thread::sleep(Duration::from_secs(2));
        }
        println!("back on the free line {:?} after it led somewhere", back.elapsed());
        let (metered, free) = (modem.bytes(), cable.bytes());
        phone.add(&[("last.jpg", &content(9, 400_000))]);
        phone.sync();
        wait_until("the last photo", || destination.inbox().contains_key("last.jpg").then_some(()));
        assert!(cable.bytes() > free + 400_000);
        let more = modem.bytes() - metered;
        assert!(more < 1_000, "{more} bytes more over the modem: at most the end of its connection");
        io::Result::Ok(())
    };
    cable.near().namespace().run(scene).unwrap();
}
