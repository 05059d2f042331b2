//! The host key: made once, kept as OpenSSH keeps its own.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};

use crate::ReceiverError;

pub(crate) async fn load_or_make(dir: &Path) -> Result<PrivateKey, ReceiverError> {
    let path = dir.join("ssh_host_ed25519_key");
    let at = path.clone();
    let done = tokio::task::spawn_blocking(move || load_or_make_at(&at)).await;
    match done {
        Ok(key) => key.map_err(|cause| ReceiverError::HostKey { path, cause }),
        Err(cause) => Err(ReceiverError::HostKey { path, cause: cause.into() }),
    }
}

fn load_or_make_at(path: &Path) -> Result<PrivateKey, Box<dyn std::error::Error + Send + Sync>> {
    match std::fs::read(path) {
        Ok(text) => return Ok(PrivateKey::from_openssh(text)?),
        Err(cause) if cause.kind() == ErrorKind::NotFound => {}
        Err(cause) => return Err(cause.into()),
    }
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?;
    // Whole or not there: a half-written key would make every start fail.
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(key.to_openssh(LineEnding::LF)?.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn the_host_key_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_make(dir.path()).await.unwrap();
        let second = load_or_make(dir.path()).await.unwrap();
        assert_eq!(first.public_key(), second.public_key());
        let mode = std::fs::metadata(dir.path().join("ssh_host_ed25519_key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
