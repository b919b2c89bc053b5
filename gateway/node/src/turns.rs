//! Fair turns on a radio that carries few links at once: who is served, who waits and for how long, whose turn is over.
//!
//! Nobody is interrupted while nobody waits. Turns end when the next one is there to take over, so that no slot is idle
//! between two of them: whoever waits is told when to come again, and is kept its place meanwhile. Call order:
//! [`Turns::moved`] for every link that is served, then [`Turns::admit`] for the one that comes; [`Turns::left`] when a
//! link is gone. Time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use waypost_protocol::ids::PeerKey;
use waypost_protocol::refusal::InLine;
use waypost_protocol::time::Monotonic;

use crate::node::ConversationId;

/// Places for peers that are known. A kiosk that has more of them waiting at once needs another radio.
const KNOWN_PLACES: usize = 64;
/// Places for all others: keys cost nothing to make.
const STRANGERS_PLACES: usize = 16;
/// What it takes until the next peer is connected.
const CHANGE: Duration = Duration::from_secs(2);
/// A place is kept for so long after the time at which its peer was to come.
const KEPT: Duration = Duration::from_secs(60);

/// How long a turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnLength {
    /// A turn may last so long while others wait, and half as long again for a peer that has moved little in it.
    pub time: Duration,
    /// What is not little, in bytes both ways. What a peer was short of it is added for its next turn, once.
    pub bytes: u64,
    /// A slot is kept for so long for those whose place it is, and a peer that moves nothing for so long has left.
    /// Whoever is next is told to come again within it.
    pub hold: Duration,
}

impl Default for TurnLength {
    /// 20 s, of which connecting anew costs two; what a radio that seven share moves in that time; 10 s.
    fn default() -> Self {
        TurnLength { time: Duration::from_secs(20), bytes: 512 * 1024, hold: Duration::from_secs(10) }
    }
}

/// What becomes of a peer that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is served.
    Serve,
    /// It is served, and goes on with the turn that it has on another link: the newer one counts, the other is dead.
    GoesOn {
        /// The other link, which is to be closed.
        dead: ConversationId,
    },
    /// It is served in place of a peer whose turn is over.
    Replaces {
        /// The link of that peer, which is to be ended.
        over: ConversationId,
        /// What that peer is to be told.
        line: InLine,
    },
    /// It has to wait, and is to be told this.
    Wait(InLine),
}

/// The slots of one radio, and who waits for them.
#[derive(Debug)]
pub struct Turns {
    slots: usize,
    length: TurnLength,
    serving: Vec<Serving>,
    /// Since when each free slot is free.
    free: Vec<Monotonic>,
    known: VecDeque<Waiting>,
    strangers: VecDeque<Waiting>,
    /// How long turns have taken of late, which most peers end themselves.
    usual: Duration,
}

/// One turn of one peer.
#[derive(Debug, Clone, Copy)]
struct Turn {
    began: Monotonic,
    /// Moved in this turn.
    bytes: u64,
    /// What it may move before its turn is over.
    due: u64,
}

#[derive(Debug)]
struct Serving {
    link: ConversationId,
    peer: PeerKey,
    is_known: bool,
    turn: Turn,
    /// Bytes of the link that were moved in an earlier part of the turn.
    before: u64,
    active: Monotonic,
    /// It has nothing left to do.
    is_done: bool,
}

#[derive(Debug)]
struct Waiting {
    peer: PeerKey,
    expires: Monotonic,
    /// Its link broke within this turn, which is its own still.
    broken: Option<Turn>,
    /// Bytes that it was short of in its last turn.
    short: u64,
}

impl Turns {
    /// All slots are free.
    pub fn new(slots: usize, length: TurnLength) -> Self {
        Turns {
            slots,
            length,
            serving: Vec::new(),
            free: vec![Monotonic::default(); slots],
            known: VecDeque::new(),
            strangers: VecDeque::new(),
            usual: length.hold,
        }
    }

    /// Other limits from now on. Nobody is interrupted for fewer slots.
    pub fn set(&mut self, slots: usize, length: TurnLength, now: Monotonic) {
        (self.slots, self.length) = (slots, length);
        self.free.resize(slots.saturating_sub(self.serving.len()), now);
    }

    /// How many are served.
    pub fn serving(&self) -> usize {
        self.serving.len()
    }

    /// How many may come now of whom none has to wait.
    pub fn room(&self) -> usize {
        self.free.len().saturating_sub(self.waiting())
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.known.len() + self.strangers.len()
    }

    /// How many wait and may still come in time.
    pub fn in_line(&self, now: Monotonic) -> usize {
        self.known.iter().chain(&self.strangers).filter(|one| one.expires > now).count()
    }

    /// A link that is served has moved so many bytes since it began, the last of them at `active`; `is_done` where both
    /// sides have nothing left to do.
    pub fn moved(&mut self, link: ConversationId, bytes: u64, active: Monotonic, is_done: bool) {
        if let Some(one) = self.serving.iter_mut().find(|one| one.link == link) {
            one.turn.bytes = one.before.saturating_add(bytes);
            (one.active, one.is_done) = (active, is_done);
        }
    }

