//! Confirmations: what a destination says of documents, as fields, as the canonical text that it signs, and as an
//! MVDS message. Verifying the signature needs OpenPGP and lies outside this crate.

use std::fmt::Write as _;

use bytes::Bytes;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::collection::confirmations_group;
use crate::document::{Document, DocumentError};
use crate::ids::{Fingerprint, IdError, MessageId};
use crate::mvds;
use crate::time::UnixTime;

/// At most so many documents in one confirmation (design §2).
pub const MAX_DOCUMENTS: usize = 256;
/// The longest signature that is carried, in bytes: room for RSA-4096 and for notations.
pub const MAX_SIGNATURE: usize = 2048;

/// What became of a document at its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Decrypted with its integrity verified, stored, flushed.
    Opened,
    /// Bytes stored; the key to open them is offline.
    Held,
    /// Never wanted.
    Rejected(Rejection),
}

/// Why a destination never wants a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rejection {
    /// It is addressed to a collection that the destination does not have.
    UnknownCollection,
    /// It cannot be decrypted, or its contents are damaged.
    CannotOpen,
    /// It is, or unpacks to, more than the destination takes.
    TooLarge,
    /// Its author's key was revoked.
    AuthorRevoked,
}

impl Verdict {
    const TABLE: [(u8, &'static str, Verdict); 6] = [
        (1, "opened", Verdict::Opened),
        (2, "held", Verdict::Held),
        (16, "rejected unknown-collection", Verdict::Rejected(Rejection::UnknownCollection)),
        (17, "rejected cannot-open", Verdict::Rejected(Rejection::CannotOpen)),
        (18, "rejected too-large", Verdict::Rejected(Rejection::TooLarge)),
        (19, "rejected author-revoked", Verdict::Rejected(Rejection::AuthorRevoked)),
    ];

    /// The byte on the wire.
    pub fn code(self) -> u8 {
        Self::TABLE.iter().find(|(_, _, verdict)| *verdict == self).map_or(0, |(code, _, _)| *code)
    }

    /// From the byte on the wire; an unknown one is an error, since its text could not be rebuilt.
    pub fn from_code(code: u8) -> Option<Verdict> {
        Self::TABLE.iter().find(|(known, _, _)| *known == code).map(|(_, _, verdict)| *verdict)
    }

    /// The words in the signed text.
    pub fn words(self) -> &'static str {
        Self::TABLE.iter().find(|(_, _, verdict)| *verdict == self).map_or("", |(_, words, _)| words)
    }

    /// Whether a later verdict may take this one's place: only held → opened and held → rejected.
    pub fn may_become(self, later: Verdict) -> bool {
        self == Verdict::Held && later != Verdict::Held
    }
}

/// Why fields are no confirmation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmationError {
    /// The protobuf does not decode.
    #[error("not a confirmation: {0}")]
    Protobuf(String),
    /// A field has a wrong length.
    #[error(transparent)]
    Id(#[from] IdError),
    /// None, or more than [`MAX_DOCUMENTS`].
    #[error("confirmation of {0} documents, expected 1 to {MAX_DOCUMENTS}")]
    Count(usize),
    /// Ids and verdicts do not pair up.
    #[error("confirmation has {ids} bytes of ids and {verdicts} verdicts, expected 32 for each")]
    Uneven {
        /// Bytes of ids.
        ids: usize,
        /// Number of verdicts.
        verdicts: usize,
    },
    /// Ids are not strictly ascending.
    #[error("confirmation's ids are not in ascending order, each once")]
    Order,
    /// A verdict code that is not on the list.
    #[error("unknown verdict code {0}")]
    Verdict(u8),
    /// The time is 2^40 or later.
    #[error("confirmation's time {0} is outside 0 ≤ t < 2^40 seconds")]
    Time(u64),
    /// The text is not the one that its fields would have.
    #[error("not the text of a confirmation: line {0} is not as it should be")]
    Text(usize),
    /// The signature is missing or longer than [`MAX_SIGNATURE`].
    #[error("signature of {0} bytes, expected 1 to {MAX_SIGNATURE}")]
    Signature(usize),
}

/// What is signed: the destination's statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    destination: Fingerprint,
    signer: Fingerprint,
    time: UnixTime,
    verdicts: Vec<(MessageId, Verdict)>,
}

