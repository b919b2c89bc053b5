//! TCP and TLS under `ureq`: certain causes of failure, a clock that may start in 1970, and an ear for early answers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::error::{Cause, Phase, plain};
use crate::names::Names;
use crate::settings::TimeFloor;
use crate::way::{CONNECTION, Toll, closed};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct};
use rustls_pki_types::{CertificateDer, ServerName};
use socket2::{Domain, SockRef, Socket, Type};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};

/// Bytes that wait in the socket beside what is on the line: with more, nobody knows how far an upload is, others wait for
/// it longer than their turn, and a connection that is given up wastes it.
const UNSENT: u32 = 128 << 10;
/// Used where `ureq` sets no timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that connecting may take where another line may work: TCP has asked four times by then.
const CONNECT_BESIDE_OTHERS: Duration = Duration::from_secs(10);
/// And the longest that bytes may go unheard of there (tcp(7), `TCP_USER_TIMEOUT`); however long the answer takes then.
const UNHEARD_BESIDE_OTHERS: Duration = Duration::from_secs(10);
/// Of several addresses each gets at least this.
const MIN_PER_ADDRESS: Duration = Duration::from_secs(1);

/// What the connection and the body that is being sent tell each other.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// The server takes no more of this request: it has answered already, or the connection broke.
    deaf: AtomicBool,
    /// The client was stopped.
    stopped: AtomicBool,
    /// The connection that there is, and when bytes last went either way.
    connection: Mutex<Option<(Weak<TcpStream>, Instant)>>,
    pub(crate) names: Arc<Names>,
}

impl Line {
    pub(crate) fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Relaxed)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.names.give_up_after(Duration::ZERO);
    }

    fn set_deaf(&self, deaf: bool) {
        self.deaf.store(deaf, Ordering::Relaxed);
    }

    /// Closes the connection if nothing has gone either way for so long: a request under way fails, a kept connection
    /// is replaced by a new one. A name that has not resolved for so long is asked for anew.
    pub(crate) fn close_if_silent(&self, span: Duration) {
        self.names.give_up_after(span);
        let connection = self.connection();
        if let Some((tcp, moved)) = &*connection
            && moved.elapsed() >= span
            && let Some(tcp) = tcp.upgrade()
        {
            // What waits in the socket would otherwise still go out, before anything new, and be thrown away there.
            let _ = SockRef::from(&*tcp).set_linger(Some(Duration::ZERO));
            let _ = tcp.shutdown(std::net::Shutdown::Both);
        }
    }

    fn begun(&self, tcp: &Arc<TcpStream>) {
        *self.connection() = Some((Arc::downgrade(tcp), Instant::now()));
    }

    fn moved(&self) {
        if let Some((_, moved)) = &mut *self.connection() {
            *moved = Instant::now();
        }
    }

    fn connection(&self) -> MutexGuard<'_, Option<(Weak<TcpStream>, Instant)>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wall clock, but never earlier than what is known to have passed: boards boot in 1970.
#[derive(Debug)]
pub(crate) struct FlooredClock(pub(crate) TimeFloor);

impl rustls::time_provider::TimeProvider for FlooredClock {
    fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
        let floor = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(self.0.get().0));
        Some(rustls_pki_types::UnixTime::now().max(floor))
    }
}

/// Judges certificates as `webpki` does, but where the clock is known to be wrong, none is refused for being too new: then
/// the time that is known is only the earliest that it can be.
#[derive(Debug)]
pub(crate) struct PatientVerifier {
    pub(crate) inner: Arc<WebPkiServerVerifier>,
    pub(crate) floor: TimeFloor,
}

/// A clock that is so far behind what is known is wrong, in seconds.
const BEHIND: u64 = 86_400;
/// No certificate begins to be valid so long after what is known, in seconds.
const FAR: u64 = 20 * 366 * 86_400;

impl PatientVerifier {
    /// When the certificate begins to be valid, where only that is wrong with it, and nobody knows the time.
    fn begin(&self, error: &rustls::Error) -> Option<rustls_pki_types::UnixTime> {
        let floor = self.floor.get().0;
        let wall = rustls_pki_types::UnixTime::now().as_secs();
        match error {
            rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidYetContext {
                not_before,
                ..
            }) => Some(*not_before).filter(|begin| wall + BEHIND < floor && begin.as_secs() < floor + FAR),
            _ => None,
        }
    }
}

