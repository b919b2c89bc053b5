//! Whose share of the room a body takes: that of all of a class together, or that of the peer which brought it.

use crate::change::PeerClass;
use crate::rows::{CountsRow, PeerRow};

/// Peers of a class that have one share of the room together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pool {
    Open,
    Posters,
}

impl Pool {
    pub(crate) fn of(class: PeerClass) -> Option<Self> {
        match class {
            PeerClass::Open => Some(Pool::Open),
            PeerClass::Poster => Some(Pool::Posters),
            PeerClass::Paired | PeerClass::Listed | PeerClass::Gateway => None,
        }
    }

    /// As a number in rows, where 0 is none.
    pub(crate) fn code(pool: Option<Self>) -> u32 {
        match pool {
            None => 0,
            Some(Pool::Open) => 1,
            Some(Pool::Posters) => 2,
        }
    }

    pub(crate) fn from_code(code: u32) -> Option<Self> {
        [Pool::Open, Pool::Posters].into_iter().find(|pool| Pool::code(Some(*pool)) == code)
    }
}

impl CountsRow {
    /// Bytes of bodies that are there, bodies under way and their declared sizes.
    pub(crate) fn of_pool(&mut self, pool: Pool) -> [&mut u64; 3] {
        match pool {
            Pool::Open => [&mut self.open_bytes, &mut self.open_partials, &mut self.open_partial_bytes],
            Pool::Posters => {
                [&mut self.poster_bytes, &mut self.poster_partials, &mut self.poster_partial_bytes]
            }
        }
    }
}

/// What counts towards a peer's share: `held_bytes`, `partials` and `partial_bytes` of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Charged {
    held_bytes: u64,
    partials: u64,
    partial_bytes: u64,
}

impl Charged {
    pub(crate) fn of(row: &PeerRow) -> Self {
        let PeerRow { held_bytes, partials, partial_bytes, .. } = *row;
        Charged { held_bytes, partials, partial_bytes }
    }

    pub(crate) fn add_body(&mut self, size: u64) {
        self.held_bytes = self.held_bytes.saturating_add(size);
    }

    pub(crate) fn add_partial(&mut self, size: u64) {
        self.partials = self.partials.saturating_add(1);
        self.partial_bytes = self.partial_bytes.saturating_add(size);
    }

    pub(crate) fn write_to(self, row: &mut PeerRow) {
        (row.held_bytes, row.partials, row.partial_bytes) =
            (self.held_bytes, self.partials, self.partial_bytes);
    }
}
