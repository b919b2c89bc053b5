//! A kiosk on a thread of its own: a real store and node behind a real TCP listener, and whatever a test makes it say.

use std::net::TcpListener as StdListener;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, split};
use tokio::sync::mpsc as channel;
use waypost_lan::Listener;
use waypost_link::{Link, LinkInfo, Medium, Throttle, memory_pair};
use waypost_node::{
    ContactSummary, ConversationId, Ending, Grant, Host, Limits, MediumLimits, Node, StoredNow, system_rng,
};
use waypost_openpgp::{Limits as OpenLimits, SecretKey};
use waypost_protocol::confirmation::{Confirmation, Verdict};
use waypost_protocol::content::Label;
use waypost_protocol::envelope;
use waypost_protocol::ids::{Fingerprint, GroupId, MessageId, PeerKey};
use waypost_protocol::invite::{CodeSecret, Pairing};
use waypost_protocol::refusal::{Goodbye, Reason};
use waypost_protocol::session::{Identity, Pattern};
use waypost_protocol::sync::{Accepts, Event, Holdings as _, PeerHello, Served, WINDOW};
use waypost_protocol::time::UnixTime;
use waypost_store::{
    Applied, Change, Filter, Freeing, Options, PeerClass, Store, StoreKey, Writer, WriterOptions,
};

/// What a kiosk of the tests does.
#[derive(Clone)]
pub(crate) struct Manners {
    pub(crate) serves: Vec<Fingerprint>,
    pub(crate) max_document: u64,
    /// Whether phones without a code are served.
    pub(crate) open: bool,
    pub(crate) quota: u64,
    /// Collections that phones may subscribe to.
    pub(crate) hands_out: Vec<GroupId>,
    /// Bounds of local networks and of each adapter.
    pub(crate) links: MediumLimits,
}

impl Manners {
    pub(crate) fn serving(destination: &SecretKey) -> Self {
        Manners {
            serves: vec![destination.certificate().fingerprint()],
            max_document: 1 << 30,
            open: false,
            quota: u64::MAX,
            hands_out: Vec::new(),
            links: MediumLimits::none(),
        }
    }
}

type Errand = Box<dyn FnOnce(&mut Node, &mut TestHost) + Send>;

enum Ask {
    Run(Errand),
    Stop,
}

pub(crate) struct Kiosk {
    pub(crate) identity: Identity,
    pub(crate) address: String,
    pub(crate) secret: CodeSecret,
    manners: Manners,
    folder: TempDir,
    asks: channel::UnboundedSender<Ask>,
    thread: Option<JoinHandle<()>>,
    store: Option<Store>,
    endings: mpsc::Receiver<Ending>,
}

impl Kiosk {
    pub(crate) fn start(manners: Manners) -> Self {
        let identity = Identity::generate(&mut system_rng().unwrap()).unwrap();
        let address = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        Self::start_as(identity, address, manners)
    }

