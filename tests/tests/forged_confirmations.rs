//! Confirmations that prove nothing: neither gateway nor phone deletes anything for them, and both say so.

use std::sync::{Arc, Mutex};

use waypost_openpgp::{BUILD_FLOOR, SecretKey};
use waypost_protocol::confirmation::{Confirmation, Rejection, Statement, Verdict};
use waypost_protocol::envelope::Header;
use waypost_protocol::ids::{Fingerprint, MessageId};
use waypost_protocol::mvds::{self, Payload};
use waypost_protocol::refusal::Reason;
use waypost_protocol::time::UnixTime;
use waypost_tests::rogue::{
    RawSession, RogueDestination, RogueGateway, Told, document, hello, identity, introduced_to,
};
use waypost_tests::scenario::{Destination, Site, wait_until};

const NOW: UnixTime = UnixTime(BUILD_FLOOR.0 + 1_000_000);

/// The ways in which a confirmation can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// Everything of another key, which says that it signs for this destination.
    OtherKey,
    /// Signed by another key, and said to be signed by the destination's.
    WrongKey,
    /// The destination signed `rejected`, and the text was changed to `opened`.
    AlteredVerdict,
    /// The destination signed, and one of the ids was exchanged.
    AlteredId,
    /// The destination signed, for other documents.
    WrongId,
    /// A destination that is known as well signed for these documents, which are not addressed to it.
    WrongDestination,
    /// The signature is noise.
    Noise,
}

const LIES: [Lie; 7] = [
    Lie::OtherKey,
    Lie::WrongKey,
    Lie::AlteredVerdict,
    Lie::AlteredId,
    Lie::WrongId,
    Lie::WrongDestination,
    Lie::Noise,
];

impl Lie {
    /// Whether the signature itself is as it should be.
    fn verifies(self) -> bool {
        matches!(self, Lie::WrongId | Lie::WrongDestination)
    }
}

/// Who can sign here.
#[derive(Clone)]
struct Signers {
    destination: SecretKey,
    other_destination: SecretKey,
    stranger: SecretKey,
}

impl Signers {
    fn new(destination: &Destination, other_destination: &Destination) -> Self {
        let key = |of: &Destination| {
            SecretKey::from_bytes(&std::fs::read(of.home().join("secret.pgp")).unwrap()).unwrap()
        };
        Signers {
            destination: key(destination),
            other_destination: key(other_destination),
            stranger: SecretKey::generate("Stranger", BUILD_FLOOR).unwrap(),
        }
    }

    /// Says falsely that these documents were opened.
    fn lie(&self, lie: Lie, ids: &[MessageId]) -> Confirmation {
        let name = self.destination.certificate().fingerprint();
        let all = |verdict| ids.iter().map(|id| (*id, verdict)).collect::<Vec<_>>();
        let opened = all(Verdict::Opened);
        let sign = |key: &SecretKey, name: Fingerprint, verdicts| key.sign(name, verdicts, NOW).unwrap();
        let resign = |signer, verdicts, signature: &Confirmation| {
            let statement = Statement::new(name, signer, signature.statement.time(), verdicts).unwrap();
            Confirmation::new(statement, signature.signature().clone()).unwrap()
        };
        let honest = sign(&self.destination, name, opened.clone());
        let signer = honest.statement.signer();
        match lie {
            Lie::OtherKey => sign(&self.stranger, name, opened),
            Lie::WrongKey => resign(signer, opened.clone(), &sign(&self.stranger, name, opened)),
            Lie::AlteredVerdict => {
                let rejected = waypost_protocol::confirmation::Rejection::CannotOpen;
                let signed = sign(&self.destination, name, all(Verdict::Rejected(rejected)));
                resign(signer, opened, &signed)
            }
            Lie::AlteredId => {
                let mut others = opened.clone();
                others[0].0 = MessageId([0xab; 32]);
                resign(signer, opened, &sign(&self.destination, name, others))
            }
            Lie::WrongId => sign(&self.destination, name, vec![(MessageId([0xcd; 32]), Verdict::Opened)]),
            Lie::WrongDestination => {
                let other = self.other_destination.certificate().fingerprint();
                sign(&self.other_destination, other, opened)
            }
            Lie::Noise => {
                let statement = Statement::new(name, signer, NOW, opened).unwrap();
                Confirmation::new(statement, vec![0x88; 120].into()).unwrap()
            }
        }
    }
}

