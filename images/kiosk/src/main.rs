//! `waypost-kiosk`: see [`waypost_kiosk::cli`].

fn main() -> std::process::ExitCode {
    waypost_kiosk::cli::main()
}
