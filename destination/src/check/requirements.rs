//! What is required of a destination.

use data_encoding::BASE64;
use reqwest::Method;
use sha2::{Digest as _, Sha256};
use waypost_openpgp::{Certificate, Chain, verify_confirmation};
use waypost_protocol::api::{self, Answer, FailureCode, Info, MAX_IDS, bit, encode_ids};
use waypost_protocol::confirmation::{Confirmation, Rejection, Verdict};
use waypost_protocol::document::Document;
use waypost_protocol::ids::{Fingerprint, MessageId};
use waypost_protocol::succession;

use super::asking::Asking;
use super::{Finding, Known};
use crate::clock::now;

type Outcome = Result<(), String>;

/// Findings in the order of the tests.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, name: &'static str, requires: &'static str, outcome: Outcome) {
        let passed = Some(outcome.is_ok());
        self.0.push(Finding { name, requires, passed, reason: outcome.err() });
    }

    fn untested(&mut self, name: &'static str, requires: &'static str, reason: &str) {
        self.0.push(Finding { name, requires, passed: None, reason: Some(reason.to_owned()) });
    }
}

/// Tests all.
pub(super) async fn all(asking: &Asking, collection: &str) -> Vec<Finding> {
    let mut found = Findings::default();
    let info = info(asking).await;
    found.add(
        "info",
        "GET /v1/info says who the server is, without a token",
        info.as_ref().map(|_| ()).map_err(Clone::clone),
    );
    found.add("etag", "a client that knows the info by its ETag is answered 304", etag(asking).await);
    let all = certificates(asking, info.as_ref().ok()).await;
    found.add(
        "certificate",
        "GET /v1/certificate gives OpenPGP certificates, first the one that names the destination",
        all.as_ref().map(|_| ()).map_err(Clone::clone),
    );
    let chain = match all {
        Ok((first, others)) => Some(followed(asking, first, others, &mut found).await),
        Err(_) => {
            found.untested(CHAIN.0, CHAIN.1, "needs certificate");
            None
        }
    };
    let recipient = chain.as_ref().and_then(|chain| chain.recipient(now()).cloned());
    found.add(
        "unauthorised",
        "without a token, or with a wrong one, the answer is 401",
        unauthorised(asking).await,
    );
    found.add("problems", "what is not there is a 404 as problem details", no_such_path(asking).await);
    let rest = "all that concerns documents";
    match (info, chain.zip(recipient)) {
        (Ok(info), Some((chain, recipient))) if asking.is_client() => {
            let certificates = chain.certificates().to_vec();
            let known = Known { info, certificates, recipient, collection: collection.to_owned() };
            documents(asking, &known, &mut found).await;
        }
        (Ok(_), Some(_)) => found.untested("documents", rest, "give a gateway's token with --token"),
        _ => found.untested("documents", rest, "needs info, and a certificate that can be sealed to"),
    }
    let redirects = match asking.redirects() {
        0 => Ok(()),
        count => Err(format!("{count} answers lead elsewhere; gateways do not follow")),
    };
    found.add("no-redirects", "no request is redirected", redirects);
    found.0
}

async fn documents(asking: &Asking, known: &Known, found: &mut Findings) {
    let first = put(asking, known).await;
    let outcome = first.as_ref().map(|_| ()).map_err(Clone::clone);
    found.add("put", "PUT of a document is answered with a confirmation that verifies", outcome);
    match &first {
        Ok(first) => {
            found.add(
                "put-again",
                "the same document again gets the identical confirmation",
                put_again(asking, first).await,
            );
            found.add(
                "json",
                "without Accept the answer is JSON with the signed text",
                json(asking, first).await,
            );
            found.add("have", "POST /v1/have says what is held, and confirms it", have(asking, first).await);
            found.add(
                "confirmations",
                "POST /v1/confirmations gives those of the ids",
                by_ids(asking, first).await,
            );
            found.add(
                "cursor",
                "GET /v1/confirmations goes on after the cursor, and ends",
                cursor(asking, known, first).await,
            );
        }
        Err(_) => found.untested("questions", "answers about a document that was uploaded", "needs put"),
    }
    found.add(
        "wrong-digest",
        "a document with another digest than promised is refused, not taken",
        wrong_digest(asking, known).await,
    );
    found.add(
        "wrong-id",
        "a document under another's id is refused, not taken",
        wrong_id(asking, known).await,
    );
    found.add(
        "wrong-destination",
        "a document for another destination is refused",
        elsewhere(asking, known).await,
    );
    found.add("batch", "bad documents in a batch hold back no others", batch(asking, known).await);
    found.add("bad-ids", "ids that are not of 32 bytes are refused", bad_ids(asking).await);
    found.add("too-large", "more ids than are allowed are refused", too_many_ids(asking).await);
    let resumable = "an upload by tus goes on where it stopped";
    match known.info.resumable {
        true => found.add("tus", resumable, super::resumed::tus(asking, known).await),
        false => found.untested("tus", resumable, "the info does not announce it"),
    }
}