impl ServerCertVerifier for PatientVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: rustls_pki_types::UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify =
            |at| self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at);
        let mut result = verify(now);
        // Each certificate of the chain may be newer than the one before.
        for _ in 0..=intermediates.len() {
            let Some(begin) = result.as_ref().err().and_then(|error| self.begin(error)) else { break };
            result = verify(begin);
        }
        result
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A cause that travels through `ureq` unchanged; nothing was sent yet when it is made.
pub(crate) fn certain(cause: Cause) -> ureq::Error {
    ureq::Error::Other(Box::new(cause))
}

pub(crate) fn host_of(uri: &ureq::http::Uri) -> String {
    plain(uri.authority().map_or("", |authority| authority.as_str()))
}

/// Opens TCP connections and makes them TLS ones.
#[derive(Debug)]
pub(crate) struct TlsConnector {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) toll: Arc<Toll>,
    pub(crate) line: Arc<Line>,
}

impl Connector<()> for TlsConnector {
    type Out = TlsTransport;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<TlsTransport>, ureq::Error> {
        let budget = details.timeout.not_zero().map_or(CONNECT_TIMEOUT, |budget| *budget);
        let host = host_of(details.uri);
        let shut = |why| certain(Cause::BackhaulClosed { detail: why });
        let route = self.toll.route().map_err(shut)?;
        let interface = route.interface.clone();
        self.toll.take(route);
        let has_others = self.toll.has_others();
        let budget = if has_others { budget.min(CONNECT_BESIDE_OTHERS) } else { budget };
        let deadline = Instant::now() + budget;
        self.toll.pay(CONNECTION).map_err(|error| shut(error.to_string()))?;
        let tcp = Arc::new(open(details, interface.as_deref(), deadline, &host).map_err(certain)?);
        let handle: Arc<dyn ShutdownHandle> = tcp.clone();
        (details.register_shutdown)(Arc::downgrade(&handle))?;
        // Small requests would otherwise wait for the ACK of the one before.
        tcp.set_nodelay(true)?;
        let socket = SockRef::from(&*tcp);
        socket.set_tcp_notsent_lowat(UNSENT)?;
        socket.set_tcp_user_timeout(has_others.then_some(UNHEARD_BESIDE_OTHERS))?;
        self.line.begun(&tcp);
        let tls = self.handshake(details, &tcp, deadline, &host).map_err(certain)?;
        self.line.set_deaf(false);
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        let (line, toll) = (self.line.clone(), self.toll.clone());
        Ok(Some(TlsTransport { buffers, tls, tcp, line, toll, done_for: false }))
    }
}

impl TlsConnector {
    fn handshake(
        &self,
        details: &ConnectionDetails,
        tcp: &TcpStream,
        deadline: Instant,
        host: &str,
    ) -> Result<ClientConnection, Cause> {
        let refused = |detail: String| Cause::TlsRefused { host: host.to_owned(), detail };
        let name = details.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name)
            .map_err(|_| refused("the url's host is no name that a certificate can have".to_owned()))?;
        let mut tls =
            ClientConnection::new(self.config.clone(), name).map_err(|error| refused(tls_words(&error)))?;
        let (toll, line) = (&self.toll, &self.line);
        match tls.complete_io(&mut Timed { tcp, toll, line, deadline: Some(deadline), stall: None }) {
            Ok(_) => Ok(tls),
            Err(error) if closed(&error).is_some() => {
                Err(Cause::BackhaulClosed { detail: error.to_string() })
            }
            Err(error) if is_timeout(&error) => {
                Err(Cause::Timeout { host: host.to_owned(), during: Phase::Connecting })
            }
            Err(error) => Err(match tls_error(&error) {
                Some(error) => refused(tls_words(error)),
                None => refused(format!(
                    "the connection ended during the handshake ({}); check that the url's port speaks HTTPS",
                    plain(&error.to_string())
                )),
            }),
        }
    }
}

