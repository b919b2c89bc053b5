//! Going on over Wi-Fi: when it is worth it, and what a phone is told to come (`docs/protocol.md`, "Moving to Wi-Fi").

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::invite::CodeSecret;
use crate::mvds;

/// How much sooner a session has to end over Wi-Fi for the trouble of joining.
pub const GAIN: Duration = Duration::from_secs(5);
/// What joining takes: finding the network, the handshakes of Wi-Fi and of the session, an address.
pub const JOINING: Duration = Duration::from_secs(6);
/// What Wi-Fi carries at least where a phone is near, in bytes per second: 16 Mbit/s.
pub const WIFI_RATE: u64 = 2_000_000;
/// How long a token can be used.
pub const TOKEN_VALID: Duration = Duration::from_secs(60);
/// A rate that was measured over less time than this says little.
const MEASURED: Duration = Duration::from_secs(2);

/// Whether what is left, in bytes, goes so much sooner over Wi-Fi than at `rate` bytes per second that joining is worth it:
/// by more than [`GAIN`] (design §5).
pub fn is_worth(left: u64, rate: u64) -> bool {
    let nanoseconds = |bytes: u64, rate: u64| u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    let there = (JOINING + GAIN).as_nanos() + nanoseconds(left, WIFI_RATE);
    nanoseconds(left, rate) > there
}

/// What carries a session now, as far as it shows: `guess` bytes per second until it has been seen. A tenth of that at least:
/// a link that stands still for a moment goes on.
pub fn rate(moved: u64, within: Duration, guess: u64) -> u64 {
    match within >= MEASURED {
        true => {
            let seen = u128::from(moved) * 1_000 / within.as_millis().max(1);
            u64::try_from(seen).unwrap_or(u64::MAX).max(guess / 10)
        }
        false => guess,
    }
}

/// A network of the gateway's, as peers are told it. Shows nothing of itself when printed.
#[derive(Clone, PartialEq, Eq)]
pub struct WifiNetwork {
    /// The network's name, 1 to 32 bytes.
    pub ssid: Vec<u8>,
    /// Its WPA2 passphrase, 8 to 63 printable characters of ASCII.
    pub passphrase: Zeroizing<String>,
    /// The address of its access point.
    pub bssid: Option<[u8; 6]>,
    /// Where it is, in MHz; 0 where that is not said.
    pub frequency: u32,
    /// Where the gateway is in it; an address of IPv6 is link-local there.
    pub address: IpAddr,
    /// The port of its TCP links.
    pub port: u16,
}

impl fmt::Debug for WifiNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WifiNetwork")
    }
}

/// Such a network, and the token with which the session goes on there. Shows nothing of either when printed.
#[derive(Clone, PartialEq, Eq)]
pub struct WifiOffer {
    /// Where it goes on.
    pub network: WifiNetwork,
    /// The secret of the handshake that goes on with this session, once.
    pub token: CodeSecret,
    /// How long that is valid, in seconds.
    pub valid: u32,
}

impl fmt::Debug for WifiOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WifiOffer")
    }
}

impl WifiOffer {
    /// To the wire.
    pub fn to_wire(&self) -> mvds::Wifi {
        let WifiNetwork { ssid, passphrase, bssid, frequency, address, port } = &self.network;
        mvds::Wifi {
            ssid: Bytes::copy_from_slice(ssid),
            passphrase: Bytes::copy_from_slice(passphrase.as_bytes()),
            bssid: bssid.map(|bssid| Bytes::copy_from_slice(&bssid)).unwrap_or_default(),
            frequency: *frequency,
            address: match address {
                IpAddr::V4(address) => Bytes::copy_from_slice(&address.octets()),
                IpAddr::V6(address) => Bytes::copy_from_slice(&address.octets()),
            },
            port: (*port).into(),
            token: Bytes::copy_from_slice(self.token.expose()),
            valid: self.valid,
        }
    }

