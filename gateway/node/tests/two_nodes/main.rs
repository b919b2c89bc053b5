//! Two nodes with real stores and real sessions over a link in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod moving;

use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use waypost_link::{LinkInfo, Medium, Throttle, memory_pair};
use waypost_node::{
    ContactSummary, ConversationId, Ending, Grant, Host, Limits, MediumLimits, Node, StoredNow, system_rng,
};
use waypost_protocol::advertising::AdvertisingKey;
use waypost_protocol::confirmation::{Confirmation, Statement, Verdict};
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{self, Header};
use waypost_protocol::ids::{Fingerprint, GroupId, MessageId, PeerKey, StoreId};
use waypost_protocol::refusal::{Goodbye, Reason};
use waypost_protocol::session::{Identity, Introduction, Pattern};
use waypost_protocol::succession::{self, Link};
use waypost_protocol::sync::{Accepts, Event, PeerHello, Served, WINDOW};
use waypost_protocol::time::UnixTime;
use waypost_store::{Change, Freeing, NewDocument, Options, State, Store, StoreKey, Writer, WriterOptions};

const DESTINATION: Fingerprint = Fingerprint::V4([9; 20]);

/// Takes everyone; believes confirmations that are signed "good".
struct TestHost {
    serves: Vec<Fingerprint>,
    refuses: Option<Goodbye>,
    /// Whoever comes is known here.
    knows: bool,
    freeing: Freeing,
    /// What peers are told that have not taken it before.
    tells: Vec<Link>,
    /// What was told here.
    heard: Vec<Link>,
    events: Vec<Event>,
    over: Vec<ContactSummary>,
}

impl TestHost {
    fn new(serves: Vec<Fingerprint>, freeing: Freeing) -> Self {
        TestHost {
            serves,
            refuses: None,
            knows: true,
            freeing,
            tells: Vec::new(),
            heard: Vec::new(),
            events: Vec::new(),
            over: Vec::new(),
        }
    }
}

impl Host for TestHost {
    fn admit(&mut self, _: &PeerKey, _: Pattern, _: &LinkInfo) -> Result<Grant, Goodbye> {
        let destinations = self.serves.iter().copied().map(Served::all).collect();
        match self.refuses {
            None => {
                let deposits =
                    Grant::deposits(Accepts { destinations, max_document: 1 << 30, records: true });
                Ok(Grant { is_known: self.knows, ..deposits })
            }
            Some(reason) => Err(reason),
        }
    }
    fn knows(&self, _: &PeerKey, _: Pattern) -> bool {
        self.knows
    }
    fn tells(&self, _: &PeerKey) -> Vec<Link> {
        self.tells.clone()
    }
    fn verify(&mut self, confirmation: &Confirmation) -> Result<(), String> {
        match &confirmation.signature()[..] {
            b"good" => Ok(()),
            // By a key that it hears of.
            b"renewed" if !self.heard.is_empty() => Ok(()),
            _ => Err("forged".into()),
        }
    }
    fn follow(&mut self, link: &Link) -> Result<(), Reason> {
        self.heard.push(link.clone());
        Ok(())
    }
    fn freeing(&self, _: &Confirmation) -> Freeing {
        self.freeing.clone()
    }
    fn event(&mut self, _: ConversationId, _: &PeerKey, event: &Event) {
        self.events.push(event.clone());
    }
    fn stored(&mut self, _: StoredNow) {}
    fn ended(&mut self, summary: ContactSummary) {
        self.over.push(summary);
    }
}

struct Side {
    node: Node,
    host: TestHost,
    key: PeerKey,
    advertising: AdvertisingKey,
    _folder: tempfile::TempDir,
}

fn limits() -> Limits {
    Limits {
        sessions: 10,
        per_address: 10,
        half_open: 10,
        handshake: Duration::from_secs(5),
        idle: Duration::from_secs(20),
        lan: MediumLimits::none(),
        wifi: MediumLimits::none(),
        ble: MediumLimits::none(),
    }
}

