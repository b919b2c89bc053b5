//! `gateways` and `phone-code`: who may upload, and what they need.

use std::io;
use std::path::PathBuf;

use anyhow::bail;
use clap::Subcommand;
use data_encoding::BASE64URL_NOPAD;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use waypost_destination::Home;
use waypost_destination::clock::now;
use waypost_destination::store::{ClientKind, Store};
use waypost_destination::tls::certificate_hash_of_file;
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
    /// End a gateway's access, at once.
    Revoke {
        /// As it was added.
        name: String,
    },
}

pub(crate) fn gateways(home: &Home, command: GatewaysCommand) -> anyhow::Result<Said> {
    let store = Store::open(&home.store_file())?;
    match command {
        GatewaysCommand::Add { name, client_cert } => add(home, &store, &name, client_cert),
        GatewaysCommand::List => list(&store),
        GatewaysCommand::Revoke { name } => match store.revoke_client(&name, now())? {
            true => Ok(Said::new(format!("{name} may upload no more"), json!({ "revoked": name }))),
            false => bail!("no gateway {name:?} that may upload; see `waypost-destination gateways list`"),
        },
    }
}

fn add(home: &Home, store: &Store, name: &str, client_cert: Option<PathBuf>) -> anyhow::Result<Said> {
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

fn list(store: &Store) -> anyhow::Result<Said> {
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
        text += &format!("{name:24} {kind:8} {by:18} {state:30} since {created}  {documents} documents\n");
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
            let store = Store::open(&home.store_file())?;
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
