//! An app's graphs.

use axum::extract::{Path, Query, State};
use axum::response::{Html, Response};
use commands::Range;
use serde::Deserialize;

use super::apps::parse;
use crate::events::{self, Of};
use crate::problem::{Failed, Problem};
use crate::session::SignedIn;
use crate::state::Shared;

#[derive(Deserialize)]
pub struct Asked {
    range: Option<String>,
}

pub async fn usage(
    State(state): State<Shared>,
    who: SignedIn,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Html<String>, Failed> {
    let name = parse(&name)?;
    let range = match asked.range {
        Some(word) => word.parse().map_err(|()| Failed::Page(Problem::not_found()))?,
        None => Range::default(),
    };
    let commands = &state.commands;
    let (app, usage, cost) =
        tokio::try_join!(commands.app(&who.actor, &name), commands.usage(&who.actor, &name, range), async {
            Ok(commands.cost_in(&who.actor, &name, range).await)
        },)?;
    Ok(Html(app::usage(state.page(Some(&who.user)), app, usage, cost)))
}

/// Of the last hour: the others move slower than anybody looks.
pub async fn events(State(state): State<Shared>, who: SignedIn, Path(name): Path<String>) -> Result<Response, Failed> {
    events::stream(state, who, Of::Usage(parse(&name)?), None).await
}
