//! The name and the passphrase of a group. They stay the same for ever: a phone that has joined once joins by itself
//! where SSID, BSSID and passphrase are the ones that it knows.

use std::num::NonZeroU32;

use rand_core::RngCore;
use ring::pbkdf2;
use zeroize::Zeroizing;

/// The longest SSID, in bytes (IEEE 802.11-2020, 9.4.2.2).
const MAX_SSID: usize = 32;
/// How each group's SSID begins (Wi-Fi Direct specification, 3.2.1).
const PREFIX: &str = "DIRECT-";
/// What SSIDs and passphrases are made of: nothing that people mistake for something else.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz123456789";
/// Characters of a passphrase that is made: 60 bits.
const PASSPHRASE: usize = 12;

/// What cannot be a name or a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Not 1 to 32 bytes.
    #[error("an SSID has 1 to 32 bytes, not {0}")]
    Ssid(usize),
    /// Not 8 to 63 printable characters of ASCII.
    #[error("a Wi-Fi passphrase has 8 to 63 printable characters of ASCII")]
    Passphrase,
}

/// A network's name: any 1 to 32 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssid(Vec<u8>);

impl Ssid {
    /// From the air or from storage.
    pub fn new(bytes: &[u8]) -> Result<Self, CredentialError> {
        match bytes.len() {
            1..=MAX_SSID => Ok(Ssid(bytes.to_vec())),
            length => Err(CredentialError::Ssid(length)),
        }
    }

    /// A group's: `DIRECT-`, two characters by chance, and as much of a name as there is room for.
    pub fn of_group(name: &str, rng: &mut dyn RngCore) -> Self {
        let mut text = format!("{PREFIX}{}", random_text(2, rng).as_str());
        if !name.is_empty() {
            text.push('-');
        }
        for character in name.chars() {
            if text.len() + character.len_utf8() > MAX_SSID {
                break;
            }
            text.push(character);
        }
        Ssid(text.into_bytes())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Display for Ssid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// A WPA2 passphrase. Cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// From 8 to 63 printable characters of ASCII (IEEE 802.11-2020, J.4.1).
    pub fn new(text: &str) -> Result<Self, CredentialError> {
        let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        match (8..=63).contains(&text.len()) && printable {
            true => Ok(Passphrase(Zeroizing::new(text.to_owned()))),
            false => Err(CredentialError::Passphrase),
        }
    }

    /// A new one of 12 characters that can be read out to somebody.
    pub fn generate(rng: &mut dyn RngCore) -> Self {
        Passphrase(random_text(PASSPHRASE, rng))
    }

    /// The characters, for storage and for whoever may join.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The key that it is in this network: PBKDF2-HMAC-SHA1 of the SSID, 4,096 times (IEEE 802.11-2020, J.4.1). It is what
    /// wpa_supplicant is told, so that the passphrase is on no message bus.
    pub fn psk(&self, ssid: &Ssid) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        let rounds = NonZeroU32::new(4096).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA1,
            rounds,
            ssid.as_bytes(),
            self.0.as_bytes(),
            key.as_mut_slice(),
        );
        key
    }
}

/// What it takes to join a group.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The network's name.
    pub ssid: Ssid,
    /// Its passphrase.
    pub passphrase: Passphrase,
}

/// A network as a device has it that was let in: its name, and the key that the passphrase comes to. Cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub ssid: Ssid,
    key: Zeroizing<[u8; 32]>,
}

impl Network {
    /// From storage, or from wpa_supplicant.
    pub fn new(ssid: Ssid, key: [u8; 32]) -> Self {
        Network { ssid, key: Zeroizing::new(key) }
    }

    /// The key (PSK of IEEE 802.11), for storage and for whoever joins.
    pub fn expose_key(&self) -> &[u8; 32] {
        &self.key
    }
}

impl Credentials {
    /// The network that they are of.
    pub fn network(&self) -> Network {
        Network { ssid: self.ssid.clone(), key: self.passphrase.psk(&self.ssid) }
    }

