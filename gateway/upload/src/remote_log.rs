//! The destination as a place for remote logs: content by hash, heads by name, over the client's connection.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use ureq::http::header::{self, HeaderMap, HeaderValue};
use ureq::http::{Method, Response};
use ureq::{Body, SendBody};
use waypost_protocol::api;
use waypost_protocol::ids::MessageId;
use waypost_remote_log::head::MAX_HEAD;
use waypost_remote_log::{ContentHash, ContentStore, LogKey, NameSystem, PlaceError};

use crate::client::{Client, protobuf_wanted};
use crate::decode;
use crate::error::{Cause, Error};
use crate::wire::Line;

/// A destination, as remote logs see it. Each call is one request, or as many as its ids need.
pub struct DestinationPlace<'a>(pub &'a mut Client);

impl ContentStore for DestinationPlace<'_> {
    fn has(&mut self, hashes: &[ContentHash]) -> Result<Vec<bool>, PlaceError> {
        let mut held = Vec::with_capacity(hashes.len());
        for chunk in hashes.chunks(api::MAX_IDS) {
            let ids: Vec<MessageId> = chunk.iter().map(|hash| MessageId(hash.0)).collect();
            let answer = self.0.ask_about(api::CONTENT_HAVE, &ids).map_err(unreachable)?;
            held.extend((0..chunk.len()).map(|at| api::bit(&answer.held, at)));
        }
        Ok(held)
    }

    fn put(&mut self, hash: &ContentHash, length: u64, content: &mut dyn Read) -> Result<(), PlaceError> {
        let mut headers = protobuf_wanted();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        let mut body = Outgoing { content, left: length, line: self.0.line(), trouble: None };
        let path = format!("{}/{hash}", api::CONTENT);
        let outcome = self.0.send(Method::PUT, &path, headers, SendBody::from_reader(&mut body));
        match (outcome, body.trouble) {
            (_, Some(error)) => Err(PlaceError::Source(error)),
            (Ok(mut response), None) => self.taken(&mut response),
            (Err(error), None) => {
                Err(PlaceError::Unreachable(self.0.judged(self.0.explain(error).0).to_string()))
            }
        }
    }

    fn get(&mut self, hash: &ContentHash, offset: u64) -> Result<Box<dyn Read + '_>, PlaceError> {
        let from = if offset > 0 { format!("?from={offset}") } else { String::new() };
        let path = format!("{}/{hash}{from}", api::CONTENT);
        let mut response =
            self.0.question(Method::GET, &path, HeaderMap::new(), Vec::new()).map_err(unreachable)?;
        if is_absent(&response) {
            return Err(PlaceError::Missing(*hash));
        }
        self.0
            .expect(&mut response, "application/octet-stream")
            .map_err(|cause| PlaceError::Unreachable(self.0.judged(cause).to_string()))?;
        // Whoever reads knows how much is wanted.
        Ok(Box::new(response.into_body().into_with_config().limit(u64::MAX).reader()))
    }

    fn get_small(&mut self, wanted: &[(ContentHash, u64)]) -> Result<Vec<Option<Bytes>>, PlaceError> {
        let ids: Vec<MessageId> = wanted.iter().map(|(hash, _)| MessageId(hash.0)).collect();
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(api::IDS))]);
        let response = self.0.question(Method::POST, api::CONTENT_GET, headers, api::encode_ids(&ids));
        let mut response = response.map_err(unreachable)?;
        if matches!(response.status().as_u16(), 404 | 405) {
            // A server that does not know that question.
            return Ok(vec![None; wanted.len()]);
        }
        self.0
            .expect(&mut response, api::CONTENTS_STREAM)
            .map_err(|cause| PlaceError::Unreachable(self.0.judged(cause).to_string()))?;
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        decode::contents(&mut body, wanted).map_err(|error| PlaceError::Unreachable(error.to_string()))
    }
}

impl NameSystem for DestinationPlace<'_> {
    fn resolve(&mut self, name: &LogKey) -> Result<Option<Bytes>, PlaceError> {
        let path = format!("{}/{name}", api::NAMES);
        let mut response =
            self.0.question(Method::GET, &path, HeaderMap::new(), Vec::new()).map_err(unreachable)?;
        if is_absent(&response) {
            return Ok(None);
        }
        let read = self.0.expect(&mut response, api::PROTOBUF);
        let read = read.and_then(|()| self.0.read_answer(&mut response, MAX_HEAD as u64));
        read.map(|bytes| Some(Bytes::from(bytes)))
            .map_err(|cause| PlaceError::Unreachable(self.0.judged(cause).to_string()))
    }

    fn publish(
        &mut self,
        name: &LogKey,
        head: &Bytes,
        replaces: Option<ContentHash>,
    ) -> Result<(), PlaceError> {
        let mut headers = protobuf_wanted();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(api::PROTOBUF));
        match replaces.map(|hash| HeaderValue::from_str(&format!("\"{hash}\""))) {
            Some(Ok(tag)) => headers.insert(header::IF_MATCH, tag),
            _ => headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*")),
        };
        let path = format!("{}/{name}", api::NAMES);
        let mut response =
            self.0.question(Method::PUT, &path, headers, head.to_vec()).map_err(unreachable)?;
        self.taken(&mut response)
    }
}

impl DestinationPlace<'_> {
    /// Whether what was put was taken.
    fn taken(&self, response: &mut Response<Body>) -> Result<(), PlaceError> {
        if response.status().as_u16() == 412 {
            return Err(PlaceError::Changed);
        }
        match self.0.answer(response, 1) {
            Ok(_) => Ok(()),
            Err(Cause::Full { detail }) => Err(PlaceError::Full(words(&detail))),
            Err(cause @ Cause::TooLarge { .. }) => Err(PlaceError::Refused(cause.to_string())),
            Err(Cause::Malformed { detail, .. }) => Err(PlaceError::Refused(words(&detail))),
            Err(cause) => Err(PlaceError::Unreachable(self.0.judged(cause).to_string())),
        }
    }
}

/// The server's own word that it does not have it; any other 404 comes from something that is no destination.
fn is_absent(response: &Response<Body>) -> bool {
    response.status().as_u16() == 404 && response.body().mime_type() == Some("application/problem+json")
}

fn unreachable(error: Error) -> PlaceError {
    PlaceError::Unreachable(error.cause().to_string())
}

fn words(detail: &str) -> String {
    detail.trim_start_matches([':', ' ']).to_owned()
}

/// The body of a put.
struct Outgoing<'a> {
    content: &'a mut dyn Read,
    left: u64,
    line: Arc<Line>,
    /// Why the content could not be read.
    trouble: Option<io::Error>,
}

impl Read for Outgoing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.line.is_stopped() {
            return Err(io::Error::other("stopped"));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let room = buffer.get_mut(..most).unwrap_or_default();
        if self.line.is_deaf() {
            // Nothing of this is sent any more; HTTP only must have its full count before the answer can be read.
            room.fill(0);
            self.left -= most as u64;
            return Ok(most);
        }
        match self.content.read(room) {
            Ok(0) if self.left > 0 && !room.is_empty() => {
                self.trouble = Some(io::ErrorKind::UnexpectedEof.into());
                Err(io::Error::other("the content being sent ends early"))
            }
            Ok(amount) => {
                self.left -= amount as u64;
                Ok(amount)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.trouble = Some(error);
                Err(io::Error::other("the content being sent cannot be read"))
            }
        }
    }
}
