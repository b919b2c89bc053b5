//! The body of an upload: documents in canonical encoding, streamed from their readers.

use std::io::{self, Read};
use std::sync::Arc;

use waypost_protocol::api::LISTED_BIT;
use waypost_protocol::document::{Description, prefix};
use waypost_protocol::ids::MessageId;

use crate::error::plain;
use crate::wire::Line;

/// A document that is uploaded.
#[derive(Debug, Clone)]
pub struct Upload<R> {
    /// Which.
    pub description: Description,
    /// Gives its envelope.
    pub body: R,
    /// Whether a remote log of this gateway lists it: then the destination keeps it as content too, where it has room.
    pub is_listed: bool,
}

impl<R> Upload<R> {
    /// That no log lists.
    pub fn new(description: Description, body: R) -> Self {
        Upload { description, body, is_listed: false }
    }
}

/// Bytes that a document takes in a batch: its length as four bytes, what comes before the body, the body.
/// `None` where it is too large for a batch.
pub(crate) fn framed_len(description: &Description) -> Option<u64> {
    let encoded = encoded_len(description);
    (encoded < u64::from(LISTED_BIT)).then_some(encoded + 4)
}

/// Bytes of a document in canonical encoding.
pub(crate) fn encoded_len(description: &Description) -> u64 {
    description.size.saturating_add(prefix(description).len() as u64)
}

/// Reads out a request's body.
pub(crate) struct Outgoing<'a, R> {
    parts: std::vec::IntoIter<Upload<R>>,
    framed: bool,
    /// What of the current document's head is still to be sent.
    head: io::Cursor<Vec<u8>>,
    current: Option<Current<R>>,
    total: u64,
    sent: u64,
    /// Where the body begins and may end, where that is not at the document's two ends.
    part: Option<Part<'a>>,
    progress: &'a mut dyn FnMut(u64, u64),
    line: Arc<Line>,
    trouble: Option<(MessageId, String)>,
}

/// A part of a document, from an offset on.
pub(crate) struct Part<'a> {
    /// In the canonical encoding.
    pub(crate) offset: u64,
    /// Asked, with the bytes sent so far, whether the request ends here.
    pub(crate) ends: &'a dyn Fn(u64) -> bool,
}

struct Current<R> {
    id: MessageId,
    reader: R,
    left: u64,
}

impl<'a, R: Read> Outgoing<'a, R> {
    /// `framed`: each document after its length, as in a batch.
    pub(crate) fn new(
        parts: Vec<Upload<R>>,
        framed: bool,
        total: u64,
        progress: &'a mut dyn FnMut(u64, u64),
        line: Arc<Line>,
    ) -> Self {
        Outgoing {
            parts: parts.into_iter(),
            framed,
            head: io::Cursor::default(),
            current: None,
            total,
            sent: 0,
            part: None,
            progress,
            line,
            trouble: None,
        }
    }

    /// One document from an offset on; `body` gives its envelope from there on.
    pub(crate) fn part(
        upload: Upload<R>,
        part: Part<'a>,
        progress: &'a mut dyn FnMut(u64, u64),
        line: Arc<Line>,
    ) -> Self {
        let Upload { description, body, .. } = upload;
        let mut outgoing = Self::new(Vec::new(), false, encoded_len(&description), progress, line);
        let mut head = io::Cursor::new(prefix(&description));
        let in_body = part.offset.saturating_sub(head.get_ref().len() as u64);
        head.set_position(part.offset - in_body);
        outgoing.head = head;
        let left = description.size.saturating_sub(in_body);
        outgoing.current = Some(Current { id: description.id, reader: body, left });
        outgoing.part = Some(part);
        outgoing
    }

    /// Bytes of the whole body.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Bytes handed to the connection.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// The document whose reader failed, and why.
    pub(crate) fn trouble(&self) -> Option<&(MessageId, String)> {
        self.trouble.as_ref()
    }

    /// Some bytes, none at the end.
    fn step(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let amount = self.head.read(buffer)?;
            if amount > 0 {
                return Ok(amount);
            }
            if let Some(current) = self.current.as_mut().filter(|current| current.left > 0) {
                let most = usize::try_from(current.left).unwrap_or(usize::MAX).min(buffer.len());
                let room = buffer.get_mut(..most).unwrap_or_default();
                let problem = match current.reader.read(room) {
                    Ok(0) => format!("{} bytes are missing at its end", current.left),
                    Ok(amount) => {
                        current.left -= amount as u64;
                        return Ok(amount);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => plain(&error.to_string()),
                };
                self.trouble = Some((current.id, problem));
                return Err(io::Error::other("the document being sent cannot be read"));
            }
            let Some(Upload { description, body: reader, is_listed }) = self.parts.next() else {
                return Ok(0);
            };
            let mut head = Vec::new();
            if self.framed {
                let length = u32::try_from(encoded_len(&description)).ok();
                let length = length
                    .filter(|length| length & LISTED_BIT == 0)
                    .ok_or_else(|| io::Error::other("a document is too large for a batch"))?;
                let bit = if is_listed { LISTED_BIT } else { 0 };
                head.extend((length | bit).to_be_bytes());
            }
            head.extend(prefix(&description));
            self.head = io::Cursor::new(head);
            self.current = Some(Current { id: description.id, reader, left: description.size });
        }
    }
}

