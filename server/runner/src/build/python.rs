//! Python, with `requirements.txt`, `pyproject.toml` or `uv.lock`, installed by uv into `/app/.venv`.

use super::python_web;
use super::version::Range;
use super::{Buildpack, Recipe, Source, Step, Tree};
use domain::Reason;
use serde::Deserialize;
use toml::Table;

pub(super) const BUILDPACK: Buildpack = Buildpack {
    name: "python",
    looks_for: "requirements.txt, pyproject.toml or uv.lock (Python)",
    detect,
    runs_on: |program| {
        program.strip_prefix("python3.").is_some_and(|minor| minor.bytes().all(|byte| byte.is_ascii_digit()))
    },
    tool: "uv",
    recipe,
};

const UV: &str = "/opt/berth/uv";

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct PyProject {
    project: Option<Project>,
    build_system: Option<Table>,
    tool: Table,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Project {
    requires_python: Option<String>,
    dependencies: Vec<String>,
}

/// Where an app's packages are written down, and how they are installed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Packages {
    UvLock,
    Requirements,
    PyProject,
    /// A `pyproject.toml` that also says how the app itself is built into a package.
    Package,
}

impl Packages {
    fn file(self) -> &'static str {
        match self {
            Self::UvLock => "uv.lock",
            Self::Requirements => "requirements.txt",
            Self::PyProject | Self::Package => "pyproject.toml",
        }
    }
}

/// What an app declares that it needs.
pub(super) struct Declared {
    requirements: Vec<String>,
    /// How a package is added: `Add a line … to …`.
    file: &'static str,
}

impl Declared {
    pub fn has(&self, package: &str) -> bool {
        self.requirements.iter().any(|line| names_package(line, package))
    }

    /// `fastapi[standard]` also brings what its extra names.
    pub fn has_extra(&self, package: &str, extra: &str) -> bool {
        let names_extra = |line: &String| {
            let extras =
                line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(extras, _)| extras);
            extras.split(',').any(|name| name.trim().eq_ignore_ascii_case(extra))
        };
        self.requirements.iter().any(|line| names_package(line, package) && names_extra(line))
    }

    /// What to do to have `package`.
    pub fn how_to_add(&self, package: &str) -> String {
        match self.file {
            "requirements.txt" => format!("Add the line `{package}` to requirements.txt and push again"),
            "uv.lock" => format!("Run `uv add {package}`, commit pyproject.toml and uv.lock, and push again"),
            _ => format!("Add \"{package}\" to `dependencies` in pyproject.toml and push again"),
        }
    }
}

/// A `pyproject.toml` that only sets up its author's tools makes no app.
fn detect(tree: &Tree) -> bool {
    if ["requirements.txt", "uv.lock", "manage.py", "Pipfile", "poetry.lock"].iter().any(|name| tree.has(name)) {
        return true;
    }
    match pyproject(tree) {
        Ok(Some(pyproject)) => pyproject.project.is_some() || pyproject.tool.contains_key("poetry"),
        Ok(None) => false,
        Err(_) => true,
    }
}

fn pyproject(tree: &Tree) -> Result<Option<PyProject>, Reason> {
    let Some(text) = tree.read("pyproject.toml")? else { return Ok(None) };
    toml::from_str(&text).map(Some).map_err(|e| {
        Reason::new(format!("pyproject.toml could not be read: {}", e.message())).hint("Mend it and push again")
    })
}

