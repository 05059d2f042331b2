//! Node.js, and sites that a build script makes.

use crate::bench::{Bench, sample, tar};

#[tokio::test]
async fn a_node_app_is_built_with_what_it_needs_to_run_and_no_more() {
    let mut bench = Bench::new().await;
    let built = bench.build_twice(sample("node")).await;
    assert_eq!(built.web(), "node server.js");
    assert_eq!(built.manifest.buildpack, "node");
    assert_eq!(built.manifest.env["NODE_ENV"], "production");
    assert!(built.said.contains("public/question.html is rendered"), "{}", built.said);
    assert!(built.has("/public/question.html") && built.has("/node_modules/ws/index.js"));
    assert!(!built.holds_below("node_modules/marked"), "only its build needs it");
}

#[tokio::test]
async fn a_site_that_a_build_script_makes_is_served_as_files() {
    let mut bench = Bench::new().await;
    let built = bench.build_twice(sample("pages")).await;
    assert_eq!(built.web(), "exec /opt/berth/berth files --root /app/dist --port \"$PORT\"");
    assert!(built.has("/dist/index.html") && built.has("/dist/heron.html") && !built.has("/node_modules"));

    let package = r#"{"scripts": {"build": "node -e 'console.log(6 * 7)'"}}"#;
    let said = bench.refused(tar(&[("package.json", package)]), "no dist/index.html", "`start` script").await;
    assert!(said.contains("42"), "{said}");
}

#[tokio::test]
async fn a_node_app_that_cannot_be_built_is_refused_with_the_way_out() {
    let mut bench = Bench::new().await;
    let package =
        |rest: &str| format!(r#"{{"name": "x", "version": "1.0.0", "scripts": {{"start": "node ."}}, {rest}}}"#);
    let needs = package(r#""dependencies": {"ws": "8.18.0"}"#);
    bench.refused(tar(&[("package.json", &needs)]), "no package-lock.json", "Run `npm install` and commit").await;
    bench.refused(tar(&[("package.json", &needs), ("yarn.lock", "")]), "Yarn's lock file", "npm install").await;
    let lock = r#"{"name": "x", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "x", "version": "1.0.0"}}}"#;
    let stale = tar(&[("package.json", &needs), ("package-lock.json", lock)]);
    let said = bench.refused(stale, "packages could not be installed", "run `npm install` and commit both").await;
    assert!(said.contains("in sync"), "{said}");
    let old = package(r#""engines": {"node": "^0.10"}"#);
    bench.refused(tar(&[("package.json", &old)]), "wants Node.js ^0.10; this server has ", "engines.node").await;
    let failing = r#"{"scripts": {"start": "node .", "build": "node build.js"}}"#;
    let said =
        bench.refused(tar(&[("package.json", failing)]), "build script of package.json failed", "npm run build").await;
    assert!(said.contains("Cannot find module"), "{said}");
}
