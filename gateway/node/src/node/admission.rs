//! How a link becomes a conversation: who is heard, who is served now, and who waits for its turn.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use waypost_link::{Link, LinkInfo, Medium};
use waypost_protocol::ids::PeerKey;
use waypost_protocol::refusal::Goodbye;
use waypost_protocol::session::{Pattern, Session};
use waypost_protocol::sync::Engine;
use waypost_protocol::time::Monotonic;

use super::{ConversationId, Node};
use crate::conversation::Lost;
use crate::host::Host;
use crate::limits::Limits;
use crate::turns::{Admission, Turns};

/// What is shared by links of one radio.
#[derive(Default)]
pub(super) struct Radios {
    /// Each radio with a limit, by what its links share.
    turns: BTreeMap<(Medium, String), Turns>,
    /// Links that nobody listens to yet, the first first, and since when they are there.
    parked: VecDeque<(ConversationId, Link, Monotonic)>,
}

impl Radios {
    /// The turns of a link's radio, where it is limited.
    fn turns(&mut self, link: &LinkInfo, limits: &Limits) -> Option<&mut Turns> {
        let limits = limits.of(link.medium);
        let (medium, group) = link.shares();
        let fresh = || Turns::new(limits.links, limits.turn);
        limits.is_limited().then(|| self.turns.entry((medium, group.to_owned())).or_insert_with(fresh))
    }

    /// Other limits from now on.
    pub(super) fn set(&mut self, limits: &Limits, now: Monotonic) {
        for ((medium, _), turns) in &mut self.turns {
            let limits = limits.of(*medium);
            turns.set(limits.links, limits.turn, now);
        }
        self.turns.retain(|(medium, _), _| limits.of(*medium).is_limited());
    }

    /// When the first parked link has waited for as long as a handshake may take.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Monotonic> {
        self.parked.front().map(|(_, _, since)| *since + limits.handshake)
    }
}

impl Node {
    /// Takes a link that somebody else opened. Too many strangers at once are turned away unheard.
    pub fn accept(&mut self, link: Link) -> Option<ConversationId> {
        let limits = self.limits;
        let medium = limits.of(link.info.medium);
        // A radio has bounds of its own, and no stranger elsewhere takes its places.
        let strangers = self.conversations.values().filter(|one| !one.is_established());
        let strangers = strangers.filter(|one| !limits.of(one.link.medium).is_limited()).count();
        if !medium.is_limited() && strangers >= limits.half_open {
            log::warn!(address = link.info.address.as_str(), limit = limits.half_open; "too many links without a session; one was turned away");
            return None;
        }
        let from = link.info.host();
        let neighbours = self.conversations.values().filter(|one| one.link.host() == from).count();
        if neighbours >= limits.per_address {
            log::warn!(address = from, limit = limits.per_address; "too many links from one address; one was turned away");
            return None;
        }
        if self.half_open(&link.info) < medium.half_open {
            return Some(self.listen_to(None, link));
        }
        let parked = self.radios.parked.iter().filter(|(_, one, _)| one.info.shares() == link.info.shares());
        if parked.count() >= medium.links {
            log::warn!(address = from, limit = medium.half_open; "too many links of one radio without a session; one was turned away");
            return None;
        }
        let id = self.next_id();
        self.radios.parked.push_back((id, link, self.clock.now()));
        Some(id)
    }

    /// How many peers wait for their turn on some radio.
    pub fn in_line(&self) -> usize {
        let now = self.clock.now();
        self.radios.turns.values().map(|turns| turns.in_line(now)).sum()
    }

    /// Links of the same radio that others opened and on which nobody has authenticated.
    fn half_open(&self, link: &LinkInfo) -> usize {
        let same = self.conversations.values().filter(|one| one.link.shares() == link.shares());
        same.filter(|one| !one.is_established() && !one.link.outgoing).count()
    }

    /// Whether somebody who is about to prove itself over this link may have to wait.
    pub(super) fn is_crowded(&self, id: ConversationId) -> bool {
        let unproven = self.conversations.get(&id).filter(|one| !one.is_established() && !one.link.outgoing);
        let Some(link) = unproven.map(|one| &one.link) else { return false };
        let limits = self.limits.of(link.medium);
        let (medium, group) = link.shares();
        let turns = self.radios.turns.get(&(medium, group.to_owned()));
        limits.is_limited() && self.half_open(link) > turns.map_or(limits.links, Turns::room)
    }

    fn listen_to(&mut self, id: Option<ConversationId>, link: Link) -> ConversationId {
        let hello = Engine::encode_hello(&self.hello);
        let session = Session::respond(&self.identity, hello, &mut self.rng);
        self.add(id, link, session)
    }

