//! The site: pages, forms, event streams, sessions, the JSON API, behind the balancer on a unix socket.
//!
//! Knows: `commands` (what a person may ask), `app` (how pages look), sessions and limits in Redis.
//! Never: writes SQL, decides a permission, or believes a header of a stranger: only the balancer
//! can connect, and it writes the `X-Forwarded-` ones itself.
//! Start reading at `router::router`, then `guard`, then a handler in `pages`, or in `api` for programs.

mod api;
mod assets;
mod events;
mod guard;
mod limits;
mod pages;
mod problem;
mod rate;
mod router;
mod serve;
mod session;
mod state;
#[cfg(test)]
mod tests;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use domain::{Hostname, Secret};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use self::assets::Asset;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// With this role's database URL, its token at the logs process, and the URLs that are shown.
    pub commands: commands::Config,
    /// Of this role's own Redis user (`session:*`, `limit:*`).
    pub redis_url: Secret<String>,
    /// The names that the site answers on, without a port; all others get 421.
    pub hosts: Vec<Hostname>,
    /// Who may connect: the balancer (and root, who looks whether it lives).
    pub peers: Vec<u32>,
    pub sign_up: SignUp,
    pub confirmation: commands::Confirmation,
    /// Where letters lie that no mail server takes; the operator is told.
    pub letters: Option<PathBuf>,
}

/// Who may make an account on the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignUp {
    Open,
    /// Anybody, who begins when the operator has approved.
    Approval,
    /// The operator alone, by `berth user create`.
    Closed,
}

#[derive(Debug, thiserror::Error)]
pub enum WebError {
    #[error("could not take over the site's socket")]
    Listen {
        #[source]
        cause: std::io::Error,
    },
    #[error("the address of Redis is not right")]
    Redis {
        #[source]
        cause: redis::RedisError,
    },
    #[error("could not set up the commands")]
    Commands {
        #[source]
        cause: commands::CommandError,
    },
    #[error("the site stopped serving")]
    Serve {
        #[source]
        cause: std::io::Error,
    },
}

/// Serves the site until `stop`; open streams end then. PostgreSQL and Redis may be away.
/// `assets`: the files of the site, as they were built (`berth.css`, `berth.js`, …).
pub async fn run(
    config: Config,
    listener: UnixListener,
    assets: Vec<Asset>,
    stop: CancellationToken,
) -> Result<(), WebError> {
    run_until(config, listener, assets, || {}, stop).await
}

/// The same; calls `ready` when it serves. Its predecessor may accept from the same listener meanwhile.
pub async fn run_until(
    config: Config,
    listener: UnixListener,
    assets: Vec<Asset>,
    ready: impl FnOnce(),
    stop: CancellationToken,
) -> Result<(), WebError> {
    let peers = config.peers.clone();
    let state = state::State::new(config, assets, stop.clone()).await?;
    serve::serve(listener, peers, router::router(state), ready, stop).await
}
