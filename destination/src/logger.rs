//! Logs: to the journal under systemd, to standard error otherwise.
#![allow(clippy::print_stderr, reason = "that is where a program without a journal logs to")]

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let time = crate::clock::now();
            eprintln!("{time} {:5} {}: {}", record.level(), record.target(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Sets the program's logger.
pub(crate) fn start(level: LevelFilter) {
    log::set_max_level(level);
    if systemd_journal_logger::connected_to_journal() {
        let journal = systemd_journal_logger::JournalLog::new().and_then(|journal| {
            let installed = journal.with_syslog_identifier("waypost-destination".to_owned()).install();
            installed.map_err(std::io::Error::other)
        });
        if journal.is_ok() {
            return;
        }
    }
    // Only fails where a logger is set already.
    let _ = log::set_logger(&Stderr);
}
