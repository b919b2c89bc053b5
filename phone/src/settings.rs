//! What the phone remembers beside documents: small values, sealed in its store, as JSON under a name.

use serde::Serialize;
use serde::de::DeserializeOwned;
use waypost_store::{Change, ChangeError, StoreError};

use crate::Phone;

/// Why a setting cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// The store cannot be written.
    #[error(transparent)]
    Write(#[from] ChangeError),
    /// It has another shape than this program writes.
    #[error("what is stored as `{key}` cannot be read ({detail}); update the program, or enter it again")]
    Shape {
        /// The setting's name.
        key: String,
        /// What is wrong.
        detail: String,
    },
}

impl Phone {
    pub(crate) fn load<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, SettingError> {
        self.store().setting(key)?.map(|value| parse(key, &value)).transpose()
    }

    /// All settings whose name begins with `prefix`. One that cannot be read is reported and passed over.
    pub(crate) fn load_all<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<T>, SettingError> {
        let mut found = Vec::new();
        for (key, value) in self.store().settings(prefix)? {
            match parse(&key, &value) {
                Ok(value) => found.push(value),
                Err(error) => log::error!("{error}"),
            }
        }
        Ok(found)
    }

    /// Durable when it returns.
    pub(crate) fn save<T: Serialize>(&self, key: &str, value: &T) -> Result<(), SettingError> {
        let wrong =
            |error: serde_json::Error| SettingError::Shape { key: key.into(), detail: error.to_string() };
        let value = serde_json::to_vec(value).map_err(wrong)?;
        self.writer().apply(Change::Put { key: key.into(), value: Some(value) })?;
        Ok(())
    }

    pub(crate) fn erase(&self, key: &str) -> Result<(), SettingError> {
        self.writer().apply(Change::Put { key: key.into(), value: None })?;
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, SettingError> {
    serde_json::from_slice(value)
        .map_err(|error| SettingError::Shape { key: key.into(), detail: error.to_string() })
}
