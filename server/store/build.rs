//! A new migration is a new `store`: the macro that embeds them sees only those that were there.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
