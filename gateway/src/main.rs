//! `waypost`: the daemon and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    waypost_gateway::cli::main()
}
