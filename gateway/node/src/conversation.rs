//! One link with its session and, once the peer is known, its sync engine.

use std::time::Duration;

use bytes::Bytes;
use waypost_link::{LinkInfo, Medium};
use waypost_protocol::ids::{GroupId, PeerKey};
use waypost_protocol::refusal::Goodbye;
use waypost_protocol::session::{Codes, FRAME_OVERHEAD, Pattern, Received, Session, SessionError};
use waypost_protocol::succession::{self, Link};
use waypost_protocol::sync::{Engine, Event, Holdings, Input, Output, Parameters, PeerHello, Pipe, Report};
use waypost_protocol::time::Monotonic;

use crate::ahead::Ahead;
use crate::host::{ContactSummary, Ending, Grant};
use crate::io::LinkTasks;
use crate::node::ConversationId;

/// Outputs of one conversation that are handled before another's turn comes.
const TURN: usize = 64;
/// A side that said goodbye gives its words so long to arrive.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// So long it may take to make durable what a peer has brought whose turn is over: a slow card takes seconds.
const WIND_UP: Duration = Duration::from_secs(5);
/// What Bluetooth carries until it has been seen, in bytes per second: phones reach 25 to 125 kB/s over L2CAP.
const L2CAP_RATE: u64 = 100_000;
/// The same over GATT.
const GATT_RATE: u64 = 20_000;
/// What such a peer had on its way is taken for so long.
const LAST_BYTES: Duration = Duration::from_secs(5);

pub(crate) struct Conversation {
    pub(crate) id: ConversationId,
    pub(crate) link: LinkInfo,
    tasks: LinkTasks,
    session: Session,
    engine: Option<Engine>,
    pub(crate) peer: Option<PeerKey>,
    /// What the peer sends is to be read here, not to be delivered.
    pub(crate) reads: bool,
    /// Names what it is told of destinations' certificates, if anything.
    pub(crate) told: Option<[u8; 32]>,
    started: Monotonic,
    active: Monotonic,
    engine_deadline: Option<Monotonic>,
    closing: Option<(Ending, Monotonic)>,
    /// The peer's turn is over: what it is told once everything that has come is answered, or at that moment.
    turn_over: Option<(Goodbye, Monotonic)>,
    /// Whether the reader waits for the engine to take more.
    holds_reader: bool,
    finished: Option<(Report, Report)>,
    /// Something went either way since both sides had last finished.
    unsettled: bool,
    /// Whether both sides had finished when the last payload came.
    was_settled: bool,
    bytes_in: u64,
    bytes_out: u64,
    /// Whether the peer can go on over Wi-Fi.
    pub(crate) may_move: bool,
    /// Whether it is somebody in particular: others are told of no network.
    is_known: bool,
    /// What it has to send, where it has said so.
    ahead: Option<Ahead>,
    /// It was found once that Wi-Fi is worth it.
    was_worth_moving: bool,
}

/// How a link ended.
pub(crate) enum Lost {
    /// The other side closed it in order.
    Closed,
    /// This side closed it, having nothing left to do.
    ByUs,
    /// Otherwise, and why.
    Otherwise(String),
}

/// What handling a frame led to.
pub(crate) enum Step {
    Nothing,
    /// The peer has proven itself; somebody must decide whether it is served.
    Proven {
        peer: PeerKey,
        pattern: Pattern,
        first: Bytes,
    },
}

impl Conversation {
    pub(crate) fn new(
        id: ConversationId,
        link: LinkInfo,
        tasks: LinkTasks,
        session: Session,
        now: Monotonic,
    ) -> Self {
        Conversation {
            id,
            link,
            tasks,
            session,
            engine: None,
            peer: None,
            reads: false,
            told: None,
            started: now,
            active: now,
            engine_deadline: None,
            closing: None,
            turn_over: None,
            holds_reader: false,
            finished: None,
            unsettled: false,
            was_settled: false,
            bytes_in: 0,
            bytes_out: 0,
            may_move: false,
            is_known: false,
            ahead: None,
            was_worth_moving: false,
        }
    }

    pub(crate) fn is_established(&self) -> bool {
        self.engine.is_some()
    }

