//! What the operator sees and does: servers, customers, decisions, letters. For everybody else there is no
//! such thing.

use std::collections::HashMap;
use std::time::Duration;

use domain::{Approval, Currency, CustomerId, Email, MailId, MailState, ServerId};
use store::Tx;
use store::customer::Limits;
use store::event::NewEvent;

use crate::billing::now;
use crate::letters::Letter;
use crate::limits::{event_view, limits_of};
use crate::{
    Actor, CommandError, Commands, Confirmation, CustomerPage, CustomerRow, CustomersView, DecisionView, Door,
    LetterView, LettersView, OverviewView, ServerInstance, ServerView, StrandedView, timely,
};

/// Of one page.
const ROWS: i64 = 50;
const INSTANCES: i64 = 2_000;
const EVENTS: i64 = 20;
/// On the page of servers.
const DECISIONS: i64 = 6;
const MIB: i64 = 1 << 20;
const DAY: Duration = Duration::from_secs(86_400);

/// Who acts as the operator.
#[derive(Debug, Clone)]
pub enum Operator {
    /// If they are one.
    User(Actor),
    /// Root, on the server itself.
    Shell,
}

/// As typed, each a whole number.
#[derive(Debug, Clone, Default)]
pub struct NewLimits {
    pub apps: String,
    pub memory_mib: String,
    pub builds: String,
    pub build_minutes: String,
    pub disk_mib: String,
}

/// What customers to list.
#[derive(Debug, Clone, Default)]
pub struct CustomersAsked {
    pub approval: Option<Approval>,
    /// Part of a name or an address.
    pub words: Option<String>,
    pub before: Option<CustomerId>,
}

/// What decisions to list.
#[derive(Debug, Clone, Default)]
pub struct DecisionsAsked {
    pub app: Option<String>,
    pub customer: Option<CustomerId>,
    pub before: Option<i64>,
}

impl Commands {
    pub async fn servers(&self, by: &Operator) -> Result<OverviewView, CommandError> {
        timely(async {
            let mut tx = self.db.snapshot().await?;
            operator(&mut tx, by).await?;
            let servers = store::server::overview::servers(&mut **tx).await?;
            let instances = store::server::overview::instances(&mut **tx, INSTANCES).await?;
            let customers = store::customer::all::counts(&mut **tx).await?;
            let letters = store::mail::counts(&mut **tx).await?;
            let decisions = store::decision::list(&mut **tx, None, None, None, DECISIONS).await?;
            let running = store::server::overview::running(&mut **tx).await?;
            let deploys = store::deploy::since(&mut **tx, now().floor(DAY)).await?;
            tx.commit().await?;
            let stranded = stranded(&servers, running);
            let sum = |of: fn(&store::server::overview::Server) -> Option<i64>| {
                servers.iter().filter(|server| answers(server)).filter_map(of).reduce(i64::saturating_add)
            };
            let (requests, unanswered) = (sum(|s| s.requests), sum(|s| s.unanswered).unwrap_or(0));
            let view = |server: store::server::overview::Server| ServerView {
                runs: instances
                    .iter()
                    .filter(|i| i.server_id == server.id)
                    .map(|i| ServerInstance {
                        app: i.app.clone(),
                        process: i.process.clone(),
                        index: i.index,
                        state: i.state,
                        memory_bytes: i.memory_bytes,
                    })
                    .collect(),
                cores_used: cores_used(&server),
                name: server.name,
                region: server.region,
                cores: server.cores,
                memory_bytes: server.memory_bytes,
                memory_used_bytes: server.memory_used_bytes,
                memory_reserved_bytes: server.memory_reserved_bytes,
                instances: server.instances,
                builds: server.builds,
                disk_bytes: server.disk_bytes,
                disk_free_bytes: server.disk_free_bytes,
                disk_is_short: server.disk_free_bytes < server.disk_reserve_bytes,
                silent_seconds: server.silent_seconds,
            };
            Ok(OverviewView {
                servers: servers.into_iter().map(view).collect(),
                customers: customers.all,
                customers_waiting: customers.waiting,
                letters_failed: letters.failed,
                decisions: decisions.into_iter().map(Into::into).collect(),
                stranded,
                requests: requests.map(|n| n as f64 / domain::SAMPLE_EVERY.as_secs_f64()),
                unanswered: requests.filter(|n| *n > 0).map_or(0.0, |n| unanswered as f64 / n as f64),
                deploys: deploys.deploys,
                deploys_failed: deploys.failed,
                requests_failed: deploys.requests_failed,
            })
        })
        .await
    }

