//! `publish`: documents of the destination's own for a collection's readers.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::Home;
use crate::author::{self, Authored, MAX_CONTENT};
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;
use waypost_protocol::ids::MessageId;

use super::Said;

#[derive(Args)]
pub(crate) struct PublishArguments {
    /// The files, each a document of its own.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The collection whose subscribers get them.
    #[arg(long)]
    collection: String,
    /// A further reader's OpenPGP certificate, besides those in `readers/COLLECTION/` of the home.
    #[arg(long, value_name = "FILE")]
    reader: Vec<PathBuf>,
    /// The record that it is a revision of.
    #[arg(long, value_name = "KEY")]
    record: Option<String>,
    /// How many revisions came before it.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, requires = "record")]
    revision: u64,
    /// A revision that it replaces, by id; with all heads of a record a conflict is resolved.
    #[arg(long, value_name = "ID", requires = "record")]
    replaces: Vec<MessageId>,
    /// 0 (ordinary) to 9.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: u8,
}

pub(crate) fn publish(home: &Home, arguments: PublishArguments) -> anyhow::Result<Said> {
    let readers =
        arguments.reader.iter().map(|path| author::certificate(path)).collect::<Result<Vec<_>, _>>()?;
    if arguments.record.is_some() && arguments.files.len() > 1 {
        bail!("a revision of a record is one file; publish the others by themselves");
    }
    let (mut text, mut published) = (String::new(), Vec::new());
    for path in &arguments.files {
        let length = std::fs::metadata(path).with_context(|| format!("{}", path.display()))?.len();
        if length > MAX_CONTENT {
            bail!("{}: {length} bytes, at most {MAX_CONTENT} can be published", path.display());
        }
        let authored = Authored {
            collection: arguments.collection.clone(),
            file_name: path.file_name().map(|name| name.as_bytes().to_vec()),
            content: std::fs::read(path).with_context(|| format!("{}", path.display()))?,
            record: arguments.record.clone(),
            revision: arguments.revision,
            replaces: arguments.replaces.clone(),
            priority: arguments.priority,
            readers: readers.clone(),
        };
        let id = author::publish(home, &authored).with_context(|| format!("{}", path.display()))?;
        text += &format!("{id} {}\n", path.display());
        published.push(json!({ "id": id, "path": path.to_string_lossy() }));
    }
    Ok(Said::new(text, json!({ "published": published })))
}
