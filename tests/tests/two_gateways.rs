//! Two gateways with the same documents: what one has delivered the other does not send again, and its phones hear of it.

use serde_json::Value;
use waypost_tests::proxy::{Content, Direction, Proxy};
use waypost_tests::scenario::{Gateway, Phone, Site, content, wait_until};

const DOCUMENTS: u64 = 1_000;
const SIZE: usize = 1_000;

#[test]
fn a_thousand_documents_that_another_gateway_delivered_are_asked_about_and_not_sent_again() {
    let site = Site::start();
    site.destination.backhaul.refuse(true);
    let own = Proxy::start(site.destination.address(), Content::Bytes).unwrap();
    own.refuse(true);
    let folder = site.gateway.folder().with_file_name("other");
    let mut other = Gateway::make(&folder, &site.destination);
    other.reach(own.address());
    other.configure("50-quick", "[upload]\nprobe_interval = \"1s\"\nmax_backoff = \"1s\"\n");
    other.start();

    let phone: Phone = site.paired_phone("anna");
    let files: Vec<(String, Vec<u8>)> =
        (0..DOCUMENTS).map(|number| (format!("form-{number}.xml"), content(number, SIZE))).collect();
    phone.add(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>());
    phone.sync();
    phone.pair(&other);
    phone.run(&["sync", "--address", &other.link.address().to_string()]);
    let both = [site.gateway.status(), other.status()].map(|status| status["waiting"].as_u64());
    assert_eq!(both, [Some(DOCUMENTS); 2]);

    site.destination.backhaul.refuse(false);
    wait_until("the first gateway's verdicts", || {
        (site.gateway.status()["opened"] == DOCUMENTS).then_some(())
    });
    let first = site.destination.backhaul.counts(Direction::ToTarget).bytes;
    own.refuse(false);
    wait_until("the other's", || (other.status()["opened"] == DOCUMENTS).then_some(()));
    let second = own.counts(Direction::ToTarget).bytes;
    println!("{first} bytes from the first gateway, {second} from the other");
    assert!(first > DOCUMENTS * SIZE as u64);
    // 32 bytes to ask about each, and what HTTPS takes.
    assert!(second < DOCUMENTS * 50, "{second}");
    assert_eq!(site.destination.inbox().len() as u64, DOCUMENTS);

    // Either tells the phone.
    phone.sync();
    assert_eq!(phone.list(false), [] as [Value; 0]);
}
