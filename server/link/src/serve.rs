//! Serves a router on a unix socket to known callers only.

use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;

use axum::Router;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use domain::Secret;
use serde::{Deserialize, Serialize};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("could not listen on the unix socket handed over")]
    Listen {
        #[source]
        cause: std::io::Error,
    },
    #[error("serving on the unix socket ended")]
    Serve {
        #[source]
        cause: std::io::Error,
    },
}

/// A process of Berth (SECURITY 'Processes and keys').
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Web,
    Receiver,
    Control,
    Logs,
    Balancer,
    Runner,
}

/// Who may call: the UID that the kernel names, and the token of this start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Caller {
    pub role: Role,
    pub uid: u32,
    pub token: Secret<String>,
}

/// The UID at the other end of a connection, when the kernel could tell it.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    pub uid: Option<u32>,
}

/// After `stop`, for a call on a connection that was taken before.
const LAST_REQUESTS: std::time::Duration = std::time::Duration::from_millis(200);

/// Accepts until `stop`; who comes then waits for the successor.
struct UntilStop {
    listener: UnixListener,
    stop: CancellationToken,
}

impl Listener for UntilStop {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => std::future::pending().await,
            accepted = Listener::accept(&mut self.listener) => accepted,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, UntilStop>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UntilStop>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|cred| cred.uid()) }
    }
}

/// Serves `router` until `stop`. Each request carries `Extension<Role>` of a caller that was
/// recognised by UID *and* token; all others get 403. Which role may use which path is the
/// router's to say.
pub async fn serve(
    listener: StdUnixListener,
    router: Router,
    callers: Vec<Caller>,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    listener.set_nonblocking(true).map_err(|cause| ServeError::Listen { cause })?;
    let listener = UnixListener::from_std(listener).map_err(|cause| ServeError::Listen { cause })?;
    let router = router.layer(middleware::from_fn_with_state(Arc::new(callers), recognise));
    let ending = stop.clone();
    let last = async move {
        ending.cancelled().await;
        tokio::time::sleep(LAST_REQUESTS).await;
    };
    let listener = UntilStop { listener, stop: stop.clone() };
    let serving =
        axum::serve(listener, router.into_make_service_with_connect_info::<Peer>()).with_graceful_shutdown(last);
    tokio::select! {
        served = serving.into_future() => served.map_err(|cause| ServeError::Serve { cause }),
        // Long polls and followed logs have no end of their own: they get two seconds.
        () = async { stop.cancelled().await; tokio::time::sleep(std::time::Duration::from_secs(2)).await } => Ok(()),
    }
}

async fn recognise(
    State(callers): State<Arc<Vec<Caller>>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let given =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let known = given.and_then(|token| {
        callers.iter().find(|c| peer.uid == Some(c.uid) && same(c.token.expose().as_bytes(), token)).map(|c| c.role)
    });
    match known {
        Some(role) => {
            request.extensions_mut().insert(role);
            next.run(request).await
        }
        None => (StatusCode::FORBIDDEN, "not a role of this installation\n").into_response(),
    }
}

/// Compares without telling by its time where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (x, y)| differs | (x ^ y)) == 0
}
