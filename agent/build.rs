//! Tells the linker which functions to lay side by side, where the build names a list of them
//! (`packaging/at-rest/build.toml`). The program is the same without; it takes more memory at rest.

use std::env;

/// A linker script.
const LINK_ORDER: &str = "JIRA_TUNNEL_AGENT_LINK_ORDER";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={LINK_ORDER}");
    // A build for debugging need not wait for it.
    if let Ok(script) = env::var(LINK_ORDER)
        && env::var("PROFILE").is_ok_and(|profile| profile == "release")
    {
        println!("cargo::rerun-if-changed={script}");
        println!("cargo::rustc-link-arg-bin=agent=-Wl,-T,{script}");
    }
}