    /// Listens to links that had to wait for it, and gives up those that did for too long.
    pub(super) fn unpark(&mut self, now: Monotonic) {
        let handshake = self.limits.handshake;
        self.radios.parked.retain(|(_, _, since)| *since + handshake > now);
        let mut at = 0;
        while let Some((_, link, _)) = self.radios.parked.get(at) {
            if self.half_open(&link.info) >= self.limits.of(link.info.medium).half_open {
                at += 1;
            } else if let Some((id, link, _)) = self.radios.parked.remove(at) {
                self.listen_to(Some(id), link);
            }
        }
    }

    /// The peer has proven itself: it is served, or told why not.
    pub(super) fn proven(
        &mut self,
        id: ConversationId,
        peer: PeerKey,
        pattern: Pattern,
        first: Bytes,
        now: Monotonic,
        host: &mut dyn Host,
    ) {
        let established = self.conversations.values().filter(|one| one.is_established()).count();
        let limits = self.limits;
        let strangers = self.conversations.values().filter(|one| one.is_of_a_stranger());
        let strangers = strangers.filter(|one| !limits.of(one.link.medium).is_limited()).count();
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        conversation.peer = Some(peer);
        let link = conversation.link.clone();
        let redeemed = self.redeem(&peer, pattern, now);
        let before = redeemed.as_ref().ok().and_then(|(_, before)| *before);
        let granted = match established < self.limits.sessions || before.is_some() {
            true => redeemed.and_then(|(pattern, _)| host.admit(&peer, pattern, &link)),
            false => Err(Goodbye::Busy(None)),
        };
        // Half of the sessions is for those that are known: anybody can have any number of keys. On a radio they go first.
        let has_turns = limits.of(link.medium).is_limited();
        let granted = granted.and_then(|grant| {
            match grant.is_known || has_turns || before.is_some() || strangers < (limits.sessions / 2).max(1)
            {
                true => Ok(grant),
                false => Err(Goodbye::Busy(None)),
            }
        });
        // Who would not be served anyway waits for nothing.
        let granted = granted.and_then(|grant| {
            let is_known = grant.is_known;
            self.take_turn(id, peer, is_known, now, host).map(|()| grant)
        });
        match (before, &granted) {
            (Some(before), Ok(_)) => self.end_moved(before, now),
            // It goes on where it is.
            (Some(_), Err(_)) => {
                if let Some(turns) = self.radios.turns(&link, &self.limits) {
                    turns.will_not_come(&peer);
                }
            }
            (None, _) => {}
        }
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        match granted {
            Ok(grant) => {
                let tells = host.tells(&peer);
                conversation.begin(first, grant, tells, self.hello.clone(), now, &self.store);
            }
            Err(reason) => conversation.say_goodbye(reason, now),
        }
    }

    /// Where the link's radio is limited: whether it is this peer's turn. Somebody else's may be over then.
    fn take_turn(
        &mut self,
        id: ConversationId,
        peer: PeerKey,
        is_known: bool,
        now: Monotonic,
        host: &mut dyn Host,
    ) -> Result<(), Goodbye> {
        let Some(link) = self.conversations.get(&id).map(|one| one.link.clone()) else { return Ok(()) };
        let Some(turns) = self.radios.turns(&link, &self.limits) else { return Ok(()) };
        for one in self.conversations.values().filter(|one| one.link.shares() == link.shares()) {
            turns.moved(one.id, one.bytes(), one.active(), one.is_settled());
        }
        let admission = match link.outgoing {
            true => turns.take(id, peer, now),
            false => turns.admit(id, peer, is_known, now),
        };
        match admission {
            Admission::Serve => {}
            Admission::GoesOn { dead } => {
                self.drop_link(
                    dead,
                    Lost::Otherwise("the peer has come over another link".into()),
                    now,
                    host,
                );
            }
            Admission::Replaces { over, line } => {
                if let Some(over) = self.conversations.get_mut(&over) {
                    over.end_turn(Goodbye::Busy(Some(line)), now);
                }
                self.again.insert(over);
            }
            Admission::Wait(line) => return Err(Goodbye::Busy(Some(line))),
        }
        Ok(())
    }

    /// A link is gone: its slot and its handshake are there for others.
    pub(super) fn give_up_turn(&mut self, id: ConversationId, broke: bool, now: Monotonic) {
        for turns in self.radios.turns.values_mut() {
            turns.left(id, broke, now);
        }
        self.unpark(now);
    }
}
