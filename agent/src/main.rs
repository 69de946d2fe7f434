//! The binary `agent`: parses, runs, returns an exit code. Nothing else lives here.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::cli::main()
}
