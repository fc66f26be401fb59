//! The two steps: what is asked of the network, independence from batches, records, and coverage by
//! repeated certification of classifiers with a known smoothed score.

use super::*;
use crate::random::InputStreams;
use crate::smoothing::noise::Noise;
use crate::smoothing::quantity::{Radius, Scale};
use crate::smoothing::radius::Lipschitz;

const SIGMA: f64 = 0.5;

/// The Lipschitz constant of the half-space's logits up to a common shift, which simplex maps ignore:
/// `(h, 0)` and `(h/2, -h/2)` have the same scores.
const CENTRED: f64 = std::f64::consts::FRAC_1_SQRT_2.next_up();

fn setup(alpha: f64, n0: u32, batch: u32) -> Setup {
    Setup {
        noise: Noise::gaussian(Scale::new(SIGMA).expect("a scale")),
        entries: 2,
        charge: 0.0,
        alpha: Alpha::new(alpha).expect("a level"),
        n0,
        batch,
        streams: InputStreams::new(1, 0),
    }
}

fn candidate(map: &str, bound: Bound, rule: RadiusRule) -> Candidate {
    Candidate::new(map.parse().expect("a map"), bound, rule).expect("a candidate")
}

/// Logits `(x + sigma Z, 0)` scaled: a half-space at distance `x`.
fn half_space(
    streams: InputStreams,
    x: f32,
    slope: f32,
) -> impl FnMut(Range<u32>) -> Result<Array2<f32>, SampleError> {
    move |range| {
        let noise = Noise::gaussian(Scale::new(SIGMA).expect("a scale"));
        let mut logits = Array2::zeros((range.len(), 2));
        for (row, sample) in range.enumerate() {
            let mut out = [0.0];
            noise.add(&streams.sample(sample), &[x], &mut out);
            logits[[row, 0]] = slope * out[0];
        }
        Ok(logits)
    }
}

fn certify(
    setup: Setup,
    candidate: Candidate,
    stopping: Stopping,
    sample: &mut dyn FnMut(Range<u32>) -> Result<Array2<f32>, SampleError>,
) -> Outcome {
    let selection = Selection::run(setup, &[candidate], stopping, sample).expect("a selection");
    Estimation::new(selection).run(sample).expect("an outcome")
}

#[test]
fn estimation_asks_for_fresh_samples_only_each_once() {
    for stopping in [
        Stopping::Fixed(237),
        Stopping::Tolerance { fraction: 1e-9, most: 237 },
        Stopping::Settle { radius: Radius::new(9.0).expect("a radius"), most: 237 },
    ] {
        let mut asked = Vec::new();
        let mut network = half_space(InputStreams::new(1, 1), 0.3, 1.0);
        let mut sample = |range: Range<u32>| {
            asked.extend(range.clone());
            network(range)
        };
        let hardmax = candidate("hardmax", Bound::ClopperPearson, RadiusRule::OneSided);
        let outcome = certify(setup(0.001, 50, 32), hardmax, stopping, &mut sample);
        assert_eq!(asked, (0..50 + outcome.samples).collect::<Vec<_>>());
        assert!(outcome.verdict == Verdict::OutOfReach || outcome.samples == 237);
    }
}

#[test]
fn batches_do_not_matter() {
    let rules = [
        candidate("hardmax", Bound::ClopperPearson, RadiusRule::TwoSided),
        candidate("softmax:0.5", Bound::Bernstein, RadiusRule::TwoSided),
    ];
    let stops = [Stopping::Fixed(1000), Stopping::Tolerance { fraction: 0.3, most: 1000 }];
    for (candidate, stopping) in rules.into_iter().zip(stops) {
        let run = |batch| {
            let mut sample = half_space(InputStreams::new(7, 3), 0.4, 2.0);
            certify(setup(0.01, 100, batch), candidate, stopping, &mut sample)
        };
        let whole = run(100_000);
        assert!(whole.radius.is_some());
        assert_eq!(whole, run(1));
        assert_eq!(whole, run(77));
        let text = serde_json::to_string(&whole).expect("json");
        assert_eq!(serde_json::from_str::<Outcome>(&text).expect("an outcome"), whole);
    }
}

#[test]
fn undefined_answers_are_a_class_of_their_own() {
    // Every third answer is NaN: its share bounds the runner-up from below.
    let mut sample = |range: Range<u32>| {
        Ok(Array2::from_shape_fn((range.len(), 3), |(i, j)| {
            if (range.start + i as u32).is_multiple_of(3) { f32::NAN } else { [2.0, 1.0, 0.0][j] }
        }))
    };
    for (map, bound) in [("hardmax", Bound::ClopperPearson), ("softmax:0.1", Bound::Bernstein)] {
        let rule = candidate(map, bound, RadiusRule::TwoSided);
        let outcome = certify(setup(0.001, 100, 64), rule, Stopping::Fixed(3000), &mut sample);
        assert_eq!((outcome.class, outcome.others[0].0), (0, 3));
        assert!(outcome.p_upper.get() > 1.0 / 3.0 && outcome.p_lower.get() < 2.0 / 3.0);
    }
    let mut nothing = |range: Range<u32>| Ok(Array2::from_elem((range.len(), 3), f32::NAN));
    let rule = candidate("hardmax", Bound::ClopperPearson, RadiusRule::TwoSided);
    let outcome = certify(setup(0.001, 10, 64), rule, Stopping::Fixed(100), &mut nothing);
    assert_eq!((outcome.radius, outcome.predicted()), (None, None));
}

