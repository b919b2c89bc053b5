//! `waypost-destination`: the reference destination server and its tools.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's results are its standard output")]

mod cli;
mod logger;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    logger::start(arguments.log);
    // One line in the log: what a stranger's bytes bring about shall not fill it with backtraces.
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    let as_json = arguments.json;
    match cli::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            cli::complain(&error, as_json);
            ExitCode::FAILURE
        }
    }
}
