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
use tightrope::Graph;
use tightrope::exec::Plan;
use tightrope::onnx::load_bytes;

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

#[test]
fn bounds_of_a_point_are_tight() {
    every_case(bounds::check_point);
}
