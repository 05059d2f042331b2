//! Who gets what: each role's user, sockets, passwords, tokens and settings. A role gets what its own
//! settings name, and nothing else.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::Secret;
use ipnet::Ipv4Net;
use link::{Caller, Role};
use serde::{Deserialize, Serialize};

use crate::child::{Identity, Spec};
use crate::cli::{SignUp, Up};
use crate::engines::{Cache, Database, RedisUser};
use crate::listeners::Listeners;
use crate::outside::{self, Given};
use crate::slice::{Slice, User, directory};
use crate::up::{Addresses, UpError};

/// Of this server in the fleet.
const SERVER_NAME: &str = "main";

/// Four engines in one process.
#[derive(Serialize, Deserialize)]
pub struct Control {
    pub coordinator: coordinator::Config,
    pub stats: stats::Config,
    pub mail: mail::Config,
    pub billing: billing::Config,
}

/// 32 random bytes.
fn secret() -> Secret<String> {
    let bytes: [u8; 32] = rand::random();
    Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// New at each start of the supervisor; an upgraded one goes on with them.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secrets {
    web: RoleSecrets,
    receiver: RoleSecrets,
    control: RoleSecrets,
    logs: RoleSecrets,
    balancer: RoleSecrets,
    runner: RoleSecrets,
    /// Of web, receiver, control.
    redis: [Secret<String>; 3],
    /// Opens config vars; kept from start to start.
    seal: seal::PrivateKey,
}

#[derive(Clone, Serialize, Deserialize)]
struct RoleSecrets {
    token: Secret<String>,
    database: Secret<String>,
}

impl Secrets {
    pub fn new(seal: seal::PrivateKey) -> Self {
        let role = || RoleSecrets { token: secret(), database: secret() };
        Self {
            web: role(),
            receiver: role(),
            control: role(),
            logs: role(),
            balancer: role(),
            runner: role(),
            redis: [(); 3].map(|()| secret()),
            seal,
        }
    }

    /// Who may come to Redis.
    pub fn redis_users(&self) -> [RedisUser; 3] {
        let user = |at: usize, name: &str, keys: &[&str]| RedisUser {
            name: name.to_owned(),
            password: self.redis[at].clone(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        };
        [
            user(0, "berth_web", &["session:*", "limit:*"]),
            user(1, "berth_receiver", &["limit:*"]),
            user(2, "berth_control", &["readings", "readings:*"]),
        ]
    }
}

/// What the roles' settings are made from.
pub struct World<'a> {
    slice: &'a Slice,
    settings: &'a Up,
    data: &'a Path,
    secrets: &'a Secrets,
    database: &'a Database,
    cache: &'a Cache,
}

impl<'a> World<'a> {
    pub fn new(
        settings: &'a Up,
        slice: &'a Slice,
        data: &'a Path,
        database: &'a Database,
        cache: &'a Cache,
        secrets: &'a Secrets,
    ) -> Self {
        Self { slice, settings, data, secrets, database, cache }
    }

    /// A process of the platform: its own user, and the sockets that it may call.
    fn user(&self, user: User, calls: &[User]) -> Identity {
        let uid = self.slice.uid(user);
        Identity { uid, gid: uid, groups: calls.iter().map(|group| self.slice.uid(*group)).collect() }
    }

    /// How `role` is known at another's door.
    fn caller(&self, role: Role) -> Caller {
        let (user, secrets) = match role {
            Role::Web => (Some(User::Web), &self.secrets.web),
            Role::Receiver => (Some(User::Receiver), &self.secrets.receiver),
            Role::Control => (Some(User::Control), &self.secrets.control),
            Role::Logs => (Some(User::Logs), &self.secrets.logs),
            Role::Balancer => (Some(User::Balancer), &self.secrets.balancer),
            Role::Runner => (None, &self.secrets.runner),
        };
        Caller { role, uid: user.map_or(0, |user| self.slice.uid(user)), token: secrets.token.clone() }
    }

    /// The engines that are not our own.
    pub fn given(&self) -> Given {
        Given {
            database: matches!(self.database, Database::Outside(_)).then(|| self.database.owner_url()),
            redis: match self.cache {
                Cache::Outside(url) => Some(url.clone()),
                Cache::Own(_) => None,
            },
        }
    }

    fn objects(&self) -> PathBuf {
        self.data.join("objects")
    }

