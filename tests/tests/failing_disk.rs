//! A disk that takes nothing more after an error, as ext4 is with `errors=remount-ro`: phones are told, the admin is told, the
//! store is opened anew, and all goes on where the disk does.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use serde_json::Value;
use waypost_tests::lossy_fs::{LossyDisk, Mounted};
use waypost_tests::scenario::{Destination, Gateway, PATIENCE, Phone, folder, wait_until};

/// Said in the log before it is done.
const ANEW: &str = "the store cannot be written; it is opened anew";

/// A site whose gateway has its store on a disk that can fail; the gateway does not run yet.
fn site(folder: &Path) -> (Destination, Gateway, Phone, Mounted) {
    let mut destination = Destination::make(&folder.join("destination"));
    destination.start();
    let gateway = Gateway::make(&folder.join("gateway"), &destination);
    let store = gateway.folder().join("store");
    std::fs::create_dir(&store).unwrap();
    let mounted = LossyDisk::new().mount(store).unwrap();
    let phone = Phone::make(&folder.join("amina"), "amina");
    phone.add_destination(&destination);
    (destination, gateway, phone, mounted)
}

#[test]
fn a_store_that_is_opened_anew_goes_on_and_its_service_manager_is_told_of_no_end() {
    let folder = folder();
    let (destination, mut gateway, phone, mounted) = site(folder.path());
    let socket = folder.path().join("manager");
    let manager = UnixDatagram::bind(&socket).unwrap();
    gateway.set_manager(&socket);
    gateway.start();
    phone.pair(&gateway);
    mounted.disk().set_read_only(true);
    phone.add(&[("form", b"a form")]);
    phone.try_run(&["sync"]);
    gateway.process().wait_for(ANEW, PATIENCE).unwrap();
    mounted.disk().set_read_only(false);
    wait_until("all is delivered", || {
        // It listens at another port.
        gateway.settle();
        phone.try_run(&["sync"]);
        (destination.inbox().len() == 1 && phone.list(false).is_empty()).then_some(())
    });
    manager.set_nonblocking(true).unwrap();
    let (mut told, mut buffer) = (String::new(), [0; 4096]);
    while let Ok(len) = manager.recv(&mut buffer) {
        told += std::str::from_utf8(&buffer[..len]).unwrap();
    }
    assert!(told.matches("READY=1").count() >= 2, "{told}");
    // systemd kills within its time whoever has said so, whatever it says afterwards.
    assert!(!told.contains("STOPPING"), "{told}");
    assert!(gateway.stop().success());
}

#[test]
fn a_store_that_cannot_be_written_is_a_notice_and_ends_the_gateway_where_opening_it_anew_does_not_help() {
    let folder = folder();
    let (destination, mut gateway, phone, mounted) = site(folder.path());
    let disk = mounted.disk();
    gateway.start();
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
    // Until nothing is being written: a disk that fails amid that stops the database, which is another message.
    wait_until("the form is confirmed", || {
        phone.try_run(&["sync"]);
        phone.list(false).is_empty().then_some(())
    });

    // One that stays ends the gateway: whoever has started it may do what helps.
    disk.set_read_only(true);
    phone.add(&[("second", b"another form")]);
    phone.try_run(&["sync"]);
    let ended = gateway.process().wait(PATIENCE).unwrap();
    assert!(!ended.success(), "{ended}");
    let log = std::fs::read_to_string(gateway.log()).unwrap();
    assert!(log.contains(ANEW), "{log}");
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
