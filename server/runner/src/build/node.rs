//! Node.js with `package.json` and npm's lock file; also sites of static files that a build
//! script makes.

use std::collections::BTreeMap;

use super::version::Range;
use super::{Buildpack, Recipe, Source, Step, Tree};
use domain::{ProcessName, Reason};
use serde::Deserialize;
use serde_json::Value;

pub(super) const BUILDPACK: Buildpack = Buildpack {
    name: "node",
    looks_for: "package.json (Node.js)",
    detect,
    runs_on: |program| program == "node",
    tool: "npm",
    recipe,
};

/// Where build scripts leave a site.
const SITE_IN: &[&str] = &["dist", "build", "public"];

/// Lock files of others, and whose they are.
const OTHER_LOCKS: [(&str, &str); 5] = [
    ("yarn.lock", "Yarn"),
    ("pnpm-lock.yaml", "pnpm"),
    ("bun.lock", "Bun"),
    ("bun.lockb", "Bun"),
    ("deno.lock", "Deno"),
];

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Package {
    scripts: BTreeMap<String, Value>,
    engines: Value,
    dependencies: BTreeMap<String, Value>,
    dev_dependencies: BTreeMap<String, Value>,
    optional_dependencies: BTreeMap<String, Value>,
    peer_dependencies: BTreeMap<String, Value>,
    workspaces: Value,
}

impl Package {
    fn script(&self, name: &str) -> Option<&str> {
        self.scripts.get(name).and_then(Value::as_str).map(str::trim).filter(|line| !line.is_empty())
    }

    fn installs(&self) -> bool {
        let all = [&self.dependencies, &self.dev_dependencies, &self.optional_dependencies, &self.peer_dependencies];
        all.iter().any(|some| !some.is_empty()) || !self.workspaces.is_null()
    }
}

/// A site of plain files may have a `package.json` for its author's tools: it needs neither.
fn detect(tree: &Tree) -> bool {
    let Ok(Some(text)) = tree.read("package.json") else { return tree.has("package.json") };
    let Ok(package) = serde_json::from_str::<Package>(&text) else { return true };
    let has = |name| package.script(name).is_some();
    has("start") || has("build") || tree.has("server.js") || tree.has("Procfile") || !tree.has("index.html")
}

fn recipe(source: &Source<'_>) -> Result<Recipe, Reason> {
    let text = source.tree.read("package.json")?.unwrap_or_default();
    let package: Package = serde_json::from_str(&text).map_err(|e| {
        Reason::new(format!("package.json could not be read: {e}")).hint("Mend it, try `npm install`, and push again")
    })?;
    let version = node_version(source, &package)?;
    let has_lock = find_lock(source.tree, &package)?;
    let mut recipe = Recipe { says: vec![format!("Node.js {version}: package.json")], ..Recipe::default() };
    if has_lock {
        // The build may need them all.
        let install = ["npm", "ci", "--include=dev", "--prefer-offline", "--no-audit", "--no-fund"];
        recipe.steps.push(Step::new("Installing package-lock.json", &install, not_installed()));
    }
    if package.script("build").is_some() {
        let build = ["env", "NODE_ENV=production", "npm", "run", "build"];
        let failed = Reason::new("the build script of package.json failed")
            .hint("The lines above say why; `npm ci && npm run build` should work in a fresh clone");
        recipe.steps.push(Step::new("Running the build script", &build, failed));
    }
    let start = match package.script("start") {
        Some(line) => Some(start_line(&package, line)),
        None => source.tree.has("server.js").then(|| "exec node server.js".to_owned()),
    };
    if let Some(line) = start {
        recipe.processes.insert(ProcessName::web(), line);
    } else if !source.has_web() {
        if package.script("build").is_none() {
            return Err(Reason::new("package.json does not say how to start this app")
                .hint("Add a `start` script, like \"start\": \"node index.js\", listening on 0.0.0.0:$PORT, or a `build` script that makes a site in dist/, build/ or public/"));
        }
        recipe.says.push("No start script: the site that the build script makes is served".to_owned());
        recipe.site_in = SITE_IN;
    }
    let clear = || Reason::new("what only the build needs could not be removed").hint("Push again");
    let is_only_site = !recipe.site_in.is_empty() && source.procfile.is_empty();
    if is_only_site {
        recipe.steps.push(Step::new("", &["rm", "-rf", "/app/node_modules"], clear()));
    } else if has_lock {
        if !package.dev_dependencies.is_empty() {
            let prune = ["npm", "prune", "--omit=dev", "--no-audit", "--no-fund"];
            recipe.steps.push(Step::new("Removing what only development needs", &prune, clear()));
        }
        let leftovers = ["rm", "-rf", "/app/node_modules/.cache", "/app/node_modules/.package-lock.json"];
        recipe.steps.push(Step::new("", &leftovers, clear()));
    }
    let env = [("PATH", "/app/node_modules/.bin:/usr/local/bin:/usr/bin:/bin"), ("NODE_ENV", "production")];
    recipe.env = env.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    Ok(recipe)
}

