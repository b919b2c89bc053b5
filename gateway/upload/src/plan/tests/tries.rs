//! When a destination is tried that nothing may wait for: as paths come and go, and where bytes cost money.

use super::*;

#[test]
fn a_path_that_has_just_appeared_is_tried_again_and_again_until_its_names_resolve() {
    let mut planner = planner(vec![waiting(1, 1, 1)]);
    let dns = || Cause::DnsFailed { host: "a".into(), detail: "b".into() };
    let fail = |planner: &mut Planner, now| {
        batch(planner, now);
        planner.handle(Input::Uploaded(Err(Error::Definite(dns()))), now);
    };
    fail(&mut planner, at(0));
    assert!(matches!(planner.next(at(0)), Step::Wait(Some(until)) if until >= at(1)), "the usual pause");
    planner.handle(Input::PathUp, at(0));
    let mut now = at(0);
    let mut tries = 0;
    while now < at(10) {
        match planner.next(now) {
            Step::Wait(until) => now = until.unwrap(),
            Step::Probe | Step::Try => planner.handle(Input::Info(Err(Error::Definite(dns()))), now),
            Step::Scan { .. } => {
                planner.handle(Input::Scanned { documents: vec![], more: false, owed: false }, now)
            }
            Step::Batch(_) => planner.handle(Input::Uploaded(Err(Error::Definite(dns()))), now),
            other => panic!("{other:?}"),
        }
        tries += 1;
    }
    assert!((10..40).contains(&tries), "{tries} tries in 10 s");
    // Later, the usual pauses: a network without names costs little.
    let mut pauses = Vec::new();
    while now < at(1_000) {
        match planner.next(now) {
            Step::Wait(until) => {
                pauses.push(until.unwrap().since(now));
                now = until.unwrap();
            }
            Step::Probe | Step::Try => planner.handle(Input::Info(Err(Error::Definite(dns()))), now),
            Step::Batch(_) => planner.handle(Input::Uploaded(Err(Error::Definite(dns()))), now),
            other => panic!("{other:?}"),
        }
    }
    assert!(pauses.len() < 30, "{pauses:?}");
}

#[test]
fn later_verdicts_are_asked_for_rarely_where_bytes_cost_money() {
    let mut planner = planner(vec![]);
    planner.handle(Input::Nudge, at(0));
    assert!(matches!(planner.next(at(0)), Step::Scan { .. }));
    planner.handle(Input::Scanned { documents: vec![], more: false, owed: true }, at(0));
    assert_eq!(planner.next(at(0)), Step::FetchConfirmations);
    planner.handle(Input::Fetched(Ok(true)), at(0));
    assert_eq!(planner.next(at(0)), Step::Wait(Some(at(900))));
    planner.set_metered(true);
    assert_eq!(planner.next(at(900)), Step::Wait(Some(at(900 + 86_400))));
    planner.set_metered(false);
    assert_eq!(planner.next(at(900)), Step::FetchConfirmations, "a free one is there");
}

#[test]
fn what_waited_while_there_was_no_path_is_read_anew_since_others_may_have_delivered_it() {
    let mut planner = planner(vec![waiting(1, 1, 1)]);
    planner.handle(Input::PathDown, at(10));
    // A short interruption changes nothing.
    planner.handle(Input::PathUp, at(60));
    assert!(matches!(planner.next(at(60)), Step::Scan { after: Some(Seq(1)), .. }));
    planner.handle(Input::Scanned { documents: vec![], more: false, owed: false }, at(60));
    planner.handle(Input::PathDown, at(70));
    planner.handle(Input::PathUp, at(3_600));
    assert!(matches!(planner.next(at(3_600)), Step::Scan { after: None, .. }));
    let old = Waiting { ambiguous: true, ..waiting(1, 1, 1) };
    planner.handle(Input::Scanned { documents: vec![old], more: false, owed: false }, at(3_600));
    assert!(matches!(planner.next(at(3_600)), Step::AskHave(asked) if asked.len() == 1));
}

#[test]
fn a_destination_is_asked_before_anything_waits_and_over_a_way_that_costs_money_once() {
    let nothing = || Input::Scanned { documents: vec![], more: false, owed: false };
    for is_metered in [false, true] {
        // Also where it is known from before what it takes.
        let mut planner = Planner::new(Settings::default(), Some(info()), 1);
        planner.set_metered(is_metered);
        planner.handle(nothing(), at(0));
        assert_eq!(planner.next(at(0)), Step::Try);
        planner.handle(Input::Info(Err(lost())), at(0));
        let again = if is_metered { Step::Wait(None) } else { Step::Try };
        assert_eq!(planner.next(at(3_600)), again);
        planner.handle(Input::PathDown, at(3_600));
        planner.handle(Input::PathUp, at(3_700));
        planner.handle(nothing(), at(3_700));
        assert_eq!(planner.next(at(3_700)), Step::Try);
        planner.handle(Input::Info(Ok(info())), at(3_700));
        match is_metered {
            true => assert_eq!(planner.next(at(3_701)), Step::Wait(None)),
            false => assert_rests(&mut planner, at(3_701), at(3_700)),
        }
    }
}

