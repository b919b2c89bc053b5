//! Two sessions joined back to back.

use super::*;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

struct OneCode(CodeSecret);

impl Codes for OneCode {
    fn secret(&self, id: &CodeId) -> Option<CodeSecret> {
        (*id == self.0.id()).then(|| self.0.clone())
    }
}

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn identity(seed: u64) -> Identity {
    Identity::generate(&mut rng(seed)).unwrap()
}

fn secret() -> CodeSecret {
    CodeSecret::new([5; 16])
}

fn pair(introduction: &Introduction) -> (Session, Session) {
    let phone = Session::initiate(introduction, &identity(1), b"phone hello".to_vec(), &mut rng(3)).unwrap();
    (phone, Session::respond(&identity(2), b"gateway hello".to_vec(), &mut rng(4)))
}

/// Moves frames both ways until none is left; what each side received, and how many bytes the responder sent before it
/// was sure of the initiator.
fn settle(phone: &mut Session, gateway: &mut Session) -> Result<[Vec<Received>; 2], SessionError> {
    settle_with(phone, gateway, &OneCode(secret()))
}

fn settle_with(
    phone: &mut Session,
    gateway: &mut Session,
    codes: &dyn Codes,
) -> Result<[Vec<Received>; 2], SessionError> {
    let mut got = [Vec::new(), Vec::new()];
    loop {
        let mut moved = false;
        while let Some(frame) = phone.poll_frame() {
            moved = true;
            got[1].extend(gateway.handle_frame(&frame, codes)?);
        }
        while let Some(frame) = gateway.poll_frame() {
            moved = true;
            got[0].extend(phone.handle_frame(&frame, &())?);
        }
        if !moved {
            return Ok(got);
        }
    }
}