    /// A peer has come over a link. `is_known`: it comes before those that are not.
    pub fn admit(
        &mut self,
        link: ConversationId,
        peer: PeerKey,
        is_known: bool,
        now: Monotonic,
    ) -> Admission {
        self.forget(now);
        if let Some(goes_on) = self.go_on(link, peer, is_known, now) {
            return goes_on;
        }
        let (at, waiting) = self.take_place(&peer, is_known, now);
        if !self.may_begin(at, is_known, now) {
            return Admission::Wait(self.line_up(at, is_known, waiting, now));
        }
        let turn = waiting.broken.unwrap_or(Turn {
            began: now,
            bytes: 0,
            due: self.length.bytes.saturating_add(waiting.short),
        });
        let serving = Serving { link, peer, is_known, turn, before: turn.bytes, active: now, is_done: false };
        if let Some(oldest) = (0..self.free.len()).min_by_key(|&at| self.free[at]) {
            self.free.swap_remove(oldest);
            self.serving.push(serving);
            return Admission::Serve;
        }
        let Some(over) = self.longest_over(is_known, now) else {
            self.serving.push(serving);
            return Admission::Serve;
        };
        let ended = std::mem::replace(&mut self.serving[over], serving);
        let line = self.send_to_the_end(&ended, now);
        Admission::Replaces { over: ended.link, line }
    }

    /// A peer that is served goes on over another link.
    fn go_on(
        &mut self,
        link: ConversationId,
        peer: PeerKey,
        is_known: bool,
        now: Monotonic,
    ) -> Option<Admission> {
        let one = self.serving.iter_mut().find(|one| one.peer == peer)?;
        let dead = std::mem::replace(&mut one.link, link);
        (one.before, one.active, one.is_known, one.is_done) = (one.turn.bytes, now, is_known, false);
        Some(Admission::GoesOn { dead })
    }

    /// A link that this side opened: it is served without asking, and takes a slot as any other.
    pub fn take(&mut self, link: ConversationId, peer: PeerKey, now: Monotonic) -> Admission {
        if let Some(goes_on) = self.go_on(link, peer, true, now) {
            return goes_on;
        }
        self.free.pop();
        self.will_not_come(&peer);
        let turn = Turn { began: now, bytes: 0, due: self.length.bytes };
        let serving = Serving { link, peer, is_known: true, turn, before: 0, active: now, is_done: false };
        self.serving.push(serving);
        Admission::Serve
    }

    /// A peer that waits is served elsewhere: nothing is kept for it.
    pub fn will_not_come(&mut self, peer: &PeerKey) {
        for is_known in [true, false] {
            self.queue_mut(is_known).retain(|one| one.peer != *peer);
        }
    }

    /// A link is gone. `broke`: neither side has ended it, so that the peer will be back for the rest of its turn.
    pub fn left(&mut self, link: ConversationId, broke: bool, now: Monotonic) {
        let Some(at) = self.serving.iter().position(|one| one.link == link) else { return };
        let one = self.serving.swap_remove(at);
        if self.serving.len() < self.slots {
            self.free.push(now);
        }
        self.usual = (self.usual * 3 + now.since(one.turn.began).min(self.length.time)) / 4;
        self.forget(now);
        let is_over = one.over_since(self.length, self.slice(&one, one.is_known)) <= now;
        if broke && !is_over && self.waiting() > 0 {
            let expires = now + self.length.hold + KEPT;
            let waiting = Waiting { peer: one.peer, expires, broken: Some(one.turn), short: 0 };
            self.queue_mut(one.is_known).push_front(waiting);
        }
    }

    /// The place of a peer in the whole line, and its entry, taken out of it: the one that it has, or a new one at the
    /// end.
    fn take_place(&mut self, peer: &PeerKey, is_known: bool, now: Monotonic) -> (usize, Waiting) {
        // What it had as a stranger is worth nothing to one that is known by now.
        self.queue_mut(!is_known).retain(|one| one.peer != *peer);
        let before = self.before(is_known);
        let length = self.length;
        let queue = self.queue_mut(is_known);
        if let Some(at) = queue.iter().position(|one| one.peer == *peer)
            && let Some(mut waiting) = queue.remove(at)
        {
            let is_over = waiting.broken.is_some_and(|turn| turn.end(length, length.time) <= now);
            if !is_over {
                return (before + at, waiting);
            }
            // It was away for longer than its turn.
            waiting.broken = None;
            return (before + queue.len(), waiting);
        }
        (before + queue.len(), Waiting { peer: *peer, expires: now, broken: None, short: 0 })
    }

