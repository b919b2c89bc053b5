//! The protobuf messages of 2/MVDS and 4/MVDS-META with the RFC's field numbers, and Waypost's extensions from 5100 on.
//!
//! A node that follows only the RFCs skips the extension fields; see `docs/protocol.md`, "Payload".

use bytes::Bytes;

/// What travels in one session frame (2/MVDS, "Payloads").
#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    /// Ids of messages that the sender of this payload has stored durably.
    #[prost(bytes = "bytes", repeated, tag = "5001")]
    pub acks: Vec<Bytes>,
    /// Ids of messages that the sender can send.
    #[prost(bytes = "bytes", repeated, tag = "5002")]
    pub offers: Vec<Bytes>,
    /// Ids of messages that the sender wants to be sent.
    #[prost(bytes = "bytes", repeated, tag = "5003")]
    pub requests: Vec<Bytes>,
    /// Messages themselves.
    #[prost(message, repeated, tag = "5004")]
    pub messages: Vec<Message>,
    /// Extension: who speaks and what it wants; once, first, per session.
    #[prost(message, optional, tag = "5100")]
    pub hello: Option<Hello>,
    /// Extension: an OFFER of a body that travels in chunks.
    #[prost(message, repeated, tag = "5101")]
    pub starts: Vec<Start>,
    /// Extension: pieces of bodies.
    #[prost(message, repeated, tag = "5102")]
    pub chunks: Vec<Chunk>,
    /// Extension: a REQUEST for the rest of a body, from a committed offset on.
    #[prost(message, repeated, tag = "5103")]
    pub resumes: Vec<Resume>,
    /// Extension: documents that are not wanted, and why.
    #[prost(message, repeated, tag = "5104")]
    pub refusals: Vec<Refusal>,
    /// Extension: signed statements of the destination. They serve as ACKs of the documents they name.
    #[prost(message, repeated, tag = "5105")]
    pub confirmations: Vec<Confirmation>,
    /// Extension: asks for confirmations of these message ids.
    #[prost(bytes = "bytes", repeated, tag = "5106")]
    pub queries: Vec<Bytes>,
    /// Extension: what this side took, refused and had, sent when it has nothing left to do.
    #[prost(message, optional, tag = "5107")]
    pub report: Option<Report>,
    /// Extension: how long documents in this payload have been under way, for those with a lifetime.
    #[prost(message, repeated, tag = "5108")]
    pub ages: Vec<Age>,
    /// Extension: why the sender ends the session.
    #[prost(message, optional, tag = "5109")]
    pub goodbye: Option<Goodbye>,
    /// Extension: what became of destinations' certificates; before confirmations that need them.
    #[prost(message, repeated, tag = "5111")]
    pub successions: Vec<Succession>,
    /// Extension: how much the sender has to send in this session.
    #[prost(message, optional, tag = "5112")]
    pub waiting: Option<Waiting>,
    /// Extension: where the session can go on.
    #[prost(message, optional, tag = "5113")]
    pub wifi: Option<Wifi>,
}

/// 2/MVDS "Message", with 4/MVDS-META's metadata.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    /// Group id; exactly 32 bytes here.
    #[prost(bytes = "bytes", tag = "6001")]
    pub group_id: Bytes,
    /// Unix seconds.
    #[prost(int64, tag = "6002")]
    pub timestamp: i64,
    /// The body; for Waypost an envelope.
    #[prost(bytes = "bytes", tag = "6003")]
    pub body: Bytes,
    /// Ignored where the body is an envelope, which carries the same inside the hash.
    #[prost(message, optional, tag = "6004")]
    pub metadata: Option<Metadata>,
}

/// 4/MVDS-META "Metadata".
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metadata {
    /// Message ids that this one depends on.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub parents: Vec<Bytes>,
    /// Relayed, never stored, never acknowledged.
    #[prost(bool, tag = "2")]
    pub ephemeral: bool,
}