    /// Whether it is established with somebody who is not known.
    pub(crate) fn is_of_a_stranger(&self) -> bool {
        self.is_established() && !self.is_known
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Whether both sides have nothing left to do, and nothing has moved since.
    pub(crate) fn is_settled(&self) -> bool {
        self.finished.is_some() && !self.unsettled
    }

    /// Bytes of frames, both ways.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_in + self.bytes_out
    }

    /// When something moved last.
    pub(crate) fn active(&self) -> Monotonic {
        self.active
    }

    /// Whether neither side has ended it, so that the peer will want to go on.
    pub(crate) fn has_broken(&self, lost: &Lost) -> bool {
        self.closing.is_none() && !self.is_settled() && !matches!(lost, Lost::ByUs)
    }

    pub(crate) fn finished(&self) -> Option<&(Report, Report)> {
        self.finished.as_ref()
    }

    pub(crate) fn frame(
        &mut self,
        frame: &Bytes,
        codes: &dyn Codes,
        now: Monotonic,
        holdings: &dyn Holdings,
    ) -> Result<Step, SessionError> {
        log::trace!(link:% = self.id, bytes = frame.len(); "frame received");
        self.bytes_in += (frame.len() + waypost_link::PREFIX) as u64;
        self.active = now;
        // What a peer had on its way whose turn is over it need not bring again.
        if self.closing.is_some() && self.turn_over.is_none() {
            return Ok(Step::Nothing);
        }
        match self.session.handle_frame(frame, codes)? {
            None => Ok(Step::Nothing),
            Some(Received::Established { peer, pattern, first }) => Ok(Step::Proven { peer, pattern, first }),
            Some(Received::Payload(payload)) => {
                self.was_settled = self.is_settled();
                self.unsettled = true;
                self.input(Input::Frame(payload), now, holdings);
                Ok(Step::Nothing)
            }
        }
    }

    /// The peer, which has proven itself, is served: the conversation proper begins.
    pub(crate) fn begin(
        &mut self,
        first: Bytes,
        grant: Grant,
        tells: Vec<Link>,
        hello: PeerHello,
        now: Monotonic,
        holdings: &dyn Holdings,
    ) {
        let Some(peer) = self.peer else { return };
        if let Err(error) = self.session.say_hello() {
            log::error!(link:% = self.id, error:%; "cannot say hello");
        }
        let target = self.link.useful_frame.saturating_sub(FRAME_OVERHEAD).max(512);
        (self.reads, self.is_known) = (grant.reads, grant.is_known);
        self.told = (!tells.is_empty()).then(|| succession::digest(&tells));
        self.engine = Some(Engine::new(Parameters {
            hello,
            accepts: grant.accepts,
            may_want: grant.may_want,
            tells,
            peer,
            initiator: self.link.outgoing,
            target_payload: target,
            pipe: Pipe::Ordered,
        }));
        if !first.is_empty() {
            self.input(Input::Frame(first), now, holdings);
        }
    }

    /// What the peer is to hear of destinations' certificates now; empty where it has taken just these before.
    pub(crate) fn tell(&mut self, links: Vec<Link>) {
        let told = (!links.is_empty()).then(|| succession::digest(&links));
        if let Some(engine) = &mut self.engine
            && told.is_some()
            && told != self.told
        {
            self.told = told;
            engine.tell(links);
        }
    }

    /// Of the collections that the peer may want, only these are left.
    pub(crate) fn narrow_wants(&mut self, still: &[GroupId]) {
        if let Some(engine) = &mut self.engine {
            engine.narrow_wants(still);
        }
    }

    pub(crate) fn input(&mut self, input: Input, now: Monotonic, holdings: &dyn Holdings) {
        let Some(engine) = &mut self.engine else { return };
        if let Err(error) = engine.handle_input(input, now, holdings) {
            log::warn!(link:% = self.id, error:%; "peer broke the protocol: {error}");
            self.say_goodbye(Goodbye::ProtocolError, now);
        }
    }

    /// The peer has so many bytes to send.
    pub(crate) fn waits(&mut self, bytes: u64, now: Monotonic) {
        self.ahead = Some(Ahead::new(bytes, self.bytes_in, now));
    }

    /// Something of what the peer has to send has come.
    pub(crate) fn heard(&mut self, event: &Event) {
        if let Some(ahead) = &mut self.ahead {
            ahead.heard(event);
        }
    }

