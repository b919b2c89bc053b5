//! Requests, and answers as the description has them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use prost::Message as _;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method};
use waypost_protocol::api::{Answer, PROTOBUF};

use super::{CheckError, Target};

/// For a whole request.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What is read of an answer, in bytes.
const MOST: usize = 16 << 20;

/// The server, and who asks.
pub(super) struct Asking {
    client: Client,
    url: String,
    token: Option<String>,
    /// Answers that lead elsewhere.
    redirects: AtomicU32,
}

/// An answer.
pub(super) struct Heard {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Asking {
    pub(super) fn new(target: &Target) -> Result<Self, CheckError> {
        let url = target.url.trim_end_matches('/').to_owned();
        let is_here = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
        if !url.starts_with("https://") && !is_here.iter().any(|here| url.starts_with(here)) {
            return Err(CheckError::Url(url));
        }
        crate::tls::set_default_provider();
        let mut client = Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &target.ca_file {
            let pem = std::fs::read(path).map_err(|error| CheckError::File { path: path.clone(), error })?;
            client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?);
        }
        let token = target.token.clone();
        Ok(Asking { client: client.build()?, url, token, redirects: AtomicU32::new(0) })
    }

    /// Whether requests can be made that need a client's rights.
    pub(super) fn is_client(&self) -> bool {
        self.token.is_some()
    }

    pub(super) fn redirects(&self) -> u32 {
        self.redirects.load(Ordering::Relaxed)
    }

    /// As the client that the token is of.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Heard, String> {
        self.ask_as(self.token.as_deref(), method, path, headers, body).await
    }

    /// With another token, or none.
    pub(super) async fn ask_as(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Heard, String> {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            all.insert(name, HeaderValue::from_str(value).map_err(|error| error.to_string())?);
        }
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.url)).headers(all);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if !matches!(method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE) {
            request = request.body(body);
        }
        let said = |error: reqwest::Error| format!("no answer: {}", crate::webhook::words(&error));
        let mut response = request.send().await.map_err(said)?;
        let status = response.status();
        if status.is_redirection() && status.as_u16() != 304 {
            self.redirects.fetch_add(1, Ordering::Relaxed);
        }
        let headers = response.headers().clone();
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(said)? {
            body.extend_from_slice(&piece);
            if body.len() > MOST {
                return Err(format!("the answer has more than {MOST} bytes"));
            }
        }
        Ok(Heard { status: status.as_u16(), headers, body })
    }

    /// With a protobuf answer, of status 200.
    pub(super) async fn answer(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Answer, String> {
        self.ask(method, path, &[("accept", PROTOBUF)], body).await?.answer()
    }
}

impl Heard {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(super) fn kind(&self) -> &str {
        self.header("content-type").and_then(|kind| kind.split(';').next()).unwrap_or_default().trim()
    }

    pub(super) fn has_status(self, expected: u16) -> Result<Self, String> {
        match self.status == expected {
            true => Ok(self),
            false => Err(format!("status {} in place of {expected}{}", self.status, self.detail())),
        }
    }

    /// What a refusal says, to be put behind something.
    fn detail(&self) -> String {
        let body: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let detail = body.as_ref().and_then(|body| body.get("detail")?.as_str());
        detail.map(|detail| format!(": {detail}")).unwrap_or_default()
    }

    fn answer(self) -> Result<Answer, String> {
        let heard = self.has_status(200)?;
        match heard.kind() {
            PROTOBUF => Answer::decode(&heard.body[..])
                .map_err(|error| format!("the answer does not decode: {error}")),
            other => Err(format!("the answer is {other:?}, though {PROTOBUF} was accepted")),
        }
    }

    /// A refusal of this status as problem details (RFC 9457) that say what to do.
    pub(super) fn refused_with(self, status: u16) -> Result<(), String> {
        let heard = self.has_status(status)?;
        if heard.kind() != "application/problem+json" {
            return Err(format!("the refusal is {:?} in place of application/problem+json", heard.kind()));
        }
        let body: serde_json::Value = serde_json::from_slice(&heard.body)
            .map_err(|error| format!("the refusal does not decode: {error}"))?;
        let has_text =
            |key: &str| body.get(key).and_then(|text| text.as_str()).is_some_and(|text| !text.is_empty());
        match ["type", "title", "detail"].iter().find(|key| !has_text(key)) {
            Some(missing) => Err(format!("the refusal has no {missing:?}")),
            None if body.get("status").and_then(serde_json::Value::as_u64) != Some(u64::from(status)) => {
                Err("the refusal names another status".to_owned())
            }
            None => Ok(()),
        }
    }
}
