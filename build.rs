//! Folds functions of equal code into one, which makes the binary smaller by a hundredth: Rust does not promise that two
//! functions have two addresses.

#![expect(
    clippy::disallowed_methods,
    reason = "a build script is told what to build in variables"
)]

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name| env::var(name).unwrap_or_default();
    // Where Rust links with its own lld, which knows how.
    let has_lld = variable("TARGET") == "x86_64-unknown-linux-gnu";
    if has_lld && variable("PROFILE") == "release" {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
