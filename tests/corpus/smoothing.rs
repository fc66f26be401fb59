//! Bounds and radii from recorded logits agree with values computed by another library.

use std::fs::File;

use ndarray::Array3;
use ndarray_npy::ReadNpyExt;
use serde_json::Value;
use tightrope::smoothing::confidence::{Bernstein, Binomial, ClopperPearson, ConfidenceBound};
use tightrope::smoothing::quantity::{Alpha, LowerBound, Radius, Scale, UpperBound};
use tightrope::smoothing::radius;
use tightrope::smoothing::simplex::SimplexMap;
use tightrope::smoothing::statistics::ScoreStatistics;

use crate::corpus;

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(number).collect()
}

#[track_caller]
fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs(), "{found} for {expected}");
}

/// Ours may be lower, by rounding only.
#[track_caller]
fn radius_close(found: Option<Radius>, expected: f64) {
    let found = found.map_or(0.0, Radius::get);
    assert!(found <= expected * (1.0 + 1e-12) && found >= expected * (1.0 - 1e-9), "{found} for {expected}");
}

#[test]
fn recorded_logits_give_the_recorded_statistics() {
    let Some(folder) = corpus().map(|c| c.join("reference/smoothing")) else { return };
    let expected = std::fs::read_to_string(folder.join("expected.json")).expect("expected.json");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    let logits = Array3::<f32>::read_npy(File::open(folder.join("logits.npy")).expect("logits.npy"));
    let logits = logits.expect("an array");
    let sigma = Scale::new(number(&expected["sigma"])).expect("a scale");
    let alpha = Alpha::new(number(&expected["alpha"])).expect("a level");
    let rows = expected["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), logits.dim().0);
    let mut compared = 0;
    for (row, logits) in rows.iter().zip(logits.outer_iter()) {
        let statistics = |map: SimplexMap| {
            let mut statistics = ScoreStatistics::new(logits.ncols());
            let mut scores = vec![0.0; logits.ncols()];
            for sample in logits.outer_iter() {
                map.apply(sample.as_slice().expect("rows"), &mut scores).expect("scores");
                statistics.push(&scores);
            }
            statistics
        };
        let two_sided = |lower: LowerBound, upper: UpperBound, expected: &Value| {
            let upper = upper.tighter(lower.complement());
            close(lower.get(), number(&expected["lower"]));
            close(upper.get(), number(&expected["upper"]));
            radius_close(radius::two_sided(sigma, lower, upper), number(&expected["radius"]));
        };

        let hardmax = statistics(SimplexMap::Hardmax);
        let counts: Vec<Binomial> =
            (0..hardmax.classes()).map(|j| hardmax.moments(j).counts().expect("indicators")).collect();
        let found: Vec<f64> = counts.iter().map(|c| f64::from(c.successes())).collect();
        assert_eq!(found, numbers(&row["counts"]));
        let top = hardmax.top().expect("a class");
        assert_eq!(top as f64, number(&row["top"]));
        let lower = ClopperPearson.lower(&counts[top], alpha);
        close(lower.get(), number(&row["cp_lower"]));
        radius_close(radius::one_sided(sigma, lower), number(&row["cohen_radius"]));
        let half = alpha.half();
        let others = (0..counts.len()).filter(|&j| j != top);
        let uppers = others.map(|j| ClopperPearson.upper(&counts[j], half).get());
        let upper = UpperBound::new(uppers.fold(0.0, f64::max));
        two_sided(ClopperPearson.lower(&counts[top], half), upper, &row["cp_two_sided"]);

        for (name, expected) in row.as_object().expect("an object") {
            let Some((map, temperature)) = name.split_once("_t") else { continue };
            let Ok(map) = format!("{map}:{temperature}").parse::<SimplexMap>() else { continue };
            let found = statistics(map);
            for (j, (mean, sd)) in numbers(&expected["mean"]).iter().zip(numbers(&expected["sd"])).enumerate()
            {
                // Scores are floored to multiples of 2^-48.
                assert!((found.moments(j).mean() - mean).abs() <= 1e-9 * mean + 4e-15);
                assert!((found.moments(j).sd() - sd).abs() <= 1e-9 * sd + 4e-15);
            }
            let top = found.top().expect("a class");
            assert_eq!(top as f64, number(&expected["top"]));
            let others = (0..found.classes()).filter(|&j| j != top);
            let uppers = others.map(|j| Bernstein.upper(&found.moments(j), half).get());
            let upper = UpperBound::new(uppers.fold(0.0, f64::max));
            two_sided(Bernstein.lower(&found.moments(top), half), upper, expected);
            compared += 1;
        }
    }
    assert!(compared >= 6 * rows.len(), "{compared}");
}
