//! Two phones without a kiosk: documents are carried, confirmations come back.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use waypost_protocol::confirmation::Verdict;

use crate::kiosk::{Kiosk, Manners};
use crate::kit::*;

/// A process of `waypost-phone --json …` and what it says, ended when dropped.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    fn start(cli: &Cli, arguments: &[&str]) -> Self {
        let mut child = cli.command().arg("--json").args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }

    fn until(&mut self, event: &str) -> Value {
        loop {
            let object: Value = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
            if object["event"] == event {
                return object;
            }
        }
    }

    fn terminate(&mut self) -> i32 {
        let id = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn another_phone_carries_documents_to_the_kiosk_and_the_confirmation_back() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners::serving(&key));
    let (author, carrier) = (Cli::new(), Cli::new());
    author.add_destination(&key);
    carrier.add_destination(&key);
    let id = author.add(&author.write("form", &noise(100_000)));

    let mut listening = Running::start(&carrier, &["listen", "--listen", "127.0.0.1:0"]);
    let text = listening.until("listening")["text"].as_str().unwrap().to_owned();
    let report = author.json(0, &["sync", "--phone", &text]).last();
    assert_eq!((&report["ending"], &report["transferred"]), (&"finished".into(), &1.into()), "{report}");
    assert_eq!(listening.until("carried")["id"], id.to_string());
    assert_eq!(listening.until("report")["carried"], 1);
    // It is on its way, but at no kiosk yet; and it is not the carrier's own.
    assert_eq!(author.state("form"), "ready");
    assert!(carrier.states().is_empty());
    // A second phone has no use for the code.
    let stranger = Cli::new();
    stranger.expect(1, &["sync", "--phone", &text]);

    carrier.pair(&kiosk.pairing());
    assert_eq!(kiosk.documents(), [id]);
    kiosk.confirm(&key, &[id], Verdict::Opened);
    carrier.expect(0, &["sync"]);
    // Once they have met, the key is enough.
    let name = carrier.json(0, &["status"]).last()["key"].as_str().unwrap()[..12].to_owned();
    let synced = author.json(0, &["sync", "--phone", &name]);
    assert_eq!(synced.last()["opened"], 1, "{synced:?}");
    assert_eq!(author.state("form"), "at-the-server");
    assert_eq!(listening.terminate(), 0);
}

#[test]
fn in_the_background_added_documents_go_out_at_once_and_confirmations_come_in() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners::serving(&key));
    let cli = Cli::new();
    cli.add_destination(&key);
    cli.pair(&kiosk.pairing());
    let mut running = Running::start(&cli, &["run"]);
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
