//! The unix socket: only the balancer gets in.

use std::io;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::serve::Listener;
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::WebError;

/// How long open requests may take after `stop`. Event streams end by themselves.
const GRACE: Duration = Duration::from_secs(10);
/// After `stop`, for a request on a connection that was taken before: then none is lost that is on its way.
const LAST_REQUESTS: Duration = Duration::from_millis(500);

pub async fn serve(
    listener: StdUnixListener,
    peers: Vec<u32>,
    router: Router,
    ready: impl FnOnce(),
    stop: CancellationToken,
) -> Result<(), WebError> {
    listener.set_nonblocking(true).map_err(|cause| WebError::Listen { cause })?;
    let listener = UnixListener::from_std(listener).map_err(|cause| WebError::Listen { cause })?;
    let ending = stop.clone();
    let last = async move {
        ending.cancelled().await;
        tokio::time::sleep(LAST_REQUESTS).await;
    };
    // The balancer uses no connection again that says so.
    let closing = stop.clone();
    let router = router.layer(axum::middleware::map_response(move |mut answer: Response| {
        if closing.is_cancelled() {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        std::future::ready(answer)
    }));
    ready();
    let known = Known { listener, peers, stop: stop.clone() };
    let serving = axum::serve(known, router).with_graceful_shutdown(last);
    tokio::select! {
        served = serving.into_future() => served.map_err(|cause| WebError::Serve { cause }),
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
    }
}

/// Accepts connections of known users only: whoever is let in may say who the visitor is.
struct Known {
    listener: UnixListener,
    peers: Vec<u32>,
    /// Then nobody is let in any more; who waits is the successor's.
    stop: CancellationToken,
}

impl Listener for Known {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = tokio::select! {
                biased;
                () = self.stop.cancelled() => std::future::pending().await,
                accepted = Listener::accept(&mut self.listener) => accepted,
            };
            match stream.peer_cred() {
                Ok(peer) if self.peers.contains(&peer.uid()) => return (stream, address),
                Ok(peer) => tracing::warn!(uid = peer.uid(), "a stranger at the site's socket was refused"),
                Err(cause) => tracing::warn!(error = %cause, "a connection without a known user was refused"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