    /// Puts a peer at this place of the line, and says what it is to be told. Where there are as many already as may
    /// wait, it has no place, and may try again.
    fn line_up(&mut self, at: usize, is_known: bool, mut waiting: Waiting, now: Monotonic) -> InLine {
        let again = self.again(at, is_known, now);
        let (before, most) = (self.before(is_known), if is_known { KNOWN_PLACES } else { STRANGERS_PLACES });
        let queue = self.queue_mut(is_known);
        if queue.len() >= most {
            return InLine { place: 0, again };
        }
        waiting.expires = now + Duration::from_secs(again.into()) + KEPT;
        queue.insert(at.saturating_sub(before).min(queue.len()), waiting);
        InLine { place: number(at + 1), again }
    }

    /// One whose turn is over goes to the end of the line.
    fn send_to_the_end(&mut self, ended: &Serving, now: Monotonic) -> InLine {
        if ended.is_done {
            // It may be back for confirmations, which nobody has to wait for.
            return InLine { place: 0, again: seconds(self.length.time) };
        }
        let (at, mut waiting) = self.take_place(&ended.peer, ended.is_known, now);
        waiting.short = ended.turn.due.saturating_sub(ended.turn.bytes).min(self.length.bytes);
        self.line_up(at, ended.is_known, waiting, now)
    }

    /// Whether the one at this place of the line may begin now: there is a slot for everyone before it and for itself, or
    /// one that has been kept for those before it for long enough.
    fn may_begin(&self, at: usize, is_known: bool, now: Monotonic) -> bool {
        let available: Vec<Monotonic> = self.available(is_known, now).collect();
        available.len() > at || available.iter().any(|since| *since + self.length.hold <= now)
    }

    /// Since when each slot is there to be taken.
    fn available(&self, is_known: bool, now: Monotonic) -> impl Iterator<Item = Monotonic> {
        let over = self.serving.iter().map(move |one| self.over_since(one, is_known));
        self.free.iter().copied().chain(over).filter(move |since| *since <= now)
    }

    /// Who of those whose turn is over goes first: strangers, then who has had the most beyond it.
    fn longest_over(&self, is_known: bool, now: Monotonic) -> Option<usize> {
        let over = |at: &usize| self.over_since(&self.serving[*at], is_known);
        let all = (0..self.serving.len()).filter(|at| over(at) <= now);
        all.min_by_key(|at| (self.serving[*at].is_known, over(at)))
    }

    fn over_since(&self, one: &Serving, is_known: bool) -> Monotonic {
        one.over_since(self.length, self.slice(one, is_known))
    }

    /// How long a turn is for which others wait. Strangers make room for peers that are known soon; no stranger
    /// interrupts a peer that is known.
    fn slice(&self, one: &Serving, for_known: bool) -> Option<Duration> {
        match (one.is_known, for_known) {
            (true, false) => None,
            (false, true) => Some(self.length.time / 4),
            _ => Some(self.length.time),
        }
    }

    /// Seconds after which the one at this place should come: when a slot is its own if all goes as it does now, but
    /// soon enough to take over what is left early.
    fn again(&self, at: usize, is_known: bool, now: Monotonic) -> u32 {
        let slots = self.slots.max(1);
        let (rounds, place) = (at / slots, at % slots);
        let over = self.serving.iter().map(|one| self.over_since(one, is_known));
        let mut ends: Vec<Monotonic> = self.free.iter().copied().chain(over).collect();
        // A slot that is there already is kept for somebody else.
        let kept = |end: &mut Monotonic| {
            if *end <= now {
                *end = (*end + self.length.hold).max(now);
            }
        };
        ends.iter_mut().for_each(kept);
        ends.sort();
        let end = ends.get(place).copied().unwrap_or(now + self.length.time);
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        let expected = end.since(now).saturating_add(self.length.time.saturating_mul(rounds));
        let round = self.length.hold.min(self.usual + CHANGE);
        let latest = round.saturating_mul(rounds.saturating_add(1));
        seconds(expected.min(latest))
    }

    fn forget(&mut self, now: Monotonic) {
        self.known.retain(|one| one.expires > now);
        self.strangers.retain(|one| one.expires > now);
    }

    /// How many come before all of this kind.
    fn before(&self, is_known: bool) -> usize {
        if is_known { 0 } else { self.known.len() }
    }

    fn queue_mut(&mut self, is_known: bool) -> &mut VecDeque<Waiting> {
        if is_known { &mut self.known } else { &mut self.strangers }
    }
}

impl Turn {
    /// When it ends, moving as much as it has until now.
    fn end(&self, length: TurnLength, slice: Duration) -> Monotonic {
        let is_little = self.bytes < self.due && slice == length.time;
        self.began + if is_little { slice * 3 / 2 } else { slice }
    }
}

impl Serving {
    /// From when on its slot is there for others.
    fn over_since(&self, length: TurnLength, slice: Option<Duration>) -> Monotonic {
        let quiet = match self.is_done {
            true => self.active,
            false => self.active + length.hold,
        };
        slice.map_or(quiet, |slice| self.turn.end(length, slice).min(quiet))
    }
}

fn seconds(span: Duration) -> u32 {
    let whole = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    u32::try_from(whole).unwrap_or(u32::MAX).max(1)
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
