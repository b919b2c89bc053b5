//! A wide area network on one machine: two network namespaces, and between them a line that delays, limits, loses and
//! reorders packets, and goes down.
//!
//! Each side has a TUN interface, `wan0`, and one more for each further line ([`Wan::beside`]); a thread per direction carries packets from one to the other, so no kernel module
//! for traffic shaping is needed. What runs inside reaches the other side and itself, nothing else. The namespaces have no
//! names and vanish with the [`Wan`] and the processes inside.
//!
//! It needs `/dev/net/tun` and the right to make namespaces: root, or root of a user namespace (`tests/tools/run-test.sh`).

mod device;
mod line;
mod namespace;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::prctl::set_timerslack;
use nix::sys::time::TimeSpec;
use thiserror::Error;

use line::Line;
pub use line::{Conditions, Counters};
pub use namespace::Namespace;

/// Most packets that are taken from an interface before those that have arrived are handed over.
const BATCH: usize = 64;

/// Why there is no network.
#[derive(Error)]
pub enum WanError {
    /// No right to make a namespace, or none in this kernel.
    #[error("can't make a network namespace: run the tests with `make test`, or as root")]
    Namespace(#[source] io::Error),
    /// No TUN in this kernel, or no right to it.
    #[error(
        "can't make a TUN interface: run the tests with `make test`, or as root, on a kernel with /dev/net/tun (modprobe tun)"
    )]
    Tun(#[source] io::Error),
    /// The machine is out of threads or descriptors.
    #[error("can't start carrying packets")]
    Start(#[source] io::Error),
}

/// As people read it: `unwrap` in a test prints this.
impl std::fmt::Debug for WanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")?;
        std::error::Error::source(self).map_or(Ok(()), |source| write!(f, " ({source})"))
    }
}

/// An end of the line.
#[derive(Debug)]
pub struct Side {
    namespace: Namespace,
    interface: String,
    address: Ipv4Addr,
}

impl Side {
    /// Its network.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its interface on the line.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Its address on the line.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A command that will run in its network.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.namespace.command(program)
    }

    /// Takes the interface with its route away, as pulling the stick out does, or gives it back: connecting fails at
    /// once. [`Wan::link`] is the silent way.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn plug(&self, plugged: bool) -> io::Result<()> {
        self.namespace.run(|| device::set_up(&self.interface, plugged))
    }
}

/// The direction of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the near side to the far one.
    Out,
    /// From the far side to the near one.
    Back,
}

/// Two networks and the line between them. Dropping it ends the line.
pub struct Wan {
    near: Side,
    far: Side,
    number: u8,
    out: Carrier,
    back: Carrier,
}

impl Wan {
    /// Makes both networks, with the same conditions in both directions.
    ///
    /// # Errors
    ///
    /// When this process may not, or the kernel can't.
    pub fn new(conditions: Conditions) -> Result<Self, WanError> {
        let namespace = || Namespace::new().map_err(WanError::Namespace);
        Self::between(namespace()?, namespace()?, 0, conditions)
    }

    /// A further line between the same two networks, with interfaces and addresses of its own.
    ///
    /// # Errors
    ///
    /// As [`Wan::new`].
    pub fn beside(&self, conditions: Conditions) -> Result<Self, WanError> {
        Self::between(
            self.near.namespace.clone(),
            self.far.namespace.clone(),
            self.number.saturating_add(1),
            conditions,
        )
    }

    fn between(
        near: Namespace,
        far: Namespace,
        number: u8,
        conditions: Conditions,
    ) -> Result<Self, WanError> {
        let (near, near_device) = side(near, number, 1)?;
        let (far, far_device) = side(far, number, 2)?;
        let (near_device, far_device) = (Arc::new(near_device), Arc::new(far_device));
        let out = Carrier::start(&near_device, &far_device, conditions.clone()).map_err(WanError::Start)?;
        let back = Carrier::start(&far_device, &near_device, conditions).map_err(WanError::Start)?;
        Ok(Self { near, far, number, out, back })
    }

    /// The side of the gateway or phone.
    pub fn near(&self) -> &Side {
        &self.near
    }

    /// The side of the destination.
    pub fn far(&self) -> &Side {
        &self.far
    }

