//! A Noise session over one link: frame 0, the handshake, then sealed payloads. It never outlives its link.
//!
//! Call order: make one with [`Session::initiate`] or [`Session::respond`]; give each frame that arrives to
//! [`Session::handle_frame`]; after each call send everything that [`Session::poll_frame`] returns.

mod noise;
mod opening;

use std::collections::VecDeque;

use bytes::Bytes;
use rand_core::RngCore;
use snow::{HandshakeState, TransportState};
use zeroize::Zeroizing;

pub use noise::{Identity, IdentityError};
pub use opening::{
    HIGHEST_VERSION, LOWEST_VERSION, Opening, OpeningError, Pattern, Versions, encode_no_common_version,
    parse_no_common_version,
};

use crate::ids::{CodeId, PeerKey};
use crate::invite::CodeSecret;

/// The longest frame, in bytes, without its length prefix (Noise §3).
pub const MAX_FRAME: usize = 65_535;
/// The longest payload, in bytes: an inline body of 16 KiB, or 256 verdicts, with plenty of room.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// What a frame has beyond the payload bytes in it: the "more" byte and the cipher's tag.
pub const FRAME_OVERHEAD: usize = 1 + 16;
/// The responder's handshake answer is never longer, so that forged addresses gain nothing.
pub const MAX_HANDSHAKE_ANSWER: usize = 1024;
/// Each direction's key changes after so many messages.
const REKEY_AFTER: u64 = 1 << 16;
/// So many messages go in each direction and no more: the cipher's nonce ends at 2^64 - 1 (Noise §5.1), long after.
const MAX_MESSAGES: u64 = 1 << 48;
const LAST: u8 = 0;
const MORE: u8 = 1;

/// How an initiator comes to know a responder.
#[derive(Clone)]
pub enum Introduction {
    /// They have met: the responder's static key.
    Known(PeerKey),
    /// By a pairing code.
    Code(PeerKey, CodeSecret),
    /// Not at all; whoever answers is taken.
    Open,
}

/// Why a session cannot begin or go on. The link is of no more use; nothing stored is touched.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No version is spoken by both. Whoever has the lower range should be updated.
    #[error(
        "no common protocol version: the other side speaks {theirs}, this program {ours}; update the older one"
    )]
    NoCommonVersion {
        /// What the other side said.
        theirs: Versions,
        /// [`Versions::OURS`].
        ours: Versions,
    },
    /// Frame 0 is no opening.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// The handshake failed: not the expected key, not the expected code, or damaged bytes.
    #[error("handshake failed ({0}): the other side has another key or code than expected")]
    Handshake(snow::Error),
    /// The code is not one that the responder gave out, or it is used up.
    #[error("pairing code {0} is unknown or used up")]
    UnknownCode(CodeId),
    /// A frame did not decrypt: damaged, replayed or forged.
    #[error("a frame does not decrypt ({0})")]
    Frame(snow::Error),
    /// Fragments that add up to more than [`MAX_PAYLOAD`].
    #[error("a payload is longer than {MAX_PAYLOAD} bytes")]
    PayloadTooLong,
    /// The first byte of a plaintext is neither "last" nor "more".
    #[error("a frame's first byte is {0}, expected 0 or 1")]
    Fragment(u8),
    /// The responder's answer lacks the version it chose, or names one outside the common range.
    #[error("the other side chose protocol version {0:?}, which was not offered")]
    Version(Option<u8>),
    /// As many messages as one session may have.
    #[error("the session has had {MAX_MESSAGES} messages in one direction; it has to begin anew")]
    Exhausted,
    /// An `XX` initiator knows nothing of us, and we are not to be known.
    #[error("a stranger asks who this is, which nobody has allowed")]
    Stranger,
    /// A payload cannot be sealed before the handshake is over.
    #[error("the handshake is not over")]
    NotEstablished,
}

/// What a frame brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// The other side has proven its key and that it is there now.
    Established {
        /// Its static key.
        peer: PeerKey,
        /// The handshake's pattern.
        pattern: Pattern,
        /// The payload that came within the handshake: its hello. Empty where it comes as the first payload instead.
        first: Bytes,
    },
    /// A payload.
    Payload(Bytes),
}