    /// From the wire; `None` where it cannot be used. Then the session stays where it is.
    pub fn from_wire(wire: &mvds::Wifi) -> Option<Self> {
        let passphrase = Zeroizing::new(std::str::from_utf8(&wire.passphrase).ok()?.to_owned());
        let is_passphrase = (8..=63).contains(&passphrase.len())
            && passphrase.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let address = match wire.address.len() {
            4 => Ipv4Addr::from(<[u8; 4]>::try_from(wire.address.as_ref()).ok()?).into(),
            _ => Ipv6Addr::from(<[u8; 16]>::try_from(wire.address.as_ref()).ok()?).into(),
        };
        let bssid = match wire.bssid.is_empty() {
            true => None,
            false => Some(wire.bssid.as_ref().try_into().ok()?),
        };
        let port = u16::try_from(wire.port).ok().filter(|port| *port > 0)?;
        let (ssid, frequency) = (wire.ssid.to_vec(), wire.frequency);
        let network = WifiNetwork { ssid, passphrase, bssid, frequency, address, port };
        ((1..=32).contains(&wire.ssid.len()) && is_passphrase).then_some(WifiOffer {
            network,
            token: CodeSecret::new(wire.token.as_ref().try_into().ok()?),
            valid: wire.valid,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn network() -> WifiNetwork {
        WifiNetwork {
            ssid: b"DIRECT-ab-Clinic".to_vec(),
            passphrase: Zeroizing::new("abcdefgh2345".to_owned()),
            bssid: Some([2, 0, 0, 0, 0, 1]),
            frequency: 5180,
            address: "fe80::1".parse().unwrap(),
            port: 4180,
        }
    }

    fn offer_of(network: WifiNetwork) -> WifiOffer {
        WifiOffer { network, token: CodeSecret::new([7; 16]), valid: 60 }
    }

    fn offer() -> WifiOffer {
        offer_of(network())
    }

    #[test]
    fn it_is_worth_it_from_where_wifi_is_done_more_than_five_seconds_sooner() {
        // At 100 kB/s: left / 100,000 > 11 s + left / 2,000,000 from 1,157,895 bytes on.
        assert!(!is_worth(1_157_894, 100_000));
        assert!(is_worth(1_157_895, 100_000));
        // Over GATT at 20 kB/s, and for a form.
        assert!(!is_worth(222_222, 20_000) && is_worth(222_223, 20_000));
        assert!(!is_worth(1_000, 20_000) && !is_worth(0, 1));
        // Nothing is gained where the link is as fast, and nothing overflows.
        assert!(!is_worth(u64::MAX, WIFI_RATE) && !is_worth(u64::MAX, u64::MAX) && is_worth(u64::MAX, 0));
    }

    #[test]
    fn a_rate_is_a_guess_until_it_was_seen_for_two_seconds() {
        let seconds = |seconds| Duration::from_millis(seconds);
        assert_eq!(rate(1_000_000, seconds(1_999), 100_000), 100_000);
        assert_eq!(rate(1_000_000, seconds(2_000), 100_000), 500_000);
        assert_eq!(rate(0, seconds(4_000), 100_000), 10_000, "it stands still for a moment");
        assert_eq!(rate(u64::MAX, seconds(2_000), 1), u64::MAX / 2);
    }

    #[test]
    fn an_offer_comes_back_and_does_not_show_its_secrets() {
        for address in ["fe80::1", "172.29.77.1"] {
            let offer = offer_of(WifiNetwork { address: address.parse().unwrap(), ..network() });
            assert!(WifiOffer::from_wire(&offer.to_wire()) == Some(offer));
        }
        let plain = offer_of(WifiNetwork { bssid: None, frequency: 0, ..network() });
        assert!(WifiOffer::from_wire(&plain.to_wire()) == Some(plain));
        assert_eq!(
            format!("{:?} {:?} {:?}", network(), offer(), offer().to_wire()),
            "WifiNetwork WifiOffer Wifi"
        );
    }

    #[test]
    fn an_offer_that_cannot_be_used_is_none() {
        let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        let good = || offer().to_wire();
        let wrong = [
            mvds::Wifi { ssid: Bytes::new(), ..good() },
            mvds::Wifi { ssid: bytes(&[1; 33]), ..good() },
            mvds::Wifi { passphrase: bytes(b"1234567"), ..good() },
            mvds::Wifi { passphrase: bytes(&[b'a'; 64]), ..good() },
            mvds::Wifi { passphrase: bytes(b"12345678\n"), ..good() },
            mvds::Wifi { passphrase: bytes(&[0xff; 8]), ..good() },
            mvds::Wifi { bssid: bytes(&[1; 5]), ..good() },
            mvds::Wifi { address: bytes(&[1; 5]), ..good() },
            mvds::Wifi { address: Bytes::new(), ..good() },
            mvds::Wifi { port: 0, ..good() },
            mvds::Wifi { port: 65_536, ..good() },
            mvds::Wifi { token: bytes(&[1; 15]), ..good() },
        ];
        assert!(wrong.iter().all(|wire| WifiOffer::from_wire(wire).is_none()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_offer_or_none(bytes: Vec<u8>) {
            if let Ok(wire) = mvds::Wifi::decode(bytes.as_slice()) {
                let _ = WifiOffer::from_wire(&wire);
            }
        }
    }
}
