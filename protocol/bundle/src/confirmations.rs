//! Confirmations as files that `gpg --verify` checks: the text, and the detached binary signature beside it.

use std::fs::File;
use std::io::{self, Read as _};

use bytes::Bytes;
use waypost_protocol::confirmation::{Confirmation, MAX_SIGNATURE, Statement};
use waypost_protocol::ids::MessageId;

use crate::fault::Damage;
use crate::shelves::{Kind, Place};
use crate::{Bundle, Written};

/// The longest text that is read, in bytes: 256 documents take less than 32 KiB.
pub const MAX_TEXT: u64 = 64 * 1024;

/// The signature's file.
pub(crate) fn signature_name(id: &MessageId) -> String {
    format!("{}.sig", Kind::Confirmations.name(id))
}

/// A confirmation that is kept in a bundle, **not verified**.
pub struct Kept {
    /// Text and signature that belong together by their id; whether the destination made them is another question.
    pub confirmation: Confirmation,
}

impl Bundle {
    /// Reads a confirmation. Its id covers text and signature, so what is here was not damaged by chance; it is
    /// **not verified**.
    pub fn confirmation(&self, place: &Place) -> Result<Kept, Damage> {
        let text = read(place.shelf.file(place.name.as_ref())?, MAX_TEXT)?;
        let signature = match place.shelf.file(signature_name(&place.id).as_ref()).map_err(Damage::from) {
            Ok(file) => read(file, MAX_SIGNATURE as u64).map_err(|_| Damage::Signature)?,
            Err(_) => return Err(Damage::Signature),
        };
        let text = String::from_utf8_lossy(&text);
        let confirmation = Confirmation::new(Statement::parse_text(&text)?, Bytes::from(signature))?;
        match confirmation.id() {
            id if id == place.id => Ok(Kept { confirmation }),
            other => Err(Damage::Hash(other)),
        }
    }

    /// Writes a confirmation unless it is there and whole. The text comes last, so that where it is, both are.
    pub fn put_confirmation(&self, confirmation: &Confirmation) -> io::Result<Written> {
        let id = confirmation.id();
        let shelf = self.shelf(Kind::Confirmations, &id)?;
        let name = Kind::Confirmations.name(&id);
        let place = Place { kind: Kind::Confirmations, id, name: name.clone(), shelf: shelf.into() };
        let before = match self.confirmation(&place) {
            Ok(_) => return Ok(Written::AlreadyThere),
            Err(Damage::Missing) => Written::New,
            Err(_) => Written::Mended,
        };
        self.place(&place.shelf, &signature_name(&id), confirmation.signature())?;
        self.place(&place.shelf, &name, confirmation.statement.text().as_bytes())?;
        Ok(before)
    }
}

fn read(file: File, most: u64) -> Result<Vec<u8>, Damage> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        found if found > most => Err(Damage::TooLong { found, most }),
        _ => Ok(bytes),
    }
}
