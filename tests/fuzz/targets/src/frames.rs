//! Where streams become frames: the length prefix of links, and the values of GATT characteristics.

use waypost_ble::fragment::{Receiver, Sender, Value, WINDOW};
use waypost_link::{Deframer, PREFIX};

use crate::steps;

/// Frames of a stream. The first byte says how long the cuts are in which it comes.
pub fn frames(data: &[u8]) -> bool {
    let Some((&cut, stream)) = data.split_first() else { return false };
    let (mut deframer, mut found) = (Deframer::default(), Vec::new());
    for part in stream.chunks(usize::from(cut).max(1)) {
        deframer.push(part);
        while let Some(frame) = deframer.next_frame().expect("every u16 is a length") {
            found.push(frame);
        }
    }
    let mut rest = stream;
    for frame in &found {
        let (prefix, after) = rest.split_at(PREFIX);
        assert_eq!(prefix, u16::try_from(frame.len()).expect("a u16 of bytes").to_be_bytes());
        rest = after.strip_prefix(&frame[..]).expect("a frame has the bytes of the stream");
    }
    if let Some((prefix, begun)) = rest.split_first_chunk::<PREFIX>() {
        assert!(begun.len() < usize::from(u16::from_be_bytes(*prefix)), "a frame was not found");
    }
    !found.is_empty()
}

/// Values that a peer writes to a characteristic, while this side reads (bit 0 of a step) and writes (bit 1).
pub fn fragments(data: &[u8]) -> bool {
    let (mut sender, mut receiver) = (Sender::default(), Receiver::default());
    let (mut unread, mut unanswered, mut ended, mut came) = (0, 0u8, false, false);
    for (what, value) in steps(data) {
        if what & 1 != 0 && unread > 0 {
            unread -= 1;
            if let Some(credit) = receiver.consumed() {
                assert!(matches!(Receiver::default().take(&credit), Ok(Value::Credit(1..))));
            }
        }
        if what & 2 != 0 && sender.may_send() {
            assert_eq!(sender.value(value).get(1..), Some(value));
            unanswered += 1;
            assert!(unanswered <= WINDOW, "more was sent than there was credit for");
        }
        match receiver.take(value) {
            Ok(Value::Data(bytes)) => {
                assert_eq!(Some(bytes), value.get(1..));
                assert!(!ended, "data was taken after the end");
                (unread, came) = (unread + 1, true);
                assert!(unread <= WINDOW, "more was taken than there was room for");
            }
            Ok(Value::Credit(count)) => {
                if sender.granted(count).is_ok() {
                    unanswered = unanswered.checked_sub(count).expect("no credit for what was not sent");
                }
            }
            Ok(Value::End) => ended = true,
            Err(_) => {}
        }
    }
    came
}
