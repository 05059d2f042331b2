//! What every handler has.

use std::sync::Arc;

use commands::{ApprovalRule, Commands, Confirmation, Rules, UserView};
use domain::{Hostname, Time};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::assets::{Asset, Assets};
use crate::events::Streams;
use crate::limits::Limits;
use crate::session::RedisStore;
use crate::{Config, SignUp, WebError};

pub type Shared = Arc<State>;

pub struct State {
    pub commands: Commands,
    pub sessions: RedisStore,
    pub limits: Limits,
    pub assets: Assets,
    pub site: app::Site,
    pub hosts: Vec<Hostname>,
    pub streams: Streams,
    /// Ticks when somebody signed out, or a token was revoked: open streams look whether they still may.
    pub signed_out: watch::Sender<u64>,
    pub stop: CancellationToken,
}

impl State {
    pub async fn new(config: Config, assets: Vec<Asset>, stop: CancellationToken) -> Result<Shared, WebError> {
        let redis = crate::session::connect(&config.redis_url).map_err(|cause| WebError::Redis { cause })?;
        let urls = config.commands.urls.clone();
        let commands = Commands::connect(config.commands).await.map_err(|cause| WebError::Commands { cause })?;
        let approval = match config.sign_up {
            SignUp::Approval => ApprovalRule::ByOperator,
            SignUp::Open | SignUp::Closed => ApprovalRule::NotNeeded,
        };
        let commands = commands.with_rules(Rules { approval, confirmation: config.confirmation });
        let assets = Assets::new(assets);
        let site = app::Site {
            assets: assets.base().to_owned(),
            islands: assets.has("berth.js") && assets.has("berth_bg.wasm"),
            sign_up: config.sign_up != SignUp::Closed,
            approval: config.sign_up == SignUp::Approval,
            confirmation: config.confirmation != Confirmation::NotNeeded,
            letters: config.letters.map(|dir| dir.display().to_string()),
            urls,
        };
        Ok(Arc::new(Self {
            commands,
            sessions: RedisStore::new(redis.clone()),
            limits: Limits::new(redis),
            assets,
            site,
            hosts: config.hosts,
            streams: Streams::default(),
            signed_out: watch::channel(0).0,
            stop,
        }))
    }

    /// Cookies are `__Host-` and `Secure`.
    pub fn tls(&self) -> bool {
        self.site.urls.site.starts_with("https://")
    }

    pub fn page<'a>(&'a self, user: Option<&'a UserView>) -> app::Page<'a> {
        app::Page { site: &self.site, user, now: now() }
    }
}

pub fn now() -> Time {
    std::time::SystemTime::now().into()
}
