//! PostgreSQL and Redis that Berth was given, by `DATABASE_URL` and `REDIS_URL`.
//!
//! The supervisor only passes addresses on: who speaks to them is a child without rights.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use domain::Secret;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, cmd};
use serde::{Deserialize, Serialize};

use crate::engines::RedisUser;
use crate::slice::keep;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// XAUTOCLAIM and ACL lists came with it.
const REDIS_LEAST: (u32, u32) = (6, 2);
const HOME: &str = "berth:installation";

/// Of the supervisor's environment; no flag, which all could read.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Given {
    pub database: Option<Secret<String>>,
    pub redis: Option<Secret<String>>,
}

impl Given {
    pub fn by_environment() -> Self {
        let given = |name| std::env::var(name).ok().filter(|url| !url.trim().is_empty()).map(Secret::new);
        Self { database: given("DATABASE_URL"), redis: given("REDIS_URL") }
    }

    pub fn is_none(&self) -> bool {
        self.database.is_none() && self.redis.is_none()
    }
}

/// Which installation this data directory is, for engines that may be given to two by mistake.
pub fn home(data: &Path) -> io::Result<String> {
    if let Some(home) = known_home(data)? {
        return Ok(home);
    }
    let home = format!("{:016x}", rand::random::<u64>());
    keep(&data.join("installation"), &home)?;
    Ok(home)
}

/// The home, where there is one already.
fn known_home(data: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(data.join("installation")) {
        Ok(home) => Ok(Some(home.trim().to_owned()).filter(|home| !home.is_empty())),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RedisOutsideError {
    #[error("its address cannot be used: {cause}")]
    Address { cause: RedisError },
    #[error("no connection: {cause}")]
    Connect { cause: RedisError },
    #[error("it is Redis {found}, and 6.2 is the oldest that will do")]
    Old { found: String },
    #[error("its maxmemory-policy is {found}, and it would forget readings on their way: set it to noeviction")]
    Evicts { found: String },
    #[error("it belongs to another installation of Berth, {home}")]
    Taken { home: String },
    #[error("its user may not make users ({cause}); allow it `+acl|setuser`, as `ACL SETUSER NAME +acl|setuser`")]
    Users { cause: RedisError },
    #[error("it refused: {cause}")]
    Refused {
        #[from]
        cause: RedisError,
    },
}

/// The same Redis, for one of Berth's users.
pub fn redis_url_as(url: &Secret<String>, user: &RedisUser) -> Secret<String> {
    let (url, password) = (url.expose(), user.password.expose());
    let Some((scheme, rest)) = url.split_once("://") else { return Secret::new(url.clone()) };
    let text = if scheme.contains("unix") {
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let kept = query.split('&').filter(|pair| pair.starts_with("db="));
        let query: Vec<String> = [format!("user={}", user.name), format!("pass={password}")]
            .into_iter()
            .chain(kept.map(str::to_owned))
            .collect();
        format!("{scheme}://{path}?{}", query.join("&"))
    } else {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        format!("{scheme}://{}:{password}@{host}{tail}", user.name)
    };
    Secret::new(text)
}

async fn connect(url: &Secret<String>) -> Result<MultiplexedConnection, RedisOutsideError> {
    let client = redis::Client::open(url.expose().as_str()).map_err(|cause| RedisOutsideError::Address { cause })?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(ANSWER_TIMEOUT));
    let connected = client.get_multiplexed_async_connection_with_config(&config).await;
    connected.map_err(|cause| RedisOutsideError::Connect { cause })
}

/// `name:value` a line.
async fn info(redis: &mut MultiplexedConnection) -> Result<BTreeMap<String, String>, RedisOutsideError> {
    let text: String = cmd("INFO").query_async(redis).await?;
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}

async fn fits(redis: &mut MultiplexedConnection, home: &str) -> Result<String, RedisOutsideError> {
    let info = info(redis).await?;
    let said = |name: &str| info.get(name).cloned().unwrap_or_default();
    let version = said("redis_version");
    let mut numbers = version.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < REDIS_LEAST {
        return Err(RedisOutsideError::Old { found: version });
    }
    let policy = said("maxmemory_policy");
    if policy != "noeviction" {
        return Err(RedisOutsideError::Evicts { found: policy });
    }
    let other: Option<String> = cmd("GET").arg(HOME).query_async(redis).await?;
    if let Some(other) = other.filter(|other| home != other) {
        return Err(RedisOutsideError::Taken { home: other });
    }
    Ok(format!("given: Redis {version}, noeviction"))
}

/// Whether it will do for the installation `home`; changes nothing. Says what was found.
pub async fn look(url: &Secret<String>, home: &str) -> Result<String, RedisOutsideError> {
    fits(&mut connect(url).await?, home).await
}

/// Says that it is `home`'s, and gives Berth's users their passwords. Once more is the same.
pub async fn prepare(url: &Secret<String>, users: &[RedisUser], home: &str) -> Result<(), RedisOutsideError> {
    let mut redis = connect(url).await?;
    fits(&mut redis, home).await?;
    cmd("SET").arg(HOME).arg(home).query_async::<()>(&mut redis).await?;
    for user in users {
        let mut set = cmd("ACL");
        set.arg("SETUSER").arg(&user.name).arg("reset").arg("on").arg(format!(">{}", user.password.expose()));
        set.arg("resetchannels");
        for key in &user.keys {
            set.arg(format!("~{key}"));
        }
        set.arg("+@all").arg("-@admin").arg("-@dangerous");
        set.query_async::<()>(&mut redis).await.map_err(|cause| RedisOutsideError::Users { cause })?;
    }
    // So that they are there after a restart of Redis, where it keeps them in a file.
    let _ = cmd("ACL").arg("SAVE").query_async::<()>(&mut redis).await;
    Ok(())
}

/// What `berth doctor` asks a child of its own.
#[derive(Serialize, Deserialize)]
struct Asked {
    given: Given,
    /// Empty: of none yet.
    home: String,
}

/// How the engines were found: `Err` says why one will not do.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Found {
    pub database: Option<Result<String, String>>,
    pub redis: Option<Result<String, String>>,
}

