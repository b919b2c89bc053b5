//! Commands that only a running gateway can answer: `status`, `pair`, `reload`; and how all commands ask.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use waypost_ble::AdapterStatus;
use waypost_config::{Config, load, printable};

use super::output;
use super::picture::Picture;
use crate::admin::{self, Answer, DestinationStatus, Request, Status};
use crate::control::{self, ControlError};
use crate::remote_log::{FollowStatus, LogStatus};
use crate::setup;

/// Reads the configuration as a command needs it: where the store and the socket are.
pub(super) fn config(path: &Path) -> anyhow::Result<Config> {
    let loaded = load(path);
    if loaded.is_fatal() {
        let first = loaded.problems.first().map(ToString::to_string).unwrap_or_default();
        bail!("{first}; `waypost check` names all that is wrong");
    }
    Ok(loaded.config)
}

/// Asks the running gateway; an error where none runs. It is reached also while a file of the configuration is wrong.
pub(super) fn ask_live(path: &Path, request: &Request) -> anyhow::Result<Answer> {
    let loaded = load(path);
    match control::ask(&loaded.config.control.socket, request) {
        Err(ControlError::NotRunning { .. }) if loaded.is_fatal() => {
            Err(config(path).err().unwrap_or_else(unexpected))
        }
        answer => answer?.map_err(|message| anyhow!(message)),
    }
}

