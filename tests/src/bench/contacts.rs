//! `link_overhead_*` and `contacts_to_confirmation`: a phone and a gateway with real stores meet over TCP, through a
//! proxy that counts what passes on the wire.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use waypost_lan::{Listener, connect};
use waypost_link::LinkInfo;
use waypost_node::{
    ContactSummary, ConversationId, Ending, Grant, Host, Limits, MediumLimits, Node, StoredNow, system_rng,
};
use waypost_openpgp::{Chain, verify_confirmation};
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::document::Document;
use waypost_protocol::envelope;
use waypost_protocol::ids::{MessageId, PeerKey};
use waypost_protocol::invite::CodeSecret;
use waypost_protocol::refusal::{Goodbye, Reason};
use waypost_protocol::session::{Identity, Introduction, Pattern};
use waypost_protocol::succession::{self, Link};
use waypost_protocol::sync::{Accepts, Event, PeerHello, Served, WINDOW};
use waypost_store::{
    Applied, Change, Freeing, NewDocument, Options, PeerClass, State, Store, StoreKey, Writer, WriterOptions,
};

use super::row::Measured;
use super::workload::{Addressee, FORM, PHOTO, Signer, now};
use super::{Bench, Outcome};
use crate::proxy::{Content, Direction, Proxy};

/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// More contacts than this are not tried.
const MOST_CONTACTS: u32 = 5;

pub(super) fn forms(bench: &Bench) -> Outcome<Measured> {
    Ok(round(bench, 100, FORM)?.overhead())
}

pub(super) fn photos(bench: &Bench) -> Outcome<Measured> {
    Ok(round(bench, 10, PHOTO)?.overhead())
}

pub(super) fn contacts_to_confirmation(bench: &Bench) -> Outcome<Measured> {
    Ok(Measured::new(f64::from(round(bench, 100, FORM)?.contacts_after_upload)))
}

/// What a phone's documents cost until it held all confirmations.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// Bytes of the documents' bodies.
    bodies: u64,
    /// Bytes on the wire of the contact that deposited them: pairing, both ways, prefixes included.
    deposit: u64,
    /// The same of the contacts after the upload.
    fetch: u64,
    contacts_after_upload: u32,
}

impl Round {
    #[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
    fn overhead(&self) -> Measured {
        let Round { bodies, deposit, fetch, .. } = self;
        Measured::new((deposit + fetch) as f64 / *bodies as f64)
            .beside("envelope bodies", format!("{bodies} bytes"))
            .beside("deposit, both ways", format!("{deposit} bytes"))
            .beside("fetching confirmations, both ways", format!("{fetch} bytes"))
    }
}

fn round(bench: &Bench, count: usize, size: usize) -> Outcome<Round> {
    let signer = Signer::new()?;
    let folder = bench.folder("contacts")?;
    let documents = signer.addressee.documents(1, count, size)?;
    let phone = Party::new(&folder.path().join("phone"), &signer.addressee, true)?;
    let gateway = Party::new(&folder.path().join("gateway"), &signer.addressee, false)?;
    for document in &documents {
        phone.put(document)?;
    }
    let secret = CodeSecret::new([7; 16]);
    let valid = Some(PATIENCE);
    gateway.apply(Change::AddCode {
        secret: secret.clone(),
        class: PeerClass::Paired,
        valid,
        poster: None,
    })?;
    let key = gateway.identity.public();

    let deposit = meet(&phone, &gateway, Introduction::Code(key, secret))?;
    let ids: Vec<MessageId> = documents.iter().map(Document::id).collect();
    for confirmation in signer.confirm(&ids)? {
        let confirmation = Box::new(confirmation);
        gateway.apply(Change::Confirmation { confirmation, freeing: Freeing::GATEWAY, from: None })?;
    }
    let (mut fetch, mut contacts_after_upload) = (0, 0);
    while !phone.holds_confirmations_of(&ids)? {
        if contacts_after_upload == MOST_CONTACTS {
            return Err(format!("no confirmation after {MOST_CONTACTS} contacts").into());
        }
        contacts_after_upload += 1;
        fetch += meet(&phone, &gateway, Introduction::Known(key))?;
    }
    let bodies = documents.iter().map(|document| document.body().len() as u64).sum();
    Ok(Round { bodies, deposit, fetch, contacts_after_upload })
}

/// One contact from the first byte to the last; bytes on the wire, both ways.
fn meet(phone: &Party, gateway: &Party, introduction: Introduction) -> Outcome<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (wire, ours, theirs) = runtime.block_on(async {
        let listener = Listener::bind("127.0.0.1:0").await?;
        let proxy = Proxy::start(listener.local_address()?, Content::Frames)?;
        let near = near_end(phone, proxy.address(), introduction);
        let far = async { gateway.converse(listener.accept().await?, None).await };
        let (ours, theirs) = tokio::time::timeout(PATIENCE, async { tokio::try_join!(near, far) }).await??;
        let wire = proxy.counts(Direction::ToTarget).bytes + proxy.counts(Direction::FromTarget).bytes;
        Outcome::Ok((wire, ours, theirs))
    })?;
    for summary in [&ours, &theirs] {
        if !matches!(summary.ending, Ending::Finished) {
            return Err(format!("the contact ended otherwise: {}", summary.ending).into());
        }
    }
    if ours.bytes_in + ours.bytes_out != wire {
        let told = ours.bytes_in + ours.bytes_out;
        return Err(format!("the phone counted {told} bytes where {wire} passed").into());
    }
    Ok(wire)
}

