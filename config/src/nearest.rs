//! Finds the word that was probably meant.

/// Longer words are no typing mistakes of our keys, and comparing costs time in proportion.
const MAX_LENGTH: usize = 64;

/// The known word nearest to `word`: at most a third of its letters (and one in the shortest) inserted, left out,
/// replaced, or two neighbours swapped; or a word that it begins with and that is at least half of it. Case counts for nothing, `-` and `_` are the same. None where nothing is near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_LENGTH {
        return None;
    }
    let folded = fold(word);
    let allowed = (folded.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(&folded, &fold(candidate), allowed), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn distance(word: &str, known: &str, allowed: usize) -> usize {
    let is_longer_form = known.len() >= 3 && word.len() <= 2 * known.len() && word.starts_with(known);
    let distance = strsim::osa_distance(word, known);
    if is_longer_form { distance.min(allowed) } else { distance }
}

fn fold(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_find_their_word() {
        let known = ["access", "store", "control", "log", "lan", "max_document"];
        for (typed, meant) in [
            ("acess", "access"),
            ("Access", "access"),
            ("sotre", "store"),
            ("contorl", "control"),
            ("logs", "log"),
            ("controller", "control"),
            ("max-documents", "max_document"),
        ] {
            assert_eq!(nearest(typed, known), Some(meant), "{typed}");
        }
    }

    #[test]
    fn words_that_are_far_from_all_find_none() {
        for word in ["", "x", "bluetooth", "accessibility", &"a".repeat(1 << 20)] {
            assert_eq!(nearest(word, ["access", "store", "log"]), None);
        }
    }
}
