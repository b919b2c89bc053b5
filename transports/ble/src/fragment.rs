//! Fragments: a stream of bytes in the values of two GATT characteristics, with credits, since neither writing without
//! response nor notifying has any flow control.
//!
//! A value's first byte is its header. `0sssssss`: the rest is data, `s` counts such values modulo 128. `1ccccccc`: the
//! receiver has room for `c` more of them; `c` = 0: nothing more will come in this direction. Each side may send
//! [`WINDOW`] values with data before it is given any credit. docs/protocol.md, section 3.

/// Values with data that may be under way in one direction before any credit.
pub const WINDOW: u8 = 64;
/// The longest value of a characteristic, in bytes (Core 5.4, Vol. 3, Part F, 3.2.9).
pub const LONGEST_VALUE: usize = 512;
/// Credit is given for so many values at a time.
const GRANT: u8 = 16;
const CREDIT: u8 = 0x80;
const COUNT: u8 = 0x7f;

/// What the peer did that it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// A value without header.
    #[error("an empty value came")]
    Empty,
    /// A value went missing, or came twice.
    #[error("value {found} came where {expected} was due")]
    Lost {
        /// Its number.
        found: u8,
        /// The number that was due.
        expected: u8,
    },
    /// More values than there was credit for.
    #[error("more values came than there was room for")]
    Overrun,
    /// Data after the end.
    #[error("data came after the end")]
    AfterEnd,
    /// More credit than values were sent.
    #[error("credit came for values that were not sent")]
    Credit,
}

/// A value that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// The next bytes of the stream.
    Data(&'a [u8]),
    /// Room for so many more values.
    Credit(u8),
    /// Nothing more will come.
    End,
}

/// The sending half.
#[derive(Debug)]
pub struct Sender {
    next: u8,
    credit: u8,
}

impl Default for Sender {
    fn default() -> Self {
        Sender { next: 0, credit: WINDOW }
    }
}

impl Sender {
    /// Whether a value with data may go.
    pub fn may_send(&self) -> bool {
        self.credit > 0
    }

    /// The value that carries `bytes`; there must be credit ([`Sender::may_send`]).
    pub fn value(&mut self, bytes: &[u8]) -> Vec<u8> {
        debug_assert!(self.may_send());
        let mut value = Vec::with_capacity(1 + bytes.len());
        value.push(self.next);
        value.extend_from_slice(bytes);
        self.next = (self.next + 1) & COUNT;
        self.credit = self.credit.saturating_sub(1);
        value
    }

    /// The peer has room for so many more.
    pub fn granted(&mut self, count: u8) -> Result<(), FragmentError> {
        match self.credit.checked_add(count) {
            Some(credit) if credit <= WINDOW => self.credit = credit,
            _ => return Err(FragmentError::Credit),
        }
        Ok(())
    }

    /// The value that says that nothing more will come.
    pub fn end() -> Vec<u8> {
        vec![CREDIT]
    }
}

/// The receiving half.
#[derive(Debug, Default)]
pub struct Receiver {
    expected: u8,
    /// Values that came and have not been given back as credit.
    open: u8,
    /// Of these, the ones that were consumed.
    consumed: u8,
    ended: bool,
}