    /// Whether Wi-Fi is worth it for what the peer still has to send.
    fn is_worth_moving(&self, now: Monotonic) -> bool {
        let guess = match self.link.medium {
            Medium::BleL2cap => L2CAP_RATE,
            Medium::BleGatt => GATT_RATE,
            Medium::Memory | Medium::Lan | Medium::WifiDirect => return false,
        };
        let may_move = self.may_move && self.is_known && !self.is_settled() && !self.is_closing();
        may_move && self.ahead.as_ref().is_some_and(|ahead| ahead.is_worth_moving(self.bytes_in, guess, now))
    }

    /// Whether it is worth it, where it was not until now.
    pub(crate) fn has_become_worth_moving(&mut self, now: Monotonic) -> bool {
        let is_new = !self.was_worth_moving && self.is_worth_moving(now);
        self.was_worth_moving |= is_new;
        is_new
    }

    /// Whether it still is. Otherwise it may become so again.
    pub(crate) fn is_still_worth_moving(&mut self, now: Monotonic) -> bool {
        self.was_worth_moving = self.is_worth_moving(now);
        self.was_worth_moving
    }

    /// Sends a payload that is not the engine's.
    pub(crate) fn say(&mut self, payload: &[u8], now: Monotonic) {
        if self.closing.is_some() {
            return;
        }
        (self.active, self.unsettled) = (now, true);
        if let Err(error) = self.session.seal(payload, self.link.useful_frame) {
            log::error!(link:% = self.id, error:%; "cannot seal a payload");
        }
        self.send_frames();
    }

    /// Lets the engine put out what it has, as far as its turn and the link's room go. True where there may be more.
    pub(crate) fn drain(
        &mut self,
        now: Monotonic,
        holdings: &dyn Holdings,
        mut each: impl FnMut(&mut Self, Output),
    ) -> bool {
        self.send_frames();
        for _ in 0..TURN {
            self.end_if_answered(now);
            let room = self.closing.is_none() && self.tasks.room() > 0;
            let Some(engine) = &mut self.engine else { return false };
            match engine.poll_output(now, room, holdings) {
                Output::Timeout(deadline) => {
                    self.engine_deadline = deadline;
                    // Outputs that waited may have been what the engine had too many of.
                    self.resume_reader();
                    return false;
                }
                Output::Transmit(payload) => {
                    (self.active, self.unsettled) = (now, true);
                    if let Err(error) = self.session.seal(&payload, self.link.useful_frame) {
                        log::error!(link:% = self.id, error:%; "cannot seal a payload");
                        self.close(Ending::Failed(error.to_string()), now);
                        return false;
                    }
                    self.send_frames();
                }
                Output::Event(Event::Finished { ours, theirs }) => {
                    (self.finished, self.unsettled) = (Some((ours.clone(), theirs.clone())), false);
                    each(self, Output::Event(Event::Finished { ours, theirs }));
                }
                output => each(self, output),
            }
        }
        true
    }

    /// Frames go to the writer as far as it has room; the rest waits in the session. After the last words nothing follows.
    fn send_frames(&mut self) {
        while self.tasks.room() > 0 {
            let Some(frame) = self.session.poll_frame() else {
                if self.closing.is_some() {
                    self.tasks.close();
                }
                return;
            };
            log::trace!(link:% = self.id, bytes = frame.len(); "frame sent");
            self.bytes_out += (frame.len() + waypost_link::PREFIX) as u64;
            self.tasks.send(frame);
        }
    }

    /// The reader may go on, unless too much waits to become durable, or the peer is about to be told that its turn is
    /// over.
    pub(crate) fn release_reader(&mut self) {
        let ends = self.turn_over.is_some() && self.closing.is_none();
        self.holds_reader = ends || self.engine.as_ref().is_some_and(|engine| !engine.wants_input());
        if !self.holds_reader {
            self.tasks.go_on();
        }
    }

    /// The engine may take more again: the reader goes on if it waited for that.
    pub(crate) fn resume_reader(&mut self) {
        if self.holds_reader {
            self.release_reader();
        }
    }

