//! `open`, `confirmations`, `status`.

use std::path::PathBuf;

use crate::Home;
use crate::clock::now;
use crate::confirmations::export_all;
use crate::opener::open_held;
use crate::server::lock_opener;
use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::json;
use waypost_openpgp::SecretKey;
use zeroize::Zeroizing;

use super::Said;

#[derive(Subcommand)]
pub(crate) enum ConfirmationsCommand {
    /// Write every confirmation as NAME.txt and its signature NAME.txt.asc.
    Export {
        /// The folder to write to; made where it is missing.
        folder: PathBuf,
    },
}

pub(crate) fn confirmations(home: &Home, command: ConfirmationsCommand) -> anyhow::Result<Said> {
    let ConfirmationsCommand::Export { folder } = command;
    let at = || folder.display().to_string();
    std::fs::create_dir_all(&folder).with_context(at)?;
    let count = export_all(&*home.records()?, &folder)?.with_context(at)?;
    let text =
        format!("{count} confirmations in {}; check one with `gpg --verify NAME.txt.asc NAME.txt`", at());
    Ok(Said::new(text, json!({ "confirmations": count, "folder": folder })))
}

pub(crate) fn open(home: &Home, key: Option<PathBuf>) -> anyhow::Result<Said> {
    let key = match key {
        Some(path) => {
            let bytes = Zeroizing::new(std::fs::read(&path).with_context(|| path.display().to_string())?);
            SecretKey::from_bytes(&bytes).with_context(|| path.display().to_string())?
        }
        None => home.key().clone(),
    };
    if !key.can_open() {
        bail!("this key cannot decrypt; give the one that can with --key FILE");
    }
    let _lock = lock_opener(home).context("held documents are being opened already; wait for that")?;
    let report = open_held(home, key)?;
    let text =
        format!("opened {}, rejected {}, still held {}", report.opened, report.rejected, report.failed);
    Ok(Said::new(text, json!(report)))
}

pub(crate) fn status(home: &Home) -> anyhow::Result<Said> {
    let store = home.records()?;
    let counts = store.counts()?;
    let gateways = store.clients()?.into_iter().filter(|client| client.revoked.is_none()).count();
    let mut text = format!(
        "{} ({})\nurl: {}\ncollections: {}\ngateways and phones that may upload: {gateways}\n\
         documents: {} opened, {} held, {} rejected\nconfirmations: {}\ninbox: {}\n",
        home.settings().name,
        home.destination(),
        home.settings().url.as_deref().unwrap_or("not set"),
        home.settings().collections.join(", "),
        counts.opened,
        counts.held,
        counts.rejected,
        counts.confirmations,
        home.inbox(),
    );
    if counts.held > 0 {
        text += "open held documents with `waypost-destination open --key FILE`\n";
    }
    if let Some(webhook) = &home.settings().webhook {
        text += &format!("webhook: {}, {} documents to tell it of\n", webhook.url, counts.notices);
    }
    let (expires, warning) = (home.key_expires(now()), home.key_warning(now()));
    if let Some(warning) = &warning {
        text += &format!("warning: {warning}\n");
    }
    let json = json!({
        "name": home.settings().name,
        "fingerprint": home.destination(),
        "url": home.settings().url,
        "collections": home.settings().collections,
        "gateways": gateways,
        "documents": counts,
        "inbox": home.inbox(),
        "key_expires": expires,
        "key_warning": warning,
        "webhook": home.settings().webhook.as_ref().map(|webhook| webhook.url.as_str()),
        "confirmations": home.confirmations_folder(),
    });
    Ok(Said::new(text, json))
}
