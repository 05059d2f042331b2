//! The demo's user: signs in by a link, adds a key, pushes with the real git over the real OpenSSH.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Sample;
use super::berth::Berth;
use crate::http::Visitor;
use crate::work::{program, read, root, run};

pub const EMAIL: &str = "demo@localhost";

pub struct Person {
    link: String,
    /// Keys, known hosts and repositories.
    home: PathBuf,
    ssh_port: u16,
}

impl Person {
    pub fn new(berth: &Berth) -> Result<Self> {
        let home = berth.home().join("person");
        fs::create_dir(&home)?;
        let link = berth.make_user(EMAIL, "Demo")?;
        Ok(Self { link, home, ssh_port: berth.ssh.port() })
    }

    pub fn sign_in(&self, site: &mut Visitor) -> Result<()> {
        let path = self.link.splitn(4, '/').nth(3).context("the link has no path")?;
        let path = format!("/{path}");
        let page = site.get(&path)?;
        ensure!(page.status == 200, "the sign-in link answered {}", page.status);
        let answer = site.post(&path, &[])?;
        ensure!(answer.status == 303, "signing in by the link answered {}", answer.status);
        let apps = site.get("/apps")?;
        ensure!(apps.status == 200, "after signing in /apps answered {}", apps.status);
        Ok(())
    }

    fn key(&self) -> PathBuf {
        self.home.join("key")
    }

    pub fn add_key(&self, site: &mut Visitor) -> Result<()> {
        read(program("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "demo", "-f"]).arg(self.key()))?;
        let public = fs::read_to_string(self.home.join("key.pub"))?;
        let answer = site.post("/account/keys", &[("name", "demo"), ("key", public.trim())])?;
        ensure!(answer.status == 303, "adding a key answered {}: {}", answer.status, answer.body);
        Ok(())
    }

    pub fn create(&self, site: &mut Visitor, app: &str) -> Result<()> {
        let answer = site.post("/apps/new", &[("name", app)])?;
        ensure!(answer.status == 303, "creating {app} answered {}: {}", answer.status, answer.body);
        Ok(())
    }

    pub fn repository(&self, app: &str) -> PathBuf {
        self.home.join(app)
    }

    /// Makes a repository of a sample, and pushes it.
    pub fn push(&self, sample: &Sample) -> Result<()> {
        let repository = self.repository(sample.name);
        copy(&root().join("end2end/apps").join(sample.folder), &repository)?;
        read(self.git(sample.name).args(["init", "-q", "-b", "main"]))?;
        let url = format!("ssh://berth@localhost:{}/{}.git", self.ssh_port, sample.name);
        read(self.git(sample.name).args(["remote", "add", "berth", &url]))?;
        self.commit(sample.name, "First")?;
        run(self.git(sample.name).args(["push", "berth", "main"]))
    }

    pub fn commit(&self, app: &str, subject: &str) -> Result<()> {
        read(self.git(app).args(["add", "-A"]))?;
        read(self.git(app).args(["commit", "-q", "-m", subject])).map(drop)
    }

    /// git as a person has it, told nothing by this user's own settings.
    pub fn git(&self, app: &str) -> Command {
        let mut git = program("git");
        git.current_dir(self.repository(app));
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("GIT_")) {
            git.env_remove(key);
        }
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
        for (name, value) in [("NAME", "Demo"), ("EMAIL", EMAIL)] {
            git.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
        }
        let ssh = format!(
            "ssh -F /dev/null -i {} -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={}",
            self.key().display(),
            self.home.join("known_hosts").display()
        );
        git.env("GIT_SSH_COMMAND", ssh);
        git
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("{} is gone", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
