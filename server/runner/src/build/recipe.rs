//! Which buildpack builds an app, and what it says is to be done.

use std::collections::BTreeMap;

use domain::{ProcessName, Reason};

use super::{Tree, procfile, python, static_site};

/// What builds one kind of app. The first that detects its files is taken.
pub(super) struct Buildpack {
    pub name: &'static str,
    /// For the person whose app none of them knew.
    pub looks_for: &'static str,
    pub detect: fn(&Tree) -> bool,
    pub recipe: fn(&Tree) -> Result<Recipe, Reason>,
}

const BUILDPACKS: &[Buildpack] = &[python::BUILDPACK, static_site::BUILDPACK];

#[derive(Debug, PartialEq)]
pub(super) struct Recipe {
    /// What is said first.
    pub says: Vec<String>,
    /// Run one after the other, as the app, in the build sandbox, in `/app`.
    pub steps: Vec<Step>,
    /// Where the app has no Procfile, or it names none of these.
    pub processes: BTreeMap<ProcessName, String>,
    /// The app's default environment.
    pub env: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Step {
    pub says: String,
    pub argv: Vec<String>,
    /// Told when it ends with another code than 0.
    pub failed: Reason,
}

/// The buildpack's name and its recipe, the Procfile's words over its own.
pub(super) fn choose(tree: &Tree) -> Result<(&'static str, Recipe), Reason> {
    let procfile = tree.read("Procfile")?.map(|text| procfile::parse(&text)).transpose()?;
    let Some(pack) = BUILDPACKS.iter().find(|pack| (pack.detect)(tree)) else {
        let looked_for: Vec<_> = BUILDPACKS.iter().map(|pack| pack.looks_for).collect();
        return Err(Reason::new(format!("no buildpack knows this app; looked for {}", looked_for.join(", ")))
            .hint("Commit one of these at the top of the repository"));
    };
    let mut recipe = (pack.recipe)(tree)?;
    recipe.processes.extend(procfile.unwrap_or_default());
    if recipe.processes.is_empty() {
        return Err(Reason::new("nothing says how to start this app").hint(
            "Commit a file named Procfile with a line like `web: python server.py`, listening on 0.0.0.0:$PORT",
        ));
    }
    Ok((pack.name, recipe))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(files: &[(&str, &str)]) -> Result<(&'static str, Recipe), Reason> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        choose(&Tree::open(dir.path()).unwrap())
    }

    #[test]
    fn the_procfile_wins_over_the_buildpack() {
        let (pack, recipe) = chosen(&[
            ("requirements.txt", "flask\ngunicorn"),
            ("app.py", ""),
            ("Procfile", "web: python app.py\nworker: python w.py"),
        ])
        .unwrap();
        assert_eq!(pack, "python");
        assert_eq!(recipe.processes[&ProcessName::web()], "python app.py");
        assert_eq!(recipe.processes.len(), 2);
    }

    #[test]
    fn an_unknown_app_is_told_what_was_looked_for() {
        let reason = chosen(&[("README.md", "")]).unwrap_err();
        assert!(reason.message.contains("requirements.txt (Python), index.html (static files)"), "{reason}");
        let reason = chosen(&[("requirements.txt", "requests")]).unwrap_err();
        assert!(reason.message.contains("how to start"), "{reason}");
        assert!(chosen(&[("index.html", ""), ("Procfile", "web")]).unwrap_err().message.contains("line 1"));
    }
}
