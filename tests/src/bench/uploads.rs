//! `upload_round_trips` and `upload_vs_curl`: the gateway's uploader against the real destination, over a network that
//! delays and limits packets.

use std::collections::HashSet;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use waypost_openpgp::{Certificate, verify_confirmation};
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::document::Document;
use waypost_protocol::ids::{MessageId, PeerKey, Seq};
use waypost_protocol::time::Monotonic;
use waypost_protocol::{api, mvds};
use waypost_upload::plan::{self, Waiting};
use waypost_upload::uploader::{Event, Settings, Sink, Source, Uploader};

use super::destination::Destination;
use super::maths::{RUNS, alternate};
use super::row::Measured;
use super::workload::{FORM, noise, now};
use super::{Bench, Outcome};
use crate::wan::Conditions;

/// There and back.
const SATELLITE: Duration = Duration::from_millis(600);
const FORMS: usize = 1_000;
const LARGE: usize = 50_000_000;
/// There and back on the line that curl is compared on.
const DSL: Duration = Duration::from_millis(40);
/// Bytes a second on it: 100 Mbit/s.
const DSL_RATE: u64 = 12_500_000;
/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn round_trips(bench: &Bench) -> Outcome<Measured> {
    let destination = Destination::start(bench)?;
    let far = Conditions { delay: SATELLITE / 2, ..Conditions::default() };
    let batches = (0..2 * RUNS as u64).map(|seed| destination.addressee.documents(seed, FORMS, FORM));
    let batches: Vec<Vec<Document>> = batches.collect::<Outcome<_>>()?;
    let pairs = alternate(
        RUNS,
        |run| upload(&destination, &far, &batches[run]),
        |run| upload(&destination, &Conditions::default(), &batches[RUNS + run]),
    )?;
    let trips = |seconds: f64| seconds / SATELLITE.as_secs_f64();
    let without_server =
        |(delayed, direct): &(Duration, Duration)| delayed.as_secs_f64() - direct.as_secs_f64();
    Ok(Measured::new(trips(pairs.median(without_server)))
        .beside("elapsed", format!("{:.2} s, {:.2} round trips of 600 ms", pairs.ours(), trips(pairs.ours())))
        .beside("server time: the same over a path without delay", format!("{:.2} s", pairs.theirs())))
}

pub(super) fn upload_vs_curl(bench: &Bench) -> Outcome<Measured> {
    let destination = Destination::start(bench)?;
    let line = Conditions { delay: DSL / 2, rate: Some(DSL_RATE), queue: 1 << 20, ..Conditions::default() };
    let content = noise(1, LARGE);
    // Sealed anew each time, so that each run brings a document that the destination does not have.
    let fresh = || destination.addressee.wrap(&destination.addressee.seal(&content)?);
    let compare = |conditions: &Conditions| {
        alternate(
            RUNS,
            |_| upload(&destination, conditions, &[fresh()?]),
            |_| curl(&destination, conditions, &fresh()?),
        )
    };
    let (on_line, direct) = (compare(&line)?, compare(&Conditions::default())?);
    let rate = |seconds: f64| format!("{:.1} MB/s", 50.0 / seconds);
    Ok(Measured::new(on_line.speed())
        .beside("line", "100 Mbit/s, 40 ms there and back")
        .beside("uploader", rate(on_line.ours()))
        .beside("curl", rate(on_line.theirs()))
        .beside(
            "without delay or limit",
            format!("{:.3} ({} against {})", direct.speed(), rate(direct.ours()), rate(direct.theirs())),
        ))
}

/// The gateway's uploader with documents in memory: from its start to the last verified confirmation.
fn upload(destination: &Destination, conditions: &Conditions, documents: &[Document]) -> Outcome<Duration> {
    destination.wan.set(&Conditions::default());
    let near = destination.wan.near().namespace();
    let info = destination.client()?;
    let info = near.run(move || { info }.info(None).map_err(io::Error::other))?;
    destination.wan.set(conditions);
    let begun = Instant::now();
    let (tell, told) = channel();
    let shared = Arc::new(Shared { documents: documents.to_vec(), settled: Mutex::default() });
    let settings = Settings {
        client: destination.client()?,
        plan: plan::Settings::default(),
        info: Some(info),
        seed: 1,
        clock: Box::new(move || Monotonic(begun.elapsed())),
        after: None,
    };
    let sink =
        Verifying { shared: shared.clone(), certificate: destination.addressee.certificate.clone(), tell };
    // The uploader's thread is of the network in which it is started.
    let uploader = near.run(move || Uploader::start(settings, Holding(shared), sink))?;
    let ended = told.recv_timeout(PATIENCE);
    let took = begun.elapsed();
    uploader.stop(Duration::from_secs(1));
    match ended? {
        None => Ok(took),
        Some(trouble) => Err(trouble.into()),
    }
}

