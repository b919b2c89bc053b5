//! Sessions: frame 0, whole handshakes that somebody on the way disturbs, and what a peer seals after one.

use std::collections::VecDeque;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use waypost_protocol::ids::{CodeId, PeerKey};
use waypost_protocol::invite::CodeSecret;
use waypost_protocol::session::{
    Codes, Identity, Introduction, MAX_FRAME, MAX_HANDSHAKE_ANSWER, MAX_PAYLOAD, Opening, Pattern, Received,
    Session, SessionError, Versions, encode_no_common_version, parse_no_common_version,
};

use crate::steps;

const GATEWAY_HELLO: &[u8] = b"the gateway's hello";
const PHONE_HELLO: &[u8] = b"the phone's hello";

struct OneCode;

impl Codes for OneCode {
    fn secret(&self, id: &CodeId) -> Option<CodeSecret> {
        Some(CodeSecret::new([5; 16])).filter(|secret| secret.id() == *id)
    }
}

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn identity(seed: u8) -> Identity {
    Identity::from_private([seed; 32]).expect("any 32 bytes are a key")
}

fn gateway() -> Session {
    Session::respond(&identity(2), GATEWAY_HELLO.to_vec(), &mut rng(2))
}

/// The first frame of a link, at a gateway.
pub fn frame_0(data: &[u8]) -> bool {
    let opening = Opening::parse(data);
    if let Ok((versions, Ok(opening))) = &opening {
        assert_eq!(opening.versions, *versions);
        assert_eq!(opening.encode(), data);
    }
    if let Some(versions) = parse_no_common_version(data) {
        assert_eq!(encode_no_common_version(versions), data);
    }
    let mut gateway = gateway();
    let outcome = gateway.handle_frame(data, &OneCode);
    while let Some(answer) = gateway.poll_frame() {
        assert!(matches!(outcome, Err(SessionError::NoCommonVersion { .. })), "{outcome:?} was answered");
        assert_eq!(answer, encode_no_common_version(Versions::OURS));
    }
    matches!(opening, Ok((_, Ok(_))))
}

/// One end of a link on whose way somebody stands.
struct End {
    session: Session,
    key: PeerKey,
    is_gateway: bool,
    /// On their way to the other end.
    frames: VecDeque<Vec<u8>>,
    /// Not taken there yet.
    sealed: VecDeque<Vec<u8>>,
    /// Bytes of frames before the other end was sure of this one.
    said_first: usize,
    is_sure: bool,
    has_failed: bool,
}

impl End {
    fn new(session: Session, key: PeerKey, is_gateway: bool) -> Self {
        let mut end = End {
            session,
            key,
            is_gateway,
            frames: VecDeque::new(),
            sealed: VecDeque::new(),
            said_first: 0,
            is_sure: false,
            has_failed: false,
        };
        end.collect();
        end
    }

    fn collect(&mut self) {
        while let Some(frame) = self.session.poll_frame() {
            assert!(frame.len() <= MAX_FRAME);
            if !self.is_sure {
                self.said_first += frame.len();
            }
            self.frames.push_back(frame);
        }
    }

    fn seal(&mut self, bytes: &[u8]) {
        let (max_frame, payload) = bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest));
        let sealed = self.session.seal(payload, 17 + usize::from(max_frame));
        assert!(!(self.has_failed && sealed.is_ok()), "a session that failed seals");
        if sealed.is_ok() {
            self.sealed.push_back(payload.to_vec());
        }
        self.collect();
    }

    fn hear(&mut self, frame: &[u8], peer: &mut End, codes: &dyn Codes) {
        match self.session.handle_frame(frame, codes) {
            Err(_) => self.has_failed = true,
            Ok(got) => {
                assert!(!self.has_failed, "a session that failed goes on");
                match got {
                    None => {}
                    Some(Received::Established { peer: key, pattern, .. }) => {
                        assert!(!self.is_sure, "established twice");
                        assert_eq!(key, peer.key, "{pattern:?}");
                        self.is_sure = true;
                        if pattern == Pattern::Open && self.is_gateway {
                            // It follows the handshake of those who knew nobody.
                            self.sealed.push_back(GATEWAY_HELLO.to_vec());
                        }
                    }
                    Some(Received::Payload(payload)) => {
                        assert!(self.is_sure && payload.len() <= MAX_PAYLOAD);
                        assert_eq!(
                            peer.sealed.pop_front().as_deref(),
                            Some(&payload[..]),
                            "not what was sealed"
                        );
                    }
                }
            }
        }
        self.collect();
    }
}

