//! Documents and what is said of them: envelopes, canonical encodings, labels, confirmations, successions.

use bytes::Bytes;
use waypost_protocol::confirmation::{Confirmation, MAX_DOCUMENTS, MAX_SIGNATURE, Statement};
use waypost_protocol::content::{Label, MAX_LINE};
use waypost_protocol::document::{Document, MAX_PREFIX, parse_prefix, prefix};
use waypost_protocol::envelope::{self, FIXED, MAX_HEADER, MAX_PARENTS, MAX_REPLACES};
use waypost_protocol::succession::{self, MAX_LINKS};

/// An envelope; a document in canonical encoding; the line inside a seal.
pub fn envelope(data: &[u8]) -> bool {
    let header = envelope::parse(data);
    if let Ok((header, at)) = &header {
        assert!((FIXED..=FIXED + MAX_HEADER).contains(at));
        assert!(header.replaces.len() <= MAX_REPLACES && header.parents.len() <= MAX_PARENTS);
        // Fields that nobody knows are passed over, so that the bytes may be others.
        if let Ok(encoded) = header.encode() {
            assert_eq!(envelope::parse(&encoded).as_ref(), Ok(&(header.clone(), encoded.len())));
        }
    }
    let document = Document::decode(Bytes::copy_from_slice(data));
    let head = parse_prefix(data.get(..MAX_PREFIX).unwrap_or(data));
    if let Ok((_, _, _, length)) = head {
        assert!(length <= MAX_PREFIX);
    }
    if let Ok(document) = &document {
        assert_eq!(document.encode(), data);
        let length = data.len() - document.body().len();
        assert_eq!(prefix(&document.description()), data[..length]);
        assert_eq!(head, Ok((document.group(), document.timestamp(), document.body().len() as u64, length)));
    }
    let label = Label::parse(data);
    if let Ok((label, at)) = &label {
        assert!(*at <= MAX_LINE && data[at - 1] == b'\n');
        if let Ok(line) = label.encode() {
            assert_eq!(Label::parse(&line), Ok((label.clone(), line.len())));
        }
    }
    header.is_ok() || document.is_ok() || label.is_ok()
}

/// A confirmation as fields and as text; a chain of certificates as fields. None of them verified.
pub fn confirmation(data: &[u8]) -> bool {
    let fields = Confirmation::decode(data);
    if let Ok(confirmation) = &fields {
        let statement = &confirmation.statement;
        assert!((1..=MAX_DOCUMENTS).contains(&statement.verdicts().len()));
        assert!((1..=MAX_SIGNATURE).contains(&confirmation.signature().len()));
        assert_eq!(Statement::parse_text(&statement.text()).as_ref(), Ok(statement));
        assert_eq!(Confirmation::decode(&confirmation.encode()).as_ref(), Ok(confirmation));
        assert_eq!(confirmation.to_document().map(|document| document.id()), Ok(confirmation.id()));
        assert_eq!(Confirmation::id_of_wire(&confirmation.to_wire()), Some(confirmation.id()));
    }
    let text = std::str::from_utf8(data).map(Statement::parse_text);
    if let Ok(Ok(statement)) = &text {
        assert_eq!(statement.text().as_bytes(), data);
    }
    let links = succession::decode(data);
    if let Ok(links) = &links {
        assert!(links.len() <= MAX_LINKS);
        assert_eq!(succession::decode(&succession::encode(links)).as_ref(), Ok(links));
    }
    fields.is_ok() || matches!(text, Ok(Ok(_))) || links.is_ok_and(|links| !links.is_empty())
}
