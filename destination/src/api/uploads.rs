//! Uploads: one document, or a stream of them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use tokio::sync::OwnedSemaphorePermit;
use waypost_protocol::ids::MessageId;

use super::answer::Reply;
use super::client::Client;
use super::digest::Digests;
use super::questions::blocking;
use super::stream::{BodyReader, pipe, pump};
use super::{Problem, Shared};

/// `PUT /v1/documents/{id}`: one document under its id. Safe to repeat.
pub(super) async fn put_document(
    State(shared): State<Arc<Shared>>,
    client: Client,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id: MessageId =
        id.parse().map_err(|error| Problem::bad_request(format!("{error}; the path ends in the id")))?;
    let length = content_length(&headers)?.ok_or_else(|| {
        Problem::new(
            axum::http::StatusCode::LENGTH_REQUIRED,
            "length-required",
            "Length required",
            "say how long the document is in Content-Length",
        )
    })?;
    let limits = (shared.info.max_document, shared.info.max_document.saturating_mul(8));
    if length > limits.1 {
        return Err(Problem::too_large(format!("{length} bytes, at most {} are taken", limits.0)));
    }
    let digests = Digests::from_headers(&headers)?;
    let put = move |shared: &Shared, reader: &mut BodyReader| shared.intake.put(client.0, id, reader, length);
    let (result, _) = upload(&shared, digests, body, put).await?;
    let confirmations = result.map_err(|error| Problem::stream(&error))??;
    Ok(Reply { confirmations, ..Reply::default() }.into_response(&headers))
}

/// `POST /v1/batch`: documents, each after its length as a big-endian u32. Answered when the request has ended.
pub(super) async fn batch(
    State(shared): State<Arc<Shared>>,
    client: Client,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    if let Some(length) = content_length(&headers)?.filter(|&length| length > shared.batch.bytes) {
        let most = shared.batch.bytes;
        return Err(Problem::too_large(format!("a batch of {length} bytes, at most {most}; send several")));
    }
    let digests = Digests::from_headers(&headers)?;
    let limits = shared.batch;
    let take = move |shared: &Shared, reader: &mut BodyReader| shared.intake.batch(client.0, reader, limits);
    let (result, holds) = upload(&shared, digests, body, take).await?;
    let upload = result.map_err(|error| Problem::stream(&error))?;
    if !holds {
        // What was taken has its own hash and stays taken; the client asks `have` for its confirmations.
        return Err(Digests::problem());
    }
    let reply = Reply { confirmations: upload.confirmations, failures: upload.failures, ..Reply::default() };
    Ok(reply.into_response(&headers))
}

/// Runs `work` on a blocking thread while the body is pumped to it, to the body's end, even where the client is gone
/// by then. Returns what it returned, and whether the promised digests hold.
async fn upload<T: Send + 'static>(
    shared: &Arc<Shared>,
    digests: Digests,
    body: Body,
    work: impl FnOnce(&Shared, &mut BodyReader) -> T + Send + 'static,
) -> Result<(T, bool), Problem> {
    let permit: OwnedSemaphorePermit =
        shared.uploads.clone().try_acquire_owned().map_err(|_| Problem::busy())?;
    let (sender, mut reader) = pipe(digests);
    let shared = shared.clone();
    let task = tokio::spawn(blocking(move || {
        let result = work(&shared, &mut reader);
        drop(permit);
        // Only reads on where all is well: the end of a broken stream has no digest.
        let holds = reader.finish().unwrap_or(true);
        (result, holds)
    }));
    pump(body, sender).await;
    task.await.map_err(|error| Problem::server(error.to_string()))?
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Problem::bad_request("Content-Length is no number"))
}
