//! A session that goes on over Wi-Fi: who wants to, what is told, and who comes with a token.

use std::collections::BTreeMap;

use rand_core::RngCore;
use waypost_protocol::ids::{CodeId, PeerKey};
use waypost_protocol::invite::CodeSecret;
use waypost_protocol::moving::{TOKEN_VALID, WifiNetwork, WifiOffer};
use waypost_protocol::refusal::Goodbye;
use waypost_protocol::session::Pattern;
use waypost_protocol::sync::Engine;
use waypost_protocol::time::Monotonic;
use zeroize::Zeroizing;

use super::{ConversationId, Node};

/// Tokens that were given out and have not been used.
#[derive(Default)]
pub(crate) struct Tokens(BTreeMap<CodeId, Token>);

/// With this, this peer goes on with this conversation, once.
struct Token {
    secret: CodeSecret,
    peer: PeerKey,
    conversation: ConversationId,
    until: Monotonic,
}

impl Tokens {
    /// The secret of a token that can still be used.
    pub(crate) fn secret(&self, id: &CodeId, now: Monotonic) -> Option<CodeSecret> {
        self.0.get(id).filter(|token| token.until > now).map(|token| token.secret.clone())
    }

    /// Uses a token up. `None`: the pattern has none. The error: it is over, or was somebody else's.
    fn take(
        &mut self,
        pattern: Pattern,
        peer: &PeerKey,
        now: Monotonic,
    ) -> Option<Result<ConversationId, Goodbye>> {
        let Pattern::Code(id) = pattern else { return None };
        let token = self.0.remove(&id)?;
        let is_theirs = token.peer == *peer && token.until > now;
        Some(is_theirs.then_some(token.conversation).ok_or(Goodbye::BadCode))
    }

    fn give(&mut self, token: Token, now: Monotonic) {
        self.0.retain(|_, token| token.until > now);
        self.0.insert(token.secret.id(), token);
    }
}

impl Node {
    /// Conversations that Wi-Fi has become worth for since the last call; each once.
    pub fn worth_moving(&mut self) -> Vec<ConversationId> {
        std::mem::take(&mut self.worth_moving)
    }

    /// Whether Wi-Fi is still worth it for a conversation. Where it is not, [`Node::worth_moving`] may bring it again.
    pub fn is_still_worth_moving(&mut self, id: ConversationId) -> bool {
        let now = self.clock.now();
        self.conversations.get_mut(&id).is_some_and(|one| one.is_still_worth_moving(now))
    }

    /// Notes whether a conversation would be done sooner over Wi-Fi, where both sides can go there.
    pub(super) fn consider_moving(&mut self, id: ConversationId, now: Monotonic) {
        let moves = self.hello.moves && self.hello.is_gateway;
        let Some(conversation) = self.conversations.get_mut(&id).filter(|_| moves) else { return };
        if conversation.has_become_worth_moving(now) {
            self.worth_moving.push(id);
        }
    }

    /// Tells a peer where it can go on. False where it has gone, or is about to.
    pub fn offer_wifi(&mut self, id: ConversationId, network: &WifiNetwork) -> bool {
        let now = self.clock.now();
        let Some(conversation) = self.conversations.get_mut(&id).filter(|one| !one.is_closing()) else {
            return false;
        };
        let Some(peer) = conversation.peer else { return false };
        let mut token = Zeroizing::new([0; 16]);
        self.rng.fill_bytes(token.as_mut_slice());
        let secret = CodeSecret::new(*token);
        let valid = u32::try_from(TOKEN_VALID.as_secs()).unwrap_or(u32::MAX);
        let offer = WifiOffer { network: network.clone(), token: secret.clone(), valid };
        conversation.say(&Zeroizing::new(Engine::encode_wifi(&offer)), now);
        self.tokens.give(Token { secret, peer, conversation: id, until: now + TOKEN_VALID }, now);
        true
    }

    /// Tells a peer that could offer another link how much there is to send, in bytes of bodies.
    pub fn say_waiting(&mut self, id: ConversationId, bytes: u64) {
        let now = self.clock.now();
        if let Some(conversation) = self.conversations.get_mut(&id) {
            conversation.say(&Engine::encode_waiting(bytes), now);
        }
    }

    /// Somebody has proven itself: whether it came with a token, and then as whom it is served, and which conversation it
    /// goes on with.
    pub(super) fn redeem(
        &mut self,
        peer: &PeerKey,
        pattern: Pattern,
        now: Monotonic,
    ) -> Result<(Pattern, Option<ConversationId>), Goodbye> {
        match self.tokens.take(pattern, peer, now) {
            Some(token) => token.map(|before| (Pattern::Known, Some(before))),
            None => Ok((pattern, None)),
        }
    }

    /// The peer has come over another link: what has come over this one is kept, and it ends once all of it is answered.
    pub(super) fn end_moved(&mut self, before: ConversationId, now: Monotonic) {
        if let Some(conversation) = self.conversations.get_mut(&before).filter(|one| !one.is_closing()) {
            conversation.end_turn(Goodbye::Moved, now);
            self.again.insert(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_token_is_good_once_for_one_peer_and_a_minute() {
        let (peer, other, conversation) = (PeerKey([1; 32]), PeerKey([2; 32]), ConversationId(7));
        let at = |seconds| Monotonic(Duration::from_secs(seconds));
        let secret = CodeSecret::new([9; 16]);
        let pattern = Pattern::Code(secret.id());
        let given = || {
            let mut tokens = Tokens::default();
            let token = Token { secret: secret.clone(), peer, conversation, until: at(60) };
            tokens.give(token, at(0));
            tokens
        };
        let mut tokens = given();
        assert!(
            tokens.secret(&secret.id(), at(59)).is_some() && tokens.secret(&secret.id(), at(60)).is_none()
        );
        assert_eq!(tokens.take(Pattern::Known, &peer, at(1)), None);
        assert_eq!(tokens.take(pattern, &peer, at(1)), Some(Ok(conversation)));
        assert_eq!(tokens.take(pattern, &peer, at(1)), None, "used up");
        assert_eq!(given().take(pattern, &other, at(1)), Some(Err(Goodbye::BadCode)));
        assert_eq!(given().take(pattern, &peer, at(60)), Some(Err(Goodbye::BadCode)));
        // Those that are over are forgotten.
        let mut tokens = given();
        let later = CodeSecret::new([8; 16]);
        tokens.give(Token { secret: later, peer, conversation, until: at(160) }, at(100));
        assert_eq!(tokens.0.len(), 1);
    }
}
