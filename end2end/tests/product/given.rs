//! What a test begins with.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Berth, Person, Visitor, nothing_left, said, wait};

/// How long a deploy may take on a busy machine.
pub const DEPLOY: Duration = Duration::from_secs(120);
/// How long something that happens at once may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

pub fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("apps")
}

fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"))
}

pub fn binary() -> Result<PathBuf> {
    let binary = std::env::var_os("BERTH_BINARY").map_or_else(|| target().join("debug/berth"), PathBuf::from);
    ensure!(binary.is_file(), "{} is not there: `cargo xtask build` builds it", binary.display());
    Ok(binary)
}

/// A Berth with a signed-in user who has a key.
pub struct Given {
    pub berth: Berth,
    pub person: Person,
    pub site: Visitor,
}

/// Runs `test` with a Berth of its own; afterwards nothing of it may be left.
pub fn given(name: &str, test: impl FnOnce(&mut Given) -> Result<()>) {
    given_with(name, &[], None, test);
}

/// The same, with further flags for `berth up`, and with its data below `disk`.
pub fn given_with(name: &str, flags: &[&str], disk: Option<&Path>, test: impl FnOnce(&mut Given) -> Result<()>) {
    let run = || -> Result<()> {
        let uv = target().join("tools/uv");
        let uv = uv.is_file().then_some(uv.as_path());
        let mut given = Given::on(Berth::start_with(&binary()?, uv, name, flags, &[], disk)?)?;
        test(&mut given)?;
        given.end()
    };
    if let Err(cause) = run() {
        panic!("{cause:#}");
    }
}

impl Given {
    pub fn on(berth: Berth) -> Result<Self> {
        let mut site = Visitor::new(&berth.site, berth.http);
        let person = Person::new(&berth, "ada")?;
        person.sign_in(&mut site)?;
        person.add_key(&mut site)?;
        Ok(Self { berth, person, site })
    }

    /// Stops it, and nothing of it may be left.
    pub fn end(self) -> Result<()> {
        let (slice, data) = (self.berth.slice, self.berth.data.clone());
        self.berth.stop()?;
        nothing_left(slice, &data)
    }

    /// Sends a form that must be taken.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Result<()> {
        let answer = self.site.post(path, fields)?;
        ensure!(answer.status == 303, "{path} answered {}: {}", answer.status, answer.body);
        Ok(())
    }

    /// An app with its repository, made from a sample and not pushed yet.
    pub fn app(&mut self, name: &str, sample: &str) -> Result<()> {
        self.person.create(&mut self.site, name)?;
        self.person.prepare(name, &samples().join(sample))
    }

    /// An app from files of its own.
    pub fn app_of(&mut self, name: &str, files: &[(&str, &str)]) -> Result<()> {
        self.person.create(&mut self.site, name)?;
        let folder = self.berth.home().join(format!("{name}.files"));
        fs::create_dir(&folder)?;
        for (file, text) in files {
            fs::write(folder.join(file), text)?;
        }
        self.person.prepare(name, &folder)
    }

    pub fn visitor(&self, app: &str) -> Visitor {
        Visitor::new(&self.berth.app(app), self.berth.http)
    }

    /// What git prints when `app` is pushed: all of it, and whether it was taken.
    pub fn push(&self, app: &str) -> Result<(bool, String)> {
        let (taken, said) = said(self.person.git(app).args(["push", "berth", "main"]))?;
        println!("{said}");
        Ok((taken, said))
    }

    /// Pushes what must be taken.
    pub fn push_well(&self, app: &str) -> Result<String> {
        let (taken, said) = self.push(app)?;
        ensure!(taken, "the push was refused:\n{said}");
        Ok(said)
    }

    /// Changes a file of the repository, and commits it.
    pub fn change(&self, app: &str, file: &str, text: &str) -> Result<()> {
        fs::write(self.person.repository(app).join(file), text)?;
        self.person.commit(app, "A change")
    }

    /// Until `app` answers 200 with a page that says `says`.
    pub fn answers(&self, app: &str, says: &str) -> Result<()> {
        let mut visitor = self.visitor(app);
        wait(SOON, || {
            let answer = visitor.get("/")?;
            ensure!(
                answer.status == 200 && answer.body.contains(says),
                "{app} answers {}: {}",
                answer.status,
                answer.body
            );
            Ok(())
        })
    }

    /// Until a page of the site says `says`.
    pub fn page_says(&mut self, path: &str, says: &str) -> Result<()> {
        let site = &mut self.site;
        wait(SOON, || {
            let page = site.get(path)?;
            ensure!(page.status == 200, "{path} answers {}", page.status);
            ensure!(page.body.contains(says), "{path} does not say `{says}`:\n{}", page.body);
            Ok(())
        })
    }
}
