//! How many unfinished uploads a client may have.

use std::time::Duration;

use waypost_protocol::ids::MessageId;

use crate::store::{Quota, Used};

/// How long an upload must have been left alone to make room for another.
const IDLE: Duration = Duration::from_secs(86_400);

/// Of one client, all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that they will have when they are whole.
    pub bytes: u64,
    /// Uploads.
    pub count: u64,
}

/// One that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) id: MessageId,
    /// Bytes when it is whole.
    pub(crate) length: u64,
    /// Since a request was at it.
    pub(crate) idle: Duration,
}

/// What a new upload is to fit into.
pub(crate) struct Room {
    pub(crate) limits: Limits,
    /// The client's account as it counts now; nothing where the document is known, so that it costs nothing.
    pub(crate) account: Option<(Quota, Used)>,
}

impl Room {
    /// Which of a client's other uploads go for one of `length` bytes: of those that were left alone for a day as few as
    /// need be, the longest left first. An error says what is full.
    pub(crate) fn make(&self, mut others: Vec<Pending>, length: u64) -> Result<Vec<MessageId>, String> {
        others.sort_by_key(|pending| std::cmp::Reverse(pending.idle));
        let mut bytes = others.iter().map(|pending| pending.length).fold(length, u64::saturating_add);
        let mut count = others.len() as u64 + 1;
        let mut gone = Vec::new();
        for pending in &others {
            let fits = bytes <= self.limits.bytes && count <= self.limits.count;
            let is_within_quota =
                || self.account.as_ref().is_none_or(|(quota, used)| used.with(quota, count, bytes).is_ok());
            if (fits && is_within_quota()) || pending.idle < IDLE {
                break;
            }
            bytes -= pending.length;
            count -= 1;
            gone.push(pending.id);
        }
        let Limits { bytes: most_bytes, count: most_count } = self.limits;
        if bytes > most_bytes || count > most_count {
            return Err(format!(
                "unfinished uploads of this gateway may have {most_bytes} bytes in all and be {most_count}; send it \
                 when one of them is whole"
            ));
        }
        match &self.account {
            Some((quota, used)) => used.with(quota, count, bytes).map(|_| gone),
            None => Ok(gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn pending(n: u8, length: u64, hours: u32) -> Pending {
        Pending { id: MessageId([n; 32]), length, idle: HOUR * hours }
    }

    fn room(bytes: u64, count: u64) -> Room {
        Room { limits: Limits { bytes, count }, account: None }
    }

    #[test]
    fn only_uploads_that_were_left_alone_for_a_day_make_room_and_no_more_of_them_than_need_be() {
        let others = || vec![pending(1, 40, 30), pending(2, 40, 23), pending(3, 10, 50), pending(4, 5, 25)];
        let ids = |ns: &[u8]| Ok(ns.iter().map(|n| MessageId([*n; 32])).collect());
        assert_eq!(room(100, 10).make(others(), 5), ids(&[]));
        assert_eq!(room(100, 10).make(others(), 6), ids(&[3]));
        assert_eq!(room(100, 10).make(others(), 16), ids(&[3, 1]));
        assert_eq!(room(100, 10).make(others(), 60), ids(&[3, 1, 4]));
        let said = room(100, 10).make(others(), 61).unwrap_err();
        assert!(said.contains("100 bytes in all"), "{said}");
        assert_eq!(room(1_000, 3).make(others(), 1), ids(&[3, 1]));
        let busy = vec![pending(1, 1, 2), pending(2, 1, 0)];
        let said = room(1_000, 2).make(busy, 1).unwrap_err();
        assert!(said.contains("be 2"), "{said}");
    }

    #[test]
    fn what_is_unfinished_counts_in_the_quota_together_with_what_came() {
        let quota = Quota { total_bytes: Some(100), total_documents: Some(5), ..Quota::default() };
        let used = Used { total_bytes: 50, total_documents: 2, ..Used::default() };
        let room = Room { account: Some((quota, used)), ..room(1_000, 10) };
        assert_eq!(room.make(vec![pending(1, 30, 0)], 20), Ok(vec![]));
        let said = room.make(vec![pending(1, 30, 0)], 21).unwrap_err();
        assert!(said.contains("quota of 100 bytes in all"), "{said}");
        let three = vec![pending(1, 1, 0), pending(2, 1, 0), pending(3, 1, 0)];
        assert!(room.make(three, 1).unwrap_err().contains("5 documents in all"));
    }

    #[test]
    fn what_was_left_alone_for_a_day_makes_room_in_the_quota_too() {
        let quota = Quota { day_bytes: Some(1_000), ..Quota::default() };
        let limits = Limits { bytes: 1 << 30, count: 1_000 };
        let room = Room { limits, account: Some((quota, Used::default())) };
        let stale = || vec![pending(1, 900, 30), pending(2, 50, 40), pending(3, 10, 2)];
        assert_eq!(room.make(stale(), 30), Ok(vec![]));
        assert_eq!(room.make(stale(), 300), Ok(vec![MessageId([2; 32]), MessageId([1; 32])]));
        assert!(room.make(stale(), 995).is_err(), "what is under way stays");
    }
}