enum State {
    /// Initiator: `hello` goes out in the last message that it writes, if that has not happened.
    Initiating {
        noise: Box<HandshakeState>,
        pattern: Pattern,
        hello: Vec<u8>,
    },
    /// Responder, before frame 0.
    Listening,
    /// Responder after frame 0.
    Responding {
        noise: Box<HandshakeState>,
        pattern: Pattern,
    },
    /// Responder of `IK`: everything is agreed, but the first message may be a replay.
    Unproven {
        noise: TransportState,
        pattern: Pattern,
        first: Bytes,
    },
    Established(TransportState),
    Failed,
}

/// One session over one link.
pub struct Session {
    state: State,
    identity: Identity,
    hello: Vec<u8>,
    /// The hello waits for [`Session::say_hello`].
    keeps_hello: bool,
    seed: Zeroizing<[u8; 32]>,
    out: VecDeque<Vec<u8>>,
    /// Initiator: what was offered.
    offered: Versions,
    version: u8,
    peer: Option<PeerKey>,
    sent: u64,
    received: u64,
    fragments: Vec<u8>,
}

/// What a responder looks up while a handshake goes on: the codes that it gave out, and what it tells whom.
pub trait Codes {
    /// The secret of a code that is still valid.
    fn secret(&self, id: &CodeId) -> Option<CodeSecret>;

    /// The hello for this peer, where it is another than the one for everybody. The message that names the peer may be a
    /// replay; only the peer itself, with its secret of this handshake and the code's, can read what it is answered.
    fn hello(&self, _peer: &PeerKey, _pattern: Pattern) -> Option<Vec<u8>> {
        None
    }

    /// Whether somebody who knows nothing of this node is answered, which tells this node's static key.
    fn answers_strangers(&self) -> bool {
        true
    }

    /// Whether the hello is kept until [`Session::say_hello`]: whoever has it begins to send, which is for nothing where it
    /// is then told to wait.
    fn keeps_hello(&self) -> bool {
        false
    }
}

/// No codes at all.
impl Codes for () {
    fn secret(&self, _: &CodeId) -> Option<CodeSecret> {
        None
    }
}

