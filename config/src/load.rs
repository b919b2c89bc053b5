//! Loading: `gateway.toml`, then `gateway.d/*.toml` by name, each changing what those before it said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use waypost_protocol::ids::GroupId;

use crate::config::Config;
use crate::problem::{Origin, Problem, Problems, Severity};
use crate::reader::{Reader, cut};
use crate::setting::Setting as _;
use crate::source::{self, Source};
use crate::value::{AccessMode, Keep};

/// Where systemd keeps the service's credentials while it runs, for commands that the admin runs beside it.
const CREDENTIALS: &str = "/run/credentials/waypost.service";
/// Syntax errors that are named in one file; after the first few, a parser mostly stumbles over its own recovery.
const MAX_SYNTAX_ERRORS: usize = 5;

/// A configuration, and everything that is wrong with it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What holds: defaults, changed by all that could be read. Not to be started with if [`Loaded::is_fatal`].
    pub config: Config,
    /// What is wrong, in the order of the files and of their lines.
    pub problems: Vec<Problem>,
    /// The files that were read or should have been, in the order in which they count.
    pub files: Vec<PathBuf>,
}

impl Loaded {
    /// Whether the gateway must not start with it, and a running one must keep what it has.
    pub fn is_fatal(&self) -> bool {
        self.worst() == Some(Severity::Fatal)
    }

    /// The severity of the worst problem.
    pub fn worst(&self) -> Option<Severity> {
        self.problems.iter().map(|problem| problem.severity).max()
    }

    /// The configuration, unless a problem is fatal; and all problems in either case.
    pub fn into_result(self) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        if self.is_fatal() { Err(self.problems) } else { Ok((self.config, self.problems)) }
    }
}

/// Loads a configuration file and its drop-in directory (`gateway.d` for `gateway.toml`; it may be missing).
///
/// Reads files only; whether those that the configuration names exist is not looked at here. Keys that it does not name are
/// the credentials that the service manager has handed over (systemd.exec(5), "Credentials"), where there are such.
pub fn load(path: &Path) -> Loaded {
    let (mut files, mut unreadable) = (vec![path.to_owned()], Vec::new());
    match source::drop_ins(&source::drop_in_directory(path)) {
        Ok(drop_ins) => files.extend(drop_ins),
        Err(problem) => unreadable.push(problem),
    }
    let mut sources = Vec::new();
    for file in &files {
        match Source::read(file) {
            Ok(source) => sources.push(source),
            Err(problem) => unreadable.push(problem),
        }
    }
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").unwrap_or_else(|| CREDENTIALS.into());
    let mut loaded = parse_with(&sources, Some(Path::new(&folder)));
    unreadable.append(&mut loaded.problems);
    Loaded { problems: unreadable, files, ..loaded }
}

/// Reads texts as if they were files, each changing what those before it said: tables key by key, values and lists of
/// values as a whole, `[[destination]]` tables by adding to them.
pub fn parse(sources: &[Source]) -> Loaded {
    parse_with(sources, None)
}

fn parse_with(sources: &[Source], credentials: Option<&Path>) -> Loaded {
    let mut config = Config::default();
    let mut problems = Problems::default();
    let mut origins = BTreeMap::new();
    let root = Config::fields();
    for source in sources {
        let (table, errors) = DeTable::parse_recoverable(source.text());
        if !errors.is_empty() {
            errors.iter().take(MAX_SYNTAX_ERRORS).for_each(|error| note_syntax(error, source, &mut problems));
            continue;
        }
        let span = table.span();
        let value = Spanned::new(span, DeValue::Table(table.into_inner()));
        let mut found = Problems::default();
        config.update(&value, &mut Reader::new(source, &root, &mut found, &mut origins));
        let mut found = found.into_vec();
        // Keys are read in the alphabet's order; people mend from the top down.
        found.sort_by(|a, b| (a.origin.is_none(), &a.origin).cmp(&(b.origin.is_none(), &b.origin)));
        found.into_iter().for_each(|problem| problems.push(problem.severity, || problem));
    }
    if let Some(folder) = credentials {
        take_credentials(&mut config, folder);
    }
    check(&mut config, &origins, &mut problems);
    let files = sources.iter().map(|source| source.path().to_owned()).collect();
    Loaded { config, problems: problems.into_vec(), files }
}