impl Receiver {
    /// Takes a value.
    pub fn take<'a>(&mut self, value: &'a [u8]) -> Result<Value<'a>, FragmentError> {
        let (&header, bytes) = value.split_first().ok_or(FragmentError::Empty)?;
        if header & CREDIT != 0 {
            let count = header & COUNT;
            if count == 0 {
                self.ended = true;
                return Ok(Value::End);
            }
            return Ok(Value::Credit(count));
        }
        if self.ended {
            return Err(FragmentError::AfterEnd);
        }
        if header != self.expected {
            return Err(FragmentError::Lost { found: header, expected: self.expected });
        }
        if self.open == WINDOW {
            return Err(FragmentError::Overrun);
        }
        self.expected = (self.expected + 1) & COUNT;
        self.open += 1;
        Ok(Value::Data(bytes))
    }

    /// The data of one value was consumed. Where it is time, the value that gives credit.
    pub fn consumed(&mut self) -> Option<Vec<u8>> {
        self.consumed += 1;
        if self.consumed < GRANT {
            return None;
        }
        self.open -= self.consumed;
        Some(vec![CREDIT | std::mem::take(&mut self.consumed)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sends `stream` cut at `cuts`, consuming at once, and returns what arrived.
    fn carry(stream: &[u8], mut cuts: impl FnMut() -> usize) -> Vec<u8> {
        let (mut sender, mut receiver, mut arrived) = (Sender::default(), Receiver::default(), Vec::new());
        let mut rest = stream;
        while !rest.is_empty() {
            assert!(sender.may_send(), "credit comes back as data is consumed");
            let (now, later) = rest.split_at(cuts().clamp(1, rest.len()));
            rest = later;
            match receiver.take(&sender.value(now)).unwrap() {
                Value::Data(bytes) => arrived.extend_from_slice(bytes),
                other => panic!("{other:?}"),
            }
            if let Some(credit) = receiver.consumed() {
                match Receiver::default().take(&credit).unwrap() {
                    Value::Credit(count) => sender.granted(count).unwrap(),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(receiver.take(&Sender::end()), Ok(Value::End));
        arrived
    }

    #[test]
    fn a_stream_arrives_whole_at_every_size_of_values() {
        let stream: Vec<u8> = (0u32..20_000).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for size in 1..=LONGEST_VALUE - 1 {
            assert_eq!(carry(&stream, || size), stream, "values of {size} bytes");
        }
    }

    #[test]
    fn a_short_stream_arrives_whole_in_every_cut() {
        let stream = b"every cut of";
        for cuts in 0u32..1 << (stream.len() - 1) {
            let mut at = 0;
            let mut next = || {
                let from = at;
                at += 1;
                while at < stream.len() && cuts & 1 << (at - 1) == 0 {
                    at += 1;
                }
                at - from
            };
            assert_eq!(carry(stream, &mut next), stream, "{cuts:b}");
        }
    }

    proptest! {
        #[test]
        fn a_stream_arrives_whole_in_any_cuts(stream in proptest::collection::vec(any::<u8>(), 0..5000), sizes in proptest::collection::vec(1usize..512, 1..40)) {
            let mut sizes = sizes.into_iter().cycle();
            prop_assert_eq!(carry(&stream, || sizes.next().unwrap()), stream);
        }

        #[test]
        fn whatever_comes_is_taken_or_refused(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..300)) {
            let (mut sender, mut receiver, mut data) = (Sender::default(), Receiver::default(), 0);
            for value in &values {
                match receiver.take(value) {
                    Ok(Value::Data(_)) => data += 1,
                    Ok(Value::Credit(count)) => { let _ = sender.granted(count); }
                    Ok(Value::End) | Err(_) => {}
                }
                prop_assert!(sender.credit <= WINDOW);
            }
            prop_assert!(data <= usize::from(WINDOW), "nothing was consumed, and {} values were taken", data);
        }
    }

    #[test]
    fn a_value_that_is_missing_doubled_or_too_much_ends_it() {
        let mut sender = Sender::default();
        let (first, second, third) = (sender.value(b"a"), sender.value(b"b"), sender.value(b"c"));
        let mut receiver = Receiver::default();
        receiver.take(&first).unwrap();
        assert_eq!(receiver.take(&third), Err(FragmentError::Lost { found: 2, expected: 1 }));
        assert_eq!(receiver.take(&first), Err(FragmentError::Lost { found: 0, expected: 1 }));
        receiver.take(&second).unwrap();
        assert_eq!(receiver.take(&[]), Err(FragmentError::Empty));

        let (mut sender, mut receiver) = (Sender::default(), Receiver::default());
        while sender.may_send() {
            receiver.take(&sender.value(b"x")).unwrap();
        }
        assert_eq!(receiver.take(&[WINDOW, 1]), Err(FragmentError::Overrun));
        assert_eq!(Sender::default().granted(1), Err(FragmentError::Credit));
        receiver.take(&Sender::end()).unwrap();
        assert_eq!(receiver.take(&[WINDOW, 1]), Err(FragmentError::AfterEnd));
    }
}
