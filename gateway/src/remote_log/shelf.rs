//! Documents from a followed log on their way into the store: taken as from a peer that may deposit, verified by id.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use waypost_protocol::document::{Description, Document, IdHasher, MAX_PREFIX, parse_prefix, prefix};
use waypost_protocol::envelope::{self, Header};
use waypost_protocol::ids::{Fingerprint, PeerKey};
use waypost_protocol::refusal::Reason;
use waypost_protocol::sync::{Holdings as _, Standing};
use waypost_remote_log::{Described, LogKey, ReadError, Shelf, ShelfError};
use waypost_store::{Applied, Change, ChangeError, Free, NewDocument, PeerClass};

use super::Parts;

/// A document up to this size is held in memory and stored at once; larger ones go in pieces of it, each durable.
const PIECE: usize = 256 << 10;
/// How long a document that the destination wrote is kept for readers where the collection does not say, in seconds.
const KEPT: u64 = 30 * 86_400;

/// Takes documents of one log.
pub(super) struct GatewayShelf<'a> {
    pub(super) parts: &'a Parts,
    /// The destination that they must be for; `None`: any that is served.
    pub(super) scope: Option<Fingerprint>,
    /// The log's key, which is the depositor's name.
    pub(super) peer: PeerKey,
    /// Whether the destination itself writes it: then it is for readers, and needs no upload.
    pub(super) authored: bool,
}

impl GatewayShelf<'_> {
    /// Makes the log known as a peer, so that `waypost peers` shows it, and an admin can revoke it.
    pub(super) fn introduce(&self) -> Result<(), ReadError> {
        let failed = |error: &dyn std::fmt::Display| ReadError::Shelf(error.to_string());
        match self.parts.store.peer(&self.peer).map_err(|error| failed(&error))? {
            Some(peer) if peer.revoked => Err(ReadError::Shelf(
                "it was revoked (`waypost peers revoke`); take it out of `follow`".into(),
            )),
            Some(peer) if peer.class == PeerClass::Gateway => Ok(()),
            _ => {
                let label = Some(format!("log {}", &LogKey(self.peer.0).to_string()[..8]));
                let change = Change::PutPeer { peer: self.peer, class: PeerClass::Gateway, label };
                self.parts.writer.apply(change).map(|_| ()).map_err(|error| failed(&error))
            }
        }
    }

    fn is_carried(&self, described: &Described) -> bool {
        if self.authored {
            return self.parts.destinations.subscribable().contains(&described.group);
        }
        let config = &self.parts.config;
        if config.remote_log.collections.as_ref().is_some_and(|list| !list.0.contains(&described.group)) {
            return false;
        }
        let served = self.parts.destinations.0.iter();
        served.filter(|served| self.scope.is_none_or(|scope| scope == served.fingerprint)).any(|served| {
            let collections = served.config.collections.as_ref();
            collections.is_none_or(|list| list.iter().any(|one| one.group == described.group))
        })
    }

    /// The header, if the document is one that is taken from logs.
    fn check(&self, beginning: &[u8], description: &Description) -> Result<Header, ShelfError> {
        let refused = |why: &str| ShelfError::Refused(why.to_owned());
        let (header, _) =
            envelope::parse(beginning).map_err(|error| ShelfError::Refused(error.to_string()))?;
        let served = self.parts.destinations.get(&header.destination);
        let served = served.filter(|_| self.scope.is_none_or(|scope| scope == header.destination));
        let served = served.ok_or_else(|| refused("it is for a destination that is not served here"))?;
        let collections = served.config.collections.as_ref();
        if collections.is_some_and(|list| !list.iter().any(|one| one.group == description.group)) {
            return Err(refused("it is of a collection that is not carried here"));
        }
        if header.ephemeral || header.lifetime > 0 {
            return Err(refused("it has a lifetime, and nobody knows its age"));
        }
        Ok(header)
    }

    /// Stores, and remembers that the destination may have it: it is asked before anything is uploaded.
    fn apply(
        &self,
        change: Change,
        header: &Header,
        description: &Description,
    ) -> Result<Applied, ShelfError> {
        let standing = self.parts.store.standing(&description.id, Some(&header.destination));
        let has_verdict = self.authored || matches!(standing, Ok(Standing::Confirmed(_)));
        let kept = self.parts.destinations.kept_for_readers(&header.destination, &description.group);
        let kept = kept.or_else(|| self.authored.then_some(Free::After(KEPT)));
        // What the destination has spoken on needs no upload; it is here for readers.
        let change = match kept.filter(|_| has_verdict) {
            Some(free) => Change::Received { change: Box::new(change), free },
            None => change,
        };
        let applied = self.parts.writer.apply(change).map_err(|error| not_stored(&error))?;
        if matches!(applied, Applied::Stored { .. }) && !self.authored {
            let attempted = Change::Attempted { id: description.id };
            self.parts.writer.apply(attempted).map_err(|error| not_stored(&error))?;
        }
        Ok(applied)
    }

    fn take_small(&self, description: &Description, body: Vec<u8>) -> Result<(), ShelfError> {
        let document = Document::new(description.group, description.timestamp, Bytes::from(body))
            .map_err(|error| ShelfError::Refused(error.to_string()))?;
        if document.id() != description.id {
            return Err(wrong_bytes());
        }
        let header = self.check(document.body(), description)?;
        let depositor = Some(self.peer);
        let new =
            NewDocument { document, header: header.clone(), age: 0, depositor, draft: false, note: None };
        self.apply(Change::Document(Box::new(new)), &header, description).map(|_| ())
    }

    fn take_large(
        &self,
        description: &Description,
        mut offset: u64,
        body: &mut dyn Read,
    ) -> Result<(), ShelfError> {
        let mut header = match offset {
            0 => None,
            _ => self.partial(description)?.map(|partial| Arc::new(partial.1)),
        };
        while offset < description.size {
            let bytes =
                read_up_to(body, PIECE.min(usize::try_from(description.size - offset).unwrap_or(PIECE)))?;
            if bytes.is_empty() {
                return Err(ShelfError::Line(io::ErrorKind::UnexpectedEof.into()));
            }
            let header = match &header {
                Some(header) => header.clone(),
                None => header.insert(Arc::new(self.check(&bytes, description)?)).clone(),
            };
            let (length, depositor) = (bytes.len() as u64, Some(self.peer));
            let bytes = Bytes::from(bytes);
            let change = Change::Piece {
                description: *description,
                header: header.clone(),
                offset,
                bytes,
                age: 0,
                depositor,
            };
            match self.apply(change, &header, description)? {
                Applied::Partial { .. } => offset += length,
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// What of a large document is here already.
    fn partial(&self, description: &Description) -> Result<Option<(u64, Header)>, ShelfError> {
        let partial = self.parts.store.partial(&description.id, &self.peer);
        let partial = partial.map_err(|error| ShelfError::Failed(error.to_string()))?;
        Ok(partial.map(|partial| (partial.committed, partial.header)))
    }

    /// How the document under way begins, as it was written down with its first piece.
    fn known_prefix(&self, described: &Described) -> Option<(Description, u64)> {
        let head = self.parts.store.setting(&prefix_key(described)).ok().flatten()?;
        describe(described, &head).ok()
    }
}

impl Shelf for GatewayShelf<'_> {
    fn wants(&mut self, described: &Described) -> Result<Option<u64>, String> {
        let most = self.parts.config.limits.max_document.bytes().saturating_add(MAX_PREFIX as u64);
        if !self.is_carried(described) || described.size > most {
            return Ok(None);
        }
        let scope = self.scope.as_ref();
        let standing = self.parts.store.standing(&described.id, scope).map_err(|error| error.to_string())?;
        match standing {
            Standing::Unknown => {}
            // A confirmation names documents of many kiosks; what was never here may still be wanted by phones here.
            Standing::Confirmed(confirmation) => {
                let was_here = self.parts.store.document(&described.id).map_err(|error| error.to_string())?;
                let destination = confirmation.statement.destination();
                let kept = self.parts.destinations.kept_for_readers(&destination, &described.group);
                if was_here.is_some() || kept.is_none() {
                    return Ok(None);
                }
            }
            Standing::Held | Standing::Gone(_) => return Ok(None),
        }
        let Some((description, length)) = self.known_prefix(described) else { return Ok(Some(0)) };
        let partial = self.partial(&description).map_err(|error| error.to_string())?;
        Ok(Some(partial.map_or(0, |(committed, _)| length + committed)))
    }

    fn take(&mut self, described: &Described, offset: u64, content: &mut dyn Read) -> Result<(), ShelfError> {
        if offset > 0 {
            let (description, length) = self.known_prefix(described).ok_or_else(wrong_bytes)?;
            self.take_large(&description, offset.saturating_sub(length), content)?;
            return self.forget_prefix(described);
        }
        let head = read_up_to(content, MAX_PREFIX)?;
        let (description, length) = describe(described, &head)?;
        let beginning = head.get(usize::try_from(length).unwrap_or(usize::MAX)..).unwrap_or_default();
        let mut body = beginning.chain(content);
        if description.size <= PIECE as u64 {
            // One byte more, if there is one, shows that it is another document.
            return self.take_small(&description, read_up_to(&mut body, PIECE + 1)?);
        }
        let value = Some(prefix(&description));
        self.put(prefix_key(described), value)?;
        self.take_large(&description, 0, &mut body)?;
        self.forget_prefix(described)
    }
}

impl GatewayShelf<'_> {
    fn forget_prefix(&self, described: &Described) -> Result<(), ShelfError> {
        self.put(prefix_key(described), None)
    }

    fn put(&self, key: String, value: Option<Vec<u8>>) -> Result<(), ShelfError> {
        self.parts.writer.apply(Change::Put { key, value }).map(|_| ()).map_err(|error| not_stored(&error))
    }
}

