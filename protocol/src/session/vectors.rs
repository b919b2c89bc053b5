//! The published vectors (cacophony) of the Noise patterns that a session has, as `snow` 0.10 ships them
//! (`tests/vectors/cacophony.txt`), against what a session is made of. Keys, prologue and payloads are the same for all.

use data_encoding::HEXLOWER;
use snow::resolvers::{BoxedCryptoResolver, CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};

use super::*;

const PROLOGUE: &str = "4a6f686e2047616c74";
const PHONE: &str = "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1";
const PHONE_EPHEMERAL: &str = "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a";
const GATEWAY: &str = "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893";
const GATEWAY_EPHEMERAL: &str = "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b";
const PSK: &str = "54686973206973206d7920417573747269616e20706572737065637469766521";
const PAYLOADS: [&str; 6] = [
    "4c756477696720766f6e204d69736573",
    "4d757272617920526f746862617264",
    "462e20412e20486179656b",
    "4361726c204d656e676572",
    "4a65616e2d426170746973746520536179",
    "457567656e2042f6686d20766f6e2042617765726b",
];

/// Noise_IK_25519_ChaChaPoly_SHA256: the hash of the handshake, and the messages.
const IK: (&str, [&str; 6]) = (
    "0b0f68fb0c27e03ce9b97565995ed4838cc0581b762ef72b062f6a546419fad7",
    [
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944718da798efbcd91528520204f904b9bd6c7413dccdc214d951e15253e39987f18146e8cd0873654207148333479d4d16c289f0294b29960a72f48e0b7bba2e89083169825e59642148d492020664ccf7",
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088435361e70b2ed446e6c9ec387d1d6b3b840f194e373979d241b203c4acafccf5",
        "050e9f3c8fac16b68dbce8f8c4bfbf6617c897f9ada4aa29aa19c8",
        "344233a6cabb7141d80f3da2fedc311d9646bbb0f505afe403a667",
        "62cdeeb172ad7ade7aa7d9e069da5790f12331bfa00177787a1d0810c67dc3b2b4",
        "029bead1b40992327044d409d9a1f3ad8f36c3c452775d557e18bbeb2e8dfcead32d514024",
    ],
);
/// Noise_XX_25519_ChaChaPoly_SHA256: the hash of the handshake, and the messages.
const XX: (&str, [&str; 6]) = (
    "c8e5f64e846193be2a834104c2a009868d6c9f3bd3c186299888b488b2f1f58e",
    [
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79444c756477696720766f6e204d69736573",
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f14480884381cbad1f276e038c48378ffce2b65285e08d6b68aaa3629a5a8639392490e5b9bd5269c2f1e4f488ed8831161f19b7815528f8982ffe09be9b5c412f8a0db50f8814c7194e83f23dbd8d162c9326ad",
        "c7195ffacac1307ff99046f219750fc47693e23c3cb08b89c2af808b444850a80ae475b9df0f169ae80a89be0865b57f58c9fea0d4ec82a286427402f113e4b6ae769a1d95941d49b25030",
        "96763ed773f8e47bb3712f0e29b3060ffc956ffc146cee53d5e1df",
        "3e40f15f6f3a46ae446b253bf8b1d9ffb6ed9b174d272328ff91a7e2e5c79c07f5",
        "eb3f3515110702e047a6c9da4478b6ead94873c11c0f2d710ddb3f09fce024b3a58502ae3f",
    ],
);
/// Noise_IKpsk2_25519_ChaChaPoly_SHA256: the hash of the handshake, and the messages.
const IK_PSK2: (&str, [&str; 6]) = (
    "8310f86394dc0dabb40beb8210031556db4403ab1202db7034c526232147a700",
    [
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79442ec9b09893d0f510791784c10cbc959f25b1766e0def6e301d14fbca1c7790ac829b8b3674f5f649a5f0e98479662cbfbf2b2c47cd4b09fcd266cd29d7cb675f1808849707847840f6d178ec4d3733aa",
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088439a1b3cebf680b2c74217fcb5eba4ff58a9468cd90c4aca6194f57479b379a7",
        "a8fde7a0accec190cd306c5950d4fd8e04a205ec288aa747d8b347",
        "59caddd9984a3bbe24c4fb31a2bd455b7eba3fa0980674b1a3a5f9",
        "3b9bfebd210c22ba0cff9de79b4007d7a552fffbf92616881faa8a883e25b80258",
        "f37512df1043d564d7c46ac85c53d3b6a9a05724bc297e7142808f217561651217fe85b782",
    ],
);

