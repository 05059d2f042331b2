//! What was asked of an app while a deploy of it was switched on, and how much of that failed.

use commands::{DeployRow, TrafficView};
use domain::{DeployState, Step, grouped};
use leptos::prelude::*;

/// "0 failed requests", "3 failed requests of 1,204"
pub fn failed(row: &DeployRow) -> Option<String> {
    let traffic = row.traffic?;
    Some(match (traffic.failed(), traffic.requests) {
        (0, _) => "0 failed requests".to_owned(),
        (1, all) => format!("1 failed request of {}", thousands(all)),
        (n, all) => format!("{} failed requests of {}", thousands(n), thousands(all)),
    })
}

/// "0 of 812 failed", where anything was asked.
pub fn failed_of(row: &DeployRow) -> Option<String> {
    let traffic = row.traffic.filter(|traffic| traffic.requests > 0);
    traffic.map(|traffic| format!("{} of {} failed", thousands(traffic.failed()), thousands(traffic.requests)))
}

/// The same on the deploy's own page, with what counts.
pub fn traffic(row: &DeployRow) -> Option<AnyView> {
    let traffic = row.traffic.filter(|_| row.state == DeployState::Live)?;
    let said = sentence(row, &traffic);
    let hint = "Counted from the start of the new instances until the old ones had ended. A request failed when the \
                app answered it with 5xx or broke off, or when Berth had to answer in its place (502, 503, 504).";
    Some(
        view! {
            <p>
                <strong>{said.0}</strong>
                {said.1}
            </p>
            <p class="hint">{hint}</p>
        }
        .into_any(),
    )
}

fn sentence(row: &DeployRow, traffic: &TrafficView) -> (String, String) {
    let drains = row.steps.iter().any(|step| step.step == Step::Drain && step.ended.is_none());
    let so_far = if drains { " so far" } else { "" };
    if traffic.requests == 0 {
        return ("No request".to_owned(), format!(" came during the switch{so_far}."));
    }
    let noun = if traffic.failed() == 1 { "request" } else { "requests" };
    let title = format!("{} failed {noun}", thousands(traffic.failed()));
    let of = format!(" of {} during the switch{so_far}", thousands(traffic.requests));
    let rest = match (traffic.unanswered, traffic.errors) {
        (0, 0) => format!("{of}."),
        (0, errors) => format!("{of}, {} by an error of the app.", thousands(errors)),
        (unanswered, 0) => format!("{of}, {} since no instance answered.", thousands(unanswered)),
        (unanswered, errors) => {
            format!(
                "{of}, {} since no instance answered, {} by an error of the app.",
                thousands(unanswered),
                thousands(errors)
            )
        }
    };
    (title, rest)
}

fn thousands(n: i64) -> String {
    grouped(n.unsigned_abs().into())
}
