//! What graphs are drawn from, as the rows that Berth would have written: for benchmarks.

/// Statements that give every app called `crowd-N` minutes and hours of `days` days and samples of the last
/// `raw_hours` hours, from a runner and a balancer each. Twenty kinds of days, so that it takes seconds.
pub fn statements(days: u32, raw_hours: u32) -> Vec<String> {
    let numbers = |each: &str| format!("array(select ({each}) from generate_series(1, 60) m where v >= 0)");
    // A bucket and its count, seven bits at a time: what 12 buckets take.
    let five = "decode('1e0520142132222f23402430251a260e2708280429022a01', 'hex')";
    let hour = "decode('1e850120942021b24022af6023c05024b03025ba1026ae0827a80428a40229a2012a60', 'hex')";
    let kinds = format!(
        "select v, h, {steps} steps, {cpu} cpu, {memory} memory, {reserved} reserved, {bytes} bytes, {ok} ok, {few} few,
                array_fill({five}, array[12]) latency
         from generate_series(0, 4) v, generate_series(0, 3) h",
        steps = numbers("4::smallint"),
        cpu = numbers("(1000000 + 4000000 * (v + 1) * (1.2 + sin(h + m / 60.0)) * random())::bigint"),
        memory = numbers("(60000000 * (v + 1) + 9000000 * random())::bigint"),
        reserved = numbers("(268435456 * (v + 1))::bigint"),
        bytes = numbers("(900000 * (v + 1) * random())::bigint"),
        ok = numbers("(300 * (v + 1) * (1.2 + sin(h + m / 60.0)) * random())::int"),
        few = numbers("(3 * random())::int"),
    );
    let hours = format!(
        "generate_series(date_trunc('hour', now()) - interval '{days} days', date_trunc('hour', now()), interval '1 hour') t"
    );
    let apps = "(select id from app where name like 'crowd-%') a";
    let fits = "k.v = a.id % 5 and k.h = extract(hour from t)::int % 4";
    let sum = |column: &str| format!("(select sum(n) from unnest({column}) n)");
    let most = |column: &str| format!("(select max(n) from unnest({column}) n)");
    vec![
        format!(
            "with k as materialized ({kinds})
             insert into series_minutes
             select a.id, t, k.steps, k.cpu, k.memory, k.reserved, k.steps, k.bytes, k.ok, k.few, k.few, k.few, k.few, k.latency
             from {apps} cross join {hours} join k on {fits}"
        ),
        format!(
            "with k as materialized (select v, h, {cpu} cpu, {memory} memory, {reserved} reserved, {bytes} bytes, {ok} ok,
                                            {few} few from ({kinds}) k)
             insert into series_hour
             select a.id, t, 240, k.cpu, k.memory, k.reserved, 240, k.bytes, k.ok, k.few, k.few, k.few, k.few, {hour}
             from {apps} cross join {hours} join k on {fits}",
            cpu = sum("cpu"),
            memory = most("memory"),
            reserved = most("reserved"),
            bytes = sum("bytes"),
            ok = sum("ok"),
            few = sum("few"),
        ),
        format!(
            "insert into series_raw (app_id, at, source, slot, cpu_micros, memory_bytes, memory_reserved_bytes, work_bytes_out)
             select a.id, t, 1, (extract(epoch from t)::bigint / 3600) % 32, (4000000 * random())::bigint,
                    (90000000 + 9000000 * random())::bigint, 268435456, (90000 * random())::bigint
             from generate_series(to_timestamp(floor(extract(epoch from now()) / 15) * 15) - interval '{raw_hours} hours',
                                  now(), interval '15 seconds') t, {apps}"
        ),
        format!(
            "insert into series_raw (app_id, at, source, slot, traffic_bytes_out, ok, redirect, client_error, server_error,
                                     unanswered, latency)
             select a.id, t, 2, (extract(epoch from t)::bigint / 3600) % 32, (900000 * random())::bigint,
                    (300 * random())::int, 3, 2, (random() * 1.01)::int, 0, {five}
             from generate_series(to_timestamp(floor(extract(epoch from now()) / 15) * 15) - interval '{raw_hours} hours',
                                  now(), interval '15 seconds') t, {apps}"
        ),
    ]
}