/// The parameters with which a session opens.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Hello {
    /// The store that "stored" will be about: 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub store_id: Bytes,
    /// Fingerprints of the destinations that this node takes documents for.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub serves: Vec<Bytes>,
    /// Group ids of collections that this node wants to be sent.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub wants: Vec<Bytes>,
    /// The largest body that this node takes, in bytes.
    #[prost(uint64, tag = "4")]
    pub max_document: u64,
    /// How many bytes of one body may be sent beyond the offset that this node has committed.
    #[prost(uint64, tag = "5")]
    pub window: u64,
    /// A name for people, up to 64 bytes of UTF-8; not trusted for anything.
    #[prost(string, tag = "6")]
    pub name: String,
    /// Bit 0: has a path to a destination now. Bit 1: is a gateway. Bit 2: can go on over Wi-Fi.
    #[prost(uint32, tag = "7")]
    pub flags: u32,
    /// With which this node's advertisements are recognised: 16 bytes, or empty. Told to peers that are known.
    #[prost(bytes = "bytes", tag = "8")]
    pub advertising_key: Bytes,
}

/// Shows neither name nor key.
impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello")
            .field("store_id", &self.store_id)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

/// The opening of a chunked transfer; as an OFFER it may be answered by ACK, confirmation, refusal or [`Resume`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Start {
    /// Chosen by the sender, unique in the session.
    #[prost(uint32, tag = "1")]
    pub transfer: u32,
    /// Message id of the whole: 32 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub id: Bytes,
    /// Group id: 32 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub group_id: Bytes,
    /// Unix seconds.
    #[prost(int64, tag = "4")]
    pub timestamp: i64,
    /// Size of the body in bytes.
    #[prost(uint64, tag = "5")]
    pub size: u64,
    /// First fingerprint of the destination that the envelope names: 20 or 32 bytes.
    #[prost(bytes = "bytes", tag = "6")]
    pub destination: Bytes,
}

/// Bytes of a body.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Chunk {
    /// The transfer that [`Start`] opened.
    #[prost(uint32, tag = "1")]
    pub transfer: u32,
    /// Where in the body these bytes begin.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// The bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub bytes: Bytes,
}

/// What of a transfer the receiver has committed; asks for the rest and opens the window.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Resume {
    /// The transfer that [`Start`] opened.
    #[prost(uint32, tag = "1")]
    pub transfer: u32,
    /// Bytes of the body that are durable at the receiver.
    #[prost(uint64, tag = "2")]
    pub committed: u64,
}

/// Says that a document is not wanted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refusal {
    /// Message id: 32 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: Bytes,
    /// A number of [`crate::refusal::Reason`].
    #[prost(uint32, tag = "2")]
    pub reason: u32,
}

/// The fields of a confirmation; the signed text is rebuilt from them ([`crate::confirmation`]).
#[derive(Clone, PartialEq, prost::Message)]
pub struct Confirmation {
    /// The destination's first fingerprint: 20 or 32 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub destination: Bytes,
    /// Fingerprint of the key that signed; empty when it is the first one itself.
    #[prost(bytes = "bytes", tag = "2")]
    pub signer: Bytes,
    /// Unix seconds of the signature.
    #[prost(uint64, tag = "3")]
    pub time: u64,
    /// Message ids, 32 bytes each, ascending, without separator.
    #[prost(bytes = "bytes", tag = "4")]
    pub ids: Bytes,
    /// One byte per id: a code of [`crate::confirmation::Verdict`].
    #[prost(bytes = "bytes", tag = "5")]
    pub verdicts: Bytes,
    /// Binary detached OpenPGP signature over the canonical text.
    #[prost(bytes = "bytes", tag = "6")]
    pub signature: Bytes,
}

/// End-of-session report of one side about what it received.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Report {
    /// Per collection, at most [`crate::sync::MAX_REPORTED_COLLECTIONS`]; what is beyond is summed under an empty id.
    #[prost(message, repeated, tag = "1")]
    pub collections: Vec<CollectionReport>,
    /// Confirmations that were new.
    #[prost(uint32, tag = "2")]
    pub confirmations: u32,
}

