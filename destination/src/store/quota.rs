//! How much a gateway may bring, and how much it brought.

use serde::Serialize;
use waypost_protocol::time::UnixTime;

/// Seconds of a day; days begin at 00:00 UTC.
const DAY: u64 = 86_400;

/// What a client may bring; empty is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Quota {
    /// Bytes of sealed documents a day.
    pub day_bytes: Option<u64>,
    /// Documents a day.
    pub day_documents: Option<u64>,
    /// Bytes of sealed documents in all.
    pub total_bytes: Option<u64>,
    /// Documents in all.
    pub total_documents: Option<u64>,
    /// Bytes of its remote logs. Empty: as much as is left free.
    pub log_bytes: Option<u64>,
}

/// What a client brought that was new here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Used {
    /// Days since 1970 of the two numbers of a day.
    #[serde(skip)]
    pub day: u64,
    /// Bytes of sealed documents on that day.
    pub day_bytes: u64,
    /// Documents on that day.
    pub day_documents: u64,
    /// Bytes of sealed documents in all.
    pub total_bytes: u64,
    /// Documents in all.
    pub total_documents: u64,
    /// Bytes of remote logs that it put here, and that are being put.
    pub log_bytes: u64,
}

impl Used {
    /// As it counts at that time: a new day begins with nothing.
    pub fn at(self, now: UnixTime) -> Self {
        let day = now.0 / DAY;
        match day == self.day {
            true => self,
            false => Used { day, day_bytes: 0, day_documents: 0, ..self },
        }
    }

    /// Counts one more document of `size` bytes, unless that is over the quota: then says which, and what to do.
    pub fn take(&mut self, quota: &Quota, size: u64) -> Result<(), String> {
        *self = self.with(quota, 1, size)?;
        Ok(())
    }

    /// What it is with so many documents and bytes more, unless that is over the quota: then says which, and what to do.
    pub fn with(&self, quota: &Quota, documents: u64, bytes: u64) -> Result<Self, String> {
        let then = Used {
            day: self.day,
            day_bytes: self.day_bytes.saturating_add(bytes),
            day_documents: self.day_documents.saturating_add(documents),
            total_bytes: self.total_bytes.saturating_add(bytes),
            total_documents: self.total_documents.saturating_add(documents),
            log_bytes: self.log_bytes,
        };
        let limits = [
            (then.total_bytes, quota.total_bytes, "bytes in all"),
            (then.total_documents, quota.total_documents, "documents in all"),
            (then.day_bytes, quota.day_bytes, "bytes a day"),
            (then.day_documents, quota.day_documents, "documents a day"),
        ];
        for (value, limit, what) in limits {
            if let Some(limit) = limit.filter(|&limit| value > limit) {
                let wait = if what.ends_with("day") { "after 00:00 UTC, or ask" } else { "later; ask" };
                return Err(format!(
                    "over this gateway's quota of {limit} {what}; send it again {wait} the destination's admin for more"
                ));
            }
        }
        Ok(then)
    }

    /// Takes one document back that another process was faster to store.
    pub(crate) fn give_back(&mut self, size: u64) {
        self.day_bytes = self.day_bytes.saturating_sub(size);
        self.day_documents = self.day_documents.saturating_sub(1);
        self.total_bytes = self.total_bytes.saturating_sub(size);
        self.total_documents = self.total_documents.saturating_sub(1);
    }
}

/// Room for remote logs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogRoom {
    /// What this client's may take, where that was said.
    pub(crate) limit: Option<u64>,
    /// What they take.
    pub(crate) used: u64,
    /// What those of all clients take.
    pub(crate) all: u64,
    /// What those of all clients may take.
    pub(crate) most: u64,
}

impl LogRoom {
    /// Counts content of `size` bytes; else says why there is no room, and what to do. Who has no limit of its own may
    /// take as much as it leaves free (dynamic thresholds, Choudhury and Hahne 1998): alone it takes half, with others
    /// less, and there always is something left for one who comes later.
    pub(crate) fn take(&mut self, size: u64) -> Result<(), String> {
        let left = self.most.saturating_sub(self.all);
        let used = self.used.saturating_add(size);
        let Some(free) = left.checked_sub(size) else {
            return Err(format!(
                "remote logs may take {} bytes, {left} are left; the destination's admin can raise `max_log_bytes`",
                self.most
            ));
        };
        if used > self.limit.unwrap_or(free) {
            let whose = match self.limit {
                Some(limit) => format!("this gateway's remote logs may take {limit} bytes"),
                None => "remote logs of one gateway may take as much as they leave free".to_owned(),
            };
            return Err(format!(
                "{whose}, and take {} of {} by now; the destination's admin can give them more \
                 (`gateways set NAME --remote-log BYTES`)",
                self.used, self.most
            ));
        }
        (self.used, self.all) = (used, self.all.saturating_add(size));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_reached_and_not_passed_and_a_new_day_begins_with_nothing() {
        let quota = Quota { day_bytes: Some(100), total_documents: Some(4), ..Quota::default() };
        let mut used = Used::default().at(UnixTime(10 * DAY));
        assert_eq!(used.take(&quota, 60), Ok(()));
        let said = used.take(&quota, 41).unwrap_err();
        assert!(said.contains("100 bytes a day") && said.contains("00:00 UTC"), "{said}");
        assert_eq!(used.take(&quota, 40), Ok(()));
        assert_eq!((used.day_bytes, used.total_documents), (100, 2));
        let mut used = used.at(UnixTime(11 * DAY - 1));
        assert!(used.take(&quota, 1).is_err());
        let mut used = used.at(UnixTime(11 * DAY));
        assert_eq!((used.take(&quota, 100), used.take(&quota, 0)), (Ok(()), Ok(())));
        let said = used.take(&quota, 0).unwrap_err();
        assert!(said.contains("4 documents in all"), "{said}");
        used.give_back(0);
        assert_eq!(used.take(&quota, 0), Ok(()));
    }

    #[test]
    fn without_a_quota_of_its_own_a_gateways_log_leaves_as_much_free_as_it_takes() {
        let mut alone = LogRoom { limit: None, used: 0, all: 0, most: 1_000 };
        assert_eq!(alone.take(500), Ok(()));
        let said = alone.take(1).unwrap_err();
        assert!(said.contains("gateways set NAME --remote-log"), "{said}");
        let mut second = LogRoom { used: 0, ..alone };
        assert!(second.take(251).is_err());
        assert_eq!(second.take(250), Ok(()));
        // A quota says otherwise, and the room of all has its end.
        let mut first = LogRoom { used: 500, limit: Some(900), ..second };
        assert_eq!(first.take(250), Ok(()));
        let said = first.take(1).unwrap_err();
        assert!(said.contains("`max_log_bytes`"), "{said}");
        let mut little = LogRoom { limit: Some(10), used: 0, all: 0, most: 1_000 };
        assert!(little.take(11).is_err());
    }
}
