//! Sessions in Redis, and who a request comes from.
//!
//! Redis holds nothing that is missed: without it people sign in again.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Redirect, Response};
use commands::{Actor, CommandError, Door, Kind, Operator, UserView};
use domain::{Secret, Time, UserId};
use http::StatusCode;
use http::request::Parts;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands, ExistenceCheck, SetExpiry, SetOptions};
use serde::{Deserialize, Serialize};
use tower_sessions::cookie::SameSite;
use tower_sessions::cookie::time::Duration as CookieDuration;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::{Error, Result as StoreResult};
use tower_sessions::{Expiry, Session, SessionManagerLayer, SessionStore};

use crate::guard::Visitor;
use crate::problem::{Failed, Problem, Seen};
use crate::state::{Shared, now};

const DAYS: i64 = 14;
const SIGNED_IN: &str = "signed_in";
const REDIS_TIMEOUT: Duration = Duration::from_secs(2);

/// Connects when it is needed, so that Redis may be away at the start.
pub fn connect(url: &Secret<String>) -> Result<ConnectionManager, redis::RedisError> {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_connection_timeout(Some(REDIS_TIMEOUT))
        .set_response_timeout(Some(REDIS_TIMEOUT));
    ConnectionManager::new_lazy_with_config(redis::Client::open(url.expose().as_str())?, config)
}

/// Keys `session:*`, each with an end.
#[derive(Clone)]
pub struct RedisStore {
    redis: ConnectionManager,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisStore")
    }
}

impl RedisStore {
    pub fn new(redis: ConnectionManager) -> Self {
        Self { redis }
    }

    async fn set(&self, record: &Record, when: Option<ExistenceCheck>) -> StoreResult<bool> {
        let value = serde_json::to_string(record).map_err(|cause| Error::Encode(cause.to_string()))?;
        let left = (record.expiry_date - time::OffsetDateTime::now_utc()).whole_seconds();
        let seconds = u64::try_from(left).unwrap_or(0).max(1);
        let mut options = SetOptions::default().with_expiration(SetExpiry::EX(seconds));
        if let Some(when) = when {
            options = options.conditional_set(when);
        }
        let mut redis = self.redis.clone();
        let done: Option<String> = redis.set_options(key(&record.id), value, options).await.map_err(away)?;
        Ok(done.is_some())
    }
}

fn key(id: &Id) -> String {
    format!("session:{id}")
}

fn away(cause: redis::RedisError) -> Error {
    Error::Backend(cause.to_string())
}

#[async_trait]
impl SessionStore for RedisStore {
    async fn create(&self, record: &mut Record) -> StoreResult<()> {
        while !self.set(record, Some(ExistenceCheck::NX)).await? {
            record.id = Id::default();
        }
        Ok(())
    }

    async fn save(&self, record: &Record) -> StoreResult<()> {
        self.set(record, None).await.map(|_| ())
    }

    async fn load(&self, id: &Id) -> StoreResult<Option<Record>> {
        let mut redis = self.redis.clone();
        let value: Option<String> = redis.get(key(id)).await.map_err(away)?;
        value.map(|value| serde_json::from_str(&value).map_err(|cause| Error::Decode(cause.to_string()))).transpose()
    }

    async fn delete(&self, id: &Id) -> StoreResult<()> {
        let mut redis = self.redis.clone();
        redis.del(key(id)).await.map_err(away)
    }
}

