//! `import`: a bundle on a stick.

use std::path::{Path, PathBuf};

use crate::Home;
use crate::bundle::{self, Imported};
use crate::server::lock_opener;
use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::Said;

#[derive(Args)]
pub(crate) struct ImportArguments {
    /// The folder in which the folder `waypost` is: where the stick is mounted.
    folder: PathBuf,
}

/// Takes what the bundle has for this destination; what is said, and whether nothing was passed over.
pub(crate) fn import(home: &Home, arguments: &ImportArguments) -> anyhow::Result<(Said, bool)> {
    // A server that starts meanwhile clears temporary files away that it does not know, but for those of the holder.
    let _lock = lock_opener(home)
        .context("held documents are being opened, or another bundle is imported; wait for that")?;
    let imported = bundle::import(home, &arguments.folder)?;
    Ok((Said::new(text(&arguments.folder, &imported), json!(imported)), imported.is_whole()))
}

fn text(folder: &Path, imported: &Imported) -> String {
    let Imported { documents, bytes, already, for_others, confirmations, refused, damaged } = imported;
    let mut text = format!(
        "{}: took {documents} documents ({bytes} bytes); {already} were here already, {for_others} are for others\n\
         {confirmations} confirmations are on it; carry it back to the gateways (`waypost import DIR`)\n",
        folder.display()
    );
    for (what, passed) in [("refused", refused), ("damaged", damaged)] {
        for (name, why) in &passed.named {
            // Names on a stick are anybody's.
            text += &format!("{what}: {} ({})\n", name.escape_debug(), why.escape_debug());
        }
        let more = passed.count - passed.named.len() as u64;
        if more > 0 {
            text += &format!("{what}: and {more} more\n");
        }
    }
    text
}
