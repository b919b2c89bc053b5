//! The proxy forwards frames unchanged, and stops exactly where a test wants it to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use waypost_tests::proxy::{Content, Counts, Direction, Moment, Proxy, Then};

/// A target that sends every byte back, and tells what each connection received once it has ended.
fn echo() -> (SocketAddr, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut received = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                received.extend_from_slice(&buffer[..len]);
                if stream.write_all(&buffer[..len]).is_err() {
                    break;
                }
            }
            if sender.send(received).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

/// Everything up to the end of the stream, however it ends.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

#[test]
fn frames_pass_unchanged_and_are_counted_each_way() {
    let (target, received) = echo();
    let proxy = Proxy::start(target, Content::Frames).unwrap();
    let mut stream = connect(&proxy);
    let sent = [frame(b"one"), frame(b""), frame(&[7; 65_535])].concat();
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(rest(&mut stream) == sent);
    assert!(received.recv().unwrap() == sent);
    let counts = Counts { frames: 3, bytes: sent.len() as u64 };
    assert_eq!(proxy.counts(Direction::ToTarget), counts);
    assert_eq!(proxy.counts(Direction::FromTarget), counts);
}

#[test]
fn a_hook_before_a_frame_can_keep_it_from_arriving() {
    let (target, received) = echo();
    let proxy = Proxy::start(target, Content::Frames).unwrap();
    proxy.when(Moment::Before, |f| f.direction == Direction::ToTarget && f.number == 1, |_| Then::Cut);
    let mut stream = connect(&proxy);
    stream.write_all(&[frame(b"zero"), frame(b"one")].concat()).unwrap();
    rest(&mut stream);
    assert_eq!(received.recv().unwrap(), frame(b"zero"));
    assert_eq!(proxy.counts(Direction::ToTarget).frames, 1);
}

#[test]
fn a_hook_after_a_frame_comes_when_it_has_been_forwarded() {
    let (target, received) = echo();
    let proxy = Proxy::start(target, Content::Frames).unwrap();
    let (sender, seen) = channel();
    // Frame 0 of all is the first to the target, frame 1 its echo.
    proxy.at(Moment::After, 1, move |frame| {
        sender.send(*frame).unwrap();
        Then::Cut
    });
    let mut stream = connect(&proxy);
    stream.write_all(&frame(b"zero")).unwrap();
    assert_eq!(rest(&mut stream), frame(b"zero"));
    let frame = seen.recv().unwrap();
    assert_eq!(
        (frame.direction, frame.number, frame.connection, frame.len),
        (Direction::FromTarget, 0, 0, 4)
    );
    received.recv().unwrap();
}

#[test]
fn cutting_after_a_number_of_bytes_lets_exactly_those_pass() {
    for content in [Content::Frames, Content::Bytes] {
        let (target, received) = echo();
        let proxy = Proxy::start(target, content).unwrap();
        proxy.cut_after(Direction::ToTarget, 700);
        let mut stream = connect(&proxy);
        let sent = [frame(&[1; 500]), frame(&[2; 500])].concat();
        stream.write_all(&sent).unwrap();
        rest(&mut stream);
        assert_eq!(received.recv().unwrap(), sent[..700]);
        let mut again = connect(&proxy);
        again.write_all(&sent).unwrap();
        again.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&mut again), sent);
        assert_eq!(proxy.connections(), 2);
    }
}

#[test]
fn a_pause_holds_everything_back_and_a_cut_ends_it() {
    let (target, received) = echo();
    let proxy = Proxy::start(target, Content::Frames).unwrap();
    let mut stream = connect(&proxy);
    stream.write_all(&frame(b"one")).unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    proxy.pause(true);
    stream.write_all(&frame(b"two")).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(stream.read_exact(&mut [0; 5]).is_err());
    proxy.pause(false);
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, *frame(b"two"));
    proxy.pause(true);
    stream.write_all(&frame(b"three")).unwrap();
    proxy.cut();
    assert!(rest(&mut stream).is_empty());
    assert_eq!(received.recv().unwrap(), [frame(b"one"), frame(b"two")].concat());
}

#[test]
fn new_connections_can_be_refused_and_led_elsewhere() {
    let (first, _) = echo();
    let (second, received) = echo();
    let proxy = Proxy::start(first, Content::Frames).unwrap();
    proxy.refuse(true);
    let mut stream = connect(&proxy);
    assert!(rest(&mut stream).is_empty());
    proxy.refuse(false);
    proxy.retarget(second);
    let mut stream = connect(&proxy);
    stream.write_all(&frame(b"here")).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut stream), frame(b"here"));
    assert_eq!(received.recv().unwrap(), frame(b"here"));
}

#[test]
fn a_hook_that_panics_ends_the_connection() {
    let (target, received) = echo();
    let proxy = Proxy::start(target, Content::Frames).unwrap();
    proxy.at(Moment::Before, 0, |_| panic!("an assertion of a test"));
    let mut stream = connect(&proxy);
    stream.write_all(&frame(b"one")).unwrap();
    assert!(rest(&mut stream).is_empty());
    assert!(received.recv().unwrap().is_empty());
}
