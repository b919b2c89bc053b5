//! Who is served when, in virtual time.
//!
//! A phone's **fair share** is the time at which it would be done if the slots were shared out equally at every moment
//! among all that are there, nobody having more than one: with equal phones, all of the work ÷ slots. Handshakes and ways
//! are not in it.

mod world;

use proptest::prelude::*;

use self::world::*;
use super::*;

#[test]
fn shares_are_all_work_divided_by_the_slots() {
    assert!(fair_shares(&[40.0; 10]).iter().all(|share| (share - 400.0 / 7.0).abs() < 1e-9));
    assert_eq!(fair_shares(&[40.0; 7]), [40.0; 7]);
    assert_eq!(fair_shares(&[10.0, 40.0]), [10.0, 40.0]);
}

#[test]
fn ten_equal_phones_on_seven_slots_are_done_within_twice_their_fair_share() {
    let phones = vec![phone(FAST, 5.0 * MEGABYTE); 10];
    let shares = fair_shares(&needs(&phones));
    let mut world = World::new(phones);
    world.run(1_000.0);
    world.assert_fair(&shares);
    // Those that wait have their first turn when those that were first have had one.
    assert!(world.phones.iter().all(|one| one.first_served.unwrap() < 35.0));
}

#[test]
fn phones_of_very_unequal_speeds_are_done_within_twice_their_fair_shares() {
    for slow in 1..10 {
        let speed = |number| if number < slow { FAST / 5.0 } else { FAST };
        let phones: Vec<Phone> = (0..10).map(|number| phone(speed(number), 5.0 * MEGABYTE)).collect();
        for phones in [phones.clone(), phones.into_iter().rev().collect()] {
            let shares = fair_shares(&needs(&phones));
            let mut world = World::new(phones);
            world.run(2_000.0);
            world.assert_fair(&shares);
        }
    }
}

#[test]
fn a_radio_that_all_share_serves_all_alike() {
    let phones = vec![phone(FAST, 5.0 * MEGABYTE); 10];
    let mut world = World::new(phones);
    world.radio = FAST;
    world.run(2_000.0);
    let whole = 50.0 * MEGABYTE / FAST;
    world.assert_fair(&[whole; 10]);
    // A fair share here is that all are done at the end: nobody much earlier than others, nothing lost between turns.
    assert!(world.done().iter().all(|done| *done < 1.1 * whole && *done > 0.6 * whole), "{:?}", world.done());
}

#[test]
fn phones_that_vanish_or_lose_their_links_cost_others_little_and_themselves_no_turn() {
    let mut phones = vec![phone(FAST, 5.0 * MEGABYTE); 10];
    let shares = fair_shares(&needs(&phones));
    phones.iter_mut().take(3).for_each(|one| one.vanishes = Some(5.0));
    phones.iter_mut().skip(3).take(3).for_each(|one| one.breaks = Some(4.0));
    let mut world = World::new(phones);
    world.run(1_000.0);
    world.assert_fair(&shares);
}

#[test]
fn coming_too_early_gains_nothing_and_coming_late_costs_no_place() {
    let mut phones = vec![phone(FAST, 5.0 * MEGABYTE); 10];
    // The last three have to wait: one asks all the time, one is half a minute late each time.
    (phones[7].late, phones[9].late) = (0.0, -60.0);
    phones[8].late = 30.0;
    let shares = fair_shares(&needs(&phones));
    let mut world = World::new(phones);
    world.run(1_000.0);
    let first = |number: usize| world.phones[number].first_served.unwrap();
    // All slots are there to be taken at the same moment: it is on the spot, and no more.
    assert!(first(7) <= first(9) + CONNECT, "{} before {}", first(9), first(7));
    let mut shares = shares;
    shares[8] += 30.0;
    world.assert_fair(&shares);
}

#[test]
fn a_thousand_keys_of_a_stranger_keep_no_known_phone_from_its_turn() {
    let attacker = Phone { is_known: false, ..phone(FAST, f64::INFINITY) };
    let arrival = 100.0;
    let mut phones = vec![attacker; 1_000];
    phones.iter_mut().enumerate().for_each(|(number, one)| one.late = -((number % 11) as f64));
    let known = Phone { place: Place::Away(arrival), ..phone(FAST, 5.0 * MEGABYTE) };
    phones.extend([known; 10]);
    let shares = fair_shares(&needs(&phones[1_000..]));
    let mut world = World::new(phones);
    world.run(arrival + 1_000.0);
    for (number, (done, share)) in world.done()[1_000..].iter().zip(&shares).enumerate() {
        assert!(
            done - arrival <= 2.0 * share,
            "phone {number}: {:.1} s, fair is {share:.1} s",
            done - arrival
        );
    }
    assert!(world.most_waiting <= KNOWN_PLACES + STRANGERS_PLACES);
    // With nobody before them strangers are served again.
    world.phones.push(Phone { place: Place::Away(1e9), ..phone(FAST, 1.0) });
    world.run(world.now + 60.0);
    assert_eq!(world.turns.serving(), SLOTS);
}

