//! Takes what `cargo xtask build` laid into `target/embed` into the binary: the shim, and the site's files.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let embed = manifest.join("../../target/embed");
    // Also when they are not there yet. (A folder that is missing would make this run at each build.)
    fs::create_dir_all(embed.join("site"))?;
    println!("cargo::rerun-if-changed={}", embed.display());

    let mut code = String::new();
    let shim = embed.join("shim");
    match shim.is_file() {
        true => writeln!(code, "pub const SHIM: Option<&[u8]> = Some({});", include(&shim)?)?,
        false => writeln!(code, "pub const SHIM: Option<&[u8]> = None;")?,
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(embed.join("site"))?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.sort();
    writeln!(code, "pub const SITE: &[(&str, &[u8])] = &[")?;
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).ok_or("a file's name is not UTF-8")?;
        writeln!(code, "    ({name:?}, {}),", include(&file)?)?;
    }
    writeln!(code, "];")?;
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("embedded.rs"), code)?;
    Ok(())
}

fn include(file: &Path) -> Result<String, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", file.display());
    Ok(format!("include_bytes!({:?})", file.canonicalize()?))
}
