//! Tells the linker which functions to lay side by side (`link/at-rest.ld`, made by `tools/link-order`). The program is the
//! same without; it takes more memory at rest.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=link/at-rest.ld");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    // Elsewhere the names may differ, and a build for debugging need not wait for it.
    let known = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if known && is("PROFILE", "release") {
        let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bin=agent=-Wl,-T,{folder}/link/at-rest.ld");
    }
}
