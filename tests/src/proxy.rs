//! A TCP proxy on loopback that counts frames and bytes, and cuts, stops or calls a hook at a chosen one.
//!
//! Frames are those of Waypost's links: a length of two bytes, big-endian, and as many bytes (`docs/protocol.md`, Links).
//! They are forwarded whole, in order, as they come. Other protocols are forwarded byte by byte ([`Content::Bytes`]).

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the target may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// What passes through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Frames of a Waypost link.
    Frames,
    /// Anything; no frames are counted and no hooks called.
    Bytes,
}

/// Which way something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From whoever connected to the proxy.
    ToTarget,
    /// To whoever connected to the proxy.
    FromTarget,
}

/// A frame that has come in whole. All numbers count from 0 since the proxy was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which way it goes.
    pub direction: Direction,
    /// Which one it is in its direction.
    pub number: u64,
    /// Which one it is of both directions, in the order in which they came in.
    pub total: u64,
    /// Which connection it belongs to.
    pub connection: u64,
    /// Its size in bytes, without the length before it.
    pub len: usize,
}

/// Whether a hook is called before or after the frame is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The frame is held until the hook has answered.
    Before,
    /// The frame has been handed to the kernel; the next one in this direction waits for the hook.
    After,
}

/// What a hook wants to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing special.
    GoOn,
    /// The connection is closed towards both sides; a frame that was not forwarded yet is lost.
    Cut,
}

/// What was forwarded in one direction so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames, also when their last part was cut off.
    pub frames: u64,
    /// Bytes, lengths of frames included.
    pub bytes: u64,
}

type Matcher = Box<dyn Fn(&Frame) -> bool + Send>;
type Hook = Box<dyn FnOnce(&Frame) -> Then + Send>;

struct Trigger {
    moment: Moment,
    matches: Matcher,
    hook: Hook,
}

struct Connection {
    number: u64,
    /// Directions in which the sender has ended.
    ended: u8,
    client: TcpStream,
    target: TcpStream,
}

impl Connection {
    fn close(&self) {
        // One that the other side has closed already can't be shut down, which is as good.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.target.shutdown(Shutdown::Both);
    }
}

#[derive(Default)]
struct Lane {
    arrived: u64,
    counts: Counts,
    /// How many more bytes may pass before all connections are cut.
    left: Option<u64>,
}

struct State {
    target: SocketAddr,
    connections: Vec<Connection>,
    accepted: u64,
    to_target: Lane,
    from_target: Lane,
    triggers: Vec<Trigger>,
    paused: bool,
    refusing: bool,
    stopped: bool,
}

impl State {
    fn lane(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::ToTarget => &mut self.to_target,
            Direction::FromTarget => &mut self.from_target,
        }
    }

    fn is_open(&self, connection: u64) -> bool {
        self.connections.iter().any(|open| open.number == connection)
    }

    /// One direction has ended; with the second one the connection is over.
    fn half_close(&mut self, connection: u64) {
        let open = self.connections.iter_mut().find(|open| open.number == connection);
        if let Some(open) = open {
            open.ended += 1;
            if open.ended == 2 {
                self.close(connection);
            }
        }
    }

    fn close(&mut self, connection: u64) {
        self.connections.retain(|open| {
            if open.number == connection {
                open.close();
            }
            open.number != connection
        });
    }
}

