//! `key`: new subkeys, successors, revocations.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Home;
use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use waypost_openpgp::{SecretKey, armor_detached};
use waypost_protocol::ids::Fingerprint;
use waypost_protocol::succession::Statement;
use zeroize::Zeroizing;

use super::Said;

const RESTART: &str = "start the server anew so that it uses it: `waypost-destination run`";

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Show the certificates of the destination, the first one first.
    List,
    /// Make new subkeys to sign and to encrypt to; documents that were sealed to the old ones still open.
    Renew {
        /// For how long the key shall be valid from now on: 90d, 8w, 2y. Default: its dates stay as they are.
        #[arg(long = "for", value_name = "SPAN", value_parser = span)]
        span: Option<Duration>,
    },
    /// Name a successor of the key, which signs from then on. Gateways and phones follow by themselves.
    #[command(group = clap::ArgGroup::new("which").required(true))]
    Succeed {
        /// The file of its secret key, OpenPGP without passphrase.
        #[arg(long, value_name = "FILE", group = "which")]
        to: Option<PathBuf>,
        /// Make a new one.
        #[arg(long, group = "which")]
        new: bool,
    },
    /// Print the statements with which old keys name their successors.
    Statement {
        /// Write them as SUCCESSOR.txt and SUCCESSOR.txt.asc into this folder instead, for `gpg --verify`.
        #[arg(long, value_name = "FOLDER")]
        to: Option<PathBuf>,
    },
    /// Revoke a key that has a successor: nothing that it signs counts any more, whatever the date.
    Revoke {
        /// Its fingerprint.
        fingerprint: Fingerprint,
        /// It is only retired: what it signed until now counts on.
        #[arg(long)]
        retired: bool,
    },
}

fn span(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?}: expected a number with d, w or y, such as 2y");
    let at = text.len().saturating_sub(1);
    let (number, unit) = text.split_at_checked(at).ok_or_else(expected)?;
    let days = match unit {
        "d" => 1,
        "w" => 7,
        "y" => 365,
        _ => return Err(expected()),
    };
    let number: u64 =
        number.parse().ok().filter(|number| (1..=36_500).contains(number)).ok_or_else(expected)?;
    Ok(Duration::from_secs(number * days * 86_400))
}

pub(crate) fn key(home: &Home, command: KeyCommand) -> anyhow::Result<Said> {
    match command {
        KeyCommand::List => Ok(list(home)),
        KeyCommand::Renew { span } => {
            home.renew_key(span)?;
            let fingerprint = home.key().certificate().fingerprint();
            let text = format!("key {fingerprint} has new subkeys\n{RESTART}");
            Ok(Said::new(text, json!({ "fingerprint": fingerprint })))
        }
        KeyCommand::Succeed { to, .. } => {
            let successor = to.as_deref().map(read_secret).transpose()?;
            let by = home.key().certificate().fingerprint();
            let successor = home.succeed_key(successor)?;
            let text = format!(
                "{by} is succeeded by {successor}; the destination is called {} as before\nkeep the old secret as long \
                 as documents may be sealed to it, and back up `keys/`\n{RESTART}",
                home.destination()
            );
            Ok(Said::new(text, json!({ "successor": successor, "by": by })))
        }
        KeyCommand::Statement { to } => statement(home, to.as_deref()),
        KeyCommand::Revoke { fingerprint, retired } => {
            let newest = home.chain().certificates().last().map(|newest| newest.fingerprint());
            if newest == Some(fingerprint) {
                bail!(
                    "{fingerprint} has no successor; name one first with `waypost-destination key succeed --new`"
                );
            }
            home.revoke_key(&fingerprint, !retired)?;
            let text = format!("revoked {fingerprint}\n{RESTART}");
            Ok(Said::new(text, json!({ "revoked": fingerprint })))
        }
    }
}

fn read_secret(path: &Path) -> anyhow::Result<SecretKey> {
    let bytes = Zeroizing::new(std::fs::read(path).with_context(|| path.display().to_string())?);
    SecretKey::from_bytes(&bytes).with_context(|| path.display().to_string())
}

fn list(home: &Home) -> Said {
    let present = home.key().certificate().fingerprint();
    let mut text = String::new();
    let mut keys = Vec::new();
    for link in home.chain().certificates() {
        let fingerprint = link.fingerprint();
        let (signs, revoked) = (fingerprint == present, link.is_hard_revoked());
        let state = match (revoked, signs) {
            (true, _) => "revoked",
            (false, true) => "signs",
            (false, false) => "opens what is older",
        };
        text += &format!("{fingerprint}  {state}\n");
        keys.push(json!({ "fingerprint": fingerprint, "signs": signs, "revoked": revoked }));
    }
    Said::new(text, json!({ "fingerprint": home.destination(), "keys": keys }))
}

fn statement(home: &Home, to: Option<&Path>) -> anyhow::Result<Said> {
    let (mut text, mut statements) = (String::new(), Vec::<Value>::new());
    for (link, certificate) in home.chain().links().iter().zip(home.chain().certificates()) {
        let Some(word) = &link.word else { continue };
        let successor = certificate.fingerprint();
        let statement =
            Statement { destination: link.destination, signer: word.signer, successor, time: word.time };
        let (words, signature) = (statement.text(), armor_detached(&word.signature));
        match to {
            None => text += &format!("{words}\n{signature}\n"),
            Some(folder) => {
                let file = folder.join(format!("{successor}.txt"));
                let at = || file.display().to_string();
                std::fs::create_dir_all(folder).with_context(at)?;
                std::fs::write(&file, &words).with_context(at)?;
                std::fs::write(folder.join(format!("{successor}.txt.asc")), &signature).with_context(at)?;
                text += &format!("{}\n", file.display());
            }
        }
        statements.push(json!({ "successor": successor, "text": words, "signature": signature }));
    }
    if statements.is_empty() {
        text += "the key has no successor yet; name one with `waypost-destination key succeed --new`";
    }
    Ok(Said::new(text, json!({ "statements": statements })))
}
