//! Who may do what: the one table that admission, turns on radios and uploads go by. docs/security.md has it for people.

use waypost_store::PeerClass;

/// What peers of a class may do, beyond depositing sealed documents and hearing what became of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rights {
    /// The largest document: `limits.max_document`, or `limits.open_max_document`.
    pub(crate) large: bool,
    /// Documents that are revisions of a record.
    pub(crate) records: bool,
    /// An order among its own documents of a collection, up to `limits.max_priority`.
    pub(crate) priority: bool,
    /// To be sent documents of collections that may be subscribed.
    pub(crate) subscribe: bool,
    /// To recognise the gateway on the air, to go before those that are not known, to move to its Wi-Fi.
    pub(crate) is_known: bool,
    /// Percent of what is uploaded that peers of the class have together while others wait; those with 100 have it each by
    /// itself.
    pub(crate) upload_share: u8,
}

/// Those whom the admin, or a code of their own, has made known.
const KNOWN: Rights =
    Rights { large: true, records: true, priority: true, subscribe: true, is_known: true, upload_share: 100 };
/// Those that anybody may be.
const ANYBODY: Rights = Rights {
    large: false,
    records: false,
    priority: false,
    subscribe: false,
    is_known: false,
    upload_share: 10,
};

/// The rights of a class.
pub(crate) const fn rights(class: PeerClass) -> Rights {
    match class {
        PeerClass::Paired | PeerClass::Listed | PeerClass::Gateway => KNOWN,
        PeerClass::Poster | PeerClass::Open => ANYBODY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: [(PeerClass, &str); 5] = [
        (PeerClass::Paired, "paired"),
        (PeerClass::Listed, "listed"),
        (PeerClass::Gateway, "gateway"),
        (PeerClass::Poster, "poster"),
        (PeerClass::Open, "open"),
    ];

    #[test]
    fn the_table_for_people_says_the_same() {
        let document =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/security.md")).unwrap();
        for (class, name) in CLASSES {
            let rights = rights(class);
            let size = if rights.large { "limits.max_document" } else { "limits.open_max_document" };
            let [records, priority, subscribe, known] =
                [rights.records, rights.priority, rights.subscribe, rights.is_known]
                    .map(|may| if may { "yes" } else { "no" });
            let share = rights.upload_share;
            let row =
                format!("| {name} | `{size}` | {records} | {priority} | {subscribe} | {known} | {share} % |");
            assert!(document.contains(&row), "docs/security.md has no row: {row}");
        }
    }

    #[test]
    fn the_store_knows_the_same_classes() {
        for (class, name) in CLASSES {
            assert_eq!(rights(class).is_known, class.is_known(), "{name}");
        }
    }
}
