//! `berth user`: users made by root on the server itself, through `commands`.

use std::error::Error;
use std::fs;
use std::path::Path;

use commands::Commands;
use domain::Approval;

use crate::child::{Identity, become_user};
use crate::cli::{User as Asked, UserVerb};
use crate::door;
use crate::engines::owner_url;
use crate::slice::{Slice, User};
use crate::up::Addresses;

type Boxed = Box<dyn Error + Send + Sync>;

pub fn user(asked: &Asked) -> Result<(), Boxed> {
    let config = as_owner(&asked.verb.at().data)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let said = runtime.block_on(async {
        let commands = Commands::connect(config).await?;
        match &asked.verb {
            UserVerb::Create { email, name, operator, .. } => {
                let local = email.as_str().split('@').next().unwrap_or_default();
                commands.user_create(email, name.as_deref().unwrap_or(local), *operator).await
            }
            UserVerb::Link { email, .. } => commands.user_link(email).await,
            UserVerb::Approve { email, .. } => {
                commands.user_approve(email, Approval::Approved).await.map(|()| format!("{email} may begin"))
            }
            UserVerb::Refuse { email, .. } => {
                commands.user_approve(email, Approval::Refused).await.map(|()| format!("{email} may not begin"))
            }
            UserVerb::Confirm { email, .. } => {
                commands.user_confirm(email).await.map(|()| format!("{email} is confirmed"))
            }
        }
    })?;
    println!("{said}");
    Ok(())
}

/// Becomes the owner of the running installation's database, and nothing more: who reads the command line
/// as root does not speak to PostgreSQL as root.
pub(crate) fn as_owner(data: &Path) -> Result<commands::Config, Boxed> {
    let (data, n) = door::running(data)?;
    let text =
        fs::read(data.join("addresses.json")).map_err(|_| "`berth up` is still starting: try again in a moment")?;
    let addresses: Addresses = serde_json::from_slice(&text)?;
    let outside = door::database(n).map_err(|cause| format!("the supervisor does not answer: {cause}"))?;
    let number = |user: User| addresses.uid_first + user as u32;
    let uid = number(User::Migrate);
    become_user(&Identity { uid, gid: uid, groups: vec![number(User::ToPostgres)] })?;
    let sockets = Slice::run_of(n).join("pg");
    Ok(commands::Config {
        database_url: outside.unwrap_or_else(|| owner_url(&sockets)),
        logs: None,
        urls: addresses.urls,
        seal: None,
    })
}
