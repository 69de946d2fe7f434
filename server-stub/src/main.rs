//! The binary `server-stub`: parses, runs, returns an exit code. Nothing else lives here.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    server_stub::cli::main()
}
