//! A migrated database for programs that are no tests: prints its URL, and ends with its standard input.

use std::io::{Read, Write};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let postgres = harness::postgres().await?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", postgres.url())?;
    out.flush()?;
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}