    pub async fn customers(&self, by: &Operator, asked: &CustomersAsked) -> Result<CustomersView, CommandError> {
        timely(async {
            let mut tx = self.db.snapshot().await?;
            operator(&mut tx, by).await?;
            let like = asked.words.as_deref().map(str::trim).filter(|words| !words.is_empty()).map(pattern);
            let rows =
                store::customer::all::list(&mut **tx, asked.approval, like.as_deref(), asked.before, ROWS + 1).await?;
            let counts = store::customer::all::counts(&mut **tx).await?;
            tx.commit().await?;
            let (rows, next) = page(rows, |row| row.id);
            let customers = rows.into_iter().map(row_view).collect();
            Ok(CustomersView { customers, all: counts.all, waiting: counts.waiting, next })
        })
        .await
    }

    pub async fn customer(&self, by: &Operator, customer: CustomerId) -> Result<CustomerPage, CommandError> {
        timely(async {
            let mut tx = self.db.snapshot().await?;
            operator(&mut tx, by).await?;
            let row = store::customer::all::get(&mut **tx, customer).await?;
            let row = row.ok_or(CommandError::NotFound { what: "customer" })?;
            let limits = limits_of(&mut tx, customer).await?;
            let apps = store::app::list(&mut **tx, customer).await?;
            let members = store::user::members(&mut **tx, customer).await?;
            let events = store::event::list(&mut **tx, customer, None, None, EVENTS).await?;
            tx.commit().await?;
            Ok(CustomerPage {
                row: row_view(row),
                limits,
                apps: apps.into_iter().map(|app| (app.name, app.state)).collect(),
                members: members.into_iter().map(|m| (m.email, m.confirmed)).collect(),
                events: events.into_iter().map(event_view).collect(),
            })
        })
        .await
    }