struct Shared {
    content: Content,
    state: Mutex<State>,
    /// Told when something changes that a paused pump waits for.
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A proxy in front of one address. Dropping it cuts all connections and frees the port.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free port of loopback and forwards what connects there to `target`.
    ///
    /// # Errors
    ///
    /// When there is no port or thread left.
    pub fn start(target: SocketAddr, content: Content) -> io::Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST, target, content)
    }

    /// The same at another address of this machine, or of the network that the calling thread is in.
    ///
    /// # Errors
    ///
    /// When there is no such address.
    pub fn start_at(address: Ipv4Addr, target: SocketAddr, content: Content) -> io::Result<Self> {
        let listener = TcpListener::bind((address, 0))?;
        let address = listener.local_addr()?;
        let state = State {
            target,
            connections: Vec::new(),
            accepted: 0,
            to_target: Lane::default(),
            from_target: Lane::default(),
            triggers: Vec::new(),
            paused: false,
            refusing: false,
            stopped: false,
        };
        let shared = Arc::new(Shared { content, state: Mutex::new(state), changed: Condvar::new() });
        let accepting = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("proxy".into()).spawn(move || accept(&listener, &shared))?
        };
        Ok(Self { shared, address, accepting: Some(accepting) })
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, new connections are forwarded to this address: the target was restarted elsewhere.
    pub fn retarget(&self, target: SocketAddr) {
        self.shared.state().target = target;
    }

    /// Calls `hook`, once, at the next frame that `matches`. Frames of the other direction go on meanwhile. If several
    /// hooks match, each takes one frame.
    pub fn when(
        &self,
        moment: Moment,
        matches: impl Fn(&Frame) -> bool + Send + 'static,
        hook: impl FnOnce(&Frame) -> Then + Send + 'static,
    ) {
        let trigger = Trigger { moment, matches: Box::new(matches), hook: Box::new(hook) };
        self.shared.state().triggers.push(trigger);
    }

    /// Calls `hook` at a frame chosen by its number in both directions together.
    pub fn at(&self, moment: Moment, total: u64, hook: impl FnOnce(&Frame) -> Then + Send + 'static) {
        self.when(moment, move |frame| frame.total == total, hook);
    }

    /// Lets exactly `bytes` more pass in a direction, then cuts all connections, also in the middle of a frame. New
    /// connections work as before.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.shared.state().lane(direction).left = Some(bytes);
    }

    /// Closes all connections. New ones work as before.
    pub fn cut(&self) {
        for connection in self.shared.state().connections.drain(..) {
            connection.close();
        }
        self.shared.changed.notify_all();
    }

    /// Holds everything back, without closing anything, or lets it go again.
    pub fn pause(&self, paused: bool) {
        self.shared.state().paused = paused;
        self.shared.changed.notify_all();
    }

    /// Closes new connections at once, or forwards them again.
    pub fn refuse(&self, refusing: bool) {
        self.shared.state().refusing = refusing;
    }

    /// What was forwarded in a direction so far, over all connections.
    pub fn counts(&self, direction: Direction) -> Counts {
        self.shared.state().lane(direction).counts
    }

    /// How many connections were forwarded so far.
    pub fn connections(&self) -> u64 {
        self.shared.state().accepted
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().stopped = true;
        self.cut();
        // Connecting wakes the thread that accepts.
        if TcpStream::connect(self.address).is_ok()
            && let Some(accepting) = self.accepting.take()
        {
            drop(accepting.join());
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        let (target, refusing) = {
            let state = shared.state();
            if state.stopped {
                return;
            }
            (state.target, state.refusing)
        };
        match accepted {
            Ok((client, _)) if !refusing => {
                if let Err(error) = forward(shared, client, target) {
                    log::debug!("connection to {target} not forwarded: {error}");
                }
            }
            Ok(_) => {}
            Err(error) => log::warn!("proxy can't accept: {error}"),
        }
    }
}

fn forward(shared: &Arc<Shared>, client: TcpStream, target: SocketAddr) -> io::Result<()> {
    let target = TcpStream::connect_timeout(&target, CONNECT)?;
    client.set_nodelay(true)?;
    target.set_nodelay(true)?;
    let number = {
        let mut state = shared.state();
        let number = state.accepted;
        state.accepted += 1;
        let (client, target) = (client.try_clone()?, target.try_clone()?);
        state.connections.push(Connection { number, ended: 0, client, target });
        number
    };
    let pumps = [
        Pump {
            shared: Arc::clone(shared),
            direction: Direction::ToTarget,
            connection: number,
            from: client.try_clone()?,
            to: target.try_clone()?,
        },
        Pump {
            shared: Arc::clone(shared),
            direction: Direction::FromTarget,
            connection: number,
            from: target,
            to: client,
        },
    ];
    for pump in pumps {
        std::thread::Builder::new().name("proxy-pump".into()).spawn(move || pump.run())?;
    }
    Ok(())
}

