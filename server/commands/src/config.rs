//! Config vars: what an app finds in its environment. A secret is sealed here and never read again.

use domain::{AppName, AppState, Cause, Secret, Time};
use seal::Bound;
use store::Tx;
use store::app::App;
use store::config::{NewValue, NewVar};

use crate::verbs::locked;
use crate::{Actor, CommandError, Commands, timely};

const NAME_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 32 << 10;
/// Of all variables of an app: what a program is started with has a limit in the kernel.
const ALL_BYTES_MAX: usize = 64 << 10;
const VARS_MAX: usize = 256;

#[derive(Debug, Clone, PartialEq)]
pub struct ConfigView {
    pub app: AppName,
    pub url: String,
    pub vars: Vec<VarView>,
    /// What serves was started with others, and no deploy is on its way to change that.
    pub stale: bool,
    /// The deploy that rolls them out.
    pub deploy: Option<i64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct VarView {
    pub name: String,
    /// `None`: secret.
    pub value: Option<String>,
    pub bytes: i32,
    /// Who set it, by name.
    pub by: Option<String>,
    pub since: Time,
}

#[derive(Debug, Clone, PartialEq)]
pub struct VarSet {
    pub name: String,
    pub value: Secret<String>,
    pub shown: Shown,
}

/// Whether a value can be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Secret,
    Plain,
}

impl Commands {
    pub async fn config(&self, actor: &Actor, name: &AppName) -> Result<ConfigView, CommandError> {
        timely(async {
            let mut tx = self.db.snapshot().await?;
            let app = store::app::get(&mut **tx, actor.customer, name).await?;
            let app = app.ok_or_else(|| CommandError::NoApp { name: name.clone() })?;
            let vars = store::config::list(&mut **tx, app.id, app.config_version).await?;
            let serving = store::config::serving(&mut **tx, app.id).await?;
            let open = store::deploy::open_number(&mut tx, app.id).await?;
            tx.commit().await?;
            let view = |v: store::config::Var| VarView {
                name: v.name,
                value: v.plain,
                bytes: v.bytes,
                by: v.by,
                since: v.since,
            };
            let differs = serving.is_some_and(|version| version != app.config_version);
            Ok(ConfigView {
                url: self.urls.app(&app.name),
                app: app.name,
                vars: vars.into_iter().map(view).collect(),
                stale: differs && open.is_none(),
                deploy: open.filter(|_| differs),
            })
        })
        .await
    }

    /// Sets all of them at once: one release. The number of the deploy that rolls them out; `None`: nothing serves yet
    /// or the app is stopped, they are there when it starts.
    pub async fn config_set(
        &self,
        actor: &Actor,
        name: &AppName,
        vars: &[VarSet],
    ) -> Result<Option<i64>, CommandError> {
        check(vars)?;
        timely(async {
            let mut tx = self.db.begin().await?;
            let app = locked(&mut tx, actor, name).await?;
            let kept = store::config::list(&mut **tx, app.id, app.config_version).await?;
            let kept: Vec<_> = kept.iter().filter(|old| vars.iter().all(|new| new.name != old.name)).collect();
            let bytes = |name: &str, value: usize| name.len() + value + 2;
            let old: usize = kept.iter().map(|v| bytes(&v.name, usize::try_from(v.bytes).unwrap_or(0))).sum();
            let all = old + vars.iter().map(|v| bytes(&v.name, v.value.expose().len())).sum::<usize>();
            if all > ALL_BYTES_MAX || kept.len() + vars.len() > VARS_MAX {
                let message = format!(
                    "That would be {} variables of {} KiB; an app has at most {VARS_MAX} of {} KiB.",
                    kept.len() + vars.len(),
                    all.div_ceil(1024),
                    ALL_BYTES_MAX >> 10
                );
                return Err(CommandError::invalid("value", message));
            }
            let mut new = Vec::with_capacity(vars.len());
            for var in vars {
                let bound = Bound { customer: actor.customer, app: app.id, name: &var.name };
                let value = match (var.shown, &self.seal) {
                    (Shown::Plain, _) => NewValue::Plain(var.value.expose()),
                    (Shown::Secret, Some(key)) => {
                        NewValue::Sealed(key.seal(&var.value, bound).map_err(CommandError::internal)?)
                    }
                    (Shown::Secret, None) => return Err(CommandError::internal("there is no key to seal it with")),
                };
                new.push(NewVar { name: &var.name, value, bytes: var.value.expose().len() });
            }
            store::config::change(&mut tx, app.id, app.config_version, actor.user, &new, None).await?;
            // Names only: a value belongs in no event.
            let names: Vec<&str> = vars.iter().map(|var| var.name.as_str()).collect();
            let deploy = self.roll_out(&mut tx, actor, &app).await?;
            let after = serde_json::json!({ "set": names, "deploy": deploy });
            self.record(&mut tx, actor, "config set", name.as_str(), None, Some(after)).await?;
            tx.commit().await?;
            Ok(deploy)
        })
        .await
    }

