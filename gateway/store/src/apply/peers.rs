//! Peers: who they are, and what their stores hold or refused.

use waypost_protocol::advertising::AdvertisingKey;
use waypost_protocol::ids::{MessageId, PeerKey, StoreId};
use waypost_protocol::refusal::Reason;
use zeroize::Zeroize as _;

use super::Tx;
use crate::change::{Applied, PeerClass};
use crate::error::{ChangeError, StoreError};
use crate::rows::*;
use crate::seal::Prf;
use crate::tables::{Table, Tables, key16};

/// A peer's label is cut to so many characters.
const MAX_LABEL: usize = 64;

impl Tx<'_> {
    pub(super) fn peer_seen(
        &mut self,
        key: &PeerKey,
        store: Option<&StoreId>,
        label: Option<&str>,
        advertising_key: Option<&AdvertisingKey>,
    ) -> Result<Applied, ChangeError> {
        let wall = self.store.inner.uptime.wall().0;
        let (_, row) = self.peer_or_new(key)?;
        row.last_contact = wall;
        if let Some(store) = store {
            adopt(row, store);
        }
        // What an admin wrote stays.
        if let Some(label) = label.filter(|_| row.label.is_empty()) {
            row.label = shortened(label);
        }
        if let Some(key) = advertising_key {
            row.advertising_key = key.expose().to_vec();
        }
        Ok(Applied::Done)
    }

    pub(super) fn told_chains(
        &mut self,
        key: &PeerKey,
        digest: Option<&[u8; 32]>,
    ) -> Result<Applied, ChangeError> {
        if let Some((_, row)) = self.peer(key)? {
            row.told = digest.map(|digest| digest.to_vec()).unwrap_or_default();
        }
        Ok(Applied::Done)
    }

    pub(super) fn put_peer(
        &mut self,
        key: &PeerKey,
        class: PeerClass,
        label: Option<&str>,
    ) -> Result<Applied, ChangeError> {
        let (_, row) = self.peer_or_new(key)?;
        row.class = class.code();
        if let Some(label) = label {
            row.label = shortened(label);
        }
        Ok(Applied::Done)
    }

    pub(super) fn revoke(&mut self, key: &PeerKey) -> Result<Applied, ChangeError> {
        let (_, row) = self.peer(key)?.ok_or(ChangeError::NoPeer)?;
        row.revoked = true;
        Ok(Applied::Done)
    }

    pub(super) fn forget(&mut self, key: &PeerKey) -> Result<Applied, ChangeError> {
        let Some((_, row)) = self.peer(key)? else { return Ok(Applied::Done) };
        row.class = PeerClass::Open.code();
        row.label.clear();
        row.advertising_key.clear();
        row.told.clear();
        let mut codes = Vec::new();
        for code in self.tables().rows_after::<CodeRow>(&self.txn, None)? {
            let (code, mut row) = code?;
            row.secret.zeroize();
            if row.used_by == key.0 {
                codes.push(code.to_vec());
            }
        }
        for code in codes {
            self.remove(Table::Codes, &code)?;
        }
        Ok(Applied::Done)
    }

    /// Notes what a peer's store said of a document: `None` for held.
    pub(super) fn answer(
        &mut self,
        key: &PeerKey,
        store: &StoreId,
        id: &MessageId,
        refused: Option<Reason>,
    ) -> Result<Applied, ChangeError> {
        let (peer, row) = self.peer_or_new(key)?;
        adopt(row, store);
        let epoch = row.epoch;
        let Some((seq, document)) = self.find(id)? else { return Ok(Applied::Done) };
        let held = refused.is_none();
        if document.live {
            let refused = refused.map_or(0, Reason::code);
            self.put(&key16(seq, peer), &AnswerRow { epoch, held, refused })?;
        }
        match held && document.verdict().is_some() {
            // Whoever holds what is confirmed should hear of it.
            true => self.further_depositor(id, key, None),
            false => Ok(Applied::Done),
        }
    }

    pub(super) fn count_deposit(&mut self, peer: u64, bytes: u64) -> Result<(), StoreError> {
        if let Some(row) = self.peer_of_number(peer)? {
            row.deposited = row.deposited.saturating_add(1);
            row.deposited_bytes = row.deposited_bytes.saturating_add(bytes);
        }
        Ok(())
    }

    pub(super) fn put_setting(&mut self, key: &str, value: Option<&[u8]>) -> Result<Applied, ChangeError> {
        let row_key = setting_key(self.tables(), key);
        match value {
            Some(value) => self.put(&row_key, &SettingRow { key: key.to_owned(), value: value.to_vec() })?,
            None => {
                self.remove(Table::Settings, &row_key)?;
            }
        }
        Ok(Applied::Done)
    }
}

pub(crate) fn setting_key(tables: &Tables, key: &str) -> Prf {
    tables.keys.prf(Table::Settings, &[key.as_bytes()])
}

/// Another store than before: what the earlier one acknowledged or refused is void (R25).
fn adopt(row: &mut PeerRow, store: &StoreId) {
    if row.store() != Some(*store) {
        row.store = store.0.to_vec();
        row.epoch = row.epoch.saturating_add(1);
        row.told.clear();
    }
}

fn shortened(label: &str) -> String {
    label.chars().filter(|c| !c.is_control()).take(MAX_LABEL).collect()
}

/// Whether an answer still counts for a peer's present store.
pub(crate) fn counts(answer: &AnswerRow, peer: &PeerRow) -> bool {
    answer.epoch == peer.epoch
}

/// Whether the answer keeps the document from being sent to that peer again.
pub(crate) fn settles(answer: &AnswerRow) -> bool {
    let reason = Reason::from_code(answer.refused);
    answer.held || !(reason.is_temporary() || reason.depends_on_settings())
}
