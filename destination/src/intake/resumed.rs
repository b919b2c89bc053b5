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
    /// [`Intake::put`]. An error is the stream's, or says that it has more than the upload's length: what came before is
    /// kept and flushed.
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
                        false => Ok(self.put_stored(client, id, &partial)),
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
        // Who stopped before the end, be it for want of room, says why; what follows there is no excess.
        let excess = if offset < length { Ok(0) } else { source.read(&mut [0]) };
        let outcome = match is_kept {
            true => match partial.finish() {
                Err(error) if outcome.is_err() => Ok(Err(file_failed(&error, id))),
                _ => outcome,
            },
            false => {
                if let Err(error) = partial.remove() {
                    log::warn!(document:% = id; "what is left of an upload is swept away later: {error}");
                }
                outcome
            }
        };
        if excess? > 0 {
            return Err(io::Error::other(format!("there is more than the {length} bytes of the upload")));
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

    /// Takes what is here for the whole document.
    fn put_stored(&self, client: i64, id: MessageId, partial: &Partial) -> Result<Vec<Confirmation>, Failed> {
        let put = partial.reader().and_then(|mut whole| self.put(client, id, &mut whole, partial.length()));
        match put {
            Ok(outcome) => outcome,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                log::error!(document:% = id; "an unfinished upload is lost: {error}");
                Err(Failed::new(Some(id), FailureCode::Malformed, "the server has lost a part of it"))
            }
            Err(error) => Err(file_failed(&error, id)),
        }
    }
}
