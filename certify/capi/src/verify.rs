//! Branch and bound on a box with linear constraints on the outputs.

use std::time::Instant;

use library::bounds::Evaluation;
use library::query::Region;
use library::verify::{Limits, Verdict, Verifier};

use crate::certify::timeout;
use crate::network::tightrope_network;
use crate::status::{Failure, array, buffer, goes_on, guard, place, reference, tightrope_status};

/// The answer to a question of a box.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum tightrope_answer {
    /// No point of the box is a violation, in any evaluation in float32.
    TIGHTROPE_UNSAT = 0,
    /// A point is: the witness, as the float32 network computes.
    TIGHTROPE_SAT = 1,
    /// Neither is proved.
    TIGHTROPE_OPEN = 2,
    /// Neither is proved, and time is over or the caller wanted no more.
    TIGHTROPE_TIMED_OUT = 3,
}

/// How a search ended.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tightrope_outcome {
    /// A `tightrope_answer`.
    pub answer: u32,
    /// Parts of the box that were bounded.
    pub subproblems: u64,
    /// The least bound before anything was cut.
    pub root: f64,
    /// The least bound at the end, where the search is open.
    pub lower: f64,
    /// Seconds that it took.
    pub seconds: f64,
}

/// Decides whether some point between `lower` and `upper` (an entry each for every entry of the input) has
/// an output that must not be: one with `c . y <= b` for all rows of one of the disjuncts. `rows` holds the
/// rows `c` one after the other, a coefficient for each class, `bounds` their `b`, `counts` how many rows each
/// of the `disjuncts` disjuncts has. The search gives up after `timeout_seconds`, or never if that is 0. The
/// point goes to `witness`, which may be null, if the answer is `TIGHTROPE_SAT`.
///
/// # Safety
/// Pointers are null, or valid for as many values as said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tightrope_verify(
    network: *const tightrope_network,
    lower: *const f64,
    upper: *const f64,
    rows: *const f64,
    bounds: *const f64,
    counts: *const usize,
    disjuncts: usize,
    timeout_seconds: f64,
    outcome: *mut tightrope_outcome,
    witness: *mut f32,
    witness_len: usize,
) -> tightrope_status {
    guard(|| {
        let begin = Instant::now();
        // SAFETY: as the caller promises.
        let (network, outcome) = unsafe { (reference(network, "network")?, place(outcome, "outcome")?) };
        let (inputs, classes) = (network.graph.input_len(), network.graph.output_len());
        let wanted = if witness.is_null() { 0 } else { inputs };
        // SAFETY: as the caller promises.
        let (lower, upper, counts, witness) = unsafe {
            (
                array(lower, inputs, "lower")?.to_vec(),
                array(upper, inputs, "upper")?.to_vec(),
                array(counts, disjuncts, "counts")?,
                buffer(witness, witness_len, wanted, "witness")?,
            )
        };
        let many = || Failure::input("counts: more rows than there can be");
        let total = counts.iter().try_fold(0_usize, |sum, n| sum.checked_add(*n)).ok_or_else(many)?;
        let entries = total.checked_mul(classes).filter(|n| *n < isize::MAX as usize / 8).ok_or_else(many)?;
        // SAFETY: as the caller promises.
        let (rows, bounds) = unsafe { (array(rows, entries, "rows")?, array(bounds, total, "bounds")?) };
        let mut each = rows.chunks(classes.max(1)).zip(bounds.iter().copied());
        let parts: Vec<Vec<(&[f64], f64)>> =
            counts.iter().map(|&count| each.by_ref().take(count).collect()).collect();
        let region = Region::constraints(lower, upper, &parts, classes).map_err(Failure::input)?;
        let limits = Limits { timeout: timeout(timeout_seconds)?, ..Limits::default() };
        let mut stopped = false;
        let verifier = Verifier::new(&network.graph).evaluated(Evaluation::default());
        let found = verifier.verify(&[region], &|_, _| true, &limits, &mut |found| {
            stopped |= !goes_on(found.subproblems);
            !stopped
        });
        let answer = match found.verdict {
            Verdict::Unsat => tightrope_answer::TIGHTROPE_UNSAT,
            Verdict::Sat => tightrope_answer::TIGHTROPE_SAT,
            Verdict::Unknown if !stopped => tightrope_answer::TIGHTROPE_OPEN,
            Verdict::Unknown | Verdict::TimedOut => tightrope_answer::TIGHTROPE_TIMED_OUT,
        };
        *outcome = tightrope_outcome {
            answer: answer as u32,
            subproblems: found.progress.subproblems,
            root: found.root,
            lower: found.progress.lower,
            seconds: begin.elapsed().as_secs_f64(),
        };
        if let (Verdict::Sat, Some(point)) = (found.verdict, found.witness)
            && !witness.is_empty()
        {
            witness.copy_from_slice(&point.x);
        }
        Ok(())
    })
}