impl Statement {
    /// Makes a statement; `verdicts` are sorted by id and must name each document once.
    pub fn new(
        destination: Fingerprint,
        signer: Fingerprint,
        time: UnixTime,
        mut verdicts: Vec<(MessageId, Verdict)>,
    ) -> Result<Self, ConfirmationError> {
        verdicts.sort_by_key(|(id, _)| *id);
        let statement = Statement { destination, signer, time, verdicts };
        statement.check()?;
        Ok(statement)
    }

    fn check(&self) -> Result<(), ConfirmationError> {
        if self.verdicts.is_empty() || self.verdicts.len() > MAX_DOCUMENTS {
            return Err(ConfirmationError::Count(self.verdicts.len()));
        }
        if !self.verdicts.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(ConfirmationError::Order);
        }
        if self.time >= UnixTime::LIMIT {
            return Err(ConfirmationError::Time(self.time.0));
        }
        Ok(())
    }

    /// First fingerprint of the destination: its name.
    pub fn destination(&self) -> Fingerprint {
        self.destination
    }

    /// Fingerprint of the key (primary or subkey) that signs.
    pub fn signer(&self) -> Fingerprint {
        self.signer
    }

    /// When it was signed.
    pub fn time(&self) -> UnixTime {
        self.time
    }

    /// Documents and what became of them, ascending by id.
    pub fn verdicts(&self) -> &[(MessageId, Verdict)] {
        &self.verdicts
    }

    /// The verdict on one document.
    pub fn verdict_on(&self, id: &MessageId) -> Option<Verdict> {
        let at = self.verdicts.binary_search_by_key(id, |(id, _)| *id).ok()?;
        self.verdicts.get(at).map(|(_, verdict)| *verdict)
    }

    /// The canonical text, UTF-8 with LF line ends, that the detached signature is over.
    pub fn text(&self) -> String {
        let mut text = format!(
            "Waypost confirmation 1\nDestination: {}\nSigner: {}\nTime: {}\n\n",
            self.destination, self.signer, self.time
        );
        for (id, verdict) in &self.verdicts {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{id} {}", verdict.words());
        }
        text
    }

    /// From [`Statement::text`]: that text and no other, byte for byte, since the signature is over it.
    pub fn parse_text(text: &str) -> Result<Self, ConfirmationError> {
        fn field<T: std::str::FromStr>(line: Option<&str>, name: &str) -> Option<T> {
            line?.strip_prefix(name)?.strip_prefix(": ")?.parse().ok()
        }
        let wrong = ConfirmationError::Text;
        let mut lines = text.lines();
        lines.next().filter(|line| *line == "Waypost confirmation 1").ok_or(wrong(1))?;
        let destination = field(lines.next(), "Destination").ok_or(wrong(2))?;
        let signer = field(lines.next(), "Signer").ok_or(wrong(3))?;
        let time = field(lines.next(), "Time").ok_or(wrong(4))?;
        lines.next().filter(|line| line.is_empty()).ok_or(wrong(5))?;
        let mut verdicts = Vec::new();
        for (number, line) in (6..).zip(lines.take(MAX_DOCUMENTS + 1)) {
            let verdict = line.split_once(' ').and_then(|(id, words)| {
                let (_, _, verdict) = Verdict::TABLE.iter().find(|(_, known, _)| *known == words)?;
                Some((id.parse().ok()?, *verdict))
            });
            verdicts.push(verdict.ok_or(wrong(number))?);
        }
        let statement = Self::new(destination, signer, time, verdicts)?;
        let rebuilt = statement.text();
        if rebuilt == text {
            return Ok(statement);
        }
        let same =
            rebuilt.split('\n').zip(text.split('\n')).take_while(|(ours, theirs)| ours == theirs).count();
        Err(wrong(same + 1))
    }
}

/// A statement with a signature that has the right shape. Whether it verifies is another question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// What is said.
    pub statement: Statement,
    signature: Bytes,
}

impl Confirmation {
    /// Joins a statement and its binary detached signature.
    pub fn new(statement: Statement, signature: Bytes) -> Result<Self, ConfirmationError> {
        if signature.is_empty() || signature.len() > MAX_SIGNATURE {
            return Err(ConfirmationError::Signature(signature.len()));
        }
        Ok(Confirmation { statement, signature })
    }

