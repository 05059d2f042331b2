//! Binds the site's browser half: from what the compiler made to what a browser loads, and puts the
//! site's other files beside it.
//!
//! `bindgen WASM FOLDER` is a crate of its own, since its libraries take a minute to build.
//! After what wasm-bindgen writes stands `app/frontend/boot.js`, which starts the islands: so a page
//! needs no inline script.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let given: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [wasm, folder] = given.as_slice() else { bail!("bindgen WASM FOLDER") };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");

    let mut bindgen = Bindgen::new();
    bindgen.input_path(wasm).web(true)?.typescript(false).out_name("berth");
    bindgen.remove_name_section(true).remove_producers_section(true);
    bindgen.generate(folder).context("could not bind the browser half")?;

    let script = folder.join("berth.js");
    let mut text = fs::read_to_string(&script).context("bindgen wrote no script")?;
    text.push_str(&fs::read_to_string(root.join("app/frontend/boot.js")).context("app/frontend/boot.js is gone")?);
    fs::write(&script, text)?;

    // One style sheet, in this order; everything else of `style/` as it is.
    let style = root.join("style");
    let sheets = ["tokens.css", "base.css", "components.css"];
    let mut sheet = String::new();
    for name in sheets {
        sheet.push_str(&fs::read_to_string(style.join(name)).with_context(|| format!("style/{name} is gone"))?);
    }
    fs::write(folder.join("berth.css"), sheet)?;
    for entry in fs::read_dir(&style)? {
        let entry = entry?;
        if !sheets.iter().any(|name| entry.file_name() == *name) {
            fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    Ok(())
}
