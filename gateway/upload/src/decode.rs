//! What a destination's server answers, from its bytes.

use std::io::{self, Read};

use bytes::Bytes;
use prost::Message as _;
use waypost_protocol::api::{Answer, Info};
use waypost_remote_log::ContentHash;

use crate::error::plain;

/// Server information in JSON. An error is for people.
pub fn info(bytes: &[u8]) -> Result<Info, String> {
    serde_json::from_slice(bytes).map_err(|error| plain(&error.to_string()))
}

/// The answer about `documents` documents. An error is for people.
pub fn answer(bytes: &[u8], documents: usize) -> Result<Answer, String> {
    check_counts(bytes, documents)?;
    Answer::decode(bytes).map_err(|error| plain(&error.to_string()))
}

/// Refuses an answer with more parts than there can be, before it is decoded to many times its size.
fn check_counts(bytes: &[u8], documents: usize) -> Result<(), String> {
    use prost::encoding::{DecodeContext, decode_key, skip_field};
    let mut rest = bytes;
    let mut parts = 0;
    while !rest.is_empty() {
        let (tag, wire) = decode_key(&mut rest).map_err(|error| plain(&error.to_string()))?;
        skip_field(wire, tag, &mut rest, DecodeContext::default())
            .map_err(|error| plain(&error.to_string()))?;
        parts += 1;
        // A confirmation and a failure for each, the bitmap and the cursor.
        if parts > documents.saturating_mul(2).saturating_add(2) {
            return Err(format!("it has more than {parts} parts for {documents} documents"));
        }
    }
    Ok(())
}

/// What the body of a refusal says, for people.
pub fn refusal(body: &[u8]) -> String {
    plain(&words_of(body))
}

/// Of problem details (RFC 9457) the detail, else the title; of anything else the text.
fn words_of(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct ProblemDetails {
        #[serde(default)]
        title: String,
        #[serde(default)]
        detail: String,
    }
    match serde_json::from_slice(body) {
        Ok(ProblemDetails { title, detail }) if detail.trim().is_empty() => title,
        Ok(ProblemDetails { detail, .. }) => detail,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

/// Contents after their lengths, each with the bytes that it should have. What had come whole before the line broke is not lost.
pub fn contents(reader: &mut dyn Read, wanted: &[(ContentHash, u64)]) -> io::Result<Vec<Option<Bytes>>> {
    let mut found: Vec<Option<Bytes>> = vec![None; wanted.len()];
    for ((_, size), slot) in wanted.iter().zip(&mut found) {
        let mut length = [0; 4];
        let read = reader.read_exact(&mut length).and_then(|()| {
            let length = u64::from(u32::from_be_bytes(length));
            if length > *size {
                // The log lies about it: what follows comes by itself.
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut bytes = Vec::new();
            match reader.take(length).read_to_end(&mut bytes)? as u64 == length {
                true => Ok((length > 0).then(|| Bytes::from(bytes))),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        });
        match read {
            Ok(bytes) => *slot = bytes,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => break,
            Err(error) if found.iter().all(Option::is_none) => return Err(error),
            Err(_) => break,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_problem_details_people_are_told_the_detail() {
        let problem = br#"{"type":"urn:x","title":"Not known","status":401,"detail":"give the token"}"#;
        assert_eq!(words_of(problem), "give the token");
        assert_eq!(words_of(br#"{"title":"Not known"}"#), "Not known");
        assert_eq!(words_of(b"come back later\n"), "come back later\n");
        assert_eq!(words_of(br#"{"detail":"cut"#), "{\"detail\":\"cut");
        assert_eq!(words_of(b"{}"), "");
    }

    #[test]
    fn an_answer_with_too_many_parts_is_refused_before_it_is_decoded() {
        let failures = vec![waypost_protocol::api::Failure::default(); 3];
        let bytes = Answer { failures, ..Answer::default() }.encode_to_vec();
        assert!(check_counts(&bytes, 1).is_ok());
        let bytes = bytes.repeat(1_000);
        assert!(check_counts(&bytes, 1).unwrap_err().contains("more than"));
        assert!(check_counts(&[0xff; 4], 1).is_err());
    }

    fn framed(contents: &[&[u8]]) -> Vec<u8> {
        let frame =
            |content: &&[u8]| [&u32::try_from(content.len()).unwrap().to_be_bytes(), *content].concat();
        contents.iter().flat_map(frame).collect()
    }

    fn read(bytes: &[u8], sizes: &[u64]) -> io::Result<Vec<Option<Bytes>>> {
        let wanted: Vec<_> = sizes.iter().map(|size| (ContentHash([7; 32]), *size)).collect();
        contents(&mut &*bytes, &wanted)
    }

    #[test]
    fn contents_come_after_their_lengths_and_absent_ones_are_empty() {
        let found = read(&framed(&[b"one", b"", b"three"]), &[3, 10, 5]).unwrap();
        assert_eq!(found, [Some(Bytes::from("one")), None, Some(Bytes::from("three"))]);
    }

    #[test]
    fn a_log_that_lies_about_a_length_is_no_fault_of_the_place() {
        // The first one is the one that is lied about: the others come by themselves.
        assert_eq!(read(&framed(&[b"longer", b"two"]), &[3, 3]).unwrap(), [None, None]);
        assert_eq!(read(&framed(&[b"one", b"longer"]), &[3, 3]).unwrap(), [Some(Bytes::from("one")), None]);
    }

    #[test]
    fn a_line_that_breaks_costs_what_had_not_come() {
        let bytes = framed(&[b"one", b"two"]);
        assert_eq!(read(&bytes[..9], &[3, 3]).unwrap(), [Some(Bytes::from("one")), None]);
        assert_eq!(read(&bytes[..5], &[3, 3]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
