//! A path that is there for some seconds at a time: large documents go on where they were cut off, small ones don't wait
//! for them, nothing goes twice.

use std::time::{Duration, Instant};

use serde_json::json;
use waypost_tests::scenario::{Gateway, content, default_route, over_a_line, wait_until};
use waypost_tests::wan::{Conditions, Direction, Wan};

/// The path is there for so long.
fn window(wan: &Wan, span: Duration) {
    wan.near().plug(true).unwrap();
    default_route(wan);
    std::thread::sleep(span);
    wan.near().plug(false).unwrap();
}

fn opened(gateway: &Gateway) -> u64 {
    gateway.status()["opened"].as_u64().unwrap()
}

#[test]
fn a_video_goes_on_in_the_next_window_and_forms_do_not_wait_for_it() {
    const VIDEO: usize = 6_000_000;
    const RATE: u64 = 600_000;
    let line = Conditions { delay: Duration::from_millis(50), rate: Some(RATE), ..Conditions::default() };
    over_a_line(line, false, |wan, destination, gateway, phone| {
        let video = content(1, VIDEO);
        phone.add(&[("video.mp4", &video)]);
        for number in 0..50 {
            phone.add(&[(&format!("form-{number}.xml"), &content(100 + number, 1_000))]);
        }
        phone.sync();
        let before = wan.counters(Direction::Out).bytes;
        let mut windows = 0;
        while opened(gateway) < 51 {
            windows += 1;
            assert!(windows <= 8, "{} after {windows} windows", opened(gateway));
            window(wan, Duration::from_secs(4));
            if windows == 1 {
                assert_eq!(opened(gateway), 50, "the forms in the first window");
                assert_eq!(destination.inbox().len(), 50);
            }
            wait_until("its end", || (gateway.status()["networks"] == json!([])).then_some(()));
            std::thread::sleep(Duration::from_secs(2));
        }
        let sent = wan.counters(Direction::Out).bytes - before;
        println!("{windows} windows of 4 s, {sent} bytes on the line for {VIDEO} of the video");
        // 2.4 MB fit a window.
        assert!((3..=4).contains(&windows), "{windows}");
        // What waits in the machine's buffers when a window closes is lost.
        assert!(sent < VIDEO as u64 * 115 / 100, "{sent}");
        assert!(destination.inbox()["video.mp4"] == video);
        phone.sync();
        assert!(phone.list(false).is_empty(), "all confirmed");
    });
}

#[test]
fn a_video_goes_on_after_both_ends_were_killed() {
    let line = Conditions { rate: Some(1_000_000), ..Conditions::default() };
    over_a_line(line, false, |wan, destination, gateway, phone| {
        let video = content(2, 6_000_000);
        phone.add(&[("video.mp4", &video)]);
        phone.sync();
        let before = wan.counters(Direction::Out).bytes;
        window(wan, Duration::from_secs(3));
        gateway.kill9();
        destination.kill9();
        let again = wan.far().namespace().run(|| {
            destination.start();
            std::io::Result::Ok(())
        });
        again.unwrap();
        gateway.start();
        wan.near().plug(true).unwrap();
        default_route(wan);
        wait_until("the video", || (opened(gateway) == 1).then_some(()));
        let sent = wan.counters(Direction::Out).bytes - before;
        println!("{sent} bytes on the line");
        assert!(sent < 6_000_000 * 115 / 100, "{sent}");
        assert!(destination.inbox()["video.mp4"] == video);
    });
}

#[test]
fn a_form_that_comes_while_a_video_is_under_way_is_there_before_it() {
    let line = Conditions { rate: Some(300_000), ..Conditions::default() };
    over_a_line(line, false, |wan, destination, gateway, phone| {
        wan.near().plug(true).unwrap();
        default_route(wan);
        phone.add(&[("video.mp4", &content(3, 12_000_000))]);
        phone.sync();
        wait_until("some of it", || gateway.status()["destinations"][0]["progress"][0].as_u64());
        phone.add(&[("form.xml", b"<form/>")]);
        phone.sync();
        let begun = Instant::now();
        wait_until("the form", || destination.inbox().contains_key("form.xml").then_some(()));
        println!("the form was there after {:?}; the video takes 40 s", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert!(!destination.inbox().contains_key("video.mp4"));
    });
}
