//! What `destination.toml` says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use waypost_protocol::ids::Fingerprint;

use super::HomeError;

/// What the admin may change in `destination.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A name for people.
    pub name: String,
    /// Under which gateways and phones reach it, `https://…`.
    pub url: Option<String>,
    /// Address and port to listen on.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// The collections that it takes. Documents of others are rejected.
    pub collections: Vec<String>,
    /// First fingerprint, where this key is a successor's; else its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_fingerprint: Option<Fingerprint>,
    /// The server's TLS certificates, PEM, its own first; relative to the home.
    #[serde(default = "default_tls_certificate")]
    pub tls_certificate: PathBuf,
    /// The key of the first of them, PEM.
    #[serde(default = "default_tls_key")]
    pub tls_key: PathBuf,
    /// The largest document in bytes. Default 268,435,456 (256 MiB); below 512 MiB.
    #[serde(default = "default_max_document")]
    pub max_document: u64,
    /// The largest opened content in bytes: compressed documents expand. Default 1 GiB.
    #[serde(default = "default_max_content")]
    pub max_content: u64,
    /// The largest batch in documents. Default 10,000.
    #[serde(default = "default_max_batch_documents")]
    pub max_batch_documents: u32,
    /// The largest batch in bytes. Default 1 GiB.
    #[serde(default = "default_max_batch_bytes")]
    pub max_batch_bytes: u64,
    /// What the unfinished uploads of one gateway, or of the phones that share a token, may have in bytes when they are
    /// whole. Default 8 GiB, or `max_document` where that is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_partial_bytes: Option<u64>,
    /// How many of them there may be. Default 1,000.
    #[serde(default = "default_max_partials")]
    pub max_partials: u64,
    /// What remote logs of gateways may take, all together, in bytes. Default 16 GiB.
    #[serde(default = "default_max_log_bytes")]
    pub max_log_bytes: u64,
    /// `postgres://USER@HOST/DATABASE`, which several servers may share. Default: SQLite in the home.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// `s3://BUCKET/PREFIX`, which several servers may share, or `folder`: that of the home, the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Options and credentials of the object store, by the names that AWS's tools have, `endpoint` say. Default: the
    /// environment's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub content_options: BTreeMap<String, String>,
    /// Seconds after which a server goes on with what another one of the same database left behind. Default 60.
    #[serde(default = "default_takeover_after")]
    pub takeover_after: u32,
    /// Address and port where metrics are served, `127.0.0.1:9464` say, without encryption. Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// Whom to tell of opened documents. Default: nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSettings>,
}

/// Whom to tell of opened documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Where to `POST` to: `https://…`, or `http://…` on the same machine.
    pub url: String,
    /// The file of the shared secret, relative to the home; made where it is missing.
    #[serde(default = "default_secret_file")]
    pub secret_file: PathBuf,
    /// Authorities that the receiver's certificate may be from, PEM, relative to the home. Default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

pub(super) fn default_secret_file() -> PathBuf {
    "webhook.secret".into()
}
/// What unfinished uploads of one client may have where nothing else is set, in bytes.
const PARTIAL_BYTES: u64 = 8 << 30;

pub(super) fn default_takeover_after() -> u32 {
    60
}

pub(super) fn default_listen() -> String {
    "[::]:8443".to_owned()
}
pub(super) fn default_tls_certificate() -> PathBuf {
    "tls/server.pem".into()
}
pub(super) fn default_tls_key() -> PathBuf {
    "tls/server.key".into()
}
pub(super) fn default_max_document() -> u64 {
    256 << 20
}
pub(super) fn default_max_content() -> u64 {
    1 << 30
}
pub(super) fn default_max_batch_documents() -> u32 {
    10_000
}
pub(super) fn default_max_batch_bytes() -> u64 {
    1 << 30
}
pub(super) fn default_max_partials() -> u64 {
    1_000
}
pub(super) fn default_max_log_bytes() -> u64 {
    16 << 30
}

impl Settings {
    /// What one value alone does not show.
    pub(super) fn check(&self, file: &Path) -> Result<(), HomeError> {
        let path = || file.to_owned();
        if let Some(url) = &self.database {
            if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
                let scheme = url.split_once("://").map_or("…", |(scheme, _)| scheme);
                return Err(HomeError::Database { path: path(), found: format!("{scheme}://…") });
            }
            if self.content.is_none() {
                return Err(HomeError::HalfShared(path()));
            }
        }
        let (bytes, count, document) = (self.partial_bytes(), self.max_partials, self.max_document);
        if bytes < document || count == 0 {
            return Err(HomeError::Partials { path: path(), bytes, count, document });
        }
        if let Some(webhook) = &self.webhook
            && !["https://", "http://"].iter().any(|scheme| webhook.url.starts_with(scheme))
        {
            return Err(HomeError::Webhook { path: path(), found: webhook.url.clone() });
        }
        Ok(())
    }

    /// What unfinished uploads of one client may have, in bytes.
    pub fn partial_bytes(&self) -> u64 {
        self.max_partial_bytes.unwrap_or(PARTIAL_BYTES.max(self.max_document))
    }

    /// Whether other servers may use the same database.
    pub fn is_shared(&self) -> bool {
        self.database.is_some()
    }
}
