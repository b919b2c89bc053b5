//! Which version of a log's newest page nobody needs any more.

use crate::hash::ContentHash;
use crate::head::{Head, LogKey};
use crate::page::Page;
use crate::place::{ContentStore, read_page};

/// So many pages are looked at from a head down; what was not found by then may be farther down, and stays.
const FAR: usize = 100;

/// The page that may be removed once `new` stands where `before` stood, which had replaced `earlier`: the one that
/// `earlier` led to, unless it was settled since. That of `before` stays for readers who have just read that head.
///
/// Only pages of this very key count: whoever publishes a head that leads to another's page does not remove it.
pub fn superseded(
    content: &mut (impl ContentStore + ?Sized),
    name: &LogKey,
    earlier: &[u8],
    before: &[u8],
    new: &[u8],
) -> Option<ContentHash> {
    let [earlier, before, new] = [earlier, before, new].map(|bytes| Head::decode(bytes, name).ok());
    let (earlier, before, new) = (earlier?, before?, new?);
    if earlier.log != before.log || before.log != new.log || earlier.root == before.root {
        return None;
    }
    let mut page = |hash: &ContentHash| Page::decode(read_page(content, hash).ok()?).ok();
    if page(&earlier.root)?.key != *name {
        return None;
    }
    let mut at = new.root;
    for _ in 0..FAR {
        if at == earlier.root {
            return None;
        }
        let above = page(&at)?;
        if above.below.count < earlier.chain.count {
            return Some(earlier.root);
        }
        at = above.tail?;
    }
    None
}
