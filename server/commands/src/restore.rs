//! The operator has looked: a database that came back older counts from now on.

use store::event::NewEvent;

use crate::{CommandError, Commands, Door, timely};

impl Commands {
    /// By root's shell only. The new incarnation.
    pub async fn restore_accept(&self) -> Result<i64, CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let Some(incarnation) = store::truth::accept(&mut tx).await? else {
                return Err(CommandError::not_now(
                    "This database is not older than what runs.",
                    "There is nothing to accept.",
                ));
            };
            let after = Some(serde_json::json!({ "incarnation": incarnation }));
            let event = NewEvent { after, ..self.event(Door::Shell, "restore accept", "") };
            store::event::record(&mut tx, event).await?;
            tx.commit().await?;
            Ok(incarnation)
        })
        .await
    }
}