async fn info(asking: &Asking) -> Result<Info, String> {
    let heard = asking.ask_as(None, Method::GET, api::INFO, &[], Vec::new()).await?.has_status(200)?;
    let info: Info = serde_json::from_slice(&heard.body).map_err(|error| error.to_string())?;
    match info.versions.contains(&api::VERSION) {
        true => Ok(info),
        false => Err(format!("version {} is not among {:?}", api::VERSION, info.versions)),
    }
}

async fn etag(asking: &Asking) -> Outcome {
    let heard = asking.ask_as(None, Method::GET, api::INFO, &[], Vec::new()).await?.has_status(200)?;
    let tag = heard.header("etag").ok_or("there is no ETag")?;
    let known = [("if-none-match", tag)];
    let heard = asking.ask_as(None, Method::GET, api::INFO, &known, Vec::new()).await?;
    heard.has_status(304).map(drop)
}

/// The destination's first certificate, and the others that the server has.
async fn certificates(
    asking: &Asking,
    info: Option<&Info>,
) -> Result<(Certificate, Vec<Certificate>), String> {
    let heard = asking.ask_as(None, Method::GET, api::CERTIFICATE, &[], Vec::new()).await?.has_status(200)?;
    let all = Certificate::several_from_bytes(&heard.body).map_err(|error| error.to_string())?;
    let mut all = all.into_iter();
    let first = all.next().ok_or("there is none")?;
    match info.map(|info| info.fingerprint).filter(|named| *named != first.fingerprint()) {
        None => Ok((first, all.collect())),
        Some(named) => Err(format!("the first one is {}, the info names {named}", first.fingerprint())),
    }
}

const CHAIN: (&str, &str) = (
    "successions",
    "GET /v1/successions leads from the first certificate, by signatures, to one that can be sealed to",
);

/// The chain, as whoever has pinned the first certificate follows it. Where that one's key is revoked it vouches for nobody any
/// more: then the others are taken as they are.
async fn followed(
    asking: &Asking,
    first: Certificate,
    others: Vec<Certificate>,
    found: &mut Findings,
) -> Chain {
    let mut chain = Chain::new(first);
    let outcome = follow(asking, &mut chain).await;
    if chain.certificates().first().is_some_and(Certificate::is_hard_revoked) {
        let reason = "the first key is revoked, so that only who knew its successor before follows";
        found.untested(CHAIN.0, CHAIN.1, reason);
        // One that is too many is not needed.
        let _ = others.into_iter().try_for_each(|other| chain.admit(other).map(drop));
    } else {
        found.add(CHAIN.0, CHAIN.1, outcome);
    }
    chain
}

async fn follow(asking: &Asking, chain: &mut Chain) -> Outcome {
    let heard = asking.ask_as(None, Method::GET, api::SUCCESSIONS, &[], Vec::new()).await?.has_status(200)?;
    let links = succession::decode(&heard.body).map_err(|error| error.to_string())?;
    if links.is_empty() {
        return Err("it names no certificate".to_owned());
    }
    match chain.absorb(&links, now()).faults.first() {
        Some(fault) => Err(fault.to_string()),
        None if chain.recipient(now()).is_none() => Err("none has a valid key to encrypt to".to_owned()),
        None => Ok(()),
    }
}

async fn unauthorised(asking: &Asking) -> Outcome {
    let ids = vec![0; 32];
    for token in [None, Some("not-a-token")] {
        for path in [api::HAVE, api::BATCH] {
            let heard = asking.ask_as(token, Method::POST, path, &[], ids.clone()).await?;
            heard.refused_with(401).map_err(|why| format!("POST {path}: {why}"))?;
        }
    }
    Ok(())
}

async fn no_such_path(asking: &Asking) -> Outcome {
    asking.ask(Method::GET, "/v1/nothing-of-the-kind", &[], Vec::new()).await?.refused_with(404)
}