fn admit(turns: &mut Turns, number: usize, is_known: bool, seconds: f64) -> Admission {
    turns.admit(ConversationId(number as u64), key(number), is_known, at(seconds))
}

fn served(slots: usize) -> Turns {
    let mut turns = Turns::new(slots, TurnLength::default());
    (0..slots).for_each(|number| assert_eq!(admit(&mut turns, number, true, 0.0), Admission::Serve));
    turns
}

#[test]
fn nobody_is_interrupted_while_nobody_waits_and_then_whoever_had_the_most() {
    let mut turns = Turns::new(2, TurnLength::default());
    for (number, since) in [(0, 0.0), (1, 3_590.0)] {
        assert_eq!(admit(&mut turns, number, true, since), Admission::Serve);
        turns.moved(ConversationId(number as u64), 1 << 20, at(3_595.0), false);
    }
    assert_eq!(turns.serving(), 2);
    let line = InLine { place: 1, again: 10 };
    let over = ConversationId(0);
    assert_eq!(admit(&mut turns, 2, true, 3_595.0), Admission::Replaces { over, line });
}

#[test]
fn whoever_waits_is_told_its_place_and_when_to_come_and_keeps_it_when_it_comes_early() {
    let mut turns = served(2);
    for link in [0, 1] {
        turns.moved(ConversationId(link), 1 << 20, at(15.0), false);
    }
    let wait = |place, again| Admission::Wait(InLine { place, again });
    assert_eq!(admit(&mut turns, 2, true, 16.0), wait(1, 4));
    assert_eq!(admit(&mut turns, 3, true, 16.0), wait(2, 4));
    assert_eq!(admit(&mut turns, 4, true, 16.0), wait(3, 20));
    assert_eq!(admit(&mut turns, 2, true, 17.0), wait(1, 3));
    assert_eq!(admit(&mut turns, 3, true, 18.5), wait(2, 2));
    assert_eq!(turns.waiting(), 3);
    // One that is done is over at once.
    turns.moved(ConversationId(1), 1 << 20, at(18.8), true);
    let line = InLine { place: 0, again: 20 };
    let over = ConversationId(1);
    assert_eq!(admit(&mut turns, 2, true, 19.0), Admission::Replaces { over, line });
}

#[test]
fn a_slot_is_kept_for_the_next_in_line_but_not_for_long() {
    let mut turns = served(1);
    turns.moved(ConversationId(0), 1 << 20, at(9.0), false);
    assert!(matches!(admit(&mut turns, 1, true, 1.0), Admission::Wait(InLine { place: 1, .. })));
    assert!(matches!(admit(&mut turns, 2, true, 1.0), Admission::Wait(InLine { place: 2, .. })));
    turns.left(ConversationId(0), false, at(10.0));
    assert!(matches!(admit(&mut turns, 2, true, 15.0), Admission::Wait(InLine { place: 2, .. })));
    // The first one does not come: its place remains, the slot does not.
    assert_eq!(admit(&mut turns, 2, true, 20.0), Admission::Serve);
    assert!(matches!(admit(&mut turns, 1, true, 21.0), Admission::Wait(InLine { place: 1, .. })));
    // A place is not kept for ever.
    assert!(matches!(admit(&mut turns, 3, true, 22.0), Admission::Wait(InLine { place: 2, .. })));
    turns.moved(ConversationId(2), 1 << 20, at(300.0), false);
    assert!(matches!(admit(&mut turns, 4, true, 300.0), Admission::Replaces { .. }));
    assert_eq!(turns.waiting(), 1, "but for the one whose turn is over");
}

#[test]
fn a_turn_goes_on_over_another_link_and_ends_when_it_would_have() {
    let mut turns = served(1);
    let link = |number| ConversationId(number);
    turns.moved(link(0), 1_000, at(5.0), false);
    assert!(matches!(admit(&mut turns, 1, true, 5.0), Admission::Wait(_)));
    turns.left(link(0), true, at(6.0));
    assert!(matches!(admit(&mut turns, 1, true, 7.0), Admission::Wait(InLine { place: 2, .. })));
    assert_eq!(turns.admit(link(100), key(0), true, at(8.0)), Admission::Serve);
    // The same phone again, before anyone has noticed that its link is dead.
    assert_eq!(turns.admit(link(101), key(0), true, at(9.0)), Admission::GoesOn { dead: link(100) });
    turns.moved(link(101), 1 << 20, at(19.9), false);
    assert!(matches!(admit(&mut turns, 1, true, 19.9), Admission::Wait(InLine { place: 1, .. })));
    let replaced = admit(&mut turns, 1, true, 20.0);
    assert!(matches!(replaced, Admission::Replaces { over, .. } if over == link(101)), "{replaced:?}");
}

