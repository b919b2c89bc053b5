//! What is inside the seal: one line of `key=value` text, percent-encoded (RFC 3986 §2.1), then the content.
//!
//! The line is text so that `gpg --decrypt FILE | tail -n +2` gives the content to someone without this program.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use crate::time::UnixTime;

/// What stands for itself: letters, digits, and what is usual in file names.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/');

/// The longest first line, in bytes, line end included.
pub const MAX_LINE: usize = 8 * 1024;

/// Why opened bytes have no readable first line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// No line end within [`MAX_LINE`].
    #[error("sealed content has no first line of at most {MAX_LINE} bytes")]
    NoLine,
    /// It names no collection.
    #[error("sealed content names no collection")]
    NoCollection,
    /// A value is not what its key asks for.
    #[error("sealed content: {key} is not {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// Too long to be written.
    #[error("names are too long: {0} bytes together, at most {MAX_LINE}")]
    TooLong(usize),
}

/// What only the destination and the collection's readers learn, beside the content itself.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Label {
    /// Collection (`c`).
    pub collection: String,
    /// Record key (`r`).
    pub record: Option<String>,
    /// Exact time by the author's clock, when that is trusted (`t`, Unix seconds).
    pub time: Option<UnixTime>,
    /// File name as the author's system has it, bytes that need not be UTF-8; may have `/` between folders (`n`).
    pub file_name: Option<Vec<u8>>,
}

/// Shows nothing of it: it is sealed with the content.
impl std::fmt::Debug for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Label").finish_non_exhaustive()
    }
}

impl Label {
    /// The first line, line end included.
    pub fn encode(&self) -> Result<Vec<u8>, ContentError> {
        let mut line = String::from("c=");
        push_encoded(&mut line, self.collection.as_bytes());
        if let Some(record) = &self.record {
            line.push_str("&r=");
            push_encoded(&mut line, record.as_bytes());
        }
        if let Some(time) = self.time {
            line.push_str("&t=");
            line.push_str(&time.0.to_string());
        }
        if let Some(name) = &self.file_name {
            line.push_str("&n=");
            push_encoded(&mut line, name);
        }
        line.push('\n');
        if line.len() > MAX_LINE {
            return Err(ContentError::TooLong(line.len()));
        }
        Ok(line.into_bytes())
    }

    /// Reads the first line off opened bytes: the label, and where the content begins. Unknown keys are skipped.
    pub fn parse(opened: &[u8]) -> Result<(Label, usize), ContentError> {
        let head = opened.get(..MAX_LINE).unwrap_or(opened);
        let end = head.iter().position(|&byte| byte == b'\n').ok_or(ContentError::NoLine)?;
        let mut label = Label::default();
        let mut named = false;
        for pair in head[..end].split(|&byte| byte == b'&') {
            let (key, value) = match pair.iter().position(|&byte| byte == b'=') {
                Some(at) => (&pair[..at], decode(&pair[at + 1..])),
                None => continue,
            };
            let text = |key| {
                String::from_utf8(value.clone())
                    .map_err(|_| ContentError::Value { key, expected: "UTF-8 text" })
            };
            match key {
                b"c" => (label.collection, named) = (text("c (collection)")?, true),
                b"r" => label.record = Some(text("r (record)")?),
                b"t" => {
                    let wrong = ContentError::Value { key: "t (time)", expected: "Unix seconds below 2^40" };
                    let seconds = text("t (time)")?.parse().map_err(|_| wrong.clone())?;
                    label.time = Some(UnixTime(seconds)).filter(|time| *time < UnixTime::LIMIT);
                    label.time.ok_or(wrong)?;
                }
                b"n" => label.file_name = Some(value),
                _ => {}
            }
        }
        match named {
            true => Ok((label, end + 1)),
            false => Err(ContentError::NoCollection),
        }
    }
}

fn push_encoded(line: &mut String, bytes: &[u8]) {
    line.extend(percent_encode(bytes, PLAIN));
}

fn decode(value: &[u8]) -> Vec<u8> {
    percent_decode(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn labels_come_back_as_they_were(
            collection in ".{1,20}",
            record in proptest::option::of(".{0,20}"),
            time in proptest::option::of(0u64..1 << 40),
            file_name in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
            content: Vec<u8>,
        ) {
            let label = Label { collection, record, time: time.map(UnixTime), file_name };
            let mut opened = label.encode().unwrap();
            let line = opened.len();
            opened.extend(&content);
            prop_assert_eq!(Label::parse(&opened).unwrap(), (label, line));
        }

        #[test]
        fn any_bytes_are_a_label_or_an_error(bytes: Vec<u8>) {
            let _ = Label::parse(&bytes);
        }
    }

    #[test]
    fn a_label_is_short_and_readable() {
        let label = Label {
            collection: "forms".into(),
            time: Some(UnixTime(1_795_236_000)),
            file_name: Some(b"a b\n.xml".to_vec()),
            record: None,
        };
        assert_eq!(label.encode().unwrap(), b"c=forms&t=1795236000&n=a%20b%0A.xml\n");
        assert_eq!(Label::parse(b"x=1\n"), Err(ContentError::NoCollection));
        assert_eq!(Label::parse(b"c=forms"), Err(ContentError::NoLine));
        let late = Label::parse(b"c=f&t=1099511627776\n").unwrap_err();
        assert_eq!(late.to_string(), "sealed content: t (time) is not Unix seconds below 2^40");
    }
}
