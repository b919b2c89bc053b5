//! Content in an object store (S3 and what speaks its protocol) that several processes share.
//!
//! Under the prefix: `staging/RANDOM` is what a row may name; `inbox/COLLECTION/ID/NAME` are opened documents, ID being the
//! first 16 digits of the document's, so that no two documents have one key; `held/ID` and `confirmations/NAME`; `partials/` are
//! unfinished uploads.
//! An object appears whole or not at all, and lasts once it was put. Only content that a row names is copied from
//! `staging/` to its place, so that what somebody has taken out of the inbox does not come back when a second gateway
//! brings the same document. Copying again, after a crash or by a second process, writes the same bytes to the same key.

mod logged;
mod parts;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutPayload, WriteMultipart};
use waypost_openpgp::armor_signature;
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::ids::MessageId;
use waypost_remote_log::{ContentHash, PlaceError};

use super::{Content, HeldBytes, Placement};
use crate::blocking::Blocking;
use crate::confirmations::file_name;
use crate::names::components;
use crate::store::Staged;

/// Requests under way at a time.
const REQUESTS: usize = 16;
/// Files up to this many bytes go in one request, larger ones in parts of as many.
const PART: usize = 8 << 20;
/// Parts of one file under way.
const PARTS: usize = 2;
/// Staged objects that no row names are removed when they are older: no upload takes as long.
const ORPHANED: Duration = Duration::from_secs(2 * 86_400);

/// Why the object store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// Not of the form.
    #[error(
        "content {0:?} is neither \"folder\" nor of the form \"s3://BUCKET/PREFIX\"; correct it in destination.toml"
    )]
    Url(String),
    /// No such option.
    #[error(
        "content_options: there is no option {0:?}; it has access_key_id, secret_access_key, region, endpoint, allow_http and the others of AWS's tools"
    )]
    Option(String),
    /// Settings or credentials are incomplete.
    #[error(
        "content {url}: {error}; set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, for other than Amazon's, AWS_ENDPOINT_URL"
    )]
    Incomplete {
        /// As configured.
        url: String,
        /// What is missing.
        error: Error,
    },
    /// It does not answer as it should.
    #[error(
        "content {url}: {error}; see that the bucket is there and the credentials may read, write, list and delete"
    )]
    Unusable {
        /// As configured.
        url: String,
        /// Its words.
        error: Error,
    },
    /// No thread for it.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// A bucket, or a part of it.
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    /// As configured, without a slash at the end.
    url: String,
    prefix: Path,
    /// Where judged content begins.
    temporary: PathBuf,
    runtime: Blocking,
}