/// The script's own line: npm between the app and its signals costs 60 MB and says nothing.
/// But where scripts stand before or after it, npm alone knows the order.
fn start_line(package: &Package, line: &str) -> String {
    if package.script("prestart").is_some() || package.script("poststart").is_some() {
        return "exec npm start --silent".to_owned();
    }
    line.to_owned()
}

fn node_version(source: &Source<'_>, package: &Package) -> Result<String, Reason> {
    if source.stack.is_empty() || !source.stack.has_tool {
        return Err(Reason::new("this server lacks Node.js or npm, which an app with a package.json needs")
            .hint("Ask the operator to install it (Debian: nodejs and npm)"));
    }
    let wanted = match &package.engines {
        Value::Object(engines) => engines.get("node").and_then(Value::as_str),
        _ => None,
    };
    let range = wanted.map(|text| {
        Range::of_npm(text).ok_or_else(|| {
            Reason::new(format!("package.json: engines.node is '{}', which is no range of versions", shown(text)))
                .hint(format!("Write one that holds {}, like \">=18\"", source.stack.listed()))
        })
    });
    let range = range.transpose()?;
    let ranges: Vec<_> = range.iter().collect();
    let Some((_, version)) = source.stack.newest(&ranges) else {
        return Err(Reason::new(format!(
            "package.json wants Node.js {}; this server has {}",
            shown(wanted.unwrap_or_default()),
            source.stack.listed()
        ))
        .hint("Widen engines.node in package.json, or ask the operator for another version"));
    };
    Ok(version.to_string())
}

/// Is there a lock of npm's to install by? None is needed where nothing is to be installed.
fn find_lock(tree: &Tree, package: &Package) -> Result<bool, Reason> {
    if tree.has("package-lock.json") || tree.has("npm-shrinkwrap.json") {
        return Ok(true);
    }
    if let Some((name, whose)) = OTHER_LOCKS.into_iter().find(|(name, _)| tree.has(name)) {
        return Err(Reason::new(format!("{name} is {whose}'s lock file; Berth installs with npm only"))
            .hint("Run `npm install` and commit package-lock.json beside it"));
    }
    if package.installs() {
        return Err(Reason::new("package.json has dependencies, but there is no package-lock.json that pins them")
            .hint("Run `npm install` and commit package-lock.json"));
    }
    Ok(false)
}

