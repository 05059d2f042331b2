//! `berth files`: what a static app runs in its sandbox. Serves a folder, and ends at SIGTERM.
//!
//! All files of an image carry one time, so a date says nothing about a change: dates are taken out
//! of both directions, and what a browser may keep is told by the release (`BERTH_RELEASE`).

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tower::ServiceExt;
use tower_http::services::{ServeDir, ServeFile};

/// Open requests get this long after SIGTERM.
const DRAIN: Duration = Duration::from_secs(8);

#[derive(Debug, Clone)]
pub struct Config {
    /// The folder to serve; `404.html` in it answers for what is not there.
    pub root: PathBuf,
    pub port: u16,
    /// Which release this is: what a browser may keep ends with it. Empty: nothing may be kept.
    pub release: String,
}

#[derive(Debug, thiserror::Error)]
#[error("could not {doing}")]
pub struct FilesError {
    doing: &'static str,
    #[source]
    cause: std::io::Error,
}

/// Serves until SIGTERM.
pub async fn run(config: Config) -> Result<(), FilesError> {
    let failed = |doing| move |cause| FilesError { doing, cause };
    let listener = TcpListener::bind(("0.0.0.0", config.port)).await.map_err(failed("listen on the port"))?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    // As the first process of a sandbox, signals without a handler would not reach it.
    let mut term = signal(SignalKind::terminate()).map_err(failed("wait for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("wait for SIGINT"))?;
    let (told, ended) = tokio::sync::oneshot::channel();
    let serving = axum::serve(listener, router(&config.root, &config.release)).with_graceful_shutdown(async move {
        tokio::select! { _ = term.recv() => {}, _ = interrupt.recv() => {} }
        let _ = told.send(());
    });
    tokio::select! {
        served = serving.into_future() => served.map_err(failed("serve"))?,
        () = async { let _ = ended.await; tokio::time::sleep(DRAIN).await } => {}
    }
    Ok(())
}

fn router(root: &Path, release: &str) -> Router {
    let tag = HeaderValue::try_from(format!("W/\"{release}\"")).ok().filter(|_| !release.is_empty());
    let missing = root.join("404.html");
    let missing = tower::service_fn(move |request: Request| {
        let page = ServeFile::new(&missing);
        async move {
            let page = page.oneshot(request).await.into_response();
            let found = page.status() == StatusCode::OK;
            Ok::<Response, Infallible>(if found {
                (StatusCode::NOT_FOUND, page).into_response()
            } else {
                (StatusCode::NOT_FOUND, "There is nothing here.\n").into_response()
            })
        }
    });
    let files = ServeDir::new(root).append_index_html_on_directories(true).fallback(missing);
    Router::new()
        .fallback_service(files)
        .layer(middleware::from_fn(move |request, next| validate(request, next, tag.clone())))
}

async fn validate(mut request: Request, next: Next, tag: Option<HeaderValue>) -> Response {
    let hidden = |part: &str| part.starts_with('.') && part != ".well-known";
    if request.uri().path().replace("%2e", ".").replace("%2E", ".").split('/').any(hidden) {
        return (StatusCode::NOT_FOUND, "There is nothing here.\n").into_response();
    }
    for date in [header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE, header::IF_RANGE] {
        request.headers_mut().remove(date);
    }
    let known = request.headers_mut().remove(header::IF_NONE_MATCH);
    let mut answer = next.run(request).await;
    answer.headers_mut().remove(header::LAST_MODIFIED);
    if let Some(tag) = tag
        && answer.status().is_success()
    {
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        answer.headers_mut().insert(header::ETAG, tag.clone());
        let is_known = known.is_some_and(|known| known.to_str().is_ok_and(|k| k.split(',').any(|t| t.trim() == tag)));
        if is_known {
            let mut unchanged = StatusCode::NOT_MODIFIED.into_response();
            unchanged.headers_mut().insert(header::ETAG, tag);
            return unchanged;
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};

    async fn get(path: &str, headers: &[(&str, &str)]) -> (StatusCode, Response) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("index.html", "<h1>home"), ("a.css", "a{}"), ("404.html", "gone"), (".env", "secret")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = router(dir.path(), "7").oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        (head.status, Response::from_parts(head, Body::from(body)))
    }

    #[tokio::test]
    async fn files_are_served_with_their_type_and_no_date() {
        let (status, answer) = get("/", &[]).await;
        assert_eq!(
            (status, &answer.headers()["content-type"]),
            (StatusCode::OK, &HeaderValue::from_static("text/html"))
        );
        let (status, answer) = get("/a.css", &[("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT")]).await;
        assert_eq!(status, StatusCode::OK);
        assert!(!answer.headers().contains_key("last-modified"));
        assert_eq!(answer.headers()["etag"], "W/\"7\"");
    }

    #[tokio::test]
    async fn what_a_browser_has_of_this_release_is_not_sent_again() {
        assert_eq!(get("/a.css", &[("if-none-match", "W/\"6\", W/\"7\"")]).await.0, StatusCode::NOT_MODIFIED);
        assert_eq!(get("/a.css", &[("if-none-match", "W/\"6\"")]).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn hidden_and_missing_files_are_not_there() {
        for path in ["/.env", "/%2eenv", "/nothing", "/../etc/passwd", "/%2e%2e/etc/passwd"] {
            assert_eq!(get(path, &[]).await.0, StatusCode::NOT_FOUND, "{path}");
        }
    }
}