fn side(phone: bool, serves: Vec<Fingerprint>) -> Side {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { forwards: phone, map_size: 1 << 30, ..Options::default() };
    let store = Store::open(folder.path(), &StoreKey::new([1; 32]), options).unwrap();
    let writer = Writer::start(store.clone(), WriterOptions::default()).unwrap();
    let identity = Identity::generate(&mut system_rng().unwrap()).unwrap();
    let hello = PeerHello {
        store: store.store_id(),
        serves: serves.clone(),
        wants: vec![],
        max_document: 1 << 30,
        window: WINDOW,
        name: "test".into(),
        has_backhaul: false,
        is_gateway: !phone,
        moves: false,
        advertising_key: None,
    };
    let (key, advertising) = (identity.public(), identity.advertising_key());
    let node = Node::new(identity, hello, limits(), store, writer, system_rng().unwrap());
    let freeing = if phone { Freeing::PHONE } else { Freeing::GATEWAY };
    Side { advertising, node, host: TestHost::new(serves, freeing), key, _folder: folder }
}

fn write_document(side: &Side, seed: u64, size: usize) -> MessageId {
    let mut sealed = vec![0; size];
    ChaCha20Rng::seed_from_u64(seed).fill_bytes(&mut sealed);
    let header = Header::to(DESTINATION);
    let body = envelope::assemble(&header, &sealed).unwrap();
    let document = Document::new(GroupId([3; 32]), UnixTime(3600), body).unwrap();
    let id = document.id();
    let new = NewDocument { document, header, age: 0, depositor: None, draft: false, note: None };
    side.node.store().apply_one(Change::Document(Box::new(new))).unwrap();
    id
}

/// One contact, until the phone's side is over.
async fn contact(phone: &mut Side, gateway: &mut Side) -> ContactSummary {
    let known = Introduction::Known(gateway.key);
    contact_by(phone, gateway, &known).await
}

async fn contact_by(phone: &mut Side, gateway: &mut Side, introduction: &Introduction) -> ContactSummary {
    let (near, far) = memory_pair(Throttle::default());
    gateway.node.accept(far).unwrap();
    contact_over(phone, gateway, near, introduction).await
}

