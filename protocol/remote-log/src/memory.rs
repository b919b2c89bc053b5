//! A place in memory that counts what it is asked: for tests and for measuring what the modes cost.

use std::collections::BTreeMap;
use std::io::{self, Read};

use bytes::Bytes;

use crate::hash::ContentHash;
use crate::head::LogKey;
use crate::place::{ContentStore, NameSystem, PlaceError};

/// What a place was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Costs {
    /// Questions, each of which waits for its answer.
    pub round_trips: u64,
    /// Bytes towards the place: hashes, keys, heads, content.
    pub bytes_up: u64,
    /// Bytes from the place.
    pub bytes_down: u64,
}

/// A place in memory.
#[derive(Debug, Default)]
pub struct InMemory {
    /// Content by hash. Tests damage it.
    pub content: BTreeMap<ContentHash, Bytes>,
    /// Heads by key. Tests roll them back.
    pub names: BTreeMap<LogKey, Bytes>,
    /// Since they were last set to zero.
    pub costs: Costs,
    /// So many questions are answered, then none: `None` has no end.
    pub patience: Option<u64>,
}

impl InMemory {
    fn asked(&mut self, up: usize) -> Result<(), PlaceError> {
        if let Some(left) = &mut self.patience {
            *left = left.checked_sub(1).ok_or_else(|| PlaceError::Unreachable("the line is cut".into()))?;
        }
        self.costs.round_trips += 1;
        self.costs.bytes_up += up as u64;
        Ok(())
    }
}

impl ContentStore for InMemory {
    fn has(&mut self, hashes: &[ContentHash]) -> Result<Vec<bool>, PlaceError> {
        self.asked(32 * hashes.len())?;
        self.costs.bytes_down += hashes.len().div_ceil(8) as u64;
        Ok(hashes.iter().map(|hash| self.content.contains_key(hash)).collect())
    }

    fn put(&mut self, hash: &ContentHash, length: u64, content: &mut dyn Read) -> Result<(), PlaceError> {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(PlaceError::Source)?;
        self.asked(32 + bytes.len())?;
        if bytes.len() as u64 != length || ContentHash::of(&bytes) != *hash {
            return Err(PlaceError::Refused("its bytes have another hash".into()));
        }
        self.content.insert(*hash, bytes.into());
        Ok(())
    }

    fn get(&mut self, hash: &ContentHash, offset: u64) -> Result<Box<dyn Read + '_>, PlaceError> {
        self.asked(32)?;
        let bytes = self.content.get(hash).cloned().ok_or(PlaceError::Missing(*hash))?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let rest = bytes.slice(offset..);
        self.costs.bytes_down += rest.len() as u64;
        Ok(Box::new(io::Cursor::new(rest)))
    }

    fn get_small(&mut self, wanted: &[(ContentHash, u64)]) -> Result<Vec<Option<Bytes>>, PlaceError> {
        self.asked(32 * wanted.len())?;
        let found: Vec<_> = wanted.iter().map(|(hash, _)| self.content.get(hash).cloned()).collect();
        // A length before each.
        let bytes: usize = found.iter().map(|bytes| 4 + bytes.as_ref().map_or(0, Bytes::len)).sum();
        self.costs.bytes_down += bytes as u64;
        Ok(found)
    }
}

impl NameSystem for InMemory {
    fn resolve(&mut self, name: &LogKey) -> Result<Option<Bytes>, PlaceError> {
        self.asked(32)?;
        let head = self.names.get(name).cloned();
        self.costs.bytes_down += head.as_ref().map_or(0, |head| head.len() as u64);
        Ok(head)
    }

    fn publish(
        &mut self,
        name: &LogKey,
        head: &Bytes,
        replaces: Option<ContentHash>,
    ) -> Result<(), PlaceError> {
        self.asked(32 + 32 + head.len())?;
        if self.names.get(name).map(|head| ContentHash::of(head)) != replaces {
            return Err(PlaceError::Changed);
        }
        self.names.insert(*name, head.clone());
        Ok(())
    }
}