fn recipe(source: &Source<'_>) -> Result<Recipe, Reason> {
    let tree = source.tree;
    let pyproject = pyproject(tree)?;
    let packages = find_packages(tree, pyproject.as_ref())?;
    let project = pyproject.and_then(|all| all.project).unwrap_or_default();
    let (python, version) = find_python(source, project.requires_python.as_deref())?;
    let file = packages.file();
    let requirements = match packages {
        Packages::Requirements => tree.read(file)?.unwrap_or_default().lines().map(str::to_owned).collect(),
        _ => project.dependencies,
    };
    let mut says = vec![format!("Python {version}: {file}")];
    if tree.has("package.json") {
        says.push("package.json is left alone: this is built as a Python app".to_owned());
    }
    let mut recipe = Recipe { says, steps: install(packages, &python), ..Recipe::default() };
    let env = [
        ("PATH", "/app/.venv/bin:/usr/local/bin:/usr/bin:/bin"),
        ("VIRTUAL_ENV", "/app/.venv"),
        ("PYTHONUNBUFFERED", "1"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        // Nobody but the balancer reaches an instance: gunicorn and uvicorn may believe its
        // X-Forwarded-Proto.
        ("FORWARDED_ALLOW_IPS", "*"),
    ];
    recipe.env = env.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    python_web::add(source, &Declared { requirements, file }, &mut recipe)?;
    Ok(recipe)
}

fn find_packages(tree: &Tree, pyproject: Option<&PyProject>) -> Result<Packages, Reason> {
    let has_project = pyproject.is_some_and(|all| all.project.is_some());
    let is_package = pyproject.is_some_and(|all| {
        let uv = all.tool.get("uv").and_then(|uv| uv.get("package")).and_then(toml::Value::as_bool);
        uv.unwrap_or(all.build_system.is_some())
    });
    if tree.has("uv.lock") {
        if pyproject.is_none() {
            return Err(Reason::new("there is a uv.lock, but no pyproject.toml that it belongs to")
                .hint("Commit pyproject.toml too"));
        }
        return Ok(Packages::UvLock);
    }
    if tree.has("requirements.txt") {
        return Ok(Packages::Requirements);
    }
    let other = [
        ("poetry.lock", "Poetry", "poetry export -o requirements.txt"),
        ("Pipfile", "Pipenv", "pipenv requirements > requirements.txt"),
    ];
    let poetry = pyproject.is_some_and(|all| all.tool.contains_key("poetry")) && !has_project;
    if let Some((name, whose, export)) =
        other.into_iter().find(|(name, ..)| tree.has(name) || (poetry && *name == "poetry.lock"))
    {
        return Err(Reason::new(format!(
            "this app's packages are {whose}'s ({name}), which Berth does not install with"
        ))
        .hint(format!("Run `{export}` and commit requirements.txt, or move to uv (`uv lock`)")));
    }
    match (has_project, is_package) {
        (true, true) => Ok(Packages::Package),
        (true, false) => Ok(Packages::PyProject),
        (false, _) => Err(Reason::new("nothing says which packages this Python app needs")
            .hint("Commit a requirements.txt (`pip freeze > requirements.txt`), or a pyproject.toml with a [project]")),
    }
}

/// The newest of the stack that all of the app's files allow.
fn find_python(source: &Source<'_>, requires: Option<&str>) -> Result<(String, String), Reason> {
    let stack = source.stack;
    if stack.is_empty() {
        return Err(Reason::new("this server has no Python 3").hint("Ask the operator to install it (Debian: python3)"));
    }
    if !stack.has_tool {
        return Err(Reason::new("this server has no uv, which installs Python's packages")
            .hint("Ask the operator to start Berth with `--uv`"));
    }
    let mut wishes = Vec::new();
    for name in [".python-version", "runtime.txt"] {
        let text = source.tree.read(name)?.unwrap_or_default();
        let Some(line) = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')) else {
            continue;
        };
        let number = line.strip_prefix("python-").or_else(|| line.strip_prefix("cpython-")).unwrap_or(line);
        let range = Range::of_python_minor(number);
        wishes.push((name, line.to_owned(), range));
    }
    if let Some(text) = requires {
        wishes.push(("requires-python in pyproject.toml", text.to_owned(), Range::of_python(text)));
    }
    for (place, text, range) in &wishes {
        if range.is_none() {
            return Err(Reason::new(format!("{place} says '{}', which is no version of Python", shown(text)))
                .hint(format!("Write one that this server has: {}", stack.listed())));
        }
    }
    let ranges: Vec<_> = wishes.iter().filter_map(|(.., range)| range.as_ref()).collect();
    if let Some((program, version)) = stack.newest(&ranges) {
        return Ok((program.to_owned(), version.to_string()));
    }
    let wanted: Vec<_> = wishes.iter().map(|(place, text, _)| format!("{} ({place})", shown(text))).collect();
    Err(Reason::new(format!("the app wants Python {}; this server has {}", wanted.join(" and "), stack.listed()))
        .hint("Allow one of these there, or ask the operator for another version"))
}

fn install(packages: Packages, python: &str) -> Vec<Step> {
    let file = packages.file();
    let hint = match packages {
        Packages::UvLock => "The lines above say why; where pyproject.toml and uv.lock differ, run `uv lock`, commit both and push again".to_owned(),
        _ => format!("The lines above say which one; mend {file} and push again"),
    };
    let failed = || Reason::new("the Python packages could not be installed").hint(hint.clone());
    let pip = [UV, "pip", "install", "--python", "/app/.venv/bin/python", "--compile-bytecode"];
    let what: Vec<&str> = match packages {
        Packages::UvLock => vec![UV, "sync", "--locked", "--no-dev", "--compile-bytecode", "--python", python],
        Packages::Requirements => [&pip[..], &["-r", "/app/requirements.txt"]].concat(),
        Packages::PyProject => [&pip[..], &["-r", "/app/pyproject.toml"]].concat(),
        Packages::Package => [&pip[..], &["--editable", "/app"]].concat(),
    };
    vec![
        // One that was committed belongs to another machine.
        Step::new(
            "Making a virtual environment",
            &[UV, "venv", "--quiet", "--clear", "--no-project", "--python", python, "/app/.venv"],
            failed(),
        ),
        Step::new(&format!("Installing {file}"), &what, failed()),
        // When the app's own package was built, and that file's hash.
        Step::new(
            "",
            &[
                "find",
                "/app/.venv",
                "-name",
                "uv_cache.json",
                "-delete",
                "-o",
                "-path",
                "*.dist-info/RECORD",
                "-exec",
                "sed",
                "-i",
                "/uv_cache.json,/d",
                "{}",
                "+",
            ],
            failed(),
        ),
    ]
}

