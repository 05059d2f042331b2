//! The key that opens config vars: made once, and kept in the data directory. Whoever has a backup of the database
//! without it cannot read one secret; whoever loses it sets them again.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use domain::Secret;
use seal::PrivateKey;

use crate::slice::directory;
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
            keep(&dir, &path, &key).map_err(doing(format!("keep the key of the config vars, {}", path.display())))?;
            Ok(key)
        }
        Err(cause) => Err(doing(format!("read the key of the config vars, {}", path.display()))(cause)),
    }
}

/// On disk as a whole or not at all.
fn keep(dir: &Path, path: &Path, key: &PrivateKey) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    writeln!(file, "{}", key.text().expose())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(dir)?.sync_all()
}
