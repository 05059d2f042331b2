//! Programs that Berth starts, looked for where it starts them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Check;
use crate::child::PATH;
use crate::engines;
use crate::outside::Found;

const PATIENCE: Duration = Duration::from_secs(10);
/// Kept packs of a fetch, `proc-receive` and `GIT_PROTOCOL` behave as it was tried.
const GIT_LEAST: (u32, u32) = (2, 36);

pub fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(PATH).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// What it prints about itself, if it runs.
fn says(program: &Path, words: &[&str], input: Option<&str>) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(words).env("LC_ALL", "C.UTF-8").env("PATH", PATH);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|cause| cause.to_string())?;
    if let (Some(mut to), Some(input)) = (child.stdin.take(), input) {
        let _ = std::io::Write::write_all(&mut to, input.as_bytes());
    }
    let until = Instant::now() + PATIENCE;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > until {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it did not answer within {PATIENCE:?}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().map_err(|cause| cause.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{} {}", output.status, text(&output.stderr)).trim().to_owned()),
    }
}

fn version(program: &Path) -> Result<String, String> {
    says(program, &["--version"], None).map(|said| said.lines().next().unwrap_or_default().to_owned())
}

/// The first two numbers in a text.
fn numbers(text: &str) -> Option<(u32, u32)> {
    let text = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next().and_then(|n| n.parse().ok()).unwrap_or(0)))
}

pub fn runtime() -> Check {
    let name = "OCI runtime";
    // The one that the runner takes.
    let Some(program) = runner::runtimes().next() else {
        return Check::fail(name, "neither crun nor runc is installed", "`apt-get install crun`");
    };
    match version(&program) {
        Ok(said) => Check::ok(name, format!("{} ({said})", program.display())),
        Err(cause) => {
            let found = format!("{} does not run: {cause}", program.display());
            Check::fail(name, found, "`apt-get install --reinstall crun`")
        }
    }
}

pub fn nftables() -> Check {
    let name = "nftables";
    let Some(program) = find("nft") else {
        return Check::fail(name, "nft is not installed", "`apt-get install nftables`");
    };
    match says(&program, &["--check", "--file", "-"], Some("add table inet berth_doctor\n")) {
        Ok(_) => Check::ok(name, version(&program).unwrap_or_default()),
        Err(cause) => Check::fail(name, format!("the kernel takes no table: {cause}"), "`modprobe nf_tables`"),
    }
}

pub fn packers() -> Check {
    let name = "image programs";
    let wanted = [("mksquashfs", "squashfs-tools"), ("mkfs.ext4", "e2fsprogs"), ("tar", "tar")];
    let missing: Vec<_> = wanted.into_iter().filter(|(program, _)| find(program).is_none()).collect();
    if missing.is_empty() {
        return Check::ok(name, wanted.map(|(program, _)| program).join(", "));
    }
    let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    let fix = format!("`apt-get install {}`", packages.join(" "));
    Check::fail(name, format!("not installed: {}", programs.join(", ")), fix)
}

pub fn git() -> Check {
    let name = "git";
    let fix = "`apt-get install git`";
    let Some(program) = find("git") else { return Check::fail(name, "not installed", fix) };
    match version(&program) {
        Ok(said) if numbers(&said).is_some_and(|found| found >= GIT_LEAST) => Check::ok(name, said),
        Ok(said) => Check::fail(name, format!("{said} is older than {}.{}", GIT_LEAST.0, GIT_LEAST.1), fix),
        Err(cause) => Check::fail(name, cause, fix),
    }
}

pub fn hg() -> Check {
    let name = "hg";
    let fix = "`apt-get install mercurial` if anybody will push with it";
    let Some(program) = find("hg") else { return Check::warn(name, "not installed", fix) };
    version(&program).map_or_else(|cause| Check::warn(name, cause, fix), |said| Check::ok(name, said))
}

pub fn postgres(data: &Path) -> Check {
    let name = "PostgreSQL";
    let fix = "`apt-get install postgresql`";
    match engines::programs(&data.join("postgres")) {
        Ok(folder) => match version(&folder.join("postgres")) {
            Ok(said) => Check::ok(name, format!("its own: {said}")),
            Err(cause) => Check::fail(name, cause, fix),
        },
        Err(cause) => Check::fail(name, cause.to_string(), fix),
    }
}

/// An engine that is not Berth's own, as a child found it.
pub fn given(
    name: &'static str,
    variable: &str,
    found: &std::io::Result<Found>,
    which: impl Fn(&Found) -> Option<&Result<String, String>>,
) -> Check {
    let fix = format!("put it right, or unset {variable}: then Berth brings its own");
    match found.as_ref().map(which) {
        Ok(Some(Ok(said))) => Check::ok(name, said.clone()),
        Ok(Some(Err(why))) => Check::fail(name, format!("{variable}: {why}"), fix),
        Ok(None) => Check::fail(name, format!("{variable}: it was not looked at"), fix),
        Err(cause) => Check::fail(name, format!("{variable}: it could not be looked at: {cause}"), fix),
    }
}

pub fn redis() -> Check {
    let name = "Redis";
    let fix = "`apt-get install redis-server`";
    let Some(program) = find("redis-server") else { return Check::fail(name, "not installed", fix) };
    version(&program).map_or_else(
        |cause| Check::fail(name, cause, fix),
        |said| {
            // `Redis server v=7.0.15 sha=…`
            let short: Vec<&str> = said.split_whitespace().take(3).collect();
            Check::ok(name, format!("its own: {}", short.join(" ")))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_a_program_says() {
        for (said, found) in [("git version 2.39.5", (2, 39)), ("crun version 1.8.1", (1, 8)), ("v7", (7, 0))] {
            assert_eq!(numbers(said), Some(found), "{said}");
        }
        assert_eq!(numbers("none"), None);
    }
}
