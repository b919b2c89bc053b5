//! The figures that count bytes and contacts, or run in virtual time, and so come out the same on every machine, reach their targets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use waypost_tests::bench::{Bench, FIGURES};

fn assert_reached(name: &str) {
    let figure = FIGURES.iter().find(|figure| figure.name == name).unwrap();
    let row = Bench::new().unwrap().measure(figure);
    assert!(row.holds(), "{}", row.json());
}

#[test]
fn sealing_a_form_adds_at_most_160_bytes() {
    assert_reached("seal_overhead_bytes");
}

#[test]
fn a_hundred_forms_cost_at_most_a_fifth_more_than_their_bodies_until_they_are_confirmed() {
    assert_reached("link_overhead_forms");
}

#[test]
fn ten_photos_cost_at_most_a_hundredth_more_than_their_bodies_until_they_are_confirmed() {
    assert_reached("link_overhead_photos");
}

#[test]
fn the_first_contact_after_the_upload_brings_the_confirmations() {
    assert_reached("contacts_to_confirmation");
}

#[test]
fn ten_new_documents_of_a_remote_log_cost_at_most_four_times_their_bytes() {
    assert_reached("remote_log_catch_up");
}

#[test]
fn batches_that_follow_the_path_carry_about_what_fixed_ones_do() {
    assert_reached("batches_vs_fixed");
}
