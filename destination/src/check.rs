//! A black-box test of a server that implements `openapi.json`, whoever wrote it: each requirement, passed or failed.
//!
//! It seals documents of its own to the server's certificate and uploads them, so they end in its inbox; their content says
//! what they are.

mod asking;
mod requirements;
mod resumed;

use std::path::PathBuf;

use serde::Serialize;
use waypost_openpgp::{Certificate, Compress, seal_bytes};
use waypost_protocol::api::Info;
use waypost_protocol::collection::CollectionKey;
use waypost_protocol::content::Label;
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{Header, assemble};
use waypost_protocol::ids::Fingerprint;

use crate::clock::now;
use asking::Asking;

/// What is tested, and as whom.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// `https://HOST:PORT`; plain `http://` on this machine alone.
    pub url: String,
    /// A gateway's token. Without one only what is public is tested.
    pub token: Option<String>,
    /// The authority that the server's certificate is from, PEM; default: the system's.
    pub ca_file: Option<PathBuf>,
    /// A collection that the server takes.
    pub collection: String,
}

/// One requirement, and whether it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A short name.
    pub name: &'static str,
    /// What is required.
    pub requires: &'static str,
    /// Whether it is so; nothing where it could not be tested.
    pub passed: Option<bool>,
    /// Why not.
    pub reason: Option<String>,
}

/// Why nothing can be tested.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Not such a URL.
    #[error("{0:?} is no URL to test: give https://HOST:PORT, or http:// of this machine")]
    Url(String),
    /// The authority's file.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: std::io::Error,
    },
    /// No client.
    #[error("{0}")]
    Client(#[from] reqwest::Error),
    /// No thread.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// What is known of the server by now.
struct Known {
    info: Info,
    /// All that sign for the destination, the first one first.
    certificates: Vec<Certificate>,
    /// Whom documents are sealed to.
    recipient: Certificate,
    collection: String,
}

impl Known {
    /// A document with this content that nobody has seen before.
    fn document(&self, content: &[u8]) -> Result<Document, String> {
        self.document_for(self.info.fingerprint, content)
    }

    fn document_for(&self, destination: Fingerprint, content: &[u8]) -> Result<Document, String> {
        let file_name = Some(b"check.txt".to_vec());
        let label = Label { collection: self.collection.clone(), file_name, ..Label::default() };
        let recipients = [self.recipient.clone()];
        let words = |error: &dyn std::fmt::Display| format!("nothing can be sealed to it: {error}");
        let sealed = seal_bytes(&label, content, &recipients, Compress::Never, now());
        let sealed = sealed.map_err(|error| words(&error))?;
        let body = assemble(&Header::to(destination), &sealed).map_err(|error| words(&error))?;
        self.wrap(body)
    }

    fn wrap(&self, body: impl Into<bytes::Bytes>) -> Result<Document, String> {
        let destination = self.info.fingerprint;
        let group = CollectionKey::well_known(&destination).group(&destination, &self.collection);
        Document::new(group, now().rounded_to_hour(), body.into()).map_err(|error| error.to_string())
    }
}

/// Tests one after another; each is done even where another failed, if it can be.
pub fn check(target: &Target) -> Result<Vec<Finding>, CheckError> {
    let asking = Asking::new(target)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(requirements::all(&asking, &target.collection)))
}
