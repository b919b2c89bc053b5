//! What a destination's server answers, and what a network answers in its place.

use prost::Message as _;
use waypost_protocol::api::{self, Info};
use waypost_remote_log::ContentHash;
use waypost_upload::decode;
use waypost_upload::portal::{Told, page_in};

/// The longest text of a stranger that people are shown, in characters, escaped: see `waypost_upload::error::plain`.
const MAX_SHOWN: usize = 200 * 10 + 1;

/// The first byte says what is asked for, the second how much of it.
pub fn http(data: &[u8]) -> bool {
    let [what, count, bytes @ ..] = data else { return false };
    let count = usize::from(*count);
    match what % 5 {
        0 => is_answer(bytes, count),
        1 => is_info(bytes),
        2 => {
            let words = decode::refusal(bytes);
            is_for_people(&words);
            !words.is_empty()
        }
        3 => match page_in("example.org", bytes) {
            Told::Page(page) => {
                is_for_people(&page);
                true
            }
            Told::More | Told::Nothing => false,
        },
        _ => are_contents(bytes, count),
    }
}

fn is_answer(bytes: &[u8], documents: usize) -> bool {
    match decode::answer(bytes, documents) {
        Ok(answer) => {
            assert!(answer.confirmations.len() + answer.failures.len() <= 2 * documents + 2);
            assert_eq!(decode::answer(&answer.encode_to_vec(), documents).as_ref(), Ok(&answer));
            assert!(!api::bit(&answer.held, answer.held.len() * 8));
            true
        }
        Err(error) => {
            is_for_people(&error);
            false
        }
    }
}

fn is_info(bytes: &[u8]) -> bool {
    match decode::info(bytes) {
        Ok(info) => {
            let again: Info =
                decode::info(&serde_json::to_vec(&info).expect("it was JSON")).expect("it was read");
            assert_eq!(again, info);
            true
        }
        Err(error) => {
            is_for_people(&error);
            false
        }
    }
}

/// Each of the size that its place has, and one that may be larger.
fn are_contents(bytes: &[u8], count: usize) -> bool {
    let wanted: Vec<_> = (0..count).map(|at| (ContentHash([7; 32]), at as u64)).collect();
    let Ok(found) = decode::contents(&mut &*bytes, &wanted) else { return false };
    assert_eq!(found.len(), wanted.len());
    for (content, (_, size)) in found.iter().zip(&wanted) {
        assert!(content.as_ref().is_none_or(|content| (1..=*size).contains(&(content.len() as u64))));
    }
    found.iter().any(Option::is_some)
}

fn is_for_people(text: &str) {
    assert!(text.chars().count() <= MAX_SHOWN, "{} characters", text.chars().count());
    assert!(!text.contains(char::is_control), "{text:?}");
}
