//! The simulated destination: remembers what it opened, and signs with a hash that only it can make.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use waypost_protocol::confirmation::{Confirmation, Statement, Verdict};
use waypost_protocol::document::Document;
use waypost_protocol::ids::{Fingerprint, MessageId};
use waypost_protocol::time::UnixTime;

/// The simulated destination.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Its name.
    pub fingerprint: Fingerprint,
    secret: [u8; 32],
    clock: u64,
    opened: BTreeMap<MessageId, u32>,
    confirmations: BTreeMap<MessageId, Confirmation>,
}

impl Destination {
    /// A destination whose key is made from `seed`.
    pub fn new(seed: u8) -> Self {
        Destination {
            fingerprint: Fingerprint::V4([seed; 20]),
            secret: [seed ^ 0x5a; 32],
            clock: 1_795_000_000,
            opened: BTreeMap::new(),
            confirmations: BTreeMap::new(),
        }
    }

    /// Takes documents and confirms them; the same ones get the same confirmation again.
    pub fn upload(&mut self, documents: &[Document]) -> Vec<Confirmation> {
        self.clock += 1;
        let mut answers: Vec<Confirmation> = Vec::new();
        let mut fresh = Vec::new();
        for document in documents {
            *self.opened.entry(document.id()).or_default() += 1;
            match self.confirmations.get(&document.id()) {
                Some(known) if answers.contains(known) => {}
                Some(known) => answers.push(known.clone()),
                None => fresh.push((document.id(), Verdict::Opened)),
            }
        }
        for verdicts in fresh.chunks(256) {
            if let Some(confirmation) = self.sign(verdicts.to_vec()) {
                for (id, _) in verdicts {
                    self.confirmations.insert(*id, confirmation.clone());
                }
                answers.push(confirmation);
            }
        }
        answers
    }

    fn sign(&self, verdicts: Vec<(MessageId, Verdict)>) -> Option<Confirmation> {
        let statement =
            Statement::new(self.fingerprint, self.fingerprint, UnixTime(self.clock), verdicts).ok()?;
        let signature = self.mac(&statement);
        Confirmation::new(statement, signature.to_vec().into()).ok()
    }

    fn mac(&self, statement: &Statement) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.secret);
        hasher.update(statement.text());
        hasher.finalize().into()
    }

    /// Whether this destination signed it.
    pub fn signed(&self, confirmation: &Confirmation) -> bool {
        confirmation.signature()[..] == self.mac(&confirmation.statement)
    }

    /// Whether it has opened a document.
    pub fn has_opened(&self, id: &MessageId) -> bool {
        self.opened.contains_key(id)
    }

    /// How many documents it has opened.
    pub fn opened(&self) -> usize {
        self.opened.len()
    }

    /// How many uploads there were of documents that it had already.
    pub fn repeated(&self) -> u32 {
        self.opened.values().map(|times| times - 1).sum()
    }
}
