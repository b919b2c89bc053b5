//! Errors as RFC 9457 problem details, whose `detail` says what to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use waypost_protocol::api::FailureCode;

use crate::judge::Failed;
use crate::store::StoreError;

/// A refusal.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    /// Last part of the `type` URI, for programs.
    kind: &'static str,
    title: &'static str,
    detail: String,
    retry_after: Option<u32>,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Problem { status, kind, title, detail: detail.into(), retry_after: None }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request is not understood", detail)
    }

    pub(super) fn unauthorized() -> Self {
        let detail = "give the token that `waypost-destination gateways add NAME` printed as `Authorization: Bearer \
            TOKEN`, or the client certificate that was added with it";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Not known here, or revoked", detail)
    }

    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "More than is taken", detail)
    }

    pub(super) fn length_required() -> Self {
        let detail = "say how long the document is in Content-Length";
        Self::new(StatusCode::LENGTH_REQUIRED, "length-required", "Length required", detail)
    }

    pub(super) fn busy() -> Self {
        let detail = "too many uploads at a time; send it again in some seconds";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Busy", detail);
        Problem { retry_after: Some(5), ..problem }
    }

    pub(super) fn server(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server", "The server failed", detail);
        Problem { retry_after: Some(60), ..problem }
    }

    pub(super) fn stream(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::TimedOut => {
                let detail = "nothing came for too long; send it again, on a better line";
                Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", "The upload stalled", detail)
            }
            std::io::ErrorKind::UnexpectedEof => {
                Self::bad_request("the body ended early; send the whole document again")
            }
            _ => Self::bad_request(format!("the body could not be read: {error}; send it again")),
        }
    }
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        if failed.is_revoked {
            return Self::unauthorized();
        }
        let (status, kind, title) = match failed.code {
            FailureCode::Malformed => (StatusCode::BAD_REQUEST, "malformed", "Not the document"),
            FailureCode::WrongDestination => {
                (StatusCode::UNPROCESSABLE_ENTITY, "wrong-destination", "For another destination")
            }
            FailureCode::Full => (StatusCode::INSUFFICIENT_STORAGE, "full", "No room"),
            FailureCode::Server => return Self::server(failed.detail),
        };
        Self::new(status, kind, title, failed.detail)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        log::error!("{error}");
        Self::server("the server cannot read what it stored; ask again later, and tell its admin")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "type": format!("urn:waypost:problem:{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = (self.status, format!("{body}\n")).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

pub(super) async fn no_such_path() -> Problem {
    let paths: Vec<_> = super::ROUTES.iter().map(|(method, path)| format!("{method} {path}")).collect();
    let detail = format!("there are {}", paths.join(", "));
    Problem::new(StatusCode::NOT_FOUND, "no-such-path", "No such path", detail)
}

pub(super) async fn no_such_method() -> Problem {
    let Problem { detail, .. } = no_such_path().await;
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no-such-method", "Not with this method", detail)
}
