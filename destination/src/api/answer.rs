//! Answers: protobuf for programs that accept it, JSON with the signed texts for people with curl.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use prost::Message as _;
use serde::Serialize;
use waypost_protocol::api::{Answer, Failure, FailureCode, PROTOBUF, encode_bitmap};
use waypost_protocol::confirmation::Confirmation;

use crate::judge::Failed;

/// What is answered, before it is known in which form.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) confirmations: Vec<Confirmation>,
    pub(super) failures: Vec<(u32, Failed)>,
    pub(super) held: Vec<bool>,
    pub(super) cursor: u64,
}

#[derive(Serialize)]
struct JsonAnswer {
    confirmations: Vec<JsonConfirmation>,
    failures: Vec<JsonFailure>,
    held: Vec<bool>,
    cursor: u64,
}

#[derive(Serialize)]
struct JsonConfirmation {
    /// Exactly what is signed.
    text: String,
    /// The binary detached signature in base64.
    signature: String,
}

#[derive(Serialize)]
struct JsonFailure {
    index: u32,
    id: Option<String>,
    code: FailureCode,
    detail: String,
}

impl Reply {
    /// In the form that the request accepts.
    pub(super) fn into_response(self, request: &HeaderMap) -> Response {
        match accepts_protobuf(request) {
            true => typed(PROTOBUF, self.to_protobuf()),
            false => typed("application/json", self.to_json()),
        }
    }

    fn to_protobuf(&self) -> Vec<u8> {
        let failures = self.failures.iter().map(|(index, failed)| Failure {
            index: *index,
            id: failed.id.map(|id| id.0.to_vec()).unwrap_or_default().into(),
            code: failed.code.code(),
            detail: failed.detail.clone(),
        });
        let answer = Answer {
            confirmations: self.confirmations.iter().map(Confirmation::to_wire).collect(),
            failures: failures.collect(),
            held: encode_bitmap(&self.held),
            cursor: self.cursor,
        };
        answer.encode_to_vec()
    }

    fn to_json(&self) -> Vec<u8> {
        let confirmations = self.confirmations.iter().map(|confirmation| JsonConfirmation {
            text: confirmation.statement.text(),
            signature: BASE64.encode(confirmation.signature()),
        });
        let failures = self.failures.iter().map(|(index, failed)| JsonFailure {
            index: *index,
            id: failed.id.map(|id| id.to_string()),
            code: failed.code,
            detail: failed.detail.clone(),
        });
        let answer = JsonAnswer {
            confirmations: confirmations.collect(),
            failures: failures.collect(),
            held: self.held.clone(),
            cursor: self.cursor,
        };
        // Strings and numbers always encode.
        let mut bytes = serde_json::to_vec_pretty(&answer).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

fn accepts_protobuf(request: &HeaderMap) -> bool {
    let values = request.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = values.flat_map(|value| value.split(','));
    kinds.any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(PROTOBUF)))
}

fn typed(kind: &'static str, bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], bytes).into_response()
}
