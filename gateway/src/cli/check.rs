//! `run` and `check`: what starts with the configuration file.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use waypost_config::{Config, Loaded, Problem, Severity, load};
use waypost_upload::settings::TimeFloor;
use waypost_upload::way::AnyWay;

use super::output;
use crate::admin::{Answer, Request};
use crate::destinations::Destinations;
use crate::{control, daemon, logging, setup};

/// Runs the daemon. Problems of the configuration are logged; only fatal ones keep it from starting.
pub(super) fn run(path: &Path) -> anyhow::Result<ExitCode> {
    let loaded = load(path);
    if loaded.is_fatal() {
        logging::start(loaded.config.log.level);
        for problem in &loaded.problems {
            log::error!("{problem}");
        }
        log::error!(
            "the configuration keeps the gateway from starting; `waypost check` names what to change"
        );
        return Ok(ExitCode::FAILURE);
    }
    logging::start(loaded.config.log.level);
    let Loaded { config, problems, .. } = loaded;
    match daemon::run(path, config, &problems) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            log::error!("{}", output::words(&error));
            Ok(ExitCode::FAILURE)
        }
    }
}

#[derive(Serialize)]
struct Checked<'a> {
    ok: bool,
    files: Vec<String>,
    problems: &'a [Problem],
    /// Keys that a running gateway takes up on SIGHUP; absent where none runs.
    reload: Option<Vec<String>>,
    /// Keys that a running gateway takes up after a restart.
    needs_restart: Option<Vec<String>>,
}

/// What a running gateway has not taken up yet: keys for SIGHUP, and keys for a restart. `None` where none runs.
fn pending(config: &Config) -> Option<(Vec<String>, Vec<String>)> {
    match control::ask(&config.control.socket, &Request::Changes) {
        Ok(Ok(Answer::Reloaded { changed, needs_restart, .. })) => Some((changed, needs_restart)),
        _ => None,
    }
}

/// Names every mistake, the files that the configuration points to included. Exit status 1 where one is an error.
pub(super) fn check(path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let mut loaded = load(path);
    if !loaded.is_fatal() {
        let (destinations, found) = Destinations::load(&loaded.config);
        loaded.problems.extend(found);
        loaded.problems.extend(setup::inspect(&loaded.config));
        for served in &destinations.0 {
            if let Err((key, message)) = served.client(&loaded.config, TimeFloor::default(), Arc::new(AnyWay))
            {
                loaded.problems.push(served.config.problem(Severity::Error, key, &message));
            }
        }
    }
    let ok = loaded.problems.iter().all(|problem| problem.severity == Severity::Warning);
    let (reload, needs_restart) = pending(&loaded.config).unzip();
    if json {
        let files = loaded.files.iter().map(|file| file.display().to_string()).collect();
        output::json(&Checked { ok, files, problems: &loaded.problems, reload, needs_restart })?;
    } else {
        loaded.problems.iter().for_each(|problem| output::line(&problem.to_string()));
        let keys = |keys: Option<Vec<String>>, words: &str| {
            keys.into_iter().flatten().for_each(|key| output::line(&format!("{key}: {words}")));
        };
        if reload.is_none() {
            let socket = loaded.config.control.socket.display();
            output::line(&format!("no gateway answers at {socket}: not compared with a running one"));
        }
        keys(reload, "changed; takes effect on SIGHUP (`waypost reload`)");
        keys(needs_restart, "changed; needs restart");
        let count = loaded.problems.len();
        output::line(&match (ok, count) {
            (true, 0) => format!("{} is in order", path.display()),
            (true, _) => format!("{} can be used; warnings: {count}", path.display()),
            (false, _) => format!("{}: problems: {count}", path.display()),
        });
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
