//! Phones, gateways and a destination that meet at random, crash, lose their stores; and what must hold all the time.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{self, Header};
use waypost_protocol::ids::{GroupId, MessageId, PeerKey, StoreId};
use waypost_protocol::sync::Event;
use waypost_protocol::time::UnixTime;

use super::destination::Destination;
use super::pair::{Contact, ContactEnd, Faults};
use super::store::MemoryStore;
use super::{chance, pick_index};

/// How large a world is, and how unkind.
#[derive(Debug, Clone, Copy)]
pub struct Village {
    /// Phones, each of which writes documents.
    pub phones: usize,
    /// Gateways.
    pub gateways: usize,
    /// Documents that each phone writes.
    pub documents: usize,
    /// Steps with every fault on; afterwards faults stop.
    pub steps: usize,
    /// What goes wrong on links.
    pub faults: Faults,
    /// In percent of steps: a gateway's store is lost.
    pub wipes: u32,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Summary {
    /// Documents written.
    pub documents: usize,
    /// Contacts until the last one was confirmed.
    pub contacts: usize,
    /// Payload bytes on links.
    pub bytes: u64,
    /// Uploads of what the destination had already.
    pub repeated_uploads: u32,
}

struct Node {
    key: PeerKey,
    store: MemoryStore,
}

/// A running world.
pub struct World {
    seed: u64,
    rng: ChaCha20Rng,
    village: Village,
    destination: Destination,
    phones: Vec<Node>,
    gateways: Vec<Node>,
    /// Everything written, and who wrote it.
    written: BTreeMap<MessageId, usize>,
    /// What a phone was told to be stored: (gateway, its store, document).
    acknowledged: Vec<(usize, StoreId, MessageId)>,
    contacts: usize,
    bytes: u64,
}

impl World {
    /// A world that repeats itself for the same seed.
    pub fn new(village: Village, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut node = |sends| {
            let (mut key, mut id) = ([0; 32], [0; 16]);
            rng.fill_bytes(&mut key);
            rng.fill_bytes(&mut id);
            Node { key: PeerKey(key), store: MemoryStore::new(StoreId(id), sends) }
        };
        let phones = (0..village.phones).map(|_| node(true)).collect();
        let gateways = (0..village.gateways).map(|_| node(false)).collect();
        World {
            seed,
            rng,
            village,
            destination: Destination::new(7),
            phones,
            gateways,
            written: BTreeMap::new(),
            acknowledged: Vec::new(),
            contacts: 0,
            bytes: 0,
        }
    }

    /// Runs with faults, then without, until everything is confirmed everywhere. Panics, naming the seed, where something
    /// does not hold that must.
    pub fn run(mut self) -> Summary {
        for step in 0..self.village.steps {
            if step < self.village.documents * self.village.phones {
                self.write(step % self.village.phones);
            }
            let faults = self.village.faults;
            self.step(faults);
            self.check();
        }
        let Village { phones, documents, .. } = self.village;
        while self.written.len() < phones * documents {
            self.write(self.written.len() % phones);
        }
        for _ in 0..3 {
            for phone in 0..phones {
                for gateway in 0..self.gateways.len() {
                    self.contact(phone, gateway, Faults::NONE);
                    self.check();
                }
            }
            (0..self.gateways.len()).for_each(|gateway| self.backhaul(gateway, 0));
        }
        for id in self.written.keys() {
            assert!(self.destination.has_opened(id), "seed {}: {id} never arrived", self.seed);
        }
        for phone in &self.phones {
            assert_eq!(phone.store.held().count(), 0, "seed {}: a phone still holds documents", self.seed);
        }
        Summary {
            documents: self.written.len(),
            contacts: self.contacts,
            bytes: self.bytes,
            repeated_uploads: self.destination.repeated(),
        }
    }

    fn step(&mut self, faults: Faults) {
        let gateway = pick_index(&mut self.rng, self.gateways.len());
        if chance(&mut self.rng, self.village.wipes) {
            let mut id = [0; 16];
            self.rng.fill_bytes(&mut id);
            self.gateways[gateway].store = MemoryStore::new(StoreId(id), false);
        }
        if chance(&mut self.rng, 20) {
            return self.backhaul(gateway, 30);
        }
        let phone = pick_index(&mut self.rng, self.phones.len());
        self.contact(phone, gateway, faults);
    }

    fn write(&mut self, phone: usize) {
        let size = match pick_index(&mut self.rng, 4) {
            0 => 20 * 1024 + pick_index(&mut self.rng, 300_000),
            _ => 200 + pick_index(&mut self.rng, 3_000),
        };
        let mut sealed = vec![0; size];
        self.rng.fill_bytes(&mut sealed);
        let header = Header::to(self.destination.fingerprint);
        let body = envelope::assemble(&header, &sealed).unwrap_or_default();
        if let Ok(document) = Document::new(GroupId([1; 32]), UnixTime(0), body) {
            self.written.insert(document.id(), phone);
            self.phones[phone].store.author(document, header);
        }
    }

    fn contact(&mut self, phone: usize, gateway: usize, faults: Faults) {
        let serves = vec![self.destination.fingerprint];
        let seed = self.rng.next_u64();
        let (phone_key, gateway_key) = (self.phones[phone].key, self.gateways[gateway].key);
        let max_document = 1 << 30;
        let destination = &self.destination;
        let contact = Contact::run(
            ContactEnd { key: phone_key, store: &mut self.phones[phone].store, serves: vec![], max_document },
            ContactEnd { key: gateway_key, store: &mut self.gateways[gateway].store, serves, max_document },
            faults,
            Duration::from_secs(600),
            seed,
            &|confirmation| destination.signed(confirmation),
        );
        for event in &contact.events[0] {
            if let Event::HeldByPeer { store, id } = event {
                self.acknowledged.push((gateway, *store, *id));
            }
        }
        self.contacts += 1;
        self.bytes += contact.bytes.iter().sum::<u64>();
    }

    /// A gateway uploads some of what it holds; in `lost_percent` of uploads the answer is lost.
    fn backhaul(&mut self, gateway: usize, lost_percent: u32) {
        let documents: Vec<Document> =
            self.gateways[gateway].store.held().map(|held| held.document.clone()).collect();
        for batch in documents.chunks(8) {
            let confirmations = self.destination.upload(batch);
            if chance(&mut self.rng, lost_percent) {
                continue;
            }
            for confirmation in confirmations {
                self.gateways[gateway].store.confirm(&confirmation);
            }
        }
    }

    /// What must hold after every step.
    fn check(&self) {
        for (gateway, store, id) in &self.acknowledged {
            let node = &self.gateways[*gateway].store;
            let wiped = node.id != *store;
            assert!(
                wiped || node.holds(id) || node.verdict(id).is_some(),
                "seed {}: {id} was acknowledged by gateway {gateway} and is lost",
                self.seed
            );
        }
        for (id, phone) in &self.written {
            let phone = &self.phones[*phone].store;
            assert!(
                phone.holds(id) || self.destination.has_opened(id),
                "seed {}: {id} was deleted on the phone and is not at the destination",
                self.seed
            );
        }
    }
}
