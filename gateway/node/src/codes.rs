//! The pairing codes that the store remembers, as the handshake asks for them.

use waypost_protocol::ids::CodeId;
use waypost_protocol::invite::CodeSecret;
use waypost_protocol::session::Codes;
use waypost_store::Store;

/// Looks codes up in the store.
pub(crate) struct StoredCodes<'a>(pub(crate) &'a Store);

impl Codes for StoredCodes<'_> {
    fn secret(&self, id: &CodeId) -> Option<CodeSecret> {
        match self.0.code(id) {
            Ok(code) => code.map(|code| code.secret),
            Err(error) => {
                log::error!(error:%; "cannot look up a pairing code");
                None
            }
        }
    }
}