    /// The customer may, or may not, begin; they are told by mail.
    pub async fn customer_approve(
        &self,
        by: &Operator,
        customer: CustomerId,
        approval: Approval,
    ) -> Result<(), CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            operator(&mut tx, by).await?;
            self.approve(&mut tx, by, customer, approval).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// By root's shell.
    pub async fn user_approve(&self, email: &Email, approval: Approval) -> Result<(), CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let user =
                store::user::addressee(&mut **tx, email).await?.ok_or(CommandError::NotFound { what: "user" })?;
            let user = store::user::get(&mut **tx, user.id).await?.ok_or(CommandError::NotFound { what: "user" })?;
            self.approve(&mut tx, &Operator::Shell, user.customer, approval).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// By root's shell: the address is theirs, the operator says.
    pub async fn user_confirm(&self, email: &Email) -> Result<(), CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let user =
                store::user::addressee(&mut **tx, email).await?.ok_or(CommandError::NotFound { what: "user" })?;
            if store::user::confirm(&mut tx, user.id).await? {
                self.record_own(&mut tx, user.id, Door::Shell, None, "address confirm").await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    pub async fn customer_limits(
        &self,
        by: &Operator,
        customer: CustomerId,
        typed: &NewLimits,
    ) -> Result<(), CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            operator(&mut tx, by).await?;
            let limits = checked(typed)?;
            store::customer::lock(&mut tx, customer).await?.ok_or(CommandError::NotFound { what: "customer" })?;
            let before = store::customer::limits(&mut **tx, customer).await?;
            if before != Some(limits) {
                store::customer::set_limits(&mut tx, customer, &limits).await?;
                let (before, after) = (serde_json::json!(before), serde_json::json!(limits));
                self.record_as(&mut tx, by, customer, "customer limits", Some(before), Some(after)).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    pub async fn decisions(&self, by: &Operator, asked: &DecisionsAsked) -> Result<DecisionView, CommandError> {
        timely(async {
            let mut tx = self.db.snapshot().await?;
            operator(&mut tx, by).await?;
            let app = asked.app.as_deref().map(str::trim).filter(|app| !app.is_empty());
            let rows = store::decision::list(&mut **tx, app, asked.customer, asked.before, ROWS + 1).await?;
            tx.commit().await?;
            let (decisions, next) = page(rows, |row| row.id);
            Ok(DecisionView { decisions: decisions.into_iter().map(Into::into).collect(), next })
        })
        .await
    }

    pub async fn letters(
        &self,
        by: &Operator,
        state: Option<MailState>,
        before: Option<MailId>,
    ) -> Result<LettersView, CommandError> {
        timely(async {
            let mut tx = self.db.snapshot().await?;
            operator(&mut tx, by).await?;
            let rows = store::mail::list(&mut **tx, state, before, ROWS + 1).await?;
            let counts = store::mail::counts(&mut **tx).await?;
            tx.commit().await?;
            let (rows, next) = page(rows, |row| row.id);
            let view = |mail: store::mail::Mail| LetterView {
                id: mail.id,
                address: mail.address,
                subject: mail.subject,
                state: mail.state,
                tries: mail.tries,
                error: mail.error,
                created: mail.created,
            };
            let letters = rows.into_iter().map(view).collect();
            Ok(LettersView { letters, waiting: counts.waiting, failed: counts.failed, next })
        })
        .await
    }

    /// A letter that was not sent is tried now.
    pub async fn letter_again(&self, by: &Operator, letter: MailId) -> Result<(), CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            operator(&mut tx, by).await?;
            if !store::mail::again(&mut tx, letter).await? {
                return Err(CommandError::NotFound { what: "letter" });
            }
            if let Operator::User(actor) = by {
                self.record(&mut tx, actor, "letter again", &letter.to_string(), None, None).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn approve(
        &self,
        tx: &mut Tx,
        by: &Operator,
        customer: CustomerId,
        approval: Approval,
    ) -> Result<(), CommandError> {
        let before = store::customer::lock(tx, customer).await?.ok_or(CommandError::NotFound { what: "customer" })?;
        if before.approval == approval {
            return Ok(());
        }
        store::customer::set_approval(tx, customer, approval).await?;
        let letter = match approval {
            Approval::Approved => Some(Letter::Approved),
            Approval::Refused => Some(Letter::Refused),
            Approval::Waiting => None,
        };
        for member in store::user::members(&mut ***tx, customer).await? {
            if approval == Approval::Approved && self.rules.confirmation == Confirmation::ByMailOrOperator {
                store::user::confirm(tx, member.id).await?;
            }
            if let Some(letter) = letter {
                self.letter(tx, &member, letter).await?;
            }
        }
        let (before, after) = (serde_json::json!(before.approval), serde_json::json!(approval));
        self.record_as(tx, by, customer, "customer approval", Some(before), Some(after)).await
    }

    /// The customer sees it among what was done.
    async fn record_as(
        &self,
        tx: &mut Tx,
        by: &Operator,
        customer: CustomerId,
        verb: &str,
        before: Option<serde_json::Value>,
        after: Option<serde_json::Value>,
    ) -> Result<(), CommandError> {
        let (user, door, origin) = match by {
            Operator::User(actor) => (Some(actor.user), actor.door, actor.origin),
            Operator::Shell => (None, Door::Shell, None),
        };
        let event = NewEvent { user, customer: Some(customer), origin, before, after, ..self.event(door, verb, "") };
        Ok(store::event::record(tx, event).await?)
    }
}

/// It was heard lately; that is written down every ten seconds.
fn answers(server: &store::server::overview::Server) -> bool {
    server.silent_seconds.is_some_and(|silent| silent < plan::SERVER_LEASE.as_secs_f64())
}

fn cores_used(server: &store::server::overview::Server) -> Option<f64> {
    match server.cpu_millis.filter(|_| answers(server)) {
        // Where nothing runs, nobody looks.
        None if answers(server) && server.instances == 0 => Some(0.0),
        millis => millis.map(|millis| f64::from(millis) / 1000.0),
    }
}

/// Servers that the fleet could not lose, by their names.
fn stranded(
    servers: &[store::server::overview::Server],
    running: Vec<store::server::overview::Running>,
) -> Vec<StrandedView> {
    let bytes = |n: i64| u64::try_from(n).unwrap_or(0);
    let mut runs: HashMap<ServerId, Vec<plan::Runs>> = HashMap::new();
    for row in running {
        runs.entry(row.server_id).or_default().push(plan::Runs {
            app: row.app_id,
            release: row.release_number,
            process: row.process,
            memory_bytes: bytes(row.memory_bytes),
        });
    }
    let standing = |server: &store::server::overview::Server| plan::Standing {
        server: server.id,
        answers: answers(server),
        has_room: server.disk_free_bytes >= server.disk_reserve_bytes,
        memory_bytes: bytes(server.memory_bytes),
        reserved_bytes: bytes(server.memory_reserved_bytes),
        builds: bytes(server.builds),
        runs: runs.remove(&server.id).unwrap_or_default(),
    };
    let standings: Vec<plan::Standing> = servers.iter().map(standing).collect();
    let name = |id: ServerId| servers.iter().find(|server| server.id == id).map(|server| server.name.clone());
    let view = |stranded: plan::Stranded| {
        let plan::Stranded { server, runs, without_place } = stranded;
        Some(StrandedView { server: name(server)?, runs, without_place })
    };
    plan::stranded(&standings).into_iter().filter_map(view).collect()
}

/// Nobody else learns that there is something.
pub(crate) async fn operator(tx: &mut Tx, by: &Operator) -> Result<(), CommandError> {
    match by {
        Operator::Shell => Ok(()),
        Operator::User(actor) if store::user::is_operator(&mut ***tx, actor.user).await? => Ok(()),
        Operator::User(_) => Err(CommandError::NotFound { what: "page" }),
    }
}

/// One more than a page was asked for: whether there are more, and where those begin.
fn page<T, K>(mut rows: Vec<T>, key: impl Fn(&T) -> K) -> (Vec<T>, Option<K>) {
    let most = usize::try_from(ROWS).unwrap_or(usize::MAX);
    let more = rows.len() > most;
    rows.truncate(most);
    let next = rows.last().filter(|_| more).map(key);
    (rows, next)
}

fn pattern(words: &str) -> String {
    let escaped: String = words
        .chars()
        .filter(|c| !c.is_control())
        .take(100)
        .flat_map(|c| matches!(c, '%' | '_' | '\\').then_some('\\').into_iter().chain([c]))
        .collect();
    format!("%{escaped}%")
}

fn row_view(row: store::customer::all::Row) -> CustomerRow {
    CustomerRow {
        id: row.id,
        name: row.name,
        email: row.email,
        confirmed: row.confirmed,
        operator: row.operator,
        approval: row.approval,
        created: row.created,
        apps: row.apps,
        apps_max: row.apps_max,
        memory_bytes_max: row.memory_bytes_max,
        currency: row.currency.parse().unwrap_or(Currency::EUR),
        spent: row.posted,
    }
}

fn checked(typed: &NewLimits) -> Result<Limits, CommandError> {
    let number = |field: &'static str, text: &str, min: i64, max: i64| {
        let parsed = text.trim().parse::<i64>().ok().filter(|n| (min..=max).contains(n));
        parsed.ok_or_else(|| CommandError::invalid(field, format!("Give a whole number from {min} to {max}.")))
    };
    let small = |field, text: &str, min, max| {
        number(field, text, min, max)
            .and_then(|n| i32::try_from(n).map_err(|_| CommandError::invalid(field, "That is too much.")))
    };
    Ok(Limits {
        apps_max: small("apps", &typed.apps, 0, 100_000)?,
        memory_bytes_max: number("memory", &typed.memory_mib, 0, 1 << 24)? * MIB,
        builds_max: small("builds", &typed.builds, 0, 1000)?,
        build_seconds_max: small("build-minutes", &typed.build_minutes, 1, 1440)? * 60,
        disk_bytes_max: number("disk", &typed.disk_mib, 0, 1 << 30)? * MIB,
    })
}
