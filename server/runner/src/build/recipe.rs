//! Which buildpack builds an app, and what it says is to be done.

use std::collections::BTreeMap;

use domain::{ProcessName, Reason};

use super::stack::Stack;
use super::{Tree, node, procfile, python, static_site};

/// What builds one kind of app. The first that detects its files is taken.
pub(super) struct Buildpack {
    pub name: &'static str,
    /// For the person whose app none of them knew.
    pub looks_for: &'static str,
    pub detect: fn(&Tree) -> bool,
    /// Is a program of that name one of those that its apps run on?
    pub runs_on: fn(&str) -> bool,
    /// What installs its packages.
    pub tool: &'static str,
    pub recipe: fn(&Source<'_>) -> Result<Recipe, Reason>,
}

const BUILDPACKS: &[Buildpack] = &[python::BUILDPACK, node::BUILDPACK, static_site::BUILDPACK];

/// What a recipe is made from.
pub(super) struct Source<'a> {
    pub tree: &'a Tree,
    pub stack: &'a Stack,
    /// What the Procfile says, if there is one.
    pub procfile: &'a BTreeMap<ProcessName, String>,
}

impl Source<'_> {
    pub fn has_web(&self) -> bool {
        self.procfile.contains_key(&ProcessName::web())
    }
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Recipe {
    /// What is said first.
    pub says: Vec<String>,
    /// Run one after the other, as the app, in the build sandbox, in `/app`.
    pub steps: Vec<Step>,
    /// Where the app has no Procfile, or it names none of these.
    pub processes: BTreeMap<ProcessName, String>,
    /// The app's default environment.
    pub env: BTreeMap<String, String>,
    /// Not empty: the steps make a site of static files in one of these directories; the first that
    /// holds an `index.html` is served.
    pub site_in: &'static [&'static str],
}

#[derive(Debug, PartialEq)]
pub(super) struct Step {
    /// Empty: nothing worth saying.
    pub says: String,
    pub argv: Vec<String>,
    /// Told when it ends with another code than 0.
    pub failed: Reason,
}

impl Step {
    pub fn new(says: &str, argv: &[&str], failed: Reason) -> Self {
        Self { says: says.to_owned(), argv: argv.iter().map(|arg| (*arg).to_owned()).collect(), failed }
    }
}

/// What the Procfile says; nothing where there is none.
pub(super) fn read_procfile(tree: &Tree) -> Result<BTreeMap<ProcessName, String>, Reason> {
    Ok(tree.read("Procfile")?.map(|text| procfile::parse(&text)).transpose()?.unwrap_or_default())
}

pub(super) fn choose(tree: &Tree) -> Result<&'static Buildpack, Reason> {
    BUILDPACKS.iter().find(|pack| (pack.detect)(tree)).ok_or_else(|| {
        let looked_for: Vec<_> = BUILDPACKS.iter().map(|pack| pack.looks_for).collect();
        Reason::new(format!("no buildpack knows this app; looked for {}", looked_for.join(", ")))
            .hint("Commit one of these at the top of the repository")
    })
}

impl Buildpack {
    /// The recipe, the Procfile's words over its own.
    pub fn recipe(&self, source: &Source<'_>) -> Result<Recipe, Reason> {
        let mut recipe = (self.recipe)(source)?;
        recipe.processes.extend(source.procfile.clone());
        if recipe.processes.is_empty() && recipe.site_in.is_empty() {
            return Err(Reason::new("nothing says how to start this app").hint(
                "Commit a file named Procfile with a line like `web: python server.py`, listening on 0.0.0.0:$PORT",
            ));
        }
        Ok(recipe)
    }
}

impl Recipe {
    /// After the steps: serves the site that they made.
    pub fn serve_site(&mut self, tree: &Tree) -> Result<(), Reason> {
        if self.site_in.is_empty() {
            return Ok(());
        }
        let Some(dir) = self.site_in.iter().find(|dir| tree.has(&format!("{dir}/index.html"))) else {
            let looked_for: Vec<_> = self.site_in.iter().map(|dir| format!("{dir}/index.html")).collect();
            return Err(Reason::new(format!("the build made no site: there is no {}", looked_for.join(", no ")))
                .hint("Let the build script write one of these, or say how to start the app: a `start` script in package.json or a `web:` line in a Procfile"));
        };
        self.processes.insert(ProcessName::web(), static_site::serve(dir));
        Ok(())
    }
}

#[cfg(test)]
pub(super) fn recipe_of(files: &[(&str, &str)], stack: &[(&str, &str)]) -> Result<(&'static str, Recipe), Reason> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let tree = Tree::open(dir.path()).unwrap();
    let procfile = read_procfile(&tree)?;
    let pack = choose(&tree)?;
    let mut all = Stack { has_tool: true, ..Stack::default() };
    for (program, version) in stack.iter().filter(|(program, _)| (pack.runs_on)(program.rsplit('/').next().unwrap())) {
        all.add((*program).to_owned(), super::version::Version::printed(version).unwrap());
    }
    Ok((pack.name, pack.recipe(&Source { tree: &tree, stack: &all, procfile: &procfile })?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(files: &[(&str, &str)]) -> Result<(&'static str, Recipe), Reason> {
        recipe_of(files, &[("/usr/bin/python3.11", "3.11.2"), ("/usr/bin/node", "v20.20.2")])
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
        for kind in ["requirements.txt", "(Python)", "package.json (Node.js)", "index.html (static files)"] {
            assert!(reason.message.contains(kind), "{reason}");
        }
        let reason = chosen(&[("requirements.txt", "requests")]).unwrap_err();
        assert!(reason.message.contains("how to start"), "{reason}");
        assert!(chosen(&[("index.html", ""), ("Procfile", "web")]).unwrap_err().message.contains("line 1"));
    }

    #[test]
    fn the_first_directory_with_a_site_is_served() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        let mut recipe = Recipe { site_in: &["dist", "public"], ..Recipe::default() };
        let reason = recipe.serve_site(&tree).unwrap_err();
        assert!(reason.message.contains("no dist/index.html, no public/index.html"), "{reason}");
        for name in ["public", "dist"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("index.html"), "").unwrap();
            recipe.serve_site(&tree).unwrap();
            assert!(recipe.processes[&ProcessName::web()].contains(&format!("--root /app/{name} ")));
        }
    }
}
