//! What the handshake asks for: pairing codes that the store remembers, and what is told to whom.

use waypost_protocol::ids::{CodeId, PeerKey};
use waypost_protocol::invite::CodeSecret;
use waypost_protocol::session::{Codes, Identity, Pattern};
use waypost_protocol::sync::{Engine, PeerHello};
use waypost_protocol::time::Monotonic;
use waypost_store::Store;

use crate::host::Host;
use crate::node::Tokens;

/// Looks codes up in the store, and asks the host who is known.
pub(crate) struct Lookups<'a> {
    pub(crate) store: &'a Store,
    pub(crate) hello: &'a PeerHello,
    pub(crate) identity: &'a Identity,
    pub(crate) host: &'a dyn Host,
    /// Others may be before whoever comes over this link.
    pub(crate) is_crowded: bool,
    /// Tokens of sessions that go on.
    pub(crate) tokens: &'a Tokens,
    pub(crate) now: Monotonic,
}

impl Codes for Lookups<'_> {
    fn secret(&self, id: &CodeId) -> Option<CodeSecret> {
        if let Some(token) = self.tokens.secret(id, self.now) {
            return Some(token);
        }
        match self.store.code(id) {
            Ok(code) => code.map(|code| code.secret),
            Err(error) => {
                log::error!(error:%; "cannot look up a pairing code");
                None
            }
        }
    }

    fn hello(&self, peer: &PeerKey, pattern: Pattern) -> Option<Vec<u8>> {
        let pattern = match pattern {
            Pattern::Code(id) if self.tokens.secret(&id, self.now).is_some() => Pattern::Known,
            other => other,
        };
        let is_known = self.host.knows(peer, pattern);
        is_known.then(|| Engine::encode_hello(&told_to_known(self.hello, self.identity)))
    }

    fn answers_strangers(&self) -> bool {
        self.host.answers_strangers()
    }

    fn keeps_hello(&self) -> bool {
        self.is_crowded
    }
}

/// The hello for peers that are known: they may recognise this node's advertisements.
pub(crate) fn told_to_known(hello: &PeerHello, identity: &Identity) -> PeerHello {
    PeerHello { advertising_key: Some(identity.advertising_key()), ..hello.clone() }
}
