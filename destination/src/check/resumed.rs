//! Uploads that go on (tus 1.0).

use data_encoding::BASE64;
use reqwest::Method;
use waypost_protocol::api::{self, encode_ids};
use waypost_protocol::confirmation::Verdict;

use super::Known;
use super::asking::{Asking, Heard};
use super::requirements::verdict;

const VERSION: (&str, &str) = ("tus-resumable", "1.0.0");
const STREAM: (&str, &str) = ("content-type", "application/offset+octet-stream");

/// Two halves, and a request that begins at the wrong place in between.
pub(super) async fn tus(asking: &Asking, known: &Known) -> Result<(), String> {
    let options = asking.ask(Method::OPTIONS, api::UPLOADS, &[], Vec::new()).await?;
    match (options.status, options.header("tus-version")) {
        (200 | 204, Some(versions)) if versions.split(',').any(|version| version.trim() == "1.0.0") => {}
        (status, versions) => return Err(format!("OPTIONS: status {status}, versions {versions:?}")),
    }
    let document = known.document(&[b'x'; 4_000])?;
    let bytes = document.encode().to_vec();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let metadata = format!("id {}", BASE64.encode(document.id().to_string().as_bytes()));
    let length = bytes.len().to_string();
    let headers = [VERSION, ("upload-metadata", &metadata), ("upload-length", &length)];
    let begun = asking.ask(Method::POST, api::UPLOADS, &headers, Vec::new()).await?.has_status(201)?;
    let location = begun.header("location").ok_or("POST: there is no Location")?.to_owned();
    let path =
        location.find("/v1/").and_then(|at| location.get(at..)).ok_or("POST: Location is no path of /v1/")?;
    let half = first.len().to_string();
    let patch = async |offset: &str, body: &[u8]| {
        asking.ask(Method::PATCH, path, &[VERSION, STREAM, ("upload-offset", offset)], body.to_vec()).await
    };
    offset_is(patch("0", first).await?.has_status(204)?, &half)?;
    patch("0", first).await?.refused_with(409).map_err(|why| format!("PATCH at the wrong offset: {why}"))?;
    let asked = asking.ask(Method::HEAD, path, &[VERSION], Vec::new()).await?.has_status(200)?;
    offset_is(asked, &half)?;
    offset_is(patch(&half, second).await?.has_status(204)?, &length)?;
    let answer = asking.answer(Method::POST, api::CONFIRMATIONS, encode_ids([&document.id()])).await?;
    match verdict(known, &answer, &document)? {
        Some(Verdict::Opened | Verdict::Held) => Ok(()),
        other => Err(format!("the verdict on what came in two halves is {other:?}")),
    }
}

fn offset_is(heard: Heard, expected: &str) -> Result<(), String> {
    match heard.header("upload-offset") {
        Some(found) if found == expected => Ok(()),
        found => Err(format!("the offset is {found:?} in place of {expected}")),
    }
}
