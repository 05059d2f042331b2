//! The key that opens config vars: made once, and kept in the data directory. Whoever has a backup of the database
//! without it cannot read one secret; whoever loses it sets them again.

use std::fs;
use std::io;
use std::path::Path;

use domain::Secret;
use seal::PrivateKey;

use crate::slice::{directory, keep};
use crate::up::{UpError, doing};

/// That of `data`; a new one if there is none yet. A damaged one is said, and never replaced.
pub fn seal_key(data: &Path) -> Result<PrivateKey, UpError> {
    let dir = data.join("keys");
    directory(&dir, 0o700, 0, 0)?;
    let path = dir.join("config");
    match fs::read_to_string(&path) {
        Ok(text) => PrivateKey::parse(&Secret::new(text))
            .map_err(|cause| io::Error::new(io::ErrorKind::InvalidData, cause))
            .map_err(doing(format!("read the key of the config vars, {}: put it back from a backup", path.display()))),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            let key = PrivateKey::new();
            keep(&path, key.text().expose())
                .map_err(doing(format!("keep the key of the config vars, {}", path.display())))?;
            Ok(key)
        }
        Err(cause) => Err(doing(format!("read the key of the config vars, {}", path.display()))(cause)),
    }
}
