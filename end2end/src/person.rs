//! A user: signs in by a link, adds a key, pushes with the real git over the real OpenSSH.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::berth::{Berth, Operator};
use crate::command::{read, run};
use crate::visitor::Visitor;

#[derive(Clone)]
pub struct Person {
    name: String,
    link: String,
    /// Keys, known hosts and repositories.
    home: PathBuf,
    ssh_port: u16,
}

impl Person {
    pub fn new(berth: &Berth, name: &str) -> Result<Self> {
        let home = berth.home().join(name);
        fs::create_dir(&home)?;
        let email = format!("{name}@localhost");
        let link = berth.make_user(&email, name)?;
        let person = Self { name: name.to_owned(), link, home, ssh_port: berth.ssh.port() };
        person.make_key()?;
        Ok(person)
    }

    /// Somebody with a key of their own, of whom Berth has not heard.
    pub fn unknown(berth: &Berth, name: &str) -> Result<Self> {
        let home = berth.home().join(name);
        fs::create_dir(&home)?;
        let person = Self { name: name.to_owned(), link: String::new(), home, ssh_port: berth.ssh.port() };
        person.make_key()?;
        Ok(person)
    }

    /// One who was not there before: makes an account on the site, and is signed in.
    pub fn who_signs_up(berth: &Berth, name: &str, site: &mut Visitor) -> Result<Self> {
        let person = Self::unknown(berth, name)?;
        let fields = [("name", name), ("email", &person.email()), ("password", "four unrelated words")];
        let answer = site.post("/signup", &fields)?;
        ensure!(answer.status == 303, "signing up answered {}: {}", answer.status, answer.body);
        if site.get("/account")?.status != 200 {
            let answer = site.post("/signin", &fields[1..])?;
            ensure!(answer.status == 303, "signing in answered {}: {}", answer.status, answer.body);
        }
        ensure!(site.get("/account")?.status == 200, "after signing up nobody is signed in");
        Ok(person)
    }

    pub fn sign_in(&self, site: &mut Visitor) -> Result<()> {
        let path = self.link.splitn(4, '/').nth(3).context("the link has no path")?;
        let path = format!("/{path}");
        let page = site.get(&path)?;
        ensure!(page.status == 200, "the sign-in link answered {}", page.status);
        let answer = site.post(&path, &[])?;
        ensure!(answer.status == 303, "signing in by the link answered {}", answer.status);
        let account = site.get("/account")?;
        ensure!(account.status == 200, "after signing in /account answered {}", account.status);
        Ok(())
    }

    pub fn email(&self) -> String {
        format!("{}@localhost", self.name)
    }

    fn key(&self) -> PathBuf {
        self.home.join("key")
    }

    /// Signs in by a link that the operator makes: the first one works once.
    pub fn sign_in_again(&self, operator: &Operator, site: &mut Visitor) -> Result<()> {
        let link = operator.sign_in_link(&self.email())?;
        Self { link, ..self.clone() }.sign_in(site)
    }

    fn make_key(&self) -> Result<()> {
        read(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "demo", "-f"]).arg(self.key()))
            .map(drop)
    }

    pub fn add_key(&self, site: &mut Visitor) -> Result<()> {
        let answer = site.post("/account/keys", &[("name", "demo"), ("key", &self.public_key()?)])?;
        ensure!(answer.status == 303, "adding a key answered {}: {}", answer.status, answer.body);
        Ok(())
    }

    pub fn public_key(&self) -> Result<String> {
        Ok(fs::read_to_string(self.home.join("key.pub"))?.trim().to_owned())
    }

    pub fn create(&self, site: &mut Visitor, app: &str) -> Result<()> {
        let answer = site.post("/apps/new", &[("name", app)])?;
        ensure!(answer.status == 303, "creating {app} answered {}: {}", answer.status, answer.body);
        Ok(())
    }

    pub fn repository(&self, app: &str) -> PathBuf {
        self.home.join(app)
    }

    /// Makes a repository of a folder, with one commit.
    pub fn begin(&self, app: &str, folder: &Path) -> Result<()> {
        copy(folder, &self.repository(app))?;
        read(self.git(app).args(["init", "-q", "-b", "main"]))?;
        self.commit(app, "First")
    }

    /// The same, with the app as its remote `berth`.
    pub fn prepare(&self, app: &str, folder: &Path) -> Result<()> {
        self.begin(app, folder)?;
        let url = format!("ssh://berth@localhost:{}/{app}.git", self.ssh_port);
        read(self.git(app).args(["remote", "add", "berth", &url])).map(drop)
    }

    /// Pushes, with what git says shown.
    pub fn push(&self, app: &str) -> Result<()> {
        run(self.git(app).args(["push", "berth", "main"]))
    }

    pub fn commit(&self, app: &str, subject: &str) -> Result<()> {
        read(self.git(app).args(["add", "-A"]))?;
        read(self.git(app).args(["commit", "-q", "-m", subject])).map(drop)
    }

    /// git as a person has it, told nothing by this user's own settings.
    pub fn git(&self, app: &str) -> Command {
        let mut git = Command::new("git");
        git.current_dir(self.repository(app));
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("GIT_")) {
            git.env_remove(key);
        }
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
        let email = self.email();
        for (field, value) in [("NAME", &self.name), ("EMAIL", &email)] {
            git.env(format!("GIT_AUTHOR_{field}"), value).env(format!("GIT_COMMITTER_{field}"), value);
        }
        git.env("GIT_SSH_COMMAND", self.ssh_words().join(" "));
        git
    }

    fn ssh_words(&self) -> Vec<String> {
        let (key, hosts) = (self.key().display().to_string(), self.home.join("known_hosts"));
        let options =
            "-o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes -o StrictHostKeyChecking=accept-new";
        let words = ["ssh", "-F", "/dev/null", "-i", &key].into_iter().chain(options.split(' '));
        words.map(str::to_owned).chain(["-o".to_owned(), format!("UserKnownHostsFile={}", hosts.display())]).collect()
    }

    /// The real OpenSSH client with this person's key; `options` are its own, `words` are for Berth.
    pub fn ssh(&self, options: &[&str], words: &[&str]) -> Command {
        let own = self.ssh_words();
        let mut ssh = Command::new(&own[0]);
        ssh.args(&own[1..]).args(["-p", &self.ssh_port.to_string(), "-o", "LogLevel=ERROR"]);
        ssh.args(options).arg("berth@localhost").args(words);
        ssh
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn ssh_port(&self) -> u16 {
        self.ssh_port
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
