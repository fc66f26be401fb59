//! Elementwise functions: ranges contain and touch what they bound, and the
//! stated rounding errors hold against values of 60 digits.

use proptest::prelude::*;
use tightrope::ops::*;

use crate::networks::{Random, functions};

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ranges_contain_their_values_and_are_tight(seed: u64, width in -6i32..3) {
        let mut random = Random::new(seed);
        let len = 4;
        for f in functions(&mut random, len) {
            let i = random.below(len);
            let centre = 4.0 * random.unit();
            let reach = 10f64.powi(width) * random.unit().abs();
            let (lower, upper) = (centre - reach, centre + reach);
            let (l, u) = f.range(i, lower, upper);
            let (mut least, mut greatest) = (f64::INFINITY, f64::NEG_INFINITY);
            let mut undefined = false;
            for k in 0..=64 {
                let x = (lower + (upper - lower) * f64::from(k) / 64.0).clamp(lower, upper);
                let y = f.eval(i, x);
                undefined |= !y.is_finite();
                if y.is_finite() && !l.is_nan() {
                    prop_assert!(l <= y && y <= u, "{} at {x}: {y:e} outside [{l:e}, {u:e}]", f.name());
                }
                least = least.min(y);
                greatest = greatest.max(y);
            }
            if undefined {
                prop_assert!(l.is_nan() && u.is_nan(), "{}: undefined inside", f.name());
            }
            // NaN only where the function has a pole or an end of its domain.
            let restricted = ["log", "sqrt", "reciprocal", "pow"].contains(&f.name());
            prop_assert!(!l.is_nan() || (restricted && lower <= 0.0), "{} on [{lower}, {upper}]", f.name());
            if l.is_nan() || upper - lower > 1.0 {
                continue;
            }
            // The exact range, but for what lies between the samples, and for
            // extrema counted although they lie just outside.
            let step = (greatest - least) * 0.2 + 1e-12 * greatest.abs().max(least.abs()) + 1e-8;
            prop_assert!(l >= least - step && u <= greatest + step, "{}: [{l}, {u}] for [{least}, {greatest}]", f.name());
        }
    }
}

/// Function, argument, value as the sum of two f64: written by `functions.py`
/// with 60 digits.
#[test]
fn rounding_errors_stay_within_what_is_stated() {
    let table = include_str!("../reference/functions.csv");
    let mut worst: Vec<(String, f64)> = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |i: usize| fields[i].parse::<f64>().expect("a number");
        let f: Box<dyn Function> = match fields[0] {
            "exp" => Box::new(Exp),
            "sigmoid" => Box::new(Sigmoid),
            "tanh" => Box::new(Tanh),
            "softplus" => Box::new(Softplus),
            "elu" => Box::new(Elu { alpha: 1.0, gamma: 1.0 }),
            "erf" => Box::new(Erf),
            "gelu" => Box::new(Gelu),
            "gelu_tanh" => Box::new(GeluTanh),
            "hard_swish" => Box::new(HardSwish),
            "log" => Box::new(Log),
            "sqrt" => Box::new(Sqrt),
            "reciprocal" => Box::new(Reciprocal),
            "pow3" => Box::new(Pow { exponent: 3.0 }),
            "pow2.5" => Box::new(Pow { exponent: 2.5 }),
            "pow-1.5" => Box::new(Pow { exponent: -1.5 }),
            "sin" => Box::new(Sin),
            "cos" => Box::new(Cos),
            other => panic!("unknown function {other}"),
        };
        let (x, high, low) = (number(1), number(2), number(3));
        let y = f.eval(0, x);
        let error = ((y - high) - low).abs();
        let allowed = f.rounding(x, y);
        assert!(error <= allowed, "{} at {x}: error {error:e} above {allowed:e}", fields[0]);
        let share = if allowed == 0.0 { 0.0 } else { error / allowed };
        match worst.iter_mut().find(|(name, _)| name == fields[0]) {
            Some((_, most)) => *most = most.max(share),
            None => worst.push((fields[0].to_owned(), share)),
        }
    }
    assert_eq!(worst.len(), 17, "every function is in the table");
    println!("largest error as a share of what is allowed: {worst:?}");
}
