//! What was asked of an app while a deploy was switched on, as its balancers count it.

use domain::DeployId;
use domain::wire::SwitchCount;
use sqlx::{PgExecutor, query};

use crate::{Result, Tx};

/// Takes in what a balancer counted for deploys that are under way; of others it is dropped. The same
/// again, or an older report, changes nothing. A key (deploy, life) must not stand in it twice.
pub async fn count(db: impl PgExecutor<'_>, counts: &[SwitchCount]) -> Result<()> {
    let deploys: Vec<i64> = counts.iter().map(|c| c.deploy.0).collect();
    let apps: Vec<i64> = counts.iter().map(|c| c.app.0).collect();
    let lives: Vec<String> = counts.iter().map(|c| c.life.as_str().to_owned()).collect();
    let all = |of: fn(&SwitchCount) -> u64| -> Vec<i64> {
        counts.iter().map(|c| i64::try_from(of(c)).unwrap_or(i64::MAX)).collect()
    };
    query!(
        "insert into deploy_traffic as t (deploy_id, life, requests_from, requests, unanswered_from, unanswered,
                                          errors_from, errors)
         select k.deploy, k.life, k.requests_from, k.requests, k.unanswered_from, k.unanswered, k.errors_from,
                k.errors
         from unnest($1::int8[], $2::int8[], $3::text[], $4::int8[], $5::int8[], $6::int8[], $7::int8[],
                     $8::int8[], $9::int8[])
              as k(deploy, app, life, requests_from, requests, unanswered_from, unanswered, errors_from, errors)
         join deploy d on d.id = k.deploy and d.app_id = k.app
         where d.state in ('starting', 'switching')
            or exists (select from deploy_step s where s.deploy_id = d.id and s.step = 'drain' and s.ended is null)
         on conflict (deploy_id, life) do update
         set requests_from = least(t.requests_from, excluded.requests_from),
             requests = greatest(t.requests, excluded.requests),
             unanswered_from = least(t.unanswered_from, excluded.unanswered_from),
             unanswered = greatest(t.unanswered, excluded.unanswered),
             errors_from = least(t.errors_from, excluded.errors_from),
             errors = greatest(t.errors, excluded.errors)",
        &deploys,
        &apps,
        &lives,
        &all(|c| c.from.requests),
        &all(|c| c.to.requests),
        &all(|c| c.from.unanswered),
        &all(|c| c.to.unanswered),
        &all(|c| c.from.errors),
        &all(|c| c.to.errors),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Writes the sums of what was counted so far into the deploy.
pub async fn sum_up(tx: &mut Tx, deploy: DeployId) -> Result<()> {
    query!(
        "update deploy d set requests = t.requests, unanswered = t.unanswered, errors = t.errors
         from (select sum(requests - requests_from)::int8 as requests,
                      sum(unanswered - unanswered_from)::int8 as unanswered,
                      sum(errors - errors_from)::int8 as errors
               from deploy_traffic where deploy_id = $1) t
         where d.id = $1 and t.requests is not null",
        deploy.0
    )
    .execute(&mut ***tx)
    .await?;
    Ok(())
}

/// The deploy has its sums: what they were made of goes, and what was counted for others of its app that
/// will have none.
pub async fn stop_counting(tx: &mut Tx, deploy: DeployId) -> Result<()> {
    query!(
        "delete from deploy_traffic t using deploy d, deploy this
         where this.id = $1 and d.app_id = this.app_id and t.deploy_id = d.id
           and (d.id = this.id or d.state in ('failed', 'canceled'))",
        deploy.0
    )
    .execute(&mut ***tx)
    .await?;
    Ok(())
}
