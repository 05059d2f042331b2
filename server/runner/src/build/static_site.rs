//! Static files: an `index.html` at the top, served as they are.

use super::{Buildpack, Recipe, Tree};
use domain::{ProcessName, Reason};

pub(super) const BUILDPACK: Buildpack =
    Buildpack { name: "static", looks_for: "index.html (static files)", detect, recipe };

fn detect(tree: &Tree) -> bool {
    tree.has("index.html")
}

fn recipe(_: &Tree) -> Result<Recipe, Reason> {
    let serve = "exec /opt/berth/berth files --root /app --port \"$PORT\"".to_owned();
    Ok(Recipe {
        says: vec!["Static files: everything in the repository is served as it is".to_owned()],
        steps: Vec::new(),
        processes: [(ProcessName::web(), serve)].into(),
        env: Default::default(),
    })
}
