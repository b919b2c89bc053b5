//! Two phones without a kiosk: documents are carried, confirmations come back.

use waypost_protocol::confirmation::Verdict;

use crate::kiosk::{Kiosk, Manners};
use crate::kit::*;

#[test]
fn another_phone_carries_documents_to_the_kiosk_and_the_confirmation_back() {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners::serving(&key));
    let (author, carrier) = (Cli::new(), Cli::new());
    author.add_destination(&key);
    carrier.add_destination(&key);
    let id = author.add(&author.write("form", &noise(100_000)));

    let mut listening = Running::start(&carrier, &["--json", "listen", "--listen", "127.0.0.1:0"]);
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
    stranger.init();
    let turned_away = stranger.expect(1, &["sync", "--phone", &text]);
    assert!(turned_away.stdout.contains("used up or too old"), "{turned_away:?}");

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