impl Session {
    fn new(state: State, identity: &Identity, hello: Vec<u8>, rng: &mut dyn RngCore) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        Session {
            state,
            identity: identity.clone(),
            hello,
            keeps_hello: false,
            seed,
            out: VecDeque::new(),
            offered: Versions::OURS,
            version: HIGHEST_VERSION,
            peer: None,
            sent: 0,
            received: 0,
            fragments: Vec::new(),
        }
    }

    /// Begins a session as its initiator. `hello` is the encoded payload with our hello; `rng` makes the ephemeral key.
    pub fn initiate(
        introduction: &Introduction,
        identity: &Identity,
        hello: Vec<u8>,
        rng: &mut dyn RngCore,
    ) -> Result<Self, SessionError> {
        Self::initiate_as(Versions::OURS, introduction, identity, hello, rng)
    }

    /// [`Session::initiate`] that claims other versions, for tests of the negotiation.
    pub fn initiate_as(
        versions: Versions,
        introduction: &Introduction,
        identity: &Identity,
        hello: Vec<u8>,
        rng: &mut dyn RngCore,
    ) -> Result<Self, SessionError> {
        let (pattern, psk) = match introduction {
            Introduction::Known(_) => (Pattern::Known, None),
            Introduction::Code(_, secret) => (Pattern::Code(secret.id()), Some(secret.psk())),
            Introduction::Open => (Pattern::Open, None),
        };
        let mut session = Self::new(State::Failed, identity, hello, rng);
        session.offered = versions;
        let prologue = Opening { versions, pattern }.encode();
        let mut noise = noise::initiator(
            introduction,
            psk.as_deref(),
            &session.identity,
            &prologue,
            noise::seeded(&session.seed),
        )
        .map_err(SessionError::Handshake)?;
        session.out.push_back(prologue);
        let first = match introduction {
            Introduction::Open => &[][..],
            _ => session.hello.as_slice(),
        };
        session.out.push_back(noise::write(&mut noise, first)?);
        let hello = std::mem::take(&mut session.hello);
        session.state = State::Initiating { noise: Box::new(noise), pattern, hello };
        Ok(session)
    }

    /// Waits for an initiator.
    pub fn respond(identity: &Identity, hello: Vec<u8>, rng: &mut dyn RngCore) -> Self {
        Self::new(State::Listening, identity, hello, rng)
    }

    /// The next frame to send, without length prefix.
    pub fn poll_frame(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// The other side's static key, once the handshake has told it. Before [`Received::Established`] it may be a replay's.
    pub fn peer(&self) -> Option<PeerKey> {
        self.peer
    }

    /// Whether payloads can be sealed.
    pub fn is_established(&self) -> bool {
        matches!(self.state, State::Established(_))
    }

    /// The protocol version that both agreed on.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Takes a frame off the link. `Ok(None)`: nothing for the engine, the handshake or a payload goes on.
    ///
    /// After an error, what [`Session::poll_frame`] returns should still be sent ("no common version"), then the
    /// link closed.
    pub fn handle_frame(
        &mut self,
        frame: &[u8],
        codes: &dyn Codes,
    ) -> Result<Option<Received>, SessionError> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Listening => self.open(frame, codes).map(|()| None),
            State::Initiating { noise, pattern, hello } => {
                self.continue_initiating(*noise, pattern, hello, frame).map(Some)
            }
            State::Responding { noise, pattern } => self.continue_responding(*noise, pattern, frame, codes),
            State::Unproven { noise, pattern, first } => self.prove(noise, pattern, first, frame).map(Some),
            State::Established(noise) => {
                self.state = State::Established(noise);
                self.unseal(frame)
            }
            State::Failed => Err(SessionError::NotEstablished),
        }
    }

    /// Seals a payload into one or more frames of at most `max_frame` bytes, which [`Session::poll_frame`] returns.
    pub fn seal(&mut self, payload: &[u8], max_frame: usize) -> Result<(), SessionError> {
        let State::Established(noise) = &mut self.state else { return Err(SessionError::NotEstablished) };
        if payload.len() > MAX_PAYLOAD {
            return Err(SessionError::PayloadTooLong);
        }
        let useful = max_frame.min(MAX_FRAME).saturating_sub(FRAME_OVERHEAD).max(1);
        let mut rest = payload;
        loop {
            if self.sent >= MAX_MESSAGES {
                return Err(SessionError::Exhausted);
            }
            let (now, later) = rest.split_at(useful.min(rest.len()));
            let mut plain = Vec::with_capacity(1 + now.len());
            plain.push(if later.is_empty() { LAST } else { MORE });
            plain.extend_from_slice(now);
            let mut frame = vec![0; plain.len() + 16];
            let length = noise.write_message(&plain, &mut frame).map_err(SessionError::Frame)?;
            frame.truncate(length);
            self.out.push_back(frame);
            self.sent += 1;
            if self.sent.is_multiple_of(REKEY_AFTER) {
                noise.rekey_outgoing();
            }
            if later.is_empty() {
                return Ok(());
            }
            rest = later;
        }
    }

    /// Responder: frame 0.
    fn open(&mut self, frame: &[u8], codes: &dyn Codes) -> Result<(), SessionError> {
        let (theirs, opening) = Opening::parse(frame)?;
        let Some(version) = Versions::OURS.common(theirs) else {
            self.out.push_back(encode_no_common_version(Versions::OURS));
            return Err(SessionError::NoCommonVersion { theirs, ours: Versions::OURS });
        };
        let opening = opening?;
        self.version = version;
        let psk = match opening.pattern {
            Pattern::Code(id) => Some(codes.secret(&id).ok_or(SessionError::UnknownCode(id))?.psk()),
            Pattern::Open if !codes.answers_strangers() => return Err(SessionError::Stranger),
            Pattern::Known | Pattern::Open => None,
        };
        let noise =
            noise::responder(&opening, psk.as_deref(), &self.identity, frame, noise::seeded(&self.seed))
                .map_err(SessionError::Handshake)?;
        self.state = State::Responding { noise: Box::new(noise), pattern: opening.pattern };
        Ok(())
    }

    /// Initiator: the responder's answer.
    fn continue_initiating(
        &mut self,
        mut noise: HandshakeState,
        pattern: Pattern,
        hello: Vec<u8>,
        frame: &[u8],
    ) -> Result<Received, SessionError> {
        if let Some(theirs) = parse_no_common_version(frame) {
            return Err(SessionError::NoCommonVersion { theirs, ours: Versions::OURS });
        }
        let answer = noise::read(&mut noise, frame)?;
        let version = answer.first().copied();
        self.version = match version {
            Some(version) if self.offered.has(version) => version,
            _ => return Err(SessionError::Version(version)),
        };
        if pattern == Pattern::Open {
            self.out.push_back(noise::write(&mut noise, &hello)?);
        }
        let peer = noise::remote(&noise)?;
        self.peer = Some(peer);
        self.state = State::Established(noise.into_transport_mode().map_err(SessionError::Handshake)?);
        if pattern != Pattern::Open {
            // An empty payload proves to the responder that the first message was no replay.
            self.seal(&[], MAX_FRAME)?;
        }
        Ok(Received::Established { peer, pattern, first: answer.slice(1..) })
    }

    /// Responder: the handshake's messages after frame 0.
    fn continue_responding(
        &mut self,
        mut noise: HandshakeState,
        pattern: Pattern,
        frame: &[u8],
        codes: &dyn Codes,
    ) -> Result<Option<Received>, SessionError> {
        let payload = noise::read(&mut noise, frame)?;
        // Known from the first message of `IK` on, from the last one of `XX`: each time before the hello goes out.
        if let Ok(peer) = noise::remote(&noise)
            && let Some(hello) = codes.hello(&peer, pattern)
        {
            self.hello = hello;
        }
        self.keeps_hello |= codes.keeps_hello();
        if !noise.is_handshake_finished() {
            let mut answer = vec![self.version];
            // An `XX` initiator is a stranger at this point; `IK`'s answer has our hello where it fits.
            let is_first = pattern != Pattern::Open && !self.keeps_hello;
            if is_first && self.hello.len() + 128 <= MAX_HANDSHAKE_ANSWER {
                answer.append(&mut self.hello);
            }
            self.out.push_back(noise::write(&mut noise, &answer)?);
        }
        if !noise.is_handshake_finished() {
            self.state = State::Responding { noise: Box::new(noise), pattern };
            return Ok(None);
        }
        let peer = noise::remote(&noise)?;
        self.peer = Some(peer);
        let transport = noise.into_transport_mode().map_err(SessionError::Handshake)?;
        if pattern != Pattern::Open {
            self.state = State::Unproven { noise: transport, pattern, first: payload };
            return Ok(None);
        }
        self.state = State::Established(transport);
        self.send_late_hello()?;
        Ok(Some(Received::Established { peer, pattern, first: payload }))
    }

    /// Responder of `IK`: the first transport frame, which the initiator leaves empty.
    fn prove(
        &mut self,
        noise: TransportState,
        pattern: Pattern,
        first: Bytes,
        frame: &[u8],
    ) -> Result<Received, SessionError> {
        self.state = State::Established(noise);
        match self.unseal(frame) {
            Ok(Some(Received::Payload(payload))) if payload.is_empty() => {}
            Ok(_) => return Err(self.fail(SessionError::NotEstablished)),
            Err(error) => return Err(self.fail(error)),
        }
        self.send_late_hello()?;
        let peer = self.peer.ok_or(SessionError::NotEstablished)?;
        Ok(Received::Established { peer, pattern, first })
    }

    fn send_late_hello(&mut self) -> Result<(), SessionError> {
        if self.keeps_hello { Ok(()) } else { self.say_hello() }
    }

    /// Responder: says the hello that was kept, as the first payload; nothing where it was said.
    pub fn say_hello(&mut self) -> Result<(), SessionError> {
        let hello = std::mem::take(&mut self.hello);
        if hello.is_empty() { Ok(()) } else { self.seal(&hello, MAX_FRAME) }
    }

    fn unseal(&mut self, frame: &[u8]) -> Result<Option<Received>, SessionError> {
        if self.received >= MAX_MESSAGES {
            return Err(self.fail(SessionError::Exhausted));
        }
        let State::Established(noise) = &mut self.state else { return Err(SessionError::NotEstablished) };
        let mut plain = vec![0; frame.len()];
        let length = match noise.read_message(frame, &mut plain) {
            Ok(length) => length,
            Err(error) => return Err(self.fail(SessionError::Frame(error))),
        };
        plain.truncate(length);
        self.received += 1;
        if self.received.is_multiple_of(REKEY_AFTER) {
            noise.rekey_incoming();
        }
        let plain = Bytes::from(plain);
        match plain.first() {
            Some(&LAST) if self.fragments.is_empty() => Ok(Some(Received::Payload(plain.slice(1..)))),
            Some(&kind @ (LAST | MORE)) => {
                if self.fragments.len() + plain.len() > MAX_PAYLOAD + 1 {
                    return Err(self.fail(SessionError::PayloadTooLong));
                }
                self.fragments.extend_from_slice(&plain[1..]);
                Ok((kind == LAST).then(|| Received::Payload(std::mem::take(&mut self.fragments).into())))
            }
            other => {
                let error = SessionError::Fragment(other.copied().unwrap_or(u8::MAX));
                Err(self.fail(error))
            }
        }
    }

    fn fail(&mut self, error: SessionError) -> SessionError {
        self.state = State::Failed;
        error
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