/// Asks the running gateway, or, where none runs, the store itself.
pub(super) fn ask(path: &Path, request: &Request) -> anyhow::Result<Answer> {
    let config = config(path)?;
    match control::ask(&config.control.socket, request) {
        Ok(answer) => answer.map_err(|message| anyhow!(message)),
        Err(ControlError::NotRunning { .. }) => {
            if !config.store.path.exists() {
                bail!("there is no store at {} yet; `waypost run` makes it", config.store.path.display());
            }
            let store = setup::open_store(&config)?;
            admin::answer(&store, request).map_err(|message| anyhow!(message))
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn unexpected() -> anyhow::Error {
    anyhow!("the running gateway is of another version; restart it")
}

/// One adapter in words.
fn bluetooth(one: &AdapterStatus) -> String {
    if one.name.is_empty() {
        return printable(&one.why);
    }
    let links = match one.links {
        0 => String::new(),
        1 => ", 1 link".to_owned(),
        more => format!(", {more} links"),
    };
    let why = if one.why.is_empty() { String::new() } else { format!(": {}", printable(&one.why)) };
    format!("{} {} {}{links}{why}", one.name, one.address, one.state)
}

pub(super) fn status(path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let Answer::Status(status) = ask_live(path, &Request::Status)? else { return Err(unexpected()) };
    if json {
        output::json(&status)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Status { name, version, key, running, sessions, waiting, opened, held, rejected, used, room, .. } =
        &*status;
    output::line(&format!(
        "{} (waypost {version}), running for {}",
        printable(name),
        output::seconds(*running)
    ));
    output::line(&format!("key          {key}"));
    output::line(&format!("listening    {}", status.listening.join(", ")));
    for one in &status.bluetooth {
        output::line(&format!("bluetooth    {}", bluetooth(one)));
    }
    if let Some(one) = &status.wifi {
        output::line(&format!("wifi direct  {}", super::wifi::words(one)));
    }
    let in_line = if status.in_line == 0 { String::new() } else { format!(", {} in line", status.in_line) };
    output::line(&format!(
        "phones       {sessions} connected{in_line}; {} contacts and {} codes used since the start",
        status.contacts, status.codes_used
    ));
    output::line(&format!(
        "documents    {waiting} waiting, {opened} opened, {held} held, {rejected} rejected by their destination"
    ));
    if status.asked_for_again > 0 {
        let damaged = status.asked_for_again;
        output::line(&format!(
            "damaged      {damaged}: the phones that brought them are asked for them; the disk may be failing"
        ));
    }
    output::line(&format!("store        {} used, room for {}", output::bytes(*used), output::bytes(*room)));
    for one in &status.backhauls {
        let of = |spent: u64, budget: Option<u64>| {
            let bound = budget.map_or(String::new(), |budget| format!(" of {}", output::bytes(budget)));
            format!("{}{bound}", output::bytes(spent))
        };
        output::line(&format!(
            "backhaul     {} ({}): {}; {} today, {} this month",
            printable(&one.name),
            one.cost,
            printable(&one.state),
            of(one.day, one.day_budget),
            of(one.month, one.month_budget)
        ));
    }
    if let Some(networks) = &status.networks {
        output::line(&match networks.is_empty() {
            true => "networks     none with a default route; connect a backhaul".to_owned(),
            false => format!("networks     {}", networks.join(", ")),
        });
    }
    if let Some(job) = &status.bundle {
        output::line(&format!("bundle       {}", super::bundle::words(job)));
    }
    if status.destinations.is_empty() {
        output::line(match status.problems.is_empty() {
            true => "destination  none is configured: documents are refused; add a [[destination]]",
            false => {
                "destination  none can be used: documents are refused; mend what is named below, then reload"
            }
        });
    }
    status.destinations.iter().for_each(destination);
    output::line(&format!("log key      {}", status.log_key));
    status.remote_logs.iter().for_each(remote_log);
    if let Some(last) = status.last_upload.and_then(|last| i64::try_from(last.0).ok()) {
        let when = jiff::Timestamp::from_second(last).unwrap_or_default();
        output::line(&format!("delivered    last {}", when.strftime("%Y-%m-%d %H:%M UTC")));
    }
    for notice in &status.notices {
        output::line(&format!("notice       {}", printable(&notice.text)));
    }
    for problem in &status.problems {
        output::line(&format!("problem      {}", printable(problem)));
    }
    Ok(ExitCode::SUCCESS)
}

fn destination(status: &DestinationStatus) {
    let DestinationStatus { name, state, trouble, uploaded, confirmed, progress, set_aside, .. } = status;
    output::line(&format!(
        "destination  {}: {state}; {uploaded} uploaded, {confirmed} confirmed since the start",
        printable(name)
    ));
    if let Some((sent, total)) = progress {
        output::line(&format!(
            "             uploading: {} of {}",
            output::bytes(*sent),
            output::bytes(*total)
        ));
    }
    if let Some(trouble) = trouble {
        output::line(&format!("             {}", printable(trouble)));
    }
    for successor in status.certificates.iter().skip(1) {
        output::line(&format!("             successor key: {successor}"));
    }
    if let Some(trouble) = &status.chain_trouble {
        output::line(&format!("             certificate not taken: {}", printable(trouble)));
    }
    for (id, cause) in set_aside {
        output::line(&format!("             set aside: {id}: {}", printable(cause)));
    }
}

fn remote_log(status: &LogStatus) {
    let place = printable(&status.place);
    output::line(&format!("remote log   {place}: {} documents published", status.published));
    if let Some(trouble) = &status.trouble {
        output::line(&format!("             {}", printable(trouble)));
    }
    for follow in &status.follows {
        let FollowStatus { key, documents, taken, owed, is_read, trouble } = follow;
        let rest = if *is_read { "" } else { ", more to read" };
        let owed = if *owed == 0 { String::new() } else { format!(", {owed} to be tried again") };
        output::line(&format!(
            "             follows {key}: {documents} looked at{rest}, {taken} taken since the start{owed}"
        ));
        if let Some(trouble) = trouble {
            output::line(&format!("             {}", printable(trouble)));
        }
    }
}

pub(super) fn pair(path: &Path, json: bool, picture: Option<&Path>) -> anyhow::Result<ExitCode> {
    let picture = picture.map(Picture::new).transpose()?;
    let Answer::Code { text, valid } = ask_live(path, &Request::Pair)? else { return Err(unexpected()) };
    let qr = code_of(&text)?;
    if let Some(picture) = picture {
        picture.write(&qr)?;
    }
    if json {
        output::json(&serde_json::json!({ "text": text, "valid_seconds": valid }))?;
        return Ok(ExitCode::SUCCESS);
    }
    show_code(&qr, &text);
    output::line(&format!("For one phone, within {}.", output::seconds(valid)));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn code_of(text: &str) -> anyhow::Result<QrCode> {
    QrCode::new(text).context("the code does not fit a QR code; shorten [lan] addresses")
}

/// For a phone's camera, and for whoever types.
pub(super) fn show_code(code: &QrCode, text: &str) {
    output::line(&code.render::<Dense1x2>().quiet_zone(true).build());
    output::line(text);
}

pub(super) fn reload(path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let Answer::Reloaded { ok, problems, changed, needs_restart } = ask_live(path, &Request::Reload)? else {
        return Err(unexpected());
    };
    if json {
        let answer = serde_json::json!({
            "ok": ok, "problems": problems, "changed": changed, "needs_restart": needs_restart,
        });
        output::json(&answer)?;
    } else {
        problems.iter().for_each(|problem| output::line(problem));
        changed.iter().for_each(|key| output::line(&format!("{key}: in effect")));
        needs_restart.iter().for_each(|key| output::line(&format!("{key}: needs restart")));
        if changed.is_empty() && needs_restart.is_empty() {
            output::line("nothing has changed");
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