/// A document that the server took.
struct Taken {
    document: Document,
    answer: Answer,
}

fn path(id: &MessageId) -> String {
    format!("{}/{id}", api::DOCUMENTS)
}

async fn put(asking: &Asking, known: &Known) -> Result<Taken, String> {
    let document = known.document(b"a document of waypost-destination check\n")?;
    let answer = asking.answer(Method::PUT, &path(&document.id()), document.encode().to_vec()).await?;
    match verdict(known, &answer, &document)? {
        Some(Verdict::Opened | Verdict::Held) => Ok(Taken { document, answer }),
        Some(Verdict::Rejected(Rejection::UnknownCollection)) => Err(format!(
            "it takes no collection {:?}; name one that it takes with --collection",
            known.collection
        )),
        Some(other) => Err(format!("the verdict is {other:?}")),
        None => Err("the answer confirms nothing of the document".to_owned()),
    }
}

/// The verdict on a document, every confirmation's signature being right.
pub(super) fn verdict(
    known: &Known,
    answer: &Answer,
    document: &Document,
) -> Result<Option<Verdict>, String> {
    let mut verdict = None;
    for wire in &answer.confirmations {
        let confirmation = Confirmation::from_wire(wire).map_err(|error| error.to_string())?;
        verify_confirmation(&confirmation, &known.certificates, now())
            .map_err(|error| format!("a confirmation does not verify: {error}"))?;
        verdict = verdict.or(confirmation.statement.verdict_on(&document.id()));
    }
    Ok(verdict)
}

async fn put_again(asking: &Asking, first: &Taken) -> Outcome {
    let bytes = first.document.encode().to_vec();
    let again = asking.answer(Method::PUT, &path(&first.document.id()), bytes).await?;
    match again.confirmations == first.answer.confirmations {
        true => Ok(()),
        false => Err("it is another one".to_owned()),
    }
}

async fn json(asking: &Asking, first: &Taken) -> Outcome {
    let ids = encode_ids([&first.document.id()]);
    let heard = asking.ask(Method::POST, api::CONFIRMATIONS, &[], ids).await?.has_status(200)?;
    if heard.kind() != "application/json" {
        return Err(format!("it is {:?}", heard.kind()));
    }
    let body: serde_json::Value = serde_json::from_slice(&heard.body).map_err(|error| error.to_string())?;
    let one = &body["confirmations"][0];
    let wire = first.answer.confirmations.first().ok_or("nothing was confirmed")?;
    let confirmation = Confirmation::from_wire(wire).map_err(|error| error.to_string())?;
    let signature = one["signature"].as_str().and_then(|text| BASE64.decode(text.as_bytes()).ok());
    match one["text"].as_str() == Some(&confirmation.statement.text())
        && signature.as_deref() == Some(confirmation.signature())
    {
        true => Ok(()),
        false => Err("text or signature are not those of the protobuf answer".to_owned()),
    }
}

async fn have(asking: &Asking, first: &Taken) -> Outcome {
    let ids = [MessageId([0; 32]), first.document.id()];
    let answer = asking.answer(Method::POST, api::HAVE, encode_ids(&ids)).await?;
    match (bit(&answer.held, 0), bit(&answer.held, 1)) {
        (false, true) => {}
        found => return Err(format!("of an unknown and a known id it says {found:?}")),
    }
    confirms(&answer, first)
}

async fn by_ids(asking: &Asking, first: &Taken) -> Outcome {
    let ids = encode_ids([&first.document.id()]);
    confirms(&asking.answer(Method::POST, api::CONFIRMATIONS, ids).await?, first)
}

fn confirms(answer: &Answer, first: &Taken) -> Outcome {
    match answer.confirmations == first.answer.confirmations {
        true => Ok(()),
        false => Err("the confirmation is not that of the upload".to_owned()),
    }
}