async fn near_end(phone: &Party, address: SocketAddr, introduction: Introduction) -> Outcome<ContactSummary> {
    phone.converse(connect(&address.to_string(), PATIENCE).await?, Some(introduction)).await
}

/// A phone or a gateway: store, identity and the rules that the real ones have.
struct Party {
    store: Store,
    writer: Writer,
    identity: Identity,
    addressee: Addressee,
    is_phone: bool,
}

impl Party {
    fn new(folder: &Path, addressee: &Addressee, is_phone: bool) -> Outcome<Self> {
        let options = Options { forwards: is_phone, ..Options::default() };
        let store = Store::open(folder, &StoreKey::new([1; 32]), options)?;
        let writer = Writer::start(store.clone(), WriterOptions::default())?;
        let identity = Identity::generate(&mut system_rng()?)?;
        Ok(Party { store, writer, identity, addressee: addressee.clone(), is_phone })
    }

    fn apply(&self, change: Change) -> Outcome<Applied> {
        Ok(self.writer.apply(change)?)
    }

    fn put(&self, document: &Document) -> Outcome<()> {
        let (header, _) = envelope::parse(document.body())?;
        let document = document.clone();
        let new = NewDocument { document, header, age: 0, depositor: None, draft: false, note: None };
        self.apply(Change::Document(Box::new(new)))?;
        Ok(())
    }

    fn holds_confirmations_of(&self, ids: &[MessageId]) -> Outcome<bool> {
        for id in ids {
            let entry = self.store.document(id)?;
            if !entry.is_some_and(|entry| matches!(entry.state, State::Confirmed(_))) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One conversation over one link, opened by whoever has an introduction, who also ends it when both have finished.
    async fn converse(
        &self,
        link: waypost_link::Link,
        introduction: Option<Introduction>,
    ) -> Outcome<ContactSummary> {
        let fingerprint = self.addressee.fingerprint();
        let hello = PeerHello {
            store: self.store.store_id(),
            serves: if self.is_phone { Vec::new() } else { vec![fingerprint] },
            wants: Vec::new(),
            max_document: if self.is_phone { 0 } else { 1 << 30 },
            window: WINDOW,
            name: if self.is_phone { "Ann's phone".into() } else { "Clinic kiosk".into() },
            has_backhaul: false,
            is_gateway: !self.is_phone,
            moves: false,
            advertising_key: None,
        };
        let limits = Limits {
            sessions: 4,
            per_address: 4,
            half_open: 4,
            handshake: PATIENCE,
            idle: PATIENCE,
            lan: MediumLimits::none(),
            wifi: MediumLimits::none(),
            ble: MediumLimits::none(),
        };
        let (store, writer) = (self.store.clone(), self.writer.clone());
        let mut node = Node::new(self.identity.clone(), hello, limits, store, writer, system_rng()?);
        let mut host = PartyHost { party: self, finished: false, ended: None };
        let ends = introduction.is_some();
        let id = match introduction {
            Some(introduction) => node.open(link, &introduction)?,
            None => node.accept(link).ok_or("the link was turned away")?,
        };
        loop {
            if let Some(summary) = host.ended.take() {
                self.writer.flush();
                return Ok(summary);
            }
            if ends && host.finished {
                node.close(id, &mut host);
                continue;
            }
            let due = node.deadline().map(|at| node.clock().instant(at));
            let due = due.unwrap_or_else(|| tokio::time::Instant::now() + PATIENCE);
            tokio::select! {
                event = node.next_event() => node.handle(event, &mut host),
                () = tokio::time::sleep_until(due) => node.handle_deadline(&mut host),
            }
        }
    }
}

struct PartyHost<'p> {
    party: &'p Party,
    finished: bool,
    ended: Option<ContactSummary>,
}

impl Host for PartyHost<'_> {
    fn admit(&mut self, peer: &PeerKey, pattern: Pattern, _: &LinkInfo) -> Result<Grant, Goodbye> {
        if let Pattern::Code(code) = pattern
            && !self.party.is_phone
        {
            let consumed = Change::ConsumeCode { code, peer: *peer, label: None };
            self.party.store.apply_one(consumed).map_err(|_| Goodbye::BadCode)?;
        }
        let served = (!self.party.is_phone).then(|| Served::all(self.party.addressee.fingerprint()));
        let accepts =
            Accepts { destinations: served.into_iter().collect(), max_document: 1 << 30, records: true };
        Ok(Grant::deposits(accepts))
    }

    /// As gateways do: each phone hears of the destination's certificates once.
    fn tells(&self, peer: &PeerKey) -> Vec<Link> {
        let links = match self.party.is_phone {
            true => Vec::new(),
            false => Chain::new(self.party.addressee.certificate.clone()).links(),
        };
        let known = self.party.store.peer(peer).ok().flatten().and_then(|known| known.told);
        if known == Some(succession::digest(&links)) { Vec::new() } else { links }
    }

    fn verify(&mut self, confirmation: &Confirmation) -> Result<(), String> {
        let certificates = std::slice::from_ref(&self.party.addressee.certificate);
        verify_confirmation(confirmation, certificates, now()).map_err(|error| error.to_string())
    }

    fn follow(&mut self, _: &Link) -> Result<(), Reason> {
        Ok(())
    }

    fn freeing(&self, _: &Confirmation) -> Freeing {
        if self.party.is_phone { Freeing::PHONE } else { Freeing::GATEWAY }
    }

    fn event(&mut self, _: ConversationId, _: &PeerKey, event: &Event) {
        self.finished |= matches!(event, Event::Finished { .. });
    }

    fn stored(&mut self, _: StoredNow) {}

    fn ended(&mut self, summary: ContactSummary) {
        self.ended = Some(summary);
    }
}