    fn start_as(identity: Identity, address: String, manners: Manners) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options =
            Options { map_size: 1 << 30, reserve: 1 << 16, quota: manners.quota, ..Options::default() };
        let store = Store::open(folder.path(), &StoreKey::new([1; 32]), options).unwrap();
        let secret = CodeSecret::new([9; 16]);
        let code =
            Change::AddCode { secret: secret.clone(), class: PeerClass::Paired, valid: None, poster: None };
        store.apply_one(code).unwrap();
        let (asks, asked) = channel::unbounded_channel();
        let (ready_in, ready) = mpsc::channel();
        let (endings_in, endings) = mpsc::channel();
        let thread = {
            let (identity, address, manners, store) =
                (identity.clone(), address.clone(), manners.clone(), store.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(serve(identity, &address, manners, store, asked, (ready_in, endings_in)));
            })
        };
        ready.recv_timeout(Duration::from_secs(10)).unwrap();
        Kiosk {
            identity,
            address,
            secret,
            manners,
            folder,
            asks,
            thread: Some(thread),
            store: Some(store),
            endings,
        }
    }

    /// The same kiosk at the same address with an empty store.
    pub(crate) fn wiped(mut self) -> Self {
        self.stop();
        Self::start_as(self.identity.clone(), self.address.clone(), self.manners.clone())
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.asks.send(Ask::Stop);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        self.store = None;
    }

    pub(crate) fn key(&self) -> PeerKey {
        self.identity.public()
    }

    /// A code that says nothing of where the kiosk is.
    pub(crate) fn pairing_without_address(&self) -> String {
        let pairing = Pairing { addresses: Vec::new(), ..Pairing::parse(&self.pairing()).unwrap() };
        pairing.to_text()
    }

    pub(crate) fn pairing(&self) -> String {
        let pairing = Pairing {
            gateway: self.key(),
            secret: self.secret.clone(),
            name: "Test kiosk".into(),
            addresses: vec![self.address.clone()],
        };
        pairing.to_text()
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Ids of the documents that it holds, in order of arrival.
    pub(crate) fn documents(&self) -> Vec<MessageId> {
        let all = self.store().documents(&Filter::All, None, usize::MAX).unwrap();
        all.iter().map(|entry| entry.description.id).collect()
    }

    /// Opens a document that it holds, with the destination's key.
    pub(crate) fn open(&self, id: &MessageId, key: &SecretKey) -> (Label, Vec<u8>) {
        let entry = self.store().document(id).unwrap().unwrap();
        let mut body = Vec::new();
        while (body.len() as u64) < entry.description.size {
            body.extend(self.store().read_body(entry.seq, body.len() as u64, 1 << 20).unwrap());
        }
        let (_, sealed) = envelope::parse(&body).unwrap();
        let mut content = Vec::new();
        let limits = OpenLimits { max_content: 1 << 30 };
        let label = key.open(&body[sealed..], &mut content, limits).unwrap();
        (label, content)
    }

    /// How the next contact ended, of those that nobody has asked for.
    pub(crate) fn next_ending(&self) -> Ending {
        self.endings.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    /// Has the destination confirm documents, and passes that on.
    pub(crate) fn confirm(&self, key: &SecretKey, ids: &[MessageId], verdict: Verdict) {
        let verdicts = ids.iter().map(|id| (*id, verdict)).collect();
        let signed = key.sign(key.certificate().fingerprint(), verdicts, UnixTime(1_795_300_000)).unwrap();
        self.pass_on(signed);
    }

    /// Passes a confirmation on, true or not.
    pub(crate) fn pass_on(&self, confirmation: Confirmation) {
        let store = self.store().clone();
        let (done_in, done) = mpsc::channel();
        let ask = Ask::Run(Box::new(move |node, host| {
            let confirmation = Box::new(confirmation);
            let change = Change::Confirmation { confirmation, freeing: Freeing::GATEWAY, from: None };
            let applied = store.apply_one(change).unwrap();
            assert!(matches!(applied, Applied::Verdicts { new: true, .. }), "{applied:?}");
            node.confirmations_changed(host);
            done_in.send(()).unwrap();
        }));
        assert!(self.asks.send(ask).is_ok());
        done.recv_timeout(Duration::from_secs(10)).unwrap();
    }

    /// As [`Kiosk::link`], but the link is cut after so many bytes have gone to the kiosk.
    pub(crate) fn link_that_breaks(&self, bytes: u64) -> Link {
        let (near, relayed) = tokio::io::duplex(64 * 1024);
        let (far, mut relay) = tokio::io::duplex(64 * 1024);
        let end = |stream: DuplexStream, outgoing| {
            let (reader, writer) = split(stream);
            let useful_frame = Throttle::default().useful_frame;
            let info = LinkInfo {
                medium: Medium::Memory,
                address: "a relay".into(),
                group: String::new(),
                outgoing,
                useful_frame,
            };
            Link::new(info, reader, writer)
        };
        let far = end(far, false);
        let accept = Ask::Run(Box::new(move |node, _| {
            node.accept(far);
            tokio::spawn(async move {
                let (mut from_kiosk, mut to_kiosk) = split(&mut relay);
                let (from_phone, mut to_phone) = split(relayed);
                let mut limited = from_phone.take(bytes);
                tokio::select! {
                    _ = tokio::io::copy(&mut limited, &mut to_kiosk) => {}
                    _ = tokio::io::copy(&mut from_kiosk, &mut to_phone) => {}
                }
            });
        }));
        assert!(self.asks.send(accept).is_ok());
        end(near, true)
    }

    /// A link that carries so many bytes per second each way.
    pub(crate) fn slow_link(&self, medium: Medium, address: &str, rate: usize) -> Link {
        let (near, relayed) = tokio::io::duplex(4_096);
        let (far, relay) = tokio::io::duplex(4_096);
        let end = |stream: DuplexStream, outgoing| {
            let (reader, writer) = split(stream);
            // Links over TCP have their interface.
            let group = if medium == Medium::Lan { "lo".to_owned() } else { String::new() };
            let address = address.to_owned();
            let info = LinkInfo { medium, address, group, outgoing, useful_frame: 4_096 };
            Link::new(info, reader, writer)
        };
        let far = end(far, false);
        let accept = Ask::Run(Box::new(move |node, _| {
            node.accept(far);
            tokio::spawn(async move {
                let ((from_kiosk, to_kiosk), (from_phone, to_phone)) = (split(relay), split(relayed));
                tokio::join!(carry(from_kiosk, to_phone, rate), carry(from_phone, to_kiosk, rate));
            });
        }));
        assert!(self.asks.send(accept).is_ok());
        end(near, true)
    }

    /// Opens a link within this process; its other end is the kiosk's.
    pub(crate) fn link(&self) -> Link {
        let (near, far) = memory_pair(Throttle::default());
        let accept = Ask::Run(Box::new(move |node, _| {
            node.accept(far);
        }));
        assert!(self.asks.send(accept).is_ok());
        near
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

/// Carries bytes at a rate, until either end is gone.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, rate: usize) {
    const TICK: Duration = Duration::from_millis(20);
    let mut buffer = vec![0; (rate / 50).max(1)];
    let mut tick = tokio::time::interval(TICK);
    loop {
        tick.tick().await;
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) if to.write_all(&buffer[..count]).await.is_err() => break,
            Ok(_) => {}
        }
    }
    let _ = to.shutdown().await;
}