#[test]
fn the_charge_lowers_the_radius() {
    let run = |charge| {
        let mut sample = half_space(InputStreams::new(7, 3), 0.6, 2.0);
        let rule = candidate("hardmax", Bound::ClopperPearson, RadiusRule::TwoSided);
        certify(Setup { charge, ..setup(0.01, 100, 500) }, rule, Stopping::Fixed(1000), &mut sample).radius
    };
    assert!(run(1e-3) < run(0.0));
    assert_eq!(run(0.6), None);
}

#[test]
fn alpha_is_booked_once() {
    let mut sample = half_space(InputStreams::new(7, 3), 0.6, 2.0);
    for (rule, entries) in [(RadiusRule::OneSided, 1), (RadiusRule::TwoSided, 2)] {
        let rule = candidate("hardmax", Bound::ClopperPearson, rule);
        let outcome = certify(setup(0.003, 10, 500), rule, Stopping::Fixed(100), &mut sample);
        assert_eq!(outcome.ledger.entries().len(), entries);
        assert_eq!(outcome.ledger.spent(), 0.003);
    }
}

#[test]
fn what_has_no_meaning_is_an_error() {
    let soft = "softmax:1".parse().expect("a map");
    let constant = Lipschitz::new(1.0).expect("a constant");
    let aware = |evaluation_error| RadiusRule::Aware { logits: constant, evaluation_error };
    assert!(Candidate::new(soft, Bound::ClopperPearson, RadiusRule::OneSided).is_err());
    assert!(Candidate::new(SimplexMap::Hardmax, Bound::ClopperPearson, aware(0.0)).is_err());
    assert!(Candidate::new(soft, Bound::Bernstein, aware(f64::NAN)).is_err());

    let hardmax = candidate("hardmax", Bound::ClopperPearson, RadiusRule::TwoSided);
    let mut sample = half_space(InputStreams::new(1, 1), 0.3, 1.0);
    let nine = Stopping::Fixed(9);
    let uniform = Noise::new("uniform", Scale::new(1.0).expect("a scale")).expect("uniform noise");
    let uniform = Setup { noise: uniform, ..setup(0.1, 9, 9) };
    assert!(matches!(
        Selection::run(uniform, &[hardmax], nine, &mut sample),
        Err(ProcedureError::Candidate(_))
    ));
    assert!(Selection::run(setup(0.1, 9, 9), &[], nine, &mut sample).is_err());
    assert!(Selection::run(setup(0.1, 0, 9), &[hardmax], nine, &mut sample).is_err());
    assert!(
        Selection::run(Setup { charge: f64::NAN, ..setup(0.1, 9, 9) }, &[hardmax], nine, &mut sample)
            .is_err()
    );
    let test = candidate("hardmax", Bound::TestMartingale, RadiusRule::OneSided);
    assert!(Selection::run(setup(0.1, 9, 9), &[test], nine, &mut sample).is_err(), "nothing to test");
    let mut ragged = |range: Range<u32>| Ok(Array2::zeros((range.len() + 1, 2)));
    assert!(matches!(
        Selection::run(setup(0.1, 9, 9), &[hardmax], nine, &mut ragged),
        Err(ProcedureError::Shape { .. })
    ));
    let mut fails = |_: Range<u32>| Err(SampleError::from("no network"));
    let error = Selection::run(setup(0.1, 9, 9), &[hardmax], nine, &mut fails).expect_err("no network");
    assert_eq!(error.to_string(), "sampling failed: no network");

    for stopping in [
        Stopping::Tolerance { fraction: 0.0, most: 100 },
        Stopping::Tolerance { fraction: f64::NAN, most: 100 },
        Stopping::Fixed(0),
        Stopping::Fixed(u32::MAX - 5),
    ] {
        assert!(Selection::run(setup(0.1, 9, 9), &[hardmax], stopping, &mut sample).is_err(), "{stopping:?}");
    }
}

