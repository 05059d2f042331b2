//! Calls on one unix socket. A connection a call: on a unix socket it costs some 30 µs, and a
//! pool would have to know which of its connections outlived a restart of the other side.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use domain::Secret;
use futures_util::{Stream, TryStreamExt};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

/// The largest JSON answer taken in; a whole route table of 100,000 apps is some 30 MB.
const ANSWER_BYTES_MAX: usize = 256 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("could not connect to {socket}")]
    Connect {
        socket: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{path} on {socket} did not answer within {after:?}")]
    Timeout { socket: PathBuf, path: String, after: Duration },
    #[error("calling {path} on {socket} failed")]
    Http {
        socket: PathBuf,
        path: String,
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{path} on {socket} answered {status}: {text}")]
    Status { socket: PathBuf, path: String, status: StatusCode, text: String },
    #[error("{path} on {socket} answered what is not the expected JSON")]
    Json {
        socket: PathBuf,
        path: String,
        #[source]
        cause: serde_json::Error,
    },
}

type Body = BoxBody<Bytes, std::io::Error>;

/// Calls the role behind one socket under the caller's own token.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    token: Secret<String>,
}

impl Client {
    pub fn new(socket: impl Into<PathBuf>, token: Secret<String>) -> Self {
        Self { socket: socket.into(), token }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends `body` as JSON; `None` is an answer without content (204).
    pub async fn post<A: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<Option<A>, LinkError> {
        let json = serde_json::to_vec(body).map_err(|cause| self.bad_json(path, cause))?;
        let body = Full::new(Bytes::from(json)).map_err(|never| match never {}).boxed();
        let whole = async {
            let (answer, _connection) = self.call(Method::POST, path, body).await?;
            if answer.status() == StatusCode::NO_CONTENT {
                return Ok(None);
            }
            let bytes = self.collect(path, answer.into_body()).await?;
            serde_json::from_slice(&bytes).map(Some).map_err(|cause| self.bad_json(path, cause))
        };
        self.within(path, timeout, whole).await
    }

    /// Asks for JSON.
    pub async fn get<A: DeserializeOwned>(&self, path: &str, timeout: Duration) -> Result<A, LinkError> {
        let empty = Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
        let whole = async {
            let (answer, _connection) = self.call(Method::GET, path, empty).await?;
            let bytes = self.collect(path, answer.into_body()).await?;
            serde_json::from_slice(&bytes).map_err(|cause| self.bad_json(path, cause))
        };
        self.within(path, timeout, whole).await
    }

    /// A body without an end in time: logs being followed, an image. `timeout` is for the head.
    pub async fn get_stream(
        &self,
        path: &str,
        timeout: Duration,
    ) -> Result<impl Stream<Item = Result<Bytes, LinkError>> + Send + Unpin + use<>, LinkError> {
        let empty = Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
        let (answer, connection) = self.within(path, timeout, self.call(Method::GET, path, empty)).await?;
        let (socket, path) = (self.socket.clone(), path.to_owned());
        let data = answer.into_body().into_data_stream().map_err(move |cause| LinkError::Http {
            socket: socket.clone(),
            path: path.clone(),
            cause: cause.into(),
        });
        // The connection lives as long as its stream is read.
        Ok(Box::pin(data.inspect_ok(move |_| {
            let _ = &connection;
        })))
    }

    /// Sends a stream of bytes; `timeout` is for all of it.
    pub async fn put_stream(
        &self,
        path: &str,
        bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static,
        timeout: Duration,
    ) -> Result<(), LinkError> {
        let body = BodyExt::boxed(StreamBody::new(bytes.map_ok(Frame::data)));
        let whole = async { self.call(Method::PUT, path, body).await.map(|_| ()) };
        self.within(path, timeout, whole).await
    }

    pub async fn delete(&self, path: &str, timeout: Duration) -> Result<(), LinkError> {
        let empty = Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
        let whole = async { self.call(Method::DELETE, path, empty).await.map(|_| ()) };
        self.within(path, timeout, whole).await
    }

    /// Connects, sends, and returns a successful answer's head with the task that drives it.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), LinkError> {
        let stream = match tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(&self.socket)).await {
            Ok(connected) => connected.map_err(|cause| LinkError::Connect { socket: self.socket.clone(), cause })?,
            Err(_) => return Err(self.too_late(path, CONNECT_TIMEOUT)),
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.http(path, e))?;
        // Ends with the handle; its error is also that of the answer.
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = connection.await;
        }));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "berth")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|e| self.http(path, e))?;
        let answer = sender.send_request(request).await.map_err(|e| self.http(path, e))?;
        let status = answer.status();
        if status.is_success() {
            return Ok((answer, connection));
        }
        let text = Limited::new(answer.into_body(), 4096).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        Err(LinkError::Status {
            socket: self.socket.clone(),
            path: path.to_owned(),
            status,
            text: String::from_utf8_lossy(&text).into_owned(),
        })
    }

    async fn collect(&self, path: &str, body: Incoming) -> Result<Bytes, LinkError> {
        match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(cause) => Err(LinkError::Http { socket: self.socket.clone(), path: path.to_owned(), cause }),
        }
    }

    async fn within<T>(
        &self,
        path: &str,
        timeout: Duration,
        work: impl Future<Output = Result<T, LinkError>>,
    ) -> Result<T, LinkError> {
        match tokio::time::timeout(timeout, work).await {
            Ok(done) => done,
            Err(_) => Err(self.too_late(path, timeout)),
        }
    }

    fn too_late(&self, path: &str, after: Duration) -> LinkError {
        LinkError::Timeout { socket: self.socket.clone(), path: path.to_owned(), after }
    }

    fn http(&self, path: &str, cause: impl std::error::Error + Send + Sync + 'static) -> LinkError {
        LinkError::Http { socket: self.socket.clone(), path: path.to_owned(), cause: Box::new(cause) }
    }

    fn bad_json(&self, path: &str, cause: serde_json::Error) -> LinkError {
        LinkError::Json { socket: self.socket.clone(), path: path.to_owned(), cause }
    }
}
