//! How often radii are false, over many inputs of a linear classifier whose true radius is known.
//!
//! The logits at `z` are linear, those of the first two classes mirror images of each other, so that seen
//! from `x > 0` their smoothed scores are level at `x = 0`, where they change places; all other classes
//! are below both there. So the radius is `x` for every simplex map. With hardmax the second class lies
//! beyond the others at `-x - EDGE`, and the two-sided radius of exact scores is `x`, too: a bound that
//! fails makes a false radius.

use std::ops::Range;

use ndarray::Array2;
use rayon::prelude::*;

use super::*;
use crate::random::InputStreams;
use crate::smoothing::quantity::{Radius, Scale};
use crate::smoothing::radius::{Lipschitz, Weight};

const INPUTS: u64 = 2000;
const ALPHA: f64 = 0.05;
const SIGMA: f64 = 0.5;

/// Half of the width of what lies between the regions of the first two classes.
const EDGE: f32 = 0.2;

/// With hardmax, classes between the first two.
const BETWEEN: usize = 10;

/// The logits at `z`: lines that cross at equal distances, the upper of which is the rightmost line for
/// class 0 and the leftmost for class 1; or, for soft scores, three of which the last is never the
/// greatest.
fn logits(z: f32, soft: bool) -> Vec<f32> {
    if soft {
        return vec![z, -z, -0.3];
    }
    let mut lines = vec![0.0];
    for i in 0..=BETWEEN {
        let crossing = EDGE * (2.0 * i as f32 / BETWEEN as f32 - 1.0);
        lines.push(lines[i] + z - crossing);
    }
    lines.rotate_right(1);
    lines
}

/// `alpha` and three standard errors.
fn limit() -> usize {
    let n = INPUTS as f64;
    (n * ALPHA + 3.0 * (n * ALPHA * (1.0 - ALPHA)).sqrt()) as usize
}

