//! `seal_overhead_bytes`: what sealing adds to a form.

use super::workload::{FORM, Signer, noise};
use super::{Bench, Outcome, row::Measured};

/// Forms that are sealed; the one that costs most counts.
const FORMS: u64 = 20;

pub(super) fn seal_overhead(_: &Bench) -> Outcome<Measured> {
    let addressee = Signer::new()?.addressee;
    let (mut most, mut body) = (0, 0);
    for seed in 0..FORMS {
        let sealed = addressee.seal(&noise(seed, FORM))?;
        most = most.max(sealed.len() - FORM);
        body = body.max(addressee.wrap(&sealed)?.body().len() - FORM);
    }
    let measured = Measured::new(f64::from(u32::try_from(most)?));
    Ok(measured.beside("with the envelope's clear header", format!("{body} bytes")))
}
