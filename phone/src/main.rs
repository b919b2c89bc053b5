//! `waypost-phone`: the reference phone's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    waypost_phone::cli::main()
}