/// A phone and a gateway whose frames somebody passes on, changes, repeats, drops, or makes up.
///
/// The first byte chooses the pattern. Of a step, bit 0 says in which direction, the next two what is done, and bit 3
/// that the frame stays there for another time.
pub fn handshake(data: &[u8]) -> bool {
    let Some((&pattern, data)) = data.split_first() else { return false };
    let key = identity(2).public();
    let introduction = match pattern % 4 {
        0 => Introduction::Known(key),
        1 => Introduction::Code(key, CodeSecret::new([5; 16])),
        2 => Introduction::Open,
        // Somebody else, or a code that nobody gave out.
        _ => Introduction::Code(key, CodeSecret::new([6; 16])),
    };
    let phone = Session::initiate(&introduction, &identity(1), PHONE_HELLO.to_vec(), &mut rng(1));
    let mut phone = End::new(phone.expect("an initiator can always begin"), identity(1).public(), false);
    let mut gateway = End::new(gateway(), key, true);
    for (what, bytes) in steps(data) {
        let to_phone = what & 1 != 0;
        let (from, to, codes): (_, _, &dyn Codes) = match to_phone {
            true => (&mut gateway, &mut phone, &()),
            false => (&mut phone, &mut gateway, &OneCode),
        };
        let next = match what & 8 {
            0 if what & 6 <= 2 => from.frames.pop_front(),
            _ => from.frames.front().cloned(),
        };
        match what & 6 {
            0 => {
                if let Some(frame) = next {
                    to.hear(&frame, from, codes);
                }
            }
            2 => {
                let Some(mut frame) = next else { continue };
                for change in bytes.chunks_exact(3) {
                    let at = usize::from(u16::from_be_bytes([change[0], change[1]]));
                    if let Some(byte) = frame.get_mut(at) {
                        *byte ^= change[2];
                    }
                }
                to.hear(&frame, from, codes);
            }
            4 => to.hear(bytes, from, codes),
            _ => from.seal(bytes),
        }
        if !gateway.is_sure {
            assert!(gateway.said_first <= MAX_HANDSHAKE_ANSWER);
        }
    }
    phone.is_sure && gateway.is_sure
}

/// Plaintexts of frames by a paired phone that keeps to no rule of fragments: a step each.
pub fn sealed_frames(data: &[u8]) -> bool {
    let mut gateway = gateway();
    let mut phone = Sealing::to(&mut gateway);
    let (mut open, mut has_failed, mut came) = (Vec::new(), false, false);
    for (what, bytes) in steps(data) {
        let plain = match what {
            // As large as a frame can be.
            0xff => [bytes, &[0x5a; 65_535 - 16][bytes.len().min(65_519)..]].concat(),
            _ => bytes.to_vec(),
        };
        let got = gateway.handle_frame(&phone.seal(&plain), &());
        assert!(!(has_failed && got.is_ok()), "a session that failed goes on");
        has_failed |= got.is_err();
        let Some((&kind, part)) = plain.split_first() else {
            assert!(has_failed, "a frame of nothing was taken");
            continue;
        };
        open.extend_from_slice(part);
        match got {
            Ok(None) => assert!(kind == 1 && open.len() <= MAX_PAYLOAD),
            Ok(Some(Received::Payload(payload))) => {
                assert!(kind == 0 && payload.len() <= MAX_PAYLOAD);
                assert!(payload == open, "a payload is not its fragments");
                (open, came) = (Vec::new(), true);
            }
            Ok(Some(other)) => panic!("{other:?}"),
            Err(_) => {}
        }
        while gateway.poll_frame().is_some() {}
    }
    came
}

/// The phone's half of a Noise session, which seals whatever it is given.
struct Sealing(snow::TransportState);

impl Sealing {
    /// After a handshake of the pattern `IK`.
    fn to(gateway: &mut Session) -> Self {
        let key = identity(2).public();
        let prologue = Opening { versions: Versions::OURS, pattern: Pattern::Known }.encode();
        let pattern = "Noise_IK_25519_ChaChaPoly_SHA256".parse().expect("a name of Noise");
        let mut noise = snow::Builder::with_resolver(pattern, Box::new(Repeatable))
            .local_private_key(&[1; 32])
            .and_then(|builder| builder.remote_public_key(key.as_bytes())?.prologue(&prologue))
            .and_then(snow::Builder::build_initiator)
            .expect("a handshake can begin");
        let mut buffer = vec![0; 1_024];
        let length = noise.write_message(b"", &mut buffer).expect("a first message");
        let mut hear = |frame: &[u8]| gateway.handle_frame(frame, &()).expect("a right handshake");
        assert_eq!((hear(&prologue), hear(&buffer[..length])), (None, None));
        let answer = gateway.poll_frame().expect("an answer");
        noise.read_message(&answer, &mut buffer).expect("an answer that reads");
        let mut phone = Sealing(noise.into_transport_mode().expect("the handshake is over"));
        let proof = phone.seal(&[0]);
        assert!(matches!(gateway.handle_frame(&proof, &()), Ok(Some(Received::Established { .. }))));
        phone
    }

    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; plain.len() + 16];
        let length = self.0.write_message(plain, &mut frame).expect("it fits a frame");
        frame.truncate(length);
        frame
    }
}

/// Noise's usual primitives, and one ephemeral key.
struct Repeatable;

impl CryptoResolver for Repeatable {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Nines))
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Nines;

impl Random for Nines {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), snow::Error> {
        bytes.fill(9);
        Ok(())
    }
}
