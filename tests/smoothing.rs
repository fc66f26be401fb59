//! Smoothing of real networks: samples do not depend on how they are asked
//! for, and the stated risk holds where the truth is known.

use std::sync::Arc;

use tightrope::exec::Plan;
use tightrope::graph::{Graph, Node};
use tightrope::onnx::{LoadOptions, load};
use tightrope::ops::{Affine, Dense, Op, Periodic, Relu, Weights};
use tightrope::smoothing::procedure::{
    Bound, Candidate, Estimation, Outcome, RadiusRule, Selection, Setup, Stopping, Threat,
};
use tightrope::smoothing::quantity::{Alpha, Radius, Scale};
use tightrope::smoothing::sampler::{Drawing, Sampler};
use tightrope::smoothing::simplex::{SimplexMap, Temperature};
use tightrope::smoothing::stream::InputStreams;

fn scale(sigma: f64) -> Scale {
    Scale::new(sigma).expect("a scale")
}

#[test]
fn samples_do_not_depend_on_ranges_or_threads() {
    let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mnist-mlp-noise25.onnx");
    let plan = Plan::new(&load(model, &LoadOptions::default()).expect("a shipped network"));
    let x: Vec<f32> = (0..784).map(|i| (i % 256) as f32 / 255.0).collect();
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    for (threat, lattice) in [
        (Threat::Gaussian(scale(0.25)), false),
        (Threat::Gaussian(scale(0.25)), true),
        (Threat::Uniform(scale(0.5)), false),
        (Threat::Laplace(scale(0.2)), false),
    ] {
        let drawing = Drawing::new(threat, lattice).expect("a scale that fits");
        let sampler = Sampler::new(&plan, &drawing, InputStreams::new(3, 17), &x).expect("on the grid");
        let whole = pool(2).install(|| sampler.logits(0..300));
        assert_eq!(pool(1).install(|| sampler.logits(0..300)), whole);
        for range in [0..1, 5..6, 37..300, 128..131] {
            let rows = ndarray::s![range.start as usize..range.end as usize, ..];
            assert_eq!(sampler.logits(range), whole.slice(rows));
        }
        let other = Sampler::new(&plan, &drawing, InputStreams::new(4, 17), &x).expect("on the grid");
        assert_ne!(other.logits(0..300), whole, "the seed matters");
    }
}

#[test]
fn the_lattice_refuses_what_is_off_its_grid() {
    let plan = Plan::new(&half_space());
    let drawing = Drawing::new(Threat::Gaussian(scale(0.5)), true).expect("a scale that fits");
    let error =
        Sampler::new(&plan, &drawing, InputStreams::new(0, 0), &[0.0, 0.3]).err().expect("off the grid");
    assert_eq!(error.entry, 1);
    assert!(error.to_string().contains("k/255"), "{error}");
}

/// Two classes with the boundary `x_0 = 0`: logits `relu(2 x_0)` and
/// `relu(-2 x_0)`. Smoothed with symmetric noise and any simplex map its
/// decision changes at distance `|x_0|`, in l1 and in l2.
fn half_space() -> Graph {
    let dense = |weight: Vec<f64>| {
        Op::Affine(Affine::Dense(Dense {
            rows: 1,
            inputs: 2,
            outputs: 2,
            weight: Weights::new(weight),
            bias: Some(Periodic::constant(0.0)),
        }))
    };
    let node = |name: &str, op, input| Node {
        name: name.into(),
        origin: "test".into(),
        op,
        inputs: vec![input],
        shape: vec![1, 2],
    };
    Graph {
        input_name: "x".into(),
        input_shape: vec![1, 2],
        nodes: vec![
            node("dense", dense(vec![2.0, -2.0, 0.0, 0.0]), 0),
            node("relu", Op::Elementwise(Arc::new(Relu)), 1),
        ],
        output: 2,
        output_shape: vec![1, 2],
        folded: vec![],
    }
}

/// One certification of the point `(x, 1)` of the half-space.
fn certify(
    plan: &Plan,
    threat: Threat,
    candidates: &[Candidate],
    stopping: Stopping,
    x: f32,
    seed: u64,
) -> Outcome {
    let drawing = Drawing::new(threat, false).expect("a scale that fits");
    let streams = InputStreams::new(seed, 0);
    let input = [x, 1.0];
    let sampler = Sampler::new(plan, &drawing, streams, &input).expect("an input");
    let mut sample = |range| Ok(sampler.logits(range));
    let setup = Setup {
        threat,
        charge: 0.0,
        alpha: Alpha::new(0.05).expect("a level"),
        n0: 20,
        batch: 64,
        randomized: Some(streams.randomized_clopper_pearson()),
    };
    let selection = Selection::run(setup, candidates, 150, &mut sample).expect("a selection");
    Estimation::new(selection).run(stopping, &mut sample).expect("an outcome")
}

/// A certificate is false if it names the other class, or reaches beyond the
/// boundary. Over 600 certifications at alpha = 0.05 that may happen 30 times
/// on average; 50 would be more than three standard deviations above.
#[test]
fn certificates_are_false_no_more_often_than_stated() {
    let plan = Plan::new(&half_space());
    let soft = |t| Temperature::new(t).expect("a temperature");
    let candidate = |map, bound, rule| vec![Candidate::new(map, bound, rule).expect("a combination")];
    let hard = |bound| candidate(SimplexMap::Hardmax, bound, RadiusRule::OneSided);
    let gaussian = Threat::Gaussian(scale(0.5));
    let settle = Stopping::Settle { radius: Radius::new(0.2).expect("positive"), most: 400 };
    let tolerance = Stopping::Tolerance { fraction: 0.2, most: 400 };
    let fixed = Stopping::Fixed(150);
    let cases = [
        ("Cohen", gaussian, hard(Bound::ClopperPearson), fixed),
        ("randomized", gaussian, hard(Bound::RandomizedClopperPearson), fixed),
        ("settle", gaussian, hard(Bound::ClopperPearson), settle),
        ("settle, betting", gaussian, hard(Bound::KrichevskyTrofimov), settle),
        ("tolerance", gaussian, hard(Bound::ClopperPearson), tolerance),
        ("auto", gaussian, Candidate::auto(None), fixed),
        ("auto, tolerance", gaussian, Candidate::auto(None), tolerance),
        (
            "softmax",
            gaussian,
            candidate(SimplexMap::Softmax(soft(0.5)), Bound::Bernstein, RadiusRule::TwoSided),
            fixed,
        ),
        (
            "sparsemax",
            gaussian,
            candidate(SimplexMap::Sparsemax(soft(1.0)), Bound::Betting, RadiusRule::TwoSided),
            fixed,
        ),
        ("uniform", Threat::Uniform(scale(1.0)), hard(Bound::ClopperPearson), fixed),
        ("laplace", Threat::Laplace(scale(0.5)), hard(Bound::ClopperPearson), fixed),
    ];
    for (name, threat, candidates, stopping) in cases {
        let (mut wrong, mut certified) = (0, 0);
        for seed in 0..600 {
            // Near the boundary, where false certificates are likeliest, and further off.
            let x = [0.05f32, 0.2, 0.4][seed as usize % 3];
            let outcome = certify(&plan, threat, &candidates, stopping, x, seed);
            if let Some(radius) = outcome.radius {
                certified += 1;
                wrong += usize::from(outcome.class != 0 || radius.get() > f64::from(x));
            }
            assert!(outcome.ledger.spent() <= 0.05);
        }
        assert!(wrong <= 50, "{name}: {wrong} of 600 certificates are false");
        assert!(certified >= 200, "{name}: only {certified} of 600 are certified");
    }
}
