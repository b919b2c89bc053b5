//! PostgreSQL and a server of S3's protocol, started once for each test program in a temporary folder; both end with it.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use nix::fcntl::{Flock, FlockArg};
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStore as _, ObjectStoreExt as _};

/// What a home's settings say to use both.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) database: String,
    pub(crate) content: String,
    pub(crate) options: BTreeMap<String, String>,
}

/// A database and a prefix of their own, on the servers of this test program.
pub(crate) fn shared() -> Shared {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    static SERVERS: OnceLock<(String, String)> = OnceLock::new();
    let (socket, endpoint) = SERVERS.get_or_init(servers);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // This file may be in several modules of one program.
    let name = format!("w{:x}_{number}", std::ptr::from_ref(&NUMBER).addr());
    psql(socket, &format!("CREATE DATABASE {name}"));
    let options = [
        ("endpoint", endpoint.as_str()),
        ("region", "us-east-1"),
        ("access_key_id", "test"),
        ("secret_access_key", "test"),
        ("allow_http", "true"),
    ];
    Shared {
        database: format!("postgres://postgres@localhost/{name}?host={socket}"),
        content: format!("s3://waypost/{name}"),
        options: options.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    }
}

impl Shared {
    /// Lines for `destination.toml`; a table comes last.
    pub(crate) fn settings(&self) -> String {
        let options: String =
            self.options.iter().map(|(key, value)| format!("{key} = {value:?}\n")).collect();
        format!(
            "database = {:?}\ncontent = {:?}\n\n[content_options]\n{options}",
            self.database, self.content
        )
    }

    /// Every object below `folder`, by its path there, sorted.
    pub(crate) fn objects(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        let name = self.content.rsplit('/').next().unwrap();
        let prefix = format!("{name}/{folder}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = bucket(&self.options);
            let path = object_store::path::Path::parse(&prefix).unwrap();
            let listed: Vec<_> = store.list(Some(&path)).try_collect().await.unwrap();
            let get = async |object: object_store::ObjectMeta| {
                let bytes = match store.get(&object.location).await {
                    // It went after it was listed.
                    Err(object_store::Error::NotFound { .. }) => return None,
                    got => got.unwrap().bytes().await.unwrap(),
                };
                let name = object.location.as_ref().strip_prefix(&prefix).unwrap().trim_start_matches('/');
                Some((name.to_owned(), bytes.to_vec()))
            };
            let mut found: Vec<_> =
                stream::iter(listed).map(get).buffered(16).filter_map(std::future::ready).collect().await;
            found.sort();
            found
        })
    }

    /// Takes an object away, as who works through an inbox does.
    pub(crate) fn remove(&self, path: &str) {
        let name = self.content.rsplit('/').next().unwrap();
        let path = object_store::path::Path::parse(format!("{name}/{path}")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { bucket(&self.options).delete(&path).await }).unwrap();
    }

    /// What a statement of SQL answers.
    pub(crate) fn sql(&self, statement: &str) -> String {
        let output = Command::new("psql").args(["-tAc", statement]).arg(&self.database).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

fn bucket(options: &BTreeMap<String, String>) -> object_store::aws::AmazonS3 {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = AmazonS3Builder::new().with_bucket_name("waypost");
    for (key, value) in options {
        builder = builder.with_config(key.parse().unwrap(), value);
    }
    builder.build().unwrap()
}

/// The folder of PostgreSQL's socket, and the URL of the object store. Started by whoever comes first.
fn servers() -> (String, String) {
    let folder = std::env::temp_dir().join(format!("waypost-servers-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap();
    let ready = folder.join("endpoint");
    let socket = folder.to_str().unwrap().to_owned();
    if let Ok(endpoint) = std::fs::read_to_string(&ready) {
        return (socket, endpoint);
    }
    start_postgres(&folder);
    let endpoint = start_objects(&folder);
    std::fs::write(ready, &endpoint).unwrap();
    (socket, endpoint)
}

fn psql(socket: &str, statement: &str) {
    let output = Command::new("psql")
        .args(["-h", socket, "-U", "postgres", "-d", "postgres", "-qc", statement])
        .output()
        .expect("psql is not installed: tests/tools/setup.sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// As a user without rights: it does not run as root.
fn start_postgres(folder: &Path) {
    let programs = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let programs = programs.map(|entry| entry.unwrap().path().join("bin")).max();
    let programs = programs.expect("PostgreSQL is not installed: tests/tools/setup.sh");
    let (folder, programs) = (folder.to_str().unwrap(), programs.to_str().unwrap());
    let user = match nix::unistd::geteuid().is_root() {
        true => "setpriv --reuid=65534 --regid=65534 --clear-groups",
        false => "",
    };
    let script = format!(
        "set -e; [ \"$(id -u)\" != 0 ] || chown 65534:65534 {folder}
        {user} {programs}/initdb -D {folder}/data -U postgres -A trust -E UTF8 --no-sync >{folder}/initdb.log 2>&1
        {user} {programs}/postgres -D {folder}/data -k {folder} -c listen_addresses= -c fsync=off \
            -c max_connections=300 -c shared_buffers=32MB >{folder}/postgres.log 2>&1 &
        server=$!; cat >/dev/null; kill -INT $server; wait $server || true; rm -rf {folder}"
    );
    stays(Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()));
    let begun = Instant::now();
    let is_ready = || {
        let mut command = Command::new("pg_isready");
        command.args(["-q", "-h", folder]).status().is_ok_and(|status| status.success())
    };
    while !is_ready() {
        let log = || std::fs::read_to_string(format!("{folder}/postgres.log")).unwrap_or_default();
        assert!(begun.elapsed() < Duration::from_secs(60), "PostgreSQL does not start: {}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// `moto`, which keeps all in memory.
fn start_objects(folder: &Path) -> String {
    let python = python();
    let program = "import sys, threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()";
    let mut command = Command::new(python);
    let log = File::create(folder.join("moto.log")).unwrap();
    command.args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    let child = stays(&mut command);
    let mut port = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut port).unwrap();
    let endpoint = format!("http://127.0.0.1:{}", port.trim());
    let made = Command::new("curl")
        .args(["--silent", "--fail", "--request", "PUT", &format!("{endpoint}/waypost")])
        .stdout(Stdio::null())
        .status();
    assert!(made.unwrap().success(), "no bucket at {endpoint}");
    endpoint
}

/// A process that ends when its standard input does: with this program.
fn stays(command: &mut Command) -> &'static mut Child {
    Box::leak(Box::new(command.spawn().unwrap()))
}

/// The interpreter that has the test's Python packages; installs them where they are missing.
pub(crate) fn python() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tools/python.sh");
    let output = Command::new(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}