/// What forwards one direction of one connection.
struct Pump {
    shared: Arc<Shared>,
    direction: Direction,
    connection: u64,
    from: TcpStream,
    to: TcpStream,
}

impl Pump {
    fn run(mut self) {
        let ended = match self.shared.content {
            Content::Frames => self.frames(),
            Content::Bytes => self.bytes(),
        };
        match ended {
            Ok(()) if self.to.shutdown(Shutdown::Write).is_ok() => {
                self.shared.state().half_close(self.connection);
            }
            _ => self.shared.state().close(self.connection),
        }
        self.shared.changed.notify_all();
    }

    fn bytes(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let len = self.from.read(&mut buffer)?;
            if len == 0 {
                return Ok(());
            }
            self.pass(&buffer[..len])?;
        }
    }

    fn frames(&mut self) -> io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(len) = self.read_frame(&mut buffer)? {
            let frame = {
                let mut state = self.shared.state();
                let total = state.to_target.arrived + state.from_target.arrived;
                let lane = state.lane(self.direction);
                let number = lane.arrived;
                lane.arrived += 1;
                Frame { direction: self.direction, number, total, connection: self.connection, len }
            };
            self.ask(Moment::Before, &frame)?;
            self.pass(&buffer)?;
            self.shared.state().lane(self.direction).counts.frames += 1;
            self.ask(Moment::After, &frame)?;
        }
        Ok(())
    }

    /// Reads a frame with its length; none at the end of the stream. What ends within a frame is passed on as it is.
    fn read_frame(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
        buffer.clear();
        (&mut self.from).take(2).read_to_end(buffer)?;
        if let [high, low] = buffer[..] {
            let len = u16::from_be_bytes([high, low]);
            (&mut self.from).take(u64::from(len)).read_to_end(buffer)?;
            if buffer.len() == usize::from(len) + 2 {
                return Ok(Some(usize::from(len)));
            }
        }
        self.pass(buffer)?;
        Ok(None)
    }

    /// Lets a hook that waits for this frame decide.
    fn ask(&self, moment: Moment, frame: &Frame) -> io::Result<()> {
        let hook = {
            let mut state = self.shared.state();
            let found =
                state.triggers.iter().position(|armed| armed.moment == moment && (armed.matches)(frame));
            found.map(|index| state.triggers.remove(index).hook)
        };
        match hook.map(|hook| hook(frame)) {
            Some(Then::Cut) => Err(cut()),
            Some(Then::GoOn) | None => Ok(()),
        }
    }

    /// Forwards bytes, as far as a cut that was ordered allows, when nothing is paused.
    fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        let allowed = {
            let state = self.shared.state();
            let waiting = |state: &mut State| state.paused && state.is_open(self.connection);
            let mut state =
                self.shared.changed.wait_while(state, waiting).unwrap_or_else(PoisonError::into_inner);
            if !state.is_open(self.connection) {
                return Err(cut());
            }
            let lane = state.lane(self.direction);
            let len = bytes.len() as u64;
            let allowed = lane.left.map_or(len, |left| left.min(len));
            lane.left = lane.left.map(|left| left - allowed);
            allowed
        };
        let allowed = usize::try_from(allowed).unwrap_or(bytes.len()).min(bytes.len());
        self.to.write_all(&bytes[..allowed])?;
        let mut state = self.shared.state();
        let lane = state.lane(self.direction);
        lane.counts.bytes += allowed as u64;
        if lane.left == Some(0) {
            lane.left = None;
            for connection in state.connections.drain(..) {
                connection.close();
            }
            return Err(cut());
        }
        Ok(())
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // A hook that panics must not leave the others waiting for ever.
        if std::thread::panicking() {
            self.shared.state().close(self.connection);
            self.shared.changed.notify_all();
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "cut by the test")
}
