//! What is said of a kiosk before anyone has joined: P2P service discovery by DNS-SD, as Wi-Fi Direct packs it (Wi-Fi Direct
//! specification, 3.1.3 and Annex E, "Bonjour").
//!
//! Names end in a pointer into 27 bytes that both sides know and nobody sends, behind a DNS header of 12: `C0 0C` is
//! `_tcp.local.`, and `C0 27` the name that the query itself has.

/// The service, as on IP networks.
const SERVICE: &str = "_waypost";
const TCP_LOCAL: [u8; 2] = [0xc0, 0x0c];
const QUERY_NAME: [u8; 2] = [0xc0, 0x27];
const PTR: u16 = 12;
const TXT: u16 = 16;
const VERSION: u8 = 1;
/// The service protocol type "Bonjour" of a TLV.
const BONJOUR: u8 = 1;
/// The status code of a TLV whose service is there.
const SUCCESS: u8 = 0;
/// The longest label (RFC 1035, 2.3.4), and the longest string of a TXT record (RFC 6763, 6.1).
const MAX_LABEL: usize = 63;

/// A query, and what is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) query: Vec<u8>,
    pub(crate) response: Vec<u8>,
}

/// A Waypost near, as it says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    /// Its instance, which differs from every other kiosk's.
    pub instance: String,
    /// Its name for people, unproven.
    pub name: String,
    /// The highest protocol version that it says it speaks.
    pub version: String,
}

/// What a kiosk answers: that there is one of the service, and what its TXT record has. Both as on IP networks.
pub(crate) fn records(service: &Service) -> [Record; 2] {
    let mut text = Vec::new();
    for (key, value) in [("v", &service.version), ("n", &service.name)] {
        push_label(&mut text, cut(&format!("{key}={value}"), u8::MAX.into()));
    }
    let instance = cut(&service.instance, MAX_LABEL);
    let mut pointer = Vec::new();
    push_label(&mut pointer, instance);
    pointer.extend(QUERY_NAME);
    [
        Record { query: query(&[SERVICE], PTR), response: pointer },
        Record { query: query(&[instance, SERVICE], TXT), response: text },
    ]
}

/// Asks for everything that somebody says by this protocol.
pub(crate) fn ask_for_all() -> Vec<u8> {
    // Length of what follows, little-endian; protocol; transaction.
    vec![2, 0, BONJOUR, 1]
}

