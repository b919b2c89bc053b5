//! Uploads that go on later: tus 1.0 with the extensions creation, creation-with-upload and termination
//! (<https://tus.io/protocols/resumable-upload>).
//!
//! An upload is named by its document's id, which `Upload-Metadata` gives at creation. The verdict on the whole
//! document is asked for with `POST /v1/confirmations`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use waypost_protocol::api::{TUS_STREAM, TUS_VERSION, UPLOADS};
use waypost_protocol::ids::MessageId;

use super::client::Client;
use super::digest::Digests;
use super::questions::blocking;
use super::stream::BodyReader;
use super::uploads::{is_listed, refuse, upload};
use super::{Problem, Shared};
use crate::intake::Advance;
use crate::partials::{Partial, PartialError};
use crate::store::StoreError;

const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const VERSION: HeaderName = HeaderName::from_static("tus-version");
const EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
const MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const OURS: HeaderValue = HeaderValue::from_static(TUS_VERSION);

/// Every answer names the version; every request but `OPTIONS` must.
pub(super) async fn versioned(request: Request, next: Next) -> Response {
    let version = request.headers().get(RESUMABLE);
    let is_ours = version.is_some_and(|version| version == TUS_VERSION);
    let mut response = match is_ours || request.method() == axum::http::Method::OPTIONS {
        true => next.run(request).await,
        false => {
            let detail = format!("say `Tus-Resumable: {TUS_VERSION}`, the version that is spoken here");
            let title = "Another version of tus";
            let problem = Problem::new(StatusCode::PRECONDITION_FAILED, "tus-version", title, detail);
            ([(VERSION, OURS)], problem).into_response()
        }
    };
    response.headers_mut().insert(RESUMABLE, OURS);
    response
}

/// `OPTIONS /v1/uploads`: what is spoken here.
pub(super) async fn options(State(shared): State<Arc<Shared>>) -> Response {
    let extensions = HeaderValue::from_static("creation,creation-with-upload,termination");
    let most = shared.intake.readable().min(shared.intake.partials().most());
    let most = HeaderValue::from(most);
    (StatusCode::NO_CONTENT, [(VERSION, OURS), (EXTENSION, extensions), (MAX_SIZE, most)]).into_response()
}

/// `POST /v1/uploads`: begins an upload, with its first bytes if there are any.
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    client: Result<Client, Problem>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let check = || {
        let id = named_id(&headers)?;
        let length = number(&headers, &LENGTH)?;
        let readable = shared.intake.readable().min(shared.intake.partials().most());
        if length > readable {
            let most = shared.info.max_document;
            return Err(Problem::too_large(format!("{length} bytes, at most {most} are taken")));
        }
        let has_bytes = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == TUS_STREAM);
        Ok((id, length, has_bytes))
    };
    let (client, (id, length, has_bytes)) = match client.and_then(|client| Ok((client, check()?))) {
        Ok(checked) => checked,
        Err(problem) => return refuse(problem, &headers, body).await,
    };
    let partial = match shared.intake.partials().create(client.0, id, length).await {
        Ok(partial) => partial,
        Err(error) => return refuse(error.into(), &headers, body).await,
    };
    let offset = match has_bytes {
        true => append(&shared, client, id, partial, &headers, body).await?,
        false => 0,
    };
    let location = HeaderValue::from_str(&format!("{UPLOADS}/{id}"));
    let location = location.map_err(|error| Problem::server(error.to_string()))?;
    let headers = [(header::LOCATION, location), (OFFSET, HeaderValue::from(offset))];
    Ok((StatusCode::CREATED, headers).into_response())
}

