//! What went wrong, as JSON: `{"error": {"kind", "message", "hint", "field"}}`, by the one table from a kind to a status.

use std::time::Duration;

use axum::Json;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use commands::api::{self, ErrorDetail};
use commands::{CommandError, Kind};
use http::{HeaderValue, StatusCode, header};

use crate::problem::{AGAIN_AFTER, note, status};

/// Some of what is followed ends meanwhile.
const STREAMS_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Why a request was not done.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    detail: ErrorDetail,
    /// When it may be tried again.
    wait: Option<Duration>,
}

impl ApiError {
    fn new(kind: Kind, message: impl Into<String>, hint: Option<&str>) -> Self {
        let (message, hint) = (message.into(), hint.map(str::to_owned));
        let detail = ErrorDetail { kind: kind.as_str(), message, hint, field: None };
        Self { status: status(kind), detail, wait: None }
    }

    pub fn invalid(field: Option<String>, message: impl Into<String>) -> Self {
        let mut wrong = Self::new(Kind::Invalid, message, None);
        wrong.detail.field = field;
        wrong
    }

    /// Not yours and not there are the same.
    pub fn not_found() -> Self {
        Self::new(Kind::NotFound, "There is nothing here.", None)
    }

    pub fn no_token() -> Self {
        let hint = "Make a token on your account page, and send it as: Authorization: Bearer berth_…";
        Self::new(Kind::Unauthenticated, "A token is needed.", Some(hint))
    }

    pub fn bad_token() -> Self {
        let hint = "It may have been revoked, or have ended. Your account page has those that hold.";
        Self::new(Kind::Unauthenticated, "This token lets nobody in.", Some(hint))
    }

    pub fn read_only() -> Self {
        let hint = "Make a token that may change things.";
        Self::new(Kind::Forbidden, "This token only looks.", Some(hint))
    }

    pub fn too_many(message: &str, wait: Duration) -> Self {
        let hint = format!("Try again in {} s.", wait.as_secs().max(1));
        Self { wait: Some(wait), ..Self::new(Kind::TooMany, message, Some(&hint)) }
    }

    pub fn too_large() -> Self {
        Self::of_status(StatusCode::PAYLOAD_TOO_LARGE)
    }

    pub fn internal(what: &str) -> Self {
        tracing::error!(error = what, "the API could not answer");
        Self::of_status(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub fn streams() -> Self {
        let hint = format!("End one of them, or try again in {} s.", STREAMS_AGAIN_AFTER.as_secs());
        let message = "You follow as many logs as anybody may at once.";
        Self { wait: Some(STREAMS_AGAIN_AFTER), ..Self::new(Kind::TooMany, message, Some(&hint)) }
    }

    /// For answers that came from no handler of ours.
    fn of_status(status: StatusCode) -> Self {
        let again = Some("Try again. Running apps are not affected.");
        let (kind, status, message, hint) = match status {
            StatusCode::NOT_FOUND => return Self::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("method_not_allowed", status, "This address is not asked in that way.", None)
            }
            StatusCode::PAYLOAD_TOO_LARGE => ("too_large", status, "What was sent is larger than this takes.", None),
            StatusCode::GATEWAY_TIMEOUT => {
                ("away", StatusCode::SERVICE_UNAVAILABLE, "The answer did not come in time.", again)
            }
            status if status.is_server_error() => ("internal", status, "Something went wrong on our side.", again),
            status => ("invalid", status, "That was not understood.", None),
        };
        let (message, hint) = (message.to_owned(), hint.map(str::to_owned));
        Self { status, detail: ErrorDetail { kind, message, hint, field: None }, wait: None }
    }
}

impl From<CommandError> for ApiError {
    fn from(cause: CommandError) -> Self {
        note(&cause);
        let field = match &cause {
            CommandError::Scale { process: Some(process), .. } => Some(format!("processes.{process}")),
            cause => cause.field().map(str::to_owned),
        };
        let detail = ErrorDetail { kind: cause.kind().as_str(), message: cause.message(), hint: cause.hint(), field };
        Self { status: status(cause.kind()), detail, wait: cause.wait() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(api::Error { error: self.detail })).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"berth\""));
        }
        let away = (self.status == StatusCode::SERVICE_UNAVAILABLE).then_some(AGAIN_AFTER);
        if let Some(wait) = self.wait.or(away) {
            headers.insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        response
    }
}

/// Gives every error that came from no handler of ours its JSON.
pub async fn speak(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let spoken = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if spoken || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let mut answer = ApiError::of_status(status).into_response();
    if let Some(methods) = response.headers().get(header::ALLOW) {
        answer.headers_mut().insert(header::ALLOW, methods.clone());
    }
    answer
}
