//! What a request says: whose it is, what it is about, what it brings. Whatever is wrong is named.

use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use commands::{Actor, TokenView};
use domain::{AppName, TokenScope};
use http::request::Parts;
use http::{HeaderMap, Method, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::error::ApiError;
use crate::guard::Visitor;
use crate::limits::{Limit, network};
use crate::state::Shared;

/// Of whatever is wrong, no more is said back.
const SAID_MAX: usize = 300;

/// A request by a token that holds.
#[derive(Debug, Clone)]
pub struct Caller {
    pub actor: Actor,
    pub token: TokenView,
}

/// Stands before every route of the API: lets a token's request through, if it is not one too many and the token
/// may do what it asks. Cookies are not looked at.
pub async fn check(State(state): State<Shared>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let address = request.extensions().get::<Visitor>().and_then(|visitor| visitor.address);
    let token = bearer(request.headers()).ok_or_else(ApiError::no_token)?;
    let from = network(address);
    // Whoever guesses waits, and is not looked up meanwhile.
    let guesses = "Too many tokens that let nobody in came from your address.";
    if let Some(wait) = state.limits.over(Limit::BadTokensByAddress, &from).await {
        return Err(ApiError::too_many(guesses, wait));
    }
    let Some(asks) = state.commands.actor_by_token(token, address).await? else {
        return Err(match state.limits.take(Limit::BadTokensByAddress, &from).await {
            Ok(()) => ApiError::bad_token(),
            Err(wait) => ApiError::too_many(guesses, wait),
        });
    };
    if let Err(wait) = state.limits.take(Limit::RequestsByToken, &asks.token.id.to_string()).await {
        return Err(ApiError::too_many("This token asked too often within a minute.", wait));
    }
    // By the method, so that no handler can forget it.
    if asks.token.scope == TokenScope::Read && !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(ApiError::read_only());
    }
    request.extensions_mut().insert(Caller { actor: asks.actor, token: asks.token });
    Ok(next.run(request).await)
}

/// The one token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (one, None) = (all.next()?, all.next()) else { return None };
    let (scheme, token) = one.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| ApiError::internal("a route is not behind the check"))
    }
}

/// What is no name, or no number, is nobody's.
async fn part<T: FromStr>(parts: &mut Parts, name: &str) -> Result<T, ApiError> {
    let all = RawPathParams::from_request_parts(parts, &()).await.map_err(|_| ApiError::not_found())?;
    let (_, value) = all.iter().find(|(key, _)| *key == name).ok_or_else(ApiError::not_found)?;
    value.parse().map_err(|_| ApiError::not_found())
}

/// `{app}` of the address.
pub struct App(pub AppName);

impl FromRequestParts<Shared> for App {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        part(parts, "app").await.map(Self)
    }
}

/// `{number}` of the address.
pub struct Number(pub i64);

impl FromRequestParts<Shared> for Number {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        part(parts, "number").await.map(Self)
    }
}

/// `{name}` of the address: of a variable, or a key's fingerprint.
pub struct Name(pub String);

impl FromRequestParts<Shared> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        part(parts, "name").await.map(Self)
    }
}

/// JSON, whatever its content type says: cookies mean nothing here, so there is no form to be afraid of.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Shared) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await.map_err(|_| ApiError::too_large())?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let read = serde_path_to_error::deserialize(&mut json);
        let value = read.map_err(|wrong| wrong_field(&wrong.path().to_string(), &wrong.inner().to_string()))?;
        json.end().map_err(|_| ApiError::invalid(None, "There is more after the JSON object."))?;
        Ok(Self(value))
    }
}

/// What serde says, and which field it says it of.
fn wrong_field(path: &str, said: &str) -> ApiError {
    let said = said.split(" at line ").next().unwrap_or_default();
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|begins| said.strip_prefix(begins)?.split('`').next());
    let path = path.trim_matches('.');
    let field = match (path, named) {
        ("", named) => named.map(str::to_owned),
        (path, Some(named)) if path != named && !path.ends_with(&format!(".{named}")) => {
            Some(format!("{path}.{named}"))
        }
        (path, _) => Some(path.to_owned()),
    };
    let short = |text: &str| text.chars().take(SAID_MAX).collect::<String>();
    ApiError::invalid(field.as_deref().map(short), format!("{}.", app::capital(&short(said))))
}

/// What stands behind the `?`.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        Query::try_from_uri(&parts.uri).map(|Query(asked)| Self(asked)).map_err(|wrong| {
            let said = wrong.body_text();
            let said = said.strip_prefix("Failed to deserialize query string: ").unwrap_or(&said);
            match said.split_once(": ") {
                Some((path, said)) => wrong_field(path, said),
                None => wrong_field("", said),
            }
        })
    }
}

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Paged {
    /// `next` of the part before this one.
    #[param(min_length = 1)]
    pub after: Option<String>,
    /// At most so many.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u64>,
}

const LIMIT: usize = 50;
const LIMIT_MAX: u64 = 200;

impl Paged {
    pub fn limit(&self) -> Result<usize, ApiError> {
        match self.limit {
            None => Ok(LIMIT),
            Some(n @ 1..=LIMIT_MAX) => Ok(usize::try_from(n).unwrap_or(LIMIT)),
            Some(_) => Err(ApiError::invalid(Some("limit".into()), format!("Give 1 to {LIMIT_MAX}."))),
        }
    }

    /// Where this part begins.
    pub fn after<T: FromStr>(&self) -> Result<Option<T>, ApiError> {
        let wrong = |_| ApiError::invalid(Some("after".into()), "That is no `next` of a part before.");
        self.after.as_deref().map(str::parse).transpose().map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn one_token_comes_in_one_header() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
            }
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(read(&["Bearer berth_x"]).as_deref(), Some("berth_x"));
        assert_eq!(read(&["bearer  berth_x "]).as_deref(), Some("berth_x"));
        for none in [&[][..], &["berth_x"], &["Basic berth_x"], &["Bearer a", "Bearer b"], &["Bearer"]] {
            assert_eq!(read(none), None, "{none:?}");
        }
    }
}