fn take_credentials(config: &mut Config, folder: &Path) {
    let there = |name| Some(folder.join(name)).filter(|path| path.exists());
    let (store, identity) = (&mut config.store.key_file, &mut config.identity.key_file);
    *store = store.take().or_else(|| there("waypost.store-key"));
    *identity = identity.take().or_else(|| there("waypost.identity"));
}

fn note_syntax(error: &toml::de::Error, source: &Source, problems: &mut Problems) {
    let span = error.span().unwrap_or(source.text().len()..source.text().len());
    let line = source.slice(&(span.start..source.text().len())).lines().next().unwrap_or_default();
    let found = match source.slice(&span) {
        "" if line.is_empty() && span.start >= source.text().trim_end().len() => {
            "the end of the file".to_owned()
        }
        "" if line.is_empty() => "the end of the line".to_owned(),
        "" => format!("`{}`", cut(line)),
        text => format!("`{}`", cut(text)),
    };
    problems.push(Severity::Fatal, || {
        let message = format!("not TOML: {}; found {found}; the file is not used", error.message());
        Problem::new(Severity::Fatal, Some(source.origin(span.start)), None, &message)
    });
}

/// What only shows once all files are read.
fn check(config: &mut Config, origins: &BTreeMap<String, Origin>, problems: &mut Problems) {
    let mut note = |severity, key: &str, message: &str| {
        let origin = origins.get(key).cloned();
        problems.push(severity, || Problem::new(severity, origin, Some(key), message));
    };
    let (access, limits) = (&config.access, &config.limits);
    if config.lan.enabled && config.lan.listen.is_empty() {
        config.lan.enabled = false;
        note(
            Severity::Error,
            "lan.listen",
            "no address to listen on, phones are not served over the LAN; add one",
        );
    }
    if access.mode == AccessMode::Listed && access.listed.is_empty() {
        note(Severity::Warning, "access.mode", "no phone is served: access.listed is empty; add keys there");
    }
    if access.mode != AccessMode::Listed && !access.listed.is_empty() {
        note(Severity::Warning, "access.listed", "has no effect unless access.mode is \"listed\"");
    }
    if limits.open_max_document > limits.max_document {
        let message = format!("more than limits.max_document ({}), which holds for all", limits.max_document);
        note(Severity::Warning, "limits.open_max_document", &message);
    }
    if config.upload.max_backoff < config.upload.probe_interval {
        let message =
            format!("shorter than upload.probe_interval ({}), which is used", config.upload.probe_interval);
        note(Severity::Warning, "upload.max_backoff", &message);
    }
    if config.store.quota.is_some_and(|quota| quota > config.store.map_size) {
        let message =
            format!("more than store.map_size ({}) can hold; raise that too", config.store.map_size);
        note(Severity::Warning, "store.quota", &message);
    }
    if config.store.key_file.is_none() {
        let message = "not set: the key lies beside the store, and who takes the disk can read sizes, times and labels; \
                       set it to a key that is kept elsewhere, or give one as a systemd credential";
        note(Severity::Warning, "store.key_file", message);
    }
    if config.remote_log.publish && !config.destination.is_empty() && !keeps_what_is_published(config) {
        let message = "documents are published while their bytes are here, and those go with the verdict: few are published, \
                       and those cross the backhaul twice; set keep of a [[destination]], or retain of a collection";
        note(Severity::Warning, "remote_log.publish", message);
    }
    if config.destination.is_empty() {
        note(
            Severity::Warning,
            "destination",
            "there is none, so no documents are taken; add a [[destination]]",
        );
    }
}

/// Whether bytes of any document that the remote log lists outlive the verdict.
fn keeps_what_is_published(config: &Config) -> bool {
    let listed = config.remote_log.collections.as_ref();
    let is_listed = |group: &GroupId| listed.is_none_or(|list| list.0.contains(group));
    config.destination.iter().any(|destination| {
        let mut collections = destination.collections.iter().flatten();
        destination.keep != Keep::UntilConfirmed
            || collections.any(|one| one.retain.is_some() && is_listed(&one.group))
    })
}
