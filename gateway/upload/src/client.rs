//! The client of the destination API (`destination/openapi.json`): blocking calls over one kept connection.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use ureq::http::header::{self, HeaderMap, HeaderValue};
use ureq::http::{Method, Request, Response};
use ureq::{Agent, Body, SendBody};
use waypost_protocol::api::{self, Answer, Info};
use waypost_protocol::ids::{Fingerprint, MessageId};

use crate::body::{Outgoing, Upload, encoded_len, framed_len};
use crate::decode;
use crate::detour::is_the_lines;
use crate::error::{Cause, Error, Kind, Phase, plain};
use crate::names::NamedResolver;
use crate::portal;
use crate::settings::{Settings, SettingsError, bearer, parse_url, tls_config};
use crate::way::{Route, Toll, closed};
use crate::wire::{Line, TlsConnector, is_client_certificate_alert, tls_error, tls_words};

/// No answer may be longer, in bytes.
const MAX_ANSWER: u64 = 16 << 20;
/// Room in an answer for each document asked about: a confirmation of its own, or a failure.
const ANSWER_PER_DOCUMENT: u64 = 12 << 10;
/// At most so many confirmations in an answer to `?since=`.
const MAX_PAGE: usize = 4_096;
/// Server information in JSON may be so long.
const MAX_INFO: u64 = 64 << 10;
/// How a chain is called may be so long.
const MAX_CHAIN_NAME: usize = 64;
/// How much of an error's text is read. Problem details are JSON, which says nothing where it is cut.
const MAX_ERROR_TEXT: u64 = 16 << 10;

/// What the destination said of itself, with the tag by which it says "unchanged".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedInfo {
    /// Server information.
    pub info: Info,
    /// Its `ETag`.
    pub etag: Option<String>,
}

/// A connection to one destination. Calls block; bodies are streamed; one request runs at a time.
pub struct Client {
    agent: Agent,
    base: String,
    host: String,
    authorization: Option<HeaderValue>,
    fingerprint: Option<Fingerprint>,
    line: Arc<Line>,
    toll: Arc<Toll>,
    chain: String,
    closes: bool,
}

/// Ends a client's requests from another thread, for good.
#[derive(Clone)]
pub struct Stopper {
    agent: Agent,
    line: Arc<Line>,
    toll: Arc<Toll>,
}

impl Stopper {
    /// Closes the client's connection; the request under way and all later ones fail with [`Cause::Stopped`].
    pub fn stop(&self) {
        self.line.stop();
        self.agent.clone().shutdown();
    }

    /// A network appeared: lines that failed are tried again, and a connection on which nothing has moved for so long is
    /// closed; the client makes a new one.
    pub fn path_up(&self, span: Duration) {
        self.toll.forget_failures();
        self.line.close_if_silent(span);
    }
}

/// Told the bytes sent of a request's body, and how many there are.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

