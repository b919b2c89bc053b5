//! A large document that is interrupted on its way goes on where the gateway has it stored, whoever was interrupted.

use nix::sys::signal::Signal;
use waypost_tests::process::Process;
use waypost_tests::proxy::{Direction, Frame, Moment, Then};
use waypost_tests::scenario::{PATIENCE, Phone, Site, content, wait_until};

const SIZE: usize = 20_000_000;
/// Where it is interrupted: a frame of 16 KiB towards the gateway, so after about 8 MB.
const AT_FRAME: u64 = 500;
/// What may be sent twice: what is under way and not yet stored (window and piece of the protocol), and framing.
const SLACK: u64 = 512 << 10;

/// A phone with a document of [`SIZE`] bytes, at a site without backhaul.
struct Scene {
    site: Site,
    phone: Phone,
    photo: Vec<u8>,
}

impl Scene {
    fn set(seed: u64) -> Self {
        let site = Site::start();
        let phone = site.paired_phone("phone");
        site.destination.backhaul.refuse(true);
        let photo = content(seed, SIZE);
        phone.add(&[("photo.raw", &photo)]);
        Scene { site, phone, photo }
    }

    fn sent(&self) -> u64 {
        self.site.gateway.link.counts(Direction::ToTarget).bytes
    }

    /// Deals `blow` at a frame in the middle of the first contact.
    fn interrupt(&self, blow: impl FnOnce() -> Then + Send + 'static) {
        let is_middle = |frame: &Frame| frame.direction == Direction::ToTarget && frame.number >= AT_FRAME;
        self.site.gateway.link.when(Moment::Before, is_middle, move |_| blow());
    }

    /// The next contact sends the rest and no more, and the document arrives whole.
    fn expect_the_rest(self) {
        let Scene { site, phone, photo } = self;
        let sent = || site.gateway.link.counts(Direction::ToTarget).bytes;
        let before = sent();
        assert!(before > 6_000_000 && before < 10_000_000, "interrupted after {before} bytes");
        let held = site.gateway.status()["partials"].clone();
        assert_eq!(held, 1, "the gateway has begun {held} documents");
        let report = phone.sync();
        assert_eq!(report["ending"], "finished", "{report:#}");
        let again = sent() - before;
        let rest = SIZE as u64 - before;
        assert!(
            again >= rest && again <= rest + SLACK,
            "{before} bytes in the first contact, {again} in the second: {} too many",
            again.saturating_sub(rest)
        );
        site.destination.backhaul.refuse(false);
        phone.run(&["sync", "--wait", "60s"]);
        assert!(
            site.destination.inbox() == [("photo.raw".to_owned(), photo)].into(),
            "it did not arrive whole"
        );
        assert!(phone.list(false).is_empty());
    }
}

#[test]
fn a_document_resumes_after_a_cut_of_the_link() {
    let scene = Scene::set(1);
    let before = scene.sent();
    scene.site.gateway.link.cut_after(Direction::ToTarget, 8_000_000);
    let report = scene.phone.try_run(&["sync"]);
    assert_eq!(report.last()["ending"], "link lost", "{report:#?}");
    assert_eq!(scene.sent() - before, 8_000_000);
    scene.expect_the_rest();
}

#[test]
fn a_document_resumes_after_a_kill_of_the_gateway() {
    let mut scene = Scene::set(2);
    let killer = scene.site.gateway.process().killer();
    scene.interrupt(move || {
        killer.kill9().unwrap();
        Then::GoOn
    });
    assert_eq!(scene.phone.try_run(&["sync"]).last()["ending"], "link lost");
    scene.site.gateway.kill9();
    scene.site.gateway.start();
    scene.expect_the_rest();
}

#[test]
fn a_document_resumes_after_a_restart_of_the_gateway() {
    let mut scene = Scene::set(3);
    let id = scene.site.gateway.process().id();
    scene.interrupt(move || {
        let id = nix::unistd::Pid::from_raw(id.cast_signed());
        nix::sys::signal::kill(id, Signal::SIGTERM).unwrap();
        Then::GoOn
    });
    let first = scene.phone.try_run(&["sync"]);
    assert_ne!(first.last()["ending"], "finished", "{first:#?}");
    assert!(scene.site.gateway.process().wait(PATIENCE).unwrap().success());
    scene.site.gateway.start();
    scene.expect_the_rest();
}

#[test]
fn a_document_resumes_after_a_kill_of_the_phone() {
    let scene = Scene::set(4);
    let log = scene.site.folder().join("phone.log");
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    scene.interrupt(move || {
        // Held here until the phone is dead.
        let _ = receiver.recv_timeout(PATIENCE);
        Then::Cut
    });
    let mut phone = Process::start(scene.phone.command(&["sync"]), log).unwrap();
    let frames = || scene.site.gateway.link.counts(Direction::ToTarget).frames;
    wait_until("the middle of the document", || (frames() >= AT_FRAME).then_some(()));
    phone.kill9().unwrap();
    drop(sender);
    scene.expect_the_rest();
}
