//! Pairing codes: valid once, unless they are printed ones, and used up in the transaction that makes the peer known.

use std::time::Duration;

use waypost_protocol::ids::{CodeId, PeerKey};
use waypost_protocol::invite::CodeSecret;
use zeroize::Zeroize as _;

use super::Tx;
use crate::change::{Applied, PeerClass};
use crate::error::ChangeError;
use crate::rows::CodeRow;
use crate::seal::Prf;
use crate::tables::{Table, Tables};

pub(crate) fn code_key(tables: &Tables, code: &CodeId) -> Prf {
    tables.keys.prf(Table::Codes, &[code.as_bytes()])
}

impl CodeRow {
    /// Whether nobody may use it any more at `now` of the uptime clock.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.expires > 0 && now >= self.expires
    }
}

impl Tx<'_> {
    pub(super) fn add_code(
        &mut self,
        secret: &CodeSecret,
        class: PeerClass,
        valid: Option<Duration>,
        poster: Option<&str>,
    ) -> Result<Applied, ChangeError> {
        let expires = valid.map_or(0, |valid| self.now.saturating_add(valid.as_secs()).max(1));
        let mut row = CodeRow {
            secret: secret.expose().to_vec(),
            class: class.code(),
            expires,
            reusable: poster.is_some(),
            used_by: Vec::new(),
            poster: poster.unwrap_or_default().to_owned(),
        };
        let written = self.put(&code_key(self.tables(), &secret.id()), &row);
        row.secret.zeroize();
        Ok(written.map(|()| Applied::Done)?)
    }

    pub(super) fn consume_code(
        &mut self,
        code: &CodeId,
        peer: &PeerKey,
        label: Option<&str>,
    ) -> Result<Applied, ChangeError> {
        let key = code_key(self.tables(), code);
        let mut row = self.get::<CodeRow>(&key)?.ok_or(ChangeError::BadCode)?;
        let is_free = row.reusable || row.used_by.is_empty() || row.used_by == peer.0;
        let class = PeerClass::from_code(row.class);
        let (reusable, is_over) = (row.reusable, row.is_over(self.now));
        if is_over || !is_free {
            row.secret.zeroize();
            return Err(ChangeError::BadCode);
        }
        if !reusable && row.used_by.is_empty() {
            row.used_by = peer.0.to_vec();
            self.put(&key, &row)?;
        } else if !reusable && self.peer(peer)?.is_some_and(|(_, known)| known.revoked) {
            // It had paired with this code and was revoked since: the code does not undo that.
            row.secret.zeroize();
            return Err(ChangeError::BadCode);
        }
        row.secret.zeroize();
        let (_, known) = self.peer_or_new(peer)?;
        if reusable {
            if known.revoked {
                return Err(ChangeError::BadCode);
            }
            // A printed code does not lower what a peer may do already.
            if known.class != PeerClass::Open.code() && known.class != PeerClass::Poster.code() {
                return Ok(Applied::Paired { class: PeerClass::from_code(known.class) });
            }
            known.poster = row.poster;
        } else {
            // A new code from the admin's hand takes a revocation back.
            known.revoked = false;
        }
        self.put_peer(peer, class, label)?;
        Ok(Applied::Paired { class })
    }

    /// Voids the codes of a poster; with `revoke`, nothing is taken any more from those who came by it.
    pub(super) fn remove_poster(&mut self, name: &str, revoke: bool) -> Result<Applied, ChangeError> {
        let mut codes = Vec::new();
        for code in self.tables().rows_after::<CodeRow>(&self.txn, None)? {
            let (key, mut row) = code?;
            row.secret.zeroize();
            if row.reusable && row.poster == name {
                codes.push(key.to_vec());
            }
        }
        for code in &codes {
            self.remove(Table::Codes, code)?;
        }
        let mut peers = Vec::new();
        for number in self.peer_numbers()? {
            // As it is now, not as it was before this transaction.
            let Some(row) = self.peer_of_number(number)? else { continue };
            let is_of_it = PeerClass::from_code(row.class) == PeerClass::Poster && row.poster == name;
            peers.extend(row.key().filter(|_| is_of_it && !row.revoked));
        }
        if codes.is_empty() && peers.is_empty() {
            return Err(ChangeError::NoPoster);
        }
        if !revoke {
            return Ok(Applied::Done);
        }
        for peer in &peers {
            self.revoke(peer)?;
        }
        Ok(Applied::Revoked(peers))
    }
}
