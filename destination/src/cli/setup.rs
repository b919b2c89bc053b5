//! `init`.

use std::path::{Path, PathBuf};

use crate::home::{Home, Init};
use clap::Args;
use serde_json::json;

use super::Said;

#[derive(Args)]
pub(crate) struct InitArguments {
    /// A name for people, also in the key's user id.
    #[arg(long, default_value = "Waypost destination")]
    name: String,
    /// Where gateways and phones reach it: https://HOST:PORT.
    #[arg(long)]
    url: Option<String>,
    /// A collection to take; may be given several times. Default: forms.
    #[arg(long = "collection", value_name = "NAME")]
    collections: Vec<String>,
    /// Host name or address of the TLS certificate that is made; may be given several times. Default: the URL's.
    #[arg(long, value_name = "HOST", conflicts_with = "tls_cert")]
    self_signed: Vec<String>,
    /// The server's TLS certificates, PEM, if it has some.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Their key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// A secret key to sign with, OpenPGP without passphrase, in place of a new one. Where it cannot decrypt,
    /// documents are held until `open` is called with the key that can.
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
    /// The whole certificate of that key, where the file has only some of its subkeys.
    #[arg(long, value_name = "FILE", requires = "signing_key")]
    certificate: Option<PathBuf>,
}

pub(crate) fn init(path: &Path, arguments: InitArguments) -> anyhow::Result<Said> {
    let InitArguments { name, url, collections, self_signed, tls_cert, tls_key, signing_key, certificate } =
        arguments;
    if let Some(url) = url.as_deref().filter(|url| !url.starts_with("https://")) {
        anyhow::bail!("{url:?} is no address of this server; it begins with https://");
    }
    let init =
        Init { name, url, collections, self_signed, tls: tls_cert.zip(tls_key), signing_key, certificate };
    let home = Home::init(path, &init)?;
    let authority = home.authority_file();
    let json = json!({
        "home": home.path(),
        "fingerprint": home.destination(),
        "certificate": home.certificate_file(),
        "ca": authority,
        "can_open": home.key().can_open(),
    });
    let mut text = format!(
        "made {}\nfingerprint: {}\ncertificate: {}\n",
        home.path().display(),
        home.destination(),
        home.certificate_file().display()
    );
    if let Some(authority) = authority {
        text += &format!("certificate authority for gateways: {}\n", authority.display());
    }
    if !home.key().can_open() {
        text += "documents will be held: open them with `waypost-destination open --key FILE`\n";
    }
    text += "next: `waypost-destination gateways add NAME`, `waypost-destination phone-code`, \
        `waypost-destination run`";
    Ok(Said::new(text, json))
}