impl Client {
    /// Makes a client; nothing is sent yet.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let (base, host) = parse_url(&settings.url)?;
        let authorization = settings.token.as_ref().map(bearer).transpose()?;
        let line = Arc::new(Line::default());
        let config = Agent::config_builder()
            .https_only(true)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Ours is the only connector; a proxy of the environment would be passed over in silence.
            .proxy(None)
            .user_agent(concat!("waypost/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .max_idle_age(Duration::from_secs(120))
            .max_response_header_size(16 << 10)
            .timeout_resolve(Some(settings.connect_timeout))
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_per_write(Some(settings.stall_timeout))
            .timeout_recv_response(Some(settings.answer_timeout))
            .timeout_recv_body(Some(settings.answer_timeout))
            .build();
        let toll = Arc::new(Toll::new(settings.way.clone()));
        let connector =
            TlsConnector { config: Arc::new(tls_config(settings)?), line: line.clone(), toll: toll.clone() };
        let agent = Agent::with_parts(config, connector, NamedResolver(line.names.clone()));
        Ok(Client {
            agent,
            base,
            host,
            authorization,
            fingerprint: settings.fingerprint,
            line,
            toll,
            chain: String::new(),
            closes: false,
        })
    }

    /// How the destination calls its chain, as its last answer said; empty before.
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// Host and port of the URL.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether bytes cost money on the way that is taken now.
    pub fn is_metered(&self) -> bool {
        self.toll.route().is_ok_and(|route| route.metered)
    }

    /// The route of the last connection.
    pub fn route(&self) -> Route {
        self.toll.taken()
    }

    /// Whether a line has failed since this was last asked while another one may work: then nothing need be waited for.
    pub fn has_turned(&self) -> bool {
        self.toll.has_turned()
    }

    /// Whether the connection is closed after each answer from now on.
    pub fn set_closes(&mut self, closes: bool) {
        self.closes = closes;
    }

    /// Nothing is asked or sent for a while: leave to move bytes that was not used is given back.
    pub fn rest(&self) {
        self.toll.settle();
    }

    /// A handle that ends this client's requests.
    pub fn stopper(&self) -> Stopper {
        Stopper { agent: self.agent.clone(), line: self.line.clone(), toll: self.toll.clone() }
    }

    /// Server information; costs next to nothing where `cached` is still right.
    pub fn info(&mut self, cached: Option<&CachedInfo>) -> Result<CachedInfo, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let etag = cached.and_then(|cached| cached.etag.as_deref());
        if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
            headers.insert(header::IF_NONE_MATCH, etag);
        }
        let mut response = self.question(Method::GET, api::INFO, headers, Vec::new())?;
        if let (304, Some(cached)) = (response.status().as_u16(), cached) {
            self.check_info(&cached.info).map_err(Error::Definite)?;
            return Ok(cached.clone());
        }
        self.expect(&mut response, "application/json")
            .map_err(|cause| Error::Definite(self.judged(cause)))?;
        let bytes = self.read_answer(&mut response, MAX_INFO).map_err(Error::Definite)?;
        let info = decode::info(&bytes).map_err(|error| {
            let detail = format!("its server information does not read: {error}");
            Error::Definite(Cause::WrongServer { detail })
        })?;
        self.check_info(&info).map_err(Error::Definite)?;
        let etag =
            response.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        Ok(CachedInfo { info, etag: etag.filter(|etag| etag.len() <= 256) })
    }

    /// The destination's OpenPGP certificate, binary, at most 1 MiB. Pinned only by a person who compares fingerprints.
    pub fn certificate(&mut self) -> Result<Vec<u8>, Error> {
        let mut response = self.question(Method::GET, api::CERTIFICATE, HeaderMap::new(), Vec::new())?;
        if response.status().as_u16() != 200 {
            return Err(Error::Definite(self.refusal(&mut response)));
        }
        self.read_answer(&mut response, 1 << 20).map_err(Error::Definite)
    }

    /// The destination's chain ([`waypost_protocol::succession`]), encoded, at most 512 KiB. Nothing is verified yet.
    pub fn successions(&mut self) -> Result<Vec<u8>, Error> {
        let mut response = self.question(Method::GET, api::SUCCESSIONS, HeaderMap::new(), Vec::new())?;
        if response.status().as_u16() != 200 {
            return Err(Error::Definite(self.refusal(&mut response)));
        }
        self.read_answer(&mut response, 512 << 10).map_err(Error::Definite)
    }

    /// Asks which of at most [`api::MAX_IDS`] documents the destination holds, and for their confirmations.
    pub fn have(&mut self, ids: &[MessageId]) -> Result<Answer, Error> {
        self.ask_about(api::HAVE, ids)
    }

    /// Asks for the confirmations of at most [`api::MAX_IDS`] documents.
    pub fn confirmations(&mut self, ids: &[MessageId]) -> Result<Answer, Error> {
        self.ask_about(api::CONFIRMATIONS, ids)
    }

    /// Confirmations of this device's own uploads since a cursor; the answer's cursor is where to go on.
    pub fn confirmations_since(&mut self, cursor: u64) -> Result<Answer, Error> {
        let path = format!("{}?since={cursor}", api::CONFIRMATIONS);
        let mut response = self.question(Method::GET, &path, protobuf_wanted(), Vec::new())?;
        self.answer(&mut response, MAX_PAGE).map_err(Error::Definite)
    }

    /// Uploads one document; `digest` is SHA-256 over its canonical encoding (RFC 9530).
    pub fn put(
        &mut self,
        upload: Upload<impl Read>,
        digest: [u8; 32],
        progress: Progress<'_>,
    ) -> Result<Answer, Error> {
        let mut headers = protobuf_wanted();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(api::DOCUMENT));
        let digest = format!("sha-256=:{}:", BASE64.encode(&digest));
        if let Ok(digest) = HeaderValue::from_str(&digest) {
            headers.insert("repr-digest", digest);
        }
        mark_listed(&mut headers, upload.is_listed);
        let (total, path) =
            (encoded_len(&upload.description), format!("{}/{}", api::DOCUMENTS, upload.description.id));
        let outgoing = Outgoing::new(vec![upload], false, total, progress, self.line.clone());
        self.upload(Method::PUT, &path, headers, outgoing, 1)
    }

    /// Uploads documents in one request.
    ///
    /// The answer's failures name documents by their place in `parts`. Documents that it does not mention got no verdict.
    pub fn batch<R: Read>(&mut self, parts: Vec<Upload<R>>, progress: Progress<'_>) -> Result<Answer, Error> {
        let mut headers = protobuf_wanted();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(api::DOCUMENTS_STREAM));
        let too_large = || Error::Definite(Cause::TooLarge { detail: " in one batch".to_owned() });
        let total =
            parts.iter().try_fold(0u64, |sum, upload| sum.checked_add(framed_len(&upload.description)?));
        let count = parts.len();
        let outgoing = Outgoing::new(parts, true, total.ok_or_else(too_large)?, progress, self.line.clone());
        self.upload(Method::POST, api::BATCH, headers, outgoing, count)
    }

    fn upload<R: Read>(
        &mut self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        mut body: Outgoing<'_, R>,
        documents: usize,
    ) -> Result<Answer, Error> {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.total()));
        let outcome = self.send(method, path, headers, SendBody::from_reader(&mut body));
        let begun = body.sent() > 0;
        let mut response = match outcome {
            Ok(response) => response,
            Err(error) => return Err(self.upload_lost(error, body.trouble(), begun)),
        };
        self.answer(&mut response, documents).map_err(|cause| {
            let told_no = match &cause {
                // The server said so instead of processing it. From 500 on, something behind it may have.
                Cause::Full { .. } | Cause::TooLarge { .. } | Cause::Malformed { .. } => true,
                Cause::NotAuthorised { .. } | Cause::Incompatible { .. } => true,
                Cause::ServerError { code, .. } => *code < 500,
                Cause::WrongServer { .. } => !response.status().is_success(),
                _ => false,
            };
            Error::new(cause, begun && !told_no)
        })
    }

    /// Why an upload got no answer; `begun`: the destination may have what it needs to process it.
    pub(crate) fn upload_lost(
        &self,
        error: ureq::Error,
        trouble: Option<&(MessageId, String)>,
        begun: bool,
    ) -> Error {
        if let Some((id, detail)) = trouble {
            return Error::new(Cause::Local { id: *id, detail: detail.clone() }, begun);
        }
        let (cause, certain) = self.explain(error);
        Error::new(self.judged(cause), begun && !certain)
    }

    pub(crate) fn line(&self) -> Arc<Line> {
        self.line.clone()
    }

    pub(crate) fn ask_about(&mut self, path: &str, ids: &[MessageId]) -> Result<Answer, Error> {
        let mut headers = protobuf_wanted();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(api::IDS));
        let mut response = self.question(Method::POST, path, headers, api::encode_ids(ids))?;
        self.answer(&mut response, ids.len()).map_err(Error::Definite)
    }

    /// A request that changes nothing at the destination, so that its failures are all definite.
    pub(crate) fn question(
        &mut self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response<Body>, Error> {
        let sent = if method == Method::GET || method == Method::HEAD {
            self.send(method, path, headers, ())
        } else {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            self.send(method, path, headers, &body)
        };
        sent.map_err(|error| Error::Definite(self.judged(self.explain(error).0)))
    }

    pub(crate) fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: impl ureq::AsSendBody,
    ) -> Result<Response<Body>, ureq::Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base)).body(body)?;
        *request.headers_mut() = headers;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        if self.closes {
            request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let response = self.agent.run(request)?;
        self.toll.worked();
        let chain = response.headers().get(api::CHAIN).and_then(|chain| chain.to_str().ok());
        if let Some(chain) = chain.filter(|chain| chain.len() <= MAX_CHAIN_NAME) {
            chain.clone_into(&mut self.chain);
        }
        Ok(response)
    }

    /// The protobuf answer about `documents` documents, or why there is none.
    pub(crate) fn answer(&self, response: &mut Response<Body>, documents: usize) -> Result<Answer, Cause> {
        self.expect(response, api::PROTOBUF)?;
        let room = (documents as u64).saturating_mul(ANSWER_PER_DOCUMENT).saturating_add(64 << 10);
        let bytes = self.read_answer(response, room.min(MAX_ANSWER))?;
        decode::answer(&bytes, documents).map_err(|detail| Cause::Unreadable { detail })
    }

    /// Checks that a response is a success of the media type wanted.
    pub(crate) fn expect(&self, response: &mut Response<Body>, media_type: &str) -> Result<(), Cause> {
        if !response.status().is_success() {
            return Err(self.refusal(response));
        }
        let found = response.body().mime_type().unwrap_or("nothing");
        if !found.eq_ignore_ascii_case(media_type) {
            let detail = format!("it answered with {} where {media_type} was expected", plain(found));
            return Err(Cause::WrongServer { detail });
        }
        Ok(())
    }

    pub(crate) fn read_answer(&self, response: &mut Response<Body>, limit: u64) -> Result<Vec<u8>, Cause> {
        // One more, since the limit itself counts as exceeded.
        response.body_mut().with_config().limit(limit + 1).read_to_vec().map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => {
                Cause::Unreadable { detail: format!("it is longer than {limit} bytes") }
            }
            other => self.explain(other).0,
        })
    }

    /// What a status other than success says.
    pub(crate) fn refusal(&self, response: &mut Response<Body>) -> Cause {
        let status = response.status().as_u16();
        let location =
            response.headers().get(header::LOCATION).map(|to| plain(&String::from_utf8_lossy(to.as_bytes())));
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let detail = error_text(response);
        match status {
            300..=399 => {
                let to = location.map_or(String::new(), |to| format!(" to {to}"));
                Cause::WrongServer { detail: format!("it redirects{to}, which is not followed") }
            }
            401 | 403 => Cause::NotAuthorised { status, detail },
            404 | 405 | 407 | 410 | 511 => {
                Cause::WrongServer { detail: format!("it knows nothing of Waypost (HTTP {status}{detail})") }
            }
            406 | 415 | 426 | 505 => Cause::Incompatible { detail: format!("HTTP {status}{detail}") },
            408 => Cause::Timeout { host: self.host.clone(), during: Phase::Sending },
            413 => Cause::TooLarge { detail },
            507 => Cause::Full { detail },
            429 | 500.. => Cause::ServerError { code: status, detail, retry_after },
            _ => Cause::Malformed { status, detail },
        }
    }

    /// Whether it is the network that answers and wants a login, and whether another line is to be tried.
    pub(crate) fn judged(&self, cause: Cause) -> Cause {
        let is_suspect = match &cause {
            Cause::TlsRefused { .. } | Cause::ConnectFailed { .. } | Cause::WrongServer { .. } => true,
            Cause::Timeout { during, .. } => *during == Phase::Connecting,
            _ => false,
        };
        let host = || self.base.parse::<ureq::http::Uri>().ok()?.host().map(str::to_owned);
        let page = is_suspect.then(host).flatten();
        let page = page.and_then(|host| portal::login_page(&host, &self.toll, &self.line.names));
        let cause = page.map_or(cause, |page| Cause::CaptivePortal { page });
        if is_the_lines(cause.kind()) {
            // Without an address no route was taken so far.
            let asked = if cause.kind() == Kind::DnsFailed { self.toll.route().ok() } else { None };
            self.toll.failed(&asked.unwrap_or_else(|| self.toll.taken()));
        }
        cause
    }

    /// What an error of `ureq` means, and whether it is certain that nothing was processed.
    pub(crate) fn explain(&self, error: ureq::Error) -> (Cause, bool) {
        let host = || self.host.clone();
        if self.line.is_stopped() {
            return (Cause::Stopped, false);
        }
        let cause = match error {
            ureq::Error::Other(inner) => match inner.downcast::<Cause>() {
                Ok(cause) => return (*cause, true),
                Err(other) => Cause::Unreadable { detail: plain(&other.to_string()) },
            },
            ureq::Error::Timeout(reason) => {
                use ureq::Timeout as T;
                let during = match reason {
                    T::Resolve | T::Connect => Phase::Connecting,
                    T::SendRequest | T::SendBody | T::PerWrite => Phase::Sending,
                    _ => Phase::Answering,
                };
                Cause::Timeout { host: host(), during }
            }
            ureq::Error::Io(error) if closed(&error).is_some() => {
                Cause::BackhaulClosed { detail: plain(&error.to_string()) }
            }
            ureq::Error::Io(error) => match tls_error(&error) {
                Some(alert) if is_client_certificate_alert(alert) => {
                    return (Cause::TlsRefused { host: host(), detail: tls_words(alert) }, true);
                }
                _ => Cause::ConnectionLost { host: host(), detail: plain(&error.to_string()) },
            },
            other => Cause::Unreadable { detail: plain(&other.to_string()) },
        };
        (cause, false)
    }

    fn check_info(&self, info: &Info) -> Result<(), Cause> {
        if let Some(expected) = self.fingerprint.filter(|expected| *expected != info.fingerprint) {
            let detail = format!("its fingerprint is {}, expected {expected}", info.fingerprint);
            return Err(Cause::WrongServer { detail });
        }
        if !info.versions.contains(&api::VERSION) {
            let versions: Vec<String> = info.versions.iter().take(16).map(u32::to_string).collect();
            let detail =
                format!("it speaks API version {}, this program {}", versions.join(", "), api::VERSION);
            return Err(Cause::Incompatible { detail });
        }
        Ok(())
    }
}

pub(crate) fn protobuf_wanted() -> HeaderMap {
    HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(api::PROTOBUF))])
}

/// Says of a single document that a remote log lists it.
pub(crate) fn mark_listed(headers: &mut HeaderMap, is_listed: bool) {
    if is_listed {
        headers.insert(api::LISTED, HeaderValue::from_static("?1"));
    }
}

/// The text of a refusal, for people: ": " and the text, or nothing.
fn error_text(response: &mut Response<Body>) -> String {
    let wanted = matches!(
        response.body().mime_type(),
        Some("text/plain" | "application/json" | "application/problem+json")
    );
    if !wanted {
        return String::new();
    }
    let mut text = Vec::new();
    // What cannot be read is not said; the status says enough.
    let _ = response.body_mut().as_reader().take(MAX_ERROR_TEXT).read_to_end(&mut text);
    match decode::refusal(&text) {
        text if text.is_empty() => text,
        text => format!(": {text}"),
    }
}