    /// Those of a new group of this name.
    pub fn generate(name: &str, rng: &mut dyn RngCore) -> Self {
        Credentials { ssid: Ssid::of_group(name, rng), passphrase: Passphrase::generate(rng) }
    }
}

/// A PIN of Wi-Fi Simple Configuration: 8 digits of which the last checks the others (WSC specification 2.0, 7.4.1).
#[derive(Clone, PartialEq, Eq)]
pub struct Pin(Zeroizing<String>);

impl Pin {
    /// A new one.
    pub fn generate(rng: &mut dyn RngCore) -> Self {
        let digits = rng.next_u32() % 10_000_000;
        Pin(Zeroizing::new(format!("{digits:07}{}", check_digit(digits))))
    }

    /// From 8 digits, the last of which fits the others; `None` where it does not.
    pub fn new(text: &str) -> Option<Self> {
        let whole: u32 = text.parse().ok()?;
        let fits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
        (fits && check_digit(whole / 10) == whole % 10).then(|| Pin(Zeroizing::new(text.to_owned())))
    }

    /// The digits, for whoever may join.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

fn check_digit(seven: u32) -> u32 {
    let (mut rest, mut sum, mut weight) = (seven, 0, 3);
    while rest > 0 {
        sum += weight * (rest % 10);
        weight = 4 - weight;
        rest /= 10;
    }
    (10 - sum % 10) % 10
}

fn random_text(length: usize, rng: &mut dyn RngCore) -> Zeroizing<String> {
    let letter = |_| char::from(LETTERS[(rng.next_u32() % 32) as usize]);
    Zeroizing::new((0..length).map(letter).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    proptest! {
        #[test]
        fn every_name_makes_an_ssid_and_every_passphrase_that_is_made_is_one(name in ".{0,40}", seed: u64) {
            let made = Credentials::generate(&name, &mut ChaCha20Rng::seed_from_u64(seed));
            prop_assert!(Ssid::new(made.ssid.as_bytes()) == Ok(made.ssid.clone()));
            prop_assert!(made.ssid.to_string().starts_with(PREFIX));
            prop_assert!(std::str::from_utf8(made.ssid.as_bytes()).is_ok());
            prop_assert!(Passphrase::new(made.passphrase.expose()).is_ok_and(|same| same == made.passphrase));
        }

        #[test]
        fn a_pin_that_is_made_is_one_and_no_other_digit_fits(seed: u64, wrong in 1u32..10) {
            let pin = Pin::generate(&mut ChaCha20Rng::seed_from_u64(seed));
            prop_assert!(Pin::new(pin.expose()).is_some());
            let last: u32 = pin.expose()[7..].parse().unwrap();
            let other = format!("{}{}", &pin.expose()[..7], (last + wrong) % 10);
            prop_assert!(Pin::new(&other).is_none());
        }
    }

    #[test]
    fn a_key_is_the_one_of_the_standards_own_vectors() {
        // IEEE 802.11-2020, J.4.2.
        let key = |passphrase: &str, ssid: &str| {
            let psk = Passphrase::new(passphrase).unwrap().psk(&Ssid::new(ssid.as_bytes()).unwrap());
            psk.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(
            key("password", "IEEE"),
            "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"
        );
        assert_eq!(
            key("ThisIsAPassword", "ThisIsASSID"),
            "0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af"
        );
    }

    #[test]
    fn what_is_no_passphrase_ssid_or_pin_is_refused() {
        for text in ["", "1234567", "ünderground", "a\nbcdefgh", &"x".repeat(64)] {
            assert!(Passphrase::new(text).is_err(), "{text}");
        }
        assert_eq!(Ssid::new(b""), Err(CredentialError::Ssid(0)));
        assert_eq!(Ssid::new(&[1; 33]), Err(CredentialError::Ssid(33)));
        // The WSC specification's own example of a PIN is 12345670.
        assert!(Pin::new("12345670").is_some());
        for text in ["12345678", "1234567", "+2345670", "1234567a", ""] {
            assert!(Pin::new(text).is_none(), "{text}");
        }
    }
}
