//! What the running gateway says, asked by its own command.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How the gateway is: what is shown of `waypost status --json`. What a gateway of another version lacks is empty.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Program version.
    pub version: String,
    /// The gateway's name.
    pub name: String,
    /// The gateway's static key, in hexadecimal digits.
    pub key: String,
    /// Phones in conversation now.
    pub sessions: u64,
    /// Phones that wait for their turn.
    pub in_line: u64,
    /// Documents on their way to a destination.
    pub waiting: u64,
    /// Documents that destinations have opened.
    pub opened: u64,
    /// Documents that destinations hold unopened.
    pub held: u64,
    /// Documents that destinations have rejected.
    pub rejected: u64,
    /// Bytes that the store may still take.
    pub room: u64,
    /// Interfaces with a default route.
    pub networks: Option<Vec<String>>,
    /// Bluetooth adapters.
    pub bluetooth: Vec<Adapter>,
    /// Each destination that is served.
    pub destinations: Vec<Destination>,
    /// What of the configuration could not be used.
    pub problems: Vec<String>,
    /// What needs somebody's attention.
    pub notices: Vec<Notice>,
    /// When a document was last uploaded, Unix seconds.
    pub last_upload: Option<i64>,
    /// Whether the gateway relies on the clock.
    pub clock_trusted: Option<bool>,
    /// Pairing codes that phones have used up since it was started.
    pub codes_used: u64,
}

/// What needs somebody's attention.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Notice {
    /// What kind of thing it is.
    pub about: String,
    /// In words.
    pub text: String,
}

/// A Bluetooth adapter.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Adapter {
    /// Its name, such as hci0; empty where there is none.
    pub name: String,
    /// How it is.
    pub state: String,
    /// Why it is not ready, or nothing.
    pub why: String,
}

/// A destination.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Destination {
    /// Its name in the configuration.
    pub name: String,
    /// Its first fingerprint.
    pub fingerprint: String,
    /// How it can be reached.
    pub state: String,
    /// What is wrong and what to do, where something is.
    pub trouble: Option<String>,
    /// Documents uploaded since the start.
    pub uploaded: u64,
    /// Bytes of the upload under way: sent and in all.
    pub progress: Option<(u64, u64)>,
}

/// A pairing code.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Code {
    /// What the QR code says.
    pub text: String,
    /// For how long it can be used.
    pub valid_seconds: u64,
}

/// Shows no code.
impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code").field("valid_seconds", &self.valid_seconds).finish_non_exhaustive()
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The command cannot be run.
    #[error("{program} cannot be run: {why}")]
    NoProgram {
        /// Which one.
        program: String,
        /// The system's error.
        why: String,
    },
    /// The gateway does not run, or refuses; in its own words.
    #[error("{0}")]
    Refused(String),
    /// What it says is not understood.
    #[error("the gateway's answer is not understood ({0}); is it of another version?")]
    Unclear(String),
}

/// The gateway's command.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// The program.
    pub program: PathBuf,
}

impl Gateway {
    /// How it is.
    pub fn status(&self) -> Result<Status, AskError> {
        self.ask(&["status"])
    }

    /// A new pairing code.
    pub fn pair(&self) -> Result<Code, AskError> {
        self.ask(&["pair"])
    }

    fn ask<T: DeserializeOwned>(&self, words: &[&str]) -> Result<T, AskError> {
        let answer = self.run(words)?;
        if let Ok(refusal) = serde_json::from_slice::<Refusal>(&answer) {
            return Err(AskError::Refused(refusal.error));
        }
        serde_json::from_slice(&answer).map_err(|error| AskError::Unclear(error.to_string()))
    }

    fn run(&self, words: &[&str]) -> Result<Vec<u8>, AskError> {
        let out = Command::new(&self.program).arg("--json").args(words).stdin(Stdio::null()).output();
        let failed = |error: std::io::Error| AskError::NoProgram {
            program: self.program.display().to_string(),
            why: error.to_string(),
        };
        out.map(|out| out.stdout).map_err(failed)
    }
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}