/// `__Host-` on TLS. Cookies know no ports: without TLS the port is in the name, so that two
/// installations on one server do not sign each other's users out.
pub fn layer(state: &Shared) -> SessionManagerLayer<RedisStore> {
    let url = &state.site.urls.site;
    let port = url.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let name = match (state.tls(), port) {
        (true, _) => "__Host-berth".to_owned(),
        (false, Some(port)) => format!("berth-{port}"),
        (false, None) => "berth".to_owned(),
    };
    SessionManagerLayer::new(state.sessions.clone())
        .with_name(name)
        .with_http_only(true)
        .with_same_site(SameSite::Lax)
        .with_secure(state.tls())
        .with_path("/")
        .with_expiry(Expiry::OnInactivity(CookieDuration::days(DAYS)))
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Began {
    user: UserId,
    at: Time,
}

/// Signs `user` in: a new id, so that one planted before is worth nothing.
pub async fn begin(session: &Session, user: UserId) -> Result<(), Failed> {
    let kept = async {
        session.cycle_id().await?;
        session.insert(SIGNED_IN, Began { user, at: now() }).await?;
        // Here, not after the response: only now can the visitor be told that it failed.
        session.save().await
    };
    kept.await.map_err(|cause| {
        tracing::warn!(error = %cause, "a session could not be kept");
        Failed::Page(Problem::sessions_away())
    })
}

/// Who is signed in, if anybody; `Err` when that cannot be known just now. Should the request fail, its page is in
/// their frame.
async fn user(parts: &Parts, state: &Shared, session: &Session) -> Result<Option<UserView>, Failed> {
    let began: Option<Began> = match session.get(SIGNED_IN).await {
        Ok(began) => began,
        Err(cause) => {
            tracing::warn!(error = %cause, "a session could not be read");
            return Err(Failed::Page(Problem::sessions_away()));
        }
    };
    let Some(began) = began else { return Ok(None) };
    let user = match state.commands.user(began.user).await {
        Ok(user) => Some(user).filter(|user| began.at >= user.sessions_since),
        Err(cause) if cause.kind() == Kind::NotFound => None,
        Err(cause) => return Err(cause.into()),
    };
    let user = match user {
        Some(user) => Some(with_spent(state, user, parts).await),
        None => None,
    };
    if let (Some(seen), Some(user)) = (parts.extensions.get::<Seen>(), &user) {
        seen.set(user.clone());
    }
    Ok(user)
}

/// With what their customer used this month, for the header of a page. One that cannot be known is left out.
async fn with_spent(state: &Shared, user: UserView, parts: &Parts) -> UserView {
    if parts.uri.path().ends_with("/events") {
        return user;
    }
    let spent = state.commands.spent(&actor(&user, parts)).await;
    let spent = spent.inspect_err(|cause| tracing::warn!(error = %cause, "a page goes without its costs")).ok();
    UserView { spent, ..user }
}

/// Whether the session of an open stream still is one. Not knowing ends nothing.
pub async fn still(state: &Shared, id: Id, user: UserId) -> bool {
    let began = match state.sessions.load(&id).await {
        Ok(Some(record)) => record.data.get(SIGNED_IN).cloned(),
        Ok(None) => return false,
        Err(_) => return true,
    };
    let Some(Ok(began)) = began.map(serde_json::from_value::<Began>) else { return false };
    match state.commands.user(user).await {
        Ok(view) => began.user == user && began.at >= view.sessions_since,
        Err(cause) => !matches!(cause, CommandError::NotFound { .. }),
    }
}

/// A request of a signed-in user. Others are sent to sign in, and back to the page they wanted.
pub struct SignedIn {
    pub user: UserView,
    pub actor: Actor,
    pub session: Session,
}

impl FromRequestParts<Shared> for SignedIn {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Response> {
        let session = session(parts).map_err(IntoResponse::into_response)?;
        match user(parts, state, &session).await.map_err(IntoResponse::into_response)? {
            Some(user) => Ok(Self { actor: actor(&user, parts), user, session }),
            // An event stream cannot follow to a page.
            None if parts.uri.path().ends_with("/events") => Err(StatusCode::UNAUTHORIZED.into_response()),
            None if parts.method == http::Method::GET => {
                Err(Redirect::to(&format!("/signin?next={}", parts.uri.path())).into_response())
            }
            None => Err(Redirect::to("/signin").into_response()),
        }
    }
}

/// A request of the operator. For everybody else there is nothing.
pub struct TheOperator {
    pub user: UserView,
    pub by: Operator,
}

impl FromRequestParts<Shared> for TheOperator {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Response> {
        let nothing = || Failed::Page(Problem::not_found()).into_response();
        let session = session(parts).map_err(IntoResponse::into_response)?;
        let user = user(parts, state, &session).await.map_err(IntoResponse::into_response)?;
        let user = user.filter(|user| user.operator).ok_or_else(nothing)?;
        Ok(Self { by: Operator::User(actor(&user, parts)), user })
    }
}

fn actor(user: &UserView, parts: &Parts) -> Actor {
    Actor { user: user.id, customer: user.customer, door: Door::Page, origin: origin(parts), key: None }
}

fn origin(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<Visitor>().and_then(|visitor| visitor.address)
}

/// A request of anybody. Whoever cannot be known just now is nobody.
pub struct Anybody {
    pub user: Option<UserView>,
    pub session: Session,
    pub address: Option<IpAddr>,
}

impl FromRequestParts<Shared> for Anybody {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Response> {
        let session = session(parts).map_err(IntoResponse::into_response)?;
        let user = user(parts, state, &session).await.unwrap_or_default();
        Ok(Self { user, session, address: origin(parts) })
    }
}

/// The layer around the router put it there.
fn session(parts: &Parts) -> Result<Session, StatusCode> {
    parts.extensions.get::<Session>().cloned().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
}