impl<R: Read> Read for Outgoing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.line.is_stopped() {
            return Err(io::Error::other("stopped"));
        }
        if let Some(part) = &self.part
            && (self.line.is_deaf() || (self.sent > 0 && (part.ends)(self.sent)))
        {
            return Ok(0);
        }
        if self.line.is_deaf() {
            // Nothing of this is sent any more; HTTP only must have its full count before the answer can be read.
            let rest = usize::try_from(self.total - self.sent).unwrap_or(usize::MAX).min(buffer.len());
            buffer.get_mut(..rest).unwrap_or_default().fill(0);
            self.sent += rest as u64;
            return Ok(rest);
        }
        // Full buffers make full TLS records, also of small documents.
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.step(rest)? {
                0 => break,
                amount => filled += amount,
            }
        }
        self.sent += filled as u64;
        (self.progress)(self.part.as_ref().map_or(0, |part| part.offset) + self.sent, self.total);
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use waypost_protocol::document::Document;
    use waypost_protocol::ids::GroupId;
    use waypost_protocol::time::UnixTime;

    /// Gives one byte at a time, as a reader may.
    struct Dribble(io::Cursor<Bytes>);

    impl Read for Dribble {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(&mut buffer[..1])
        }
    }

    fn documents() -> Vec<Document> {
        [&b""[..], b"x", b"a longer body"]
            .map(|body| Document::new(GroupId([1; 32]), UnixTime(3_600), Bytes::from_static(body)).unwrap())
            .into()
    }

    fn read_out(framed: bool, documents: &[Document]) -> Vec<u8> {
        let parts = documents
            .iter()
            .map(|document| {
                Upload::new(document.description(), Dribble(io::Cursor::new(document.body().clone())))
            })
            .collect();
        let mut last = 0;
        let mut progress = |sent, _| last = sent;
        let total = documents.iter().map(|d| framed_len(&d.description()).unwrap()).sum::<u64>();
        let mut out = Vec::new();
        Outgoing::new(parts, framed, total, &mut progress, Arc::default()).read_to_end(&mut out).unwrap();
        assert_eq!(last, out.len() as u64);
        out
    }

    #[test]
    fn a_batch_is_documents_in_canonical_encoding_after_their_lengths() {
        let documents = documents();
        let mut expected = Vec::new();
        for document in &documents {
            let encoded = document.encode();
            expected.extend(u32::try_from(encoded.len()).unwrap().to_be_bytes());
            expected.extend(encoded);
        }
        assert_eq!(read_out(true, &documents), expected);
    }

    #[test]
    fn in_a_batch_a_document_that_a_log_lists_says_so_in_its_length() {
        let parts = documents().into_iter().map(|document| Upload {
            description: document.description(),
            body: io::Cursor::new(document.body().clone()),
            is_listed: document.body().len() == 1,
        });
        let mut out = Vec::new();
        let mut progress = |_, _| ();
        Outgoing::new(parts.collect(), true, 1_000, &mut progress, Arc::default())
            .read_to_end(&mut out)
            .unwrap();
        let mut expected = read_out(true, &documents());
        expected[4 + documents()[0].encode().len()] |= 0x80;
        assert_eq!(out, expected);
    }

    #[test]
    fn a_single_document_is_sent_as_it_is() {
        for document in documents() {
            assert_eq!(read_out(false, std::slice::from_ref(&document)), document.encode());
        }
    }

    #[test]
    fn a_part_begins_at_any_byte_and_ends_where_it_is_asked_to() {
        let document = documents().remove(2);
        let encoded = document.encode();
        let start = encoded.len() - document.body().len();
        for offset in 0..=encoded.len() {
            let body = &document.body()[offset.saturating_sub(start)..];
            let mut last = 0;
            let mut progress = |sent, total| {
                assert_eq!(total, encoded.len() as u64);
                last = sent;
            };
            let part = Part { offset: offset as u64, ends: &|_| false };
            let reader = Dribble(io::Cursor::new(Bytes::copy_from_slice(body)));
            let mut out = Vec::new();
            let description = document.description();
            Outgoing::part(Upload::new(description, reader), part, &mut progress, Arc::default())
                .read_to_end(&mut out)
                .unwrap();
            assert_eq!(out, encoded[offset..], "from {offset}");
            assert_eq!(last, encoded.len() as u64);
        }
        let part = Part { offset: 0, ends: &|sent| sent >= 10 };
        let mut progress = |_, _| ();
        let body = &document.body()[..];
        let description = document.description();
        let upload = Upload::new(description, body);
        let mut outgoing = Outgoing::part(upload, part, &mut progress, Arc::default());
        let mut buffer = [0; 4];
        let mut out: Vec<u8> = Vec::new();
        while let Some(count) = Some(outgoing.read(&mut buffer).unwrap()).filter(|count| *count > 0) {
            out.extend(&buffer[..count]);
        }
        assert_eq!(out, encoded[..12]);
    }

    #[test]
    fn a_reader_that_ends_early_is_named() {
        let document = documents().remove(2);
        let parts = vec![Upload::new(document.description(), &b"short"[..])];
        let mut progress = |_, _| ();
        let mut outgoing = Outgoing::new(parts, false, 1_000, &mut progress, Arc::default());
        assert!(outgoing.read_to_end(&mut Vec::new()).is_err());
        let (id, why) = outgoing.trouble().unwrap();
        assert_eq!(*id, document.id());
        assert_eq!(why, "8 bytes are missing at its end");
    }
}
