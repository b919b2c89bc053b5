//! A file whose changes sit in a volatile cache until they are synced, and what a power cut leaves of it.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use super::content::{Content, PAGE, pages_of};

/// What a power cut takes away of everything that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it: the cache had written nothing back on its own.
    Everything,
    /// A random part of it, as on real disks, which write back in any order: each sector of each write, each change
    /// of a file's size, and the newest changes of names. One seed gives one outcome.
    Torn {
        /// Chooses what is lost; how much of it is lost in all varies from seed to seed.
        seed: u64,
        /// Bytes that the disk writes as one, 512 or 4096 on real ones. A power of two.
        sector: u64,
    },
}

impl Loss {
    pub(crate) fn dice(self) -> Option<Dice> {
        let Loss::Torn { seed, sector } = self else { return None };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let keep = random.next_u64() % 101;
        Some(Dice { random, keep, sector: sector.clamp(1, PAGE) })
    }
}

/// The seeded decisions of one power cut.
pub(crate) struct Dice {
    random: ChaCha8Rng,
    /// How many of a hundred unsynced changes are kept.
    keep: u64,
    sector: u64,
}

impl Dice {
    fn kept(&mut self) -> bool {
        self.random.next_u64() % 100 < self.keep
    }

    /// A number from 0 to `most`, both included.
    pub(crate) fn up_to(&mut self, most: usize) -> usize {
        let drawn = self.random.next_u64() % (most as u64 + 1);
        usize::try_from(drawn).unwrap_or(most)
    }
}

/// One change that was not synced yet.
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Resize { len: u64 },
    Allocate { offset: u64, len: u64, extend: bool },
}

/// A file as programs see it (`current`), as the platter has it (`durable`), and the way from one to the other.
#[derive(Default)]
pub(crate) struct VolatileFile {
    pub(crate) current: Content,
    durable: Content,
    pending: Vec<Change>,
    dirty: BTreeSet<u64>,
}

impl VolatileFile {
    /// A file all of whose bytes are durable.
    pub(crate) fn durable(content: Content) -> Self {
        Self { durable: content.clone(), current: content, ..Self::default() }
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.current.write(offset, bytes);
        self.dirty.extend(pages_of(offset, bytes.len() as u64));
        self.pending.push(Change::Write { offset, bytes: bytes.to_vec() });
    }

    pub(crate) fn resize(&mut self, len: u64) {
        let old = self.current.len();
        self.current.resize(len);
        if len < old {
            self.dirty.extend(pages_of(len, old - len));
        }
        self.pending.push(Change::Resize { len });
    }

    pub(crate) fn allocate(&mut self, offset: u64, len: u64, extend: bool) {
        self.current.allocate(offset, len, extend);
        self.dirty.extend(pages_of(offset, len));
        self.pending.push(Change::Allocate { offset, len, extend });
    }

    /// Makes everything so far durable: data and size.
    pub(crate) fn sync(&mut self) {
        self.durable.catch_up(&self.current, std::mem::take(&mut self.dirty));
        self.pending.clear();
    }

    /// What is there after a power cut.
    pub(crate) fn after_power_cut(&self, dice: Option<&mut Dice>) -> Content {
        let mut left = self.durable.clone();
        let Some(dice) = dice else { return left };
        for change in &self.pending {
            match change {
                Change::Write { offset, bytes } => {
                    for (at, piece) in sectors(*offset, bytes, dice.sector) {
                        if dice.kept() {
                            left.write(at, piece);
                        }
                    }
                }
                Change::Resize { len } if dice.kept() => left.resize(*len),
                Change::Allocate { offset, len, extend } if dice.kept() => {
                    left.allocate(*offset, *len, *extend)
                }
                Change::Resize { .. } | Change::Allocate { .. } => {}
            }
        }
        left
    }
}

/// Cuts a write where sectors of the disk begin.
fn sectors(offset: u64, bytes: &[u8], sector: u64) -> impl Iterator<Item = (u64, &[u8])> {
    let mut at = offset;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let room = sector - at % sector;
        let (piece, behind) = rest.split_at(rest.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
        let start = at;
        at += piece.len() as u64;
        rest = behind;
        Some((start, piece))
    })
}

#[cfg(test)]
mod tests {
    use super::super::content::PAGE_BYTES;
    use super::*;

    fn torn(seed: u64) -> Option<Dice> {
        Loss::Torn { seed, sector: 512 }.dice()
    }

    fn left(file: &VolatileFile, mut dice: Option<Dice>) -> Vec<u8> {
        let content = file.after_power_cut(dice.as_mut());
        content.read(0, 1 << 20)
    }

    #[test]
    fn a_power_cut_returns_a_file_to_its_last_sync() {
        let mut file = VolatileFile::default();
        file.write(0, b"first");
        file.sync();
        file.write(0, b"other and longer");
        assert_eq!(left(&file, Loss::Everything.dice()), b"first");
        file.sync();
        assert_eq!(left(&file, Loss::Everything.dice()), b"other and longer");
    }

    #[test]
    fn cutting_a_file_and_growing_it_again_syncs_zeros_not_the_old_bytes() {
        let mut file = VolatileFile::default();
        file.write(0, &[9; 3 * PAGE_BYTES]);
        file.sync();
        file.resize(100);
        file.resize(3 * PAGE);
        file.sync();
        let bytes = left(&file, Loss::Everything.dice());
        assert_eq!(bytes.len() as u64, 3 * PAGE);
        assert!(bytes[..100].iter().all(|byte| *byte == 9) && bytes[100..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_torn_write_keeps_whole_sectors_only_and_the_same_ones_for_the_same_seed() {
        let mut file = VolatileFile::default();
        file.write(0, &[1; 8192]);
        file.sync();
        file.write(0, &[2; 8192]);
        let mut mixed = 0;
        for seed in 0..50 {
            let bytes = left(&file, torn(seed));
            assert_eq!(bytes, left(&file, torn(seed)));
            for sector in bytes.chunks(512) {
                assert!(sector.iter().all(|byte| *byte == sector[0]));
            }
            mixed += usize::from(bytes.contains(&1) && bytes.contains(&2));
        }
        assert!(mixed > 30, "only {mixed} of 50 cuts tore the write");
    }

    #[test]
    fn writes_are_cut_at_sectors_of_the_disk_not_of_the_write() {
        let pieces: Vec<_> = sectors(500, &[0; 600], 512).map(|(at, piece)| (at, piece.len())).collect();
        assert_eq!(pieces, [(500, 12), (512, 512), (1024, 76)]);
    }
}