    fn hooks(&self) -> PathBuf {
        hooks_of(self.slice.n)
    }

    fn commands(&self, listeners: &Listeners, role: &str, secrets: &RoleSecrets) -> commands::Config {
        commands::Config {
            database_url: self.database.url(role, &secrets.database),
            logs: Some((self.socket("logs.sock"), secrets.token.clone())),
            urls: listeners.urls(self.settings),
            seal: Some(self.secrets.seal.public()),
        }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.slice.run().join(name)
    }
}

/// What the short child does as the owner of the database.
#[derive(Serialize, Deserialize)]
pub struct Migrate {
    pub roles: Vec<store::RolePassword>,
    pub commands: commands::Config,
    /// Engines that are not Berth's own: who comes in is to be put in place there.
    pub given: Given,
    pub home: String,
    pub redis_users: Vec<RedisUser>,
}

pub fn migrate(world: &World<'_>, listeners: &Listeners) -> Result<Spec, UpError> {
    let secrets = world.secrets;
    let roles =
        [("berth_web", &secrets.web), ("berth_receiver", &secrets.receiver), ("berth_control", &secrets.control)];
    let config = Migrate {
        roles: roles
            .map(|(role, s)| store::RolePassword { role: role.to_owned(), password: s.database.clone() })
            .into(),
        commands: commands::Config {
            database_url: world.database.owner_url(),
            logs: None,
            urls: listeners.urls(world.settings),
            seal: None,
        },
        given: world.given(),
        home: outside::home(world.data).map_err(crate::up::doing("write down which installation this is"))?,
        redis_users: secrets.redis_users().into(),
    };
    spec("migrate", world.user(User::Migrate, &[User::ToPostgres]), &config, vec![])
}

/// The shim's program, unpacked.
pub fn shim(data: &Path) -> PathBuf {
    data.join("runner/bin/shim")
}

fn spec(
    role: &'static str,
    user: Identity,
    config: &impl Serialize,
    descriptors: Vec<Arc<OwnedFd>>,
) -> Result<Spec, UpError> {
    let config = serde_json::to_value(config).map_err(|cause| UpError::Settings { role, cause })?;
    Ok(Spec { role, user, config, descriptors })
}

/// All roles, each with where it listens in words, and the addresses that others need. In this order a
/// successor finds what it calls.
pub fn roles(world: &World<'_>, listeners: &Listeners) -> Result<(Vec<(Spec, String)>, Addresses), UpError> {
    let addresses = Addresses {
        http: listeners.http.1,
        ssh: listeners.ssh.1,
        urls: listeners.urls(world.settings),
        slice: world.slice.n,
        uid_first: world.slice.uids.first,
        uid_last: world.slice.uids.last,
        supervisor: std::process::id(),
    };
    let at = |name: &str| world.socket(name).display().to_string();
    objects(world)?;
    let specs = vec![
        (logs(world, listeners)?, at("logs.sock")),
        (control(world, listeners)?, at("coordinator.sock")),
        (runner(world, listeners)?, at("runner.sock")),
        (web(world, listeners)?, at("web.sock")),
        (receiver(world, listeners)?, format!("ssh://{}", listeners.ssh.1)),
        (balancer(world, listeners)?, format!("http://{}", listeners.http.1)),
    ];
    Ok((specs, addresses))
}

/// The object store's folder: receiver writes sources, which control reads, and bundles, which only
/// it reads; control writes images.
fn objects(world: &World<'_>) -> Result<(), UpError> {
    let (dir, control) = (world.objects(), world.slice.uid(User::Control));
    directory(&dir, 0o711, 0, 0)?;
    // Set-group-id: what receiver writes is control's to read.
    directory(&dir.join("sources"), 0o2750, world.slice.uid(User::Receiver), control)?;
    let receiver = world.slice.uid(User::Receiver);
    directory(&dir.join("bundles"), 0o700, receiver, receiver)?;
    directory(&dir.join("images"), 0o700, control, control)?;
    Ok(())
}

