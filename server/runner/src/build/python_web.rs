//! How Python's frameworks are started: Django, FastAPI, Flask.

use super::python::Declared;
use super::{Recipe, Source, Step, Tree};
use domain::{ProcessName, Reason};

const COLLECT_STATIC: &str = include_str!("collect_static.py");
/// Where FastAPI's own command looks for an app.
const FASTAPI_IN: [&str; 6] = ["main", "app", "api", "app/main", "app/app", "app/api"];

/// The `web` process of a framework that is known and declared, and what its build needs.
pub(super) fn add(source: &Source<'_>, declared: &Declared, recipe: &mut Recipe) -> Result<(), Reason> {
    let web = if source.tree.has("manage.py") && declared.has("django") {
        django(source, declared, recipe)?
    } else if source.has_web() {
        None
    } else if declared.has("fastapi") {
        fastapi(source.tree, declared)?
    } else if declared.has("flask") {
        flask(source.tree, declared, recipe)
    } else {
        None
    };
    recipe.processes.extend(web.map(|line| (ProcessName::web(), line)));
    Ok(())
}

fn django(source: &Source<'_>, declared: &Declared, recipe: &mut Recipe) -> Result<Option<String>, Reason> {
    let tree = source.tree;
    let text = tree.read("manage.py")?.unwrap_or_default();
    let Some(settings) = settings_module(&text) else {
        recipe.says.push("manage.py names no DJANGO_SETTINGS_MODULE: static files are not collected".to_owned());
        return if source.has_web() { Ok(None) } else { Err(no_django_app()) };
    };
    recipe.steps.push(Step::new(
        "Collecting static files",
        &["/app/.venv/bin/python", "-c", COLLECT_STATIC, &settings],
        Reason::new("Django's static files could not be collected").hint(
            "The lines above say why; a build does not see config vars, so let the settings do without them, like `os.environ.get(\"SECRET_KEY\", \"only-for-the-build\")`",
        ),
    ));
    if source.has_web() {
        return Ok(None);
    }
    let serves = |kind: &str| {
        let packages = settings.match_indices('.').map(|(at, _)| &settings[..at]).rev();
        let mut modules = packages.map(|package| format!("{package}.{kind}"));
        modules.find(|module| tree.has(&format!("{}.py", module.replace('.', "/"))))
    };
    if declared.has("gunicorn")
        && let Some(module) = serves("wsgi")
    {
        return Ok(Some(format!("exec gunicorn --bind \"0.0.0.0:$PORT\" {module}")));
    }
    if declared.has("uvicorn")
        && let Some(module) = serves("asgi")
    {
        return Ok(Some(format!("exec uvicorn --host 0.0.0.0 --port \"$PORT\" {module}:application")));
    }
    if serves("wsgi").is_none() {
        return Err(no_django_app());
    }
    Err(Reason::new("this is a Django app, but it declares no server that could run it")
        .hint(declared.how_to_add("gunicorn")))
}

fn no_django_app() -> Reason {
    Reason::new("this is a Django app, but its wsgi.py was not found beside the settings that manage.py names")
        .hint("Commit a Procfile with a line like `web: gunicorn mysite.wsgi --bind 0.0.0.0:$PORT`")
}

/// What `manage.py` sets: `os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")`.
fn settings_module(manage: &str) -> Option<String> {
    manage.lines().filter(|line| !line.trim_start().starts_with('#')).find_map(|line| {
        let (_, rest) = line.split_once("DJANGO_SETTINGS_MODULE")?;
        // Past the quote that ends the name, to the one that begins the value.
        let (_, rest) = rest.trim_start_matches(['"', '\'']).split_once(['"', '\''])?;
        let (module, _) = rest.split_once(['"', '\''])?;
        let is_name = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        module.split('.').all(is_name).then(|| module.to_owned())
    })
}

fn fastapi(tree: &Tree, declared: &Declared) -> Result<Option<String>, Reason> {
    let Some(path) = FASTAPI_IN.into_iter().find(|path| tree.has(&format!("{path}.py"))) else { return Ok(None) };
    let text = tree.read(&format!("{path}.py"))?.unwrap_or_default();
    let module = path.replace('/', ".");
    let name = app_name(&text).unwrap_or("app");
    if !declared.has("uvicorn") && !declared.has_extra("fastapi", "standard") {
        return Err(Reason::new("this is a FastAPI app, but it declares no server that could run it")
            .hint(declared.how_to_add("uvicorn")));
    }
    Ok(Some(format!("exec uvicorn --host 0.0.0.0 --port \"$PORT\" {module}:{name}")))
}

/// `NAME = FastAPI(` at the start of a line, perhaps with its type.
fn app_name(text: &str) -> Option<&str> {
    text.lines().find_map(|line| {
        let (left, right) = line.split_once('=')?;
        let name = left.split(':').next().unwrap_or_default().trim_end();
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let called = right.trim_start();
        (is_name && (called.starts_with("FastAPI(") || called.starts_with("fastapi.FastAPI("))).then_some(name)
    })
}

