//! A session over TCP, frame by frame and payload by payload, at the test's command.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use bytes::Bytes;
use prost::Message as _;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::document::Document;
use waypost_protocol::ids::{MessageId, PeerKey};
use waypost_protocol::mvds::{self, Payload};
use waypost_protocol::refusal::{Goodbye, Reason};
use waypost_protocol::session::{
    Codes, Identity, Introduction, MAX_FRAME, Received, Session, SessionError, Versions,
};
use waypost_protocol::sync::{Engine, PeerHello};

use crate::scenario::PATIENCE;

/// Why a session does not go on.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    /// The connection failed, or nothing came in time.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The handshake failed, or a frame does not decrypt.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The other side has closed the connection.
    #[error("the other side closed the connection")]
    Closed,
}

/// What a node says of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It has stored it.
    Ack,
    /// It wants it.
    Request,
    /// It does not take it.
    Refused(Reason),
    /// What the destination said of it.
    Confirmed(Box<Confirmation>),
    /// Nothing: it ends the session.
    Goodbye(Goodbye),
}

/// The bytes with which an initiator begins, frame 0 and the first message of the handshake: what somebody who listens can send again.
///
/// # Errors
///
/// When there is no randomness, or the keys are of no use.
pub fn recorded(
    introduction: &Introduction,
    identity: &Identity,
    hello: &PeerHello,
) -> Result<Vec<u8>, RawError> {
    let mut session = Session::initiate(introduction, identity, Engine::encode_hello(hello), &mut random()?)?;
    let mut bytes = Vec::new();
    while let Some(frame) = session.poll_frame() {
        bytes.extend_from_slice(&u16::try_from(frame.len()).map_err(io::Error::other)?.to_be_bytes());
        bytes.extend_from_slice(&frame);
    }
    Ok(bytes)
}

/// One session over one connection.
pub struct RawSession {
    stream: TcpStream,
    session: Session,
    inbox: VecDeque<Bytes>,
    peer: PeerKey,
}

impl RawSession {
    /// Opens a session as a phone does.
    ///
    /// # Errors
    ///
    /// When nobody answers there, or the handshake fails.
    pub fn open(
        address: SocketAddr,
        introduction: &Introduction,
        identity: &Identity,
        hello: &PeerHello,
    ) -> Result<Self, RawError> {
        Self::open_as(Versions::OURS, address, introduction, identity, hello)
    }

