//! The project's own commands: `cargo xtask demo`, `test`, `browser`, `build`, `bench`, `tidy`, `sql`.
//!
//! Knows: which programs are needed, how the parts are built, in which order they are checked.
//! Never: a heavy dependency (it must print at once), or a shell line. One file a verb.

mod bench;
mod browser;
mod build;
mod check;
mod demo;
mod install;
mod sql;
mod test;
mod tidy;
mod work;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask demo            install what is missing, build, start Berth with two sample apps; Ctrl-C ends it
cargo xtask demo --check    the same, each step checked; prints figures and leaves nothing behind
cargo xtask test            everything: format, lints, tidy, queries, unit to end-to-end tests
cargo xtask build           install what is missing, build `berth` with all that it carries
cargo xtask tidy            hold the rooms against the map
cargo xtask browser         of these, the site in a browser alone
cargo xtask bench site      how quick the site is with 1,000 apps and a month of use (optimised build)
cargo xtask sql             renew server/store/.sqlx from the migrations
";

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = given.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo"] => demo::demo(demo::Check::No),
        ["demo", "--check"] => demo::demo(demo::Check::Yes),
        ["test"] => test::test(),
        ["build"] => build::verb(),
        ["browser"] => browser::verb(),
        ["bench", "site"] => bench::site(),
        ["tidy"] => tidy::verb(),
        ["sql"] => sql::verb(),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => {
            eprint!("xtask does not know `{}`.\n\n{HELP}", words.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("\nxtask: {cause:#}");
            ExitCode::FAILURE
        }
    }
}
