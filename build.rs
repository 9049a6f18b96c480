//! Tells the linker how to make the release smaller.
//!
//! - Functions of equal code become one: Rust does not promise that two functions have two addresses.
//! - The tables for unwinding are left out, half a MiB of them: a panic ends the process, and no code unwinds.
//! - Relative relocations are packed (RELR), 0.2 MiB less, where the C library can read them.

#![expect(
    clippy::disallowed_methods,
    reason = "a build script is told what to build in variables"
)]

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The first glibc whose static programs relocate themselves by packed relocations.
const FIRST_WITH_RELR: (u32, u32) = (2, 36);

/// The linker puts its own layout around what this script leaves out.
const NO_UNWINDING: &str =
    "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.gcc_except_table*) } } INSERT AFTER .text;\n";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name| env::var(name).unwrap_or_default();
    // Where Rust links with its own lld, which knows how.
    let has_lld = variable("TARGET") == "x86_64-unknown-linux-gnu";
    if !has_lld || variable("PROFILE") != "release" {
        return Ok(());
    }
    let script = Path::new(&env::var("OUT_DIR")?).join("no_unwinding.ld");
    fs::write(&script, NO_UNWINDING)?;
    let script = format!("-T,{}", script.display());
    for option in ["--icf=all", "--no-eh-frame-hdr", &script] {
        println!("cargo::rustc-link-arg-bins=-Wl,{option}");
    }
    if glibc().is_some_and(|version| version >= FIRST_WITH_RELR) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    Ok(())
}

/// Returns the version of this machine's C library, which becomes a part of the program.
fn glibc() -> Option<(u32, u32)> {
    let answer = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let answer = String::from_utf8(answer.ok()?.stdout).ok()?;
    let mut parts = answer.trim().strip_prefix("glibc ")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