    /// From now on, both directions are like this.
    pub fn set(&self, conditions: &Conditions) {
        self.set_one(Direction::Out, conditions.clone());
        self.set_one(Direction::Back, conditions.clone());
    }

    /// From now on, one direction is like this.
    pub fn set_one(&self, direction: Direction, conditions: Conditions) {
        self.carrier(direction).line().set(conditions);
    }

    /// Cuts the line (packets vanish without a sign, also those under way), or gives it back.
    pub fn link(&self, up: bool) {
        for carrier in [&self.out, &self.back] {
            carrier.line().link(up, Instant::now());
        }
    }

    /// Bytes that have arrived in both directions so far, headers and all.
    pub fn bytes(&self) -> u64 {
        self.counters(Direction::Out).bytes + self.counters(Direction::Back).bytes
    }

    /// What has passed in a direction so far.
    pub fn counters(&self, direction: Direction) -> Counters {
        self.carrier(direction).line().counters
    }

    fn carrier(&self, direction: Direction) -> &Carrier {
        match direction {
            Direction::Out => &self.out,
            Direction::Back => &self.back,
        }
    }
}

/// A network gets an interface on a line.
fn side(namespace: Namespace, line: u8, end: u8) -> Result<(Side, File), WanError> {
    let interface = format!("wan{line}");
    let address = Ipv4Addr::new(10, 77, line, end);
    let device = namespace.run(|| device::tun(&interface, address, 24)).map_err(WanError::Tun)?;
    Ok((Side { namespace, interface, address }, device))
}

/// The thread that carries the packets of one direction.
struct Carrier {
    line: Arc<Mutex<Line>>,
    wake: Arc<EventFd>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Carrier {
    fn start(from: &Arc<File>, to: &Arc<File>, conditions: Conditions) -> io::Result<Self> {
        let line = Arc::new(Mutex::new(Line::new(conditions, Instant::now())));
        let wake = Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC)?);
        let stop = Arc::new(AtomicBool::new(false));
        let work = {
            let (from, to) = (Arc::clone(from), Arc::clone(to));
            let (line, wake, stop) = (Arc::clone(&line), Arc::clone(&wake), Arc::clone(&stop));
            move || {
                if let Err(error) = carry(&from, &to, &line, &wake, &stop) {
                    log::error!("the emulated network stopped: {error}");
                }
            }
        };
        let thread = std::thread::Builder::new().name("wan".into()).spawn(work)?;
        Ok(Self { line, wake, stop, thread: Some(thread) })
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Err(error) = self.wake.write(1) {
            log::warn!("can't stop the emulated network: {error}");
        } else if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn carry(from: &File, to: &File, line: &Mutex<Line>, wake: &EventFd, stop: &AtomicBool) -> io::Result<()> {
    // Wake at the time that was asked for, not up to 50 µs later.
    set_timerslack(1)?;
    let mut buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        let next = {
            let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
            take_in(from, &mut line, &mut buffer)?;
            let now = Instant::now();
            while let Some(packet) = line.receive(now) {
                hand_over(to, &packet)?;
            }
            line.next_arrival()
        };
        let wait = next.map(|at| TimeSpec::from(at.saturating_duration_since(Instant::now())));
        let mut events =
            [PollFd::new(from.as_fd(), PollFlags::POLLIN), PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut events, wait, None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Sends what waits at an interface along the line, a batch at most.
fn take_in(mut from: &File, line: &mut Line, buffer: &mut [u8]) -> io::Result<()> {
    for _ in 0..BATCH {
        match from.read(buffer) {
            // The kernel looks for IPv6 neighbours by itself; the line is IPv4 only.
            Ok(len) if buffer[..len].first().is_some_and(|byte| byte >> 4 == 4) => {
                line.send(&buffer[..len], Instant::now());
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Gives a packet to an interface. One that is unplugged, or has no room, loses it, as a real one does.
fn hand_over(mut to: &File, packet: &[u8]) -> io::Result<()> {
    match to.write_all(packet) {
        Ok(()) => Ok(()),
        Err(error) => match error.raw_os_error().map(nix::errno::Errno::from_raw) {
            Some(nix::errno::Errno::EIO | nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Ok(()),
            _ => Err(error),
        },
    }
}
