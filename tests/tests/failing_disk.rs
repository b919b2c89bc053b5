//! A disk that takes nothing more after an error, as ext4 is with `errors=remount-ro`: phones are told, the admin is told, the
//! store is opened anew, and all goes on where the disk does.

use serde_json::Value;
use waypost_tests::lossy_fs::LossyDisk;
use waypost_tests::scenario::{Destination, Gateway, PATIENCE, Phone, folder, wait_until};

#[test]
fn a_store_that_cannot_be_written_is_a_notice_and_is_opened_anew_until_it_can() {
    let folder = folder();
    let mut destination = Destination::make(&folder.path().join("destination"));
    destination.start();
    let mut gateway = Gateway::make(&folder.path().join("gateway"), &destination);
    let store = gateway.folder().join("store");
    std::fs::create_dir(&store).unwrap();
    let mounted = LossyDisk::new().mount(store).unwrap();
    let disk = mounted.disk();
    gateway.start();
    let phone = Phone::make(&folder.path().join("amina"), "amina");
    phone.add_destination(&destination);
    phone.pair(&gateway);

    // An error that is over soon ends nothing.
    disk.set_read_only(true);
    phone.add(&[("form", b"a form")]);
    let refused = phone.try_run(&["sync"]);
    assert_eq!(refused.last()["transferred"], 0, "{refused:?}");
    let notice = wait_until("the admin is told", || notice(&gateway));
    assert!(notice.starts_with("no documents are taken, since the store cannot be written: "), "{notice}");
    disk.set_read_only(false);
    wait_until("it is over", || notice_is_over(&gateway));
    assert_eq!(phone.sync()["transferred"], 1);

    // One that stays ends the gateway: whoever has started it may do what helps.
    disk.set_read_only(true);
    phone.add(&[("second", b"another form")]);
    phone.try_run(&["sync"]);
    let ended = gateway.process().wait(PATIENCE).unwrap();
    assert!(!ended.success(), "{ended}");
    let log = std::fs::read_to_string(gateway.log()).unwrap();
    assert!(log.contains("the store cannot be written; it is opened anew"), "{log}");
    disk.set_read_only(false);
    gateway.start();
    wait_until("all is delivered", || {
        phone.try_run(&["sync"]);
        (destination.inbox().len() == 2 && phone.list(false).is_empty()).then_some(())
    });
    assert_eq!(gateway.findings(), Vec::<Value>::new());
}

fn notice(gateway: &Gateway) -> Option<String> {
    let status = gateway.status();
    let notices = status["notices"].as_array().unwrap();
    let store = notices.iter().find(|notice| notice["about"] == "store")?;
    Some(store["text"].as_str().unwrap().to_owned())
}

fn notice_is_over(gateway: &Gateway) -> Option<()> {
    notice(gateway).is_none().then_some(())
}
