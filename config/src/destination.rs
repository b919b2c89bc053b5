//! Destinations: what a `[[destination]]` table says, and the valid destination that comes of it.

use std::ops::Range;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use waypost_protocol::ids::GroupId;

use crate::problem::{Origin, Problem, Severity};
use crate::quantity::Period;
use crate::reader::{Reader, cut};
use crate::setting::{Setting, read_leaf, section};
use crate::tables::{self, Entry, tables_of};
use crate::value::{HttpsUrl, Keep, Name};

/// At most so many destinations: as many as a gateway can name to phones (protocol.md §8).
pub const MAX_DESTINATIONS: usize = waypost_protocol::sync::MAX_HELLO_ENTRIES;

/// A server that documents are addressed to.
#[derive(Debug, Clone, Serialize)]
pub struct Destination {
    /// How people call it; unique.
    pub name: Name,
    /// Base address of its API.
    pub url: HttpsUrl,
    /// File with its OpenPGP certificate, binary or armored.
    pub certificate: PathBuf,
    /// How the gateway proves who it is.
    #[serde(flatten)]
    pub credentials: Credentials,
    /// PEM file with the only authorities that its TLS certificate may come from; absent: the system's.
    pub ca_file: Option<PathBuf>,
    /// Collections that are carried; absent: every collection of the destination.
    pub collections: Option<Vec<Collection>>,
    /// How long bodies stay after the verdict.
    pub keep: Keep,
    /// Where it was configured; counts for nothing when destinations are compared.
    #[serde(skip)]
    pub origin: Option<Origin>,
}

/// How the gateway proves to a destination who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Credentials {
    /// Not at all.
    None {},
    /// By a bearer token.
    Token {
        /// File that holds it; white space around it is no part of it.
        token_file: PathBuf,
    },
    /// By a TLS client certificate.
    Certificate {
        /// PEM file with the certificate chain.
        client_certificate: PathBuf,
        /// PEM file with its key.
        client_key: PathBuf,
    },
}

impl Credentials {
    /// The key that they are configured by.
    fn key(&self) -> &'static str {
        match self {
            Credentials::None {} | Credentials::Token { .. } => "token_file",
            Credentials::Certificate { .. } => "client_certificate",
        }
    }
}

/// A collection that a gateway carries, known by its group id alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Collection {
    /// How people call it.
    pub label: Name,
    /// Its group id: 64 hexadecimal digits.
    #[schemars(with = "String", extend("pattern" = "^[0-9a-fA-F]{64}$"))]
    pub group: GroupId,
    /// How long bodies stay for subscribers after the verdict, unless others need the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain: Option<Period>,
    /// Whether paired phones may subscribe to it; absent: where bodies are retained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<bool>,
}

impl Collection {
    /// Whether paired phones are sent its documents if they want them.
    pub fn may_be_subscribed(&self) -> bool {
        self.subscribe.unwrap_or(self.retain.is_some())
    }
}

impl Destination {
    /// Something that is wrong with what the configuration names, for example a certificate that cannot be read, at
    /// the place where the destination was configured. `key` is one of its keys.
    pub fn problem(&self, severity: Severity, key: &str, message: &str) -> Problem {
        tables::problem(self, severity, key, message)
    }

    /// Its keys whose values differ in `other`.
    fn changed(&self, other: &Destination) -> impl Iterator<Item = &'static str> {
        let differs = [
            ("name", self.name != other.name),
            ("url", self.url != other.url),
            ("certificate", self.certificate != other.certificate),
            (self.credentials.key(), self.credentials != other.credentials),
            ("ca_file", self.ca_file != other.ca_file),
            ("collections", self.collections != other.collections),
            ("keep", self.keep != other.keep),
        ];
        differs.into_iter().filter_map(|(key, differs)| differs.then_some(key))
    }
}

impl PartialEq for Destination {
    fn eq(&self, other: &Self) -> bool {
        self.changed(other).next().is_none()
    }
}

section! {
    /// A server that documents are addressed to; one such table for each. Tables of drop-in files are added to
    /// those of gateway.toml. One that is wrong is left out and named, the others are served.
    #[schemars(rename = "Destination", extend("required" = ["name", "url", "certificate"]))]
    pub(crate) struct Draft {
        /// How people call it, in lists and logs: up to 64 bytes, unique. Needed.
        [reload] name: Option<Name> = None, example "\"clinic\"";
        /// Base address of its API; https only. Needed.
        [reload] url: Option<HttpsUrl> = None, example "\"https://example.org/waypost\"";
        /// File with its OpenPGP certificate, binary or armored. It is the destination's name for ever: only what it, or
        /// whoever succeeds it, signs counts as delivered. Certificates that follow it in the file are successors on
        /// your word. Needed.
        [reload] certificate: Option<PathBuf> = None, example "\"clinic.pgp\"";
        /// File with the bearer token that the destination gave this gateway (there: `gateways add`). Only the gateway's
        /// user should be able to read it.
        [reload] token_file: Option<PathBuf> = None, example "\"clinic.token\"";
        /// In place of a token: PEM file with the gateway's TLS client certificate, the chain after it.
        [reload] client_certificate: Option<PathBuf> = None, example "\"gateway.pem\"";
        /// PEM file with that certificate's key.
        [reload] client_key: Option<PathBuf> = None, example "\"gateway.key\"";
        /// PEM file with the only authorities that the destination's TLS certificate may come from; for a private
        /// authority, or to trust fewer. Absent, the public ones are trusted.
        [reload] ca_file: Option<PathBuf> = None, example "\"clinic-ca.pem\"";
        /// Collections that are carried, by group id (its admin has them); others are refused to phones. Absent,
        /// every collection is carried, and none handed to subscribers. With `retain = "30d"` the documents of a
        /// collection stay for so long after the verdict, for paired phones that subscribe to it; those that came first
        /// go earlier where a deposit needs the room. `subscribe = false` closes it to subscribers all the same, and
        /// `subscribe = true` opens one that is not retained: they get what has no verdict yet.
        [reload] collections: Option<Vec<Collection>> = None,
            example "[{ label = \"forms\", group = \"0000000000000000000000000000000000000000000000000000000000000000\" }]";
        /// How long the gateway keeps the bytes of a document after the destination's signed verdict: not at all
        /// ("until-confirmed"), for a duration ("30d"), or until the admin deletes it ("always"). Costs disk. Without
        /// a verdict nothing is deleted, whatever stands here.
        [reload] keep: Keep = Keep::UntilConfirmed;
    }
}