fn flask(tree: &Tree, declared: &Declared, recipe: &mut Recipe) -> Option<String> {
    let module = ["app", "wsgi", "main"].into_iter().find(|module| tree.has(&format!("{module}.py")))?;
    if declared.has("gunicorn") {
        return Some(format!("exec gunicorn --bind \"0.0.0.0:$PORT\" {module}:app"));
    }
    recipe.says.push(format!(
        "No gunicorn: Flask's own server is used, which is made for development. {}",
        declared.how_to_add("gunicorn")
    ));
    Some(format!("exec flask --app {module} run --host 0.0.0.0 --port \"$PORT\""))
}

#[cfg(test)]
mod tests {
    use super::super::recipe::recipe_of;
    use super::*;

    const MANAGE: (&str, &str) =
        ("manage.py", "#!/usr/bin/env python\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings.live')\n");
    const WSGI: (&str, &str) = ("shop/wsgi.py", "");

    fn made(requirements: &str, files: &[(&str, &str)]) -> Result<Recipe, Reason> {
        let files = [&[("requirements.txt", requirements)], files].concat();
        recipe_of(&files, &[("/usr/bin/python3.11", "3.11.2")]).map(|(_, recipe)| recipe)
    }

    fn web(requirements: &str, files: &[(&str, &str)]) -> String {
        let mut recipe = made(requirements, files).unwrap_or_else(|reason| panic!("{reason}"));
        recipe.processes.remove(&ProcessName::web()).unwrap()
    }

    fn refused(requirements: &str, files: &[(&str, &str)], message: &str, hint: &str) {
        let reason = made(requirements, files).unwrap_err();
        assert!(reason.message.contains(message), "{reason}");
        assert!(reason.hint.as_deref().unwrap_or_default().contains(hint), "{reason}");
    }

    #[test]
    fn flask_gets_a_command_of_its_own() {
        let gunicorn = web("Flask==3.1\ngunicorn\n", &[("app.py", "")]);
        assert_eq!(gunicorn, "exec gunicorn --bind \"0.0.0.0:$PORT\" app:app");
        let plain = made("flask>=3", &[("main.py", "")]).unwrap();
        assert!(plain.processes[&ProcessName::web()].starts_with("exec flask --app main run"));
        assert!(plain.says.iter().any(|line| line.contains("Add the line `gunicorn`")), "{:?}", plain.says);
        refused("flask-login\n# flask\n", &[("app.py", "")], "how to start", "Procfile");
        refused("flask", &[], "how to start", "Procfile");
    }

    #[test]
    fn django_is_served_by_the_server_that_it_declares() {
        assert_eq!(web("django\ngunicorn", &[MANAGE, WSGI]), "exec gunicorn --bind \"0.0.0.0:$PORT\" shop.wsgi");
        let asgi = web("Django==5.1\nuvicorn", &[MANAGE, WSGI, ("shop/asgi.py", "")]);
        assert_eq!(asgi, "exec uvicorn --host 0.0.0.0 --port \"$PORT\" shop.asgi:application");
        refused("django", &[MANAGE, WSGI], "declares no server", "Add the line `gunicorn` to requirements.txt");
        refused("django\ngunicorn", &[MANAGE], "wsgi.py was not found", "Procfile");
        refused("django\ngunicorn", &[("manage.py", "print()"), WSGI], "wsgi.py was not found", "Procfile");
        let own = made("django", &[MANAGE, ("Procfile", "web: daphne shop.asgi")]).unwrap();
        assert_eq!(own.steps.last().unwrap().says, "Collecting static files");
        assert_eq!(own.steps.last().unwrap().argv.last().unwrap(), "shop.settings.live");
    }

    #[test]
    fn fastapi_is_served_by_uvicorn_where_it_is_declared() {
        let app = ("main.py", "from fastapi import FastAPI\n\napi: FastAPI = FastAPI(title='x')\n");
        assert_eq!(web("fastapi\nuvicorn", &[app]), "exec uvicorn --host 0.0.0.0 --port \"$PORT\" main:api");
        let nested = web("fastapi[standard]", &[("app/main.py", "from x import app")]);
        assert!(nested.ends_with(" app.main:app"), "{nested}");
        refused("fastapi", &[app], "declares no server", "Add the line `uvicorn`");
        let project = "[project]\nname='x'\ndependencies=['fastapi']\n";
        let files = [app, ("pyproject.toml", project), ("uv.lock", "")];
        let reason = recipe_of(&files, &[("/usr/bin/python3.11", "3.11.2")]).unwrap_err();
        assert!(reason.hint.as_deref().unwrap_or_default().contains("uv add uvicorn"), "{reason}");
        refused("fastapi\nuvicorn", &[], "how to start", "Procfile");
    }

    #[test]
    fn the_settings_are_read_from_manage_py() {
        let settings = |text| settings_module(text);
        assert_eq!(settings(MANAGE.1).as_deref(), Some("shop.settings.live"));
        assert_eq!(settings("os.environ[\"DJANGO_SETTINGS_MODULE\"] = \"a.b\"").as_deref(), Some("a.b"));
        for none in ["", "DJANGO_SETTINGS_MODULE", "DJANGO_SETTINGS_MODULEé", "('DJANGO_SETTINGS_MODULE', '$(x)')"] {
            assert_eq!(settings(none), None, "{none}");
        }
    }
}
