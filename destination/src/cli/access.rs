//! `gateways` and `phone-code`: who may upload, and what they need.

use std::io;
use std::path::PathBuf;

use crate::Home;
use crate::clock::now;
use crate::store::{ClientKind, Quota, Records};
use crate::tls::certificate_hash_of_file;
use anyhow::bail;
use clap::Subcommand;
use data_encoding::BASE64URL_NOPAD;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use waypost_openpgp::Certificate;
use waypost_protocol::invite::{Destination, MAX_TEXT};
use zeroize::Zeroizing;

use super::Said;

/// The longest name of a destination in a gateway's configuration, in bytes.
const MAX_NAME: usize = 64;

#[derive(Subcommand)]
pub(crate) enum GatewaysCommand {
    /// Let a gateway upload; prints its token, once, and what to put into its settings.
    Add {
        /// A name for people.
        name: String,
        /// The gateway's TLS client certificate, PEM, in place of a token.
        #[arg(long, value_name = "FILE")]
        client_cert: Option<PathBuf>,
    },
    /// List them.
    List,
    /// Say how much a gateway may bring: what is new here counts, by the bytes of sealed documents. Days begin at 00:00 UTC.
    Set {
        /// As it was added.
        name: String,
        /// Bytes a day, 500MB or 2GiB say; `none` for no limit.
        #[arg(long, value_name = "BYTES", value_parser = bytes)]
        day: Option<Limit>,
        /// Documents a day; `none` for no limit.
        #[arg(long, value_name = "NUMBER", value_parser = number)]
        day_documents: Option<Limit>,
        /// Bytes in all; `none` for no limit.
        #[arg(long, value_name = "BYTES", value_parser = bytes)]
        total: Option<Limit>,
        /// Documents in all; `none` for no limit.
        #[arg(long, value_name = "NUMBER", value_parser = number)]
        total_documents: Option<Limit>,
        /// Bytes of its remote logs; `none` for as much as they leave free of `max_log_bytes`.
        #[arg(long, value_name = "BYTES", value_parser = bytes)]
        remote_log: Option<Limit>,
    },
    /// End a gateway's access, at once.
    Revoke {
        /// As it was added.
        name: String,
    },
}

/// A limit, or that there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit(Option<u64>);

fn bytes(text: &str) -> Result<Limit, String> {
    let wrong = || format!("{text:?} is no size: 500MB, 2GiB, a number of bytes, or none");
    match text {
        "none" => Ok(Limit(None)),
        text => {
            text.parse::<bytesize::ByteSize>().map(|size| Limit(Some(size.as_u64()))).map_err(|_| wrong())
        }
    }
}

fn number(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        text => text
            .parse()
            .map(|limit| Limit(Some(limit)))
            .map_err(|_| format!("{text:?} is neither a number nor none")),
    }
}

pub(crate) fn gateways(home: &Home, command: GatewaysCommand) -> anyhow::Result<Said> {
    let store = home.records()?;
    match command {
        GatewaysCommand::Add { name, client_cert } => add(home, &*store, &name, client_cert),
        GatewaysCommand::List => list(&*store),
        GatewaysCommand::Set { name, day, day_documents, total, total_documents, remote_log } => {
            let found = store.clients()?.into_iter().find(|client| client.name == name);
            let Some(client) = found else {
                bail!("no gateway {name:?}; see `waypost-destination gateways list`");
            };
            let mut quota = client.quota;
            for (limit, value) in [
                (&mut quota.day_bytes, day),
                (&mut quota.day_documents, day_documents),
                (&mut quota.total_bytes, total),
                (&mut quota.total_documents, total_documents),
                (&mut quota.log_bytes, remote_log),
            ] {
                if let Some(Limit(value)) = value {
                    *limit = value;
                }
            }
            store.set_quota(&name, &quota)?;
            let text = format!("{name} may bring {}", quota_words(&quota));
            Ok(Said::new(text, json!({ "name": name, "quota": quota, "used": client.used.at(now()) })))
        }
        GatewaysCommand::Revoke { name } => match store.revoke_client(&name, now())? {
            true => Ok(Said::new(format!("{name} may upload no more"), json!({ "revoked": name }))),
            false => bail!("no gateway {name:?} that may upload; see `waypost-destination gateways list`"),
        },
    }
}

