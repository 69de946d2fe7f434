//! The binary `agent`: parses, runs, returns an exit code. Nothing else lives here.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use tikv_jemallocator::Jemalloc;

/// Returns memory to the system from a background thread after a flood. Settings: `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    agent::cli::main()
}
