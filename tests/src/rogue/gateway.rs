//! A gateway that phones can pair with, and that answers what a test wants.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use waypost_protocol::ids::{CodeId, Fingerprint};
use waypost_protocol::invite::{CodeSecret, Pairing};
use waypost_protocol::mvds::{Payload, Report};
use waypost_protocol::session::{Codes, Identity};

use super::session::RawSession;
use super::{hello, identity};

/// What comes of a payload: the answer, which is not sent where it is empty.
type Script = Box<dyn FnMut(&Payload) -> Payload + Send>;

/// The code that it gives out.
struct Paired(CodeSecret);

impl Codes for Paired {
    fn secret(&self, id: &CodeId) -> Option<CodeSecret> {
        (self.0.id() == *id).then(|| self.0.clone())
    }
}

/// A gateway in a thread of the test. It takes every small document, and keeps none; what it says beside that is the
/// script's. It ends with the test.
pub struct RogueGateway {
    address: SocketAddr,
    identity: Identity,
    script: Arc<Mutex<Script>>,
    heard: Arc<Mutex<Vec<Payload>>>,
}

impl RogueGateway {
    /// Starts one that says it takes documents for `serves`.
    #[track_caller]
    pub fn start(seed: u64, serves: &[Fingerprint]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(|_| Payload::default())));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let gateway =
            RogueGateway { address, identity: identity(seed), script: script.clone(), heard: heard.clone() };
        let (identity, hello) = (gateway.identity.clone(), hello("Rogue kiosk", serves));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let session = RawSession::answer(stream, &identity, &hello, &Paired(secret()));
                // A phone that goes away is the test's business.
                if let Ok(session) = session {
                    converse(session, &script, &heard);
                }
            }
        });
        gateway
    }

    /// From now on, each payload is answered with what `script` makes of it, beside ACKs and REQUESTs.
    pub fn says(&self, script: impl FnMut(&Payload) -> Payload + Send + 'static) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(script);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The text with which phones pair.
    pub fn pairing_code(&self) -> String {
        let pairing = Pairing {
            gateway: self.identity.public(),
            secret: secret(),
            name: "Rogue kiosk".into(),
            addresses: vec![self.address.to_string()],
        };
        pairing.to_text()
    }

    /// Every payload that phones have sent, in their order.
    pub fn heard(&self) -> Vec<Payload> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn secret() -> CodeSecret {
    CodeSecret::new([0x77; 16])
}

/// Until the phone has had enough.
fn converse(mut session: RawSession, script: &Mutex<Script>, heard: &Mutex<Vec<Payload>>) {
    while let Ok(payload) = session.receive() {
        let mut reply = script.lock().unwrap_or_else(PoisonError::into_inner)(&payload);
        let taken = payload.messages.iter().cloned().map(waypost_protocol::document::Document::from_message);
        for document in taken.flatten() {
            reply.acks.push(document.id().0.to_vec().into());
        }
        reply.acks.extend(
            payload
                .confirmations
                .iter()
                .filter_map(|wire| waypost_protocol::confirmation::Confirmation::from_wire(wire).ok())
                .map(|one| one.id().0.to_vec().into()),
        );
        reply.requests.extend(payload.offers.iter().cloned());
        if payload.report.is_some() && reply == Payload::default() {
            reply.report = Some(Report::default());
        }
        heard.lock().unwrap_or_else(PoisonError::into_inner).push(payload);
        if reply != Payload::default() && session.send(&reply).is_err() {
            return;
        }
    }
}
