//! Bytes over a bare L2CAP channel or bare GATT values, with nothing of Waypost: what the bench of the radio lab compares
//! with. `bare serve ADAPTER` answers `bare l2cap|gatt ADAPTER PEER-ADDRESS BYTES`, which prints the seconds that it took.

use std::time::{Duration, Instant};

use bluer::adv::Advertisement;
use bluer::gatt::local::{
    Application, Characteristic, CharacteristicControlEvent, CharacteristicNotify,
    CharacteristicNotifyMethod, CharacteristicWrite, CharacteristicWriteMethod, Service,
    characteristic_control,
};
use bluer::l2cap::{Socket, SocketAddr, Stream};
use bluer::{Adapter, Address, AddressType, DiscoveryFilter, Session, Uuid};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SERVICE: Uuid = Uuid::from_u128(0x6b1a_0001_7c55_4c9e_9f10_aabb_ccdd_eeff);
const WRITE: Uuid = Uuid::from_u128(0x6b1a_0002_7c55_4c9e_9f10_aabb_ccdd_eeff);
const NOTIFY: Uuid = Uuid::from_u128(0x6b1a_0003_7c55_4c9e_9f10_aabb_ccdd_eeff);
const PSM: u16 = 0xf5;
const SILENCE: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(120);

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let session = Session::new().await?;
    match words.as_slice() {
        ["serve", adapter] => serve(session.adapter(adapter)?).await,
        ["l2cap", adapter, peer, bytes] => tell(
            tokio::time::timeout(LIMIT, l2cap(session.adapter(adapter)?, peer.parse()?, bytes.parse()?))
                .await??,
        ),
        ["gatt", adapter, peer, bytes] => tell(
            tokio::time::timeout(LIMIT, gatt(session.adapter(adapter)?, peer.parse()?, bytes.parse()?))
                .await??,
        ),
        _ => Err("bare serve ADAPTER | bare l2cap|gatt ADAPTER PEER BYTES".into()),
    }
}

#[allow(clippy::print_stdout, reason = "what the bench reads")]
fn tell(took: Duration) -> Outcome<()> {
    println!("{}", took.as_secs_f64());
    Ok(())
}

async fn listener(adapter: &Adapter, psm: u16) -> Outcome<Socket<Stream>> {
    let socket = Socket::<Stream>::new_stream()?;
    socket.bind(SocketAddr::new(adapter.address().await?, AddressType::LePublic, psm))?;
    socket.set_recv_mtu(4096)?;
    Ok(socket)
}

/// Each sender says how many bytes will come (u64, little-endian) and is answered by one byte when they are here.
async fn serve(adapter: Adapter) -> Outcome<()> {
    let listening = listener(&adapter, PSM).await?.listen(2)?;
    let ((mut writes, write_handle), (mut notifies, notify_handle)) =
        (characteristic_control(), characteristic_control());
    let write = CharacteristicWrite {
        write_without_response: true,
        method: CharacteristicWriteMethod::Io,
        ..CharacteristicWrite::default()
    };
    let notify = CharacteristicNotify {
        notify: true,
        method: CharacteristicNotifyMethod::Io,
        ..CharacteristicNotify::default()
    };
    let characteristics = vec![
        Characteristic {
            uuid: WRITE,
            write: Some(write),
            control_handle: write_handle,
            ..Characteristic::default()
        },
        Characteristic {
            uuid: NOTIFY,
            notify: Some(notify),
            control_handle: notify_handle,
            ..Characteristic::default()
        },
    ];
    let service = Service { uuid: SERVICE, primary: true, characteristics, ..Service::default() };
    let _application = adapter
        .serve_gatt_application(Application { services: vec![service], ..Application::default() })
        .await?;
    loop {
        let advertised = adapter
            .advertise(Advertisement {
                service_uuids: [SERVICE].into(),
                discoverable: Some(true),
                ..Advertisement::default()
            })
            .await?;
        tokio::select! {
            accepted = listening.accept() => {
                let (mut stream, _) = accepted?;
                let mut left = stream.read_u64_le().await?;
                let mut buffer = vec![0; 65_536];
                while left > 0 {
                    match stream.read(&mut buffer).await? {
                        0 => break,
                        read => left = left.saturating_sub(u64::try_from(read)?),
                    }
                }
                stream.write_all(&[1]).await?;
                // Until the other side closes: closed from here the answer would be thrown away.
                let _ = stream.read(&mut buffer).await;
            }
            Some(CharacteristicControlEvent::Notify(writer)) = notifies.next() => {
                let Some(CharacteristicControlEvent::Write(request)) = writes.next().await else { continue };
                let reader = request.accept()?;
                let all = u64::from_le_bytes(reader.recv().await?.get(..8).ok_or("too short")?.try_into()?);
                let mut came = 0;
                // Without flow control some are lost on the way: what is not here after a while will not come.
                while came < all
                    && let Ok(value) = tokio::time::timeout(SILENCE, reader.recv()).await
                {
                    came += u64::try_from(value?.len())?;
                }
                let mut answer = came.to_le_bytes().to_vec();
                answer.push(u8::from(came < all));
                writer.send(&answer).await?;
                let _ = reader.recv().await;
            }
        }
        drop(advertised);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn l2cap(adapter: Adapter, peer: Address, bytes: u64) -> Outcome<Duration> {
    let socket = listener(&adapter, 0).await?;
    let mut stream = socket.connect(SocketAddr::new(peer, AddressType::LePublic, PSM)).await?;
    // It comes back early where the socket seems writable before it is connected.
    while stream.as_ref().conn_info().is_err() {
        stream.peer_addr()?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    stream.write_u64_le(bytes).await?;
    stream.write_all(&vec![7; usize::try_from(bytes)?]).await?;
    stream.read_u8().await?;
    Ok(begun.elapsed())
}

async fn gatt(adapter: Adapter, peer: Address, bytes: u64) -> Outcome<Duration> {
    let filter = DiscoveryFilter { uuids: [SERVICE].into(), ..DiscoveryFilter::default() };
    adapter.set_discovery_filter(filter).await?;
    {
        let found = adapter.discover_devices().await?;
        tokio::pin!(found);
        while let Some(event) = found.next().await {
            if matches!(event, bluer::AdapterEvent::DeviceAdded(address) if address == peer) {
                break;
            }
        }
    }
    let device = adapter.device(peer)?;
    device.connect().await?;
    let (mut write, mut notify) = (None, None);
    for service in device.services().await? {
        for one in service.characteristics().await? {
            match one.uuid().await? {
                WRITE => write = Some(one),
                NOTIFY => notify = Some(one),
                _ => {}
            }
        }
    }
    let answers = notify.ok_or("nothing notifies")?.notify_io().await?;
    let writer = write.ok_or("nothing takes values")?.write_io().await?;
    let begun = Instant::now();
    writer.send(&bytes.to_le_bytes()).await?;
    let value = vec![7; writer.mtu()];
    let mut left = usize::try_from(bytes)?;
    while left > 0 {
        let now = left.min(value.len());
        writer.send(&value[..now]).await?;
        left -= now;
    }
    let answer = answers.recv().await?;
    let came = u64::from_le_bytes(answer.get(..8).ok_or("too short")?.try_into()?);
    let silence = if answer.get(8) == Some(&1) { SILENCE } else { Duration::ZERO };
    // As if what was lost had come at the same rate.
    let share = f64::from(u32::try_from(came)?) / f64::from(u32::try_from(bytes)?);
    let took = begun.elapsed().saturating_sub(silence).div_f64(share);
    device.disconnect().await?;
    Ok(took)
}
