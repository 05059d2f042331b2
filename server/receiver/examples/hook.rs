//! git's hook and `move`, as they are in the shim, for the receiver's tests.

#[path = "../../shim/src/hook.rs"]
mod hook;

fn main() -> std::process::ExitCode {
    hook::run()
}
