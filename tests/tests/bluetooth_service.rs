//! A Bluetooth service that never switches its adapter on, as BlueZ 5.82 was seen to be: the admin is told, and the service
//! manager is asked for its restart. BlueZ can't be made to do so at will, so that its answer is given here, on a bus of the
//! test's own. That the restart follows is shown by the radio lab (service/comes-back).

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use futures_util::StreamExt as _;
use waypost_tests::process::Process;
use waypost_tests::scenario::{Destination, Gateway, PATIENCE, folder, wait_until};
use zbus::MessageStream;
use zbus::connection::Builder;
use zbus::message::Type;
use zbus::zvariant::{ObjectPath, Value};

const ADAPTER: &str = "org.bluez.Adapter1";

#[test]
fn a_service_that_answers_busy_for_ever_is_asked_to_be_restarted() {
    let folder = folder();
    let bus = Bus::start(folder.path());
    std::thread::spawn({
        let address = bus.address.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(answer_busy(&address));
        }
    });
    let destination = Destination::make(&folder.path().join("destination"));
    let mut gateway = Gateway::make(&folder.path().join("gateway"), &destination);
    gateway.configure("40-ble", "[ble]\nenabled = true\nadapters = [\"hci77\"]\n");
    let runtime = folder.path().join("run");
    std::fs::create_dir(&runtime).unwrap();
    gateway.set_environment("DBUS_SYSTEM_BUS_ADDRESS", &bus.address);
    gateway.set_environment("RUNTIME_DIRECTORY", runtime.to_str().unwrap());
    gateway.start();

    let request = runtime.join("restart-bluetooth");
    let why = || gateway.status()["bluetooth"][0]["why"].as_str().map(str::to_owned);
    wait_until("it is off at first", || (why()? == "switch it on: bluetoothctl power on").then_some(()));
    assert!(!request.exists(), "a service that refuses once may be doing it just now");
    wait_until("a restart is asked for", || request.exists().then_some(()));
    assert_eq!(
        why().unwrap(),
        "the Bluetooth service does not switch it on; restart that: systemctl restart bluetooth"
    );
    assert!(gateway.stop().success());
}

/// A message bus of the test's own.
struct Bus {
    address: String,
    _daemon: Process,
}

impl Bus {
    fn start(folder: &Path) -> Self {
        let address = format!("unix:path={}", folder.join("bus").display());
        let configuration = folder.join("bus.conf");
        std::fs::write(&configuration, OPEN_BUS.replace("ADDRESS", &address)).unwrap();
        let mut run = Command::new("dbus-daemon");
        run.arg("--config-file").arg(configuration).args(["--nofork", "--print-address"]);
        let mut daemon = Process::start(run, folder.join("bus.log")).unwrap();
        daemon.wait_for("unix:path", PATIENCE).unwrap();
        Bus { address, _daemon: daemon }
    }
}

/// Whoever finds it may say everything.
const OPEN_BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>ADDRESS</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;

/// A Bluetooth service with one adapter, which is off and stays off.
async fn answer_busy(address: &str) {
    let connection = Builder::address(address).unwrap().build().await.unwrap();
    let mut messages = MessageStream::from(&connection);
    connection.request_name("org.bluez").await.unwrap();
    let properties = || -> HashMap<&str, Value<'_>> {
        HashMap::from([
            ("Address", "02:00:00:00:00:01".into()),
            ("AddressType", "public".into()),
            ("Powered", false.into()),
        ])
    };
    while let Some(Ok(message)) = messages.next().await {
        let header = message.header();
        if header.message_type() != Type::MethodCall {
            continue;
        }
        let member = header.member().map(ToString::to_string).unwrap_or_default();
        match member.as_str() {
            "GetManagedObjects" => {
                let path = ObjectPath::try_from("/org/bluez/hci77").unwrap();
                let objects = HashMap::from([(path, HashMap::from([(ADAPTER, properties())]))]);
                connection.reply(&header, &objects).await.unwrap();
            }
            "Get" => {
                let (_, name): (String, String) = message.body().deserialize().unwrap();
                match properties().remove(name.as_str()) {
                    Some(value) => connection.reply(&header, &value).await.unwrap(),
                    None => connection
                        .reply_error(&header, "org.freedesktop.DBus.Error.InvalidArgs", &"")
                        .await
                        .unwrap(),
                }
            }
            _ => connection.reply_error(&header, "org.bluez.Error.Busy", &"").await.unwrap(),
        };
    }
}
