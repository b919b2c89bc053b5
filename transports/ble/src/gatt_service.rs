//! The GATT service as others see it: its characteristics, and who uses it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bluer::gatt::local::{
    Application, ApplicationHandle, Characteristic, CharacteristicControl, CharacteristicNotify,
    CharacteristicNotifyMethod, CharacteristicRead, CharacteristicWrite, CharacteristicWriteMethod, ReqError,
    Service, characteristic_control,
};
use bluer::{Adapter, Address};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::bluez::{BleError, call};
use crate::fragment::WINDOW;
use crate::info::{INFO, Info, RX, SERVICE, TX};

/// Values may come so much earlier than it is seen that their phone has asked for notifications, on a busy machine.
const EARLY: Duration = Duration::from_secs(10);
/// How the first value of a link begins.
const FIRST: u8 = 0;
/// Phones without a link whose first values are kept: more than adapters hold connections.
const WRITERS: usize = 16;
/// Values that are kept of each: a whole window, since with an MTU of 23 a handshake alone has more than a few.
const FIRSTS: usize = WINDOW as usize;

/// Offers the service. What is written goes to `uses`; who asks for notifications comes by what is returned.
pub(crate) async fn offer(
    adapter: &Adapter,
    psm: Option<u16>,
    uses: &Arc<Uses>,
) -> Result<(ApplicationHandle, CharacteristicControl), BleError> {
    let (tx, tx_handle) = characteristic_control();
    let (read_uses, write_uses) = (uses.clone(), uses.clone());
    let read = CharacteristicRead {
        read: true,
        fun: Box::new(move |request| {
            let info = Info { psm, gatt_taken: read_uses.is_taken_for(request.device_address) }.encode();
            let value = info.get(usize::from(request.offset)..).map(<[u8]>::to_vec);
            Box::pin(async move { value.ok_or(ReqError::InvalidOffset) })
        }),
        ..CharacteristicRead::default()
    };
    // Value by value, and not by a socket (AcquireWrite): while BlueZ asks for that, until 5.82 at least, it does not
    // keep the first value, and once a phone has gone meanwhile it never asks again.
    let write = CharacteristicWrite {
        write_without_response: true,
        method: CharacteristicWriteMethod::Fun(Box::new(move |value, request| {
            // In the order in which they come: this is called before any of it is waited for.
            let kept = write_uses.take(request.device_address, value);
            Box::pin(async move { if kept { Ok(()) } else { Err(ReqError::NotPermitted) } })
        })),
        ..CharacteristicWrite::default()
    };
    let notify = CharacteristicNotify {
        notify: true,
        method: CharacteristicNotifyMethod::Io,
        ..CharacteristicNotify::default()
    };
    let characteristics = vec![
        Characteristic { uuid: INFO, read: Some(read), ..Characteristic::default() },
        Characteristic { uuid: RX, write: Some(write), ..Characteristic::default() },
        Characteristic {
            uuid: TX,
            notify: Some(notify),
            control_handle: tx_handle,
            ..Characteristic::default()
        },
    ];
    let service = Service { uuid: SERVICE, primary: true, characteristics, ..Service::default() };
    let application = Application { services: vec![service], ..Application::default() };
    let application = call("offer the service", adapter.serve_gatt_application(application)).await?;
    Ok((application, tx))
}

/// Who uses the service. There is one link at a time: of several BlueZ would mix the notifications.
#[derive(Default)]
pub(crate) struct Uses {
    now: Mutex<Now>,
    /// Somebody without a link has written.
    pub(crate) written: Notify,
}

#[derive(Default)]
struct Now {
    /// Whose the link is, and where the values go that it writes.
    link: Option<(Address, mpsc::Sender<Vec<u8>>)>,
    /// Who has asked for notifications and has not written yet.
    half: Option<Address>,
    early: Vec<Early>,
}

/// What somebody without a link has written.
struct Early {
    from: Address,
    came: Instant,
    values: Vec<Vec<u8>>,
    /// Nothing of it was dropped.
    is_whole: bool,
}

/// The link is taken for as long as this lives.
pub(crate) struct Taken(Arc<Uses>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.lock().link = None;
    }
}

