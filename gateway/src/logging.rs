//! Where log lines go: the journal with structured fields under systemd, standard error otherwise.
//!
//! Policy: `error` needs the admin; `warn` says that something was passed over; `info` is contacts, uploads and
//! confirmations; `debug` each document; `trace` each frame. Secret keys, codes, tokens and labels are logged at no
//! level. Of other people's crates only warnings are logged, whatever the level: their traces have tokens in them.

use log::{LevelFilter, Log, Metadata, Record};
use systemd_journal_logger::JournalLog;
use waypost_config::LogLevel;

/// Passes on what this project's crates say, and warnings of others.
struct OwnWords<L>(L);

impl<L: Log> Log for OwnWords<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let own = metadata.target().split("::").next().is_some_and(|one| one.starts_with("waypost"));
        (own || metadata.level() <= log::Level::Warn) && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Starts logging. A second call changes the level only.
pub fn start(level: LogLevel) {
    let journal = systemd_journal_logger::connected_to_journal().then(JournalLog::new);
    // Where the journal cannot be reached after all, standard error ends up there too. Installing fails where a logger
    // is there already, which is then as good.
    let _ = match journal {
        Some(Ok(journal)) => {
            log::set_boxed_logger(Box::new(OwnWords(journal.with_syslog_identifier("waypost".into()))))
        }
        Some(Err(_)) | None => {
            let plain =
                env_logger::Builder::new().filter_level(LevelFilter::Trace).format_target(false).build();
            log::set_boxed_logger(Box::new(OwnWords(plain)))
        }
    };
    set_level(level);
}

/// Changes the level.
pub fn set_level(level: LogLevel) {
    log::set_max_level(match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    });
}
