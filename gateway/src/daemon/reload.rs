//! A configuration that is read again, and what it could not be used for.

use std::sync::Arc;

use waypost_config::Problem;

use super::{Daemon, access};
use crate::destinations::Destinations;
use crate::{logging, setup};

impl Daemon {
    /// Reads the configuration again and puts into effect what can be without a restart.
    pub(super) fn reload(&mut self) -> (Vec<Problem>, Vec<waypost_config::Change>) {
        let loaded = waypost_config::load(&self.path);
        if loaded.is_fatal() {
            log_problems(&loaded.problems);
            log::error!("the configuration is not used; the one before goes on");
            return (loaded.problems, Vec::new());
        }
        let changes = waypost_config::reload_diff(&self.config, &loaded.config);
        let config = waypost_config::after_reload(&self.config, &loaded.config);
        let upload_changed = config.upload != self.config.upload
            || config.remote_log != self.config.remote_log
            || config.limits.max_priority != self.config.limits.max_priority;
        let (mut destinations, found) = Destinations::load(&config);
        destinations.go_on(&self.destinations, &self.shared.store);
        log_problems(loaded.problems.iter().chain(&found));
        let problems: Vec<Problem> = loaded.problems.into_iter().chain(found).collect();
        self.problems = unusable(&problems);
        (self.config, self.destinations) = (Arc::new(config), Arc::new(destinations));
        (self.host.config, self.host.destinations) = (self.config.clone(), self.destinations.clone());
        logging::set_level(self.config.log.level);
        self.node.set_limits(setup::limits(&self.config));
        self.set_hello();
        self.node.narrow_wants(&self.destinations.subscribable());
        self.end_unserved();
        self.look_at_backhauls(Some(self.config.backhaul.clone()), None);
        self.start_uploads(upload_changed);
        self.look_for_sticks();
        self.start_folder_log();
        self.tell_everyone();
        log::info!(changed = changes.len(); "configuration read again");
        for change in &changes {
            let when = if change.needs_restart { "needs restart" } else { "in effect" };
            log::info!("{}: {when}", change.key);
        }
        (problems, changes)
    }

    /// Ends the sessions of peers that the configuration no longer lets in.
    fn end_unserved(&mut self) {
        for peer in self.node.peers() {
            if let Err(reason) = access::still_served(&self.config, &self.shared.store, &peer) {
                self.node.end_peer(&peer, reason);
            }
        }
    }
}

pub(super) fn unusable<'a>(problems: impl IntoIterator<Item = &'a Problem>) -> Vec<String> {
    let errors = problems.into_iter().filter(|problem| problem.severity != waypost_config::Severity::Warning);
    errors.map(ToString::to_string).collect()
}

pub(super) fn log_problems<'a>(problems: impl IntoIterator<Item = &'a Problem>) {
    for problem in problems {
        match problem.severity {
            waypost_config::Severity::Warning => log::warn!("{problem}"),
            waypost_config::Severity::Error | waypost_config::Severity::Fatal => log::error!("{problem}"),
        }
    }
}
