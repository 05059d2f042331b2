//! What a customer may use, and what is used of it: shown to both the customer and the operator.

use commands::{LimitsView, Used, size};
use leptos::prelude::*;

fn minutes(seconds: i32) -> String {
    match seconds / 60 {
        1 => "1 minute".to_owned(),
        n => format!("{n} minutes"),
    }
}

/// How much of a whole, as a bar.
pub fn share(label: String, used: i64, ahead: i64, max: i64) -> AnyView {
    let part = |n: i64| format!("{:.1}%", (n as f64 / max.max(1) as f64).clamp(0.0, 1.0) * 100.0);
    let (ahead, used) = (part(ahead), part(used));
    view! {
        <svg class="share" role="img" aria-label=label>
            <rect class="track sea" width="100%" height="100%" rx="3"/>
            <rect class="ahead sea" width=ahead height="100%" rx="3"/>
            <rect class="used sea" width=used height="100%" rx="3"/>
        </svg>
    }
    .into_any()
}

pub fn table(limits: &LimitsView) -> AnyView {
    let count = |n: i64| n.to_string();
    let row = |name: &'static str, Used { used, max }: Used, said: &dyn Fn(i64) -> String| {
        let words = format!("{} of {}", said(used), said(max));
        let bar = share(format!("{name}: {words}"), used, used, max);
        view! {
            <dt>{name}</dt>
            <dd>
                {words}
                {bar}
            </dd>
        }
    };
    view! {
        <dl class="facts limits">
            {row("Apps", limits.apps, &count)}
            {row("Memory", limits.memory_bytes, &size)}
            {row("Disk", limits.disk_bytes, &size)}
            {row("Builds at once", limits.builds, &count)}
            <dt>"One build"</dt>
            <dd>"at most " {minutes(limits.build_seconds_max)}</dd>
        </dl>
    }
    .into_any()
}
