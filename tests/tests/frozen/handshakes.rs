//! Whole sessions with fixed keys: every frame from frame 0 to payloads under the second key.

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use serde_json::{Value, json};
use waypost_protocol::ids::{CodeId, PeerKey};
use waypost_protocol::invite::CodeSecret;
use waypost_protocol::session::{Codes, Identity, Introduction, MAX_FRAME, Received, Session};

use super::{counting, hex, list, text, unhex};

/// After so many messages of a direction its key changes.
const REKEY_AFTER: u64 = 1 << 16;

/// Gives the seed that a session draws, and nothing else.
struct Seed([u8; 32]);

impl RngCore for Seed {
    fn next_u32(&mut self) -> u32 {
        unreachable!("a session draws its seed at once")
    }
    fn next_u64(&mut self) -> u64 {
        unreachable!("a session draws its seed at once")
    }
    fn fill_bytes(&mut self, out: &mut [u8]) {
        out.copy_from_slice(&self.0);
    }
}

/// The ephemeral private key that a session makes of its seed: the first 32 bytes of ChaCha20.
fn ephemeral(seed: [u8; 32]) -> [u8; 32] {
    let mut key = [0; 32];
    ChaCha20Rng::from_seed(seed).fill_bytes(&mut key);
    key
}

struct OneCode(Option<CodeSecret>);

impl Codes for OneCode {
    fn secret(&self, id: &CodeId) -> Option<CodeSecret> {
        self.0.clone().filter(|secret| secret.id() == *id)
    }
}

struct Ends {
    initiator: Session,
    responder: Session,
    codes: OneCode,
}

impl Ends {
    /// Frames that wait on one side go to the other; each frame with its sender, and what it brought.
    fn carry(&mut self, from_initiator: bool, frames: &mut Vec<Value>, brought: &mut Vec<Received>) -> bool {
        let (from, to) = match from_initiator {
            true => (&mut self.initiator, &mut self.responder),
            false => (&mut self.responder, &mut self.initiator),
        };
        let mut moved = false;
        while let Some(frame) = from.poll_frame() {
            moved = true;
            frames.push(json!({ "from": side(from_initiator), "frame": hex(&frame) }));
            brought.extend(to.handle_frame(&frame, &self.codes).unwrap());
        }
        moved
    }

    /// Seals a payload, carries it, and describes that.
    fn send(&mut self, from_initiator: bool, payload: &[u8], max_frame: usize) -> Value {
        let from = if from_initiator { &mut self.initiator } else { &mut self.responder };
        from.seal(payload, max_frame).unwrap();
        let (mut frames, mut brought) = (Vec::new(), Vec::new());
        self.carry(from_initiator, &mut frames, &mut brought);
        assert_eq!(brought, [Received::Payload(payload.to_vec().into())]);
        let frames: Vec<_> = frames.into_iter().map(|frame| frame["frame"].clone()).collect();
        json!({ "from": side(from_initiator), "payload": hex(payload), "max_frame": max_frame, "frames": frames })
    }
}

fn side(initiator: bool) -> &'static str {
    if initiator { "initiator" } else { "responder" }
}

fn transcript(name: &str, responder_hello: &[u8]) -> Value {
    let (initiator, responder) = (counting::<32>(0x11), counting::<32>(0x71));
    let (initiator_seed, responder_seed) = (counting::<32>(0x21), counting::<32>(0x91));
    let [phone, gateway] = [initiator, responder].map(|private| Identity::from_private(private).unwrap());
    let secret = CodeSecret::new(counting(0xd0));
    let (introduction, protocol, psk) = match name {
        "IKpsk2" => {
            let introduction = Introduction::Code(gateway.public(), secret.clone());
            (introduction, "Noise_IKpsk2_25519_ChaChaPoly_SHA256", hex(secret.psk().as_slice()))
        }
        "XX" => (Introduction::Open, "Noise_XX_25519_ChaChaPoly_SHA256", String::new()),
        _ => (Introduction::Known(gateway.public()), "Noise_IK_25519_ChaChaPoly_SHA256", String::new()),
    };
    let hello = b"hello of the initiator".to_vec();
    let mut ends = Ends {
        initiator: Session::initiate(&introduction, &phone, hello.clone(), &mut Seed(initiator_seed))
            .unwrap(),
        responder: Session::respond(&gateway, responder_hello.to_vec(), &mut Seed(responder_seed)),
        codes: OneCode(Some(secret)),
    };
    let (mut frames, mut brought) = (Vec::new(), Vec::new());
    while ends.carry(true, &mut frames, &mut brought) | ends.carry(false, &mut frames, &mut brought) {}
    check_hellos(&brought, phone.public(), gateway.public(), &hello, responder_hello);
    let payloads = [
        ends.send(true, b"a", MAX_FRAME),
        ends.send(false, b"b", MAX_FRAME),
        ends.send(true, &counting::<100>(0), 64),
        ends.send(false, &[], MAX_FRAME),
    ];
    json!({
        "name": name,
        "protocol": protocol,
        "psk": psk,
        "initiator_private": hex(&initiator),
        "initiator_public": hex(phone.public().as_bytes()),
        "initiator_seed": hex(&initiator_seed),
        "initiator_ephemeral_private": hex(&ephemeral(initiator_seed)),
        "responder_private": hex(&responder),
        "responder_public": hex(gateway.public().as_bytes()),
        "responder_seed": hex(&responder_seed),
        "responder_ephemeral_private": hex(&ephemeral(responder_seed)),
        "initiator_hello": hex(&hello),
        "responder_hello": hex(responder_hello),
        "frames": frames,
        "payloads": payloads,
        "rekey": rekey(&mut ends, name),
    })
}

