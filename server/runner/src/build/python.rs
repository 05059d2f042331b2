//! Python with `requirements.txt`, installed by uv into `/app/.venv`.

use super::{Buildpack, Recipe, Step, Tree};
use domain::{ProcessName, Reason};

pub(super) const BUILDPACK: Buildpack =
    Buildpack { name: "python", looks_for: "requirements.txt (Python)", detect, recipe };

fn detect(tree: &Tree) -> bool {
    tree.has("requirements.txt")
}

fn recipe(tree: &Tree) -> Result<Recipe, Reason> {
    let requirements = tree.read("requirements.txt")?.unwrap_or_default();
    let wants = |package: &str| requirements.lines().any(|line| names_package(line, package));
    let step = |says: &str, args: &[&str]| Step {
        says: says.to_owned(),
        argv: std::iter::once("/opt/berth/uv").chain(args.iter().copied()).map(str::to_owned).collect(),
        failed: Reason::new("the Python packages could not be installed")
            .hint("The lines above say which one; mend requirements.txt and push again"),
    };
    let steps = vec![
        step("Making a virtual environment", &["venv", "--quiet", "--python", "/usr/bin/python3", "/app/.venv"]),
        step(
            "Installing requirements.txt",
            &[
                "pip",
                "install",
                "--python",
                "/app/.venv/bin/python",
                "--compile-bytecode",
                "-r",
                "/app/requirements.txt",
            ],
        ),
    ];
    let env = [
        ("PATH", "/app/.venv/bin:/usr/local/bin:/usr/bin:/bin"),
        ("VIRTUAL_ENV", "/app/.venv"),
        ("PYTHONUNBUFFERED", "1"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
    ];
    let mut says = vec!["Python app: requirements.txt".to_owned()];
    let mut processes = std::collections::BTreeMap::new();
    if wants("flask")
        && let Some(module) = ["app", "wsgi", "main"].into_iter().find(|m| tree.has(&format!("{m}.py")))
    {
        let command = if wants("gunicorn") {
            format!("exec gunicorn --bind \"0.0.0.0:$PORT\" {module}:app")
        } else {
            says.push(
                "No gunicorn in requirements.txt: Flask's own server is used, which is made for development".into(),
            );
            format!("exec flask --app {module} run --host 0.0.0.0 --port \"$PORT\"")
        };
        processes.insert(ProcessName::web(), command);
    }
    let env = env.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    Ok(Recipe { says, steps, processes, env })
}

/// Is this line of a requirements file about `package`? (PEP 508: a name ends where anything else
/// than a letter, a digit or `-_.` begins; case does not matter, nor which of `-_.` is written.)
fn names_package(line: &str, package: &str) -> bool {
    let name: String =
        line.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    name.to_ascii_lowercase().replace(['_', '.'], "-") == package
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(files: &[(&str, &str)]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let tree = Tree::open(dir.path()).unwrap();
        assert!(detect(&tree));
        recipe(&tree).unwrap().processes.remove(&ProcessName::web())
    }

    #[test]
    fn flask_gets_a_command_of_its_own() {
        let gunicorn = web(&[("requirements.txt", "Flask==3.1\ngunicorn\n"), ("app.py", "")]).unwrap();
        assert_eq!(gunicorn, "exec gunicorn --bind \"0.0.0.0:$PORT\" app:app");
        let plain = web(&[("requirements.txt", "flask>=3"), ("main.py", "")]).unwrap();
        assert!(plain.starts_with("exec flask --app main run"), "{plain}");
        assert_eq!(web(&[("requirements.txt", "flask-login\n# flask\n"), ("app.py", "")]), None);
        assert_eq!(web(&[("requirements.txt", "flask")]), None);
    }
}