fn control(world: &World<'_>, listeners: &Listeners) -> Result<Spec, UpError> {
    let user = world.user(User::Control, &[User::ToPostgres, User::ToRedis, User::ToLogs]);
    let database_url = world.database.url("berth_control", &world.secrets.control.database);
    let redis_url = world.cache.url(&world.secrets.redis_users()[2]);
    let config = Control {
        coordinator: coordinator::Config {
            database_url: database_url.clone(),
            redis_url: redis_url.clone(),
            objects_dir: world.objects(),
            apps_uid_base: world.slice.apps_uid_base(),
            subnet: world.slice.subnet,
            server_name: SERVER_NAME.to_owned(),
            logs: (world.socket("logs.sock"), world.secrets.control.token.clone()),
            callers: [Role::Runner, Role::Balancer].map(|role| world.caller(role)).into(),
            releases_kept: usize::from(world.settings.keep_releases),
            seal_key: world.secrets.seal.clone(),
            disk_reserve_bytes: world.settings.disk_reserve(),
        },
        stats: stats::Config { database_url: database_url.clone(), redis_url },
        billing: billing::Config { database_url: database_url.clone(), server_name: SERVER_NAME.to_owned() },
        mail: mail::Config {
            database_url,
            site: listeners.urls(world.settings).site,
            from: mail_from(world.settings),
            out: match &world.settings.smtp {
                Some(url) => mail::Out::Smtp(url.clone()),
                None => {
                    directory(&letters(world), 0o700, user.uid, user.gid)?;
                    mail::Out::Folder(letters(world))
                }
            },
            patience: mail::Patience::default(),
        },
    };
    spec("control", user, &config, vec![listeners.coordinator.clone()])
}

/// Who letters are from.
pub fn mail_from(settings: &Up) -> String {
    settings.mail_from.clone().unwrap_or_else(|| format!("Berth <berth@{}>", settings.site_host))
}

/// Where letters lie that no mail server takes.
fn letters(world: &World<'_>) -> PathBuf {
    world.data.join("mail")
}

fn receiver(world: &World<'_>, listeners: &Listeners) -> Result<Spec, UpError> {
    let user = world.user(User::Receiver, &[User::ToPostgres, User::ToRedis, User::ToLogs, User::ToRunner]);
    let dir = world.data.join("receiver");
    directory(&dir, 0o700, user.uid, user.gid)?;
    directory(&world.hooks(), 0o711, user.uid, user.gid)?;
    let config = receiver::Config {
        dir,
        hooks_dir: world.hooks(),
        disk_reserve_bytes: world.settings.disk_reserve(),
        objects_dir: world.objects(),
        runner_socket: world.socket("runner.sock"),
        runner_token: world.secrets.receiver.token.clone(),
        apps_uid_base: world.slice.apps_uid_base(),
        commands: world.commands(listeners, "berth_receiver", &world.secrets.receiver),
        limits: receiver::Limits::default(),
    };
    spec("receiver", user, &config, vec![listeners.ssh.0.clone()])
}

fn web(world: &World<'_>, listeners: &Listeners) -> Result<Spec, UpError> {
    let user = world.user(User::Web, &[User::ToPostgres, User::ToRedis, User::ToLogs]);
    let settings = world.settings;
    let here = settings.http.ip().is_loopback();
    let asked = settings.signup.unwrap_or(if here { SignUp::Open } else { SignUp::Approval });
    let sign_up = match asked {
        SignUp::Open => web::SignUp::Open,
        SignUp::Approval => web::SignUp::Approval,
        SignUp::Closed => web::SignUp::Closed,
    };
    // Without a mail server links lie in a folder of the operator's. On one's own computer nobody is asked.
    let confirmation = match (&settings.smtp, asked) {
        (Some(_), _) => commands::Confirmation::ByMail,
        (None, SignUp::Open) if here => commands::Confirmation::NotNeeded,
        (None, _) => commands::Confirmation::ByMailOrOperator,
    };
    let config = web::Config {
        commands: world.commands(listeners, "berth_web", &world.secrets.web),
        redis_url: world.cache.url(&world.secrets.redis_users()[0]),
        hosts: vec![world.settings.site_host.clone()],
        peers: vec![world.slice.uid(User::Balancer), 0],
        sign_up,
        confirmation,
        letters: settings.smtp.is_none().then(|| letters(world)),
    };
    spec("web", user, &config, vec![listeners.web.clone()])
}

