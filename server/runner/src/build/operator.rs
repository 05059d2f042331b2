//! The operator's package settings as builds see them: variables, and copies of the files that they
//! name. Every customer's build reads these, so nothing is taken that is the operator's own alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::{Uid, User};

use crate::bundle::Bind;
use crate::sandbox::make_dir;

/// npm's settings for the whole server, the last the strongest. Where they are depends on who
/// packaged it.
const NPMRCS: [&str; 3] = ["/usr/etc/npmrc", "/usr/local/etc/npmrc", "/etc/npmrc"];
/// Of the operator's own `~/.npmrc`, which may hold keys, only these.
const NPM_KEYS: [&str; 2] = ["cafile", "registry"];
/// Variables that name a file of certificates.
const CERTIFICATES: [&str; 5] =
    ["NODE_EXTRA_CA_CERTS", "NPM_CONFIG_CAFILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"];
/// npm's settings that are the build's own.
const NPM_OWN: [&str; 3] = ["NPM_CONFIG_CACHE", "NPM_CONFIG_PREFIX", "NPM_CONFIG_USERCONFIG"];
/// Every sandbox has these.
const SEEN: [&str; 2] = ["/usr", "/etc/ssl/certs"];

#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub env: BTreeMap<String, String>,
    pub binds: Vec<Bind>,
}

impl Settings {
    /// Copies the files of now into `dir`.
    pub fn copy(env: &BTreeMap<String, String>, dir: &Path) -> io::Result<Self> {
        let home = User::from_uid(Uid::effective()).ok().flatten().map(|user| user.dir.join(".npmrc"));
        let own = home.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let mut npmrcs: Vec<_> = NPMRCS.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
        npmrcs.push(own.lines().filter(|line| is_for_all(line)).map(|line| format!("{line}\n")).collect());
        Self::of(env, &npmrcs.join("\n"), dir)
    }

    fn of(env: &BTreeMap<String, String>, npmrc: &str, dir: &Path) -> io::Result<Self> {
        make_dir(dir, 0o700)?;
        let mut settings = Self::default();
        for (name, value) in env {
            let upper = name.to_ascii_uppercase();
            if upper == "NPM_CONFIG_GLOBALCONFIG" || NPM_OWN.contains(&&*upper) {
                continue;
            }
            // npm reads its variables in either case: one of each.
            let name = if upper.starts_with("NPM_CONFIG_") { upper } else { name.clone() };
            let value = if CERTIFICATES.contains(&&*name) { settings.seen(dir, value)? } else { Some(value.clone()) };
            settings.env.extend(value.map(|value| (name, value)));
        }
        let mut lines = String::new();
        for line in npmrc.lines().filter(|line| !line.trim().is_empty()) {
            match line.split_once('=').filter(|(key, _)| key.trim() == "cafile") {
                Some((_, path)) => {
                    let path = settings.seen(dir, path.trim().trim_matches(['"', '\'']))?;
                    lines.extend(path.map(|path| format!("cafile={path}\n")));
                }
                None => lines.extend([line, "\n"]),
            }
        }
        if !lines.is_empty() {
            let path = settings.bind(dir, "npmrc", lines.as_bytes())?;
            settings.env.insert("NPM_CONFIG_GLOBALCONFIG".to_owned(), path);
        }
        Ok(settings)
    }

    /// Where a build finds the file `path` of the server; `None`: there is no such file.
    fn seen(&mut self, dir: &Path, path: &str) -> io::Result<Option<String>> {
        if SEEN.iter().any(|seen| Path::new(path).starts_with(seen)) {
            return Ok(Some(path.to_owned()));
        }
        match fs::read(path) {
            Ok(content) => {
                let name = format!("certificates-{}.pem", self.binds.len());
                self.bind(dir, &name, &content).map(Some)
            }
            Err(e) => {
                tracing::warn!("builds do without the certificates in {path}: {e}");
                Ok(None)
            }
        }
    }

    fn bind(&mut self, dir: &Path, name: &str, content: &[u8]) -> io::Result<String> {
        let copy = dir.join(name);
        fs::write(&copy, content)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o644))?;
        let target = format!("/run/berth-{name}");
        self.binds.push(Bind::read_only(copy, &target));
        Ok(target)
    }
}

fn is_for_all(line: &str) -> bool {
    line.split_once('=').is_some_and(|(key, value)| NPM_KEYS.contains(&key.trim()) && !value.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_a_build_cannot_see_are_copied_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own.pem");
        fs::write(&own, "certificate").unwrap();
        let own = own.to_str().unwrap();
        let env = BTreeMap::from(
            [
                ("npm_config_cafile", own),
                ("npm_config_cache", "/home/me/.npm"),
                ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"),
                ("PIP_CERT", "/nowhere/x.pem"),
                ("UV_INDEX_URL", "https://example.com/"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        let npmrc = format!("audit=false\ncafile = \"{own}\"\n");
        let settings = Settings::of(&env, &npmrc, &dir.path().join("settings")).unwrap();
        let got: Vec<_> = settings.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            got,
            [
                "NPM_CONFIG_CAFILE=/run/berth-certificates-0.pem",
                "NPM_CONFIG_GLOBALCONFIG=/run/berth-npmrc",
                "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
                "UV_INDEX_URL=https://example.com/",
            ]
        );
        let copied: Vec<_> = settings.binds.iter().map(|bind| fs::read_to_string(&bind.source).unwrap()).collect();
        assert_eq!(copied, ["certificate", "certificate", "audit=false\ncafile=/run/berth-certificates-1.pem\n"]);
    }

    #[test]
    fn keys_of_the_operators_own_stay_with_the_operator() {
        assert!(is_for_all("cafile=/x.pem") && is_for_all(" registry = https://example.com/"));
        for not in ["//example.com/:_authToken=secret", "_auth=secret", "registry=https://me:secret@example.com/"] {
            assert!(!is_for_all(not), "{not}");
        }
    }
}
