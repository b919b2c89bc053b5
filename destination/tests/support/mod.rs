//! A destination in a temporary folder, its binary as a process, documents to send, and curl as the client.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub(crate) mod servers;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;
use waypost_destination::home::{Home, Init};
use waypost_openpgp::{Compress, seal_bytes, verify_confirmation};
use waypost_protocol::api::Answer;
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::content::Label;
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{Header, assemble};
use waypost_protocol::ids::MessageId;
use waypost_protocol::time::UnixTime;
use waypost_remote_log::{Chain, Content, ContentHash, Described, Entry, Head, LogId, LogKey, Page, Signer};

pub(crate) fn now() -> UnixTime {
    waypost_destination::clock::now()
}

/// A destination that is not running yet, with one gateway.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) home: Home,
    pub(crate) token: String,
    /// Database and object store, where it has them.
    pub(crate) shared: Option<servers::Shared>,
}

/// Whether this is the program that runs the tests against a shared database and object store.
pub(crate) fn is_at_scale() -> bool {
    env!("CARGO_CRATE_NAME") == "at_scale"
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Without a gateway, for settings that are not there yet.
    pub(crate) fn bare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(&folder.path().join("home"), &Init::default()).unwrap();
        Place { folder, home, token: String::new(), shared: None }
    }

    pub(crate) fn with(change: impl FnOnce(&mut Init)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut init = Init { name: "Clinic".into(), ..Init::default() };
        change(&mut init);
        let mut home = Home::init(&folder.path().join("home"), &init).unwrap();
        let shared = is_at_scale().then(servers::shared);

        if let Some(shared) = &shared {
            let file = home.path().join("destination.toml");
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, text + &shared.settings()).unwrap();
            home = Home::open(home.path()).unwrap();
        }
        let mut place = Place { folder, home, token: String::new(), shared };
        place.token = place.add_gateway("kiosk");
        place
    }

    /// The command with this home, its answer as JSON.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Value, String> {
        let output =
            binary().arg("--home").arg(self.home.path()).arg("--json").args(arguments).output().unwrap();
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    pub(crate) fn add_gateway(&self, name: &str) -> String {
        self.command(&["gateways", "add", name]).unwrap()["token"].as_str().unwrap().to_owned()
    }

    /// Changes the settings' text.
    pub(crate) fn set(&self, key: &str, value: &str) {
        let path = self.home.path().join("destination.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let kept = text.lines().filter(|line| !line.starts_with(&format!("{key} ")));
        // Before any table.
        let text = format!("{key} = {value}\n") + &kept.map(|line| format!("{line}\n")).collect::<String>();
        std::fs::write(&path, text).unwrap();
    }

    /// Adds to the settings' text: a table.
    pub(crate) fn append(&self, text: &str) {
        let path = self.home.path().join("destination.toml");
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, before + text).unwrap();
    }

    pub(crate) fn run(&self) -> Running {
        self.run_home(&self.home)
    }

    /// A server of another home with the same token.
    pub(crate) fn run_home(&self, home: &Home) -> Running {
        let mut child = binary()
            .arg("--home")
            .arg(home.path())
            .args(["--json", "--log", "warn", "run", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).expect("the server did not start");
        let address = ready["address"].as_str().unwrap().to_owned();
        let ca = self.home.authority_file().unwrap();
        let client = Client { url: format!("https://{address}"), ca, token: self.token.clone() };
        let metrics = ready["metrics"].as_str().map(str::to_owned);
        Running { child, client, metrics }
    }

    pub(crate) fn document(&self, name: Option<&[u8]>, content: &[u8]) -> Document {
        self.document_in("forms", name, content)
    }

    pub(crate) fn document_in(&self, collection: &str, name: Option<&[u8]>, content: &[u8]) -> Document {
        let file_name = name.map(<[u8]>::to_vec);
        let label = Label { collection: collection.into(), file_name, ..Label::default() };
        let recipients = [self.home.certificate()];
        let sealed = seal_bytes(&label, content, &recipients, Compress::WhenSmaller, now()).unwrap();
        self.wrap(collection, &sealed)
    }

    pub(crate) fn wrap(&self, collection: &str, sealed: &[u8]) -> Document {
        let body = assemble(&Header::to(self.home.destination()), sealed).unwrap();
        let group = self.home.collection_key().group(&self.home.destination(), collection);
        Document::new(group, now().rounded_to_hour(), body).unwrap()
    }

    /// Every file below the inbox, with its content, sorted.
    pub(crate) fn inbox(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(top: &Path, folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => walk(top, &path, found),
                    false => {
                        let content = std::fs::read(&path).unwrap();
                        found.push((path.strip_prefix(top).unwrap().to_owned(), content));
                    }
                }
            }
        }
        let mut found = Vec::new();
        if let Some(shared) = &self.shared {
            return inbox_of(shared);
        }
        walk(&self.home.inbox_folder(), &self.home.inbox_folder(), &mut found);
        found.sort();
        found
    }

    /// How many sealed documents wait for their key.
    pub(crate) fn held(&self) -> usize {
        if let Some(shared) = &self.shared {
            return shared.objects("held").len();
        }
        let folders = std::fs::read_dir(self.home.path().join("held")).unwrap();
        folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
    }

    /// A folder with the confirmations as files.
    pub(crate) fn confirmations_folder(&self) -> PathBuf {
        let Some(shared) = &self.shared else { return self.home.confirmations_folder() };
        let folder = self.folder.path().join("confirmations-of-the-store");
        std::fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in shared.objects("confirmations") {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
        folder
    }

    pub(crate) fn temporary_files(&self) -> usize {
        std::fs::read_dir(self.home.path().join("tmp")).unwrap().count()
    }

    /// The verdicts of an answer, after their signatures have been verified.
    pub(crate) fn verdicts(&self, answer: &Answer) -> Vec<(MessageId, Verdict)> {
        let mut verdicts = Vec::new();
        for wire in &answer.confirmations {
            let confirmation = Confirmation::from_wire(wire).unwrap();
            verify_confirmation(&confirmation, &[self.home.certificate()], now()).unwrap();
            verdicts.extend(confirmation.statement.verdicts().to_vec());
        }
        verdicts
    }

    pub(crate) fn verdict_on(&self, answer: &Answer, document: &Document) -> Option<Verdict> {
        let verdicts = self.verdicts(answer);
        verdicts.iter().find(|(id, _)| *id == document.id()).map(|(_, verdict)| *verdict)
    }

    /// Writes bytes for curl to send.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// Objects by the names that a folder would give them: without the part of the document's id.
fn inbox_of(shared: &servers::Shared) -> Vec<(PathBuf, Vec<u8>)> {
    use std::os::unix::ffi::OsStringExt as _;
    let mut found: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    let mut same: std::collections::HashMap<PathBuf, u32> = std::collections::HashMap::new();
    for (key, content) in shared.objects("inbox") {
        let (collection, rest) = key.split_once('/').unwrap();
        let (id, name) = rest.split_once('/').unwrap();
        let name = if name == "content" { id } else { name };
        let bytes = percent_encoding::percent_decode_str(&format!("{collection}/{name}")).collect();
        let mut path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
        let number = same.entry(path.clone()).and_modify(|number| *number += 1).or_insert(1);
        if *number > 1 {
            path.as_mut_os_string().push(format!("~{number}"));
        }
        found.push((path, content));
    }
    found.sort();
    found
}

pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waypost-destination"));
    command.env_remove("WAYPOST_DESTINATION_HOME").env_remove("JOURNAL_STREAM");
    command
}

