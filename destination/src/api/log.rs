//! Remote logs: content by hash and heads by name. Gateways write, everybody with access reads.

use std::io::Read as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use waypost_protocol::api::CONTENTS_STREAM;
use waypost_remote_log::head::MAX_HEAD;
use waypost_remote_log::{ContentHash, LogKey, PlaceError};

use super::answer::Reply;
use super::client::Client;
use super::digest::Digests;
use super::questions::{blocking, read_ids};
use super::stream::BodyReader;
use super::uploads::{content_length, refuse, upload};
use super::{Problem, STALL, Shared};
use crate::store::ClientKind;

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;
/// So many pieces are read ahead of a slow client.
const AHEAD: usize = 4;

/// `POST /v1/content/have`: which of these hashes are there.
pub(super) async fn have(
    State(shared): State<Arc<Shared>>,
    _: Client,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let hashes: Vec<ContentHash> = read_ids(body).await?.iter().map(|id| ContentHash(id.0)).collect();
    let held = blocking(move || shared.intake.logs().has(&hashes)).await??;
    Ok(Reply { held, ..Reply::default() }.into_response(&headers))
}

/// `PUT /v1/content/{hash}`. Safe to repeat.
pub(super) async fn put_content(
    State(shared): State<Arc<Shared>>,
    client: Result<Client, Problem>,
    Path(hash): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let check = || {
        let hash = parse_hash(&hash)?;
        let length = content_length(&headers)?.ok_or_else(Problem::length_required)?;
        let most = shared.info.max_document;
        if length > most {
            return Err(Problem::too_large(format!("{length} bytes, at most {most} are taken")));
        }
        Ok((hash, length, Digests::from_headers(&headers)?, shared.permit()?))
    };
    let checked = match client {
        Ok(client) => match may_write(&shared, client).await {
            Ok(()) => check().map(|checked| (client, checked)),
            Err(problem) => Err(problem),
        },
        Err(problem) => Err(problem),
    };
    let (client, (hash, length, digests, permit)) = match checked {
        Ok(checked) => checked,
        Err(problem) => return refuse(problem, &headers, body).await,
    };
    let put = move |shared: &Shared, reader: &mut BodyReader| {
        shared.intake.logs().put(client.0, &hash, length, reader)
    };
    let (result, holds) = upload(&shared, permit, digests, body, CancellationToken::new(), put).await?;
    result?;
    if !holds {
        return Err(Digests::problem());
    }
    Ok(Reply { held: vec![true], ..Reply::default() }.into_response(&headers))
}

/// `GET /v1/content/{hash}?from=BYTE`.
pub(super) async fn get_content(
    State(shared): State<Arc<Shared>>,
    _: Client,
    Path(hash): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let hash = parse_hash(&hash)?;
    let mut offset = 0u64;
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let value = pair.strip_prefix("from=").and_then(|value| value.parse().ok());
        offset = value.ok_or_else(|| Problem::bad_request(format!("{pair:?}: expected from=BYTE")))?;
    }
    let (pieces, received) = mpsc::channel(AHEAD);
    let (begun, found) = oneshot::channel();
    let read = move || {
        // Who asked may be gone by now.
        let mut reader = match shared.intake.logs().get(&hash, offset) {
            Ok(reader) => reader,
            Err(error) => return drop(begun.send(Err(error))),
        };
        let _ = begun.send(Ok(()));
        let mut buffer = vec![0; PIECE];
        loop {
            let piece = match reader.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default())),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = piece.is_err();
            if pieces.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    };
    tokio::task::spawn_blocking(read);
    found.await.map_err(|_| Problem::server("the server failed at this request; send it again later"))??;
    let kind = HeaderValue::from_static("application/octet-stream");
    // Its name is its hash: it never changes.
    let cache = HeaderValue::from_static("private, max-age=31536000, immutable");
    let body = Body::new(Pieces(received));
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, cache)], body).into_response())
}

/// `POST /v1/content/get`: several that are small, in one answer.
pub(super) async fn get_contents(
    State(shared): State<Arc<Shared>>,
    _: Client,
    body: Body,
) -> Result<Response, Problem> {
    let hashes: Vec<ContentHash> = read_ids(body).await?.iter().map(|id| ContentHash(id.0)).collect();
    let (pieces, received) = mpsc::channel(AHEAD);
    let (begun, found) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let small = match shared.intake.logs().small(&hashes) {
            Ok(small) => small,
            // Who asked may be gone by now.
            Err(error) => return drop(begun.send(Err(error))),
        };
        let _ = begun.send(Ok(()));
        for bytes in small {
            if pieces.blocking_send(Ok(framed(&bytes))).is_err() {
                return;
            }
        }
    });
    found.await.map_err(|_| Problem::server("the server failed at this request; send it again later"))??;
    let kind = HeaderValue::from_static(CONTENTS_STREAM);
    Ok(([(header::CONTENT_TYPE, kind)], Body::new(Pieces(received))).into_response())
}

