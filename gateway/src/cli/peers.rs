//! `peers list|revoke`.

use std::path::Path;
use std::process::ExitCode;

use waypost_config::printable;

use super::live::{ask, unexpected};
use super::output;
use crate::admin::{Answer, Request};

pub(super) fn list(path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let Answer::Peers(peers) = ask(path, &Request::Peers)? else { return Err(unexpected()) };
    if json {
        peers.iter().try_for_each(output::json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = peers
        .iter()
        .map(|peer| {
            vec![
                peer.key.to_string(),
                printable(&peer.label).to_string(),
                if peer.revoked { "revoked".into() } else { peer.class.clone() },
                peer.documents.to_string(),
                output::bytes(peer.bytes),
                peer.last_contact.to_string(),
            ]
        })
        .collect();
    match rows.is_empty() {
        true => output::line("no peers yet; `waypost pair` makes a code for a phone"),
        false => output::table(&["KEY", "LABEL", "CLASS", "DOCUMENTS", "BYTES", "LAST CONTACT"], &rows),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn revoke(path: &Path, json: bool, peer: String) -> anyhow::Result<ExitCode> {
    let Answer::Revoked(key) = ask(path, &Request::Revoke { peer })? else { return Err(unexpected()) };
    match json {
        true => output::json(&serde_json::json!({ "revoked": key }))?,
        false => output::line(&format!("{key} is revoked; nothing is taken from it any more")),
    }
    Ok(ExitCode::SUCCESS)
}
