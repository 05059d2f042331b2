//! Client and server against each other on a real unix socket.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::os::unix::net::UnixListener;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use domain::Secret;
use futures_util::{StreamExt, TryStreamExt};
use link::{Caller, Client, LinkError, Role, serve};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(5);

struct Served {
    dir: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

impl Served {
    fn client(&self, token: &str) -> Client {
        Client::new(self.dir.path().join("s"), Secret::new(token.to_owned()))
    }
}

fn served(uid: u32) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("s")).unwrap();
    let router = Router::new()
        .route("/v1/echo", post(|role: Extension<Role>, Json(n): Json<u64>| async move { Json((role.0, n)) }))
        .route("/v1/nothing", post(|| async { axum::http::StatusCode::NO_CONTENT }))
        .route("/v1/never", post(std::future::pending::<()>))
        .route(
            "/v1/big",
            get(|| async {
                Body::from_stream(futures_util::stream::iter(
                    (0..1000).map(|_| Ok::<_, std::io::Error>(vec![7u8; 1000])),
                ))
            }),
        )
        .route(
            "/v1/count",
            put(|request: Request| async move {
                let bytes: usize = request
                    .into_body()
                    .into_data_stream()
                    .map_ok(|b| b.len())
                    .try_fold(0, |a, b| async move { Ok(a + b) })
                    .await
                    .unwrap();
                if bytes == 300_000 { axum::http::StatusCode::NO_CONTENT } else { axum::http::StatusCode::BAD_REQUEST }
            }),
        );
    let stop = CancellationToken::new();
    let callers = vec![Caller { role: Role::Runner, uid, token: Secret::new("right".to_owned()) }];
    tokio::spawn(serve(listener, router, callers, stop.clone()));
    Served { dir, _stop: stop.drop_guard() }
}

fn me() -> u32 {
    nix::unistd::getuid().as_raw()
}

#[tokio::test]
async fn a_known_caller_is_named_and_answered() {
    let server = served(me());
    let answer: Option<(Role, u64)> = server.client("right").post("/v1/echo", &5u64, SOON).await.unwrap();
    assert_eq!(answer, Some((Role::Runner, 5)));
    let nothing: Option<u64> = server.client("right").post("/v1/nothing", &5u64, SOON).await.unwrap();
    assert_eq!(nothing, None);
}

#[tokio::test]
async fn a_wrong_token_or_a_wrong_uid_is_refused() {
    for (uid, token) in [(me(), "wrong"), (me(), ""), (me() + 1, "right")] {
        let server = served(uid);
        let refused = server.client(token).post::<(Role, u64)>("/v1/echo", &5u64, SOON).await.unwrap_err();
        assert!(matches!(refused, LinkError::Status { status, .. } if status == 403), "{refused}");
    }
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_timeout() {
    let server = served(me());
    let late = server.client("right").post::<u64>("/v1/never", &5u64, Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(late, LinkError::Timeout { .. }), "{late}");
}

#[tokio::test]
async fn streams_go_both_ways_whole() {
    let server = served(me());
    let chunks: Vec<_> = server.client("right").get_stream("/v1/big", SOON).await.unwrap().collect().await;
    assert_eq!(chunks.into_iter().map(|c| c.unwrap().len()).sum::<usize>(), 1_000_000);
    let sent = futures_util::stream::iter((0..300).map(|_| Ok(bytes::Bytes::from(vec![1u8; 1000]))));
    server.client("right").put_stream("/v1/count", sent, SOON).await.unwrap();
}
