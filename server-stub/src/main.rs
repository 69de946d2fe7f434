//! The binary `server-stub`. Everything is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    server_stub::cli::main()
}
