//! Why a request failed, whether the destination may have processed it all the same, and what to do next.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use waypost_protocol::api::FailureCode;
use waypost_protocol::ids::MessageId;

/// Text of others is cut to so many characters.
const MAX_DETAIL: usize = 200;

/// A request that did not get its answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The destination has processed nothing of it, or said no. Sending it again later costs nothing twice.
    #[error("{0}")]
    Definite(Cause),
    /// The destination may have processed it, whole or in part: ask with `have` before sending it again.
    #[error("{0} (the destination may have some of it; that will be asked before anything is sent again)")]
    Ambiguous(Cause),
}

impl Error {
    /// What went wrong.
    pub fn cause(&self) -> &Cause {
        match self {
            Error::Definite(cause) | Error::Ambiguous(cause) => cause,
        }
    }

    /// Whether the destination may have processed the request.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Error::Ambiguous(_))
    }

    /// What went wrong, as a name.
    pub fn kind(&self) -> Kind {
        self.cause().kind()
    }

    pub(crate) fn new(cause: Cause, ambiguous: bool) -> Self {
        if ambiguous { Error::Ambiguous(cause) } else { Error::Definite(cause) }
    }
}

/// What went wrong. Text that came from the network is cut short and has its control characters escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// No network leads there.
    #[error("no network leads to {host}; connect a backhaul, and uploading goes on by itself")]
    NoRoute {
        /// Host of the URL.
        host: String,
    },
    /// The host's name did not resolve.
    #[error(
        "the name {host} cannot be resolved ({detail}); check the backhaul's DNS and the destination's url"
    )]
    DnsFailed {
        /// Host of the URL.
        host: String,
        /// What the resolver said.
        detail: String,
    },
    /// No TCP connection.
    #[error(
        "cannot connect to {host} ({detail}); check that the server runs and that no firewall is in between"
    )]
    ConnectFailed {
        /// Host and port tried.
        host: String,
        /// What the system said.
        detail: String,
    },
    /// The TLS handshake failed, on our or on the server's side.
    #[error("no trusted TLS connection to {host}: {detail}")]
    TlsRefused {
        /// Host of the URL.
        host: String,
        /// Why, and what to do about it.
        detail: String,
    },
    /// No backhaul may be used now: its hours or its budget are over.
    #[error("{detail}")]
    BackhaulClosed {
        /// Which, why, and what to do.
        detail: String,
    },
    /// The network answers in the place of the destination.
    #[error(
        "the network wants a login first: open {page} in a browser behind this gateway's connection, and log in"
    )]
    CaptivePortal {
        /// Where it sends browsers.
        page: String,
    },
    /// Statuses 401 and 403.
    #[error(
        "the destination does not accept this device's credentials (HTTP {status}{detail}); \
         have its admin run `waypost-destination gateways add` and enter the token or certificate here"
    )]
    NotAuthorised {
        /// HTTP status.
        status: u16,
        /// What the server said: empty, or ": " and the text.
        detail: String,
    },
    /// Whoever answered is not our destination: a captive portal, a redirect, another server, another fingerprint.
    #[error(
        "not the expected destination: {detail}; check the url, and whether the network wants a login first"
    )]
    WrongServer {
        /// What gave it away.
        detail: String,
    },
    /// The destination speaks no API version or media type that we do.
    #[error("the destination and this program do not understand each other: {detail}; update the older one")]
    Incompatible {
        /// What does not fit.
        detail: String,
    },
    /// Status 507.
    #[error(
        "the destination has no room left{detail}; its admin must free some, and uploading goes on by itself"
    )]
    Full {
        /// What the server said: empty, or ": " and the text.
        detail: String,
    },
    /// Status 413, or more than the destination said that it takes.
    #[error(
        "larger than the destination takes{detail}; ask its admin to raise the limit, or send less at once"
    )]
    TooLarge {
        /// What the server said: empty, or ": " and the text.
        detail: String,
    },
    /// Statuses 400, 409, 422 and their like: this request is refused as it is.
    #[error(
        "the destination refuses the request as malformed (HTTP {status}{detail}); update the older program"
    )]
    Malformed {
        /// HTTP status.
        status: u16,
        /// What the server said: empty, or ": " and the text.
        detail: String,
    },
    /// The destination refuses one document for what it is, or could not take it now.
    #[error("the destination does not take this document ({}{detail})", words(*code))]
    DocumentRefused {
        /// Why.
        code: FailureCode,
        /// What the server said: empty, or ": " and the text.
        detail: String,
    },
    /// Statuses from 500 on, and 429.
    #[error(
        "the destination failed (HTTP {code}{detail}); it will be tried again, its admin may look in its log"
    )]
    ServerError {
        /// HTTP status.
        code: u16,
        /// What the server said: empty, or ": " and the text.
        detail: String,
        /// How long the server wants to be left alone (`Retry-After`, RFC 9110 §10.2.3).
        retry_after: Option<Duration>,
    },
    /// Nothing moved for too long.
    #[error("timed out while {during} {host}; it will be tried again")]
    Timeout {
        /// Host of the URL.
        host: String,
        /// What was being done.
        during: Phase,
    },
    /// The connection broke after it was made.
    #[error("the connection to {host} was lost ({detail}); it will be tried again")]
    ConnectionLost {
        /// Host of the URL.
        host: String,
        /// What the system said.
        detail: String,
    },
    /// An answer that is too long, cut short or no protobuf.
    #[error(
        "the destination's answer is unreadable ({detail}); it will be tried again, update the older program"
    )]
    Unreadable {
        /// Why.
        detail: String,
    },
    /// A document could not be read from the store while it was being sent.
    #[error("document {id} cannot be read here ({detail}); run `waypost store check`")]
    Local {
        /// The document.
        id: MessageId,
        /// What the store said.
        detail: String,
    },
    /// The client was stopped.
    #[error("stopped before it was finished; it will be tried again after the next start")]
    Stopped,
}

