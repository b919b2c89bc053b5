//! Texts made fit for a terminal: names of strangers, sizes, spans.

use std::time::Duration;

/// Characters of a name that are shown.
const MAX_SHOWN: usize = 200;
/// Fewer digits of a key or fingerprint name nothing: a slip of the finger shall not remove something.
const MIN_DIGITS: usize = 4;

/// Whether a user who typed `text` means what has this name and this key or fingerprint: the whole name, in capitals or
/// not, or the beginning of the digits, in groups or not.
pub(crate) fn means(text: &str, name: &str, digits: &str) -> bool {
    let text = text.trim();
    let typed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let begins = digits.get(..typed.len()).is_some_and(|start| start.eq_ignore_ascii_case(&typed));
    !text.is_empty() && name.to_lowercase() == text.to_lowercase() || typed.len() >= MIN_DIGITS && begins
}

/// Text of a stranger without what steers a terminal or misleads a reader: control and direction characters are
/// escaped, too long a text is cut.
pub fn plain(text: &str) -> String {
    waypost_upload::error::plain(text)
}

/// The bytes of a file's name, for people: what is no UTF-8 or steers a terminal is escaped.
pub fn file_name(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        let hidden = |c: char| {
            c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        };
        for c in chunk.valid().chars() {
            match hidden(c) {
                true => out.extend(c.escape_default()),
                false => out.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
    }
    match out.char_indices().nth(MAX_SHOWN) {
        Some((at, _)) => format!("{}…", &out[..at]),
        None => out,
    }
}

/// A size in bytes, for people.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// A span in seconds with one decimal.
pub fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

/// `1 document`, `2 documents`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_cannot_steer_a_terminal() {
        assert_eq!(file_name(b"a\n\x1b[31m\xff'\".xml"), "a\\n\\u{1b}[31m\\xff'\".xml");
        assert_eq!(file_name("größe 日本.txt".as_bytes()), "größe 日本.txt");
        assert_eq!(file_name(&[b'x'; 300]).chars().count(), MAX_SHOWN + 1);
    }

    #[test]
    fn nothing_is_meant_by_nothing_by_part_of_a_name_or_by_few_digits() {
        let is_meant = |text: &str| means(text, "Clinic North", "0A1B2C3D");
        for text in ["Clinic North", " clinic north ", "0A1B", "0a1b 2c3d", "0A1B2C3D"] {
            assert!(is_meant(text), "{text}");
        }
        for text in ["", "  ", "Clinic", "North", "0A1", "A1B2", "0A1B2C3D0", "é"] {
            assert!(!is_meant(text), "{text}");
        }
        assert!(!means("", "", "0A1B2C3D"));
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1_500), "1.5 kB");
        assert_eq!(size(104_857_600), "104.9 MB");
    }
}
