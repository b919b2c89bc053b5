//! A line that loses, delays and reorders packets and goes away in between: all arrives, and nothing goes twice.

use std::time::{Duration, Instant};

use waypost_tests::proxy::Direction;
use waypost_tests::scenario::{content, default_route, over_a_line, wait_until};
use waypost_tests::wan::Conditions;

const FORMS: usize = 200;
const VIDEO: usize = 5_000_000;
const FORM: usize = 1_000;
const WINDOW: Duration = Duration::from_secs(4);

#[test]
fn forms_and_a_video_come_through_loss_and_reordering_and_cost_what_they_are() {
    let line = Conditions {
        delay: Duration::from_millis(75),
        // Three windows do not suffice.
        rate: Some(400_000),
        loss: 0.03,
        reorder: 0.1,
        reorder_delay: Duration::from_millis(30),
        seed: 11,
        ..Conditions::default()
    };
    over_a_line(line, false, |wan, destination, gateway, phone| {
        let video = content(1, VIDEO);
        let forms: Vec<(String, Vec<u8>)> =
            (0..FORMS).map(|number| (format!("{number}.xml"), content(100 + number as u64, FORM))).collect();
        let files: Vec<(&str, &[u8])> =
            forms.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
        phone.add(&[("video.mp4", &video)]);
        phone.add(&files);
        phone.sync();
        let opened = || gateway.status()["opened"].as_u64().unwrap();
        let (begun, mut windows, mut there) = (Instant::now(), 0, Vec::new());
        while opened() < 1 + FORMS as u64 {
            windows += 1;
            assert!(windows < 60, "{} opened after {windows} windows", opened());
            wan.near().plug(true).unwrap();
            default_route(wan);
            let until = Instant::now() + WINDOW;
            while Instant::now() < until && opened() < 1 + FORMS as u64 {
                std::thread::sleep(Duration::from_millis(50));
            }
            wan.near().plug(false).unwrap();
            there.push(opened());
            std::thread::sleep(Duration::from_secs(1));
        }
        let arrived = destination.backhaul.counts(Direction::ToTarget).bytes;
        let documents = (VIDEO + FORMS * FORM) as u64;
        println!(
            "{windows} windows, {:?}, {arrived} bytes arrived for {documents} of documents; opened: {there:?}",
            begun.elapsed()
        );
        assert!(windows >= 4, "{windows}: nothing closed in between");
        // Seals, TLS and requests are in it.
        assert!(arrived <= documents * 105 / 100, "{arrived}");
        let inbox = destination.inbox();
        assert!(inbox["video.mp4"] == video && forms.iter().all(|(name, bytes)| inbox[name] == *bytes));
        assert_eq!(inbox.len(), 1 + FORMS, "each once");
        wait_until("the end", || (gateway.status()["waiting"] == 0).then_some(()));
    });
}
