//! Config vars, opened: in this process alone, and only for what runs here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use domain::{AppId, CustomerId, Reason, Secret};
use seal::{Bound, PrivateKey};
use store::{Db, StoreError, config};

/// Of one release: its variables, or why they cannot be read.
pub type Opened = Result<Arc<BTreeMap<String, Secret<String>>>, Reason>;

/// Versions never change, so each is opened once.
#[derive(Default)]
pub struct Configs(HashMap<(AppId, i64), Opened>);

impl Configs {
    /// Has those that are `wanted`, and no others.
    pub async fn look(
        &mut self,
        db: &Db,
        key: &PrivateKey,
        wanted: &HashMap<(AppId, i64), CustomerId>,
    ) -> Result<(), StoreError> {
        self.0.retain(|id, _| wanted.contains_key(id));
        let new: Vec<_> = wanted.keys().filter(|id| !self.0.contains_key(id)).copied().collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut vars: HashMap<_, Vec<_>> = HashMap::new();
        for var in config::all::vars(db.pool(), &new).await? {
            vars.entry((var.app_id, var.version)).or_default().push(var);
        }
        let opened = |id| (id, open(key, wanted[&id], id.0, vars.remove(&id).unwrap_or_default()));
        self.0.extend(new.into_iter().map(opened));
        Ok(())
    }

    /// Version 0 is empty; what was not asked for is shut.
    pub fn get(&self, app: AppId, version: i64) -> Opened {
        match version {
            0 => Ok(Arc::default()),
            _ => self.0.get(&(app, version)).cloned().unwrap_or_else(|| Err(Reason::new("its config is not open"))),
        }
    }
}

fn open(key: &PrivateKey, customer: CustomerId, app: AppId, vars: Vec<config::all::Var>) -> Opened {
    let mut opened = BTreeMap::new();
    let mut shut = Vec::new();
    for var in vars {
        let bound = Bound { customer, app, name: &var.name };
        let value = match (var.plain, var.sealed) {
            (Some(value), _) => Ok(value),
            (None, sealed) => key.open(&sealed.unwrap_or_default(), bound),
        };
        match value {
            Ok(value) => drop(opened.insert(var.name, value)),
            Err(cause) => {
                tracing::error!(app.id = %app, variable = var.name, error = %cause, "a config var does not open");
                shut.push(var.name);
            }
        }
    }
    if shut.is_empty() {
        return Ok(Arc::new(opened));
    }
    let reason = Reason::new(format!("Berth cannot read {} any more", shut.join(", ")));
    Err(reason.hint("set it again on the config page; tell the operator that the key of the config vars has changed"))
}
