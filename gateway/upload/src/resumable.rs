//! Uploads that go on later: the client's half of tus 1.0 (<https://tus.io/protocols/resumable-upload>).

use std::io::Read;

use data_encoding::BASE64;
use ureq::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ureq::http::{Method, Response};
use ureq::{Body, SendBody};
use waypost_protocol::api::{self, Answer};
use waypost_protocol::document::{Description, prefix};
use waypost_protocol::ids::MessageId;

use crate::body::{Outgoing, Part, Upload, encoded_len};
use crate::client::{Client, Progress, mark_listed};
use crate::error::{Cause, Error};

const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const METADATA: HeaderName = HeaderName::from_static("upload-metadata");

impl Client {
    /// Bytes that the destination has of an upload that this device began; `None` where there is no such upload.
    pub fn upload_offset(&mut self, id: &MessageId) -> Result<Option<u64>, Error> {
        let path = format!("{}/{id}", api::UPLOADS);
        let mut response = self.question(Method::HEAD, &path, spoken(), Vec::new())?;
        if response.status().as_u16() == 404 {
            return Ok(None);
        }
        self.offset_in(&mut response).map(Some).map_err(Error::Definite)
    }

    /// Sends a document from byte `from` of its canonical encoding on, or begins its upload where that is `None`.
    /// Its body gives the envelope from there on. `ends` is asked from time to time, with the bytes sent, whether the
    /// request is to end early. Returns how much the destination has; with all of it, it has given its verdict.
    ///
    /// Only the loss of the last part's answer is ambiguous: before that, the document does not exist there.
    pub fn append(
        &mut self,
        upload: Upload<impl Read>,
        from: Option<u64>,
        ends: &dyn Fn(u64) -> bool,
        progress: Progress<'_>,
    ) -> Result<u64, Error> {
        let description = upload.description;
        let total = encoded_len(&description);
        let mut headers = spoken();
        mark_listed(&mut headers, upload.is_listed);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(api::TUS_STREAM));
        let (method, path) = match from {
            Some(offset) => {
                headers.insert(OFFSET, HeaderValue::from(offset));
                (Method::PATCH, format!("{}/{}", api::UPLOADS, description.id))
            }
            None => {
                headers.insert(LENGTH, HeaderValue::from(total));
                let named = format!("id {}", BASE64.encode(description.id.to_string().as_bytes()));
                if let Ok(named) = HeaderValue::from_str(&named) {
                    headers.insert(METADATA, named);
                }
                (Method::POST, api::UPLOADS.to_owned())
            }
        };
        let part = Part { offset: from.unwrap_or(0), ends };
        let offset = part.offset;
        let mut outgoing = Outgoing::part(upload, part, progress, self.line());
        let outcome = self.send(method, &path, headers, SendBody::from_reader(&mut outgoing));
        let is_complete = offset + outgoing.sent() >= total;
        let mut response = match outcome {
            Ok(response) => response,
            Err(error) => return Err(self.upload_lost(error, outgoing.trouble(), is_complete)),
        };
        let status = response.status().as_u16();
        self.offset_in(&mut response).map_err(|cause| Error::new(cause, is_complete && status >= 500))
    }

    /// Uploads one document, going on where an earlier upload of it ended, and asks for its verdict. `body` gives its
    /// envelope from an offset on.
    pub fn put_on<R: Read>(
        &mut self,
        description: &Description,
        is_begun: bool,
        body: impl FnOnce(u64) -> R,
        progress: Progress<'_>,
    ) -> Result<Answer, Error> {
        let from = if is_begun { self.upload_offset(&description.id)? } else { None };
        if is_begun && from.is_none() && api::bit(&self.have(&[description.id])?.held, 0) {
            // It became whole while it was asked for.
            return self.confirmations(&[description.id]);
        }
        let in_body = from.unwrap_or(0).saturating_sub(prefix(description).len() as u64);
        let there = self.append(Upload::new(*description, body(in_body)), from, &|_| false, progress)?;
        if there < encoded_len(description) {
            let detail = format!("it has {there} of {} bytes", encoded_len(description));
            return Err(Error::Definite(Cause::Unreadable { detail }));
        }
        // The document is there; only its confirmation may have to wait.
        self.confirmations(&[description.id]).map_err(|error| Error::Ambiguous(error.cause().clone()))
    }

    /// `Upload-Offset` of a success, or why there is none.
    fn offset_in(&self, response: &mut Response<Body>) -> Result<u64, Cause> {
        let status = response.status();
        if !status.is_success() {
            let cause = self.refusal(response);
            return Err(match (status.as_u16(), cause) {
                // What the two believe of the upload differs; it is asked for again, or begun anew.
                (
                    code @ (404 | 409 | 410 | 423),
                    Cause::WrongServer { detail } | Cause::Malformed { detail, .. },
                ) => Cause::ServerError { code, detail, retry_after: None },
                (412, Cause::Malformed { detail, .. }) => Cause::Incompatible { detail },
                (_, cause) => cause,
            });
        }
        let offset = response.headers().get(OFFSET).and_then(|offset| offset.to_str().ok()?.parse().ok());
        offset.ok_or_else(|| Cause::WrongServer {
            detail: "it does not say how much of an upload it has".to_owned(),
        })
    }
}

fn spoken() -> HeaderMap {
    HeaderMap::from_iter([(RESUMABLE, HeaderValue::from_static(api::TUS_VERSION))])
}