/// Nobody: it owns nothing on this server.
const NOBODY: u32 = 65_534;
const LOOK_TIMEOUT: Duration = Duration::from_secs(60);

/// Looks at the given engines, by a child that has no rights on this server.
pub fn look_at(given: &Given, data: &Path) -> Result<Found, io::Error> {
    if given.is_none() {
        return Ok(Found::default());
    }
    let asked = Asked { given: given.clone(), home: known_home(data)?.unwrap_or_default() };
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg("look").env_clear().env("PATH", crate::child::PATH);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut to) = child.stdin.take() {
        to.write_all(&serde_json::to_vec(&asked)?)?;
    }
    let output = child.wait_with_output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The child: becomes nobody, then speaks to the engines.
pub fn look_for_parent() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::stdin(), &mut text)?;
    let Asked { given, home } = serde_json::from_slice(&text)?;
    crate::child::become_user(&crate::child::Identity { uid: NOBODY, gid: NOBODY, groups: vec![] })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(async {
        let database = async { Some(in_time(store::outside::look(given.database.as_ref()?, &home)).await) };
        let redis = async { Some(in_time(look(given.redis.as_ref()?, &home)).await) };
        let (database, redis) = tokio::join!(database, redis);
        Found { database, redis }
    });
    println!("{}", serde_json::to_string(&found)?);
    Ok(())
}

async fn in_time<E: std::fmt::Display>(look: impl Future<Output = Result<String, E>>) -> Result<String, String> {
    match tokio::time::timeout(LOOK_TIMEOUT, look).await {
        Ok(found) => found.map_err(|cause| cause.to_string()),
        Err(_) => Err(format!("it did not answer within {LOOK_TIMEOUT:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_a_role_keeps_place_and_database() {
        let user = RedisUser { name: "berth_web".to_owned(), password: Secret::new("pw".to_owned()), keys: vec![] };
        for (given, made) in [
            ("redis://cache:6379/2", "redis://berth_web:pw@cache:6379/2"),
            ("rediss://admin:p@ss@cache:6379", "rediss://berth_web:pw@cache:6379"),
            ("redis+unix:///run/r.sock?user=a&pass=b&db=3", "redis+unix:///run/r.sock?user=berth_web&pass=pw&db=3"),
            ("unix:///run/r.sock", "unix:///run/r.sock?user=berth_web&pass=pw"),
        ] {
            assert_eq!(redis_url_as(&Secret::new(given.to_owned()), &user).expose(), made);
        }
    }
}