fn established(received: &[Received]) -> (PeerKey, &[u8]) {
    match &received[0] {
        Received::Established { peer, first, .. } => (*peer, first),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_pattern_authenticates_both_sides_and_carries_both_hellos() {
    let gateway_key = identity(2).public();
    for introduction in
        [Introduction::Known(gateway_key), Introduction::Code(gateway_key, secret()), Introduction::Open]
    {
        let (mut phone, mut gateway) = pair(&introduction);
        let [at_phone, at_gateway] = settle(&mut phone, &mut gateway).unwrap();
        assert_eq!(established(&at_gateway), (identity(1).public(), &b"phone hello"[..]));
        let (peer, first) = established(&at_phone);
        assert_eq!(peer, gateway_key);
        if matches!(introduction, Introduction::Open) {
            assert!(first.is_empty());
            assert_eq!(at_phone[1], Received::Payload(Bytes::from_static(b"gateway hello")));
        } else {
            assert_eq!(first, b"gateway hello");
        }
    }
}

#[test]
fn a_replayed_first_message_establishes_nothing_and_gets_at_most_1_kib() {
    let (mut phone, mut gateway) = pair(&Introduction::Known(identity(2).public()));
    let recorded: Vec<_> = std::iter::from_fn(|| phone.poll_frame()).collect();
    for frame in &recorded {
        gateway.handle_frame(frame, &()).unwrap();
    }
    let mut replayed = Session::respond(&identity(2), b"gateway hello".to_vec(), &mut rng(9));
    for frame in &recorded {
        assert_eq!(replayed.handle_frame(frame, &()).unwrap(), None);
    }
    let answer: usize = std::iter::from_fn(|| replayed.poll_frame()).map(|frame| frame.len()).sum();
    assert!(answer > 0 && answer <= MAX_HANDSHAKE_ANSWER, "{answer}");
    assert!(!replayed.is_established());
    // The recorder cannot go on: it has no frame for the new ephemeral key.
    let original = gateway.poll_frame().unwrap();
    phone.handle_frame(&original, &()).unwrap();
    let proof = phone.poll_frame().unwrap();
    assert!(matches!(replayed.handle_frame(&proof, &()), Err(SessionError::Frame(_))));
}

/// Has another hello for one peer, whichever way it comes.
struct OwnHello(PeerKey, OneCode);

impl Codes for OwnHello {
    fn secret(&self, id: &CodeId) -> Option<CodeSecret> {
        self.1.secret(id)
    }
    fn hello(&self, peer: &PeerKey, _: Pattern) -> Option<Vec<u8>> {
        (*peer == self.0).then(|| b"hello, friend".to_vec())
    }
}

#[test]
fn a_peer_that_is_known_is_told_what_others_are_not_with_each_pattern() {
    let key = identity(2).public();
    for introduction in [Introduction::Known(key), Introduction::Code(key, secret()), Introduction::Open] {
        for (known, expected) in [(1, &b"hello, friend"[..]), (7, b"gateway hello")] {
            let codes = OwnHello(identity(known).public(), OneCode(secret()));
            let (mut phone, mut gateway) = pair(&introduction);
            let got = settle_with(&mut phone, &mut gateway, &codes).unwrap();
            let said = got[0].iter().map(|received| match received {
                Received::Established { first, .. } => first.clone(),
                Received::Payload(payload) => payload.clone(),
            });
            assert_eq!(said.collect::<Vec<_>>().concat(), expected);
        }
    }
}

/// Keeps its hello.
struct Crowded(OneCode);

impl Codes for Crowded {
    fn secret(&self, id: &CodeId) -> Option<CodeSecret> {
        self.0.secret(id)
    }
    fn keeps_hello(&self) -> bool {
        true
    }
}

#[test]
fn a_hello_that_is_kept_is_the_first_payload_or_another_takes_its_place() {
    let key = identity(2).public();
    for introduction in [Introduction::Known(key), Introduction::Code(key, secret()), Introduction::Open] {
        for is_said in [true, false] {
            let codes = Crowded(OneCode(secret()));
            let (mut phone, mut gateway) = pair(&introduction);
            let [at_phone, at_gateway] = settle_with(&mut phone, &mut gateway, &codes).unwrap();
            assert_eq!(established(&at_gateway).1, b"phone hello");
            assert!(at_phone.len() == 1 && established(&at_phone).1.is_empty(), "{at_phone:?}");
            if is_said {
                gateway.say_hello().unwrap();
                gateway.say_hello().unwrap();
            }
            gateway.seal(b"goodbye", MAX_FRAME).unwrap();
            let [at_phone, _] = settle_with(&mut phone, &mut gateway, &codes).unwrap();
            let payloads =
                [&b"gateway hello"[..], b"goodbye"].map(|text| Received::Payload(text.to_vec().into()));
            assert_eq!(at_phone, payloads[usize::from(!is_said)..]);
        }
    }
}

#[test]
fn the_wrong_gateway_or_code_is_refused() {
    let (mut phone, mut gateway) = pair(&Introduction::Known(identity(7).public()));
    assert!(matches!(settle(&mut phone, &mut gateway), Err(SessionError::Handshake(_))));
    let other = CodeSecret::new([6; 16]);
    let (mut phone, mut gateway) = pair(&Introduction::Code(identity(2).public(), other.clone()));
    match settle(&mut phone, &mut gateway) {
        Err(SessionError::UnknownCode(id)) => assert_eq!(id, other.id()),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_version_mismatch_is_named_on_both_sides() {
    let newer = Versions { lowest: 7, highest: 9 };
    let known = Introduction::Known(identity(2).public());
    let mut phone = Session::initiate_as(newer, &known, &identity(1), vec![], &mut rng(3)).unwrap();
    let mut gateway = Session::respond(&identity(2), vec![], &mut rng(4));
    let error = gateway.handle_frame(&phone.poll_frame().unwrap(), &()).unwrap_err();
    assert!(error.to_string().contains("speaks 7 to 9"), "{error}");
    let error = phone.handle_frame(&gateway.poll_frame().unwrap(), &()).unwrap_err();
    assert!(matches!(error, SessionError::NoCommonVersion { theirs: Versions::OURS, .. }), "{error}");
}

#[test]
fn a_changed_opening_breaks_the_handshake() {
    let (mut phone, mut gateway) = pair(&Introduction::Known(identity(2).public()));
    let mut opening = phone.poll_frame().unwrap();
    opening[5] = 2;
    gateway.handle_frame(&opening, &()).unwrap();
    let error = gateway.handle_frame(&phone.poll_frame().unwrap(), &()).unwrap_err();
    assert!(matches!(error, SessionError::Handshake(_)));
}

#[test]
fn keys_change_after_65536_messages_and_both_sides_follow() {
    let (mut phone, mut gateway) = pair(&Introduction::Known(identity(2).public()));
    settle(&mut phone, &mut gateway).unwrap();
    for number in 0..(REKEY_AFTER + 10) {
        phone.seal(&number.to_le_bytes(), MAX_FRAME).unwrap();
        let frame = phone.poll_frame().unwrap();
        let received = gateway.handle_frame(&frame, &()).unwrap();
        assert_eq!(received, Some(Received::Payload(Bytes::copy_from_slice(&number.to_le_bytes()))));
    }
}

#[test]
fn a_session_ends_long_before_the_ciphers_nonce_does() {
    let (mut phone, mut gateway) = pair(&Introduction::Known(identity(2).public()));
    settle(&mut phone, &mut gateway).unwrap();
    phone.sent = MAX_MESSAGES - 1;
    phone.seal(b"the last one", MAX_FRAME).unwrap();
    assert!(matches!(phone.seal(b"one more", MAX_FRAME), Err(SessionError::Exhausted)));
    let last = phone.poll_frame().unwrap();
    assert_eq!(phone.poll_frame(), None, "nothing went out under a nonce that was used");
    // What of it the other side takes is as bounded.
    gateway.received = MAX_MESSAGES;
    assert!(matches!(gateway.handle_frame(&last, &()), Err(SessionError::Exhausted)));
    assert!(!gateway.is_established());
    // And the cipher's own bound holds below that.
    let (mut phone, mut gateway) = pair(&Introduction::Known(identity(2).public()));
    settle(&mut phone, &mut gateway).unwrap();
    let State::Established(noise) = &mut gateway.state else { panic!("it is established") };
    noise.set_receiving_nonce(u64::MAX);
    phone.seal(b"data", MAX_FRAME).unwrap();
    let refused = gateway.handle_frame(&phone.poll_frame().unwrap(), &());
    let exhausted = snow::Error::State(snow::error::StateProblem::Exhausted);
    assert!(matches!(refused, Err(SessionError::Frame(error)) if error == exhausted));
}

/// Answers nobody who does not know it.
struct Shy;

impl Codes for Shy {
    fn secret(&self, _: &CodeId) -> Option<CodeSecret> {
        None
    }
    fn answers_strangers(&self) -> bool {
        false
    }
}

#[test]
fn a_stranger_learns_nothing_from_who_answers_none() {
    let (mut stranger, mut phone) = pair(&Introduction::Open);
    let refused = phone.handle_frame(&stranger.poll_frame().unwrap(), &Shy);
    assert!(matches!(refused, Err(SessionError::Stranger)));
    assert_eq!(phone.poll_frame(), None);
    let (mut kiosk, mut phone) = pair(&Introduction::Known(identity(2).public()));
    settle_with(&mut kiosk, &mut phone, &Shy).unwrap();
    assert!(phone.is_established(), "who knows it is answered");
}

#[test]
fn a_version_that_was_not_offered_is_refused() {
    let ours = Versions::OURS;
    let known = Introduction::Known(identity(2).public());
    // It says that it speaks this one, and the next, and is answered with the other.
    let wider = Versions { lowest: ours.lowest, highest: ours.highest + 1 };
    for (offered, chosen, is_taken) in
        [(ours, ours.highest + 1, false), (wider, ours.highest + 1, true), (wider, 0, false)]
    {
        let mut phone = Session::initiate_as(offered, &known, &identity(1), vec![], &mut rng(3)).unwrap();
        let mut gateway = Session::respond(&identity(2), vec![], &mut rng(4));
        gateway.handle_frame(&phone.poll_frame().unwrap(), &()).unwrap();
        gateway.version = chosen;
        gateway.handle_frame(&phone.poll_frame().unwrap(), &()).unwrap();
        let answered = phone.handle_frame(&gateway.poll_frame().unwrap(), &());
        match is_taken {
            true => assert_eq!((answered.is_ok(), phone.version()), (true, chosen)),
            false => assert!(matches!(answered, Err(SessionError::Version(Some(other))) if other == chosen)),
        }
    }
}

#[test]
fn a_damaged_frame_ends_the_session() {
    let (mut phone, mut gateway) = pair(&Introduction::Known(identity(2).public()));
    settle(&mut phone, &mut gateway).unwrap();
    phone.seal(b"data", MAX_FRAME).unwrap();
    let mut frame = phone.poll_frame().unwrap();
    frame[0] ^= 1;
    assert!(matches!(gateway.handle_frame(&frame, &()), Err(SessionError::Frame(_))));
    assert!(!gateway.is_established());
}

proptest! {
    #[test]
    fn payloads_of_any_size_pass_frames_of_any_size(length in 0usize..MAX_PAYLOAD, max_frame in 64usize..MAX_FRAME) {
        let (mut phone, mut gateway) = pair(&Introduction::Known(identity(2).public()));
        settle(&mut phone, &mut gateway).unwrap();
        let payload: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
        phone.seal(&payload, max_frame).unwrap();
        let mut got = None;
        while let Some(frame) = phone.poll_frame() {
            prop_assert!(frame.len() <= max_frame);
            prop_assert_eq!(&got, &None);
            got = gateway.handle_frame(&frame, &()).unwrap();
        }
        prop_assert_eq!(got, Some(Received::Payload(payload.into())));
    }

    #[test]
    fn any_bytes_are_refused_without_panic(frames: Vec<Vec<u8>>) {
        let mut gateway = Session::respond(&identity(2), vec![], &mut rng(4));
        for frame in frames {
            if gateway.handle_frame(&frame, &()).is_err() {
                break;
            }
        }
        prop_assert!(!gateway.is_established());
    }
}
