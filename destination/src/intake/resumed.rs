//! One document whose bytes come in several requests.

use std::io::{self, Read as _};

use waypost_protocol::api::FailureCode;
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::ids::MessageId;

use super::listed::is_taken_of;
use super::{Incoming, Intake, file_failed};
use crate::judge::Failed;
use crate::partials::Partial;

/// What came of one request.
#[derive(Debug)]
pub enum Advance {
    /// So many bytes are here; more are to come.
    Offset(u64),
    /// All of it came, and this is the verdict on it.
    Whole(Vec<Confirmation>),
}

impl Intake {
    /// Adds what the source has to an unfinished upload; with its last byte the document is judged as by
    /// [`Intake::put`]. An error is the stream's: what came before it is kept and flushed.
    ///
    /// An upload that comes in one request is judged while it comes; of others the file is read once it is whole, else
    /// each request would open everything before it again. Where that turns out to be another document, something was
    /// lost between the requests: it is thrown away, and sending it anew may help.
    ///
    /// A document that the client's remote log lists is kept as its content too, once it is whole.
    pub fn append(
        &self,
        client: i64,
        id: MessageId,
        mut partial: Partial,
        is_listed: bool,
        source: &mut impl Incoming,
    ) -> io::Result<Result<Advance, Failed>> {
        let (length, begin) = (partial.length(), partial.offset());
        let outcome = match begin {
            0 => self.put(client, id, &mut partial.keeping(source), length),
            offset => {
                let rest = &mut source.take(length - offset);
                io::copy(&mut partial.keeping(rest), &mut io::sink()).and_then(|_| {
                    match partial.offset() < length {
                        true => Err(io::ErrorKind::UnexpectedEof.into()),
                        false => match partial.reader() {
                            Ok(mut whole) => self.put(client, id, &mut whole, length),
                            Err(error) => Ok(Err(file_failed(&error, id))),
                        },
                    }
                })
            }
        };
        // The server's disk is no fault of the stream.
        let outcome = match partial.take_fault() {
            Some(error) => Ok(Err(file_failed(&error, id))),
            None => outcome,
        };
        if is_listed
            && let Ok(Ok(confirmations)) = &outcome
            && is_taken_of(confirmations, &id)
        {
            self.keep_file(client, &partial);
        }
        let is_kept = match &outcome {
            // It may be judged again without being sent again.
            Ok(Err(failed)) => failed.code.is_temporary(),
            Ok(Ok(_)) => false,
            Err(_) => true,
        };
        let offset = partial.offset();
        let tidied = if is_kept { partial.flush() } else { partial.remove() };
        if let Err(error) = tidied {
            // What lasts of it is found out when it goes on; what is left over is swept away.
            log::warn!(document:% = id; "an unfinished upload: {error}");
        }
        match outcome {
            Ok(Err(failed)) if begin > 0 && failed.code == FailureCode::Malformed => {
                let detail = format!("what came in several requests is not the document: {}", failed.detail);
                Ok(Err(Failed::new(Some(id), FailureCode::Server, detail + "; begin it again")))
            }
            Ok(outcome) => Ok(outcome.map(Advance::Whole)),
            // The request ended where its sender wanted it to.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Ok(Advance::Offset(offset))),
            Err(error) => Err(error),
        }
    }
}
