//! Uploads: one document, or a stream of them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use http_body_util::BodyExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use waypost_protocol::api::LISTED;
use waypost_protocol::ids::MessageId;

use super::answer::Reply;
use super::client::Client;
use super::digest::Digests;
use super::questions::blocking;
use super::stream::{BodyReader, pipe, pump};
use super::{Problem, Shared};

/// What is read of a body that is refused, in bytes, and for how long: a client that is cut off while it sends hears
/// no reason. Larger uploads ask first (`Expect: 100-continue`, RFC 9110 §10.1.1), as curl does.
const REFUSED_BYTES: u64 = 8 << 20;
const REFUSED_TIME: Duration = Duration::from_secs(5);

/// `PUT /v1/documents/{id}`: one document under its id. Safe to repeat.
pub(super) async fn put_document(
    State(shared): State<Arc<Shared>>,
    client: Result<Client, Problem>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let check = || {
        let id: MessageId =
            id.parse().map_err(|error| Problem::bad_request(format!("{error}; the path ends in the id")))?;
        let length = content_length(&headers)?.ok_or_else(Problem::length_required)?;
        let (most, readable) = (shared.info.max_document, shared.intake.readable());
        if length > readable {
            return Err(Problem::too_large(format!("{length} bytes, at most {most} are taken")));
        }
        Ok((id, length, Digests::from_headers(&headers)?, shared.permit()?))
    };
    let (client, (id, length, digests, permit)) = match client.and_then(|client| Ok((client, check()?))) {
        Ok(checked) => checked,
        Err(problem) => return refuse(problem, &headers, body).await,
    };
    let is_listed = is_listed(&headers);
    let put = move |shared: &Shared, reader: &mut BodyReader| match is_listed {
        true => shared.intake.put_listed(client.0, id, reader, length),
        false => shared.intake.put(client.0, id, reader, length),
    };
    let (result, _) = upload(&shared, permit, digests, body, CancellationToken::new(), put).await?;
    let result = result.map_err(|error| Problem::stream(&error))?;
    shared.metrics.failures(usize::from(result.is_err()));
    let confirmations = result?;
    shared.metrics.sent(&confirmations);
    Ok(Reply { confirmations, ..Reply::default() }.into_response(&headers))
}

/// `POST /v1/batch`: documents, each after its length as a big-endian u32. Answered when the request has ended.
pub(super) async fn batch(
    State(shared): State<Arc<Shared>>,
    client: Result<Client, Problem>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let limits = shared.batch;
    let check = || {
        if let Some(length) = content_length(&headers)?.filter(|&length| length > limits.bytes) {
            let most = limits.bytes;
            return Err(Problem::too_large(format!(
                "a batch of {length} bytes, at most {most}; send several"
            )));
        }
        Ok((Digests::from_headers(&headers)?, shared.permit()?))
    };
    let (client, (digests, permit)) = match client.and_then(|client| Ok((client, check()?))) {
        Ok(checked) => checked,
        Err(problem) => return refuse(problem, &headers, body).await,
    };
    let take = move |shared: &Shared, reader: &mut BodyReader| shared.intake.batch(client.0, reader, limits);
    let (result, holds) = upload(&shared, permit, digests, body, CancellationToken::new(), take).await?;
    let upload = result.map_err(|error| Problem::stream(&error))?;
    shared.metrics.failures(upload.failures.len());
    shared.metrics.sent(&upload.confirmations);
    if upload.is_revoked {
        return Err(Problem::unauthorized());
    }
    if !holds {
        // What was taken has its own hash and stays taken; the client asks `have` for its confirmations.
        return Err(Digests::problem());
    }
    let reply = Reply { confirmations: upload.confirmations, failures: upload.failures, ..Reply::default() };
    Ok(reply.into_response(&headers))
}

/// Whether the client says that its remote log lists the document.
pub(super) fn is_listed(headers: &HeaderMap) -> bool {
    headers.get(LISTED).is_some_and(|value| value == "?1")
}

/// Answers with the problem, after the body where that is short.
pub(super) async fn refuse(
    problem: Problem,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<Response, Problem> {
    let drain = async {
        let mut left = REFUSED_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
            if left == 0 {
                return;
            }
        }
    };
    if !headers.contains_key(header::EXPECT) {
        let _ = tokio::time::timeout(REFUSED_TIME, drain).await;
    }
    Err(problem)
}

/// Runs `work` on a blocking thread while the body is pumped to it, to the body's end, even where the client is gone
/// by then, or until `superseded` is told. Returns what it returned, and whether the promised digests hold.
pub(super) async fn upload<T: Send + 'static>(
    shared: &Arc<Shared>,
    permit: OwnedSemaphorePermit,
    digests: Digests,
    body: Body,
    superseded: CancellationToken,
    work: impl FnOnce(&Shared, &mut BodyReader) -> T + Send + 'static,
) -> Result<(T, bool), Problem> {
    let (sender, mut reader) = pipe(digests);
    let shared = shared.clone();
    let task = tokio::spawn(blocking(move || {
        let result = work(&shared, &mut reader);
        drop(permit);
        // Only reads on where all is well: the end of a broken stream has no digest.
        let holds = reader.finish().unwrap_or(true);
        (result, holds)
    }));
    pump(body, sender, superseded).await;
    task.await.map_err(|error| Problem::server(error.to_string()))?
}

pub(super) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Problem::bad_request("Content-Length is no number"))
}
