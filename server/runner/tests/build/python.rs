//! Python, its frameworks and its package files.

use crate::bench::{Bench, sample, tar};

#[tokio::test]
async fn a_flask_app_is_built_with_its_packages() {
    let mut bench = Bench::new().await;
    let app = "from flask import Flask\napp = Flask(__name__)\n";
    let built =
        bench.build_twice(tar(&[("requirements.txt", "flask==3.1.0\ngunicorn==23.0.0\n"), ("app.py", app)])).await;
    assert_eq!(built.web(), "exec gunicorn --bind \"0.0.0.0:$PORT\" app:app");
    assert!(built.said.contains("-----> Installing requirements.txt"), "{}", built.said);
    assert!(built.said.contains("-----> Python 3."), "{}", built.said);
}

#[tokio::test]
async fn a_django_app_gets_its_static_files_and_a_server() {
    let mut bench = Bench::new().await;
    let built = bench.build_twice(sample("django")).await;
    assert_eq!(built.web(), "exec gunicorn --bind \"0.0.0.0:$PORT\" units.wsgi");
    assert!(built.said.contains("static file copied"), "{}", built.said);
    assert!(built.has("/staticfiles/units/style.css"));

    let manage = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n";
    let shop = |requirements: &str, settings: &str| {
        tar(&[
            ("requirements.txt", requirements),
            ("manage.py", manage),
            ("shop/settings.py", settings),
            ("shop/wsgi.py", ""),
        ])
    };
    let packages = "django==5.2.11\ngunicorn==23.0.0\n";
    let settings = "import os\nSECRET_KEY = os.environ['SECRET_KEY']\n";
    let said = bench.refused(shop(packages, settings), "static files could not be collected", "config vars").await;
    assert!(said.contains("KeyError: 'SECRET_KEY'"), "{said}");
    bench.refused(shop("django==5.2.11\n", settings), "declares no server", "Add the line `gunicorn`").await;
    let result = bench.build(shop(packages, "INSTALLED_APPS = ['django.contrib.staticfiles']\n")).await;
    assert!(result.is_ok() && bench.said().contains("nothing to collect"), "{}", bench.said());
}

#[tokio::test]
async fn a_fastapi_app_is_built_from_its_lock() {
    let mut bench = Bench::new().await;
    let built = bench.build_twice(sample("fastapi")).await;
    assert_eq!(built.web(), "exec uvicorn --host 0.0.0.0 --port \"$PORT\" main:app");
    assert!(built.said.contains("-----> Installing uv.lock"), "{}", built.said);
    assert!(built.has("/.venv/bin/uvicorn"));

    let main = ("main.py", "from fastapi import FastAPI\napp = FastAPI()\n");
    let project = "[project]\nname = 'x'\nversion = '1'\nrequires-python = '>=3.9'\n";
    let needs = format!("{project}dependencies = ['fastapi==0.115.12', 'uvicorn==0.34.0']\n");
    let lock = "version = 1\nrevision = 3\nrequires-python = '>=3.9'\n\n[[package]]\nname = 'x'\nversion = '1'\nsource = { virtual = '.' }\n";
    let stale = tar(&[main, ("pyproject.toml", &needs), ("uv.lock", lock)]);
    let said = bench.refused(stale, "packages could not be installed", "run `uv lock`").await;
    assert!(said.contains("needs to be updated"), "{said}");
    let no_server = format!("{project}dependencies = ['fastapi==0.115.12']\n");
    bench
        .refused(tar(&[main, ("pyproject.toml", &no_server)]), "declares no server", "\"uvicorn\" to `dependencies`")
        .await;
}

#[tokio::test]
async fn an_app_that_is_a_package_of_its_own_is_installed_where_it_stands() {
    let mut bench = Bench::new().await;
    let project = "[project]\nname = 'shop'\nversion = '1'\ndependencies = ['six==1.17.0']\n[project.scripts]\nshop = 'shop:main'\n\
                   [build-system]\nrequires = ['setuptools==75.8.0']\nbuild-backend = 'setuptools.build_meta'\n";
    let source = tar(&[
        ("pyproject.toml", project),
        ("src/shop/__init__.py", "def main(): print('open')\n"),
        ("Procfile", "web: shop\n"),
    ]);
    let built = bench.build_twice(source).await;
    assert!(built.has("/.venv/bin/shop") && built.holds_below("/site-packages/six"));
}

#[tokio::test]
async fn a_python_that_the_server_lacks_is_refused_with_what_it_has() {
    let mut bench = Bench::new().await;
    let app = [("requirements.txt", "six==1.17.0\n"), ("Procfile", "web: python -m http.server $PORT")];
    let with = |file| tar(&[app[0], app[1], file]);
    bench
        .refused(
            with((".python-version", "3.6\n")),
            "wants Python 3.6 (.python-version); this server has 3.",
            "operator",
        )
        .await;
    bench.refused(with(("runtime.txt", "python-2.7.18\n")), "wants Python python-2.7.18", "operator").await;
    let none = bench
        .refused(
            tar(&[("requirements.txt", "no-such-package-of-berth==9\n"), app[1]]),
            "packages could not be installed",
            "mend requirements.txt",
        )
        .await;
    assert!(none.contains("no-such-package-of-berth"), "{none}");
}