fn wire(confirmation: &Confirmation) -> mvds::Confirmation {
    confirmation.to_wire()
}

#[test]
fn a_gateway_takes_no_word_but_the_destinations() {
    let site = Site::start();
    // Its word counts as well, for its own documents.
    let other = site.another_destination("other");
    site.gateway.serve_also("other", &other);
    site.gateway.run(&["reload"]);
    let signers = Signers::new(&site.destination, &other);
    let phone = site.paired_phone("anna");
    let lie = Arc::new(Mutex::new(LIES[0]));
    let rogue = RogueDestination::start(&site.destination, {
        let (lie, signers) = (lie.clone(), signers.clone());
        move |ids| vec![wire(&signers.lie(*lie.lock().unwrap(), ids))]
    });
    site.destination.backhaul.retarget(rogue.address());
    let files: Vec<(String, Vec<u8>)> =
        (0..3).map(|number| (format!("form-{number}.xml"), vec![number; 500])).collect();
    let named: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
    phone.add(&named);
    phone.sync();

    // The destination's place tells lies: at the upload, then whenever it is asked for the verdicts.
    for now in LIES {
        *lie.lock().unwrap() = now;
        let before = rogue.requests().len();
        // The first may have been on its way before.
        wait_until("two more answers of the rogue", || (rogue.requests().len() > before + 1).then_some(()));
        let status = site.gateway.status();
        assert_eq!((&status["waiting"], &status["opened"]), (&3.into(), &0.into()), "{now:?}: {status}");
    }
    let trouble = site.gateway.status()["destinations"][0]["trouble"].to_string();
    assert!(trouble.contains("signature"), "{trouble}");
    let log = std::fs::read_to_string(site.gateway.log()).unwrap();
    assert!(log.contains("does not verify"), "{log}");

    // A paired phone brings them, too.
    let (stranger, code) = (identity(1), introduced_to(&site.gateway));
    let mut session =
        RawSession::open(site.gateway.link.address(), &code, &stranger, &hello("mallory", &[])).unwrap();
    let ids: Vec<MessageId> = site
        .gateway
        .documents()
        .iter()
        .map(|document| document["id"].as_str().unwrap().parse().unwrap())
        .collect();
    for lie in LIES {
        let confirmation = signers.lie(lie, &ids);
        session.send(&Payload { confirmations: vec![wire(&confirmation)], ..Payload::default() }).unwrap();
        let told = session.told(&confirmation.id());
        let expected = if lie.verifies() { Told::Ack } else { Told::Refused(Reason::NotProven) };
        assert_eq!(told, expected, "{lie:?}");
        let status = site.gateway.status();
        assert_eq!((&status["waiting"], &status["opened"]), (&3.into(), &0.into()), "{lie:?}: {status}");
    }
    session.close();

    // The truth works afterwards.
    site.destination.backhaul.retarget(site.destination.address());
    site.destination.backhaul.cut();
    wait_until("the real verdicts", || (site.gateway.status()["opened"] == 3).then_some(()));
    phone.sync();
    assert_eq!(phone.list(false), [] as [serde_json::Value; 0]);
    assert_eq!(site.destination.inbox(), files.into_iter().collect());
}