/// Documents as a batch's body.
pub(crate) fn batch<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Vec<u8> {
    let mut out = Vec::new();
    for document in documents {
        let bytes = document.encode();
        out.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        out.extend(bytes);
    }
    out
}

/// A running server; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) client: Client,
    /// The URL of its metrics.
    pub(crate) metrics: Option<String>,
}

impl std::ops::Deref for Running {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Someone who talks to it.
pub(crate) struct Client {
    pub(crate) url: String,
    pub(crate) ca: PathBuf,
    pub(crate) token: String,
}

/// What curl got.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn answer(&self) -> Answer {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.kind, "application/x-protobuf");
        Answer::decode(&self.body[..]).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status and `detail` of a problem.
    pub(crate) fn problem(&self) -> (u16, String) {
        assert_eq!(self.kind, "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert!(problem["type"].as_str().unwrap().starts_with("urn:waypost:problem:"));
        (self.status, problem["detail"].as_str().unwrap().to_owned())
    }
}

impl Running {
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The same server, for another gateway.
    pub(crate) fn with_token(&self, token: String) -> Client {
        Client { url: self.url.clone(), ca: self.ca.clone(), token }
    }
}

impl Client {
    /// `curl` as it is, without a token.
    pub(crate) fn bare_curl(&self, path: &str, arguments: &[&str]) -> Result<Reply, String> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "60", "--cacert"])
            .arg(&self.ca)
            .args(["--write-out", "\n%{http_code} %{content_type}"])
            .args(arguments)
            .arg(format!("{}{path}", self.url))
            .output()
            .expect("curl is not installed: apt-get install curl");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let at = output.stdout.iter().rposition(|&byte| byte == b'\n').unwrap();
        let line = String::from_utf8(output.stdout[at + 1..].to_vec()).unwrap();
        let (status, kind) = line.split_once(' ').unwrap();
        Ok(Reply {
            status: status.parse().unwrap(),
            kind: kind.to_owned(),
            body: output.stdout[..at].to_vec(),
        })
    }

    /// With the gateway's token.
    pub(crate) fn curl(&self, path: &str, arguments: &[&str]) -> Reply {
        let token = format!("Authorization: Bearer {}", self.token);
        self.bare_curl(path, &[&["--header", token.as_str()], arguments].concat()).unwrap()
    }

    /// With the gateway's token, a body, and protobuf as the answer.
    pub(crate) fn send(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(body).unwrap();
        let data = format!("@{}", file.path().to_str().unwrap());
        let accept = "Accept: application/x-protobuf";
        self.curl(path, &["--request", method, "--header", accept, "--data-binary", &data])
    }

    pub(crate) fn put(&self, document: &Document) -> Reply {
        self.send("PUT", &format!("/v1/documents/{}", document.id()), &document.encode())
    }

    /// With a JSON answer, as people send it.
    pub(crate) fn curl_put(&self, document: &Document) -> Reply {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&document.encode()).unwrap();
        let data = format!("@{}", file.path().to_str().unwrap());
        let path = format!("/v1/documents/{}", document.id());
        self.curl(&path, &["--request", "PUT", "--data-binary", &data])
    }

    pub(crate) fn ask(&self, path: &str, ids: &[MessageId]) -> Answer {
        self.send("POST", path, &waypost_protocol::api::encode_ids(ids)).answer()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A remote log with that document inline: its page and the page's hash, its head and the log's key.
pub(crate) fn log(document: &Document) -> (Vec<u8>, ContentHash, Vec<u8>, LogKey) {
    let signer = Signer::derive(&[7; 32]).unwrap();
    let page = page(signer.key(), &[document]);
    let (bytes, root) = page.encode();
    let head = head(&signer, LogId([1; 16]), 1, &page);
    (bytes.to_vec(), root, head.to_vec(), signer.key())
}

/// A page with these documents inline, the oldest first.
pub(crate) fn page(key: LogKey, documents: &[&Document]) -> Page {
    let entry = |document: &&Document| {
        let bytes = Bytes::from(document.encode());
        let described = Described { id: document.id(), group: document.group(), size: bytes.len() as u64 };
        Entry { described, content: Content::Inline(bytes) }
    };
    Page { key, entries: documents.iter().map(entry).collect(), below: Chain::EMPTY, tail: None }
}

/// A signed head.
pub(crate) fn head(signer: &Signer, log: LogId, sequence: u64, page: &Page) -> Bytes {
    let (chain, root) = (page.chain(), page.encode().1);
    signer.sign(&Head { key: signer.key(), log, sequence, chain, root, bookmark: Bytes::new() })
}

/// Bytes that do not compress.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[5]
    };
    (0..length).map(next).collect()
}

pub(crate) fn altered(document: &Document) -> Document {
    let mut body = document.body().to_vec();
    *body.last_mut().unwrap() ^= 1;
    Document::new(document.group(), document.timestamp(), Bytes::from(body)).unwrap()
}
