//! Fills an installation with what a month of use leaves behind: apps of many customers, releases, readings and their
//! postings, graphs, as the rows that Berth would have written itself. For benchmarks only.

use anyhow::{Context, Result};

use crate::berth::Berth;

/// The apps are stopped: they are there for pages and queries, and none of them is started.
pub struct Crowd {
    pub apps: u32,
    /// Of these, the customer who looks has so many.
    pub own: u32,
    pub days: u32,
}

/// Samples lie a day; what is looked at is drawn from the last two hours of them.
const RAW_HOURS: u32 = 2;

/// The user's customer gets `own` apps called `crowd-N`, the rest belongs to others, 50 each.
pub fn fill(berth: &Berth, email: &str, crowd: &Crowd) -> Result<()> {
    let Crowd { apps, own, days } = crowd;
    let hours = days * 24;
    let steps = [
        // What wakes and checks at each row would take longer than the rows.
        "alter table app disable trigger user".to_owned(),
        "alter table deploy disable trigger user".to_owned(),
        "alter table posting disable trigger posting_balances".to_owned(),
        "alter table ledger_entry disable trigger user".to_owned(),
        format!(
            "insert into customer (name, apps_max) select 'Crowd ' || n, 1000 from generate_series(1, {}) n",
            apps.saturating_sub(*own).div_ceil(50)
        ),
        format!(
            "update customer set apps_max = 1000 where id = (select m.customer_id from membership m
             join users u on u.id = m.user_id where lower(u.email) = lower('{email}'))"
        ),
        "insert into image (hash, bytes, manifest) values (repeat('0', 64), 50000000,
         '{\"processes\":{\"web\":\"true\"},\"env\":{},\"buildpack\":\"static\",\"stack\":\"host\",\"bytes\":50000000}')"
            .to_owned(),
        format!(
            "with mine as (select m.customer_id id from membership m join users u on u.id = m.user_id
                           where lower(u.email) = lower('{email}')),
                  others as (select id, row_number() over (order by id) n from customer where name like 'Crowd %')
             insert into app (customer_id, name, state, deploy_next, release_number, created)
             select coalesce((select id from mine where n <= {own}), (select id from others o where o.n = (n.n - {own} - 1) / 50 + 1)),
                    'crowd-' || n, 'stopped', 4, 3, now() - interval '{days} days'
             from generate_series(1, {apps}) n"
        ),
        "insert into deploy (app_id, number, cause, state, commit_id, commit_subject, branch, source, image, created, ended)
         select a.id, n, 'push', 'live', repeat(to_hex(n), 40), 'Change number ' || n, 'main', repeat('1', 64),
                repeat('0', 64), a.created + n * interval '1 day', a.created + n * interval '1 day' + interval '9 seconds'
         from app a, generate_series(1, 3) n where a.name like 'crowd-%'"
            .to_owned(),
        "insert into deploy_step (deploy_id, step, started, ended, outcome)
         select d.id, s, d.created, d.ended, 'done' from deploy d join app a on a.id = d.app_id,
                unnest(array['build', 'start', 'switch', 'branch', 'drain']) s where a.name like 'crowd-%'"
            .to_owned(),
        "insert into release (app_id, number, image, formation, created)
         select d.app_id, d.number, d.image, '{\"web\":{\"count\":1,\"memory_bytes\":268435456,\"cpu_millis\":1000}}', d.ended
         from deploy d join app a on a.id = d.app_id where a.name like 'crowd-%'"
            .to_owned(),
        // A life for the whole time; what is used in an hour is the same in each of an app, and another for each app.
        format!(
            "insert into reading (life, app_id, meter, hour, value, at)
             select case m.meter when 'requests' then 'crowd' when 'storage' then 'storage/' || a.id
                    when 'memory' then 'instance/' || 1000000000 + a.id else 'crowd/' || 1000000000 + a.id end,
                    a.id, m.meter, h.hour, m.an_hour * (1 + a.id % 7) * h.n,
                    h.hour + interval '59 minutes 59 seconds'
             from app a,
                  (values ('cpu', 90000000), ('memory', 943718400), ('requests', 3600), ('bytes_out', 40000000),
                          ('storage', 180000000)) m(meter, an_hour),
                  (select n, date_trunc('hour', now()) - ({hours} - n + 1) * interval '1 hour' as hour
                   from generate_series(1, {hours}) n) h
             where a.name like 'crowd-%'"
        ),
        // As the engine would: `place` and `used_after` along each chain, amounts as differences of what is rounded.
        "insert into posting (customer_id, app_id, meter, plan_id, month, hour, place, units, used_after, amount_micros,
                              owed_after_micros)
         select customer_id, app_id, meter, plan_id, month, hour, row_number() over chain, units, sum(units) over chain,
                round(sum(units) over chain * micros / unit) - round((sum(units) over chain - units) * micros / unit),
                round(sum(units) over chain * micros / unit)
         from (select a.customer_id, r.app_id, r.meter, p.id plan_id, date_trunc('month', r.hour, 'UTC')::date as month, r.hour,
                      r.value - coalesce(lag(r.value) over (partition by r.life, r.app_id, r.meter order by r.hour), 0) units,
                      (p.prices -> r.meter -> 'tiers' -> 0 ->> 'micros')::numeric micros, u.unit::numeric unit
               from reading r join app a on a.id = r.app_id
               join (values ('cpu', 3600000000), ('memory', 3774873600), ('requests', 1000000), ('bytes_out', 1073741824),
                            ('storage', 3774873600)) u(meter, unit) on u.meter = r.meter
               cross join (select * from price_plan order by since limit 1) p
               where a.name like 'crowd-%') used
         window chain as (partition by customer_id, month, plan_id, meter order by hour, app_id)"
            .to_owned(),
        "insert into ledger_entry (posting_id, account, amount_micros)
         select p.id, e.account, e.amount from posting p,
                lateral (values ('customer/' || p.customer_id, p.amount_micros), ('revenue/' || p.meter, -p.amount_micros)) e(account, amount)
         where p.amount_micros <> 0 and p.app_id in (select id from app where name like 'crowd-%')"
            .to_owned(),
        format!("update billing set begun = now() - interval '{} days'", days + 1),
        "alter table app enable trigger user".to_owned(),
        "alter table deploy enable trigger user".to_owned(),
        "alter table posting enable trigger posting_balances".to_owned(),
        "alter table ledger_entry enable trigger user".to_owned(),
    ];
    let analyze = "analyze".to_owned();
    for step in steps.into_iter().chain(crate::series::statements(*days, RAW_HOURS)).chain([analyze]) {
        let first: String = step.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
        berth.sql(&step).with_context(|| format!("the crowd: {first} …"))?;
    }
    Ok(())
}
