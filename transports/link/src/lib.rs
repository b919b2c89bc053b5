//! A link: an ordered byte stream to one peer, as frames with a u16 length prefix; and the in-memory link.
//!
//! Transports make links; whoever gets one knows nothing of the radio or wire beneath. Boundaries of packets mean
//! nothing: frames are found by their length alone.

mod memory;

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Decoder, FramedRead, FramedWrite, LengthDelimitedCodec};

pub use memory::{Throttle, memory_pair};

/// The longest frame, in bytes, without its prefix.
pub const MAX_FRAME: usize = 65_535;
/// Bytes of a frame's length prefix: big-endian u16.
pub const PREFIX: usize = 2;

/// What carries a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Medium {
    /// Inside one process.
    Memory,
    /// TCP on a local network.
    Lan,
    /// TCP within a gateway's own Wi-Fi Direct group.
    WifiDirect,
    /// Bluetooth LE, a connection-oriented L2CAP channel.
    BleL2cap,
    /// Bluetooth LE, a GATT characteristic.
    BleGatt,
}

impl std::fmt::Display for Medium {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Medium::Memory => "memory",
            Medium::Lan => "lan",
            Medium::WifiDirect => "wifi-direct",
            Medium::BleL2cap => "ble",
            Medium::BleGatt => "ble-gatt",
        })
    }
}

/// What is known of a link before anyone has authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// What carries it.
    pub medium: Medium,
    /// The other end, as the medium names it, for logs and limits; proves nothing.
    pub address: String,
    /// What it shares with other links that are limited together: the Bluetooth adapter, for example `hci0`, or the network
    /// interface. Empty where nothing is shared.
    pub group: String,
    /// Whether this side opened it.
    pub outgoing: bool,
    /// The longest frame worth sending on it, in bytes: 16 KiB on TCP, 4 KiB on Bluetooth LE.
    pub useful_frame: usize,
}

impl LinkInfo {
    /// What it is limited by together with others: the two kinds of Bluetooth links share an adapter.
    pub fn shares(&self) -> (Medium, &str) {
        let medium = match self.medium {
            Medium::BleGatt => Medium::BleL2cap,
            other => other,
        };
        (medium, &self.group)
    }

    /// The other end without what differs between two of its links: on IP, without the port.
    pub fn host(&self) -> &str {
        match self.medium {
            Medium::Lan | Medium::WifiDirect => {
                self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host)
            }
            Medium::Memory | Medium::BleL2cap | Medium::BleGatt => &self.address,
        }
    }
}

/// Why no more frames come or go.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The stream ended within a frame or failed.
    #[error("link lost: {0}")]
    Lost(#[from] io::Error),
    /// A frame to be sent is longer than [`MAX_FRAME`].
    #[error("frame of {0} bytes, at most {MAX_FRAME} are possible")]
    TooLong(usize),
}

/// A link, to be split into its two directions.
pub struct Link {
    /// What is known of it.
    pub info: LinkInfo,
    /// Frames that come.
    pub reader: FrameReader,
    /// Frames that go.
    pub writer: FrameWriter,
}

type BoxRead = Pin<Box<dyn AsyncRead + Send>>;
type BoxWrite = Pin<Box<dyn AsyncWrite + Send>>;

impl Link {
    /// Makes a link of a stream's halves.
    pub fn new(
        info: LinkInfo,
        reader: impl AsyncRead + Send + 'static,
        writer: impl AsyncWrite + Send + 'static,
    ) -> Self {
        Link {
            info,
            reader: FrameReader(FramedRead::new(Box::pin(reader), codec())),
            writer: FrameWriter(FramedWrite::new(Box::pin(writer), codec())),
        }
    }
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().length_field_type::<u16>().max_frame_length(MAX_FRAME).new_codec()
}

/// Reads frames.
pub struct FrameReader(FramedRead<BoxRead, LengthDelimitedCodec>);

impl FrameReader {
    /// The next frame without its prefix; `None` where the peer closed the link between frames. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LinkError> {
        Ok(self.0.next().await.transpose()?.map(bytes::BytesMut::freeze))
    }
}

/// Writes frames.
pub struct FrameWriter(FramedWrite<BoxWrite, LengthDelimitedCodec>);

impl FrameWriter {
    /// Takes a frame; it may stay in a buffer until [`FrameWriter::flush`].
    pub async fn feed(&mut self, frame: Bytes) -> Result<(), LinkError> {
        if frame.len() > MAX_FRAME {
            return Err(LinkError::TooLong(frame.len()));
        }
        Ok(self.0.feed(frame).await?)
    }

    /// Hands everything to the medium.
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        Ok(<FramedWrite<_, _> as SinkExt<Bytes>>::flush(&mut self.0).await?)
    }

    /// Ends this direction after everything was handed over.
    pub async fn close(&mut self) -> Result<(), LinkError> {
        Ok(<FramedWrite<_, _> as SinkExt<Bytes>>::close(&mut self.0).await?)
    }
}

/// Finds the frames in bytes that came in any cuts; for links that are not streams of tokio, and for tests.
#[derive(Debug)]
pub struct Deframer {
    codec: LengthDelimitedCodec,
    buffer: bytes::BytesMut,
}

impl Default for Deframer {
    fn default() -> Self {
        Deframer { codec: codec(), buffer: bytes::BytesMut::new() }
    }
}

impl Deframer {
    /// More bytes came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, LinkError> {
        Ok(self.codec.decode(&mut self.buffer)?.map(bytes::BytesMut::freeze))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_are_found_in_any_cuts(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8), cut in 1usize..50) {
            let mut stream = Vec::new();
            for frame in &frames {
                stream.extend(u16::try_from(frame.len()).unwrap().to_be_bytes());
                stream.extend(frame);
            }
            let (mut deframer, mut found) = (Deframer::default(), Vec::new());
            for part in stream.chunks(cut) {
                deframer.push(part);
                while let Some(frame) = deframer.next_frame().unwrap() {
                    found.push(frame.to_vec());
                }
            }
            prop_assert_eq!(found, frames);
        }
    }

    #[tokio::test]
    async fn a_link_that_ends_within_a_frame_is_lost_and_one_that_ends_between_is_closed() {
        let info = LinkInfo {
            medium: Medium::Memory,
            address: "test".into(),
            group: String::new(),
            outgoing: false,
            useful_frame: 100,
        };
        let whole: &[u8] = &[0, 2, 7, 8];
        let mut link = Link::new(info.clone(), whole, tokio::io::sink());
        assert_eq!(link.reader.next().await.unwrap().as_deref(), Some(&[7, 8][..]));
        assert!(link.reader.next().await.unwrap().is_none());
        let cut: &[u8] = &[0, 2, 7];
        let mut link = Link::new(info, cut, tokio::io::sink());
        assert!(matches!(link.reader.next().await, Err(LinkError::Lost(_))));
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_is_refused() {
        let (mut near, _far) = memory_pair(Throttle::default());
        let frame = Bytes::from(vec![0; MAX_FRAME + 1]);
        assert!(matches!(near.writer.feed(frame).await, Err(LinkError::TooLong(65_536))));
    }
}