/// Makes this its ephemeral key.
struct Fixed([u8; 32]);

impl Random for Fixed {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        dest.copy_from_slice(&self.0);
        Ok(())
    }
}

impl CryptoResolver for Fixed {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Fixed(self.0)))
    }
    fn resolve_dh(&self, choice: &snow::params::DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }
    fn resolve_hash(&self, choice: &snow::params::HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &snow::params::CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).unwrap()
}

fn key(hex: &str) -> [u8; 32] {
    bytes(hex).try_into().unwrap()
}

fn fixed(hex: &str) -> BoxedCryptoResolver {
    Box::new(Fixed(key(hex)))
}

/// Runs one pattern; `psk` is what both have.
fn check(pattern: Pattern, introduction: &Introduction, psk: Option<&[u8; 32]>, vector: &(&str, [&str; 6])) {
    let (prologue, opening) = (bytes(PROLOGUE), Opening { versions: Versions::OURS, pattern });
    let [phone, gateway] = [PHONE, GATEWAY].map(|secret| Identity::from_private(key(secret)).unwrap());
    let mut sides = [
        noise::initiator(introduction, psk, &phone, &prologue, fixed(PHONE_EPHEMERAL)).unwrap(),
        noise::responder(&opening, psk, &gateway, &prologue, fixed(GATEWAY_EPHEMERAL)).unwrap(),
    ];
    let mut number = 0;
    while !sides[0].is_handshake_finished() {
        let payload = bytes(PAYLOADS[number]);
        let message = noise::write(&mut sides[number % 2], &payload).unwrap();
        assert_eq!(HEXLOWER.encode(&message), vector.1[number], "{pattern:?} {number}");
        assert_eq!(noise::read(&mut sides[1 - number % 2], &message).unwrap(), payload);
        number += 1;
    }
    for (side, other) in [(0, &gateway), (1, &phone)] {
        assert_eq!(HEXLOWER.encode(sides[side].get_handshake_hash()), vector.0);
        assert_eq!(noise::remote(&sides[side]).unwrap(), other.public());
    }
    let mut sides = sides.map(|side| side.into_transport_mode().unwrap());
    for number in number..PAYLOADS.len() {
        let (payload, mut message) = (bytes(PAYLOADS[number]), vec![0; 100]);
        let length = sides[number % 2].write_message(&payload, &mut message).unwrap();
        assert_eq!(HEXLOWER.encode(&message[..length]), vector.1[number], "{pattern:?} {number}");
        let mut read = vec![0; length];
        let length = sides[1 - number % 2].read_message(&message[..length], &mut read).unwrap();
        assert_eq!(read[..length], payload);
    }
}

#[test]
fn each_pattern_is_the_one_of_the_published_vectors() {
    let gateway = Identity::from_private(key(GATEWAY)).unwrap().public();
    check(Pattern::Known, &Introduction::Known(gateway), None, &IK);
    check(Pattern::Open, &Introduction::Open, None, &XX);
}

/// A session derives the key from a code's secret; the vector's is given as it is.
#[test]
fn the_pattern_of_a_code_is_the_one_of_the_published_vectors() {
    let gateway = Identity::from_private(key(GATEWAY)).unwrap().public();
    let secret = CodeSecret::new([0; 16]);
    let pattern = Pattern::Code(secret.id());
    check(pattern, &Introduction::Code(gateway, secret), Some(&key(PSK)), &IK_PSK2);
}
