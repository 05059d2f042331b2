//! What went wrong, as a page. One table from a command's error to a status; whatever leaves a
//! handler without a page of its own gets one here.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use commands::{CommandError, Kind, UserView};
use http::{StatusCode, header};

use crate::state::Shared;

/// Of what does not answer just now.
pub const AGAIN_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct Problem {
    pub status: StatusCode,
    pub page: app::Problem,
    /// After how long it may be tried again.
    wait: Option<Duration>,
}

/// Why a handler did not answer with its page.
#[derive(Debug)]
pub enum Failed {
    Command(CommandError),
    Page(Problem),
}

impl From<CommandError> for Failed {
    fn from(cause: CommandError) -> Self {
        Self::Command(cause)
    }
}

/// The table.
pub fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid | Kind::Conflict | Kind::Limit => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::TooMany => StatusCode::TOO_MANY_REQUESTS,
        Kind::Away => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl Problem {
    fn new(status: StatusCode, title: &str, message: impl Into<String>, hint: Option<String>) -> Self {
        let wait = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(AGAIN_AFTER);
        Self { status, page: app::Problem { title: title.to_owned(), message: message.into(), hint }, wait }
    }

    /// Not yours and not there are the same.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "There is nothing here", "No page has this address, or it is not yours.", None)
    }

    pub fn foreign() -> Self {
        let hint = Some("Open the page again and send it from there.".to_owned());
        Self::new(
            StatusCode::FORBIDDEN,
            "That was not sent from here",
            "A change has to come from a page of this site.",
            hint,
        )
    }

    pub fn sessions_away() -> Self {
        let hint = Some("Try again in a minute. Running apps are not affected.".to_owned());
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Nobody can be signed in just now",
            "The store of the sessions does not answer.",
            hint,
        )
    }

    pub fn streams() -> Self {
        let hint = Some("Close some of yours, then try again.".to_owned());
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "That is too much",
            "As many live pages and downloads are open as may be at once.",
            hint,
        )
    }

    fn of(cause: &CommandError) -> Self {
        let status = status(cause.kind());
        let title = match cause.kind() {
            Kind::NotFound => return Self::not_found(),
            Kind::Away => "Not just now",
            Kind::Forbidden => "Not yet",
            Kind::TooMany => "That was too often",
            Kind::Internal => "That is a defect of ours",
            Kind::Unauthenticated => "That did not let you in",
            Kind::Invalid | Kind::Conflict | Kind::Limit => "That cannot be done",
        };
        let problem = Self::new(status, title, cause.message(), cause.hint());
        Self { wait: cause.wait().or(problem.wait), ..problem }
    }

    /// For answers that came from no handler of ours.
    fn of_status(status: StatusCode) -> Self {
        match status {
            // An address that makes no sense leads nowhere.
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => Self::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => {
                Self::new(status, "That is done in another way", "This address does not take what was sent.", None)
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(status, "That was too much", "What was sent is larger than this page takes.", None)
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "That took too long",
                "The answer did not come in time.",
                Some("Try again. Running apps are not affected.".to_owned()),
            ),
            StatusCode::UNAUTHORIZED => Self::new(status, "You are signed out", "Sign in to see this page.", None),
            StatusCode::SERVICE_UNAVAILABLE => Self::new(
                status,
                "Not just now",
                "Something that this page needs does not answer.",
                Some("Try again in a minute. Running apps are not affected.".to_owned()),
            ),
            status if status.is_server_error() => Self::new(
                status,
                "That is a defect of ours",
                "It was written down.",
                Some("Running apps are not affected.".to_owned()),
            ),
            status => Self::new(status, "That was not understood", "What was sent is not what this page takes.", None),
        }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let problem = match self {
            Self::Page(problem) => problem,
            Self::Command(cause) => {
                note(&cause);
                Problem::of(&cause)
            }
        };
        let mut response = problem.status.into_response();
        response.extensions_mut().insert(problem);
        response
    }
}

/// What somebody should look at is written down, once, with its causes.
pub fn note(cause: &CommandError) {
    match cause.kind() {
        Kind::Internal => tracing::error!(error = %chain(cause), "a command failed"),
        Kind::Away => tracing::warn!(error = %chain(cause), "a command could not be done"),
        _ => {}
    }
}

fn chain(cause: &dyn std::error::Error) -> String {
    let mut text = cause.to_string();
    let mut next = cause.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

/// Who the handler found signed in: an error's page has the same frame.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<OnceLock<UserView>>);

impl Seen {
    pub fn set(&self, user: UserView) {
        let _ = self.0.set(user);
    }
}

/// Gives every error its page.
pub async fn draw(State(state): State<Shared>, mut request: Request, next: Next) -> Response {
    let seen = Seen::default();
    request.extensions_mut().insert(seen.clone());
    let for_people = !request.uri().path().starts_with("/assets/") && !request.uri().path().ends_with("/events");
    let mut response = next.run(request).await;
    let status = response.status();
    let drawn =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if !(status.is_client_error() || status.is_server_error()) || drawn || !for_people {
        return response;
    }
    let problem = response.extensions_mut().remove::<Problem>().unwrap_or_else(|| Problem::of_status(status));
    let html = app::error(state.page(seen.0.get()), problem.page);
    let mut page = (problem.status, Html(html)).into_response();
    // A signed-out cookie, or the methods that are allowed, go with it.
    for (name, value) in response.headers() {
        if matches!(*name, header::SET_COOKIE | header::ALLOW) {
            page.headers_mut().append(name.clone(), value.clone());
        }
    }
    if let Some(wait) = problem.wait {
        page.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
    }
    page
}
