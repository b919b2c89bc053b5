//! `documents list|show|delete`.

use std::path::Path;
use std::process::ExitCode;

use super::live::{ask, unexpected};
use super::output;
use crate::admin::{Answer, Document, Request};

pub(super) fn list(path: &Path, json: bool, waiting: bool) -> anyhow::Result<ExitCode> {
    let (mut after, mut rows, mut count, mut total) = (None, Vec::new(), 0u64, 0);
    loop {
        let Answer::Documents { documents, next } = ask(path, &Request::Documents { waiting, after })? else {
            return Err(unexpected());
        };
        for document in &documents {
            count += 1;
            total += document.size;
            match json {
                true => output::json(document)?,
                false => rows.push(row(document)),
            }
        }
        match next {
            Some(_) => after = next,
            None => break,
        }
    }
    if !json {
        if count > 0 {
            output::table(&["ID", "STATE", "SIZE", "ARRIVED", "ATTEMPTS", "FROM"], &rows);
        }
        output::line(&format!("{count} documents, {}", output::bytes(total)));
    }
    Ok(ExitCode::SUCCESS)
}

fn row(document: &Document) -> Vec<String> {
    let short = |text: String| text.chars().take(12).collect::<String>();
    vec![
        short(document.id.to_string()),
        document.state.to_string(),
        output::bytes(document.size),
        document.arrived.to_string(),
        document.attempts.to_string(),
        document.from.map_or_else(|| "-".into(), |peer| short(peer.to_string())),
    ]
}

pub(super) fn show(path: &Path, json: bool, id: String) -> anyhow::Result<ExitCode> {
    let Answer::Document(document) = ask(path, &Request::Document { id })? else { return Err(unexpected()) };
    if json {
        output::json(&document)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Document {
        id,
        destination,
        group,
        size,
        state,
        has_body,
        from,
        arrived,
        attempts,
        revision,
        replaces,
    } = &*document;
    output::line(&format!("id           {id}"));
    output::line(&format!("state        {state}"));
    output::line(&format!("destination  {destination}"));
    output::line(&format!("collection   {group}"));
    let freed = if *has_body { "" } else { "; its bytes are freed" };
    output::line(&format!("size         {} ({size} bytes, sealed){freed}", output::bytes(*size)));
    output::line(&format!("arrived      {arrived}"));
    output::line(&format!("from         {}", from.map_or_else(|| "-".into(), |peer| peer.to_string())));
    output::line(&format!("attempts     {attempts}"));
    if *revision > 0 {
        output::line(&format!("revision     {revision}"));
    }
    for replaced in replaces {
        output::line(&format!("replaces     {replaced}"));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn delete(path: &Path, json: bool, id: String) -> anyhow::Result<ExitCode> {
    let Answer::Deleted(id) = ask(path, &Request::DeleteDocument { id })? else { return Err(unexpected()) };
    match json {
        true => output::json(&serde_json::json!({ "deleted": id }))?,
        false => output::line(&format!("deleted {id}; it will not come back to this gateway")),
    }
    Ok(ExitCode::SUCCESS)
}
