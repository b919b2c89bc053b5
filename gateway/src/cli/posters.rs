//! `posters list|add|show|rotate|revoke`.

use std::path::Path;
use std::process::ExitCode;

use super::PosterArgs;
use super::live::{ask, ask_live, code_of, show_code, unexpected};
use super::output;
use super::picture::Picture;
use crate::admin::{Answer, PosterWish, Request};

pub(super) fn list(path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let Answer::Posters(posters) = ask(path, &Request::Posters)? else { return Err(unexpected()) };
    if json {
        posters.iter().try_for_each(output::json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = posters
        .into_iter()
        .map(|one| {
            let code = if one.is_valid { "valid" } else { "void" };
            vec![one.name, code.to_owned(), one.phones.to_string()]
        })
        .collect();
    match rows.is_empty() {
        true => output::line("no posters yet; `waypost posters add NAME` makes one"),
        false => output::table(&["NAME", "CODE", "PHONES"], &rows),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn code(path: &Path, json: bool, args: PosterArgs, wish: PosterWish) -> anyhow::Result<ExitCode> {
    let picture = args.picture.as_deref().map(Picture::new).transpose()?;
    let request = Request::Poster { name: args.name, wish };
    let Answer::Poster { text } = ask_live(path, &request)? else { return Err(unexpected()) };
    let qr = code_of(&text)?;
    if let Some(picture) = picture {
        picture.write(&qr)?;
    }
    if json {
        output::json(&serde_json::json!({ "text": text }))?;
        return Ok(ExitCode::SUCCESS);
    }
    show_code(&qr, &text);
    output::line("For any phone, until `waypost posters rotate` or `revoke`.");
    Ok(ExitCode::SUCCESS)
}

pub(super) fn revoke(path: &Path, json: bool, name: String) -> anyhow::Result<ExitCode> {
    let request = Request::RevokePoster { name: name.clone() };
    let Answer::PosterRevoked { peers } = ask(path, &request)? else { return Err(unexpected()) };
    match json {
        true => output::json(&serde_json::json!({ "revoked": name, "phones": peers }))?,
        false => output::line(&format!("{name} is revoked, with {} phones that came by it", peers.len())),
    }
    Ok(ExitCode::SUCCESS)
}
