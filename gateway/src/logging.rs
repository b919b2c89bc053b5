//! Where log lines go: the journal with structured fields under systemd, standard error otherwise.
//!
//! Policy: `error` needs the admin; `warn` says that something was passed over; `info` is contacts, uploads and
//! confirmations; `debug` each document; `trace` each frame. Keys, codes, tokens and labels are logged at no level.

use log::LevelFilter;
use systemd_journal_logger::JournalLog;
use waypost_config::LogLevel;

/// Starts logging. A second call changes the level only.
pub fn start(level: LogLevel) {
    let level = filter(level);
    log::set_max_level(level);
    if systemd_journal_logger::connected_to_journal() {
        let journal = JournalLog::new().map(|journal| journal.with_syslog_identifier("waypost".into()));
        // Where the journal cannot be reached after all, standard error ends up there too.
        if journal.is_ok_and(|journal| journal.install().is_ok()) {
            log::set_max_level(level);
            return;
        }
    }
    // It fails where a logger is there already, which is then as good.
    let _ = env_logger::Builder::new().filter_level(LevelFilter::Trace).format_target(false).try_init();
    log::set_max_level(level);
}

/// Changes the level.
pub fn set_level(level: LogLevel) {
    log::set_max_level(filter(level));
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}