impl Objects {
    /// `s3://BUCKET/PREFIX`, with the credentials that the environment or the options have. Asks it whether it can be
    /// used.
    pub fn open(
        url: &str,
        options: &BTreeMap<String, String>,
        temporary: &FilePath,
    ) -> Result<Self, ObjectsError> {
        let wrong = || ObjectsError::Url(url.to_owned());
        let (bucket, prefix) = url
            .strip_prefix("s3://")
            .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
            .ok_or_else(wrong)?;
        if bucket.is_empty() {
            return Err(wrong());
        }
        let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|_| wrong())?;
        crate::tls::set_default_provider();
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        for (key, value) in options {
            let key = key.parse().map_err(|_| ObjectsError::Option(key.clone()))?;
            builder = builder.with_config(key, value);
        }
        let store =
            builder.build().map_err(|error| ObjectsError::Incomplete { url: url.to_owned(), error })?;
        let objects = Objects {
            store: Arc::new(store),
            url: url.trim_end_matches('/').to_owned(),
            prefix,
            temporary: temporary.to_owned(),
            runtime: Blocking::new("objects")?,
        };
        objects.try_out().map_err(|error| ObjectsError::Unusable { url: url.to_owned(), error })?;
        Ok(objects)
    }

    /// Whether it can be written and read.
    fn try_out(&self) -> object_store::Result<()> {
        let path = self.below("staging").join("probe");
        self.runtime.wait(async {
            self.store.put(&path, PutPayload::from_static(b"written to see whether it can be")).await?;
            self.store.head(&path).await.map(|_| ())
        })
    }

    fn below(&self, folder: &str) -> Path {
        self.prefix.clone().join(folder)
    }

    fn staging(&self, name: &str) -> Path {
        self.below("staging").join(name)
    }

    fn held_path(&self, id: &MessageId) -> Path {
        self.below("held").join(id.to_string())
    }

    /// Where a row's content belongs, and its path below the inbox.
    fn place_of(&self, row: &Staged) -> (Path, String) {
        if row.verdict == Verdict::Held {
            let path = self.held_path(&row.id);
            let text = path.to_string();
            return (path, text);
        }
        let hex = row.id.to_string();
        let mut parts: Vec<_> =
            components(row.name.as_deref().unwrap_or_default()).iter().map(|part| key_part(part)).collect();
        // Of a name that is too long the end stays.
        while parts.iter().map(|part| part.len() + 1).sum::<usize>() > MAX_KEY {
            parts.remove(0);
        }
        if parts.is_empty() {
            parts.push("content".to_owned());
        }
        let collection = key_part(row.collection.as_bytes());
        let text = format!("{collection}/{}/{}", &hex[..16], parts.join("/"));
        // Its parts are legal by now: `join` would only write their percent signs in another way.
        let path =
            Path::parse(format!("{}/{text}", self.below("inbox"))).unwrap_or_else(|_| self.staging(&hex));
        (path, text)
    }

    /// Uploads a file of `tmp/` and removes it there.
    async fn keep_one(&self, name: &str) -> io::Result<()> {
        let file = self.temporary.join(name);
        self.upload(File::open(&file)?, &self.staging(name)).await?;
        let _ = std::fs::remove_file(file);
        Ok(())
    }

    /// From where the file is on.
    async fn upload(&self, mut file: File, to: &Path) -> io::Result<()> {
        let size = file.metadata()?.len();
        if size <= PART as u64 {
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(PART));
            file.read_to_end(&mut bytes)?;
            self.store.put(to, bytes.into()).await.map_err(io_error)?;
            return Ok(());
        }
        let upload = self.store.put_multipart(to).await.map_err(io_error)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => {
                    let _ = upload.abort().await;
                    return Err(error);
                }
            };
            upload.wait_for_capacity(PARTS).await.map_err(io_error)?;
            upload.write(&buffer[..read]);
        }
        // On an error it is aborted.
        upload.finish().await.map_err(io_error)?;
        Ok(())
    }

    /// False where it had been put there before.
    async fn place_one(&self, row: &Staged) -> object_store::Result<Option<String>> {
        let from = self.staging(&row.staged);
        let (to, text) = self.place_of(row);
        match self.store.copy(&from, &to).await {
            Ok(()) => {}
            // Put there before the row could say so, and perhaps taken out of the inbox since.
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        match self.store.delete(&from).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(Some(text)),
            Err(error) => Err(error),
        }
    }

    async fn sweep_staging(&self, known: &HashSet<String>) -> object_store::Result<()> {
        let now = SystemTime::now();
        let folder = self.below("staging");
        let mut listed = self.store.list(Some(&folder));
        while let Some(object) = listed.try_next().await? {
            let age = now.duration_since(object.last_modified.into()).unwrap_or_default();
            let is_known = object.location.filename().is_some_and(|name| known.contains(name));
            if age > ORPHANED && !is_known {
                self.store.delete(&object.location).await?;
            }
        }
        Ok(())
    }

    async fn export_one(&self, confirmation: &Confirmation) -> object_store::Result<()> {
        let name = file_name(confirmation);
        let put = async |name: String, text: String| {
            self.store.put(&self.below("confirmations").join(name), text.into_bytes().into()).await
        };
        put(format!("{name}.txt"), confirmation.statement.text()).await?;
        put(format!("{name}.txt.asc"), armor_signature(confirmation)).await?;
        Ok(())
    }
}

/// Of a key of 1,024 bytes, what a name may take.
const MAX_KEY: usize = 700;

/// A part of a file name as part of a key: what keys cannot have is percent-encoded, bytes that are no UTF-8 too, so that
/// decoding gives the name back.
fn key_part(part: &[u8]) -> String {
    let mut key = String::with_capacity(part.len());
    for chunk in part.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char.is_ascii_control() || r#"\/{}^%`[]"<>~#|*?"#.contains(char) {
                true => key += &format!("%{:02X}", u32::from(char)),
                false => key.push(char),
            }
        }
        for byte in chunk.invalid() {
            key += &format!("%{byte:02X}");
        }
    }
    key
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::NotFound { .. } => io::Error::new(io::ErrorKind::NotFound, error),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            io::Error::new(io::ErrorKind::PermissionDenied, error)
        }
        error => io::Error::other(error),
    }
}

impl Content for Objects {
    fn keep(&self, files: &[Option<&str>]) -> Vec<Option<io::Error>> {
        let keep = async |name: Option<&str>| match name {
            Some(name) => self.keep_one(name).await.err(),
            None => None,
        };
        self.runtime.wait(stream::iter(files).map(|name| keep(*name)).buffered(REQUESTS).collect())
    }