/// Is this line of a requirements file about `package`? (PEP 508: a name ends where anything else
/// than a letter, a digit or `-_.` begins; case does not matter, nor which of `-_.` is written.)
fn names_package(line: &str, package: &str) -> bool {
    let name: String =
        line.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    name.to_ascii_lowercase().replace(['_', '.'], "-") == package
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::super::recipe::recipe_of;
    use super::*;

    const PYTHONS: &[(&str, &str)] = &[("/usr/bin/python3.11", "3.11.2"), ("/usr/local/bin/python3.13", "3.13.1")];
    const WEB: (&str, &str) = ("Procfile", "web: python x.py");

    fn made(files: &[(&str, &str)]) -> Recipe {
        let (pack, recipe) = recipe_of(files, PYTHONS).unwrap_or_else(|reason| panic!("{reason}"));
        assert_eq!(pack, "python");
        recipe
    }

    fn refused(files: &[(&str, &str)], message: &str, hint: &str) {
        let reason = recipe_of(files, PYTHONS).unwrap_err();
        assert!(reason.message.contains(message), "{reason}");
        assert!(reason.hint.as_deref().unwrap_or_default().contains(hint), "{reason}");
    }

    #[test]
    fn the_lock_is_taken_before_what_it_was_made_from() {
        let project = ("pyproject.toml", "[project]\nname = 'x'\ndependencies = ['flask']\n");
        let installs = |files: &[(&str, &str)]| made(files).steps[1].argv.join(" ");
        assert!(installs(&[project, WEB, ("uv.lock", "")]).contains("uv sync --locked --no-dev"));
        assert!(installs(&[project, WEB, ("requirements.txt", "")]).contains("-r /app/requirements.txt"));
        assert!(installs(&[project, WEB]).contains("-r /app/pyproject.toml"));
        let package = ("pyproject.toml", "[project]\nname = 'x'\n[build-system]\nrequires = ['setuptools']\n");
        assert!(installs(&[package, WEB]).contains("--editable /app"));
    }

    #[test]
    fn the_newest_python_that_the_app_allows_is_taken() {
        let python = |file: (&str, &str)| made(&[("requirements.txt", ""), WEB, file]).says[0].clone();
        assert_eq!(python(("x", "")), "Python 3.13.1: requirements.txt");
        assert_eq!(python((".python-version", "# ours\n3.11.7\n")), "Python 3.11.2: requirements.txt");
        assert_eq!(python(("runtime.txt", "python-3.11.9")), "Python 3.11.2: requirements.txt");
        let project = "[project]\nname = 'x'\nrequires-python = '>=3.9,<3.13'\n";
        assert_eq!(python(("pyproject.toml", project)), "Python 3.11.2: requirements.txt");
    }

    #[test]
    fn a_python_that_is_not_there_is_refused_with_what_there_is() {
        let requirements = ("requirements.txt", "");
        refused(
            &[requirements, ("runtime.txt", "python-3.8.1")],
            "wants Python python-3.8.1 (runtime.txt); this server has 3.13.1 and 3.11.2",
            "operator",
        );
        refused(
            &[requirements, (".python-version", "pypy3.10")],
            "'pypy3.10', which is no version",
            "3.13.1 and 3.11.2",
        );
        let project = "[project]\nname = 'x'\nrequires-python = '>=3.14'\n";
        refused(&[("pyproject.toml", project), WEB], ">=3.14 (requires-python in pyproject.toml)", "Allow one");
        let reason = recipe_of(&[requirements, WEB], &[]).unwrap_err();
        assert!(reason.message.contains("no Python 3"), "{reason}");
    }

    #[test]
    fn what_cannot_be_installed_is_refused_with_the_way_out() {
        refused(&[("Pipfile", "")], "Pipenv's (Pipfile)", "pipenv requirements");
        refused(&[("pyproject.toml", "[tool.poetry]\nname = 'x'\n")], "Poetry's", "poetry export");
        refused(&[("manage.py", "")], "which packages", "requirements.txt");
        refused(&[("uv.lock", "")], "no pyproject.toml", "Commit");
        refused(&[("pyproject.toml", "[project")], "pyproject.toml could not be read", "Mend");
        let tools = [("pyproject.toml", "[tool.ruff]\n"), ("index.html", "")];
        assert_eq!(recipe_of(&tools, PYTHONS).unwrap().0, "static");
    }

    #[test]
    fn a_requirement_is_known_by_its_name() {
        let declared =
            Declared { requirements: vec!["FastAPI[standard, all]>=0.1".into(), "flask-login".into()], file: "" };
        assert!(declared.has("fastapi") && !declared.has("flask"));
        assert!(declared.has_extra("fastapi", "standard") && !declared.has_extra("flask-login", "standard"));
    }
}
