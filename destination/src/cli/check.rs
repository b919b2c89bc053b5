//! `check`.

use std::path::PathBuf;

use crate::check::{Target, check};
use clap::Args;
use serde_json::json;

use super::Said;

#[derive(Args)]
pub(crate) struct CheckArguments {
    /// The server: https://HOST:PORT.
    url: String,
    /// A gateway's token; without one only what is public is tested.
    #[arg(long, env = "WAYPOST_CHECK_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The authority that the server's certificate is from, PEM. Default: the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A collection that the server takes.
    #[arg(long, default_value = "forms", value_name = "NAME")]
    collection: String,
}

/// Says what was found, and whether everything that was tested passed.
pub(crate) fn run(arguments: CheckArguments) -> anyhow::Result<(Said, bool)> {
    let CheckArguments { url, token, ca, collection } = arguments;
    let findings = check(&Target { url: url.clone(), token, ca_file: ca, collection })?;
    let mut text = String::new();
    for finding in &findings {
        let word = match finding.passed {
            Some(true) => "passed",
            Some(false) => "FAILED",
            None => "not tested",
        };
        text += &format!("{word:10}  {:17}  {}\n", finding.name, finding.requires);
        if let Some(reason) = &finding.reason {
            text += &format!("{:31}{reason}\n", "");
        }
    }
    let count = |wanted| findings.iter().filter(|finding| finding.passed == wanted).count();
    let (passed, failed, untested) = (count(Some(true)), count(Some(false)), count(None));
    text += &format!("{passed} passed, {failed} failed, {untested} not tested");
    let json = json!({
        "url": url, "passed": passed, "failed": failed, "untested": untested, "requirements": findings,
    });
    Ok((Said::new(text, json), failed == 0))
}