    /// The binary detached OpenPGP signature.
    pub fn signature(&self) -> &Bytes {
        &self.signature
    }

    /// The fields on the wire.
    pub fn to_wire(&self) -> mvds::Confirmation {
        let Statement { destination, signer, time, verdicts } = &self.statement;
        let signer = if signer == destination { &[] } else { signer.as_bytes() };
        mvds::Confirmation {
            destination: Bytes::copy_from_slice(destination.as_bytes()),
            signer: Bytes::copy_from_slice(signer),
            time: time.0,
            ids: verdicts.iter().flat_map(|(id, _)| id.0).collect(),
            verdicts: verdicts.iter().map(|(_, verdict)| verdict.code()).collect(),
            signature: self.signature.clone(),
        }
    }

    /// From the fields on the wire.
    pub fn from_wire(wire: &mvds::Confirmation) -> Result<Self, ConfirmationError> {
        if wire.ids.len() != wire.verdicts.len().saturating_mul(32) {
            return Err(ConfirmationError::Uneven { ids: wire.ids.len(), verdicts: wire.verdicts.len() });
        }
        if wire.verdicts.len() > MAX_DOCUMENTS {
            return Err(ConfirmationError::Count(wire.verdicts.len()));
        }
        let verdicts = wire.ids.chunks_exact(32).zip(wire.verdicts.iter()).map(|(id, &code)| {
            Ok((
                MessageId::from_slice(id)?,
                Verdict::from_code(code).ok_or(ConfirmationError::Verdict(code))?,
            ))
        });
        let destination = Fingerprint::from_slice(&wire.destination)?;
        let statement = Statement {
            destination,
            signer: match wire.signer.is_empty() {
                true => destination,
                false => Fingerprint::from_slice(&wire.signer)?,
            },
            time: UnixTime(wire.time),
            verdicts: verdicts.collect::<Result<_, ConfirmationError>>()?,
        };
        statement.check()?;
        // A copy, since a slice would keep the whole payload that it came in.
        Self::new(statement, Bytes::copy_from_slice(&wire.signature))
    }

    /// The id of fields that need not be a confirmation here, so that one of a newer version can be refused by name.
    pub fn id_of_wire(wire: &mvds::Confirmation) -> Option<MessageId> {
        let destination = Fingerprint::from_slice(&wire.destination).ok()?;
        let time = Some(UnixTime(wire.time)).filter(|time| *time < UnixTime::LIMIT)?;
        let mut hasher = crate::document::IdHasher::new(confirmations_group(&destination), time);
        hasher.update(&wire.encode_to_vec());
        Some(hasher.finish())
    }

    /// The encoded fields, as they are stored and as the body of the MVDS message.
    pub fn encode(&self) -> Vec<u8> {
        self.to_wire().encode_to_vec()
    }

