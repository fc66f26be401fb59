//! Smoothing of real networks: samples do not depend on how they are asked
//! for, and the stated risk holds where the truth is known.

#[path = "operators/model.rs"]
#[expect(dead_code, reason = "shared with the tests of operators")]
mod model;

use prost::Message;
use rayon::prelude::*;
use tightrope::exec::Plan;
use tightrope::graph::Graph;
use tightrope::onnx::proto::{ModelProto, TensorProto};
use tightrope::onnx::{LoadOptions, load};
use tightrope::random::InputStreams;
use tightrope::smoothing::noise::Noise;
use tightrope::smoothing::procedure::{
    Bound, Candidate, Estimation, Outcome, RadiusRule, Selection, Setup, Stopping,
};
use tightrope::smoothing::quantity::{Alpha, Radius, Scale};
use tightrope::smoothing::sampler::{NoisyInputs, Sampler};
use tightrope::smoothing::simplex::SimplexMap;

use model::{floats, model, node};

fn noise(name: &str, scale: f64) -> Noise {
    Noise::new(name, Scale::new(scale).expect("a scale")).expect("a scale that fits")
}

#[test]
fn samples_do_not_depend_on_ranges_or_threads() {
    let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mnist-mlp-noise25.onnx");
    let plan = Plan::new(&load(model, &LoadOptions::default()).expect("a shipped network"));
    let x: Vec<f32> = (0..784).map(|i| (i % 256) as f32 / 255.0).collect();
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    for name in Noise::names() {
        let noise = noise(name, 0.25);
        let inputs = NoisyInputs::new(&noise, InputStreams::new(3, 17), &x).expect("on the grid");
        let sampler = Sampler::new(&plan, &inputs);
        let whole = pool(2).install(|| sampler.logits(0..300));
        assert_eq!(pool(1).install(|| sampler.logits(0..300)), whole);
        for range in [0..1, 5..6, 37..300, 128..131] {
            let rows = ndarray::s![range.start as usize..range.end as usize, ..];
            assert_eq!(sampler.logits(range.clone()), whole.slice(rows));
            assert_eq!(plan.run(inputs.batch(range).view()), whole.slice(rows), "by any classifier");
        }
        let other = NoisyInputs::new(&noise, InputStreams::new(4, 17), &x).expect("on the grid");
        assert_ne!(Sampler::new(&plan, &other).logits(0..300), whole, "the seed matters");
    }
}

#[test]
fn the_lattice_refuses_what_is_off_its_grid() {
    let noise = noise("lattice", 0.5);
    let error = NoisyInputs::new(&noise, InputStreams::new(0, 0), &[0.0, 0.3]).err().expect("off the grid");
    assert_eq!(error.entry, 1);
    assert!(error.to_string().contains("k/255"), "{error}");
}

fn graph(model: &ModelProto) -> Graph {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, model.encode_to_vec()).expect("room");
    load(path, &LoadOptions::default()).expect("a model that loads")
}

/// Two classes with the boundary `x_0 = 0`: the affine logits `(2 x_0, -2 x_0)`, read from ONNX.
/// Smoothed with symmetric noise and any simplex map its decision changes at distance `|x_0|`, in l1
/// and in l2.
fn half_space() -> Graph {
    let weight = floats("w", &[2, 2], &[2.0, -2.0, 0.0, 0.0]);
    let bias = floats("b", &[2], &[0.0, 0.0]);
    graph(&model(&[1, 2], vec![node("Gemm x w b")], vec![weight, bias]))
}

/// One certification of the point `(x, 1)` of the half-space.
fn certify(
    plan: &Plan,
    noise: &Noise,
    candidates: &[Candidate],
    stopping: Stopping,
    x: f32,
    seed: u64,
) -> Outcome {
    certify_at(plan, noise, candidates, stopping, &[x, 1.0], seed)
}

fn certify_at(
    plan: &Plan,
    noise: &Noise,
    candidates: &[Candidate],
    stopping: Stopping,
    input: &[f32],
    seed: u64,
) -> Outcome {
    let streams = InputStreams::new(seed, 0);
    let inputs = NoisyInputs::new(noise, streams, input).expect("an input");
    let sampler = Sampler::new(plan, &inputs);
    let mut sample = |range| Ok(sampler.logits(range));
    let setup = Setup {
        noise: noise.clone(),
        entries: input.len(),
        charge: noise.charge(input.len()),
        alpha: Alpha::new(ALPHA).expect("a level"),
        n0: 20,
        batch: 4096,
        streams,
    };
    let selection = Selection::run(setup, candidates, stopping, &mut sample).expect("a selection");
    Estimation::new(selection).run(&mut sample).expect("an outcome")
}

const ALPHA: f64 = 0.05;

