//! What an app has on disk, of what its customer may have.

use commands::{AppView, kind_name, size};
use leptos::prelude::*;

/// Nothing before it was measured.
pub fn on_disk(app: &AppView) -> Option<AnyView> {
    let disk = &app.disk;
    if disk.kinds.is_empty() {
        return None;
    }
    let row = |(kind, bytes): &(domain::DiskKind, i64)| {
        view! {
            <dt>{kind_name(*kind)}</dt>
            <dd>{size(*bytes)}</dd>
        }
    };
    let rows: Vec<_> = disk.kinds.iter().map(row).collect();
    let all = format!("All your apps: {} of {}", size(disk.all_bytes), size(disk.bytes_max));
    Some(
        view! {
            <section class="sheet stack" id="disk">
                <header>
                    <h2>"Disk"</h2>
                    <span>{format!("{} on disk", size(disk.bytes))}</span>
                </header>
                <dl class="facts">{rows}</dl>
                <p class="hint">{all} ". Images of old releases go by themselves; above the limit, pushes are refused."</p>
            </section>
        }
        .into_any(),
    )
}
