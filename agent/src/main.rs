//! The binary `agent`: parses, runs, returns an exit code. Nothing else lives here.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use tikv_jemallocator::Jemalloc;

/// Gives back to the system, by a thread of its own, what a flood has taken. How it is set: `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    agent::cli::main()
}