    pub async fn config_unset(&self, actor: &Actor, name: &AppName, var: &str) -> Result<Option<i64>, CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let app = locked(&mut tx, actor, name).await?;
            let vars = store::config::list(&mut **tx, app.id, app.config_version).await?;
            if vars.iter().all(|known| known.name != var) {
                return Err(CommandError::NotFound { what: "variable" });
            }
            store::config::change(&mut tx, app.id, app.config_version, actor.user, &[], Some(var)).await?;
            let deploy = self.roll_out(&mut tx, actor, &app).await?;
            let after = serde_json::json!({ "unset": var, "deploy": deploy });
            self.record(&mut tx, actor, "config unset", name.as_str(), None, Some(after)).await?;
            tx.commit().await?;
            Ok(deploy)
        })
        .await
    }

    /// A deploy of what serves with the config of a locked app as it is now. One that waits takes the change with it.
    pub(crate) async fn roll_out(&self, tx: &mut Tx, actor: &Actor, app: &App) -> Result<Option<i64>, CommandError> {
        let Some(serving) = app.release_number.filter(|_| app.state == AppState::Running) else { return Ok(None) };
        if let Some(waiting) = store::config::waiting(tx, app.id).await? {
            return Ok(Some(waiting));
        }
        Ok(Some(store::deploy::create_again(tx, app.id, serving.0, Cause::Config, actor.user).await?))
    }
}

fn check(vars: &[VarSet]) -> Result<(), CommandError> {
    let mut names = std::collections::BTreeSet::new();
    for VarSet { name, value, .. } in vars {
        check_name(name)?;
        if !names.insert(name) {
            return Err(CommandError::invalid("name", format!("{name} is there twice.")));
        }
        let value = value.expose();
        if value.len() > VALUE_BYTES_MAX {
            let message = format!("{name} has {} bytes; {VALUE_BYTES_MAX} are the most.", value.len());
            return Err(CommandError::invalid("value", message));
        }
        if value.contains('\0') {
            return Err(CommandError::invalid(
                "value",
                format!("{name} has a NUL in it; no environment can hold that."),
            ));
        }
    }
    if vars.is_empty() {
        return Err(CommandError::invalid("name", "There is no variable in it."));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), CommandError> {
    let say = |message: String| Err(CommandError::invalid("name", message));
    let (first, rest) = (name.chars().next(), name.chars().skip(1));
    let word = |c: char| c.is_ascii_alphabetic() || c == '_';
    match first {
        None => return say("A variable has a name, such as API_KEY.".to_owned()),
        Some(c) if c.is_ascii_digit() => return say(format!("A name cannot begin with a digit. _{name} would do.")),
        Some(c) if !word(c) => return say(format!("A name cannot begin with `{c}`. It has letters, digits and _.")),
        Some(_) => {}
    }
    if let Some(c) = rest.into_iter().find(|c| !word(*c) && !c.is_ascii_digit()) {
        return say(format!("A name cannot have `{}` in it. It has letters, digits and _.", c.escape_debug()));
    }
    if name.len() > NAME_MAX {
        return say(format!("A name has at most {NAME_MAX} characters."));
    }
    if name == "PORT" {
        return say("PORT is set by Berth: it says where web has to listen.".to_owned());
    }
    if name.starts_with("BERTH_") {
        return say("Names that begin with BERTH_ are set by Berth.".to_owned());
    }
    Ok(())
}

/// Lines as in a `.env` file: `KEY=value`, `export KEY=value`, `'as it is'`, `"with \\n and \\" in it"`, comments.
/// Which line was wrong, and how.
pub fn parse_env(text: &str) -> Result<Vec<(String, Secret<String>)>, CommandError> {
    let mut vars = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| CommandError::invalid("text", format!("Line {}: {what}", at + 1));
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or_else(|| wrong("there is no `=`. Write KEY=value."))?;
        let name = name.trim();
        check_name(name).map_err(|cause| wrong(&cause.message()))?;
        let value = unquoted(value.trim()).ok_or_else(|| wrong("the quotation mark is not closed."))?;
        vars.push((name.to_owned(), Secret::new(value)));
    }
    Ok(vars)
}

/// `None`: it begins with a quotation mark that is not closed at its end.
fn unquoted(value: &str) -> Option<String> {
    if let Some(rest) = value.strip_prefix('\'') {
        return rest.strip_suffix('\'').map(str::to_owned);
    }
    let Some(rest) = value.strip_prefix('"') else {
        // A comment begins after a space: `#` may stand in a password.
        return Some(value.split(" #").next().unwrap_or_default().trim_end().to_owned());
    };
    let (mut text, mut chars) = (String::new(), rest.chars());
    loop {
        match chars.next()? {
            '"' => return chars.as_str().is_empty().then_some(text),
            '\\' => match chars.next()? {
                'n' => text.push('\n'),
                'r' => text.push('\r'),
                't' => text.push('\t'),
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_an_env_file_are_read_and_wrong_ones_named() {
        let text = "# comment\n\nA=1\r\nexport B = two words # said\nC='as # it is'\nD=\"a\\nb \\\" c\"\nE=p#ss\nF=\n";
        let got: Vec<_> = parse_env(text).unwrap().into_iter().map(|(k, v)| format!("{k}={}", v.expose())).collect();
        assert_eq!(got, ["A=1", "B=two words", "C=as # it is", "D=a\nb \" c", "E=p#ss", "F="]);
        for (text, says) in [
            ("A=1\nnothing", "Line 2: there is no `=`"),
            ("2A=1", "Line 1: A name cannot begin with a digit"),
            ("A=\"open", "Line 1: the quotation mark"),
            ("PORT=1", "PORT is set by Berth"),
            ("BERTH_APP=x", "BERTH_ are set by Berth"),
            ("A-B=1", "A name cannot have `-`"),
        ] {
            let said = parse_env(text).unwrap_err().message();
            assert!(said.contains(says), "{said}");
        }
    }
}
