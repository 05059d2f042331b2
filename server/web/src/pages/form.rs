//! What a form brings.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::state::Shared;

/// Its fields. One that came twice is what was said last, as of a map: so it stands in the form that comes back.
pub struct Form<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for Form<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &Shared) -> Result<Self, Response> {
        let fields = axum::Form::<BTreeMap<String, String>>::from_request(request, state).await;
        let axum::Form(fields) = fields.map_err(IntoResponse::into_response)?;
        let fields = fields.into_iter().map(|(name, typed)| (name, Value::String(typed))).collect();
        let read = serde_json::from_value(Value::Object(fields));
        read.map(Self).map_err(|_| StatusCode::UNPROCESSABLE_ENTITY.into_response())
    }
}