fn check_hellos(brought: &[Received], phone: PeerKey, gateway: PeerKey, first: &[u8], second: &[u8]) {
    let mut late = None;
    for received in brought {
        match received {
            Received::Established { peer, first: hello, .. } if *peer == phone => assert_eq!(hello, first),
            Received::Established { peer, first: hello, .. } => {
                assert_eq!(*peer, gateway);
                late = hello.is_empty().then_some(()).or_else(|| {
                    assert_eq!(hello, second);
                    None
                });
            }
            Received::Payload(payload) => {
                assert!(late.is_some(), "the hello came twice");
                assert_eq!(payload, second);
            }
        }
    }
}

/// The last frame under the first key, and the first under the second. Empty payloads go before them.
fn rekey(ends: &mut Ends, name: &str) -> Value {
    // The proof, "a", and three fragments; the initiator of `XX` has no proof to give.
    let sent = if name == "XX" { 4 } else { 5 };
    let mut ignored = (Vec::new(), Vec::new());
    for _ in sent..REKEY_AFTER - 1 {
        ends.initiator.seal(&[], MAX_FRAME).unwrap();
        ends.carry(true, &mut ignored.0, &mut ignored.1);
        ignored.0.clear();
        ignored.1.clear();
    }
    let last = ends.send(true, b"last under the first key", MAX_FRAME);
    let first = ends.send(true, b"first under the second key", MAX_FRAME);
    json!({ "from": "initiator", "number_of_last": REKEY_AFTER - 1, "last": last, "first": first })
}

pub(crate) fn make() -> Value {
    let mut late = transcript("IK", &[0x77; 1_000]);
    late["name"] = "IK with a hello too long for the answer".into();
    let small = b"hello of the responder";
    json!([transcript("IK", small), transcript("IKpsk2", small), transcript("XX", small), late])
}

/// A responder made anew takes the initiator's frozen frames, and an initiator the responder's.
pub(crate) fn check(frozen: &Value) {
    for vector in list(frozen) {
        let name = text(&vector["name"]);
        let key = |field: &str| <[u8; 32]>::try_from(unhex(&vector[field]).as_ref()).unwrap();
        let codes = OneCode(Some(CodeSecret::new(counting(0xd0))));
        let gateway = Identity::from_private(key("responder_private")).unwrap();
        let hello = unhex(&vector["responder_hello"]).to_vec();
        let mut responder = Session::respond(&gateway, hello, &mut Seed(key("responder_seed")));
        let mut sent = Vec::new();
        for frame in list(&vector["frames"]).iter().filter(|frame| frame["from"] == "initiator") {
            responder.handle_frame(&unhex(&frame["frame"]), &codes).unwrap();
            sent.extend(std::iter::from_fn(|| responder.poll_frame()).map(|frame| hex(&frame)));
        }
        let expected = list(&vector["frames"]).iter().filter(|frame| frame["from"] == "responder");
        let expected: Vec<_> = expected.map(|frame| text(&frame["frame"]).to_owned()).collect();
        assert_eq!(sent, expected, "{name}");
        for sealed in list(&vector["payloads"]).iter().filter(|sealed| sealed["from"] == "initiator") {
            let mut got = None;
            for frame in list(&sealed["frames"]) {
                assert_eq!(got, None);
                got = responder.handle_frame(&unhex(frame), &codes).unwrap();
            }
            assert_eq!(got, Some(Received::Payload(unhex(&sealed["payload"]))), "{name}");
        }
    }
}
