//! `destinations reset`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use waypost_protocol::ids::Fingerprint;
use waypost_protocol::succession;

use super::live::{ask, config, unexpected};
use super::output;
use crate::admin::{Answer, Request};
use crate::destinations::{Destinations, Served};

pub(super) fn reset(path: &Path, json: bool, named: &str) -> anyhow::Result<ExitCode> {
    let served = find(path, named)?;
    let links = served.configured_chain().map(|chain| chain.links()).unwrap_or_default();
    let (destination, configured) = (served.fingerprint, succession::encode(&links));
    let reset = Request::ResetCertificates { destination, configured };
    let Answer::Reset(destination) = ask(path, &reset)? else { return Err(unexpected()) };
    match json {
        true => output::json(&serde_json::json!({ "reset": destination }))?,
        false => output::line(&format!(
            "{destination}: only the certificates in the configured file count now, and what they vouch for from here on"
        )),
    }
    Ok(ExitCode::SUCCESS)
}

fn find(path: &Path, named: &str) -> anyhow::Result<Served> {
    let (destinations, problems) = Destinations::load(&config(path)?);
    let fingerprint = Fingerprint::from_hex(named).ok();
    let fits = |name: &str, one: &Fingerprint| name == named || Some(*one) == fingerprint;
    let found = destinations.0.iter().find(|one| fits(one.config.name.as_str(), &one.fingerprint));
    if let Some(found) = found {
        return Ok(found.clone());
    }
    if let Some(problem) = problems.first() {
        bail!("no destination {named}; {problem}");
    }
    let names: Vec<&str> = destinations.0.iter().map(|one| one.config.name.as_str()).collect();
    Err(anyhow!("no destination {named} in the configuration; it has {}", names.join(", ")))
}
