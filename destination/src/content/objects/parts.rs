//! Parts of unfinished uploads: `partials/UPLOAD/START-TICKET`.
//!
//! Each request has a ticket of its own, so that one that was taken over overwrites nothing.

use std::collections::HashSet;
use std::io;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt as _};

use super::{ORPHANED, Objects, REQUESTS, io_error};
use crate::store::PartRow;

impl Objects {
    /// Returns once it lasts.
    pub(crate) fn put_part(&self, upload: i64, part: &PartRow, bytes: Bytes) -> io::Result<()> {
        let path = self.part_path(upload, part);
        let put = self.store.put(&path, bytes.into());
        self.runtime.wait(put).map(drop).map_err(io_error)
    }

    /// A part's bytes, as many as its row says.
    pub(crate) fn part(&self, upload: i64, part: &PartRow) -> io::Result<Bytes> {
        let path = self.part_path(upload, part);
        let bytes = self.runtime.wait(async { self.store.get(&path).await?.bytes().await });
        let bytes = bytes.map_err(io_error)?;
        match bytes.len() as u64 == part.size {
            true => Ok(bytes),
            false => Err(io::Error::other(format!("{path} has {} bytes of {}", bytes.len(), part.size))),
        }
    }

    /// Removes one.
    pub(crate) fn remove_part(&self, upload: i64, part: &PartRow) -> io::Result<()> {
        self.runtime.wait(self.store.delete(&self.part_path(upload, part))).map_err(io_error)
    }

    /// Removes all of an upload, also those that it does not name.
    pub(crate) fn remove_parts(&self, upload: i64) -> io::Result<()> {
        let folder = self.upload_path(upload);
        let all =
            self.store.list(Some(&folder)).try_for_each_concurrent(REQUESTS, async |object| {
                match self.store.delete(&object.location).await {
                    Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                    Err(error) => Err(error),
                }
            });
        self.runtime.wait(all).map_err(io_error)
    }

    /// Removes those of other uploads, unless they are so new that these may have begun since.
    pub(crate) fn sweep_parts(&self, known: &HashSet<i64>) -> io::Result<()> {
        let now = SystemTime::now();
        let folder = self.below("partials");
        let sweep = async {
            let mut listed = self.store.list(Some(&folder));
            while let Some(object) = listed.try_next().await? {
                let age = now.duration_since(object.last_modified.into()).unwrap_or_default();
                let upload = object.location.parts().rev().nth(1);
                let upload = upload.and_then(|name| name.as_ref().parse().ok());
                if age > ORPHANED && upload.is_none_or(|upload| !known.contains(&upload)) {
                    self.store.delete(&object.location).await?;
                }
            }
            Ok::<_, Error>(())
        };
        self.runtime.wait(sweep).map_err(io_error)
    }

    fn upload_path(&self, upload: i64) -> Path {
        self.below("partials").join(upload.to_string())
    }

    fn part_path(&self, upload: i64, part: &PartRow) -> Path {
        self.upload_path(upload).join(format!("{:012}-{}", part.start, part.ticket))
    }
}