/// `HEAD /v1/uploads/{id}`: where to go on. What still comes on an earlier connection is ended first.
pub(super) async fn offset(
    State(shared): State<Arc<Shared>>,
    client: Client,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let partial = find(&shared, client, parse_id(&id)?).await?;
    let headers = [
        (OFFSET, HeaderValue::from(partial.offset())),
        (LENGTH, HeaderValue::from(partial.length())),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((StatusCode::OK, headers).into_response())
}

/// `PATCH /v1/uploads/{id}`: more bytes.
pub(super) async fn patch(
    State(shared): State<Arc<Shared>>,
    client: Result<Client, Problem>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let check = || {
        if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != TUS_STREAM) {
            let detail = format!("send the bytes as Content-Type: {TUS_STREAM}");
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Problem::new(status, "media-type", "Not with this media type", detail));
        }
        Ok((parse_id(&id)?, number(&headers, &OFFSET)?))
    };
    let begin = async {
        let client = client?;
        let (id, offset) = check()?;
        let partial = find(&shared, client, id).await?;
        if partial.offset() != offset {
            let detail =
                format!("{} bytes are here, the request begins at {offset}; ask with HEAD", partial.offset());
            return Err(Problem::new(StatusCode::CONFLICT, "offset", "Not where it goes on", detail));
        }
        Ok((client, id, partial))
    };
    let (client, id, partial) = match begin.await {
        Ok(begun) => begun,
        Err(problem) => return refuse(problem, &headers, body).await,
    };
    let offset = append(&shared, client, id, partial, &headers, body).await?;
    Ok((StatusCode::NO_CONTENT, [(OFFSET, HeaderValue::from(offset))]).into_response())
}

/// `DELETE /v1/uploads/{id}`: it will not go on.
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    client: Client,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let partial = find(&shared, client, parse_id(&id)?).await?;
    blocking(move || partial.remove()).await??;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Adds the body. Returns how much is here after it.
async fn append(
    shared: &Arc<Shared>,
    client: Client,
    id: MessageId,
    partial: Partial,
    headers: &HeaderMap,
    body: Body,
) -> Result<u64, Problem> {
    let permit = shared.permit()?;
    let is_listed = is_listed(headers);
    let superseded = partial.superseded();
    let length = partial.length();
    let take = move |shared: &Shared, reader: &mut BodyReader| {
        shared.intake.append(client.0, id, partial, is_listed, reader)
    };
    // The document's id is a digest over all parts.
    let (result, _) = upload(shared, permit, Digests::default(), body, superseded, take).await?;
    match result.map_err(|error| Problem::stream(&error))?? {
        Advance::Offset(offset) => Ok(offset),
        Advance::Whole(_) => Ok(length),
    }
}

async fn find(shared: &Arc<Shared>, client: Client, id: MessageId) -> Result<Partial, Problem> {
    let none = || {
        let detail = "begin it with POST /v1/uploads; a whole upload's verdict is asked for with POST /v1/confirmations";
        Problem::new(StatusCode::NOT_FOUND, "no-such-upload", "No such upload", detail)
    };
    shared.intake.partials().find(client.0, id).await?.ok_or_else(none)
}

fn parse_id(text: &str) -> Result<MessageId, Problem> {
    text.parse()
        .map_err(|error| Problem::bad_request(format!("{error}; an upload is named by its document's id")))
}

/// The id in `Upload-Metadata`: `id` and the hexadecimal id in base64.
fn named_id(headers: &HeaderMap) -> Result<MessageId, Problem> {
    let wrong =
        || Problem::bad_request("name the document: `Upload-Metadata: id BASE64`, of its id in hexadecimal");
    let value = headers.get(METADATA).and_then(|value| value.to_str().ok()).ok_or_else(wrong)?;
    let pairs = value.split(',').filter_map(|pair| pair.trim().split_once(' '));
    let id = pairs.into_iter().find_map(|(key, value)| (key == "id").then_some(value)).ok_or_else(wrong)?;
    let id = BASE64.decode(id.trim().as_bytes()).map_err(|_| wrong())?;
    std::str::from_utf8(&id).map_err(|_| wrong()).and_then(parse_id)
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<u64, Problem> {
    let value = headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok());
    value.ok_or_else(|| Problem::bad_request(format!("say in {name} how many bytes, in digits")))
}

impl From<PartialError> for Problem {
    fn from(error: PartialError) -> Self {
        match error {
            PartialError::Locked => Self::new(StatusCode::LOCKED, "locked", "In use", error.to_string()),
            PartialError::Full(detail) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "full", "No room", detail)
            }
            PartialError::Store(StoreError::Revoked) => Self::unauthorized(),
            PartialError::Store(error) => error.into(),
            PartialError::File(cause) if crate::durable::is_full(&cause) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "full", "No room", "send it again later")
            }
            PartialError::File(cause) => {
                log::error!("an unfinished upload cannot be used: {cause}");
                Self::server(
                    "the server cannot use what it has of this upload; try again later, and tell its admin",
                )
            }
        }
    }
}