#[test]
fn auto_chooses_among_all_and_hardmax_is_among_them() {
    let mut candidates = Candidate::auto(Bound::RandomizedClopperPearson);
    assert_eq!(candidates[0].map(), SimplexMap::Hardmax);
    let constant = Lipschitz::new(CENTRED).expect("a constant");
    let aware: Vec<Candidate> = candidates.iter().filter_map(|c| c.aware(constant, 1e-6).ok()).collect();
    candidates.extend(aware);
    let mut sample = half_space(InputStreams::new(3, 4), 1.5, 1.0);
    let selection = Selection::run(setup(0.001, 200, 100), &candidates, Stopping::Fixed(1000), &mut sample)
        .expect("a selection");
    // A smooth network, and more certain than a thousand votes can tell: knowing its constant pays.
    assert!(matches!(selection.candidate().rule(), RadiusRule::Aware { .. }), "{:?}", selection.candidate());
    let outcome = Estimation::new(selection).run(&mut sample).expect("an outcome");
    assert!(outcome.radius.is_some_and(|r| r.get() > 1.25 && r.get() <= 1.5), "{:?}", outcome.radius);
}

#[test]
fn adaptive_stopping_saves_samples() {
    let hardmax = candidate("hardmax", Bound::ClopperPearson, RadiusRule::OneSided);
    let run = |x, stopping| {
        let mut sample = half_space(InputStreams::new(2, 9), x, 1.0);
        certify(setup(0.001, 100, 1000), hardmax, stopping, &mut sample)
    };
    let radius = Radius::new(0.5).expect("a radius");
    let easy = run(0.9, Stopping::Settle { radius, most: 100_000 });
    assert!(easy.verdict == Verdict::Reached && easy.samples < 400, "{}", easy.samples);
    let hopeless = run(0.2, Stopping::Settle { radius, most: 100_000 });
    assert!(hopeless.verdict == Verdict::OutOfReach && hopeless.samples < 400, "{}", hopeless.samples);
    let coarse = run(0.9, Stopping::Tolerance { fraction: 0.1, most: 100_000 });
    assert!(coarse.verdict == Verdict::Converged && coarse.samples < 20_000, "{}", coarse.samples);
    assert!(coarse.radius.is_some_and(|r| r.get() > 0.9 * 0.9 && r.get() < 0.9));
}

#[test]
fn records_are_recomputed_as_if_run_anew() {
    for (seed, map, bound, rule) in [
        (1, "hardmax", Bound::ClopperPearson, RadiusRule::OneSided),
        (2, "hardmax", Bound::RandomizedClopperPearson, RadiusRule::TwoSided),
        (3, "softmax:0.5", Bound::Bernstein, RadiusRule::TwoSided),
        (4, "sparsemax:2", Bound::Hoeffding, RadiusRule::OneSided),
    ] {
        // Four classes: one far behind in the mean, with a greater variance than the runner-up.
        let run = |alpha, bound, rule, stopping| {
            let mut noise = half_space(InputStreams::new(7, seed), 0.4, 2.0);
            let mut sample = move |range: Range<u32>| {
                let base = noise(range)?;
                Ok(Array2::from_shape_fn((base.nrows(), 4), |(i, j)| {
                    let h = base[[i, 0]];
                    [h, -0.2, -0.3 - h, if h.to_bits().is_multiple_of(9) { 0.5 } else { -9.0 }][j]
                }))
            };
            certify(setup(alpha, 100, 999), candidate(map, bound, rule), stopping, &mut sample)
        };
        let fixed = Stopping::Fixed(2000);
        let recorded = run(0.001, bound, rule, fixed);
        for (other_bound, other_rule) in
            [(bound, rule), (bound, RadiusRule::TwoSided), (Bound::Hoeffding, RadiusRule::OneSided)]
        {
            let anew = run(0.01, other_bound, other_rule, fixed);
            let mut found = recorded
                .recompute(Alpha::new(0.01).expect("a level"), other_bound, other_rule)
                .expect("allowed");
            // The draw of a run with another bound stays in the record.
            found.w = anew.w;
            assert_eq!(found, anew, "{map} {other_bound:?} {other_rule:?}");
        }
        // An adaptive run: no better than what ran, and valid at the checkpoint where it stopped.
        let stopped = run(0.001, bound, rule, Stopping::Tolerance { fraction: 0.5, most: 50_000 });
        assert!(stopped.verdict == Verdict::Converged && stopped.samples < 50_000);
        let again = stopped.recompute(stopped.ledger.total(), bound, rule).expect("allowed");
        assert!(again.radius <= stopped.radius && again.radius.is_some());
        let alpha = stopped.ledger.total();
        assert!(matches!(stopped.recompute(alpha, Bound::Betting, rule), Err(RecomputeError::Order)));
        if stopped.w.is_none() {
            let randomized = stopped.recompute(alpha, Bound::RandomizedClopperPearson, rule);
            assert!(matches!(randomized, Err(RecomputeError::Draw)));
        }
        let binomial = stopped.recompute(alpha, Bound::ClopperPearson, rule);
        assert_eq!(binomial.is_ok(), map == "hardmax");
    }
}
