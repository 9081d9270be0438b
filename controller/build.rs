//! Tells the program which compiler made it.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Set by whoever builds a release; asking git here would rebuild after every commit.
    println!("cargo::rerun-if-env-changed=DAVIT_COMMIT");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(compiler).arg("--version").output();
    let text = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let number = text.split_whitespace().nth(1).unwrap_or("unknown");
    println!("cargo::rustc-env=DAVIT_RUST_VERSION={number}");
}