#[test]
fn a_phone_that_moved_little_has_half_as_long_again_and_more_bytes_the_next_time() {
    let mut turns = served(1);
    let little = |turns: &mut Turns, link, now| turns.moved(ConversationId(link), 100_000, at(now), false);
    little(&mut turns, 0, 20.0);
    assert!(matches!(admit(&mut turns, 1, true, 20.0), Admission::Wait(InLine { place: 1, again: 10 })));
    little(&mut turns, 0, 29.0);
    assert!(matches!(admit(&mut turns, 1, true, 30.0), Admission::Replaces { .. }));
    turns.left(ConversationId(1), false, at(31.0));
    assert_eq!(turns.admit(ConversationId(50), key(0), true, at(31.0)), Admission::Serve);
    let usual = TurnLength::default().bytes;
    turns.moved(ConversationId(50), usual + 1, at(52.0), false);
    assert!(
        matches!(admit(&mut turns, 2, true, 52.0), Admission::Wait(_)),
        "it was short of something before"
    );
    turns.moved(ConversationId(50), 2 * usual, at(52.0), false);
    assert!(matches!(admit(&mut turns, 2, true, 52.0), Admission::Replaces { .. }));
}

#[test]
fn known_peers_have_places_of_their_own_and_come_first() {
    let mut turns = Turns::new(1, TurnLength::default());
    assert_eq!(admit(&mut turns, 0, false, 0.0), Admission::Serve);
    for number in 1..=100 {
        let expected = if number <= STRANGERS_PLACES { number } else { 0 };
        let told = admit(&mut turns, number, false, 1.0);
        assert!(matches!(told, Admission::Wait(line) if line.place as usize == expected), "{told:?}");
    }
    for number in 101..=200 {
        let expected = if number - 100 <= KNOWN_PLACES { number - 100 } else { 0 };
        let told = admit(&mut turns, number, true, 1.0);
        assert!(matches!(told, Admission::Wait(line) if line.place as usize == expected), "{told:?}");
    }
    assert_eq!(turns.waiting(), KNOWN_PLACES + STRANGERS_PLACES);
    turns.moved(ConversationId(0), 1 << 20, at(4.9), false);
    assert!(matches!(admit(&mut turns, 1, false, 5.0), Admission::Wait(InLine { place: 65, .. })));
    assert!(matches!(admit(&mut turns, 101, true, 5.0), Admission::Replaces { .. }));
    // No stranger interrupts one that is known, for as long as that moves anything.
    turns.moved(ConversationId(101), 1 << 30, at(60.0), false);
    assert!(matches!(admit(&mut turns, 1, false, 60.0), Admission::Wait(_)));
}

proptest! {
    /// Whatever comes and goes: slots and places are bounded, and nobody is served and waits.
    #[test]
    fn any_comings_and_goings_are_bounded(slots in 0usize..4, steps in proptest::collection::vec((0u8..6, 0usize..12, any::<bool>(), 0u16..200), 0..200)) {
        let mut turns = Turns::new(slots, TurnLength::default());
        let (mut now, mut link, mut taken) = (0.0, 0, 0);
        for (kind, number, flag, wait) in steps {
            now += f64::from(wait) / 10.0;
            link += 1;
            let some = ConversationId(link - number as u64 % link);
            match kind {
                0..=2 => { turns.admit(ConversationId(link), key(number), flag, at(now)); }
                3 => turns.left(some, flag, at(now)),
                4 => turns.moved(some, u64::from(wait) * 10_000, at(now), flag),
                _ if taken < 2 => { taken += 1; turns.take(ConversationId(link), key(number), at(now)); }
                _ => turns.set(slots, TurnLength::default(), at(now)),
            }
            prop_assert!(turns.serving() <= slots + taken);
            prop_assert!(turns.serving() + turns.free.len() >= slots, "a slot is lost");
            prop_assert!(turns.serving() >= slots || turns.serving() + turns.free.len() == slots);
            let waiting: Vec<PeerKey> = turns.known.iter().chain(&turns.strangers).map(|one| one.peer).collect();
            for (at, peer) in waiting.iter().enumerate() {
                prop_assert!(!waiting[at + 1..].contains(peer));
                prop_assert!(turns.serving.iter().all(|one| one.peer != *peer));
            }
        }
    }
}
