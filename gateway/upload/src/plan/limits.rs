//! How large one upload may be.

use waypost_protocol::api::Info;

use super::step::Settings;

/// A document of so many bytes at least is worth going by itself where smaller batches do not get through, in bytes.
pub(super) const WORTH_PARTS: u64 = 64 << 10;

/// Bytes that the path carries in one turn, where that was measured.
pub(super) fn in_time(settings: &Settings, rate: Option<u64>) -> u64 {
    rate.map_or(u64::MAX, |rate| rate.saturating_mul(settings.turn.as_secs()).max(WORTH_PARTS))
}

/// What one upload may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_document: u64,
    /// What is larger goes by itself, also while batches are halved: that costs three round trips.
    pub(super) alone: u64,
    /// And goes on later where it was cut off.
    pub(super) resumable: bool,
    pub(super) batch_bytes: u64,
    pub(super) batch_documents: usize,
}

impl Limits {
    /// Of what the settings and the destination allow, as the path carries it.
    pub(super) fn new(settings: &Settings, info: &Info, shrink: u32, rate: Option<u64>) -> Self {
        let max_batch_bytes = settings.batch_bytes.min(info.max_batch_bytes);
        let documents = settings.batch_documents.min(info.max_batch_documents);
        let most = max_batch_bytes.min(in_time(settings, rate));
        let batch_bytes = (max_batch_bytes >> shrink).min(most);
        Limits {
            max_document: info.max_document,
            alone: if info.resumable { most.max(WORTH_PARTS) } else { max_batch_bytes },
            resumable: info.resumable,
            batch_bytes,
            batch_documents: usize::try_from(documents >> shrink).unwrap_or(usize::MAX).max(1),
        }
    }
}