/// `curl` putting the same document to the same place, by its own clock, which begins before it connects.
fn curl(destination: &Destination, conditions: &Conditions, document: &Document) -> Outcome<Duration> {
    let file = destination.folder.path().join("document");
    std::fs::write(&file, document.encode())?;
    destination.wan.set(conditions);
    let output = destination
        .wan
        .near()
        .command("curl")
        .args(["--silent", "--show-error", "--http1.1", "--cacert", &destination.ca, "--upload-file"])
        .arg(&file)
        .args(["--header", &format!("Authorization: Bearer {}", destination.token)])
        .args(["--header", &format!("Content-Type: {}", api::DOCUMENT)])
        .args(["--header", &format!("Accept: {}", api::PROTOBUF)])
        // Or it waits for leave to send, a round trip that ours does without.
        .args(["--header", "Expect:"])
        .args(["--output", "/dev/null", "--write-out", "%{http_code} %{time_total}"])
        .arg(format!("{}{}/{}", destination.url, api::DOCUMENTS, document.id()))
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match said.split_once(' ') {
        Some(("200", seconds)) => Ok(Duration::from_secs_f64(seconds.parse()?)),
        _ => Err(format!("curl: {said} {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

struct Shared {
    documents: Vec<Document>,
    settled: Mutex<HashSet<MessageId>>,
}

impl Shared {
    fn is_settled(&self, id: &MessageId) -> bool {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }
}

/// The documents, in the order of their sequence from 1 on.
struct Holding(Arc<Shared>);

impl Source for Holding {
    fn waiting(&self, after: Option<Seq>, limit: usize) -> Result<Vec<Waiting>, String> {
        let rows = self.0.documents.iter().zip(1..).map(|(document, seq)| Waiting {
            seq: Seq(seq),
            description: document.description(),
            depositor: PeerKey([1; 32]),
            share: 100,
            priority: 0,
            ambiguous: false,
        });
        let rows = rows.filter(|row| after.is_none_or(|after| row.seq > after));
        Ok(rows.filter(|row| !self.0.is_settled(&row.description.id)).take(limit).collect())
    }

    fn still_waiting(&self, documents: &[Waiting]) -> Result<Vec<bool>, String> {
        Ok(documents.iter().map(|row| !self.0.is_settled(&row.description.id)).collect())
    }

    fn read_body(&self, row: &Waiting, offset: u64, len: usize) -> Result<Bytes, String> {
        let at = usize::try_from(row.seq.0).ok().and_then(|seq| seq.checked_sub(1));
        let document = at.and_then(|at| self.0.documents.get(at)).ok_or("no such row")?;
        let begin = usize::try_from(offset).map_err(|error| error.to_string())?;
        Ok(document.body().slice(begin..document.body().len().min(begin + len)))
    }

    fn owed(&self) -> bool {
        false
    }

    fn cursor(&self) -> u64 {
        0
    }
}

/// Verifies confirmations as the gateway does, and tells when the last document has one, or of trouble.
struct Verifying {
    shared: Arc<Shared>,
    certificate: Certificate,
    tell: Sender<Option<String>>,
}

impl Sink for Verifying {
    fn event(&mut self, event: Event<'_>) {
        let trouble = match event {
            Event::Failed { error, .. } => error.to_string(),
            Event::SetAside { cause, .. } => cause.to_string(),
            _ => return,
        };
        // Whoever waits has heard enough.
        let _ = self.tell.send(Some(trouble));
    }

    fn confirmations(&mut self, confirmations: Vec<mvds::Confirmation>) -> Result<Vec<MessageId>, String> {
        let mut settled = self.shared.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let mut news = Vec::new();
        for wire in confirmations {
            let confirmation = Confirmation::from_wire(&wire).map_err(|error| error.to_string())?;
            verify_confirmation(&confirmation, std::slice::from_ref(&self.certificate), now())
                .map_err(|error| error.to_string())?;
            for (id, verdict) in confirmation.statement.verdicts() {
                if *verdict != Verdict::Opened {
                    return Err(format!("the destination's verdict on {id} is {verdict:?}"));
                }
                news.push(*id);
            }
        }
        settled.extend(&news);
        if settled.len() == self.shared.documents.len() {
            // As above.
            let _ = self.tell.send(None);
        }
        Ok(news)
    }
}
