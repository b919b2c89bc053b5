//! `session_vs_snow`: a session with its sync engine against bare snow and SHA-256, over the same loopback TCP.

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;
use sha2::{Digest, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, TransportState};
use waypost_lan::{Listener, USEFUL_FRAME, connect};
use waypost_protocol::document::Document;
use waypost_protocol::session::{Identity, Introduction};

use super::maths::{RUNS, alternate};
use super::memory::{Memory, Role, converse};
use super::row::Measured;
use super::workload::{Signer, noise};
use super::{Bench, Outcome};

const DOCUMENTS: usize = 8;
const SIZE: usize = 16 << 20;
const NOISE: &str = "Noise_IK_25519_ChaChaPoly_SHA256";
/// What the cipher adds to each frame.
const TAG: usize = 16;
/// The length before each frame.
const PREFIX: usize = 2;

pub(super) fn session_vs_snow(_: &Bench) -> Outcome<Measured> {
    let addressee = Signer::new()?.addressee;
    let documents = (0..DOCUMENTS as u64).map(|seed| addressee.wrap(&noise(seed, SIZE)));
    let documents: Vec<Document> = documents.collect::<Outcome<_>>()?;
    let pairs = alternate(RUNS, |_| ours(&documents), |_| bare(&documents))?;
    let megabytes =
        f64::from(u32::try_from(documents.iter().map(|one| one.body().len()).sum::<usize>())?) / 1e6;
    let rate = |seconds: f64| format!("{:.0} MB/s", megabytes / seconds);
    Ok(Measured::new(pairs.speed())
        .beside("session and sync", rate(pairs.ours()))
        .beside("snow and SHA-256", rate(pairs.theirs()))
        .beside("moved", format!("{megabytes:.0} MB in frames of {USEFUL_FRAME} bytes, one thread a side")))
}

/// Both sides in a thread of their own, each with a runtime; from connecting to the end of both.
fn ours(documents: &[Document]) -> Outcome<Duration> {
    let identity = Identity::generate(&mut waypost_node::system_rng()?)?;
    let phone = Identity::generate(&mut waypost_node::system_rng()?)?;
    let key = identity.public();
    let destination =
        waypost_protocol::envelope::parse(documents.first().ok_or("nothing to move")?.body())?.0.destination;
    let (tell, told) = std::sync::mpsc::channel();
    let responder = std::thread::spawn(move || -> Outcome<u64> {
        runtime()?.block_on(async {
            let listener = Listener::bind("127.0.0.1:0").await?;
            tell.send(listener.local_address()?)?;
            let mut memory = Memory::default();
            let link = listener.accept().await?;
            converse(link, Role::Responder(destination), &identity, &mut memory).await?;
            Ok(memory.received)
        })
    });
    let address = told.recv()?.to_string();
    let begun = Instant::now();
    let sent = runtime()?.block_on(async {
        let mut memory = Memory::with(documents.to_vec());
        let link = connect(&address, Duration::from_secs(5)).await?;
        converse(link, Role::Initiator(&Introduction::Known(key)), &phone, &mut memory).await
    });
    let received = joined(responder)?;
    let took = begun.elapsed();
    sent?;
    match received == documents.len() as u64 {
        true => Ok(took),
        false => Err(format!("{received} of {} documents came whole", documents.len()).into()),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn joined<T>(thread: std::thread::JoinHandle<Outcome<T>>) -> Outcome<T> {
    thread.join().unwrap_or_else(|_| Err("the other side panicked".into()))
}

/// The same handshake and cipher, the same frames, one hash over all bytes, and a digest back.
fn bare(documents: &[Document]) -> Outcome<Duration> {
    let builder = || Ok::<_, snow::Error>(Builder::with_resolver(NOISE.parse()?, Box::new(Primitives)));
    let (near, far) = (builder()?.generate_keypair()?, builder()?.generate_keypair()?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let total: usize = documents.iter().map(|document| document.body().len()).sum();
    let (far_private, far_public) = (far.private, far.public);
    let responder = std::thread::spawn(move || -> Outcome<()> {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut noise = builder()?.local_private_key(&far_private)?.build_responder()?;
        let (mut reader, mut buffer) = (BufReader::with_capacity(64 << 10, &stream), vec![0; USEFUL_FRAME]);
        noise.read_message(read_frame(&mut reader, &mut buffer)?, &mut [])?;
        let mut answer = vec![0; PREFIX + USEFUL_FRAME];
        let length = noise.write_message(&[], &mut answer[PREFIX..])?;
        write_frame(&stream, &mut answer, length)?;
        let mut noise = noise.into_transport_mode()?;
        let (mut hasher, mut plain, mut left) = (Sha256::new(), vec![0; USEFUL_FRAME], total);
        while left > 0 {
            let length = noise.read_message(read_frame(&mut reader, &mut buffer)?, &mut plain)?;
            hasher.update(&plain[..length]);
            left = left.checked_sub(length).ok_or("more came than was sent")?;
        }
        let length = noise.write_message(&hasher.finalize(), &mut answer[PREFIX..])?;
        Ok(write_frame(&stream, &mut answer, length)?)
    });
    let begun = Instant::now();
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut noise =
        builder()?.local_private_key(&near.private)?.remote_public_key(&far_public)?.build_initiator()?;
    let mut frame = vec![0; PREFIX + USEFUL_FRAME];
    let length = noise.write_message(&[], &mut frame[PREFIX..])?;
    write_frame(&stream, &mut frame, length)?;
    let (mut reader, mut buffer) = (BufReader::new(&stream), vec![0; USEFUL_FRAME]);
    noise.read_message(read_frame(&mut reader, &mut buffer)?, &mut [])?;
    let mut noise: TransportState = noise.into_transport_mode()?;
    for document in documents {
        for part in document.body().chunks(USEFUL_FRAME - TAG) {
            let length = noise.write_message(part, &mut frame[PREFIX..])?;
            write_frame(&stream, &mut frame, length)?;
        }
    }
    let mut digest = [0; 32];
    noise.read_message(read_frame(&mut reader, &mut buffer)?, &mut digest)?;
    joined(responder)?;
    let took = begun.elapsed();
    let mut hasher = Sha256::new();
    documents.iter().for_each(|document| hasher.update(document.body()));
    match hasher.finalize()[..] == digest {
        true => Ok(took),
        false => Err("the bytes came otherwise than they were sent".into()),
    }
}

fn write_frame(mut stream: &TcpStream, frame: &mut [u8], length: usize) -> std::io::Result<()> {
    let prefix = u16::try_from(length).map_err(std::io::Error::other)?.to_be_bytes();
    frame[..PREFIX].copy_from_slice(&prefix);
    stream.write_all(&frame[..PREFIX + length])
}

fn read_frame<'b>(reader: &mut impl Read, buffer: &'b mut [u8]) -> std::io::Result<&'b [u8]> {
    let mut prefix = [0; PREFIX];
    reader.read_exact(&mut prefix)?;
    let frame = buffer.get_mut(..usize::from(u16::from_be_bytes(prefix)));
    let frame = frame.ok_or_else(|| std::io::Error::other("a frame is too long"))?;
    reader.read_exact(frame)?;
    Ok(frame)
}

/// What the session uses, too: `snow`'s own, without its generator, which this build does not have.
struct Primitives;

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Generator(waypost_node::system_rng().ok()?)))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Generator(ChaCha20Rng);

impl Random for Generator {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}
