//! Filling a payload up to the size of a frame.

use bytes::Bytes;
use prost::Message as _;

use crate::ids::MessageId;
use crate::mvds;

/// Bytes that an id costs in a list of a payload: key (3), length (1), id (32).
pub(super) const ID_COST: usize = 36;
/// Bytes that a refusal costs at most: an id and a reason in a message of its own.
pub(super) const REFUSAL_COST: usize = 4 + 34 + 6;

/// A payload being filled. The first item always fits, so that something larger than a frame still goes.
pub(super) struct Filling {
    payload: mvds::Payload,
    size: usize,
    target: usize,
}

impl Filling {
    pub(super) fn new(target: usize) -> Self {
        Filling { payload: mvds::Payload::default(), size: 0, target }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Bytes left up to the target.
    pub(super) fn room(&self) -> usize {
        self.target.saturating_sub(self.size)
    }

    /// Takes `cost` bytes of room, if they are there or nothing else is in the payload.
    pub(super) fn take(&mut self, cost: usize) -> bool {
        let fits = self.size == 0 || cost <= self.room();
        if fits {
            self.size += cost;
        }
        fits
    }

    pub(super) fn payload(&mut self) -> &mut mvds::Payload {
        &mut self.payload
    }

    /// Adds how long a document has been under way; its cost was taken with the document.
    pub(super) fn age(&mut self, id: &MessageId, age: Option<u64>) {
        if let Some(seconds) = age {
            self.payload.ages.push(mvds::Age { id: bytes_of(id), seconds });
        }
    }

    pub(super) fn encode(self) -> Vec<u8> {
        self.payload.encode_to_vec()
    }
}

/// What a message inside a payload costs, in bytes.
pub(super) fn cost_of<M: prost::Message>(message: &M) -> usize {
    let length = message.encoded_len();
    3 + prost::encoding::encoded_len_varint(length as u64) + length
}

pub(super) fn bytes_of(id: &MessageId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}
