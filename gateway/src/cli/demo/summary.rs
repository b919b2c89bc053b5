//! The demo's end: what arrived is compared with what was sent, and said in words or as one JSON object.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use waypost_config::printable;

use super::files::{same, scan};
use super::stage::Stage;
use crate::cli::output;

/// What the demo counted.
pub(super) struct Outcome {
    pub(super) sealed: usize,
    pub(super) left: usize,
    pub(super) skipped: Vec<(PathBuf, String)>,
    pub(super) seconds: f64,
    pub(super) uploaded_bytes: u64,
    pub(super) link_bytes: u64,
}

/// Compares, prints, and gives the exit status.
pub(super) fn report(
    stage: &Stage,
    folder: &Path,
    files: &[PathBuf],
    outcome: Outcome,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let Outcome { sealed, left, skipped, seconds, uploaded_bytes, link_bytes } = outcome;
    let inbox = stage.inbox();
    let (mut delivered, mut document_bytes, mut wrong) = (0usize, 0, Vec::new());
    for file in files.iter().filter(|file| skipped.iter().all(|(path, _)| path != *file)) {
        match same(&folder.join(file), &inbox.join(file)) {
            Ok(true) => {
                delivered += 1;
                document_bytes += std::fs::metadata(folder.join(file))?.len();
            }
            Ok(false) => wrong.push((file, "differs from its source".to_owned())),
            Err(error) => wrong.push((file, format!("did not arrive: {error}"))),
        }
    }
    let all_well = wrong.is_empty() && left == 0 && delivered == sealed;
    let confirmations = stage.confirmations();
    let signed =
        scan(&confirmations).files.into_iter().find(|file| file.extension().is_some_and(|end| end == "txt"));
    if json {
        let skipped: Vec<_> = skipped
            .iter()
            .map(|(path, reason)| json!({ "path": String::from_utf8_lossy(path.as_os_str().as_bytes()), "reason": reason }))
            .collect();
        output::json(&json!({
            "documents": sealed,
            "delivered": delivered,
            "skipped": skipped,
            "left_on_phone": left,
            "document_bytes": document_bytes,
            "link_bytes": link_bytes,
            "upload_bytes": uploaded_bytes,
            "inbox": inbox,
            "confirmations": confirmations,
            "destination_certificate": stage.certificate(),
            "seconds": (seconds * 1000.0).round() / 1000.0,
        }))?;
    } else {
        output::line("");
        output::line(&format!(
            "{delivered} of {sealed} documents arrived byte for byte, {} of content",
            output::bytes(document_bytes)
        ));
        output::line(&format!(
            "{} over the link to the phone, {} over the backhaul, {seconds:.1} s in all",
            output::bytes(link_bytes),
            output::bytes(uploaded_bytes)
        ));
        output::line(&format!("{left} documents are left on the phone"));
        output::line(&format!("inbox:         {}", inbox.display()));
        output::line(&format!("confirmations: {}", confirmations.display()));
        for (path, reason) in &skipped {
            output::line(&format!("skipped: {}: {}", printable(&path.to_string_lossy()), printable(reason)));
        }
        for (path, reason) in &wrong {
            output::line(&format!("WRONG: {}: {reason}", printable(&path.to_string_lossy())));
        }
        if let Some(text) = signed {
            let text = confirmations.join(text);
            output::line("\nCheck a confirmation yourself:");
            output::line(&format!(
                "  export GNUPGHOME=$(mktemp -d); gpg -q --import '{}'; gpg --verify '{}.asc' '{}'",
                stage.certificate().display(),
                text.display(),
                text.display()
            ));
        }
    }
    Ok(match (all_well, skipped.is_empty()) {
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::from(3),
        (false, _) => ExitCode::FAILURE,
    })
}
