//! "Publishing a message costs little more than its signature, and reading one little more than its recovery."
//!
//! The limit is the signature operation alone, on the same bytes, in turn with the work: sign, and recover the signer.

use std::hint::black_box;

use veilcast::Payload;
use veilcast::identity::Domain;
use veilcast_benches::{Desk, Line, Outcome, Report, in_turn, quick_or, run};

const SIZES: [usize; 4] = [64, 256, 4096, 65_536];
/// The size that the target ratio is for.
const TARGET_SIZE: usize = 256;
const TARGET: f64 = 1.3;
/// Calls whose mean counts as one value.
const CALLS: u32 = 20;

fn measure(report: &mut Report, size: usize) {
    let mut desk = Desk::new();
    let payload = Payload::binary(vec![5; size]);
    let envelope = desk.seal_and_sign(&payload);
    let (signer, opener) = (desk.identity.clone(), Desk::new());
    let signature = signer.sign(Domain::Message, &envelope);
    let rounds = quick_or(5, if size > 4096 { 60 } else { 300 });
    let [sign, seal, recover, open] = in_turn(
        rounds,
        CALLS,
        [
            &mut || _ = black_box(signer.sign(Domain::Message, black_box(&envelope))),
            &mut || _ = black_box(desk.seal_and_sign(black_box(&payload))),
            &mut || _ = black_box(signature.signer(Domain::Message, black_box(&envelope))),
            &mut || _ = black_box(opener.verify_and_open(black_box(&envelope))),
        ],
    );
    for (name, work, limit, limit_is) in
        [("seal and sign", seal, sign, "sign alone"), ("verify and open", open, recover, "recover alone")]
    {
        let line = Line::cost(format!("{name} {size} B"), "us", 1e6, &work).limit(limit.median() * 1e6, limit_is);
        report.line(if size == TARGET_SIZE { line.target_ratio(TARGET) } else { line });
    }
}

fn main() -> Outcome<()> {
    run(|| {
        let mut report = Report::begin("messages")?;
        SIZES.into_iter().for_each(|size| measure(&mut report, size));
        report.save()
    })
}
