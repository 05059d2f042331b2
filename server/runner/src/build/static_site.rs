//! Static files: an `index.html` at the top, served as they are.

use super::{Buildpack, Recipe, Source, Tree};
use domain::{ProcessName, Reason};

pub(super) const BUILDPACK: Buildpack =
    Buildpack { name: "static", looks_for: "index.html (static files)", detect, runs_on: |_| false, tool: "", recipe };

fn detect(tree: &Tree) -> bool {
    tree.has("index.html")
}

fn recipe(_: &Source<'_>) -> Result<Recipe, Reason> {
    Ok(Recipe {
        says: vec!["Static files: everything in the repository is served as it is".to_owned()],
        processes: [(ProcessName::web(), serve(""))].into(),
        ..Recipe::default()
    })
}

/// The command that serves a directory below `/app`.
pub(super) fn serve(dir: &str) -> String {
    let root = if dir.is_empty() { "/app".to_owned() } else { format!("/app/{dir}") };
    format!("exec /opt/berth/berth files --root {root} --port \"$PORT\"")
}