/// What a document's first bytes say of it, and how many of them come before the body.
fn describe(described: &Described, head: &[u8]) -> Result<(Description, u64), ShelfError> {
    let (group, timestamp, size, length) =
        parse_prefix(head).map_err(|error| ShelfError::Refused(error.to_string()))?;
    let length = length as u64;
    if group != described.group || size.checked_add(length) != Some(described.size) {
        return Err(wrong_bytes());
    }
    let description = Description { id: described.id, group, timestamp, size };
    if size == 0 && IdHasher::new(group, timestamp).finish() != described.id {
        return Err(wrong_bytes());
    }
    Ok((description, length))
}

fn wrong_bytes() -> ShelfError {
    ShelfError::Later("its bytes are not those that its id names".into())
}

fn not_stored(error: &ChangeError) -> ShelfError {
    match error.reason() {
        Reason::OverQuota => ShelfError::Later(error.to_string()),
        Reason::WrongHash => wrong_bytes(),
        _ if matches!(error, ChangeError::Refused(_)) => ShelfError::Refused(error.to_string()),
        _ => ShelfError::Failed(error.to_string()),
    }
}

fn read_up_to(content: &mut dyn Read, most: usize) -> Result<Vec<u8>, ShelfError> {
    let mut bytes = Vec::new();
    content.take(most as u64).read_to_end(&mut bytes).map_err(ShelfError::Line)?;
    Ok(bytes)
}

fn prefix_key(described: &Described) -> String {
    format!("remote-log/part/{}", described.id)
}