/// What was being done when time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Opening the TCP connection or the TLS handshake.
    Connecting,
    /// Sending the request.
    Sending,
    /// Waiting for the answer or reading it.
    Answering,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Phase::Connecting => "connecting to",
            Phase::Sending => "sending to",
            Phase::Answering => "waiting for an answer from",
        })
    }
}

/// The name of a [`Cause`], as `status --json` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is documented at the cause of the same name")]
pub enum Kind {
    NoRoute,
    DnsFailed,
    ConnectFailed,
    TlsRefused,
    CaptivePortal,
    BackhaulClosed,
    NotAuthorised,
    WrongServer,
    Incompatible,
    Full,
    TooLarge,
    Malformed,
    DocumentRefused,
    ServerError,
    Timeout,
    ConnectionLost,
    Unreadable,
    Local,
    Stopped,
}

impl Cause {
    /// Its name.
    pub fn kind(&self) -> Kind {
        match self {
            Cause::NoRoute { .. } => Kind::NoRoute,
            Cause::DnsFailed { .. } => Kind::DnsFailed,
            Cause::ConnectFailed { .. } => Kind::ConnectFailed,
            Cause::TlsRefused { .. } => Kind::TlsRefused,
            Cause::CaptivePortal { .. } => Kind::CaptivePortal,
            Cause::BackhaulClosed { .. } => Kind::BackhaulClosed,
            Cause::NotAuthorised { .. } => Kind::NotAuthorised,
            Cause::WrongServer { .. } => Kind::WrongServer,
            Cause::Incompatible { .. } => Kind::Incompatible,
            Cause::Full { .. } => Kind::Full,
            Cause::TooLarge { .. } => Kind::TooLarge,
            Cause::Malformed { .. } => Kind::Malformed,
            Cause::DocumentRefused { .. } => Kind::DocumentRefused,
            Cause::ServerError { .. } => Kind::ServerError,
            Cause::Timeout { .. } => Kind::Timeout,
            Cause::ConnectionLost { .. } => Kind::ConnectionLost,
            Cause::Unreadable { .. } => Kind::Unreadable,
            Cause::Local { .. } => Kind::Local,
            Cause::Stopped => Kind::Stopped,
        }
    }
}

fn words(code: FailureCode) -> &'static str {
    match code {
        FailureCode::Malformed => "damaged or not a document; run `waypost store check`",
        FailureCode::WrongDestination => "addressed to another destination; check the destination's url",
        FailureCode::Server => "it failed there and will be tried again",
        FailureCode::Full => "no room there; its admin must free some, and it will be tried again",
    }
}

/// Text of a stranger made fit for a terminal and a log: control and direction characters escaped, cut short.
pub fn plain(text: &str) -> String {
    let mut out = String::new();
    for (at, c) in text.trim().chars().enumerate() {
        if at == MAX_DETAIL {
            out.push('…');
            break;
        }
        // Direction and zero-width characters can make a line read as something else than it says.
        let misleading = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || misleading {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_strangers_cannot_steer_a_terminal() {
        assert_eq!(plain("a\u{1b}[31mred\r\n\u{202e}x "), "a\\u{1b}[31mred\\r\\n\\u{202e}x");
        let long = plain(&"é".repeat(5_000));
        assert_eq!(long.chars().count(), MAX_DETAIL + 1);
    }

    #[test]
    fn an_ambiguous_failure_says_so() {
        let cause = Cause::ConnectionLost { host: "h".into(), detail: "reset".into() };
        assert!(Error::new(cause.clone(), true).to_string().contains("may have some of it"));
        assert!(!Error::new(cause, false).to_string().contains("may have some of it"));
    }
}