/// Tries one address after the other, each with its share of what time is left.
fn open(
    details: &ConnectionDetails,
    interface: Option<&str>,
    deadline: Instant,
    host: &str,
) -> Result<TcpStream, Cause> {
    let mut last = None;
    let addresses: &[SocketAddr] = &details.addrs;
    for (at, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let others = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        let share = (left / others).max(MIN_PER_ADDRESS).min(left.max(Duration::from_millis(1)));
        match connect(address, interface, share) {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = Some(error),
        }
    }
    let host = host.to_owned();
    Err(match last {
        Some(error) if is_unroutable(&error) => Cause::NoRoute { host },
        Some(error) if is_timeout(&error) => Cause::Timeout { host, during: Phase::Connecting },
        Some(error) => Cause::ConnectFailed { host, detail: plain(&error.to_string()) },
        None => Cause::DnsFailed { host, detail: "the name has no address".to_owned() },
    })
}

/// Opens a connection, over one interface where one is named (`SO_BINDTODEVICE`, socket(7)).
pub(crate) fn connect(
    address: &SocketAddr,
    interface: Option<&str>,
    within: Duration,
) -> io::Result<TcpStream> {
    let Some(interface) = interface else { return TcpStream::connect_timeout(address, within) };
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.connect_timeout(&(*address).into(), within)?;
    Ok(socket.into())
}

/// A connection that `ureq` sends requests over.
pub(crate) struct TlsTransport {
    buffers: LazyBuffers,
    tls: ClientConnection,
    tcp: Arc<TcpStream>,
    line: Arc<Line>,
    toll: Arc<Toll>,
    /// Half a request went out, or half an answer came in: no further request may use this connection.
    done_for: bool,
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        // A server that refuses a request may answer and close before it has read all of it. Then the rest is dropped
        // instead of sent, so that the answer is read and no mobile data is spent.
        if self.done_for || self.incoming() != Incoming::Nothing {
            self.hang_up();
            return Ok(());
        }
        let timeout = timeout.for_write();
        let mut tcp = Timed::new(&self.tcp, &self.toll, &self.line, timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        let mut stream = rustls::Stream::new(&mut self.tls, &mut tcp);
        match stream.write_all(output).and_then(|()| stream.flush()) {
            Err(error) if is_timeout(&error) => Err(ureq::Error::Timeout(timeout.reason)),
            Err(error) if is_broken(&error) => {
                self.hang_up();
                Ok(())
            }
            result => result.map_err(ureq::Error::from),
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let timeout = timeout.for_read();
        match self.receive(timeout) {
            Ok(amount) => {
                self.buffers.input_appended(amount);
                Ok(amount > 0)
            }
            Err(error) if is_timeout(&error) => Err(ureq::Error::Timeout(timeout.reason)),
            Err(error) => Err(error.into()),
        }
    }

    fn is_open(&mut self) -> bool {
        // Where another way is to be taken by now, the next request takes it.
        !self.done_for
            && !self.line.is_stopped()
            && self.toll.is_current()
            && self.incoming() == Incoming::Nothing
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// What lies in the socket without waiting for it.
#[derive(Debug, PartialEq, Eq)]
enum Incoming {
    /// Nothing but what TLS keeps to itself, such as session tickets.
    Nothing,
    /// Bytes of an answer, or the end of the connection.
    Something,
}

impl TlsTransport {
    /// Reads without first writing what is left to write, unlike [`rustls::Stream`]: an answer that was there before
    /// the connection broke is still to be had, while writing would only fail.
    fn receive(&mut self, timeout: NextTimeout) -> io::Result<usize> {
        let mut tcp = Timed::new(&self.tcp, &self.toll, &self.line, timeout);
        loop {
            match self.tls.reader().read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            // First what is there already: an alert that came just before the end says more than the end.
            let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            let state = self.tls.process_new_packets().map_err(invalid)?;
            if state.plaintext_bytes_to_read() > 0 {
                continue;
            }
            while self.tls.wants_write() && !self.done_for {
                self.tls.write_tls(&mut tcp)?;
            }
            self.tls.read_tls(&mut tcp)?;
            self.tls.process_new_packets().map_err(invalid)?;
        }
    }

    fn incoming(&mut self) -> Incoming {
        if self.tcp.set_nonblocking(true).is_err() {
            return Incoming::Something;
        }
        let found = loop {
            match self.tls.read_tls(&mut &*self.tcp) {
                Ok(0) => break Incoming::Something,
                Ok(_) => match self.tls.process_new_packets() {
                    Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
                    // The error comes again when the answer is read.
                    _ => break Incoming::Something,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Incoming::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break Incoming::Something,
            }
        };
        if self.tcp.set_nonblocking(false).is_err() { Incoming::Something } else { found }
    }

    fn hang_up(&mut self) {
        self.done_for = true;
        self.line.set_deaf(true);
    }
}

impl std::fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsTransport").field("peer", &self.tcp.peer_addr().ok()).finish_non_exhaustive()
    }
}

/// A socket whose every call ends in time.
struct Timed<'a> {
    tcp: &'a TcpStream,
    toll: &'a Toll,
    line: &'a Line,
    /// When all must be over.
    deadline: Option<Instant>,
    /// The longest that one call may take.
    stall: Option<Duration>,
}

impl<'a> Timed<'a> {
    fn new(tcp: &'a TcpStream, toll: &'a Toll, line: &'a Line, timeout: NextTimeout) -> Self {
        Timed { tcp, toll, line, deadline: None, stall: timeout.not_zero().map(|after| *after) }
    }

