//! A name server that takes every question and answers none: it is told, it delays nobody else, and it is got over.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use waypost_tests::scenario::{Destination, Gateway, Phone, default_route, folder, replug, wait_until};
use waypost_tests::wan::{Conditions, Wan};

/// A name server that knows one address, and answers while it is let.
#[derive(Clone)]
struct NameServer {
    answers: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
}

impl NameServer {
    fn start(wan: &Wan) -> Self {
        let far = wan.far();
        let socket = far.namespace().run(|| UdpSocket::bind((far.address(), 53))).unwrap();
        let server = NameServer { answers: Arc::default(), asked: Arc::default() };
        let (shared, address) = (server.clone(), far.address());
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut packet) {
                shared.asked.store(true, Ordering::SeqCst);
                if shared.answers.load(Ordering::SeqCst) {
                    socket.send_to(&Self::answer(&packet[..len], address), from).unwrap();
                }
            }
        });
        server
    }

    fn answer_from_now_on(&self) {
        self.answers.store(true, Ordering::SeqCst);
    }

    /// Waits for a question that comes from now on.
    fn wait_for_a_question(&self) {
        self.asked.store(false, Ordering::SeqCst);
        wait_until("a question", || self.asked.load(Ordering::SeqCst).then_some(()));
    }

    /// The question again with its answer behind it (RFC 1035 §4); to a question for anything but IPv4, none.
    fn answer(question: &[u8], address: Ipv4Addr) -> Vec<u8> {
        let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let is_v4 = question[end - 4..end - 2] == [0, 1];
        let mut answer = question[..end].to_vec();
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0]);
        if is_v4 {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
            answer.extend(address.octets());
        }
        answer
    }
}

/// A gateway that has a form for a destination by name, where no name server answers, and has brought one by address.
struct Scene<'a> {
    wan: &'a Wan,
    names: NameServer,
    gateway: Gateway,
    named: &'a Destination,
    numbered: &'a Destination,
    /// The phone whose destination is the one by address.
    ben: Phone,
}

/// The resolver is the system's with its defaults: it asks twice and waits for five seconds each time.
fn with_dead_names(act: impl FnOnce(Scene<'_>) + Send) {
    let folder = folder();
    let wan = Wan::new(Conditions::default()).unwrap();
    let far = wan.far();
    let names = NameServer::start(&wan);
    let resolv_conf = folder.path().join("resolv.conf");
    std::fs::write(&resolv_conf, format!("nameserver {}\n", far.address())).unwrap();
    let make = |home: &str, name: &str| {
        far.namespace().run(|| {
            let mut destination = Destination::make_at(&folder.path().join(home), far.address(), name);
            destination.start();
            io::Result::Ok(destination)
        })
    };
    let named = make("named", "server.test").unwrap();
    let numbered = make("numbered", &far.address().to_string()).unwrap();
    let scene = || {
        let mut gateway = Gateway::make(&folder.path().join("gateway"), &named);
        gateway.reach_at(&format!("server.test:{}", named.backhaul.address().port()));
        gateway.serve_also("numbered", &numbered);
        gateway.start();
        default_route(&wan);
        let phone = |name: &str, destination: &Destination| {
            let phone = Phone::make(&folder.path().join(name), name);
            phone.add_destination(destination);
            phone.pair(&gateway);
            phone.add(&[("form.xml", b"<form/>")]);
            phone
        };
        let (anna, ben) = (phone("anna", &named), phone("ben", &numbered));
        anna.sync();
        let begun = Instant::now();
        ben.sync();
        wait_until("the destination by address", || (numbered.inbox().len() == 1).then_some(()));
        assert!(begun.elapsed() < Duration::from_secs(5), "held back for {:?}", begun.elapsed());
        wait_until("the dead name server", || (gateway.state() == "DNS dead").then_some(()));
        println!("told after {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(15), "told after {:?}", begun.elapsed());
        let why = gateway.trouble();
        assert!(why.contains("server.test") && why.contains("check the backhaul's DNS"), "{why}");
        act(Scene { wan: &wan, names, gateway, named: &named, numbered: &numbered, ben });
        io::Result::Ok(())
    };
    wan.near().namespace().run_with_names(&resolv_conf, scene).unwrap();
}

#[test]
fn names_that_do_not_resolve_are_told_and_hold_back_no_other_destination() {
    with_dead_names(|scene| {
        scene.ben.add(&[("later.xml", b"<form/>")]);
        scene.names.wait_for_a_question();
        let begun = Instant::now();
        scene.ben.sync();
        wait_until("a form while a name is asked for", || (scene.numbered.inbox().len() == 2).then_some(()));
        println!("another destination's form was there after {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(3), "held back for {:?}", begun.elapsed());

        assert!(scene.named.inbox().is_empty());
        scene.names.answer_from_now_on();
        let begun = Instant::now();
        wait_until("the form", || (scene.named.inbox().len() == 1).then_some(()));
        println!("the form was there {:?} after names resolve", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        wait_until("its state", || (scene.gateway.state() == "ok").then_some(()));
        assert_eq!(scene.gateway.trouble(), "");
    });
}

#[test]
fn a_new_path_does_not_wait_for_the_dead_names_of_the_one_before() {
    with_dead_names(|scene| {
        scene.names.wait_for_a_question();
        std::thread::sleep(Duration::from_secs(2));
        scene.names.answer_from_now_on();
        replug(scene.wan);
        let begun = Instant::now();
        wait_until("the form", || (scene.named.inbox().len() == 1).then_some(()));
        println!("the form was there {:?} after the new path", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    });
}