fn logs(world: &World<'_>, listeners: &Listeners) -> Result<Spec, UpError> {
    let user = world.user(User::Logs, &[]);
    let dir = world.data.join("logs");
    directory(&dir, 0o700, user.uid, user.gid)?;
    let callers = [Role::Runner, Role::Web, Role::Receiver, Role::Control].map(|role| world.caller(role)).into();
    let config = logs::Config {
        dir,
        callers,
        bytes_max_per_app: 64 << 20,
        days_max: 14,
        segment_bytes: 4 << 20,
        disk_reserve_bytes: world.settings.disk_reserve(),
    };
    spec("logs", user, &config, vec![listeners.logs.clone()])
}

fn runner(world: &World<'_>, listeners: &Listeners) -> Result<Spec, UpError> {
    let config = runner::Config {
        subnet: world.slice.subnet,
        exceptions: world.settings.build_networks.clone(),
        public_ports: vec![listeners.http.1.port()],
        probe_uid: world.slice.uid(User::Probe),
        coordinator_token: world.secrets.runner.token.clone(),
        logs_token: world.secrets.runner.token.clone(),
        build_env: build_env(),
        disk_reserve_bytes: world.settings.disk_reserve(),
        git: runner::GitConfig {
            receiver_uid: world.slice.uid(User::Receiver),
            receiver_token: world.secrets.receiver.token.clone(),
            apps_uid_base: world.slice.apps_uid_base(),
            ..runner_of(world.slice.n, world.data).git
        },
        ..runner_of(world.slice.n, world.data)
    };
    let root = Identity { uid: 0, gid: 0, groups: vec![] };
    spec("runner", root, &config, vec![listeners.runner.clone()])
}

fn balancer(world: &World<'_>, listeners: &Listeners) -> Result<Spec, UpError> {
    let user = world.user(User::Balancer, &[User::ToCoordinator, User::ToWeb]);
    let dir = world.data.join("balancer");
    directory(&dir, 0o700, user.uid, user.gid)?;
    let urls = listeners.urls(world.settings);
    let config = balancer::Config {
        dir,
        coordinator_socket: world.socket("coordinator.sock"),
        token: world.secrets.balancer.token.clone(),
        site_hosts: vec![world.settings.site_host.clone()],
        web_socket: world.socket("web.sock"),
        site_url: Some(urls.site),
        ssh: Some(urls.ssh),
        ..balancer::Config::default()
    };
    spec("balancer", user, &config, vec![listeners.http.0.clone()])
}

/// Of the runner's settings, those that follow from the slice and its data: enough to sweep by.
pub fn runner_of(n: u32, data: &Path) -> runner::Config {
    let run = Slice::run_of(n);
    runner::Config {
        slice: n,
        data_dir: data.join("runner"),
        run_dir: run.join("runner"),
        shim: shim(data),
        runtime: None,
        subnet: Ipv4Net::default(),
        exceptions: vec![],
        public_ports: vec![],
        memory_bytes: None,
        probe_uid: 0,
        coordinator: run.join("coordinator.sock"),
        coordinator_token: Secret::new(String::new()),
        logs: run.join("logs.sock"),
        logs_token: Secret::new(String::new()),
        log_rate: runner::LogRate::default(),
        disk_reserve_bytes: None,
        tools_dir: data.join("tools"),
        build_env: BTreeMap::new(),
        git: git_of(n, data),
    }
}

fn git_of(n: u32, data: &Path) -> runner::GitConfig {
    runner::GitConfig {
        repos_dir: data.join("repos"),
        hooks_dir: hooks_of(n),
        receiver_uid: 0,
        receiver_token: Secret::new(String::new()),
        apps_uid_base: 0,
        push_bytes_max: receiver::Limits::default().push_bytes,
    }
}

/// The receiver's sockets that are bound into git sandboxes.
fn hooks_of(n: u32) -> PathBuf {
    Slice::run_of(n).join("hooks")
}

/// The operator's package settings, which builds use too.
fn build_env() -> BTreeMap<String, String> {
    const FAMILIES: &[&str] = &[
        "PIP_",
        "UV_",
        "NPM_CONFIG_",
        "npm_config_",
        "SSL_CERT_",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
    ];
    const NAMES: &[&str] = &[
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
        "NODE_EXTRA_CA_CERTS",
        "REQUESTS_CA_BUNDLE",
    ];
    let passed = |key: &str| FAMILIES.iter().any(|family| key.starts_with(family)) || NAMES.contains(&key);
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(key, _)| passed(key))
        .collect()
}