    /// Pays for what is about to be sent: what the socket has taken cannot be called back.
    fn paid_before(&self, length: usize, write: impl Fn(&Self) -> io::Result<usize>) -> io::Result<usize> {
        self.toll.pay(length as u64)?;
        let written = uninterrupted(|| write(self));
        self.line.moved();
        self.toll.refund((length - *written.as_ref().unwrap_or(&0)) as u64);
        written
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let until = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if until == Some(Duration::ZERO) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok([until, self.stall].into_iter().flatten().min())
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| {
            self.tcp.set_read_timeout(self.left()?)?;
            let mut tcp = self.tcp;
            tcp.read(buffer)
        })
        .and_then(|count| {
            self.line.moved();
            self.toll.pay(count as u64).map(|()| count)
        })
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.paid_before(buffer.len(), |timed| {
            timed.tcp.set_write_timeout(timed.left()?)?;
            let mut tcp = timed.tcp;
            tcp.write(buffer)
        })
    }

    fn write_vectored(&mut self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let length = buffers.iter().map(|buffer| buffer.len()).sum();
        self.paid_before(length, |timed| {
            timed.tcp.set_write_timeout(timed.left()?)?;
            let mut tcp = timed.tcp;
            tcp.write_vectored(buffers)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Signals end calls on sockets that have a timeout, whatever the handler asks for (signal(7)).
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    // A blocking socket with a timeout says WouldBlock on Unix.
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

fn is_broken(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, WriteZero};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | WriteZero)
}

fn is_unroutable(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), AddrNotAvailable | HostUnreachable | NetworkDown | NetworkUnreachable)
}

/// The TLS error inside an IO error.
pub(crate) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// Whether the server ended TLS because of our certificate or the lack of one. With TLS 1.3 that comes after the
/// handshake, and nothing was processed.
pub(crate) fn is_client_certificate_alert(error: &rustls::Error) -> bool {
    use rustls::AlertDescription as Alert;
    let rustls::Error::AlertReceived(alert) = error else { return false };
    matches!(
        alert,
        Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::CertificateRequired
    )
}

/// Why TLS failed and what to do, in words.
pub(crate) fn tls_words(error: &rustls::Error) -> String {
    use rustls::CertificateError as Wrong;
    let words = match error {
        rustls::Error::InvalidCertificate(wrong) => match wrong {
            Wrong::Expired | Wrong::ExpiredContext { .. } => {
                "its certificate has expired; have it renewed, or set this device's clock if that is wrong"
            }
            Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
                "its certificate is not valid yet, so this device's clock is behind; set the clock"
            }
            Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => {
                "its certificate is for another name; check the url"
            }
            // Another authority of the same name as a trusted one shows as a bad signature.
            Wrong::UnknownIssuer | Wrong::BadSignature => {
                "its certificate is from nobody that is trusted here; check the network, or give its authority's \
                 certificate (a gateway's `ca_file`, a phone's `--ca FILE`)"
            }
            Wrong::Revoked => "its certificate was revoked; ask the destination's admin",
            other => return format!("its certificate is not acceptable ({})", plain(&format!("{other:?}"))),
        },
        alert if is_client_certificate_alert(alert) => {
            "it does not accept this device's certificate; have its admin run `waypost-destination gateways add`"
        }
        rustls::Error::InvalidMessage(_) => "it does not speak TLS; check the url's port",
        other => return plain(&other.to_string()),
    };
    words.to_owned()
}
