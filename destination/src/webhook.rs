//! Telling a program of opened documents, by the conventions of Standard Webhooks (standardwebhooks.com, version 1).
//!
//! Each opened document is a row that is due until the receiver has answered with a status of 200 to 299: so it is told at
//! least once, whatever ends meanwhile, and `webhook-id` stays the same, so that the receiver can tell what it knows. Order
//! is not promised. A few requests are under way at a time, on a thread of their own: a receiver that is gone delays nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::BASE64;
use hmac::{Hmac, Mac as _};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use sha2::Sha256;
use waypost_protocol::ids::MessageId;
use waypost_protocol::time::UnixTime;
use zeroize::Zeroizing;

use crate::durable;
use crate::home::Home;
use crate::store::Notice;

/// For the whole of one request.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The first wait after a failure; each is twice the one before, up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// What a secret begins with in text.
const PREFIX: &str = "whsec_";

/// Why nobody can be told.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The secret's or the authorities' file.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
    /// Not a secret.
    #[error(
        "{0} holds no secret: \"whsec_\" and base64 of 24 to 64 bytes; remove it, and the next start makes one"
    )]
    Secret(PathBuf),
    /// No client.
    #[error("webhook: {0}")]
    Client(#[from] reqwest::Error),
}

/// Signs and sends.
pub struct Webhook {
    client: reqwest::Client,
    url: String,
    secret: Zeroizing<Vec<u8>>,
    inbox: String,
}

/// What is told.
#[derive(Serialize)]
struct Body {
    r#type: &'static str,
    timestamp: String,
    data: Document,
}

#[derive(Serialize)]
struct Document {
    id: MessageId,
    collection: String,
    /// The author's file name, where it has one; bytes that are no UTF-8 are replaced.
    name: Option<String>,
    /// Bytes of the opened content.
    size: u64,
    /// Unix seconds.
    received: u64,
    /// Below the inbox.
    path: String,
    /// The whole place: a file's path, or an object's URL.
    location: String,
}

impl Webhook {
    /// As the home's settings say; makes the secret where there is none. `inbox` is where content is.
    pub fn new(home: &Home, inbox: String) -> Result<Option<Self>, WebhookError> {
        let Some(settings) = &home.settings().webhook else { return Ok(None) };
        crate::tls::set_default_provider();
        let mut client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("waypost-destination/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = &settings.ca_file {
            let path = home.path().join(file);
            let pem = std::fs::read(&path).map_err(|error| WebhookError::File { path, error })?;
            client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?);
        }
        let secret = read_or_make_secret(&home.path().join(&settings.secret_file))?;
        Ok(Some(Webhook { client: client.build()?, url: settings.url.clone(), secret, inbox }))
    }

    /// Tells it of one document; an error is in words.
    pub async fn tell(&self, notice: &Notice, now: UnixTime) -> Result<(), String> {
        let body = self.body(notice);
        let id = format!("msg_{}", notice.id);
        let headers = signed(&self.secret, &id, now, &body).map_err(|error| error.to_string())?;
        let request = self.client.post(&self.url).headers(headers).body(body);
        let answer = request.send().await.map_err(|error| words(&error))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("it answered {status}")),
        }
    }

    fn body(&self, notice: &Notice) -> Vec<u8> {
        let path = String::from_utf8_lossy(&notice.path).into_owned();
        let body = Body {
            r#type: "document.opened",
            timestamp: notice.received.to_string(),
            data: Document {
                id: notice.id,
                collection: notice.collection.clone(),
                name: notice.name.as_ref().map(|name| String::from_utf8_lossy(name).into_owned()),
                size: notice.size,
                received: notice.received.0,
                location: format!("{}/{path}", self.inbox),
                path,
            },
        };
        // Strings and numbers always encode.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

/// How long to wait after that many tries failed; other processes and restarts keep to it.
pub(crate) fn wait_after(tries: u32) -> Duration {
    let doublings = tries.saturating_sub(1).min(16);
    FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT)
}

fn signed(
    secret: &[u8],
    id: &str,
    now: UnixTime,
    body: &[u8],
) -> Result<HeaderMap, reqwest::header::InvalidHeaderValue> {
    let signature = signature(secret, id, now, body);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("webhook-id"), id.try_into()?);
    headers.insert(HeaderName::from_static("webhook-timestamp"), HeaderValue::from(now.0));
    headers.insert(HeaderName::from_static("webhook-signature"), signature.try_into()?);
    Ok(headers)
}

/// `v1,` and base64 of the HMAC-SHA256 over id, timestamp and body with dots between them.
fn signature(secret: &[u8], id: &str, now: UnixTime, body: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(format!("{id}.{}.", now.0).as_bytes());
    mac.update(body);
    format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
}

fn read_or_make_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, WebhookError> {
    let file = |error| WebhookError::File { path: path.to_owned(), error };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bytes = Zeroizing::new(durable::random::<32>().map_err(file)?);
            let text = Zeroizing::new(format!("{PREFIX}{}\n", BASE64.encode(bytes.as_slice())));
            durable::write(path, text.as_bytes(), 0o600).map_err(file)?;
            log::info!("made {}, the secret that the webhook's receiver needs", path.display());
            text
        }
        Err(error) => return Err(file(error)),
    };
    let bytes = text.trim().strip_prefix(PREFIX).and_then(|rest| BASE64.decode(rest.as_bytes()).ok());
    let bytes = bytes.filter(|bytes| (24..=64).contains(&bytes.len()));
    bytes.map(Zeroizing::new).ok_or_else(|| WebhookError::Secret(path.to_owned()))
}

/// An error and its causes.
pub(crate) fn words(error: &reqwest::Error) -> String {
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        said += &format!(": {error}");
        cause = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let secret = BASE64.decode(b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let said = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", UnixTime(1_614_265_330), body);
        assert_eq!(said, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn waits_grow_to_an_hour_and_no_further() {
        assert_eq!(wait_after(1), FIRST_WAIT);
        assert_eq!(wait_after(3), FIRST_WAIT * 4);
        assert_eq!((wait_after(20), wait_after(u32::MAX)), (LONGEST_WAIT, LONGEST_WAIT));
    }

    #[test]
    fn a_secret_is_made_once_and_what_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("webhook.secret");
        let made = read_or_make_secret(&path).unwrap();
        assert_eq!((made.len(), read_or_make_secret(&path).unwrap()), (32, made));
        std::fs::write(&path, "whsec_c2hvcnQ=").unwrap();
        assert!(matches!(read_or_make_secret(&path), Err(WebhookError::Secret(_))));
    }
}