impl Entry for Destination {
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
        Destination::changed(self, other).collect()
    }

    fn finish(
        draft: Draft,
        table: &DeTable<'_>,
        header: Range<usize>,
        reader: &mut Reader<'_>,
    ) -> Option<Destination> {
        let before = reader.errors();
        tables::need(
            &[
                ("name", "name = \"clinic\""),
                ("url", "url = \"https://example.org\""),
                ("certificate", "certificate = \"clinic.pgp\""),
            ],
            table,
            &header,
            reader,
        );
        let place = |key| table.get_key_value(key).map_or(header.clone(), |(key, _)| key.span());
        let Draft {
            name,
            url,
            certificate,
            token_file,
            client_certificate,
            client_key,
            ca_file,
            collections,
            keep,
        } = draft;
        let credentials = match (token_file, client_certificate, client_key) {
            (Some(token_file), None, None) => Credentials::Token { token_file },
            (None, Some(client_certificate), Some(client_key)) => {
                Credentials::Certificate { client_certificate, client_key }
            }
            (Some(_), _, _) => {
                reader.error(place("token_file"), || {
                    "token_file excludes client_certificate and client_key; remove one or the others"
                        .to_owned()
                });
                Credentials::None {}
            }
            (None, Some(_), None) if !table.contains_key("client_key") => {
                reader.error(place("client_certificate"), || {
                    "client_certificate needs client_key too".to_owned()
                });
                Credentials::None {}
            }
            (None, None, Some(_)) if !table.contains_key("client_certificate") => {
                reader.error(place("client_key"), || "client_key needs client_certificate too".to_owned());
                Credentials::None {}
            }
            _ => Credentials::None {},
        };
        let (Some(name), Some(url), Some(certificate)) = (name, url, certificate) else {
            return None;
        };
        if reader.errors() == before && credentials == (Credentials::None {}) {
            let has_some =
                ["token_file", "client_certificate", "client_key"].iter().any(|key| table.contains_key(*key));
            if !has_some {
                reader.warn(header.clone(), || {
                    "no credentials: the destination will refuse uploads unless it takes them from anyone; set token_file"
                        .to_owned()
                });
            }
        }
        let origin = Some(reader.source().origin(header.start));
        Some(Destination { name, url, certificate, credentials, ca_file, collections, keep, origin })
    }
}

tables_of!(Destination);

/// A collection that cannot be read is left out; the destination stays.
impl Setting for Option<Vec<Collection>> {
    fn update(&mut self, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) {
        let Some(array) = value.get_ref().as_array() else {
            return reader.mismatch(value, "a list of { label = \"…\", group = \"…\" }", "put it in [ ]");
        };
        let before = reader.errors();
        *self = Some(array.iter().filter_map(|element| read_collection(element, reader)).collect());
        reader.forgive_errors(before);
    }
}

fn read_collection(element: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Collection> {
    let before = reader.errors();
    let expected = "{ label = \"NAME\", group = \"64 hexadecimal digits\" }";
    let Some(table) = element.get_ref().as_table() else {
        reader.mismatch(element, expected, "this collection is left out");
        return None;
    };
    let (mut label, mut group, mut retain, mut subscribe) = (None, None, None, None);
    for (key, value) in table.iter() {
        match key.get_ref().as_ref() {
            "label" => label = read_leaf::<Name>(value, reader),
            "group" => group = read_leaf::<GroupId>(value, reader),
            "retain" => retain = read_leaf::<Period>(value, reader),
            "subscribe" => subscribe = read_leaf::<bool>(value, reader),
            other => reader.error(key.span(), || {
                format!("unknown key `{}`, known here: label, group, retain, subscribe", cut(other))
            }),
        }
    }
    for key in ["label", "group"].into_iter().filter(|key| !table.contains_key(*key)) {
        reader.error(element.span(), || format!("`{key}` is missing, expected {expected}"));
    }
    let is_good = reader.errors() == before;
    let known = label.zip(group).filter(|_| is_good);
    known.map(|(label, group)| Collection { label, group, retain, subscribe })
}