/// A certificate is false if it names the other class, or reaches beyond the boundary. In 10,000
/// certifications at alpha = .05 that may happen 500 times on average; 609 would be five standard
/// deviations above.
#[test]
fn certificates_are_false_no_more_often_than_stated() {
    let plan = Plan::new(&half_space());
    let candidate = |map: &str, bound, rule| {
        vec![Candidate::new(map.parse().expect("a map"), bound, rule).expect("a combination")]
    };
    let hard = |bound| candidate("hardmax", bound, RadiusRule::OneSided);
    // A few of what `auto` tries.
    let several: Vec<Candidate> =
        Candidate::auto(Bound::RandomizedClopperPearson).into_iter().step_by(4).collect();
    let gaussian = &noise("gaussian", 0.5);
    let (uniform, laplace) = (&noise("uniform", 1.0), &noise("laplace", 0.5));
    let settle = Stopping::Settle { radius: Radius::new(0.2).expect("positive"), most: 250 };
    let tolerance = Stopping::Tolerance { fraction: 0.2, most: 250 };
    let fixed = Stopping::Fixed(100);
    let cases = [
        ("Cohen", gaussian, hard(Bound::ClopperPearson), fixed),
        ("randomized", gaussian, hard(Bound::RandomizedClopperPearson), fixed),
        ("settle", gaussian, hard(Bound::ClopperPearson), settle),
        ("settle, betting", gaussian, hard(Bound::KrichevskyTrofimov), settle),
        ("tolerance", gaussian, hard(Bound::ClopperPearson), tolerance),
        ("several", gaussian, several.clone(), fixed),
        ("several, tolerance", gaussian, several, tolerance),
        ("softmax", gaussian, candidate("softmax:0.5", Bound::Bernstein, RadiusRule::TwoSided), fixed),
        ("sparsemax", gaussian, candidate("sparsemax:1", Bound::Betting, RadiusRule::TwoSided), fixed),
        ("Hoeffding", gaussian, candidate("sparsemax:1", Bound::Hoeffding, RadiusRule::OneSided), tolerance),
        ("uniform", uniform, hard(Bound::ClopperPearson), fixed),
        ("uniform, settle", uniform, hard(Bound::KrichevskyTrofimov), settle),
        ("laplace", laplace, hard(Bound::ClopperPearson), fixed),
        ("laplace, tolerance", laplace, hard(Bound::ClopperPearson), tolerance),
    ];
    for (name, noise, candidates, stopping) in cases {
        let outcomes = (0..10_000).into_par_iter().map(|seed| {
            // Near the boundary, where false certificates are likeliest, and further off.
            let x = [0.05f32, 0.2, 0.4][seed as usize % 3];
            let outcome = certify(&plan, noise, &candidates, stopping, x, seed);
            assert!(outcome.ledger.spent() <= ALPHA);
            let wrong = |radius: Radius| outcome.class != 0 || radius.get() > f64::from(x);
            [outcome.radius.is_some(), outcome.radius.is_some_and(wrong)].map(usize::from)
        });
        let [certified, wrong] = outcomes.reduce(|| [0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
        assert!(wrong <= 609, "{name}: {wrong} of 10,000 certificates are false");
        assert!(certified >= 3000, "{name}: only {certified} of 10,000 are certified");
    }
}

/// A network that reads the low-order bits of its input (after Voracek and Hein 2023): class 1 if
/// `min(|x|, 1/2)` is a multiple of `2^-24`, else class 0. As a function of real numbers it is class 0
/// almost everywhere. `1 + e` in `f32` always is such a multiple, `0 + e` mostly is not.
fn reads_low_order_bits() -> Graph {
    let constants = [
        ("low", -0.5f32),
        ("high", 0.5),
        ("fine", 16_777_216.0),
        ("round", 8_388_608.0),
        ("much", 1e9),
        ("zero", 0.0),
        ("one", 1.0),
    ];
    let mut initializers: Vec<TensorProto> =
        constants.iter().map(|(name, value)| floats(name, &[], &[*value])).collect();
    initializers.push(floats("w", &[1, 2], &[1.0, -1.0]));
    initializers.push(floats("b", &[2], &[0.0, 1.0]));
    let nodes = [
        "Clip x low high -> near",
        "Abs near -> size",
        "Mul size fine -> scaled",
        "Add scaled round -> up",
        "Sub up round -> rounded",
        "Sub scaled rounded -> rest",
        "Abs rest -> off",
        "Mul off much -> large",
        "Clip large zero one -> is_off",
        "Gemm is_off w b",
    ];
    graph(&model(&[1, 1], nodes.map(node).to_vec(), initializers))
}

#[test]
fn rounding_fools_the_ordinary_mode_and_not_the_lattice() {
    let plan = Plan::new(&reads_low_order_bits());
    let cohen = [Candidate::new(SimplexMap::Hardmax, Bound::ClopperPearson, RadiusRule::OneSided)
        .expect("a combination")];
    let certify =
        |name, x: f32| certify_at(&plan, &noise(name, 0.35), &cohen, Stopping::Fixed(10_000), &[x], 5);
    // Two certificates that contradict each other: class 1 up to a distance beyond 1, class 0 there.
    let (from, to) = (certify("gaussian", 1.0), certify("gaussian", 0.0));
    assert_eq!((from.predicted(), to.predicted()), (Some(1), Some(0)));
    assert!(from.radius.is_some_and(|radius| radius.get() > 1.0), "{:?}", from.radius);

    let outcomes: Vec<(f64, Outcome)> = (0..=255_u8)
        .step_by(5)
        .map(|pixel| (f64::from(pixel) / 255.0, certify("lattice", f32::from(pixel) / 255.0)))
        .collect();
    let mut classes = [0; 2];
    for (x, outcome) in &outcomes {
        let Some(radius) = outcome.radius else { continue };
        classes[outcome.class] += 1;
        for (other, against) in &outcomes {
            let contradicts = against.radius.is_some() && against.class != outcome.class;
            assert!(!contradicts || (x - other).abs() > radius.get(), "{x} {other} {radius:?}");
        }
    }
    assert!(classes[0] > 5 && classes[1] > 5, "both classes are certified: {classes:?}");
}
