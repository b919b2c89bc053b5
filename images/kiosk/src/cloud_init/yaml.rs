//! YAML as a tree with the line of each value. Aliases are refused, depth and size are bounded: a small file cannot
//! become a large tree.

use saphyr_parser::{Event, Parser, ScalarStyle};

/// Deeper files are refused; cloud-init's need six levels.
const MAX_DEPTH: usize = 32;
/// Files with more values are refused.
const MAX_NODES: usize = 20_000;

/// A value and the line where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// From 1.
    pub line: usize,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text, number or truth value, as it is written.
    Text(String),
    /// Nothing.
    Null,
    /// A list.
    List(Vec<Node>),
    /// Keys and their values, in order.
    Map(Vec<(String, Node)>),
}

/// Why a text is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not YAML that is understood: {why}")]
pub struct YamlError {
    /// From 1.
    pub line: usize,
    /// In words.
    pub why: String,
}

impl Node {
    /// The text, where it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value, where it is one as YAML 1.1 writes them.
    pub fn truth(&self) -> Option<bool> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => None,
        }
    }

    /// The list, where it is one.
    pub fn list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// Keys and values, where it has some.
    pub fn map(&self) -> Option<&[(String, Node)]> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.map()?.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

/// A list or map whose end has not come.
enum Open {
    List(Vec<Node>, usize),
    Map(Vec<(String, Node)>, Option<String>, usize),
}

/// Reads the first document of a text; absent where there is none.
pub fn read(text: &str) -> Result<Option<Node>, YamlError> {
    let (mut open, mut root, mut nodes): (Vec<Open>, Option<Node>, usize) = (Vec::new(), None, 0);
    let mut parser = Parser::new_from_str(text);
    loop {
        let Some(next) = parser.next_event() else { return Ok(root) };
        let (event, span) = next.map_err(|error| YamlError {
            line: error.marker().line().max(1),
            why: error.info().to_owned(),
        })?;
        let line = span.start.line().max(1);
        let refuse = |why: &str| Err(YamlError { line, why: why.to_owned() });
        nodes += 1;
        if nodes > MAX_NODES || open.len() > MAX_DEPTH {
            return refuse("it is too large or too deep");
        }
        let node = match event {
            Event::Alias(_) => return refuse("references (*) are not followed; write the value itself"),
            Event::Scalar(text, style, ..) => {
                let is_null = style == ScalarStyle::Plain && matches!(text.as_ref(), "" | "~" | "null");
                let value = if is_null { Value::Null } else { Value::Text(text.into_owned()) };
                Node { value, line }
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new(), line));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Vec::new(), None, line));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list, line)) => Node { value: Value::List(list), line },
                Some(Open::Map(map, _, line)) => Node { value: Value::Map(map), line },
                None => return refuse("it ends more than it begins"),
            },
            Event::DocumentEnd | Event::StreamEnd => return Ok(root),
            _ => continue,
        };
        match open.last_mut() {
            None => root = Some(node),
            Some(Open::List(list, _)) => list.push(node),
            Some(Open::Map(map, key, _)) => match (key.take(), node.value) {
                (Some(key), value) => map.push((key, Node { value, line: node.line })),
                (None, Value::Text(text)) => *key = Some(text),
                (None, Value::Null) => *key = Some(String::new()),
                (None, _) => return refuse("a key is no text"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_lines() {
        let root = read("a: 1\nb:\n  - x\n  - {c: yes, d: ~}\n").unwrap().unwrap();
        let list = root.get("b").unwrap().list().unwrap();
        assert_eq!((list[0].text(), list[0].line), (Some("x"), 3));
        assert_eq!(list[1].get("c").unwrap().truth(), Some(true));
        assert_eq!(list[1].get("d").unwrap().value, Value::Null);
    }

    #[test]
    fn small_files_do_not_become_large_trees() {
        let bomb = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n";
        assert_eq!(read(bomb).unwrap_err().line, 2);
        assert!(read(&"[".repeat(1 << 20)).is_err());
        assert!(read(&"- ".repeat(1 << 16)).is_err());
        assert!(read(&"a: {".repeat(1 << 16)).is_err());
        assert!(read(&"- x\n".repeat(100_000)).is_err());
    }
}
