//! `waypost-destination`: the reference destination server and its tools.

use std::process::ExitCode;

fn main() -> ExitCode {
    waypost_destination::cli::main()
}