fn not_installed() -> Reason {
    Reason::new("the npm packages could not be installed").hint(
        "The lines above say why; where package.json and package-lock.json differ, run `npm install` and commit both",
    )
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::super::recipe::recipe_of;
    use super::*;

    const NODE: &[(&str, &str)] = &[("/usr/bin/node", "v20.20.2")];

    fn made(files: &[(&str, &str)]) -> Recipe {
        let (pack, recipe) = recipe_of(files, NODE).unwrap_or_else(|reason| panic!("{reason}"));
        assert_eq!(pack, "node");
        recipe
    }

    fn steps(recipe: &Recipe) -> Vec<String> {
        recipe.steps.iter().map(|step| step.argv.join(" ")).collect()
    }

    #[test]
    fn the_start_script_is_web() {
        let package = r#"{"scripts": {"start": "node index.js"}, "dependencies": {"ws": "^8"}}"#;
        let recipe = made(&[("package.json", package), ("package-lock.json", "{}")]);
        assert_eq!(recipe.processes[&ProcessName::web()], "node index.js");
        assert_eq!(recipe.env["NODE_ENV"], "production");
        assert!(steps(&recipe)[0].starts_with("npm ci "));
        let package = r#"{"scripts": {"start": "node index.js", "prestart": "node migrate.js"}}"#;
        assert_eq!(made(&[("package.json", package)]).processes[&ProcessName::web()], "exec npm start --silent");
        let recipe = made(&[("package.json", "{}"), ("server.js", "")]);
        assert_eq!(recipe.processes[&ProcessName::web()], "exec node server.js");
        assert_eq!(recipe.steps, [], "nothing to install");
    }

    #[test]
    fn a_build_script_runs_and_what_only_it_needs_goes() {
        let package = r#"{"scripts": {"start": "node .", "build": "tsc"}, "devDependencies": {"typescript": "5"}}"#;
        let recipe = made(&[("package.json", package), ("package-lock.json", "{}")]);
        let steps = steps(&recipe);
        assert!(steps[1].ends_with("npm run build") && steps[2].starts_with("npm prune --omit=dev"), "{steps:?}");
        assert!(recipe.site_in.is_empty());
    }

    #[test]
    fn without_a_start_script_the_built_site_is_served() {
        let package = r#"{"scripts": {"build": "vite build"}, "devDependencies": {"vite": "6"}}"#;
        let files = [("package.json", package), ("package-lock.json", "{}"), ("index.html", "")];
        let recipe = made(&files);
        assert_eq!(recipe.site_in, SITE_IN);
        assert_eq!(steps(&recipe).last().unwrap(), "rm -rf /app/node_modules");
        let with_web = made(&[files[0], files[1], ("Procfile", "web: node serve.js")]);
        assert!(with_web.site_in.is_empty() && steps(&with_web).last().unwrap().contains(".cache"));
        let package = r#"{"devDependencies": {"prettier": "3"}}"#;
        let (pack, _) = recipe_of(&[("package.json", package), ("index.html", "")], NODE).unwrap();
        assert_eq!(pack, "static", "its author's tools are no app");
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_the_way_out() {
        let check = |files: &[(&str, &str)], stack, message: &str, hint: &str| {
            let reason = recipe_of(files, stack).unwrap_err();
            assert!(reason.message.contains(message), "{reason}");
            assert!(reason.hint.as_deref().unwrap_or_default().contains(hint), "{reason}");
        };
        let package = r#"{"scripts": {"start": "node ."}, "dependencies": {"ws": "8"}}"#;
        check(&[("package.json", package)], NODE, "no package-lock.json", "npm install");
        check(&[("package.json", package), ("yarn.lock", "")], NODE, "Yarn's lock", "npm install");
        check(&[("package.json", package), ("pnpm-lock.yaml", "")], NODE, "pnpm's lock", "npm install");
        check(&[("package.json", package)], &[], "lacks Node.js", "operator");
        check(&[("package.json", "{\"a\" 1}")], NODE, "line 1 column", "Mend it");
        check(&[("package.json", "{}")], NODE, "how to start", "`start` script");
        let old = r#"{"scripts": {"start": "node ."}, "engines": {"node": "^16 || 18.x"}}"#;
        check(&[("package.json", old)], NODE, "wants Node.js ^16 || 18.x; this server has 20.20.2", "engines.node");
        let odd = r#"{"scripts": {"start": "node ."}, "engines": {"node": "lts/iron"}}"#;
        check(&[("package.json", odd)], NODE, "no range", ">=18");
    }
}
