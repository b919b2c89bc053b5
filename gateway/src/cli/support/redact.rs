//! What nobody else needs to know is taken out: who the phones are, and every secret.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;

use data_encoding::HEXLOWER;
use rand_core::RngCore as _;
use regex::{Captures, Regex};
use sha2::{Digest as _, Sha256};
use waypost_config::{Config, Credentials};
use waypost_node::system_rng;

use crate::setup;

/// Where a kiosk keeps the secrets that its boot file had: passwords of networks, PINs, tokens and keys.
const KIOSK_SECRETS: &str = "/var/lib/waypost-kiosk/secrets.toml";
/// Secrets shorter than this are not looked for: they would be found everywhere.
const SHORTEST: usize = 6;

/// Takes out secrets and names. The same thing has the same name in its place within one bundle, and another one in the next.
pub(super) struct Redactor {
    salt: [u8; 16],
    /// What is secret on this machine, as it would stand in a text; the longest first.
    secrets: Vec<String>,
    patterns: Vec<(Regex, &'static str)>,
    count: Cell<usize>,
}

impl Redactor {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let mut salt = [0; 16];
        system_rng()?.fill_bytes(&mut salt);
        let mut secrets = secrets(config);
        secrets.extend(fs::read_to_string(KIOSK_SECRETS).iter().flat_map(|text| kept_by_kiosk(text)));
        secrets.retain(|secret| secret.len() >= SHORTEST);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let patterns = [
            // Pairing and phone codes: whoever has one may use it.
            (r"waypost://[A-Za-z]+\?[^\s\x22']+", "code"),
            // Whatever is said to be secret, in the files of other programs too.
            (
                r"(?i)\b(?:psk|password|passphrase|token|secret|pin)\b\x22?\s*[=:]\s*(?:\x22[^\x22]*\x22?|'[^']*'?|[^\s,}]+)",
                "secret",
            ),
            // Keys of phones, ids of documents.
            (r"\b[0-9a-fA-F]{64}\b", "id"),
            // Addresses of phones.
            (r"(?:[0-9a-fA-F]{2}[:_-]){5}[0-9a-fA-F]{2}", "address"),
        ];
        let patterns: Result<_, regex::Error> =
            patterns.into_iter().map(|(pattern, what)| Ok((Regex::new(pattern)?, what))).collect();
        Ok(Redactor { salt, secrets, patterns: patterns?, count: Cell::new(0) })
    }

    /// The text without them.
    pub(super) fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            let found = text.matches(secret.as_str()).count();
            if found > 0 {
                self.count.set(self.count.get() + found);
                text = text.replace(secret.as_str(), "(secret)");
            }
        }
        for (pattern, what) in &self.patterns {
            let put = |found: &Captures<'_>| {
                self.count.set(self.count.get() + 1);
                let found = found.get(0).map_or("", |all| all.as_str());
                match *what {
                    "secret" | "code" => format!("({what})"),
                    what => format!("({what} {})", self.alias(found)),
                }
            };
            text = pattern.replace_all(&text, put).into_owned();
        }
        text
    }

    /// How many were taken out.
    pub(super) fn count(&self) -> usize {
        self.count.get()
    }

    fn alias(&self, text: &str) -> String {
        let digest = Sha256::new().chain_update(self.salt).chain_update(text.to_lowercase()).finalize();
        HEXLOWER.encode(&digest[..4])
    }
}

/// Every secret that this machine's gateway has, as far as whoever runs this may read it.
fn secrets(config: &Config) -> Vec<String> {
    let mut all = Vec::new();
    let mut take = |bytes: Vec<u8>| {
        all.push(HEXLOWER.encode(&bytes));
        if let Ok(text) = String::from_utf8(bytes) {
            all.push(text.trim().to_owned());
        }
    };
    let keys = [setup::store_key_path(config), setup::identity_path(config)];
    keys.iter().filter_map(|path| fs::read(path).ok()).for_each(&mut take);
    for destination in &config.destination {
        if let Credentials::Token { token_file } = &destination.credentials
            && let Ok(bytes) = fs::read(token_file)
        {
            take(bytes);
        }
    }
    all
}

/// The secrets that a kiosk keeps; of a key, which is many lines, each one.
fn kept_by_kiosk(text: &str) -> Vec<String> {
    let kept: BTreeMap<String, String> = toml::from_str(text).unwrap_or_default();
    let lines = kept.values().flat_map(|secret| secret.lines()).map(str::trim);
    // What begins and ends a key is no secret.
    lines.filter(|line| !line.starts_with("-----")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        let mut redactor = Redactor::new(&Config::default()).unwrap();
        redactor.secrets = secrets.iter().map(|&one| one.to_owned()).collect();
        redactor
    }

    #[test]
    fn phones_codes_and_secrets_are_taken_out_and_the_rest_stays() {
        let redactor = redactor(&["tok_12345"]);
        let key = "ab".repeat(32);
        let said = format!(
            "phone {key} at 00:AA:01:00:00:02 (dev_00_AA_01_00_00_02), waypost://pair?v=1&k=x \"token\":\"abc\" psk=geheim password = \"two words\" pin='1 2' tok_12345 \
             F2C14231AF2F7BB925CC26BC4025A5384819DB26 10.0.0.7 clinic {key}"
        );
        let left = redactor.redact(&said);
        for gone in [key.as_str(), "00:AA:01", "00_AA", "k=x", "abc", "geheim", "words", "1 2", "tok_12345"] {
            assert!(!left.contains(gone), "{gone} in {left}");
        }
        for stays in ["F2C14231AF2F7BB925CC26BC4025A5384819DB26", "10.0.0.7", "clinic", "phone (id "] {
            assert!(left.contains(stays), "{stays} not in {left}");
        }
        let names: Vec<_> = left.match_indices("(id ").map(|(at, _)| &left[at..at + 12]).collect();
        assert_eq!(names[0], names[1], "the same phone has the same name");
        assert_eq!(redactor.count(), 10);
    }

    #[test]
    fn what_a_kiosk_keeps_is_taken_out_wherever_it_stands() {
        let kept = kept_by_kiosk(
            "\"network/ClinicNet/password\" = \"two words\"\n\"kiosk/10000000abcdef01/destination/d/token\" = \"tok_987\"\n\
             \"destination/d/client_key\" = \"-----BEGIN PRIVATE KEY-----\\nMIGHAgEA\\nzj0DAQcE\\n-----END PRIVATE KEY-----\\n\"\n",
        );
        let secrets: Vec<&str> = kept.iter().map(String::as_str).collect();
        let left = redactor(&secrets).redact(
            "associating with ClinicNet by two words\n-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n  zj0DAQcE\nsent tok_987\n",
        );
        for gone in ["two words", "tok_987", "MIGHAgEA", "zj0DAQcE"] {
            assert!(!left.contains(gone), "{gone} in {left}");
        }
        assert!(left.contains("ClinicNet by (secret)\n-----BEGIN PRIVATE KEY-----\n"), "{left}");
        assert!(kept_by_kiosk("no TOML").is_empty());
    }

    #[test]
    fn another_bundle_has_other_names() {
        let key = "ab".repeat(32);
        assert_ne!(redactor(&[]).redact(&key), redactor(&[]).redact(&key));
    }
}