impl Drop for Kiosk {
    fn drop(&mut self) {
        let _ = self.asks.send(Ask::Stop);
        self.store = None;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the kiosk panicked");
        }
    }
}

async fn serve(
    identity: Identity,
    address: &str,
    manners: Manners,
    store: Store,
    mut asked: channel::UnboundedReceiver<Ask>,
    (ready, endings): (mpsc::Sender<()>, mpsc::Sender<Ending>),
) {
    let listener = Listener::bind(address).await.unwrap();
    let writer = Writer::start(store.clone(), WriterOptions::default()).unwrap();
    let hello = PeerHello {
        store: store.store_id(),
        serves: manners.serves.clone(),
        wants: Vec::new(),
        max_document: manners.max_document,
        window: WINDOW,
        name: "Test kiosk".into(),
        has_backhaul: false,
        is_gateway: true,
        moves: false,
        advertising_key: None,
    };
    let second = Duration::from_secs(1);
    let limits = Limits {
        sessions: 32,
        per_address: 8,
        half_open: 32,
        handshake: second * 10,
        idle: second * 30,
        lan: manners.links,
        wifi: manners.links,
        ble: manners.links,
    };
    let mut node = Node::new(identity, hello, limits, store.clone(), writer, system_rng().unwrap());
    let mut host = TestHost { manners, store, endings };
    ready.send(()).unwrap();
    loop {
        let due = node.deadline().map(|at| node.clock().instant(at));
        let sleep = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = node.next_event() => node.handle(event, &mut host),
            link = listener.accept() => { node.accept(link.unwrap()); }
            ask = asked.recv() => match ask {
                Some(Ask::Run(run)) => run(&mut node, &mut host),
                Some(Ask::Stop) | None => return,
            },
            () = sleep => node.handle_deadline(&mut host),
        }
    }
}

struct TestHost {
    manners: Manners,
    store: Store,
    endings: mpsc::Sender<Ending>,
}

impl Host for TestHost {
    fn admit(&mut self, peer: &PeerKey, pattern: Pattern, _: &LinkInfo) -> Result<Grant, Goodbye> {
        let known = self.store.peer(peer).unwrap();
        match pattern {
            Pattern::Code(code) => {
                let consume = Change::ConsumeCode { code, peer: *peer, label: None };
                self.store.apply_one(consume).map_err(|_| Goodbye::BadCode)?;
            }
            _ if self.manners.open => {}
            _ if known.is_some_and(|known| known.class == PeerClass::Paired) => {}
            _ => return Err(Goodbye::NotPaired),
        }
        let destinations = self.manners.serves.iter().copied().map(Served::all).collect();
        let accepts = Accepts { destinations, max_document: self.manners.max_document, records: true };
        let may_want = self.manners.hands_out.clone();
        Ok(Grant { is_known: self.knows(peer, pattern), may_want, ..Grant::deposits(accepts) })
    }

    fn knows(&self, peer: &PeerKey, pattern: Pattern) -> bool {
        let known = self.store.peer(peer).unwrap();
        matches!(pattern, Pattern::Code(_)) || known.is_some_and(|known| known.class.is_known())
    }

    fn verify(&mut self, _: &Confirmation) -> Result<(), String> {
        Ok(())
    }

    fn follow(&mut self, _: &waypost_protocol::succession::Link) -> Result<(), Reason> {
        Ok(())
    }

    fn freeing(&self, _: &Confirmation) -> Freeing {
        Freeing::GATEWAY
    }

    fn event(&mut self, _: ConversationId, _: &PeerKey, _: &Event) {}

    fn stored(&mut self, _: StoredNow) {}

    fn ended(&mut self, summary: ContactSummary) {
        // Of a kiosk that is about to be stopped nobody asks.
        let _ = self.endings.send(summary.ending);
    }
}
