//! The emulated network delays, limits, loses and cuts as it is told, and real connections run over it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use waypost_tests::wan::{Conditions, Direction, Side, Wan};

const MS: Duration = Duration::from_millis(1);

/// A socket on a side, with a free port.
fn udp(side: &Side) -> UdpSocket {
    let socket = side.namespace().run(|| UdpSocket::bind((side.address(), 0))).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(800))).unwrap();
    socket
}

/// Round trips of ten small packets, those that came back, sorted.
fn round_trips(wan: &Wan) -> Vec<Duration> {
    let (near, far) = (udp(wan.near()), udp(wan.far()));
    let address = far.local_addr().unwrap();
    let echo = std::thread::spawn(move || {
        let mut packet = [0; 100];
        while let Ok((len, from)) = far.recv_from(&mut packet) {
            far.send_to(&packet[..len], from).unwrap();
        }
    });
    let mut times = Vec::new();
    for number in 0..10 {
        let begin = Instant::now();
        near.send_to(&[number], address).unwrap();
        if near.recv(&mut [0; 100]).is_ok() {
            times.push(begin.elapsed());
        }
    }
    echo.join().unwrap();
    times.sort();
    times
}

/// Something that accepts one connection on the far side, and answers what it read until the other side ended.
fn sink(wan: &Wan) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = wan.far().namespace().run(|| TcpListener::bind((wan.far().address(), 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        stream.write_all(b"done").unwrap();
        bytes
    });
    (address, reader)
}

fn connect(wan: &Wan, address: SocketAddr) -> TcpStream {
    wan.near().namespace().run(|| TcpStream::connect_timeout(&address, Duration::from_secs(5))).unwrap()
}

/// Sends bytes over TCP; answers when the other side has read them all.
fn transfer(wan: &Wan, bytes: &[u8]) -> (Vec<u8>, Duration) {
    let (address, reader) = sink(wan);
    let mut stream = connect(wan, address);
    let begin = Instant::now();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    (reader.join().unwrap(), begin.elapsed())
}

fn pattern(len: u32) -> Vec<u8> {
    (0..len).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

#[test]
fn a_round_trip_takes_twice_the_delay() {
    let wan = Wan::new(Conditions { delay: 40 * MS, ..Conditions::default() }).unwrap();
    let times = round_trips(&wan);
    println!("{times:?}");
    assert_eq!(times.len(), 10);
    assert!(times[0] >= 80 * MS, "{times:?}");
    assert!(times[5] < 130 * MS, "{times:?}");
    wan.set(&Conditions { delay: MS, ..Conditions::default() });
    assert!(round_trips(&wan)[5] < 50 * MS);
}

#[test]
fn tcp_comes_through_loss_and_reordering_intact() {
    let conditions =
        Conditions { delay: 2 * MS, jitter: MS, loss: 0.02, reorder: 0.01, seed: 3, ..Conditions::default() };
    let wan = Wan::new(conditions).unwrap();
    let sent = pattern(1 << 20);
    let (received, _) = transfer(&wan, &sent);
    assert!(received == sent);
    assert!(wan.counters(Direction::Out).lost > 0);
    assert!(wan.counters(Direction::Out).bytes > 1 << 20);
    assert!(wan.counters(Direction::Back).bytes > 0);
}

#[test]
fn the_rate_is_kept() {
    let sent = pattern(1_000_000);
    // A busy machine slows a transfer, and never speeds it up: the rate is never above, and reached in one of a few tries.
    let rates: Vec<f64> = (0..4)
        .map(|_| {
            let slow = Conditions { rate: Some(1_000_000), delay: 5 * MS, ..Conditions::default() };
            let wan = Wan::new(slow).unwrap();
            let (received, time) = transfer(&wan, &sent);
            assert!(received == sent);
            wan.counters(Direction::Out).bytes as f64 / time.as_secs_f64()
        })
        .collect();
    assert!(rates.iter().all(|rate| *rate < 1_250_000.0), "{rates:?} bytes/s");
    assert!(rates.iter().any(|rate| *rate > 750_000.0), "{rates:?} bytes/s");
}

#[test]
fn an_unlimited_line_carries_200_megabits_per_second() {
    let wan = Wan::new(Conditions::default()).unwrap();
    let sent = pattern(20 << 20);
    let (received, time) = transfer(&wan, &sent);
    assert!(received == sent);
    let rate = sent.len() as f64 * 8.0 / 1e6 / time.as_secs_f64();
    println!("{rate:.0} Mbit/s");
    assert!(rate > 200.0, "{rate:.0} Mbit/s");
}

#[test]
fn nothing_passes_while_the_link_is_down_and_a_connection_lives_through_it() {
    let wan = Wan::new(Conditions { delay: MS, ..Conditions::default() }).unwrap();
    let (address, reader) = sink(&wan);
    let mut stream = connect(&wan, address);
    stream.write_all(b"one").unwrap();
    std::thread::sleep(50 * MS);
    wan.link(false);
    let before = wan.counters(Direction::Out);
    stream.write_all(b"two").unwrap();
    std::thread::sleep(300 * MS);
    let after = wan.counters(Direction::Out);
    assert_eq!((after.packets, after.bytes), (before.packets, before.bytes));
    assert!(after.cut > before.cut);
    wan.link(true);
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(reader.join().unwrap(), b"onetwo");
}

#[test]
fn an_unplugged_side_has_no_route_until_it_is_plugged_in_again() {
    let wan = Wan::new(Conditions::default()).unwrap();
    let socket = udp(wan.near());
    let address = (wan.far().address(), 9);
    socket.send_to(b"x", address).unwrap();
    wan.near().plug(false).unwrap();
    assert_eq!(socket.send_to(b"x", address).unwrap_err().kind(), std::io::ErrorKind::NetworkUnreachable);
    wan.near().plug(true).unwrap();
    assert_eq!(round_trips(&wan).len(), 10);
}

#[test]
fn a_command_sees_only_the_network_that_it_runs_in() {
    let wan = Wan::new(Conditions::default()).unwrap();
    let output = wan.near().command("cat").arg("/proc/net/dev").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut interfaces: Vec<_> =
        text.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
    interfaces.sort_unstable();
    assert_eq!(interfaces, ["lo", "wan0"]);
}
