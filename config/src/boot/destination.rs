//! Destinations of the boot file: as in gateway.toml, but certificates and tokens may stand in the file itself.

use std::ops::Range;

use serde::Serialize;
use toml::de::DeTable;

use super::value::{Material, Secret};
use crate::destination::{Collection, MAX_DESTINATIONS};
use crate::problem::{Origin, Problem, Severity};
use crate::reader::Reader;
use crate::setting::section;
use crate::tables::{self, Entry, tables_of};
use crate::value::{FileName, HttpsUrl, Keep, Name};

/// A destination, with what the gateway needs for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BootDestination {
    /// How people call it; unique.
    pub name: Name,
    /// Base address of its API.
    pub url: HttpsUrl,
    /// Its OpenPGP certificate.
    pub certificate: Material,
    /// How the gateway proves who it is.
    pub credentials: BootCredentials,
    /// The only authorities that its TLS certificate may come from; absent: the public ones.
    pub ca: Option<Material>,
    /// Collections that are carried; absent: all.
    pub collections: Option<Vec<Collection>>,
    /// How long bodies stay after the verdict.
    pub keep: Keep,
    /// Where it was configured.
    #[serde(skip)]
    pub origin: Option<Origin>,
}

/// How the gateway proves to a destination who it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum BootCredentials {
    /// Not at all.
    None,
    /// By a bearer token.
    Token(Secret),
    /// By a bearer token in a file beside the boot file.
    TokenFile(FileName),
    /// By a TLS client certificate and its key.
    Certificate {
        /// The chain, in PEM.
        certificate: Material,
        /// In PEM.
        key: Material,
    },
}

section! {
    /// A server that documents are addressed to; one such table for each.
    #[schemars(rename = "BootDestination")]
    pub(crate) struct Draft {
        /// How people call it, in lists and logs: up to 64 bytes, unique. Needed.
        [boot] name: Option<Name> = None, example "\"ministry\"";
        /// Base address of its API; https only. Needed.
        [boot] url: Option<HttpsUrl> = None, example "\"https://example.org/waypost\"";
        /// Its OpenPGP certificate: the name of a file beside this one, or the armored text between three quotes on each
        /// side. It is the destination's name for ever. Needed.
        #[schemars(with = "String")]
        [boot] certificate: Option<Material> = None, example "\"ministry.asc\"";
        /// The bearer token that the destination gave this gateway (there: `gateways add`). It is moved off this card once
        /// read.
        #[schemars(with = "String")]
        [boot] token: Option<Secret> = None, example "\"the-token\"";
        /// The same in a file beside this one, which stays there, readable to whoever takes the card.
        [boot] token_file: Option<FileName> = None, example "\"ministry.token\"";
        /// In place of a token: the gateway's TLS client certificate, the chain after it, in PEM; a file or the text.
        #[schemars(with = "String")]
        [boot] client_certificate: Option<Material> = None, example "\"kiosk.pem\"";
        /// That certificate's key, in PEM; a file, or the text, which is moved off this card once read.
        #[schemars(with = "String")]
        [boot] client_key: Option<Material> = None, example "\"kiosk.key\"";
        /// The only authorities that the destination's TLS certificate may come from, in PEM; a file or the text. Absent,
        /// the public ones are trusted.
        #[schemars(with = "String")]
        [boot] ca: Option<Material> = None, example "\"ministry-ca.pem\"";
        /// Collections that are carried, as in gateway.toml. Absent, all.
        [boot] collections: Option<Vec<Collection>> = None,
            example "[{ label = \"forms\", group = \"0000000000000000000000000000000000000000000000000000000000000000\" }]";
        /// How long bytes stay after the destination's verdict: "until-confirmed", a duration such as "30d", or "always".
        [boot] keep: Keep = Keep::UntilConfirmed;
    }
}

impl BootDestination {
    /// Something that is wrong with it, at the place where it was configured. `key` is one of its keys.
    pub fn problem(&self, severity: Severity, key: &str, message: &str) -> Problem {
        tables::problem(self, severity, key, message)
    }
}

impl Entry for BootDestination {
    type Draft = Draft;
    const KEY: &'static str = "destination";
    const MOST: usize = MAX_DESTINATIONS;

    fn name(&self) -> &Name {
        &self.name
    }

    fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    fn changed(&self, other: &Self) -> Vec<&'static str> {
        if self == other { Vec::new() } else { vec!["url"] }
    }

    fn finish(
        draft: Draft,
        table: &DeTable<'_>,
        header: Range<usize>,
        reader: &mut Reader<'_>,
    ) -> Option<Self> {
        tables::need(
            &[
                ("name", "name = \"ministry\""),
                ("url", "url = \"https://example.org\""),
                ("certificate", "certificate = \"ministry.asc\""),
            ],
            table,
            &header,
            reader,
        );
        let proofs: Vec<&str> = ["token", "token_file", "client_certificate", "client_key"]
            .into_iter()
            .filter(|key| table.contains_key(*key))
            .collect();
        let place = |key: &str| table.get_key_value(key).map_or(header.clone(), |(key, _)| key.span());
        if let Some(Secret::Given(token)) = &draft.token
            && (token.trim().is_empty() || !token.trim().bytes().all(|byte| byte.is_ascii_graphic()))
        {
            reader.error(place("token"), || "expected the token in one line without spaces".to_owned());
        }
        let Draft { token, token_file, client_certificate, client_key, .. } = draft;
        let credentials = match (token, token_file, client_certificate, client_key) {
            (Some(token), None, None, None) => BootCredentials::Token(token),
            (None, Some(file), None, None) => BootCredentials::TokenFile(file),
            (None, None, Some(certificate), Some(key)) => BootCredentials::Certificate { certificate, key },
            _ => BootCredentials::None,
        };
        match proofs.as_slice() {
            [] => reader.warn(header.clone(), || {
                "no credentials: the destination will refuse uploads unless it takes them from anyone; set token"
                    .to_owned()
            }),
            ["token"] | ["token_file"] | ["client_certificate", "client_key"] => {}
            [half @ ("client_certificate" | "client_key")] => reader.error(place(half), || {
                "client_certificate and client_key need each other; add the other one".to_owned()
            }),
            [first, ..] => reader.error(place(first), || {
                format!("{} exclude each other; keep the token, or the certificate with its key", proofs.join(", "))
            }),
        }
        let Draft { name, url, certificate, ca, collections, keep, .. } = draft;
        let origin = Some(reader.source().origin(header.start));
        Some(BootDestination {
            name: name?,
            url: url?,
            certificate: certificate?,
            credentials,
            ca,
            collections,
            keep,
            origin,
        })
    }
}

tables_of!(BootDestination);
