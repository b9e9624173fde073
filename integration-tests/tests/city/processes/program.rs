//! The program itself.
//!
//! `cargo test` builds the binaries of packages that have integration tests of their own, and
//! tells only those where they are; `guildhall` is the binary of another package. So cargo is
//! asked for it here, once, with this test's own profile and build folder: a moment if it is
//! built and fresh, a build if not. `GUILDHALL_PROGRAM` names another one to test instead.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `guildhall` binary of these sources.
pub(super) fn program() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| match std::env::var_os("GUILDHALL_PROGRAM") {
            Some(program) => PathBuf::from(program),
            None => build(),
        })
        .clone()
}

fn build() -> PathBuf {
    // <build folder>/<profile>/deps/<this test>
    let this = std::env::current_exe().unwrap();
    let profile = this.ancestors().nth(2).unwrap();
    let folder = profile.parent().unwrap();
    let name = profile.file_name().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo told this test about its own package would look to build scripts like a change.
    for (key, _) in std::env::vars_os() {
        let key = key.to_string_lossy();
        let is_ours = [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_BIN_",
            "CARGO_CRATE_",
            "CARGO_PRIMARY_",
        ]
        .iter()
        .any(|p| key.starts_with(p));
        if is_ours || key == "CARGO" {
            cargo.env_remove(&*key);
        }
    }
    cargo
        .args([
            "build",
            "--quiet",
            "--locked",
            "--bin",
            "guildhall",
            "--target-dir",
        ])
        .arg(folder);
    cargo.arg("--profile").arg(if name == "debug" {
        "dev".as_ref()
    } else {
        name
    });
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    assert!(
        cargo.status().unwrap().success(),
        "cargo builds `guildhall`"
    );
    profile.join("guildhall")
}