#[test]
fn a_way_that_costs_money_is_tried_when_it_is_back_also_after_a_try_that_failed_and_once_an_hour_at_most() {
    let nothing = || Input::Scanned { documents: vec![], more: false, owed: false };
    let mut planner = Planner::new(Settings::default(), Some(info()), 1);
    planner.set_metered(true);
    planner.handle(nothing(), at(0));
    assert_eq!(planner.next(at(0)), Step::Try);
    planner.handle(Input::Info(Ok(info())), at(0));
    planner.handle(Input::PathDown, at(10_000));
    planner.set_metered(false);
    let Step::Wait(Some(last_resort)) = planner.next(at(10_000)) else { panic!("it is tried all the same") };
    assert_eq!(planner.next(last_resort), Step::Try);
    planner.handle(Input::Info(Err(lost())), last_resort);
    planner.set_metered(true);
    let hour = last_resort + Duration::from_secs(3_600);
    for minutes in [1, 2, 3] {
        let back = last_resort + Duration::from_secs(60 * minutes);
        planner.handle(Input::PathDown, back);
        planner.handle(Input::PathUp, back);
        assert_eq!(planner.path(), PathState::Unknown, "what went wrong before is not shown any more");
        assert!(matches!(planner.next(back), Step::Scan { .. }));
        planner.handle(nothing(), back);
        assert_eq!(planner.next(back), Step::Wait(Some(hour)), "it comes and goes");
    }
    assert_eq!(planner.next(hour), Step::Try);
}

#[test]
fn a_destination_that_was_reached_is_tried_again_now_and_then_where_that_costs_nothing() {
    let mut planner = Planner::new(Settings::default(), Some(info()), 1);
    scan(&mut planner, vec![], at(0));
    assert_eq!(planner.next(at(0)), Step::Try);
    planner.handle(Input::Info(Ok(info())), at(0));
    assert_rests(&mut planner, at(1), at(0));
    assert_eq!(planner.next(at(6 * 3_600)), Step::Try);
    planner.handle(Input::Info(Err(lost())), at(6 * 3_600));
    assert!(matches!(planner.path(), PathState::Unreachable { .. }), "{:?}", planner.path());
}

#[test]
fn once_what_failed_has_left_by_another_way_the_destination_is_tried() {
    let mut planner = planner(vec![waiting(1, 1, 1)]);
    batch(&mut planner, at(0));
    planner.handle(Input::Uploaded(Err(lost())), at(0));
    assert!(!matches!(planner.next(at(0)), Step::Try));
    planner.handle(Input::Gone(vec![Seq(1)]), at(0));
    assert_eq!(wait(&mut planner, at(0)).0, Step::Try);
}

#[test]
fn a_document_does_not_wait_for_the_next_try_of_a_destination_that_was_away() {
    let mut planner = Planner::new(Settings::default(), Some(info()), 1);
    scan(&mut planner, vec![], at(0));
    let mut now = at(0);
    for _ in 0..8 {
        assert_eq!(planner.next(now), Step::Try);
        planner.handle(Input::Info(Err(lost())), now);
        let Step::Wait(Some(until)) = planner.next(now) else { panic!("it is tried again and again") };
        now = until;
    }
    assert_eq!(planner.next(now), Step::Try);
    planner.handle(Input::Info(Err(lost())), now);
    let soon = now + Duration::from_secs(1);
    planner.handle(Input::Nudge, soon);
    scan(&mut planner, vec![waiting(1, 1, 1)], soon);
    assert_eq!(batch(&mut planner, soon), [1]);
}

#[test]
fn where_an_upload_has_failed_a_destination_is_not_asked_again_and_again() {
    let mut planner = Planner::new(Settings::default(), Some(info()), 1);
    planner.handle(Input::Scanned { documents: vec![waiting(1, 1, 1)], more: false, owed: false }, at(0));
    assert!(matches!(planner.next(at(0)), Step::Batch(_)));
    planner.handle(Input::Uploaded(Err(lost())), at(0));
    let mut questions = 0;
    let mut second = 0;
    while second < 400 {
        match planner.next(at(second)) {
            Step::Probe | Step::Try => {
                planner.handle(Input::Info(Ok(info())), at(second));
                questions += 1;
                assert!(questions < 4);
            }
            Step::Scan { .. } => scan(&mut planner, vec![], at(second)),
            Step::AskHave(_) => return,
            _ => second += 1,
        }
    }
    panic!("it is never asked whether it has the document");
}

#[test]
fn a_destination_that_may_have_something_to_fetch_is_asked_also_where_nothing_waits() {
    let settings = Settings { asks_unprompted: true, ..Settings::default() };
    let mut planner = Planner::new(settings, None, 1);
    planner.handle(Input::Scanned { documents: vec![], more: false, owed: false }, at(0));
    assert_eq!(planner.next(at(0)), Step::Try);
    planner.handle(Input::Info(Err(lost())), at(0));
    assert!(matches!(planner.next(at(0)), Step::Wait(Some(_))), "not again and again");
    planner.handle(Input::PathUp, at(100));
    planner.handle(Input::Scanned { documents: vec![], more: false, owed: false }, at(100));
    assert_eq!(planner.next(at(100)), Step::Try);
    planner.handle(Input::Info(Ok(info())), at(100));
    assert_rests(&mut planner, at(100), at(100));
    assert_eq!(planner.next(at(100 + 2 * 86_400)), Step::Try);
}

#[test]
fn also_where_something_may_be_fetched_a_destination_that_does_not_know_the_gateway_is_not_ok() {
    let settings = Settings { asks_unprompted: true, ..Settings::default() };
    let unknown = || Error::Definite(Cause::NotAuthorised { status: 401, detail: String::new() });
    for known in [None, Some(info())] {
        let mut planner = Planner::new(settings, known, 1);
        scan(&mut planner, vec![], at(0));
        let mut now = at(0);
        for _ in 0..10 {
            assert_eq!(planner.next(now), Step::Try);
            planner.handle(Input::Info(Err(unknown())), now);
            assert_eq!(planner.path(), PathState::NotAuthorised);
            let Step::Wait(Some(until)) = planner.next(now) else { panic!("not again and again") };
            now = until;
        }
    }
}
