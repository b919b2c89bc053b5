//! When the key expires, and the warning before.

use waypost_protocol::time::UnixTime;

use super::Home;

/// In days: how far an expiry is looked for, and how long before it it is warned of.
const TEN_YEARS: u64 = 3_653;
const WARNED_DAYS: u64 = 60;
/// In seconds.
const DAY: u64 = 86_400;

impl Home {
    /// From when on phones can no longer seal to the key, to the day; none where that is more than ten years from now.
    pub fn key_expires(&self, now: UnixTime) -> Option<UnixTime> {
        let at = |days: u64| UnixTime(now.0 + days * DAY);
        let lasts = |days: &u64| self.chain().recipient(at(*days)).is_some();
        let (mut usable, mut unusable) = (0, TEN_YEARS);
        if lasts(&unusable) {
            return None;
        }
        if !lasts(&usable) {
            return Some(now);
        }
        while unusable - usable > 1 {
            let middle = usable.midpoint(unusable);
            if lasts(&middle) { usable = middle } else { unusable = middle }
        }
        Some(at(unusable))
    }

    /// What to say of a key that expires within 60 days.
    pub fn key_warning(&self, now: UnixTime) -> Option<String> {
        let expires = self.key_expires(now).filter(|time| time.0 < now.0 + WARNED_DAYS * DAY)?;
        Some(format!(
            "the OpenPGP key {} expires before {expires}: from then on phones can seal nothing to it; renew it with \
             `waypost-destination key renew --for 2y`",
            self.key().certificate().fingerprint()
        ))
    }
}