    /// From [`Confirmation::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ConfirmationError> {
        let wire = mvds::Confirmation::decode(bytes)
            .map_err(|error| ConfirmationError::Protobuf(error.to_string()))?;
        Self::from_wire(&wire)
    }

    /// As an MVDS message of the reserved group, at the signature's time: its id is the same everywhere.
    pub fn to_document(&self) -> Result<Document, DocumentError> {
        let group = confirmations_group(&self.statement.destination);
        Document::new(group, self.statement.time, self.encode().into())
    }

    /// The id of [`Confirmation::to_document`], by which it is acknowledged.
    pub fn id(&self) -> MessageId {
        let group = confirmations_group(&self.statement.destination);
        let mut hasher = crate::document::IdHasher::new(group, self.statement.time);
        hasher.update(&self.encode());
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(ids: &[u8]) -> Result<Statement, ConfirmationError> {
        let verdicts = ids.iter().map(|&b| (MessageId([b; 32]), Verdict::Opened)).collect();
        let (first, signer) = (Fingerprint::V4([0xaa; 20]), Fingerprint::V4([0xbb; 20]));
        Statement::new(first, signer, UnixTime(1_795_236_000), verdicts)
    }

    #[test]
    fn the_text_is_what_people_can_read() {
        let text = statement(&[2, 1]).unwrap().text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "Waypost confirmation 1");
        assert_eq!(lines[1], format!("Destination: {}", "AA".repeat(20)));
        assert_eq!(lines[2], format!("Signer: {}", "BB".repeat(20)));
        assert_eq!(lines[3], "Time: 2026-11-21T04:40:00Z");
        assert_eq!(lines[4], "");
        assert_eq!(lines[5], format!("{} opened", "01".repeat(32)));
        assert!(text.ends_with("opened\n"));
    }

    #[test]
    fn the_text_comes_back_and_any_other_is_refused_with_its_line() {
        let statement = statement(&[1, 2, 3]).unwrap();
        let text = statement.text();
        assert_eq!(Statement::parse_text(&text), Ok(statement));
        // Cut between two documents it is another statement, which nobody has signed.
        for at in (0..text.len()).filter(|at| *at < 150 || !text[..*at].ends_with('\n')) {
            assert!(Statement::parse_text(&text[..at]).is_err(), "cut at {at}");
        }
        let lines: Vec<&str> = text.lines().collect();
        let changed = |at: usize, line: &str| {
            let mut lines = lines.clone();
            lines[at] = line;
            Statement::parse_text(&(lines.join("\n") + "\n"))
        };
        assert_eq!(changed(0, "Waypost confirmation 2"), Err(ConfirmationError::Text(1)));
        assert_eq!(changed(1, &lines[1].to_lowercase()), Err(ConfirmationError::Text(2)));
        assert_eq!(changed(2, &lines[2].replace("BB", "bb")), Err(ConfirmationError::Text(3)));
        assert_eq!(changed(5, &lines[5].replace("opened", "shut")), Err(ConfirmationError::Text(6)));
        assert_eq!(Statement::parse_text(&text.replace('\n', "\r\n")), Err(ConfirmationError::Text(1)));
        assert_eq!(Statement::parse_text(&format!("{text} ")), Err(ConfirmationError::Text(9)));
        let long = text.clone() + &format!("{} opened\n", "04".repeat(32)).repeat(300);
        assert_eq!(Statement::parse_text(&long), Err(ConfirmationError::Count(257)));
    }

    #[test]
    fn the_wire_form_comes_back_with_the_same_text_and_id() {
        let confirmation =
            Confirmation::new(statement(&[1, 2, 3]).unwrap(), Bytes::from_static(b"sig")).unwrap();
        let back = Confirmation::decode(&confirmation.encode()).unwrap();
        assert_eq!(back, confirmation);
        assert_eq!(back.statement.text(), confirmation.statement.text());
        assert_eq!(back.id(), confirmation.to_document().unwrap().id());
    }

    #[test]
    fn wrong_confirmations_are_refused_with_the_reason() {
        assert_eq!(statement(&[]), Err(ConfirmationError::Count(0)));
        assert_eq!(statement(&[1, 1]), Err(ConfirmationError::Order));
        let good =
            Confirmation::new(statement(&[1, 2]).unwrap(), Bytes::from_static(b"s")).unwrap().to_wire();
        let broken = |change: fn(&mut mvds::Confirmation)| {
            let mut wire = good.clone();
            change(&mut wire);
            Confirmation::from_wire(&wire).unwrap_err()
        };
        assert_eq!(
            broken(|w| w.verdicts = Bytes::from_static(&[1])),
            ConfirmationError::Uneven { ids: 64, verdicts: 1 }
        );
        assert_eq!(broken(|w| w.verdicts = Bytes::from_static(&[1, 99])), ConfirmationError::Verdict(99));
        assert_eq!(broken(|w| w.signature = Bytes::new()), ConfirmationError::Signature(0));
        assert_eq!(broken(|w| w.time = 1 << 40), ConfirmationError::Time(1 << 40));
        let mut wire = good;
        (wire.verdicts, wire.ids) = (vec![1; 257].into(), vec![0; 257 * 32].into());
        assert_eq!(Confirmation::from_wire(&wire), Err(ConfirmationError::Count(257)));
    }

    #[test]
    fn verdicts_only_move_on_from_held() {
        let rejected = Verdict::Rejected(Rejection::CannotOpen);
        assert!(Verdict::Held.may_become(Verdict::Opened) && Verdict::Held.may_become(rejected));
        assert!(!Verdict::Opened.may_become(rejected) && !rejected.may_become(Verdict::Opened));
        assert!(!Verdict::Opened.may_become(Verdict::Held));
    }
}
