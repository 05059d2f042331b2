//! Programs, run as a person runs them.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs it with its own output shown.
pub fn run(command: &mut Command) -> Result<()> {
    let named = named(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("could not start {named}"))?;
    if !status.success() {
        bail!("{named} failed ({status})");
    }
    Ok(())
}

/// Runs it, and returns what it printed; shown only when it failed.
pub fn read(command: &mut Command) -> Result<String> {
    let named = named(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("could not start {named}"))?;
    if !output.status.success() {
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{named} failed ({})\n{said}{complained}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{named} printed what is not UTF-8"))
}

/// Whether it went well, and all that it printed.
pub fn said(command: &mut Command) -> Result<(bool, String)> {
    let named = named(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("could not start {named}"))?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok((output.status.success(), said))
}

fn named(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(program.as_os_str()).to_string_lossy()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy()));
    format!("`{}`", words.join(" "))
}