/// The same over a link whose other end the gateway has.
async fn contact_over(
    phone: &mut Side,
    gateway: &mut Side,
    near: waypost_link::Link,
    introduction: &Introduction,
) -> ContactSummary {
    let id = phone.node.open(near, introduction).unwrap();
    let so_far = phone.host.over.len();
    let run = async {
        while phone.host.over.len() == so_far {
            tokio::select! {
                event = phone.node.next_event() => phone.node.handle(event, &mut phone.host),
                event = gateway.node.next_event() => gateway.node.handle(event, &mut gateway.host),
            }
            for side in [&mut *phone, &mut *gateway] {
                if side.node.deadline().is_some_and(|at| at <= side.node.clock().now()) {
                    side.node.handle_deadline(&mut side.host);
                }
            }
            let finished = phone.host.events.iter().any(|event| matches!(event, Event::Finished { .. }));
            if finished {
                phone.node.close(id, &mut phone.host);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), run).await.expect("the contact hangs");
    phone.host.events.retain(|event| !matches!(event, Event::Finished { .. }));
    // What the peer said is written down behind the scenes.
    phone.node.writer().flush();
    gateway.node.writer().flush();
    phone.host.over.last().cloned().unwrap()
}

fn confirm(gateway: &Side, ids: &[MessageId], verdict: Verdict, signature: &'static [u8]) {
    let verdicts = ids.iter().map(|id| (*id, verdict)).collect();
    let statement = Statement::new(DESTINATION, DESTINATION, UnixTime(1_795_000_000), verdicts).unwrap();
    let confirmation = Confirmation::new(statement, Bytes::from_static(signature)).unwrap();
    let change =
        Change::Confirmation { confirmation: Box::new(confirmation), freeing: Freeing::GATEWAY, from: None };
    gateway.node.store().apply_one(change).unwrap();
}

#[tokio::test]
async fn documents_go_over_and_confirmations_come_back() {
    let (mut phone, mut gateway) = (side(true, vec![]), side(false, vec![DESTINATION]));
    let sizes = [0, 1_000, 16_000, 17_000, 300_000, 2_000_000];
    let mut ids: Vec<MessageId> =
        sizes.iter().enumerate().map(|(seed, &size)| write_document(&phone, seed as u64, size)).collect();
    ids.extend((100..400).map(|seed| write_document(&phone, seed, 500)));

    let summary = contact(&mut phone, &mut gateway).await;
    assert_eq!(summary.ending, Ending::Finished);
    assert_eq!(summary.theirs.stored, ids.len() as u64);
    for id in &ids {
        let row = gateway.node.store().document(id).unwrap().expect("stored");
        assert_eq!((row.state, row.depositor), (State::Waiting, Some(phone.key)));
        assert_eq!(phone.node.store().document(id).unwrap().unwrap().held_by, vec![gateway.key]);
    }

    assert_eq!(contact(&mut phone, &mut gateway).await.ending, Ending::NothingNew);

    for part in ids.chunks(256) {
        confirm(&gateway, part, Verdict::Opened, b"good");
    }
    let summary = contact(&mut phone, &mut gateway).await;
    assert_eq!((summary.ending, summary.ours.confirmations), (Ending::Finished, 2));
    for id in &ids {
        let row = phone.node.store().document(id).unwrap();
        assert!(row.is_none_or(|row| !row.has_body), "the phone keeps {id}");
    }
    assert_eq!(contact(&mut phone, &mut gateway).await.ending, Ending::NothingNew);
}

#[tokio::test]
async fn a_forged_confirmation_deletes_nothing() {
    let (mut phone, mut gateway) = (side(true, vec![]), side(false, vec![DESTINATION]));
    let id = write_document(&phone, 1, 1_000);
    contact(&mut phone, &mut gateway).await;
    confirm(&gateway, &[id], Verdict::Opened, b"forged");
    let summary = contact(&mut phone, &mut gateway).await;
    assert_eq!(summary.ours.confirmations, 0);
    let row = phone.node.store().document(&id).unwrap().unwrap();
    assert!(row.has_body && row.state == State::Waiting);
}

#[tokio::test]
async fn a_document_for_a_destination_that_is_not_served_is_not_sent() {
    let (mut phone, mut gateway) = (side(true, vec![]), side(false, vec![Fingerprint::V4([8; 20])]));
    let id = write_document(&phone, 1, 1_000);
    let summary = contact(&mut phone, &mut gateway).await;
    assert_eq!(summary.ending, Ending::NothingNew);
    assert!(gateway.node.store().document(&id).unwrap().is_none());
    assert!(phone.node.store().document(&id).unwrap().unwrap().has_body);
}

#[tokio::test]
async fn a_peer_that_is_turned_away_is_told_why() {
    let (mut phone, mut gateway) = (side(true, vec![]), side(false, vec![DESTINATION]));
    gateway.host.refuses = Some(Goodbye::Revoked);
    let summary = contact(&mut phone, &mut gateway).await;
    assert_eq!(summary.ending, Ending::HeardGoodbye(Goodbye::Revoked));
}

#[tokio::test]
async fn a_handshake_that_nobody_answers_is_a_lost_link() {
    let (mut phone, gateway) = (side(true, vec![]), side(false, vec![]));
    phone.node.set_limits(Limits { handshake: Duration::from_millis(200), ..limits() });
    let (near, _silent) = memory_pair(Throttle::default());
    phone.node.open(near, &Introduction::Known(gateway.key)).unwrap();
    let run = async {
        while phone.host.over.is_empty() {
            let left = phone.node.deadline().unwrap().since(phone.node.clock().now());
            tokio::select! {
                event = phone.node.next_event() => phone.node.handle(event, &mut phone.host),
                () = tokio::time::sleep(left) => phone.node.handle_deadline(&mut phone.host),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), run).await.expect("it waits for ever");
    let ending = phone.host.over.pop().unwrap().ending;
    assert_eq!(ending, Ending::LinkLost("the handshake took too long".into()));
}

#[tokio::test]
async fn a_goodbye_is_heard_at_whichever_moment_it_is_said() {
    // One document that goes in a single message of many frames, over a link that holds few of them.
    let throttle = Throttle { buffer: 1_024, useful_frame: 600 };
    let mut said = 0;
    for moment in 0.. {
        let (mut phone, mut gateway) = (side(true, vec![]), side(false, vec![DESTINATION]));
        write_document(&phone, 1, 15_000);
        let (near, far) = memory_pair(throttle);
        gateway.node.accept(far).unwrap();
        phone.node.open(near, &Introduction::Known(gateway.key)).unwrap();
        let mut events = 0;
        let run = async {
            while gateway.host.over.is_empty()
                && !gateway.host.events.iter().any(|one| matches!(one, Event::Finished { .. }))
            {
                tokio::select! {
                    biased;
                    event = phone.node.next_event() => {
                        phone.node.handle(event, &mut phone.host);
                        events += 1;
                        if events == moment && phone.node.sessions() > 0 {
                            phone.node.end_all(Goodbye::Stopping);
                            said += 1;
                        }
                    }
                    event = gateway.node.next_event() => gateway.node.handle(event, &mut gateway.host),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), run).await.expect("nobody hears of an end");
        match gateway.host.over.pop() {
            Some(summary) => {
                assert_eq!(summary.ending, Ending::HeardGoodbye(Goodbye::Stopping), "after {events} events");
            }
            // Everything was done before that moment came.
            None if events < moment => break,
            None => {}
        }
    }
    assert!(said >= 8, "{said}");
}

#[tokio::test]
async fn what_was_deleted_at_the_gateway_is_refused_there_and_kept_on_the_phone() {
    let (mut phone, mut gateway) = (side(true, vec![]), side(false, vec![DESTINATION]));
    let id = write_document(&phone, 1, 1_000);
    let new = phone.node.store().document(&id).unwrap().unwrap();
    let body = waypost_protocol::sync::Holdings::read_body(phone.node.store(), new.seq, 0, 10_000).unwrap();
    let document = Document::new(GroupId([3; 32]), UnixTime(3600), body).unwrap();
    let there =
        NewDocument { document, header: new.header, age: 0, depositor: None, draft: false, note: None };
    gateway.node.store().apply_one(Change::Document(Box::new(there))).unwrap();
    gateway.node.store().apply_one(Change::Delete { id }).unwrap();
    contact(&mut phone, &mut gateway).await;
    let row = phone.node.store().document(&id).unwrap().unwrap();
    assert_eq!(row.refused_by, vec![(gateway.key, Reason::Deleted)]);
    assert!(row.has_body);
}

#[tokio::test]
async fn what_a_peer_was_told_of_certificates_is_remembered_for_its_store_and_until_it_doubts_a_confirmation()
{
    let (mut phone, mut gateway) = (side(true, vec![]), side(false, vec![DESTINATION]));
    let link = Link { destination: DESTINATION, certificate: Bytes::from_static(b"certificate"), word: None };
    gateway.host.tells = vec![link.clone()];
    let key = phone.key;
    let told = |gateway: &Side| gateway.node.store().peer(&key).unwrap().unwrap().told;
    // Nobody waits for the answer: it may be lost with the link, and then it is told again.
    for contacts in 1.. {
        assert_eq!(contact(&mut phone, &mut gateway).await.ending, Ending::NothingNew);
        assert_eq!(phone.host.heard, vec![link.clone(); contacts]);
        if told(&gateway).is_some() || contacts == 20 {
            break;
        }
    }
    assert_eq!(told(&gateway), Some(succession::digest(&gateway.host.tells)));
    // A confirmation that the phone cannot verify: it may know an older state than it said.
    gateway.host.tells = Vec::new();
    let id = write_document(&phone, 1, 1_000);
    contact(&mut phone, &mut gateway).await;
    confirm(&gateway, &[id], Verdict::Opened, b"by somebody unknown");
    contact(&mut phone, &mut gateway).await;
    assert_eq!(gateway.node.store().peer(&phone.key).unwrap().unwrap().told, None);
    // Another store of the same phone has taken nothing.
    let digest = Some([7; 32]);
    gateway.node.store().apply_one(Change::ToldChains { peer: phone.key, digest }).unwrap();
    let seen = Change::PeerSeen {
        peer: phone.key,
        store: Some(StoreId([9; 16])),
        label: None,
        advertising_key: None,
    };
    gateway.node.store().apply_one(seen).unwrap();
    assert_eq!(gateway.node.store().peer(&phone.key).unwrap().unwrap().told, None);
}

#[tokio::test]
async fn a_key_that_is_renewed_while_a_phone_is_here_is_told_before_what_it_has_signed() {
    let (mut phone, mut gateway) = (side(true, vec![]), side(false, vec![DESTINATION]));
    let id = write_document(&phone, 1, 1_000);
    let (near, far) = memory_pair(Throttle::default());
    gateway.node.accept(far).unwrap();
    phone.node.open(near, &Introduction::Known(gateway.key)).unwrap();
    let mut is_renewed = false;
    let run = async {
        while phone.node.store().document(&id).unwrap().is_some_and(|row| row.has_body) {
            tokio::select! {
                event = phone.node.next_event() => phone.node.handle(event, &mut phone.host),
                event = gateway.node.next_event() => gateway.node.handle(event, &mut gateway.host),
            }
            let is_taken = gateway.node.store().document(&id).unwrap().is_some();
            if is_taken && !std::mem::replace(&mut is_renewed, is_taken) {
                let certificate = Bytes::from_static(b"renewed");
                gateway.host.tells = vec![Link { destination: DESTINATION, certificate, word: None }];
                confirm(&gateway, &[id], Verdict::Opened, b"renewed");
                gateway.node.confirmations_changed(&mut gateway.host);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), run).await.expect("the phone believes the confirmation");
    assert_eq!(phone.host.heard, gateway.host.tells);
}

#[tokio::test]
async fn peers_that_know_each_other_can_recognise_each_others_advertisements_and_strangers_cannot() {
    let remembered = |at: &Side, of: &Side| at.node.store().peer(&of.key).unwrap().unwrap().advertising_key;
    // (how the phone comes, whether the gateway knows it): what each has learnt of the other.
    for (is_open, knows) in [(false, true), (false, false), (true, true), (true, false)] {
        let (mut phone, mut gateway) = (side(true, vec![]), side(false, vec![DESTINATION]));
        gateway.host.knows = knows;
        let how = if is_open { Introduction::Open } else { Introduction::Known(gateway.key) };
        assert_eq!(contact_by(&mut phone, &mut gateway, &how).await.ending, Ending::NothingNew);
        let told = (remembered(&phone, &gateway), remembered(&gateway, &phone));
        let expected =
            (knows.then(|| gateway.advertising.clone()), (!is_open).then(|| phone.advertising.clone()));
        assert_eq!(told, expected, "open {is_open}, known {knows}");
    }
}

#[tokio::test]
async fn strangers_take_half_of_the_sessions_and_the_others_are_for_those_that_are_known() {
    let mut gateway = side(false, vec![DESTINATION]);
    gateway.node.set_limits(Limits { sessions: 4, ..limits() });
    gateway.host.knows = false;
    let mut strangers: Vec<Side> = (0..2).map(|_| side(true, vec![])).collect();
    for (stranger, so_far) in strangers.iter_mut().zip(0..) {
        let (near, far) = memory_pair(Throttle::default());
        gateway.node.accept(far).unwrap();
        stranger.node.open(near, &Introduction::Known(gateway.key)).unwrap();
        while gateway.node.sessions() == so_far {
            tokio::select! {
                event = stranger.node.next_event() => stranger.node.handle(event, &mut stranger.host),
                event = gateway.node.next_event() => gateway.node.handle(event, &mut gateway.host),
            }
        }
    }
    let (mut third, mut known) = (side(true, vec![]), side(true, vec![]));
    let refused = contact(&mut third, &mut gateway).await;
    assert_eq!(refused.ending, Ending::HeardGoodbye(Goodbye::Busy(None)));
    gateway.host.knows = true;
    let id = write_document(&known, 1, 1_000);
    contact(&mut known, &mut gateway).await;
    assert!(gateway.node.store().document(&id).unwrap().is_some());
}

#[tokio::test]
async fn silent_links_of_a_network_take_no_place_of_a_radio() {
    let mut gateway = side(false, vec![DESTINATION]);
    let ble = MediumLimits { links: 2, half_open: 3, ..MediumLimits::bluetooth() };
    gateway.node.set_limits(Limits { half_open: 4, per_address: 100, ble, ..limits() });
    let mut silent = Vec::new();
    let mut accepts = |medium| {
        let (near, mut far) = memory_pair(Throttle::default());
        far.info.medium = medium;
        silent.push(near);
        gateway.node.accept(far).is_some()
    };
    assert_eq!([Medium::Lan; 5].map(&mut accepts), [true, true, true, true, false]);
    // Listened to, or waiting for that.
    assert_eq!([Medium::BleL2cap; 6].map(&mut accepts), [true, true, true, true, true, false]);
}

#[tokio::test]
async fn silent_links_of_a_radio_are_bounded_and_a_phone_comes_through_when_they_are_given_up() {
    let (mut phone, mut gateway) = (side(true, vec![]), side(false, vec![DESTINATION]));
    let ble = MediumLimits { links: 2, half_open: 3, ..MediumLimits::bluetooth() };
    let handshake = Duration::from_millis(300);
    let limits = Limits { handshake, ble, ..limits() };
    gateway.node.set_limits(limits);
    let radio = |adapter: &str| {
        let (near, mut far) = memory_pair(Throttle::default());
        (far.info.medium, far.info.group) = (Medium::BleL2cap, adapter.to_owned());
        (near, far)
    };
    let mut silent = Vec::new();
    // Three are listened to, two wait for that, the others are turned away; another adapter has room.
    for taken in [true, true, true, true, true, false, false] {
        let (near, far) = radio("hci0");
        assert_eq!(gateway.node.accept(far).is_some(), taken);
        silent.push(near);
    }
    assert!(gateway.node.accept(radio("hci1").1).is_some());
    let id = write_document(&phone, 1, 1_000);
    let (near, far) = radio("hci0");
    // There is room for a handshake when the first ones have been silent for too long, and have had their last words.
    let until = tokio::time::Instant::now() + Duration::from_secs(3);
    while tokio::time::Instant::now() < until {
        let due = gateway.node.deadline().map_or(until, |at| gateway.node.clock().instant(at));
        tokio::select! {
            event = gateway.node.next_event() => gateway.node.handle(event, &mut gateway.host),
            () = tokio::time::sleep_until(due.min(until)) => gateway.node.handle_deadline(&mut gateway.host),
        }
    }
    gateway.node.set_limits(Limits { handshake: Duration::from_secs(5), ..limits });
    gateway.node.accept(far).expect("room again");
    let known = Introduction::Known(gateway.key);
    let summary = contact_over(&mut phone, &mut gateway, near, &known).await;
    assert_eq!(summary.ending, Ending::Finished);
    assert!(gateway.node.store().document(&id).unwrap().is_some());
}