    /// The same, claiming other versions of the protocol.
    ///
    /// # Errors
    ///
    /// When nobody answers there, or the handshake fails.
    pub fn open_as(
        versions: Versions,
        address: SocketAddr,
        introduction: &Introduction,
        identity: &Identity,
        hello: &PeerHello,
    ) -> Result<Self, RawError> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        let mut rng = random()?;
        let hello = Engine::encode_hello(hello);
        let session = Session::initiate_as(versions, introduction, identity, hello, &mut rng)?;
        Self::establish(stream, session, &())
    }

    /// Answers one that has connected, as a gateway does.
    ///
    /// # Errors
    ///
    /// When the handshake fails.
    pub fn answer(
        stream: TcpStream,
        identity: &Identity,
        hello: &PeerHello,
        codes: &dyn Codes,
    ) -> Result<Self, RawError> {
        let session = Session::respond(identity, Engine::encode_hello(hello), &mut random()?);
        Self::establish(stream, session, codes)
    }

    fn establish(mut stream: TcpStream, mut session: Session, codes: &dyn Codes) -> Result<Self, RawError> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        loop {
            flush(&mut stream, &mut session)?;
            let frame = read_frame(&mut stream)?;
            let received = session.handle_frame(&frame, codes);
            if let Ok(Some(Received::Established { peer, first, .. })) = received {
                flush(&mut stream, &mut session)?;
                let inbox = Some(first).filter(|first| !first.is_empty()).into_iter().collect();
                return Ok(RawSession { stream, session, inbox, peer });
            }
            // "No common version" goes out also after an error.
            flush(&mut stream, &mut session)?;
            received?;
        }
    }

    /// The other side's key.
    pub fn peer(&self) -> PeerKey {
        self.peer
    }

    /// Sends a payload.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub fn send(&mut self, payload: &Payload) -> Result<(), RawError> {
        self.send_bytes(&payload.encode_to_vec())
    }

    /// Sends bytes as a payload, whatever they are.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub fn send_bytes(&mut self, payload: &[u8]) -> Result<(), RawError> {
        self.session.seal(payload, MAX_FRAME)?;
        flush(&mut self.stream, &mut self.session)
    }

    /// Sends bytes as a frame, past the session.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub fn send_frame(&mut self, frame: &[u8]) -> Result<(), RawError> {
        write_frame(&mut self.stream, frame)
    }

    /// The connection itself, past frames and session.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// The next payload.
    ///
    /// # Errors
    ///
    /// When the connection ends, or nothing comes in time.
    pub fn receive(&mut self) -> Result<Payload, RawError> {
        loop {
            if let Some(bytes) = self.inbox.pop_front() {
                return Payload::decode(bytes).map_err(|error| io::Error::other(error).into());
            }
            let frame = read_frame(&mut self.stream)?;
            if let Some(Received::Payload(payload)) = self.session.handle_frame(&frame, &())? {
                self.inbox.push_back(payload);
            }
        }
    }

    /// Offers a document and waits for what is said of it.
    #[track_caller]
    pub fn offer(&mut self, id: &MessageId) -> Told {
        self.send(&Payload { offers: vec![bytes_of(id)], ..Payload::default() }).unwrap();
        self.told(id)
    }

    /// Sends a document and waits for what is said of it.
    #[track_caller]
    pub fn deposit(&mut self, document: &Document) -> Told {
        self.send(&Payload { messages: vec![document.to_message()], ..Payload::default() }).unwrap();
        self.told(&document.id())
    }

    /// Announces a large document, as an OFFER of a body that comes in chunks, and waits for what is said of it.
    #[track_caller]
    pub fn start(&mut self, document: &Document) -> Told {
        let destination = waypost_protocol::envelope::parse(document.body()).unwrap().0.destination;
        let start = mvds::Start {
            destination: Bytes::copy_from_slice(destination.as_bytes()),
            transfer: 1,
            id: bytes_of(&document.id()),
            group_id: Bytes::copy_from_slice(document.group().as_bytes()),
            timestamp: i64::try_from(document.timestamp().0).unwrap(),
            size: document.body().len() as u64,
        };
        self.send(&Payload { starts: vec![start], ..Payload::default() }).unwrap();
        self.told(&document.id())
    }

    /// Waits for what is said of a document.
    #[track_caller]
    pub fn told(&mut self, id: &MessageId) -> Told {
        let id = bytes_of(id);
        loop {
            let payload = match self.receive() {
                Ok(payload) => payload,
                Err(error) => panic!("no word on the document: {error}"),
            };
            let confirmed = payload.confirmations.iter().map(|wire| Confirmation::from_wire(wire).unwrap());
            let mut covers =
                confirmed.filter(|one| one.statement.verdicts().iter().any(|(named, _)| named.0 == id[..]));
            let acks: Vec<Bytes> = payload
                .confirmations
                .iter()
                .map(|wire| bytes_of(&Confirmation::from_wire(wire).unwrap().id()))
                .collect();
            if !acks.is_empty() {
                self.send(&Payload { acks, ..Payload::default() }).unwrap();
            }
            let refused = payload.refusals.iter().find(|refusal| refusal.id == id);
            if payload.acks.contains(&id) {
                return Told::Ack;
            } else if payload.requests.contains(&id) || !payload.resumes.is_empty() {
                return Told::Request;
            } else if let Some(refusal) = refused {
                return Told::Refused(Reason::from_code(refusal.reason));
            } else if let Some(confirmation) = covers.next() {
                return Told::Confirmed(Box::new(confirmation));
            } else if let Some(goodbye) = payload.goodbye {
                return Told::Goodbye(Goodbye::from_wire(&goodbye));
            }
        }
    }

    /// Waits until the other side says why it ends the session.
    ///
    /// # Errors
    ///
    /// When it ends without a word, or does not.
    pub fn goodbye(&mut self) -> Result<Goodbye, RawError> {
        loop {
            if let Some(goodbye) = self.receive()?.goodbye {
                return Ok(Goodbye::from_wire(&goodbye));
            }
        }
    }

    /// Closes the connection.
    pub fn close(self) {
        // The other side may have done so already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// The id as it is in payloads.
fn bytes_of(id: &MessageId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

fn random() -> Result<ChaCha20Rng, RawError> {
    ChaCha20Rng::try_from_os_rng().map_err(|error| io::Error::other(error).into())
}

fn flush(stream: &mut TcpStream, session: &mut Session) -> Result<(), RawError> {
    while let Some(frame) = session.poll_frame() {
        write_frame(stream, &frame)?;
    }
    Ok(())
}

fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> Result<(), RawError> {
    let length = u16::try_from(frame.len()).map_err(io::Error::other)?;
    Ok(stream.write_all(&[&length.to_be_bytes(), frame].concat())?)
}

fn read_frame(stream: &mut TcpStream) -> Result<Vec<u8>, RawError> {
    let mut length = [0; 2];
    match stream.read(&mut length[..1])? {
        0 => return Err(RawError::Closed),
        _ => stream.read_exact(&mut length[1..])?,
    }
    let mut frame = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}
