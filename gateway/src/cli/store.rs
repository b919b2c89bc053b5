//! `store check`.

use std::path::Path;
use std::process::ExitCode;

use super::live::{ask, unexpected};
use super::output;
use crate::admin::{Answer, Request};

pub(super) fn check(path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let Answer::Findings(findings) = ask(path, &Request::CheckStore)? else { return Err(unexpected()) };
    if json {
        output::json(&serde_json::json!({ "ok": findings.is_empty(), "findings": findings }))?;
    } else {
        findings.iter().for_each(|finding| output::line(finding));
        output::line(&match findings.len() {
            0 => "the store is in order".to_owned(),
            count => format!("{count} findings; documents that are not named are not affected"),
        });
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
