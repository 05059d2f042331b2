//! What an app used, made up: a day like others, a deploy, some errors, and half an hour that nobody saw.

use super::*;

pub fn usage_view(range: Range) -> UsageView {
    let (step, count) = range.step();
    let first = NOW.floor(step).minus(step * (count as u32 - 1));
    let wave = |n: usize, times: f64| 1.0 + (n as f64 * times).sin() * 0.4;
    let point = |n: usize| {
        let at = first.plus(step * n as u32);
        let gap = (20..26).contains(&n);
        let busy = wave(n, 0.07) * wave(n, 1.3).powf(0.3);
        let bad = if n == 60 || n == 61 { 4.0 } else { 0.0 };
        let time = |ms: f64| Duration::from_micros((ms * 1000.0 * busy) as u64);
        UsagePoint {
            at,
            cores: (!gap).then_some(0.38 * busy),
            memory: (!gap).then_some(MemoryUse { bytes: (1.4 * busy * 1e9) as u64, reserved_bytes: 2 << 30 }),
            requests: (!gap).then_some(Classes {
                ok: 26.0 * busy,
                redirect: 2.0 * busy,
                client_error: 1.2,
                server_error: bad,
                unanswered: bad / 2.0,
            }),
            latency: (!gap).then(|| LatencyView { p50: time(32.0), p95: time(84.0), p99: time(206.0) }),
            bytes_out: (!gap).then_some(44_000.0 * busy),
        }
    };
    let memory = MemoryUse { bytes: 1_793_148_846, reserved_bytes: 2 << 30 };
    let latency =
        LatencyView { p50: Duration::from_millis(32), p95: Duration::from_millis(84), p99: Duration::from_millis(206) };
    UsageView {
        app: "orchard".parse().unwrap(),
        range,
        step,
        points: (0..count).map(point).collect(),
        total: Some(UsageTotal {
            cpu: Duration::from_secs(36_324),
            memory: Some(memory),
            requests: 1_444_810,
            by_class: Classes {
                ok: 1_400_000,
                redirect: 40_000,
                client_error: 4_470,
                server_error: 340,
                unanswered: 12,
            },
            latency: Some(latency),
            bytes_out: 3_972_844_748,
        }),
        now: Some(UsageNow {
            requests: Some(29.43),
            errors: Some(0.0002),
            latency: Some(latency),
            cores: Some(0.68),
            memory: Some(memory),
        }),
        marks: vec![
            UsageMark { release: 142, at: first.plus(step * 70) },
            UsageMark { release: 141, at: first.plus(step * 12) },
        ],
    }
}

/// Nobody saw it.
pub fn no_usage(range: Range) -> UsageView {
    let mut usage = usage_view(range);
    for point in &mut usage.points {
        *point = UsagePoint { at: point.at, cores: None, memory: None, requests: None, latency: None, bytes_out: None };
    }
    UsageView { total: None, now: None, marks: Vec::new(), ..usage }
}

pub fn sparks() -> std::collections::HashMap<AppName, Spark> {
    let points: Vec<_> = (0..24).map(|n| (n != 5).then_some(29.0 + f64::from(n % 7))).collect();
    [("orchard".parse().unwrap(), Spark { points, requests: 1_444_810 })].into()
}