#[test]
fn verdicts_move_forward_only_for_256_documents_at_once_and_never_for_257() {
    let site = Site::start();
    site.destination.backhaul.refuse(true);
    let key = Signers::new(&site.destination, &site.another_destination("other")).destination;
    let mut phone = RawSession::open(
        site.gateway.link.address(),
        &introduced_to(&site.gateway),
        &identity(1),
        &hello("anna", &[]),
    )
    .unwrap();
    let name = key.certificate().fingerprint();
    let ids: Vec<MessageId> = (0..257)
        .map(|seed| {
            let document = document(&Header::to(name), seed, 300);
            assert_eq!(phone.deposit(&document), Told::Ack);
            document.id()
        })
        .collect();
    let mut says = |verdict, later: u64, ids: &[MessageId]| {
        let verdicts = ids.iter().map(|id| (*id, verdict)).collect();
        let confirmation = key.sign(name, verdicts, UnixTime(NOW.0 + later)).unwrap();
        phone.send(&Payload { confirmations: vec![wire(&confirmation)], ..Payload::default() }).unwrap();
        assert_eq!(phone.told(&confirmation.id()), Told::Ack);
    };
    let counted = || {
        ["waiting", "held", "opened", "rejected"].map(|state| site.gateway.status()[state].as_u64().unwrap())
    };
    says(Verdict::Held, 0, &ids[..256]);
    assert_eq!(counted(), [1, 256, 0, 0]);
    says(Verdict::Opened, 1, &ids[..256]);
    assert_eq!(counted(), [1, 0, 256, 0]);
    // What was signed later counts no more than what was signed earlier.
    let rejected = Verdict::Rejected(Rejection::CannotOpen);
    for (verdict, later) in [(Verdict::Held, 2), (rejected, 3), (Verdict::Held, 0), (rejected, 0)] {
        says(verdict, later, &ids[..256]);
        assert_eq!(counted(), [1, 0, 256, 0], "{verdict:?} {later} s later");
    }
    // The library makes none of 257; somebody else's might.
    assert!(key.sign(name, ids.iter().map(|id| (*id, Verdict::Opened)).collect(), NOW).is_err());
    let real = key.sign(name, ids[..256].iter().map(|id| (*id, Verdict::Opened)).collect(), NOW).unwrap();
    let mut sorted = ids;
    sorted.sort();
    let forged = mvds::Confirmation {
        ids: sorted.iter().flat_map(|id| id.0).collect(),
        verdicts: vec![1; 257].into(),
        ..wire(&real)
    };
    phone.send(&Payload { confirmations: vec![forged], ..Payload::default() }).unwrap();
    let another = document(&Header::to(name), 1_000, 300);
    assert_eq!(phone.deposit(&another), Told::Ack, "the session goes on");
    assert_eq!(counted(), [2, 0, 256, 0]);
}

#[test]
fn a_phone_takes_no_word_but_the_destinations() {
    let site = Site::start();
    let other = site.another_destination("other");
    let signers = Signers::new(&site.destination, &other);
    let phone = site.new_phone("anna");
    phone.add_destination(&site.destination);
    phone.add_destination(&other);
    let rogue = RogueGateway::start(7, &[site.destination.fingerprint().parse().unwrap()]);
    phone.run(&["pair", &rogue.pairing_code()]);
    let fingerprint = site.destination.fingerprint();
    let file = site.folder().join("form.xml");
    std::fs::write(&file, b"<form/>").unwrap();
    let added = phone.run(&["add", "--destination", fingerprint, file.to_str().unwrap()]);
    let text = added.events("added").next().unwrap()["id"].as_str().unwrap().to_owned();
    let id: MessageId = text.parse().unwrap();
    phone.sync();
    assert_eq!(phone.list(false)[0]["state"], "at-the-kiosk");

    for lie in LIES {
        let confirmation = signers.lie(lie, &[id]);
        let mut given = Some(wire(&confirmation));
        rogue.says(move |_| Payload {
            confirmations: given.take().into_iter().collect(),
            ..Payload::default()
        });
        let ran = phone.try_run(&["sync", "--to", "Rogue kiosk"]);
        let report = ran.last();
        assert_eq!(report["not_proven"].as_u64(), Some(u64::from(!lie.verifies())), "{lie:?}: {ran:#?}");
        assert_eq!(ran.events("not-proven").count(), usize::from(!lie.verifies()), "{lie:?}: {ran:#?}");
        assert_eq!((&report["opened"], &report["rejected"]), (&0.into(), &0.into()), "{lie:?}: {ran:#?}");
        let listed = phone.list(false);
        assert_eq!(listed.len(), 1, "{lie:?}");
        assert_eq!((&listed[0]["state"], &listed[0]["is_here"]), (&"at-the-kiosk".into(), &true.into()));
        // The rogue was told why.
        let refusals: Vec<_> = rogue.heard().into_iter().flat_map(|payload| payload.refusals).collect();
        let told = refusals.iter().any(|one| one.id == confirmation.id().0[..]);
        assert_eq!(told, !lie.verifies(), "{lie:?}");
    }

    // The truth works afterwards, whoever brings it.
    let honest =
        signers.destination.sign(fingerprint.parse().unwrap(), vec![(id, Verdict::Opened)], NOW).unwrap();
    let mut given = Some(wire(&honest));
    rogue.says(move |_| Payload { confirmations: given.take().into_iter().collect(), ..Payload::default() });
    let ran = phone.run(&["sync", "--to", "Rogue kiosk"]);
    assert_eq!((&ran.last()["opened"], ran.events("confirmed").count()), (&1.into(), 1), "{ran:#?}");
    assert_eq!(phone.list(false), [] as [serde_json::Value; 0]);
}
