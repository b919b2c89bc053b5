//! The writer: answers after the commit, in order, in groups, within its bounds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use waypost_protocol::sync::{Holdings as _, Standing};
use waypost_store::{Applied, Change, Store, Writer, WriterOptions};

use crate::kit::*;

#[test]
fn a_reply_comes_only_when_others_can_read_it_from_the_disk() {
    let kit = Kit::new();
    let writer = Writer::start(kit.store().clone(), WriterOptions::default()).unwrap();
    let (sender, receiver) = mpsc::channel();
    for n in 0..200 {
        let document = document(n, 500);
        let (store, sender, id) = (kit.store().clone(), sender.clone(), document.id());
        writer.submit(deposit(&document, Some(peer(1))), move |outcome| {
            assert!(matches!(outcome, Ok(Applied::Stored { .. })));
            sender.send((n, store.standing(&id, None).unwrap())).unwrap();
        });
    }
    writer.flush();
    let answers: Vec<_> = receiver.try_iter().collect();
    assert_eq!(answers, (0..200).map(|n| (n, Standing::Held)).collect::<Vec<_>>());
    writer.stop();
    kit.assert_sound();
}

#[test]
fn stopping_writes_what_is_queued_and_refuses_the_rest() {
    let mut kit = Kit::new();
    let writer = Writer::start(kit.store().clone(), WriterOptions::default()).unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    for n in 0..50 {
        let answered = answered.clone();
        writer.submit(deposit(&document(n, 10), None), move |outcome| {
            outcome.unwrap();
            answered.fetch_add(1, Ordering::SeqCst);
        });
    }
    writer.stop();
    assert_eq!(answered.load(Ordering::SeqCst), 50);
    assert!(writer.apply(deposit(&document(99, 10), None)).is_err());
    assert!(writer.try_submit(deposit(&document(99, 10), None), |_| {}).is_err());
    drop(writer);
    kit.reopen();
    assert_eq!(kit.store().counts().unwrap().waiting, 50);
}

#[test]
fn the_queue_is_bounded_and_gives_back_what_it_cannot_take() {
    let kit = Kit::new();
    let options = WriterOptions { bytes: 40_000, changes: 4 };
    let writer = Writer::start(kit.store().clone(), options).unwrap();
    // The thread is held in a reply, so that what follows is queued.
    let (go, wait) = mpsc::channel::<()>();
    let (here, arrived) = mpsc::channel::<()>();
    writer.submit(deposit(&document(0, 10), None), move |_| {
        here.send(()).unwrap();
        let _ = wait.recv();
    });
    arrived.recv().unwrap();
    let put =
        |n, size| writer.try_submit(deposit(&document(n, size), None), |outcome| drop(outcome.unwrap()));
    assert!(put(1, 100_000).is_ok(), "a large one goes into an empty queue");
    let back = put(2, 10).unwrap_err();
    assert!(matches!(back.change, Change::Document(_)));
    go.send(()).unwrap();
    writer.submit(back.change, back.reply);
    writer.flush();
    assert_eq!(kit.store().counts().unwrap().waiting, 3);
}

#[test]
fn the_last_handle_may_be_dropped_with_work_in_the_queue() {
    let kit = Kit::new();
    let store: Store = kit.store().clone();
    let writer = Writer::start(store, WriterOptions::default()).unwrap();
    for n in 0..20 {
        writer.submit(deposit(&document(n, 10), None), |_| {});
    }
    drop(writer);
    assert_eq!(kit.store().counts().unwrap().waiting, 20);
}
