//! Reading: whom documents are sealed to besides the destination, the phone's own key, and subscriptions.

use waypost_openpgp::{Certificate, Limits, OpenError};
use waypost_phone::Phone;
use waypost_protocol::envelope;
use waypost_protocol::sync::Holdings as _;
use waypost_store::Filter;

use crate::kit::*;

#[test]
fn a_collection_is_sealed_to_its_readers_and_the_others_are_not() {
    let (key, reader) = (destination("Clinic"), destination("Bela"));
    let cli = Cli::new();
    cli.add_destination(&key);
    let certificate = cli.write("bela.asc", reader.certificate().to_armor().as_bytes());
    let certificate = certificate.to_str().unwrap();
    let wrong = ["destination", "set", "Clinic", "--reader", certificate, "--reads", "news"];
    assert!(cli.expect(2, &wrong).stderr.contains("no collection `news` here"));
    cli.expect(0, &["destination", "set", "Clinic", "--collection", "news"]);
    let set = cli.json(0, &wrong).last();
    let fingerprint = reader.certificate().fingerprint().to_string();
    assert_eq!(set["readers"][0]["fingerprint"], fingerprint.as_str());
    let form = cli.write("form", b"form").into_os_string();
    let opened = || {
        let phone = Phone::open(&cli.home()).unwrap();
        let last = phone.own_documents(Filter::All).unwrap().pop().unwrap();
        let body = phone.store().read_body(last.seq, 0, 1 << 20).unwrap();
        let (_, at) = envelope::parse(&body).unwrap();
        let open = |key: &waypost_openpgp::SecretKey| {
            key.open(&body[at..], std::io::sink(), Limits { max_content: 1 << 20 }).map(|_| ())
        };
        open(&key).unwrap();
        open(&reader)
    };
    let add = |collection: &str| {
        cli.expect(0, &["add".as_ref(), form.as_os_str(), "--collection".as_ref(), collection.as_ref()]);
    };
    add("news");
    opened().unwrap();
    add("forms");
    assert!(matches!(opened(), Err(OpenError::OtherKey)));
    // What is known of the destination is refreshed; its readers stay until they are dropped.
    cli.expect(0, &["destination", "add", cli.path("destination.asc").to_str().unwrap(), "--yes"]);
    add("news");
    opened().unwrap();
    cli.expect(0, &["destination", "set", "Clinic", "--drop-reader", &fingerprint]);
    add("news");
    assert!(matches!(opened(), Err(OpenError::OtherKey)));
    assert!(
        cli.expect(2, &["destination", "set", "Clinic", "--drop-reader", &fingerprint])
            .stderr
            .contains("is no reader")
    );
}

#[test]
fn a_phone_has_one_readers_key_and_hands_out_only_its_certificate() {
    let cli = Cli::new();
    cli.add_destination(&destination("Clinic"));
    assert!(cli.expect(1, &["reader", "export-certificate"]).stderr.contains("waypost-phone reader new"));
    let made = cli.json(0, &["reader", "new", "--name", "Bela's phone"]).last();
    assert!(cli.expect(1, &["reader", "new"]).stderr.contains("has a reader's key already"));
    let exported = cli.expect(0, &["reader", "export-certificate"]).stdout;
    let certificate = Certificate::from_bytes(exported.as_bytes()).unwrap();
    assert_eq!(made["fingerprint"], certificate.fingerprint().to_string().as_str());
    assert_eq!(certificate.user_id().as_deref(), Some("Bela's phone"));
    assert!(certificate.can_be_sealed_to(MADE));
    let public = cli.write("public.asc", exported.as_bytes());
    let other = Cli::new();
    other.add_destination(&destination("Clinic"));
    let refused = other.expect(1, &["reader", "import", public.to_str().unwrap()]);
    assert!(refused.stderr.contains("no secret key"), "{refused:?}");
}

#[test]
fn subscriptions_are_to_collections_that_there_are_and_end() {
    let cli = Cli::new();
    cli.add_destination(&destination("Clinic"));
    let refused = cli.expect(1, &["subscribe", "news"]);
    assert!(refused.stderr.contains("has no collection `news`, it has: forms"), "{refused:?}");
    let group = cli.json(0, &["subscribe", "forms"]).last()["subscribed"]["group"].clone();
    let status = || cli.json(0, &["status"]).last()["subscriptions"].clone();
    assert_eq!(status()[0]["group"], group);
    assert_eq!(cli.json(0, &["unsubscribe", "forms"]).last()["was_subscribed"], true);
    assert_eq!(cli.json(0, &["unsubscribe", "forms"]).last()["was_subscribed"], false);
    assert!(status().as_array().unwrap().is_empty());
    let own = cli.write("own", b"own");
    cli.expect(0, &["add", own.to_str().unwrap()]);
    let id = cli.json(0, &["list"]).last()["documents"][0]["id"].as_str().unwrap().to_owned();
    cli.expect(0, &["reader", "new"]);
    let refused = cli.expect(1, &["open", &id]);
    assert!(refused.stderr.contains("is no document that this phone has received"), "{refused:?}");
}