/// The Wayposts in an answer: TLVs of any protocol, in any order, from anybody.
pub(crate) fn read(mut tlvs: &[u8]) -> Vec<Service> {
    let mut found: Vec<Service> = Vec::new();
    let of = |found: &mut Vec<Service>, instance: &str| {
        found.iter().position(|one| one.instance == instance).unwrap_or_else(|| {
            found.push(Service { instance: instance.to_owned(), ..Service::default() });
            found.len() - 1
        })
    };
    while let Some((tlv, rest)) = take_tlv(tlvs) {
        tlvs = rest;
        let Some((labels, kind, response)) = take_query(tlv) else { continue };
        match (labels.as_slice(), kind) {
            ([service], PTR) if service.eq_ignore_ascii_case(SERVICE) => {
                if let Some((instance, end)) = take_label(response)
                    && end == QUERY_NAME
                {
                    of(&mut found, instance);
                }
            }
            ([instance, service], TXT) if service.eq_ignore_ascii_case(SERVICE) => {
                let at = of(&mut found, instance);
                let mut strings = response;
                while let Some((string, rest)) = take_string(strings) {
                    strings = rest;
                    match string.split_once('=') {
                        Some(("n", name)) => found[at].name = name.to_owned(),
                        Some(("v", version)) => found[at].version = version.to_owned(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn query(labels: &[&str], kind: u16) -> Vec<u8> {
    let mut out = Vec::new();
    labels.iter().for_each(|label| push_label(&mut out, label));
    out.extend(TCP_LOCAL);
    out.extend(kind.to_be_bytes());
    out.push(VERSION);
    out
}

fn push_label(out: &mut Vec<u8>, label: &str) {
    out.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
    out.extend(label.bytes());
}

/// As much of a text as fits, in whole characters.
fn cut(text: &str, room: usize) -> &str {
    let mut end = text.len().min(room);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What a TLV of ours has after its status.
fn take_tlv(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut bytes = bytes;
    loop {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (tlv, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        match tlv {
            [BONJOUR, _, SUCCESS, data @ ..] => return Some((data, rest)),
            _ => bytes = rest,
        }
    }
}

/// The labels before `_tcp.local.`, the type, and what follows.
fn take_query(bytes: &[u8]) -> Option<(Vec<&str>, u16, &[u8])> {
    let (mut labels, mut rest) = (Vec::new(), bytes);
    while let Some((label, after)) = take_label(rest) {
        labels.push(label);
        rest = after;
    }
    let rest = rest.strip_prefix(&TCP_LOCAL)?;
    let (kind, rest) = rest.split_first_chunk::<2>()?;
    let rest = rest.strip_prefix(&[VERSION])?;
    Some((labels, u16::from_be_bytes(*kind), rest))
}

fn take_label(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (text, rest) = take_string(bytes)?;
    (1..=MAX_LABEL).contains(&text.len()).then_some((text, rest))
}

fn take_string(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As wpa_supplicant puts the answer to "everything" together.
    fn answer(records: &[Record]) -> Vec<u8> {
        let mut out = Vec::new();
        for record in records {
            let length = u16::try_from(3 + record.query.len() + record.response.len()).unwrap();
            out.extend(length.to_le_bytes());
            out.extend([BONJOUR, 1, SUCCESS]);
            out.extend(&record.query);
            out.extend(&record.response);
        }
        out
    }

    proptest! {
        #[test]
        fn a_service_comes_back(instance in "[^\0]{1,20}", name in ".{0,64}", version in "[0-9]{1,3}") {
            let service = Service { instance: cut(&instance, MAX_LABEL).to_owned(), name: cut(&name, 250).to_owned(), version };
            prop_assert_eq!(read(&answer(&records(&service))), vec![service]);
        }

        #[test]
        fn any_bytes_are_services_or_none(bytes: Vec<u8>) {
            read(&bytes);
        }

        #[test]
        fn bytes_that_almost_are_services_do_no_harm(service in ".{1,30}", at in 0usize..60, byte: u8) {
            let mut bytes = answer(&records(&Service { instance: service, ..Service::default() }));
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            read(&bytes);
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_specifications_example_with_our_names() {
        // Its own: "045f697070c00c000c01" asks for _ipp._tcp, "094d795072696e746572c027" is MyPrinter._ipp._tcp.
        assert_eq!(query(&["_ipp"], PTR), b"\x04_ipp\xc0\x0c\x00\x0c\x01");
        let service =
            Service { instance: "Clinic (0a1b2c3d)".into(), name: "Clinic".into(), version: "1".into() };
        let [pointer, text] = records(&service);
        assert_eq!(pointer.query, b"\x08_waypost\xc0\x0c\x00\x0c\x01");
        assert_eq!(pointer.response, b"\x11Clinic (0a1b2c3d)\xc0\x27");
        assert_eq!(text.query, b"\x11Clinic (0a1b2c3d)\x08_waypost\xc0\x0c\x00\x10\x01");
        assert_eq!(text.response, b"\x03v=1\x08n=Clinic");
    }

    #[test]
    fn other_protocols_and_services_are_passed_over() {
        let ours = records(&Service { instance: "ours".into(), name: "Ours".into(), version: "1".into() });
        let printer = Record { query: query(&["_ipp"], PTR), response: b"\x02px\xc0\x27".to_vec() };
        let mut bytes = vec![4, 0, 2, 1, 0, 9]; // UPnP
        bytes.extend(answer(&[printer]));
        bytes.extend([3, 0, BONJOUR, 1, 1]); // "service protocol type not available"
        bytes.extend(answer(&ours));
        let names: Vec<String> = read(&bytes).into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["Ours"]);
    }
}
