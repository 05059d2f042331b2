//! What a customer may use, what is used of it, and who changed what.

use domain::{AppName, AppState, CustomerId};
use serde_json::Value;
use store::Tx;

use crate::verbs::memory;
use crate::{Actor, CommandError, Commands, EventView, LimitsView, Used, WhoView, timely};

/// Of one page.
pub const EVENTS_A_PAGE: usize = 50;

impl Commands {
    pub async fn limits(&self, actor: &Actor) -> Result<LimitsView, CommandError> {
        timely(async {
            let mut tx = self.db.snapshot().await?;
            let view = limits_of(&mut tx, actor.customer).await?;
            tx.commit().await?;
            Ok(view)
        })
        .await
    }

    /// Who asks, and what their customer may use.
    pub async fn who(&self, actor: &Actor) -> Result<WhoView, CommandError> {
        timely(async {
            let mut tx = self.db.snapshot().await?;
            let who = store::user::who(&mut **tx, actor.user, actor.customer).await?;
            let who = who.ok_or(CommandError::NotFound { what: "user" })?;
            let limits = limits_of(&mut tx, actor.customer).await?;
            tx.commit().await?;
            let store::user::Who { email, name, customer_name, confirmed, approval } = who;
            Ok(WhoView { name, email, customer: customer_name, confirmed, approval, limits })
        })
        .await
    }

    /// What was done by whom for the customer, or to one app: the newest first, those before `before`.
    pub async fn events(
        &self,
        actor: &Actor,
        app: Option<&AppName>,
        before: Option<i64>,
    ) -> Result<Vec<EventView>, CommandError> {
        timely(async {
            let mut tx = self.db.snapshot().await?;
            if let Some(name) = app {
                let owned = store::app::get(&mut **tx, actor.customer, name).await?;
                owned.ok_or_else(|| CommandError::NoApp { name: name.clone() })?;
            }
            let events = store::event::list(&mut **tx, actor.customer, app, before, EVENTS_A_PAGE as i64).await?;
            tx.commit().await?;
            Ok(events.into_iter().map(event_view).collect())
        })
        .await
    }
}

pub(crate) async fn limits_of(tx: &mut Tx, customer: CustomerId) -> Result<LimitsView, CommandError> {
    let limits = store::customer::limits(&mut ***tx, customer).await?;
    let limits = limits.ok_or(CommandError::NotFound { what: "customer" })?;
    let apps = store::app::list(&mut ***tx, customer).await?.len();
    let reserved = store::app::reserved(&mut ***tx, customer).await?;
    let usage = store::disk::usage(&mut ***tx, customer).await?;
    let running = reserved.iter().filter(|app| app.state == AppState::Running);
    Ok(LimitsView {
        apps: Used { used: i64::try_from(apps).unwrap_or(i64::MAX), max: limits.apps_max.into() },
        memory_bytes: Used {
            used: running.map(|app| i64::try_from(memory(app)).unwrap_or(i64::MAX)).sum(),
            max: limits.memory_bytes_max,
        },
        builds: Used { used: store::customer::builds(&mut ***tx, customer).await?, max: limits.builds_max.into() },
        build_seconds_max: limits.build_seconds_max,
        disk_bytes: Used { used: usage.iter().map(|u| u.bytes).sum(), max: limits.disk_bytes_max },
    })
}

pub(crate) fn event_view(event: store::event::Event) -> EventView {
    let (before, after) = changed(event.before, event.after);
    EventView {
        id: event.id,
        at: event.at,
        by: event.by,
        door: event.door,
        origin: event.origin,
        verb: event.verb,
        subject: event.subject,
        before: before.as_ref().and_then(said),
        after: after.as_ref().and_then(said),
    }
}

/// Of two objects only the fields that differ.
fn changed(before: Option<Value>, after: Option<Value>) -> (Option<Value>, Option<Value>) {
    let (Some(Value::Object(mut before)), Some(Value::Object(mut after))) = (before.clone(), after.clone()) else {
        return (before, after);
    };
    let same: Vec<String> =
        before.iter().filter(|(key, value)| after.get(*key) == Some(value)).map(|(k, _)| k.clone()).collect();
    for key in same {
        before.remove(&key);
        after.remove(&key);
    }
    (Some(before.into()), Some(after.into()))
}

/// A value in a line of words.
fn said(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(all) => all.iter().filter_map(said).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                let name = name.replace('_', " ");
                if let (Some(what), Some(bytes)) = (name.strip_suffix(" bytes max"), value.as_i64()) {
                    return Some(format!("{what} {} MiB", bytes >> 20));
                }
                if let ("commit", Some(commit)) = (name.as_str(), value.as_str()) {
                    return Some(format!("commit {}", commit.get(..10).unwrap_or(commit)));
                }
                Some(format!("{} {}", name.strip_suffix(" max").unwrap_or(&name), said(value)?))
            };
            fields.iter().filter_map(field).collect::<Vec<_>>().join(", ")
        }
    };
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changed_is_said_in_words() {
        assert_eq!(said(&json!({ "web": 2, "worker": 1 })).as_deref(), Some("web 2, worker 1"));
        assert_eq!(said(&json!("stopped")).as_deref(), Some("stopped"));
        let limits = json!({ "apps_max": 10, "memory_bytes_max": 2147483648_u64 });
        assert_eq!(said(&limits).as_deref(), Some("apps 10, memory 2048 MiB"));
        assert_eq!(said(&json!({ "commit": "9c41e7b0d2f4a6b8" })).as_deref(), Some("commit 9c41e7b0d2"));
        let (before, after) = changed(Some(json!({ "a": 1, "b": 2 })), Some(json!({ "a": 1, "b": 3 })));
        assert_eq!((before, after), (Some(json!({ "b": 2 })), Some(json!({ "b": 3 }))));
        assert_eq!(said(&json!({ "release": null })), None);
    }
}
