//! Tries a minute, then a growing delay: in Redis, and in memory while Redis is away.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::ConnectionManager;
use sha2::{Digest, Sha256};

const WINDOW: Duration = Duration::from_secs(60);
const DELAY_MAX: Duration = Duration::from_secs(15 * 60);
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Names remembered while Redis is away.
const NAMES_MAX: usize = 10_000;

/// What is counted, and how often in a minute it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    TriesByAddress,
    TriesByUser,
    AccountsByAddress,
    ResetsByAddress,
    ResetsOfUser,
    /// Tokens that let nobody in.
    BadTokensByAddress,
    RequestsByToken,
}

impl Limit {
    fn most(self) -> u32 {
        match self {
            Self::TriesByAddress | Self::AccountsByAddress | Self::ResetsByAddress => 10,
            Self::TriesByUser | Self::ResetsOfUser => 5,
            Self::BadTokensByAddress => 20,
            Self::RequestsByToken => 600,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::TriesByAddress => "signin-address",
            Self::TriesByUser => "signin-user",
            Self::AccountsByAddress => "signup-address",
            Self::ResetsByAddress => "reset-address",
            Self::ResetsOfUser => "reset-user",
            Self::BadTokensByAddress => "token-address",
            Self::RequestsByToken => "token",
        }
    }

    /// Who goes on trying waits longer and longer. A program that asks too often waits for its next minute.
    fn grows(self) -> bool {
        self != Self::RequestsByToken
    }
}

/// Whose tries are one: an address, or an IPv6 network, of which one person has 2⁶⁴ addresses.
pub fn network(address: Option<IpAddr>) -> String {
    match address {
        Some(IpAddr::V6(v6)) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.to_string(),
            None => format!("{:x?}", &v6.segments()[..4]),
        },
        Some(v4) => v4.to_string(),
        None => String::new(),
    }
}

pub struct Limits {
    redis: ConnectionManager,
    memory: Mutex<HashMap<String, (u32, Instant)>>,
    /// Redis was away: until then nobody waits to find that out again.
    away_until: Mutex<Option<Instant>>,
}

impl Limits {
    pub fn new(redis: ConnectionManager) -> Self {
        Self { redis, memory: Mutex::default(), away_until: Mutex::default() }
    }

    fn is_away(&self) -> bool {
        let until = self.away_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until > Instant::now())
    }

    /// Asks Redis, unless it was away a moment ago.
    async fn ask<T>(&self, asked: impl Future<Output = Result<T, redis::RedisError>>) -> Option<T> {
        if self.is_away() {
            return None;
        }
        let answer = asked.await;
        let away = answer.as_ref().err().map(|cause| {
            tracing::debug!(error = %cause, "counting tries in memory");
            Instant::now() + ASK_AGAIN_AFTER
        });
        *self.away_until.lock().unwrap_or_else(PoisonError::into_inner) = away;
        answer.ok()
    }

    /// Counts a try. `Err`: it is one too many, and how long to wait.
    pub async fn take(&self, limit: Limit, name: &str) -> Result<(), Duration> {
        let key = key(limit, name);
        let (tries, left) = match self.ask(self.in_redis(limit, &key)).await {
            Some(counted) => counted,
            None => self.in_memory(limit, &key),
        };
        if tries > limit.most() { Err(left) } else { Ok(()) }
    }

    /// Whether one more would be too many, and how long to wait; nothing is counted by asking.
    pub async fn over(&self, limit: Limit, name: &str) -> Option<Duration> {
        let key = key(limit, name);
        let mut redis = self.redis.clone();
        let mut both = redis::pipe();
        both.cmd("GET").arg(&key).cmd("TTL").arg(&key);
        let asked: Option<(Option<u32>, i64)> = self.ask(both.query_async(&mut redis)).await;
        let (tries, left) = match asked {
            Some((tries, left)) => (tries?, Duration::from_secs(u64::try_from(left).unwrap_or(0))),
            None => {
                let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
                let (tries, until) = memory.get(&key)?;
                (*tries, until.saturating_duration_since(Instant::now()))
            }
        };
        (tries > limit.most() && !left.is_zero()).then_some(left)
    }

    /// It was no guess: the count begins anew.
    pub async fn forgive(&self, limit: Limit, name: &str) {
        let key = key(limit, name);
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        let mut redis = self.redis.clone();
        let _: Option<()> = self.ask(redis::cmd("DEL").arg(&key).query_async(&mut redis)).await;
    }

    async fn in_redis(&self, limit: Limit, key: &str) -> Result<(u32, Duration), redis::RedisError> {
        let mut redis = self.redis.clone();
        let seconds = WINDOW.as_secs();
        // A key made by INCR after the other went has no end: it is given one.
        let (tries, left): (u32, i64) = redis::pipe()
            .cmd("SET")
            .arg(key)
            .arg(0)
            .arg("EX")
            .arg(seconds)
            .arg("NX")
            .ignore()
            .cmd("INCR")
            .arg(key)
            .cmd("EXPIRE")
            .arg(key)
            .arg(seconds)
            .arg("NX")
            .ignore()
            .cmd("TTL")
            .arg(key)
            .query_async(&mut redis)
            .await?;
        let left = Duration::from_secs(u64::try_from(left).unwrap_or(seconds));
        let Some(delay) = delay(limit, tries) else { return Ok((tries, left)) };
        redis::cmd("EXPIRE").arg(key).arg(delay.as_secs()).query_async::<()>(&mut redis).await?;
        Ok((tries, delay))
    }

    fn in_memory(&self, limit: Limit, key: &str) -> (u32, Duration) {
        let now = Instant::now();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.len() >= NAMES_MAX && !memory.contains_key(key) {
            memory.retain(|_, (_, until)| *until > now);
            if memory.len() >= NAMES_MAX {
                // Somebody fills the memory with names: all new ones wait.
                return (u32::MAX, WINDOW);
            }
        }
        let (tries, until) = memory.entry(key.to_owned()).or_insert((0, now + WINDOW));
        if *until <= now {
            (*tries, *until) = (0, now + WINDOW);
        }
        *tries = tries.saturating_add(1);
        if let Some(delay) = delay(limit, *tries) {
            *until = now + delay;
        }
        (*tries, *until - now)
    }
}

fn key(limit: Limit, name: &str) -> String {
    // Of a fixed length, whatever was typed.
    format!("limit:{}:{}", limit.word(), hex::encode(&Sha256::digest(name.trim().to_lowercase())[..16]))
}

/// After how long the next try counts; doubles with each one too many.
fn delay(limit: Limit, tries: u32) -> Option<Duration> {
    let over = tries.checked_sub(limit.most() + 1).filter(|_| limit.grows())?;
    Some(WINDOW.saturating_mul(1 << over.min(10)).min(DELAY_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_tries_as_one() {
        let network = |text: &str| network(text.parse().ok());
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:192.0.2.7"), network("192.0.2.7"));
        assert_ne!(network("192.0.2.7"), network("192.0.2.8"));
    }

    #[test]
    fn the_delay_grows_with_each_try_too_many() {
        let seconds: Vec<_> = (5..11).map(|n| delay(Limit::TriesByUser, n).map(|d| d.as_secs())).collect();
        assert_eq!(seconds, [None, Some(60), Some(120), Some(240), Some(480), Some(900)]);
        assert_eq!(delay(Limit::RequestsByToken, 10_000), None);
    }
}