/// Of how many inputs the radius is false, and how many have one. `at` is the distance of an input.
fn false_radii(
    candidates: &[Candidate],
    stopping: Stopping,
    noise: &Noise,
    at: impl Fn(u64) -> f32 + Sync,
) -> (usize, usize) {
    let soft = candidates[0].map() != SimplexMap::Hardmax;
    let outcomes = (0..INPUTS).into_par_iter().map(|input| {
        let (streams, x) = (InputStreams::new(7, input), at(input));
        let setup = Setup {
            noise: noise.clone(),
            entries: 1,
            charge: 0.0,
            alpha: Alpha::new(ALPHA).expect("a level"),
            n0: 20,
            batch: 1000,
            streams,
        };
        let mut sample = |range: Range<u32>| {
            let row = |sample| {
                let mut z = [0.0];
                noise.add(&streams.sample(sample), &[x], &mut z);
                logits(z[0], soft)
            };
            let rows: Vec<f32> = range.clone().flat_map(row).collect();
            Ok(Array2::from_shape_vec((range.len(), rows.len() / range.len()), rows)?)
        };
        let selection = Selection::run(setup, candidates, stopping, &mut sample).expect("a selection");
        let outcome = Estimation::new(selection).run(&mut sample).expect("an outcome");
        assert!(outcome.ledger.spent() <= ALPHA);
        let wrong = |radius: Radius| outcome.class != 0 || radius.get() > f64::from(x);
        [outcome.radius.is_some_and(wrong), outcome.radius.is_some()].map(usize::from)
    });
    let [wrong, certified] = outcomes.reduce(|| [0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
    (wrong, certified)
}

fn gaussian() -> Noise {
    Noise::gaussian(Scale::new(SIGMA).expect("a scale"))
}

fn candidate(map: &str, bound: Bound, rule: RadiusRule) -> Candidate {
    Candidate::new(map.parse().expect("a map"), bound, rule).expect("a candidate")
}

fn pairwise(weight: f64) -> RadiusRule {
    RadiusRule::Pairwise { weight: Weight::new(weight).expect("a weight") }
}

/// Inputs from near the boundary, where false certificates are likeliest, to further off.
fn spread(input: u64) -> f32 {
    [0.15, 0.3, 0.6, 0.9][input as usize % 4]
}

#[track_caller]
fn covered(candidates: &[Candidate], stopping: Stopping, noise: &Noise) -> usize {
    let (wrong, certified) = false_radii(candidates, stopping, noise, spread);
    assert!(wrong <= limit(), "{wrong} of {INPUTS} are false: {stopping:?} {:?}", candidates[0]);
    assert!(certified > 300, "only {certified} are certified: {stopping:?} {:?}", candidates[0]);
    wrong
}

const ONE: RadiusRule = RadiusRule::OneSided;
const TWO: RadiusRule = RadiusRule::TwoSided;

/// Every bound with every map and kind of rule that it can be used with.
fn all() -> Vec<Candidate> {
    let mut all = Vec::new();
    for rule in [ONE, TWO, pairwise(0.5), pairwise(0.75)] {
        for bound in [Bound::ClopperPearson, Bound::RandomizedClopperPearson, Bound::KrichevskyTrofimov] {
            all.push(candidate("hardmax", bound, rule));
        }
        for bound in [Bound::Hoeffding, Bound::Bernstein, Bound::Betting] {
            for map in ["hardmax", "softmax:0.5", "sparsemax:0.5"] {
                all.push(candidate(map, bound, rule));
            }
        }
    }
    all
}

#[test]
fn with_a_fixed_number_of_samples() {
    for candidate in all() {
        covered(&[candidate], Stopping::Fixed(150), &gaussian());
    }
}

#[test]
fn with_a_planned_number_of_samples() {
    for candidate in all().into_iter().step_by(2) {
        covered(&[candidate], Stopping::Tolerance { fraction: 0.3, most: 400 }, &gaussian());
    }
}

#[test]
fn with_a_choice_among_all_candidates() {
    for bound in [Bound::ClopperPearson, Bound::RandomizedClopperPearson] {
        let auto = Candidate::auto(bound);
        for stopping in [Stopping::Fixed(150), Stopping::Tolerance { fraction: 0.2, most: 300 }] {
            covered(&auto, stopping, &gaussian());
        }
    }
}

#[test]
fn with_other_noise() {
    for (name, scale) in [("uniform", 1.0), ("laplace", 0.5)] {
        let noise = Noise::new(name, Scale::new(scale).expect("a scale")).expect("noise");
        for rule in [ONE, pairwise(0.5)] {
            covered(&[candidate("hardmax", Bound::ClopperPearson, rule)], Stopping::Fixed(300), &noise);
        }
    }
}

#[test]
fn an_exact_bound_fails_as_often_as_it_may() {
    // At the tangent of the set of scores whose radius is x, the weight for which nothing is lost:
    // w / (1 - w) = phi((x - EDGE) / sigma) / phi((x + EDGE) / sigma) = exp(2 x EDGE / sigma^2).
    let odds = (2.0 * 0.6 * f64::from(EDGE) / SIGMA.powi(2)).exp();
    let weight = (256.0 * odds / (1.0 + odds)).round() / 256.0;
    let exact = candidate("hardmax", Bound::RandomizedClopperPearson, pairwise(weight));
    let (wrong, _) = false_radii(&[exact], Stopping::Fixed(500), &gaussian(), |_| 0.6);
    assert!(wrong <= limit() && wrong >= 2 * (INPUTS as f64 * ALPHA) as usize - limit(), "{wrong}");
}

#[test]
fn with_a_radius_to_settle_just_beyond_the_true_one() {
    let x = 0.4f32;
    let radius = Radius::new(f64::from(x).next_up()).expect("a radius");
    let stopping = Stopping::Settle { radius, most: 400 };
    let mut candidates: Vec<Vec<Candidate>> = all().into_iter().map(|candidate| vec![candidate]).collect();
    for rule in [ONE, pairwise(0.5), pairwise(0.65625)] {
        candidates.push(vec![candidate("hardmax", Bound::TestMartingale, rule)]);
    }
    candidates.push(Candidate::auto(Bound::TestMartingale));
    let mut most = 0;
    for candidates in candidates {
        let (wrong, _) = false_radii(&candidates, stopping, &gaussian(), |_| x);
        assert!(wrong <= limit(), "{wrong} of {INPUTS} are false: {:?}", candidates[0]);
        most = most.max(wrong);
    }
    // Martingales fail less often than they may, and most of these questions are given up.
    assert!(most > 5, "the question is a hard one: {most}");
}

#[test]
fn of_the_lipschitz_aware_radius() {
    // Of two classes, (h, -h) with h = z: sparsemax of it is clip(1/2 + z / t), the ramp for which the
    // radius is tight. The third class is far below.
    let logits = Lipschitz::new(std::f64::consts::SQRT_2.next_up()).expect("a constant");
    let rule = RadiusRule::Aware { logits, evaluation_error: 0.0 };
    for bound in [Bound::Hoeffding, Bound::Bernstein, Bound::Betting] {
        for stopping in [Stopping::Fixed(150), Stopping::Tolerance { fraction: 0.3, most: 400 }] {
            covered(&[candidate("sparsemax:1", bound, rule)], stopping, &gaussian());
        }
    }
}

#[test]
fn pairs_with_a_fair_coin_are_never_below_the_class_alone() {
    for input in 0..200 {
        let streams = InputStreams::new(3, input);
        let run = |rule| {
            let setup = Setup {
                noise: gaussian(),
                entries: 1,
                charge: 1e-4,
                alpha: Alpha::new(ALPHA).expect("a level"),
                n0: 20,
                batch: 64,
                streams,
            };
            let mut sample = |range: Range<u32>| {
                let class = |sample: u32| streams.sample(sample).block(0)[0] % 16;
                Ok(Array2::from_shape_fn((range.len(), 3), |(i, j)| {
                    let class = class(range.start + i as u32);
                    let chosen = usize::from(class > 10) + usize::from(class > 12);
                    if j == chosen { 1.0 } else { 0.0 }
                }))
            };
            let hardmax = candidate("hardmax", Bound::ClopperPearson, rule);
            let selection = Selection::run(setup, &[hardmax], Stopping::Fixed(200), &mut sample);
            Estimation::new(selection.expect("a selection")).run(&mut sample).expect("an outcome")
        };
        let (pairs, alone) = (run(pairwise(0.5)), run(ONE));
        assert!(pairs.radius >= alone.radius && alone.radius.is_some());
        // What is implied of single scores holds for the frequencies seen.
        assert!(pairs.p_lower <= alone.p_lower && pairs.p_upper.get() > pairs.others[0].1.mean());
    }
}
