//! Every operator against onnxruntime: small models with recorded outputs, made
//! by `tests/reference/generate.py`. Each is loaded, evaluated and bounded.

#[path = "operators/bounds.rs"]
mod bounds;
#[path = "operators/cases.rs"]
mod cases;
#[path = "operators/model.rs"]
mod model;
#[path = "operators/refusals.rs"]
mod refusals;

use std::panic::catch_unwind;

use ndarray::ArrayView2;
use prost::Message as _;
use tightrope::Graph;
use tightrope::bounds::{Evaluation, Intervals, propagate_evaluated};
use tightrope::exec::Plan;
use tightrope::onnx::{LoadOptions, load_bytes};

use cases::Case;

/// Runs `check` on every case and fails with all complaints at once.
fn every_case(check: fn(&Case, &Graph) -> Result<(), String>) {
    let cases = cases::read();
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let outcome = catch_unwind(|| {
                let graph = load_bytes(&case.model, &case.options()).map_err(|error| error.to_string())?;
                check(case, &graph)
            });
            let problem = outcome.unwrap_or_else(|_| Err("panics".into())).err()?;
            Some(format!("{}: {problem}", case.name))
        })
        .collect();
    let n = failures.len();
    assert!(failures.is_empty(), "{n} of {} cases fail:\n{}", cases.len(), failures.join("\n"));
}

#[test]
fn every_operator_agrees_with_the_reference() {
    every_case(|case, graph| {
        if graph.output_shape != case.output {
            return Err(format!("output of shape {:?}, should be {:?}", graph.output_shape, case.output));
        }
        let x = ArrayView2::from_shape((case.points, graph.input_len()), &case.x).expect("points");
        let y = Plan::new(graph).run(x);
        for (i, (&ours, &theirs)) in y.iter().zip(&case.y).enumerate() {
            let (point, entry) = (i / graph.output_len(), i % graph.output_len());
            // Infinities and NaN have no distance.
            let same = ours == theirs || (ours.is_nan() && theirs.is_nan());
            if !same && !(f64::from(ours - theirs).abs() <= case.slack(point)) {
                return Err(format!("entry {entry} at point {point} is {ours}, should be {theirs}"));
            }
        }
        Ok(())
    });
}

#[test]
fn bounds_hold_at_the_reference_and_at_sampled_points() {
    every_case(bounds::check_box);
}

/// Whatever the box, normalised entries are at most the root of their number, in both arithmetics; and they
/// come close to it where one entry stands out.
#[test]
fn normalised_entries_stay_in_their_ball() {
    const N: usize = 8;
    let scale = model::floats("scale", &[N as i64], &[1.0; N]);
    for kind in ["LayerNormalization", "RMSNormalization"] {
        let node = model::node(&format!("{kind} x scale epsilon=1e-5"));
        let made = model::model(&[1, N as i64], vec![node], vec![scale.clone()]);
        let graph = load_bytes(&made.encode_to_vec(), &LoadOptions::default()).expect("loads");
        let mut most = 0.0_f32;
        for (centre, radius) in [(0.0, 1.0), (1e6, 100.0), (0.5, 1e-3), (1.0, 1e-30), (-3e4, 1e3)] {
            let lower = vec![centre - radius; N];
            let upper = vec![centre + radius; N];
            for evaluation in [Evaluation::Real, Evaluation::Float32] {
                let input = Intervals { lower: lower.clone(), upper: upper.clone() };
                let bounds = propagate_evaluated(evaluation, &graph, 1, input, |_| false);
                let bounds = &bounds[graph.output];
                let limit = (N as f64).sqrt() * 1.0001;
                let ball =
                    bounds.lower.iter().all(|l| *l >= -limit) && bounds.upper.iter().all(|u| *u <= limit);
                assert!(ball, "{kind}, {evaluation:?} around {centre}: {bounds:?}");
                for k in 0..64_usize {
                    let x = (0..N).map(|i| {
                        let t = [-1.0, -1.0, 0.0, 1.0, 1.0, 0.37, -0.999, 0.5][(k * 7 + i * (k / 8 + 1)) % 8];
                        (if k == i { centre + radius } else { centre + t * radius * f64::from(k >= N) })
                            as f32
                    });
                    let x = ndarray::Array2::from_shape_vec((1, N), x.collect()).expect("a row");
                    for (i, &y) in Plan::new(&graph).run(x.view()).iter().enumerate() {
                        let slack = if evaluation == Evaluation::Real { 1e-4 } else { 0.0 };
                        let (l, u) = (bounds.lower[i] - slack, bounds.upper[i] + slack);
                        // Evaluated in f32 far from 0, real arithmetic says nothing.
                        let speaks = evaluation == Evaluation::Float32 || centre == 0.0;
                        assert!(!speaks || (l <= y.into() && f64::from(y) <= u), "{kind}: {y} in [{l}, {u}]");
                        most = most.max(y.abs());
                    }
                }
            }
        }
        assert!(most > 0.9 * ((N - 1) as f32).sqrt(), "{kind}: {most}");
    }
}

#[test]
fn bounds_of_a_point_are_tight() {
    every_case(bounds::check_point);
}
