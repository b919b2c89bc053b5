//! Documents whose bytes did not survive here, and who is to be asked for them.

use waypost_protocol::ids::{MessageId, PeerKey};

use super::Tx;
use crate::body;
use crate::change::Applied;
use crate::error::{ChangeError, StoreError};
use crate::rows::*;
use crate::tables::{Table, key8, number};

/// Row key: (peer, PRF(id)).
fn lost_key(peer: u64, name: &[u8; 16]) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&key8(peer));
    key[8..].copy_from_slice(name);
    key
}

impl Tx<'_> {
    pub(super) fn damaged(&mut self, id: &MessageId) -> Result<Applied, ChangeError> {
        let (seq, row) = self.find_or_error(id)?;
        let mut peers: Vec<u64> =
            self.seconds::<DepositorRow>(seq)?.into_iter().map(|(peer, _)| peer).collect();
        peers.push(row.depositor);
        peers.retain(|peer| *peer != 0);
        if row.state != WAITING || peers.is_empty() || self.is_whole(&row)? {
            return Ok(Applied::Done);
        }
        let name = self.prf(Table::Lost, &[id.as_bytes()]);
        for peer in &peers {
            self.put(&lost_key(*peer, &name), &LostRow { id: id.0.to_vec(), destination: row.destination })?;
        }
        let peers = peers.len() as u64;
        self.meta.counts.lost += peers;
        self.remove_document(seq, &row)?;
        Ok(Applied::Lost { peers })
    }

    fn is_whole(&self, row: &DocumentRow) -> Result<bool, StoreError> {
        let Some(description) = row.description().filter(|_| row.live) else { return Ok(false) };
        let hashed = body::rehash(self.tables(), &description, row.blob, row.size)?;
        Ok(hashed.is_some_and(|hashing| hashing.hasher.finish() == description.id))
    }

    pub(super) fn forgo(&mut self, id: &MessageId, peer: &PeerKey) -> Result<Applied, ChangeError> {
        if self.meta.counts.lost > 0
            && let Some((peer, _)) = self.peer(peer)?
        {
            let name = self.prf(Table::Lost, &[id.as_bytes()]);
            self.remove_lost(&lost_key(peer, &name))?;
        }
        Ok(Applied::Done)
    }

    /// The document is here again, or its destination has spoken: nobody needs to be asked any more.
    pub(super) fn found(&mut self, id: &MessageId, destination: u64) -> Result<(), StoreError> {
        if self.meta.counts.lost == 0 {
            return Ok(());
        }
        let name = self.prf(Table::Lost, &[id.as_bytes()]);
        let rows = self.tables().rows_after::<LostRow>(&self.txn, None)?;
        let mut peers = Vec::new();
        for row in rows {
            let (key, row) = row?;
            peers.extend((row.id() == Some(*id) && row.destination == destination).then(|| number(key, 0)));
        }
        peers.into_iter().try_for_each(|peer| self.remove_lost(&lost_key(peer, &name)))
    }

    fn remove_lost(&mut self, key: &[u8; 24]) -> Result<(), StoreError> {
        if self.remove(Table::Lost, key)? {
            self.meta.counts.lost = self.meta.counts.lost.saturating_sub(1);
        }
        Ok(())
    }
}