async fn cursor(asking: &Asking, known: &Known, first: &Taken) -> Outcome {
    // From where all is known, one more upload brings one more confirmation.
    let mut cursor = 0;
    let mut has_first = false;
    for page in 0.. {
        let path = format!("{}?since={cursor}&limit=1000", api::CONFIRMATIONS);
        let answer = asking.answer(Method::GET, &path, Vec::new()).await?;
        has_first |=
            answer.confirmations.contains(first.answer.confirmations.first().ok_or("nothing was confirmed")?);
        if answer.confirmations.is_empty() {
            break;
        }
        if answer.cursor <= cursor || page > 10_000 {
            return Err(format!("after cursor {cursor} comes {}, so that it never ends", answer.cursor));
        }
        cursor = answer.cursor;
    }
    if !has_first {
        return Err("the confirmation of the upload is not among them".to_owned());
    }
    let document = known.document(b"one more document of waypost-destination check\n")?;
    let put = asking.answer(Method::PUT, &path(&document.id()), document.encode().to_vec()).await?;
    let path = format!("{}?since={cursor}&limit=1", api::CONFIRMATIONS);
    let answer = asking.answer(Method::GET, &path, Vec::new()).await?;
    match !answer.confirmations.is_empty() && answer.confirmations == put.confirmations {
        true => Ok(()),
        false => Err("the next upload's confirmation does not follow".to_owned()),
    }
}

/// That a refused document was not taken all the same.
async fn is_not_held(asking: &Asking, document: &Document) -> Outcome {
    let answer = asking.answer(Method::POST, api::HAVE, encode_ids([&document.id()])).await?;
    match bit(&answer.held, 0) {
        false => Ok(()),
        true => Err("it was taken all the same".to_owned()),
    }
}

async fn wrong_digest(asking: &Asking, known: &Known) -> Outcome {
    let document = known.document(b"its digest is another\n")?;
    let digest = format!("sha-256=:{}:", BASE64.encode(&Sha256::digest(b"another")));
    let headers = [("repr-digest", digest.as_str())];
    let bytes = document.encode().to_vec();
    asking.ask(Method::PUT, &path(&document.id()), &headers, bytes).await?.refused_with(400)?;
    is_not_held(asking, &document).await
}

async fn wrong_id(asking: &Asking, known: &Known) -> Outcome {
    let document = known.document(b"its id is another\n")?;
    let other = known.document(b"that other one\n")?;
    let bytes = document.encode().to_vec();
    asking.ask(Method::PUT, &path(&other.id()), &[], bytes).await?.refused_with(400)?;
    is_not_held(asking, &document).await?;
    is_not_held(asking, &other).await
}

async fn elsewhere(asking: &Asking, known: &Known) -> Outcome {
    let document = known.document_for(Fingerprint::V4([7; 20]), b"for another destination\n")?;
    let bytes = document.encode().to_vec();
    asking.ask(Method::PUT, &path(&document.id()), &[], bytes).await?.refused_with(422)
}

async fn batch(asking: &Asking, known: &Known) -> Outcome {
    let good = [known.document(b"first in a batch\n")?, known.document(b"last in a batch\n")?];
    let other = known.document_for(Fingerprint::V4([7; 20]), b"for another destination\n")?;
    let mut damaged = known.document(b"damaged\n")?.body().to_vec();
    if let Some(last) = damaged.last_mut() {
        *last ^= 1;
    }
    let damaged = known.wrap(damaged)?;
    let mut body = Vec::new();
    for bytes in
        [&good[0].encode()[..], b"no document", &other.encode(), &damaged.encode(), &good[1].encode()]
    {
        body.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        body.extend_from_slice(bytes);
    }
    let answer = asking.answer(Method::POST, api::BATCH, body).await?;
    let failures: Vec<_> =
        answer.failures.iter().map(|failure| (failure.index, FailureCode::from_code(failure.code))).collect();
    let expected = [(1, FailureCode::Malformed), (2, FailureCode::WrongDestination)];
    if failures != expected {
        return Err(format!("the failures are {failures:?} in place of {expected:?}"));
    }
    let verdict = |document| verdict(known, &answer, document);
    for document in &good {
        if !matches!(verdict(document)?, Some(Verdict::Opened | Verdict::Held)) {
            return Err("a good document is not confirmed".to_owned());
        }
    }
    match verdict(&damaged)? {
        Some(Verdict::Rejected(Rejection::CannotOpen) | Verdict::Held) => Ok(()),
        other => Err(format!("the verdict on a damaged document is {other:?}")),
    }
}

async fn bad_ids(asking: &Asking) -> Outcome {
    asking.ask(Method::POST, api::HAVE, &[], vec![0; 31]).await?.refused_with(400)
}

async fn too_many_ids(asking: &Asking) -> Outcome {
    let ids = vec![0; (MAX_IDS + 1) * MessageId::LEN];
    asking.ask(Method::POST, api::HAVE, &[], ids).await?.refused_with(413)
}