/// One collection's line in a [`Report`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct CollectionReport {
    /// Group id; empty for "all others" and where an id alone was known.
    #[prost(bytes = "bytes", tag = "1")]
    pub group_id: Bytes,
    /// Documents received and stored.
    #[prost(uint32, tag = "2")]
    pub stored: u32,
    /// Bytes of their bodies.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// Offered or sent, but already held or confirmed.
    #[prost(uint32, tag = "4")]
    pub already_held: u32,
    /// Refused.
    #[prost(uint32, tag = "5")]
    pub refused: u32,
    /// Heads in conflict seen.
    #[prost(uint32, tag = "6")]
    pub conflicts: u32,
}

/// How long a document has been under way, by the monotonic clocks of those who carried it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Age {
    /// Message id: 32 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: Bytes,
    /// Seconds.
    #[prost(uint64, tag = "2")]
    pub seconds: u64,
}

/// Why the sender ends the session.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Goodbye {
    /// A number of [`crate::refusal::Goodbye`].
    #[prost(uint32, tag = "1")]
    pub reason: u32,
    /// With reason "busy": the receiver's place in the line, 1 for the next; 0 for none.
    #[prost(uint32, tag = "2")]
    pub place: u32,
    /// With reason "busy": seconds after which the receiver should come again; 0 where that is not said.
    #[prost(uint32, tag = "3")]
    pub again: u32,
}

/// What the sender has to send, so that the receiver can tell whether another link is worth it.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Waiting {
    /// Bytes of bodies.
    #[prost(uint64, tag = "1")]
    pub bytes: u64,
}

/// A network of the sender's, and what goes on there; see [`crate::moving::WifiOffer`].
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Wifi {
    /// The network's name: 1 to 32 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub ssid: Bytes,
    /// Its WPA2 passphrase: 8 to 63 characters of ASCII.
    #[prost(bytes = "bytes", tag = "2")]
    pub passphrase: Bytes,
    /// The address of its access point: 6 bytes, or empty.
    #[prost(bytes = "bytes", tag = "3")]
    pub bssid: Bytes,
    /// Its frequency in MHz, or 0.
    #[prost(uint32, tag = "4")]
    pub frequency: u32,
    /// Where the sender is in it: 4 bytes of IPv4, or 16 of IPv6, link-local.
    #[prost(bytes = "bytes", tag = "5")]
    pub address: Bytes,
    /// Its TCP port.
    #[prost(uint32, tag = "6")]
    pub port: u32,
    /// The code secret of the handshake there: 16 bytes.
    #[prost(bytes = "bytes", tag = "7")]
    pub token: Bytes,
    /// Seconds for which it can be used.
    #[prost(uint32, tag = "8")]
    pub valid: u32,
}

/// Shows neither passphrase nor token.
impl std::fmt::Debug for Wifi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wifi")
    }
}

/// A certificate of a destination's chain; see [`crate::succession`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Succession {
    /// First fingerprint of the destination.
    #[prost(bytes = "bytes", tag = "1")]
    pub destination: Bytes,
    /// The certificate, binary.
    #[prost(bytes = "bytes", tag = "2")]
    pub certificate: Bytes,
    /// Primary key of the certificate before it; empty where that is the first one.
    #[prost(bytes = "bytes", tag = "3")]
    pub signer: Bytes,
    /// When it was signed, Unix seconds.
    #[prost(uint64, tag = "4")]
    pub time: u64,
    /// Binary detached OpenPGP signature over the canonical text; empty for a newer state of a known certificate.
    #[prost(bytes = "bytes", tag = "5")]
    pub signature: Bytes,
}

/// A destination's chain as it is stored and served.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Successions {
    /// The first certificate first.
    #[prost(message, repeated, tag = "1")]
    pub successions: Vec<Succession>,
}