/// After its length.
fn framed(bytes: &[u8]) -> Bytes {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), bytes].concat().into()
}

/// `GET /v1/names/{name}`.
pub(super) async fn get_name(
    State(shared): State<Arc<Shared>>,
    _: Client,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = parse_name(&name)?;
    let head = blocking(move || shared.intake.logs().resolve(&name)).await??;
    let Some(head) = head else {
        let detail = format!("no gateway has published a log {name} here");
        return Err(Problem::new(StatusCode::NOT_FOUND, "no-such-name", "No such log", detail));
    };
    let tag = tag(&head)?;
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    if known.flat_map(|value| value.split(',')).any(|known| known.trim() == tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let kind = HeaderValue::from_static("application/x-protobuf");
    let cache = HeaderValue::from_static("no-cache");
    Ok(([(header::ETAG, tag), (header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, cache)], head)
        .into_response())
}

/// `PUT /v1/names/{name}`, with `If-Match` or `If-None-Match: *` (RFC 9110 §13.1).
pub(super) async fn put_name(
    State(shared): State<Arc<Shared>>,
    client: Client,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    may_write(&shared, client).await?;
    let name = parse_name(&name)?;
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::trim);
    let replaces = match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (Some(tag), None) => {
            let hash = ContentHash::from_hex(tag.trim_matches('"'));
            Some(hash.ok_or_else(|| Problem::bad_request("If-Match is no ETag of a head"))?)
        }
        (None, Some("*")) => None,
        _ => {
            let detail = "send `If-Match` with the ETag of the head that you have seen, or `If-None-Match: *` for the first";
            let status = StatusCode::PRECONDITION_REQUIRED;
            return Err(Problem::new(status, "precondition-required", "Which head is replaced?", detail));
        }
    };
    let read = tokio::time::timeout(STALL, to_bytes(body, MAX_HEAD)).await;
    let read = read.map_err(|_| Problem::stream(&std::io::ErrorKind::TimedOut.into()))?;
    let head =
        read.map_err(|error| Problem::too_large(format!("{error}; a head has at most {MAX_HEAD} bytes")))?;
    let tag = tag(&head)?;
    blocking(move || shared.intake.logs().publish(&name, &head, replaces)).await??;
    let mut response = Reply { held: vec![true], ..Reply::default() }.into_response(&headers);
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

/// Phones share tokens that many hold: they read.
async fn may_write(shared: &Arc<Shared>, client: Client) -> Result<(), Problem> {
    let shared = shared.clone();
    let kind = blocking(move || shared.intake.store().client_kind(client.0)).await??;
    if kind == Some(ClientKind::Gateway) {
        return Ok(());
    }
    let detail = "only gateways publish logs; add this one with `waypost-destination gateways add NAME`";
    Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "Not with this access", detail))
}

fn parse_hash(text: &str) -> Result<ContentHash, Problem> {
    let wrong = || Problem::bad_request("the path ends in a SHA-256, 64 hexadecimal digits");
    ContentHash::from_hex(text).ok_or_else(wrong)
}

fn parse_name(text: &str) -> Result<LogKey, Problem> {
    let wrong = || Problem::bad_request("the path ends in a log's public key, 64 hexadecimal digits");
    LogKey::from_hex(text).ok_or_else(wrong)
}

fn tag(head: &Bytes) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(&format!("\"{}\"", ContentHash::of(head)))
        .map_err(|error| Problem::server(error.to_string()))
}

impl From<PlaceError> for Problem {
    fn from(error: PlaceError) -> Self {
        let (status, kind, title) = match &error {
            PlaceError::Missing(_) => (StatusCode::NOT_FOUND, "no-such-content", "No such content"),
            PlaceError::Changed => {
                (StatusCode::PRECONDITION_FAILED, "changed", "Another head stands there by now")
            }
            PlaceError::Full(_) => (StatusCode::INSUFFICIENT_STORAGE, "full", "No room"),
            PlaceError::Refused(_) => (StatusCode::BAD_REQUEST, "refused", "Not taken"),
            PlaceError::Source(error) => return Self::stream(error),
            PlaceError::Damaged { .. } | PlaceError::Unreachable(_) => {
                log::error!("remote logs: {error}");
                return Self::server("the server cannot read or write its remote logs; tell its admin");
            }
        };
        Self::new(status, kind, title, error.to_string())
    }
}

/// A body that comes from a blocking thread.
struct Pieces(mpsc::Receiver<std::io::Result<Bytes>>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