impl Uses {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a value that somebody wrote. False where there is no room for it.
    fn take(&self, from: Address, value: Vec<u8>) -> bool {
        let mut now = self.lock();
        if let Some((address, values)) = &now.link
            && *address == from
        {
            return values.try_send(value).is_ok();
        }
        now.early.retain(|one| one.came.elapsed() < EARLY);
        let has_room = now.early.len() < WRITERS;
        let begins_anew = value.first() == Some(&FIRST);
        let kept = match now.early.iter_mut().find(|one| one.from == from) {
            Some(one) if begins_anew => {
                *one = Early { from, came: Instant::now(), values: vec![value], is_whole: true };
                true
            }
            Some(one) if one.values.len() < FIRSTS => {
                one.values.push(value);
                true
            }
            Some(one) => {
                one.is_whole = false;
                false
            }
            None if has_room => {
                now.early.push(Early { from, came: Instant::now(), values: vec![value], is_whole: true });
                true
            }
            None => false,
        };
        drop(now);
        self.written.notify_one();
        kept
    }

    /// Whether the link is up.
    pub(crate) fn is_taken(&self) -> bool {
        self.lock().link.is_some()
    }

    /// Whether the link is up, or somebody else is about to have it.
    fn is_taken_for(&self, address: Address) -> bool {
        let now = self.lock();
        now.link.is_some() || now.half.is_some_and(|whose| whose != address)
    }

    /// Who has asked for notifications and has not written yet.
    pub(crate) fn set_half(&self, half: Option<Address>) {
        self.lock().half = half;
    }

    /// Whether somebody without a link has written a moment ago.
    pub(crate) fn has_written(&self, from: Address) -> bool {
        self.lock().early.iter().any(|one| one.from == from && one.came.elapsed() < EARLY)
    }

    /// The link is this one's from now on, beginning with what it has written. `None` where some of that is lost.
    pub(crate) fn open(self: &Arc<Self>, from: Address) -> Option<(mpsc::Receiver<Vec<u8>>, Taken)> {
        // More than a window: what is too much is found by its count.
        let (values_in, values) = mpsc::channel(2 * usize::from(WINDOW));
        // Nothing can come while this is held, so that order is kept.
        let mut now = self.lock();
        now.half = None;
        let at = now.early.iter().position(|one| one.from == from)?;
        let first = now.early.swap_remove(at);
        if !first.is_whole {
            return None;
        }
        for value in first.values {
            // There is room for a window.
            let _ = values_in.try_send(value);
        }
        now.link = Some((from, values_in));
        Some((values, Taken(self.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Address = Address::new([1; 6]);
    const OTHER: Address = Address::new([2; 6]);

    #[tokio::test]
    async fn what_one_writes_before_its_link_comes_first_and_in_order() {
        let uses = Arc::new(Uses::default());
        assert!(uses.take(ONE, vec![0]) && uses.take(OTHER, vec![9]) && uses.take(ONE, vec![1]));
        assert!(uses.has_written(ONE) && !uses.is_taken());
        let (mut values, taken) = uses.open(ONE).unwrap();
        assert!(uses.take(ONE, vec![2]) && uses.is_taken());
        drop(taken);
        // What it wrote before it began anew is of no link.
        assert!(uses.take(ONE, vec![1]) && uses.take(ONE, vec![0]));
        assert_eq!(uses.open(ONE).unwrap().0.recv().await, Some(vec![0]));
        for number in 0..3 {
            assert_eq!(values.recv().await, Some(vec![number]));
        }
        assert_eq!(values.recv().await, None, "of nobody else, and of nobody after the end");
    }

    #[tokio::test]
    async fn a_window_of_values_may_come_before_its_link() {
        let uses = Arc::new(Uses::default());
        assert!((0..WINDOW).all(|number| uses.take(ONE, vec![number])));
        let (mut values, _taken) = uses.open(ONE).unwrap();
        for number in 0..WINDOW {
            assert_eq!(values.recv().await, Some(vec![number]));
        }
    }

    #[tokio::test]
    async fn who_writes_and_writes_keeps_nobody_else_out() {
        let uses = Arc::new(Uses::default());
        for _ in 0..100 {
            uses.take(OTHER, vec![7]);
        }
        assert!(uses.open(OTHER).is_none(), "some of it is lost");
        assert!(uses.take(ONE, vec![0]));
        assert!(uses.open(ONE).is_some());
        for number in 0..100 {
            uses.take(Address::new([number; 6]), vec![7]);
        }
        assert!(uses.lock().early.len() <= WRITERS);
    }

    #[tokio::test]
    async fn it_is_taken_for_others_from_the_first_request_on() {
        let uses = Arc::new(Uses::default());
        assert!(!uses.is_taken_for(ONE));
        uses.set_half(Some(ONE));
        assert!(uses.is_taken_for(OTHER) && !uses.is_taken_for(ONE));
        uses.take(ONE, vec![0]);
        let link = uses.open(ONE);
        assert!(uses.is_taken_for(OTHER) && uses.is_taken_for(ONE));
        drop(link);
        assert!(!uses.is_taken_for(OTHER));
    }
}
