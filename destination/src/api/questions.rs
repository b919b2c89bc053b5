//! Questions: who the server is, what it holds, what it confirmed.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};
use waypost_protocol::api::{Info, MAX_IDS, PROTOBUF, decode_ids};
use waypost_protocol::ids::MessageId;

use super::answer::Reply;
use super::client::Client;
use super::{Problem, STALL, Shared};
use crate::clock::now;

/// Confirmations in one answer have about this many bytes at most; the rest is asked for again.
const MAX_ANSWER: usize = 4 << 20;
/// Confirmations since a cursor, at most and by default.
const MAX_LIMIT: u32 = 1_000;
const DEFAULT_LIMIT: u32 = 100;

/// `GET /v1/info`.
pub(super) async fn info(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Response, Problem> {
    // Weak, since the time in it differs each time.
    let json = |info: &Info| serde_json::to_string(info).map_err(|error| Problem::server(error.to_string()));
    let tag = weak_tag(json(&shared.info)?.as_bytes());
    if is_known(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let body = json(&Info { time: now(), ..shared.info.clone() })? + "\n";
    let kind = HeaderValue::from_static("application/json");
    let cache = HeaderValue::from_static("no-cache");
    Ok(([(header::ETAG, tag), (header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, cache)], body)
        .into_response())
}

/// `GET /v1/certificate`.
pub(super) async fn certificate(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    unless_known(&headers, "application/pgp-keys", &shared.certificate)
}

/// `GET /v1/successions`.
pub(super) async fn successions(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    unless_known(&headers, PROTOBUF, &shared.successions)
}

fn unless_known(headers: &HeaderMap, kind: &'static str, bytes: &[u8]) -> Response {
    let tag = weak_tag(bytes);
    if is_known(headers, &tag) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    let kind = HeaderValue::from_static(kind);
    ([(header::ETAG, tag), (header::CONTENT_TYPE, kind)], bytes.to_vec()).into_response()
}

/// `POST /v1/have`: which of these ids are held, and their confirmations.
pub(super) async fn have(
    State(shared): State<Arc<Shared>>,
    client: Client,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let ids = read_ids(body).await?;
    let answer = blocking(move || {
        let held = shared.intake.has(&ids)?;
        let confirmations = confirmations_of(&shared, client, &ids)?;
        Ok::<_, Problem>(Reply { held, confirmations, ..Reply::default() })
    });
    Ok(answer.await??.into_response(&headers))
}

/// `POST /v1/confirmations`: those of these ids.
pub(super) async fn confirmations(
    State(shared): State<Arc<Shared>>,
    client: Client,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let ids = read_ids(body).await?;
    let answer = blocking(move || {
        let confirmations = confirmations_of(&shared, client, &ids)?;
        Ok::<_, Problem>(Reply { confirmations, ..Reply::default() })
    });
    Ok(answer.await??.into_response(&headers))
}

/// `GET /v1/confirmations?since=CURSOR&limit=NUMBER`: over this client's own uploads.
pub(super) async fn confirmations_since(
    State(shared): State<Arc<Shared>>,
    client: Client,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let (mut since, mut limit) = (0u64, DEFAULT_LIMIT);
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let wrong =
            || Problem::bad_request(format!("{pair:?}: expected since=CURSOR and limit=1…{MAX_LIMIT}"));
        match pair.split_once('=') {
            Some(("since", value)) => since = value.parse().map_err(|_| wrong())?,
            Some(("limit", value)) => {
                limit =
                    value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)).ok_or_else(wrong)?;
            }
            _ => return Err(wrong()),
        }
    }
    let page = blocking(move || shared.intake.store().since(client.0, since, limit, MAX_ANSWER)).await??;
    let reply = Reply { confirmations: page.confirmations, cursor: page.cursor, ..Reply::default() };
    Ok(reply.into_response(&headers))
}

/// In an answer of bounded size: the first ids come first, what is left out is asked for again.
fn confirmations_of(
    shared: &Shared,
    client: Client,
    ids: &[MessageId],
) -> Result<Vec<waypost_protocol::confirmation::Confirmation>, Problem> {
    let mut found = Vec::new();
    let mut bytes = 0;
    for chunk in ids.chunks(waypost_protocol::confirmation::MAX_DOCUMENTS) {
        for confirmation in shared.intake.known(client.0, chunk)? {
            if bytes < MAX_ANSWER && !found.contains(&confirmation) {
                bytes += confirmation.encode().len();
                found.push(confirmation);
            }
        }
        if bytes >= MAX_ANSWER {
            break;
        }
    }
    Ok(found)
}

pub(super) async fn read_ids(body: Body) -> Result<Vec<MessageId>, Problem> {
    let most = MAX_IDS * MessageId::LEN;
    let read = tokio::time::timeout(STALL, to_bytes(body, most)).await;
    let read = read.map_err(|_| Problem::stream(&std::io::ErrorKind::TimedOut.into()))?;
    let bytes = read.map_err(|error| {
        Problem::too_large(format!(
            "{error}; send at most {MAX_IDS} ids of 32 bytes, without anything between them"
        ))
    })?;
    decode_ids(&bytes)
        .map_err(|error| Problem::bad_request(format!("{error}; send ids of 32 bytes each, raw")))
}

/// Runs what blocks where blocking is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        log::error!("a request failed: {error}");
        Problem::server("the server failed at this request; send it again later")
    })
}

fn weak_tag(bytes: &[u8]) -> HeaderValue {
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(bytes)[..8]);
    HeaderValue::from_str(&format!("W/\"{hash}\"")).unwrap_or(HeaderValue::from_static("W/\"\""))
}

/// `If-None-Match` (RFC 9110 §13.1.2), compared weakly.
fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let opaque = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    let ours = tag.to_str().map(opaque).unwrap_or_default();
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|known| known.trim() == "*" || opaque(known) == ours)
}