    fn discard(&self, staged: &str) {
        let _ = std::fs::remove_file(self.temporary.join(staged));
        if let Err(error) = self.runtime.wait(self.store.delete(&self.staging(staged))) {
            log::debug!("staging/{staged} stays for now: {error}");
        }
    }

    fn place(&self, rows: &[Staged]) -> Placement {
        let place = async |row: &Staged| (row.seq, row.id, self.place_one(row).await);
        let results: Vec<_> = self.runtime.wait(stream::iter(rows).map(place).buffered(REQUESTS).collect());
        let mut placement = Placement::default();
        for (seq, id, result) in results {
            match result {
                Ok(path) => placement.placed.push((seq, path.unwrap_or_default().into_bytes())),
                Err(error) => {
                    placement.is_incomplete = true;
                    log::error!("document {id} is stored, but cannot be put into the inbox yet: {error}");
                }
            }
        }
        placement
    }

    fn sweep(&self, known: &HashSet<String>) -> io::Result<()> {
        // Of this process alone, and none is being judged.
        for entry in std::fs::read_dir(&self.temporary)? {
            let _ = std::fs::remove_file(entry?.path());
        }
        self.runtime.wait(self.sweep_staging(known)).map_err(io_error)
    }

    fn held(&self, id: &MessageId) -> io::Result<(HeldBytes, u64)> {
        let path = self.held_path(id);
        let mut file = tempfile(&self.temporary)?;
        let size = self.runtime.wait(async {
            let found = self.store.get(&path).await.map_err(io_error)?;
            let size = found.meta.size;
            let mut bytes = found.into_stream();
            while let Some(piece) = bytes.try_next().await.map_err(io_error)? {
                io::Write::write_all(&mut file, &piece)?;
            }
            Ok::<_, io::Error>(size)
        })?;
        io::Seek::rewind(&mut file)?;
        Ok((Box::new(file), size))
    }

    fn forget_held(&self, id: &MessageId) {
        if let Err(error) = self.runtime.wait(self.store.delete(&self.held_path(id))) {
            log::warn!("held/{id} stays: {error}");
        }
    }

    fn export(&self, confirmations: &[Confirmation]) -> io::Result<Vec<bool>> {
        let export = async |confirmation| match self.export_one(confirmation).await {
            Ok(()) => true,
            Err(error) => {
                log::warn!("{}/confirmations: {error}", self.url);
                false
            }
        };
        Ok(self.runtime.wait(stream::iter(confirmations).map(export).buffered(REQUESTS).collect()))
    }

    fn put_logged(&self, hash: &ContentHash, length: u64, bytes: &mut dyn Read) -> Result<(), PlaceError> {
        self.put_log(hash, length, bytes)
    }

    fn logged(&self, hash: &ContentHash, offset: u64) -> Result<Box<dyn Read + '_>, PlaceError> {
        self.get_log(hash, offset)
    }

    fn remove_logged(&self, hash: &ContentHash) {
        if let Err(error) = self.runtime.wait(self.store.delete(&self.log_path(hash))) {
            log::warn!("log/{hash} stays: {error}");
        }
    }

    fn inbox(&self) -> String {
        format!("{}/inbox", self.url)
    }
}

/// A file without a name, gone when it is closed.
fn tempfile(folder: &FilePath) -> io::Result<File> {
    let path = folder.join(crate::durable::random_name()?);
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_keys_that_decode_to_the_same_bytes() {
        let names: [&[u8]; 5] =
            [b"a.xml", b"50% of #1?~.txt", b"\xff\xfe.bin", "写真\n.jpg".as_bytes(), b"a\\b"];
        for name in names {
            let key = key_part(name);
            assert!(Path::parse(&key).is_ok_and(|path| path.as_ref() == key), "{key}");
            assert_eq!(percent_encoding::percent_decode_str(&key).collect::<Vec<u8>>(), name);
        }
        assert_eq!(key_part("été 写真.jpg".as_bytes()), "été 写真.jpg");
    }

    #[test]
    fn what_is_no_url_or_option_is_said_with_what_to_do() {
        let open = |url: &str, option: &str| {
            let options = BTreeMap::from([(option.to_owned(), "x".to_owned())]);
            Objects::open(url, &options, FilePath::new("/tmp")).err().map(|error| error.to_string())
        };
        for wrong in ["/srv/inbox", "s3://", "gs://bucket/x", "s3:///x"] {
            assert!(open(wrong, "region").is_some_and(|said| said.contains("s3://BUCKET/PREFIX")), "{wrong}");
        }
        assert!(open("s3://bucket", "regoin").is_some_and(|said| said.contains("\"regoin\"")));
    }
}
