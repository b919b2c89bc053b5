//! A session that goes on over another link.

use waypost_protocol::moving::{WifiNetwork, WifiOffer};

use waypost_node::TurnLength;
use waypost_protocol::sync::Holdings as _;

use super::*;

fn network() -> WifiNetwork {
    WifiNetwork {
        ssid: b"DIRECT-ab-test".to_vec(),
        passphrase: "abcdefgh2345".to_owned().into(),
        bssid: None,
        frequency: 5_180,
        address: "fe80::1".parse().unwrap(),
        port: 4_180,
    }
}

/// A Bluetooth link from a phone to a gateway that carries about 2 MB/s, so that something happens meanwhile.
fn slow_link() -> (waypost_link::Link, waypost_link::Link) {
    let (near, near_end) = tokio::io::duplex(8 * 1024);
    let (far, far_end) = tokio::io::duplex(8 * 1024);
    let (mut from_phone, mut to_phone) = tokio::io::split(near_end);
    let (mut from_gateway, mut to_gateway) = tokio::io::split(far_end);
    tokio::spawn(async move {
        let mut part = vec![0; 8 * 1024];
        while let Ok(length @ 1..) = from_phone.read(&mut part).await {
            tokio::time::sleep(Duration::from_millis(4)).await;
            if to_gateway.write_all(&part[..length]).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        // A side that is gone ends the other.
        let _ = tokio::io::copy(&mut from_gateway, &mut to_phone).await;
        let _ = to_phone.shutdown().await;
    });
    let end = |stream, outgoing| {
        let (reader, writer) = tokio::io::split(stream);
        let address = "00:00:00:00:00:01".to_owned();
        let (medium, group) = (Medium::BleL2cap, String::new());
        let info = LinkInfo { medium, address, group, outgoing, useful_frame: 4_094 };
        waypost_link::Link::new(info, reader, writer)
    };
    (end(near, true), end(far, false))
}

/// Drives both until `done` answers something.
async fn until<T>(
    phone: &mut Side,
    gateway: &mut Side,
    mut done: impl FnMut(&mut Side, &mut Side) -> Option<T>,
) -> T {
    let run = async {
        loop {
            if let Some(done) = done(phone, gateway) {
                return done;
            }
            tokio::select! {
                event = phone.node.next_event() => phone.node.handle(event, &mut phone.host),
                event = gateway.node.next_event() => gateway.node.handle(event, &mut gateway.host),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            for side in [&mut *phone, &mut *gateway] {
                if side.node.deadline().is_some_and(|at| at <= side.node.clock().now()) {
                    side.node.handle_deadline(&mut side.host);
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), run).await.expect("it hangs")
}

/// A phone in the middle of a large document, which has been told where it can go on: the session, and the offer.
async fn offered(phone: &mut Side, gateway: &mut Side, size: usize) -> (ConversationId, WifiOffer) {
    for side in [&mut *phone, &mut *gateway] {
        let hello = side.node.hello().clone();
        side.node.set_hello(PeerHello { moves: true, ..hello });
    }
    let (near, far) = slow_link();
    gateway.node.accept(far).unwrap();
    let id = phone.node.open(near, &Introduction::Known(gateway.key)).unwrap();
    until(phone, gateway, |phone, _| {
        phone
            .host
            .events
            .iter()
            .any(|event| matches!(event, Event::Hello(hello) if hello.moves))
            .then_some(())
    })
    .await;
    phone.node.say_waiting(id, size as u64);
    let worth = until(phone, gateway, |_, gateway| gateway.node.worth_moving().first().copied()).await;
    assert!(gateway.node.is_still_worth_moving(worth));
    assert!(gateway.node.offer_wifi(worth, &network()));
    let offer = until(phone, gateway, |phone, _| {
        phone.host.events.iter().find_map(|event| match event {
            Event::Wifi(offer) => Some(*offer.clone()),
            _ => None,
        })
    })
    .await;
    assert_eq!((offer.network.address, offer.network.port), (network().address, 4_180));
    (id, offer)
}

fn over(side: &Side, id: ConversationId) -> Option<ContactSummary> {
    side.host.over.iter().find(|summary| summary.id == id).cloned()
}

#[tokio::test]
async fn a_phone_that_is_shut_out_at_the_end_of_its_turn_is_not_heard_to_its_end() {
    let (mut phone, mut gateway, mut other) =
        (side(true, vec![]), side(false, vec![DESTINATION]), side(true, vec![]));
    let turn = TurnLength { time: Duration::from_millis(1), bytes: 0, hold: Duration::from_secs(10) };
    gateway.node.set_limits(Limits { ble: MediumLimits { links: 1, half_open: 3, turn }, ..limits() });
    let document = write_document(&phone, 1, 5_000_000);
    let committed = |gateway: &Side, of: &PeerKey| {
        let partial = gateway.node.store().partial(&document, of).unwrap();
        partial.map_or(0, |partial| partial.committed)
    };
    let (near, far) = slow_link();
    gateway.node.accept(far).unwrap();
    let id = phone.node.open(near, &Introduction::Known(gateway.key)).unwrap();
    let key = phone.key;
    until(&mut phone, &mut gateway, |_, gateway| (committed(gateway, &key) > 0).then_some(())).await;
    let (near, far) = slow_link();
    gateway.node.accept(far).unwrap();
    other.node.open(near, &Introduction::Known(gateway.key)).unwrap();
    // Its turn ends where another one comes: it is told so, and heard a little longer.
    until(&mut other, &mut gateway, |_, gateway| (!gateway.node.peers().contains(&key)).then_some(())).await;
    gateway.node.end_peer(&key, Goodbye::NotPaired);
    gateway.node.writer().flush();
    let until_then = committed(&gateway, &key);
    let summary = until(&mut phone, &mut gateway, |phone, _| over(phone, id)).await;
    // What it had on its way has come by then.
    until(&mut phone, &mut gateway, |_, gateway| gateway.host.over.pop()).await;
    gateway.node.writer().flush();
    assert!(matches!(summary.ending, Ending::HeardGoodbye(Goodbye::Busy(_))), "{summary:?}");
    // 16 kB and more were on their way; of what had come a frame may not have been written down yet.
    let more = committed(&gateway, &key) - until_then;
    assert!(more < 10_000, "{more} bytes");
}

#[tokio::test]
async fn a_session_goes_on_over_another_link_at_the_byte_that_the_gateway_has_and_a_token_is_good_once() {
    const SIZE: usize = 6_000_000;
    let (mut phone, mut gateway) = (side(true, vec![]), side(false, vec![DESTINATION]));
    let document = write_document(&phone, 1, SIZE);
    let (first, offer) = offered(&mut phone, &mut gateway, SIZE).await;
    // Joining takes a while, in which the first link goes on.
    let sent = |phone: &Side| {
        let done = phone.host.events.iter().filter_map(|event| match event {
            Event::Progress { done, .. } => Some(*done),
            _ => None,
        });
        done.max().unwrap_or(0)
    };
    until(&mut phone, &mut gateway, |phone, _| (sent(phone) > 1_000_000).then_some(())).await;

    let by_token = Introduction::Code(gateway.key, offer.token.clone());
    let (near, far) = memory_pair(Throttle::default());
    gateway.node.accept(far).unwrap();
    let second = phone.node.open(near, &by_token).unwrap();
    let before = until(&mut phone, &mut gateway, |phone, _| over(phone, first)).await;
    assert_eq!(before.ending, Ending::HeardGoodbye(Goodbye::Moved));
    until(&mut phone, &mut gateway, |phone, _| phone.node.is_settled(second).then_some(())).await;
    phone.node.close(second, &mut phone.host);
    let after = over(&phone, second).unwrap();
    assert_eq!((after.ending, after.theirs.stored), (Ending::Finished, 1));
    let row = gateway.node.store().document(&document).unwrap().expect("stored");
    assert_eq!(row.depositor, Some(phone.key));
    let (over_both, whole) = (before.bytes_out + after.bytes_out, SIZE as u64);
    assert!(
        over_both < whole + whole / 5 && after.bytes_out < whole - 500_000,
        "{over_both} {}",
        after.bytes_out
    );

    let (near, far) = memory_pair(Throttle::default());
    gateway.node.accept(far).unwrap();
    let again = phone.node.open(near, &by_token).unwrap();
    let refused = until(&mut phone, &mut gateway, |phone, _| over(phone, again)).await;
    assert_eq!(refused.ending, Ending::HungUp);
}

#[tokio::test]
async fn who_finds_no_room_over_wifi_goes_on_where_it_is_and_nobody_waits_for_it() {
    const SIZE: usize = 6_000_000;
    let (mut phone, mut gateway) = (side(true, vec![]), side(false, vec![DESTINATION]));
    let wifi = MediumLimits { links: 1, ..MediumLimits::wifi_direct() };
    gateway.node.set_limits(Limits { wifi, ..limits() });
    let over_wifi = |(near, mut far): (waypost_link::Link, waypost_link::Link)| {
        (far.info.medium, far.info.group) = (Medium::WifiDirect, "wlan0".to_owned());
        (near, far)
    };
    // Somebody else has the only place.
    let mut other = side(true, vec![]);
    write_document(&other, 2, SIZE);
    let (near, far) = over_wifi(slow_link());
    gateway.node.accept(far).unwrap();
    other.node.open(near, &Introduction::Known(gateway.key)).unwrap();
    let moves = |side: &Side| side.host.events.iter().any(|event| matches!(event, Event::Progress { .. }));
    until(&mut other, &mut gateway, |other, _| moves(other).then_some(())).await;

    write_document(&phone, 1, SIZE);
    let (first, offer) = offered(&mut phone, &mut gateway, SIZE).await;
    let (near, far) = over_wifi(memory_pair(Throttle::default()));
    gateway.node.accept(far).unwrap();
    let second = phone.node.open(near, &Introduction::Code(gateway.key, offer.token)).unwrap();
    let refused = until(&mut phone, &mut gateway, |phone, _| over(phone, second)).await;
    let Ending::HeardGoodbye(Goodbye::Busy(Some(line))) = refused.ending else { panic!("{refused:?}") };
    assert_eq!((line.place, gateway.node.in_line()), (1, 0));
    assert!(over(&phone, first).is_none(), "it has stayed");
}

#[tokio::test]
async fn somebody_elses_token_is_of_no_use_and_the_session_goes_on_where_it_is() {
    const SIZE: usize = 6_000_000;
    let (mut phone, mut gateway) = (side(true, vec![]), side(false, vec![DESTINATION]));
    write_document(&phone, 1, SIZE);
    let (first, offer) = offered(&mut phone, &mut gateway, SIZE).await;
    let mut thief = side(true, vec![]);
    let (near, far) = memory_pair(Throttle::default());
    gateway.node.accept(far).unwrap();
    let stolen = thief.node.open(near, &Introduction::Code(gateway.key, offer.token)).unwrap();
    let refused = until(&mut thief, &mut gateway, |thief, _| over(thief, stolen)).await;
    assert_eq!(refused.ending, Ending::HeardGoodbye(Goodbye::BadCode));
    until(&mut phone, &mut gateway, |phone, _| phone.node.is_settled(first).then_some(())).await;
    assert!(over(&phone, first).is_none(), "it has stayed");
}

#[tokio::test]
async fn nobody_moves_who_has_little_to_send_or_cannot_or_is_not_known() {
    for (size, moves, is_known) in
        [(900_000, true, true), (50_000_000, false, true), (50_000_000, true, false)]
    {
        let (mut phone, mut gateway) = (side(true, vec![]), side(false, vec![DESTINATION]));
        gateway.host.knows = is_known;
        write_document(&phone, 1, 900_000);
        let hello = gateway.node.hello().clone();
        gateway.node.set_hello(PeerHello { moves: true, ..hello });
        let hello = phone.node.hello().clone();
        phone.node.set_hello(PeerHello { moves, ..hello });
        let (near, far) = slow_link();
        gateway.node.accept(far).unwrap();
        let id = phone.node.open(near, &Introduction::Known(gateway.key)).unwrap();
        until(&mut phone, &mut gateway, |phone, _| (!phone.host.events.is_empty()).then_some(())).await;
        phone.node.say_waiting(id, size);
        until(&mut phone, &mut gateway, |phone, _| phone.node.is_settled(id).then_some(())).await;
        assert!(gateway.node.worth_moving().is_empty(), "{size}");
    }
}