fn add(home: &Home, store: &dyn Records, name: &str, client_cert: Option<PathBuf>) -> anyhow::Result<Said> {
    let (token, hash) = match &client_cert {
        Some(_) => (None, None),
        None => {
            let token = new_token()?;
            let hash = Sha256::digest(token.as_bytes()).into();
            (Some(token), Some(hash))
        }
    };
    let certificate = client_cert.as_deref().map(certificate_hash_of_file).transpose()?;
    if !store.add_client(name, ClientKind::Gateway, hash, certificate, now())? {
        bail!("there is a gateway {name:?} already; revoked ones keep their names, choose another");
    }
    let ours = slug(&home.settings().name);
    let (certificate, authority) = (home.certificate_file(), home.authority_file());
    let url = home.settings().url.clone().unwrap_or_else(|| "https://HOST:8443".to_owned());
    // TOML's own quotes: a URL may have characters that other quotes write in another way.
    let url = toml::Value::from(url);
    let mut snippet = format!(
        "[[destination]]\nname = \"{ours}\"\nurl = {url}\ncertificate = \"/etc/waypost/{ours}.pgp\"\n"
    );
    match &token {
        Some(_) => snippet += &format!("token_file = \"/etc/waypost/{ours}.token\"\n"),
        None => {
            snippet += &format!(
                "client_certificate = \"/etc/waypost/{ours}-client.pem\"\n\
                 client_key = \"/etc/waypost/{ours}-client.key\"\n"
            );
        }
    }
    if authority.is_some() {
        snippet += &format!("ca_file = \"/etc/waypost/{ours}-ca.pem\"\n");
    }
    let mut text = format!("{name} may upload.\n\n");
    if let Some(token) = &token {
        text +=
            &format!("Its token, shown this once; put it into /etc/waypost/{ours}.token:\n\n{}\n\n", **token);
    }
    if let Some(file) = &client_cert {
        text += &format!(
            "Put its client certificate ({}) into /etc/waypost/{ours}-client.pem on the gateway, and the key of it \
             into /etc/waypost/{ours}-client.key, or change the two paths below.\n\n",
            file.display()
        );
    }
    text += &format!("Copy {} to /etc/waypost/{ours}.pgp", certificate.display());
    if let Some(authority) = &authority {
        text += &format!(",\nand {} to /etc/waypost/{ours}-ca.pem", authority.display());
    }
    text += &format!(".\nPut this into the gateway's settings:\n\n{snippet}");
    let json = json!({
        "name": name,
        "token": token.as_ref().map(|token| token.as_str()),
        "snippet": snippet,
        "destination": ours,
        "url": home.settings().url,
        "fingerprint": home.destination(),
        "certificate_file": certificate,
        "ca_file": authority,
    });
    Ok(Said::new(text, json))
}

fn list(store: &dyn Records) -> anyhow::Result<Said> {
    let clients = store.clients()?;
    let mut text = String::new();
    for client in &clients {
        let kind = match client.kind {
            ClientKind::Gateway => "gateway",
            ClientKind::Phone => "phones",
        };
        let by = match (client.client_certificate, client.token) {
            (true, _) => "client certificate",
            (false, true) => "token",
            (false, false) => "sticks",
        };
        let state = client.revoked.map_or_else(|| "may upload".to_owned(), |time| format!("revoked {time}"));
        let (name, created, documents) = (&client.name, client.created, client.documents);
        text += &format!("{name:24} {kind:8} {by:18} {state:30} since {created}  {documents} documents");
        match client.quota == Quota::default() {
            true => text += "\n",
            false => text += &format!("  may bring {}\n", quota_words(&client.quota)),
        }
    }
    if clients.is_empty() {
        text += "no gateways yet; add one with `waypost-destination gateways add NAME`";
    }
    Ok(Said::new(text, json!({ "gateways": clients })))
}

/// Prints the code with which phones add this destination.
pub(crate) fn phone_code(home: &Home, token: Option<String>) -> anyhow::Result<Said> {
    let token = match token {
        Some(name) => {
            let token = new_token()?;
            let hash = Sha256::digest(token.as_bytes()).into();
            let store = home.records()?;
            if !store.add_client(&name, ClientKind::Phone, Some(hash), None, now())? {
                bail!("the name {name:?} is taken; choose another for these phones' token");
            }
            Some(token)
        }
        None => None,
    };
    let mut code = Destination {
        url: home.settings().url.clone(),
        fingerprint: home.destination(),
        certificate: Some(home.certificate().to_bytes()),
        successors: home.chain().certificates().iter().skip(1).map(Certificate::fingerprint).collect(),
        collection_key: home.collection_key().clone(),
        collections: home.settings().collections.clone(),
        token,
    };
    if code.to_text().len() > MAX_TEXT && code.url.is_some() {
        // Phones then fetch it, and compare the fingerprint.
        code.certificate = None;
    }
    let text = code.to_text();
    if text.len() > MAX_TEXT {
        bail!(
            "the code would have {} bytes, at most {MAX_TEXT} fit; take a smaller certificate, fewer collections, or \
             set `url` in destination.toml so that phones fetch the certificate",
            text.len()
        );
    }
    let picture = QrCode::with_error_correction_level(&text, EcLevel::L)
        .map(|code| code.render::<Dense1x2>().quiet_zone(true).build())
        .unwrap_or_default();
    let json = json!({ "text": text, "fingerprint": home.destination() });
    Ok(Said::new(format!("{picture}\n{text}\nfingerprint: {}", home.destination()), json))
}

fn quota_words(quota: &Quota) -> String {
    let size = |limit: Option<u64>| limit.map(|bytes| bytesize::ByteSize(bytes).to_string());
    let count = |limit: Option<u64>| limit.map(|documents| format!("{documents} documents"));
    let limits = [
        size(quota.day_bytes).map(|limit| limit + " a day"),
        count(quota.day_documents).map(|limit| limit + " a day"),
        size(quota.total_bytes).map(|limit| limit + " in all"),
        count(quota.total_documents).map(|limit| limit + " in all"),
        size(quota.log_bytes).map(|limit| limit + " of remote logs"),
    ];
    let limits: Vec<_> = limits.into_iter().flatten().collect();
    if limits.is_empty() { "as much as it wants".to_owned() } else { limits.join(", ") }
}

/// 32 random bytes as text.
fn new_token() -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    rand_core::TryRngCore::try_fill_bytes(&mut rand_core::OsRng, bytes.as_mut_slice())
        .map_err(io::Error::other)?;
    Ok(Zeroizing::new(BASE64URL_NOPAD.encode(bytes.as_slice())))
}

/// The name as gateways write it and name files by it: letters and digits, others as `-`, not longer than they take.
fn slug(name: &str) -> String {
    let lower = name.to_lowercase();
    let words: Vec<_> =
        lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut slug = words.join("-");
    slug.truncate(MAX_NAME);
    match slug.trim_end_matches('-') {
        "" => "destination".to_owned(),
        slug => slug.to_owned(),
    }
}