    /// The peer's turn is over: it is told so when everything that it has brought so far is durable and answered.
    pub(crate) fn end_turn(&mut self, reason: Goodbye, now: Monotonic) {
        if let Some(engine) = &mut self.engine {
            engine.wind_up();
        }
        match reason {
            // It has somewhere to go on, whatever else it was about to be told.
            Goodbye::Moved => self.turn_over = Some((reason, now + WIND_UP)),
            _ => {
                self.turn_over.get_or_insert((reason, now + WIND_UP));
            }
        }
    }

    fn end_if_answered(&mut self, now: Monotonic) {
        let Some((reason, until)) = self.turn_over.filter(|_| self.closing.is_none()) else { return };
        let has_answered = self.engine.as_ref().is_none_or(Engine::has_answered) && self.tasks.room() > 0;
        if has_answered || until <= now {
            self.say_goodbye(reason, now);
            if let Some((_, until)) = &mut self.closing {
                *until = now + LAST_BYTES;
            }
            self.release_reader();
        }
    }

    /// Whether making durable what the peer has brought takes too long.
    pub(crate) fn must_end(&self, now: Monotonic) -> bool {
        self.closing.is_none() && self.turn_over.is_some_and(|(_, until)| until <= now)
    }

    /// Nothing that the peer has on its way is heard any more, also where it was to bring the rest of its turn.
    pub(crate) fn shut_out(&mut self, reason: Goodbye, now: Monotonic) {
        self.turn_over = None;
        if !self.is_closing() {
            self.say_goodbye(reason, now);
        }
    }

    /// Tells the peer why, then closes.
    pub(crate) fn say_goodbye(&mut self, reason: Goodbye, now: Monotonic) {
        if self.session.is_established() {
            // A session that cannot seal has nobody to say it to.
            let _ = self.session.seal(&Engine::encode_goodbye(reason), self.link.useful_frame);
        }
        self.close(Ending::SaidGoodbye(reason), now);
    }

    /// Closes after what is sealed has been written: half a payload would have to be sent again, and a goodbye behind it
    /// would not be heard.
    pub(crate) fn close(&mut self, ending: Ending, now: Monotonic) {
        self.closing.get_or_insert((ending, now + LAST_WORDS));
        self.send_frames();
    }

    /// When something must happen if nothing else does.
    pub(crate) fn deadline(&self, handshake: Duration, idle: Duration) -> Monotonic {
        if let Some((_, until)) = &self.closing {
            return *until;
        }
        let patience = match self.engine {
            Some(_) => self.active + idle,
            None => self.started + handshake,
        };
        let ends = self.turn_over.map(|(_, until)| until);
        [self.engine_deadline, ends].into_iter().flatten().fold(patience, Monotonic::min)
    }

    pub(crate) fn engine_is_due(&self, now: Monotonic) -> bool {
        self.engine_deadline.is_some_and(|deadline| deadline <= now)
    }

    /// The link is gone.
    pub(crate) fn summary(self, lost: Lost, now: Monotonic) -> ContactSummary {
        // News after both had finished can be lost like any other, unless it was this side that had enough.
        let settled = !self.unsettled || matches!(lost, Lost::ByUs);
        let lost = match lost {
            Lost::Closed if self.peer.is_none() && self.link.outgoing => Ending::HungUp,
            Lost::Closed => Ending::LinkLost("the other side closed it".into()),
            Lost::ByUs => Ending::LinkLost("closed by this side".into()),
            Lost::Otherwise(why) => Ending::LinkLost(why),
        };
        let moved = |(ours, theirs): &(Report, Report)| !(ours.is_nothing_new() && theirs.is_nothing_new());
        let ending = match (self.closing, &self.finished) {
            // Both had finished before: that others wait has ended nothing.
            (Some((Ending::HeardGoodbye(Goodbye::Busy(_)), _)), Some(reports)) if self.was_settled => {
                if moved(reports) { Ending::Finished } else { Ending::NothingNew }
            }
            (Some((ending, _)), _) => ending,
            (None, Some(reports)) if settled && moved(reports) => Ending::Finished,
            (None, Some(_)) if settled => Ending::NothingNew,
            (None, _) => lost,
        };
        let (ours, theirs) = self.finished.unwrap_or_default();
        ContactSummary {
            id: self.id,
            peer: self.peer,
            link: self.link,
            ending,
            ours,
            theirs,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            took: now.since(self.started),
        }
    }
}
