//! What is left of a deleted app and is nobody's any more: its logs, when no instance of it can say more.

use std::path::PathBuf;
use std::time::Duration;

use domain::Secret;
use link::Client;
use store::{StoreError, app};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{Shared, lead};

const LOOK_EVERY: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Until `stop`. Whoever leads does it; what could not be deleted is tried again.
pub async fn run(shared: &Shared, logs: &(PathBuf, Secret<String>), stop: &CancellationToken) {
    let logs = Client::new(&logs.0, logs.1.clone());
    let mut away = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => return,
        }
        if shared.deciding().is_none() {
            continue;
        }
        match tokio::time::timeout(CALL_TIMEOUT, app::all::with_logs_to_delete(shared.db.pool())).await {
            Ok(Ok(apps)) => {
                for app in apps {
                    match delete(shared, &logs, app).await {
                        Ok(()) => away = false,
                        Err(cause) => {
                            if !away {
                                let error = lead::chain(cause.as_ref());
                                warn!(app.id = app.0, error, "a deleted app's logs are still there; trying again");
                            }
                            away = true;
                            break;
                        }
                    }
                }
            }
            // The leader's loop says so.
            Ok(Err(StoreError::Away { .. })) | Err(_) => {}
            Ok(Err(cause)) => warn!(error = %lead::chain(&cause), "could not look for deleted apps"),
        }
    }
}

async fn delete(
    shared: &Shared,
    logs: &Client,
    app: domain::AppId,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    logs.delete(&format!("/v1/app/{app}"), CALL_TIMEOUT).await?;
    tokio::time::timeout(CALL_TIMEOUT, app::all::logs_deleted(shared.db.pool(), app)).await??;
    info!(app.id = app.0, "deleted the logs of a deleted app");
    Ok(())
}
