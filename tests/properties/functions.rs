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
            let restricted = match f.name() {
                "log" | "sqrt" | "reciprocal" | "pow" => lower <= 0.0,
                "acosh" => lower < 1.0,
                "asin" | "acos" | "atanh" => lower <= -1.0 || upper >= 1.0,
                // A pole inside, or as good as at an end.
                "tan" => (-2..=2).any(|k| {
                    let pole = (f64::from(k) + 0.5) * std::f64::consts::PI;
                    lower - 1e-8 < pole && pole < upper + 1e-8
                }),
                _ => false,
            };
            prop_assert!(!l.is_nan() || restricted, "{} on [{lower}, {upper}]", f.name());
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_uniform_functions_say_so(seed: u64) {
        let mut random = Random::new(seed);
        for f in functions(&mut random, 4) {
            let x = 4.0 * random.unit();
            let same = (1..4).all(|i| f.eval(i, x).to_bits() == f.eval(0, x).to_bits());
            prop_assert!(same || !f.is_uniform(), "{} at {x}", f.name());
        }
    }

    #[test]
    fn cuts_lie_inside_and_do_not_loosen_bounds(seed: u64, width in -6i32..3) {
        let mut random = Random::new(seed);
        for f in functions(&mut random, 4) {
            let i = random.below(4);
            let centre = 4.0 * random.unit();
            let reach = 10f64.powi(width) * random.unit().abs();
            let (lower, upper) = (centre - reach, centre + reach);
            if let Some(x) = f.split_point(i, lower, upper) {
                prop_assert!(lower < x && x < upper, "{}: {x} in [{lower}, {upper}]", f.name());
            } else if f.slope(i, lower).is_some() {
                // Not cut, so straight.
                let middle = 0.5 * lower + 0.5 * upper;
                let straight = 0.5 * f.eval(i, lower) + 0.5 * f.eval(i, upper);
                let error = (f.eval(i, middle) - straight).abs();
                prop_assert!(error <= 1e-12 * (1.0 + straight.abs()), "{} bends in [{lower}, {upper}]", f.name());
            }
        }
    }
}

#[test]
fn cuts_stand_where_functions_bend() {
    let clip = Clip { low: Periodic::constant(-1.0), high: Periodic::constant(2.0) };
    let identity = LeakyRelu { slope: Periodic::constant(1.0) };
    let table: [(&dyn Function, [f64; 2], Option<f64>); 14] = [
        (&Relu, [-1.0, 3.0], Some(0.0)),
        (&Relu, [0.0, 3.0], None),
        (&Relu, [f64::NEG_INFINITY, 3.0], Some(0.0)),
        (&clip, [-5.0, 6.0], Some(-1.0)),
        (&clip, [-2.0, 6.0], Some(2.0)),
        (&clip, [-1.0, 2.0], None),
        (&identity, [-1.0, 2.0], None),
        (&Sign, [-1.0, 2.0], Some(0.0)),
        (&Sigmoid, [-1.0, 2.0], Some(0.0)),
        (&Exp, [-1.0, 2.0], Some(0.5)),
        (&Exp, [1.0, 1.0], None),
        (&Exp, [f64::NEG_INFINITY, 2.0], None),
        (&HardSwish, [3.0, 4.0], None),
        (&HardSwish, [2.0, 7.0], Some(3.0)),
    ];
    for (f, [lower, upper], cut) in table {
        assert_eq!(f.split_point(0, lower, upper), cut, "{} on [{lower}, {upper}]", f.name());
    }
}

/// A function with rows of argument, value and derivative, these two as sums
/// of two f64.
type Table<F> = (F, Vec<[f64; 5]>);

/// The functions of the table that `functions.py` writes with 60 digits.
pub(crate) fn reference() -> Vec<Table<Box<dyn Function>>> {
    let mut tables: Vec<Table<&str>> = Vec::new();
    for line in include_str!("../reference/functions.csv").lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let row = [1, 2, 3, 4, 5].map(|i| fields[i].parse::<f64>().expect("a number"));
        match tables.last_mut() {
            Some((name, rows)) if *name == fields[0] => rows.push(row),
            _ => tables.push((fields[0], vec![row])),
        }
    }
    tables.into_iter().map(|(name, rows)| (named(name), rows)).collect()
}

fn named(name: &str) -> Box<dyn Function> {
    match name {
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
        "silu" => Box::new(Silu),
        "mish" => Box::new(Mish),
        "softsign" => Box::new(Softsign),
        "tan" => Box::new(Trigonometric::Tan),
        "asin" => Box::new(Trigonometric::Asin),
        "acos" => Box::new(Trigonometric::Acos),
        "atan" => Box::new(Trigonometric::Atan),
        "sinh" => Box::new(Trigonometric::Sinh),
        "cosh" => Box::new(Trigonometric::Cosh),
        "asinh" => Box::new(Trigonometric::Asinh),
        "acosh" => Box::new(Trigonometric::Acosh),
        "atanh" => Box::new(Trigonometric::Atanh),
        other => panic!("unknown function {other}"),
    }
}

#[test]
fn rounding_errors_stay_within_what_is_stated() {
    let mut shares: Vec<(&str, f64)> = Vec::new();
    for (f, points) in reference() {
        let mut most = 0.0_f64;
        for [x, high, low, ..] in points {
            let y = f.eval(0, x);
            let error = ((y - high) - low).abs();
            let allowed = f.rounding(x, y);
            assert!(error <= allowed, "{} at {x}: error {error:e} above {allowed:e}", f.name());
            most = most.max(if allowed == 0.0 { 0.0 } else { error / allowed });
        }
        shares.push((f.name(), most));
    }
    assert_eq!(shares.len(), 29, "every function is in the table");
    println!("largest error as a share of what is allowed: {shares:?}");
}

#[test]
fn slopes_enclose_the_derivative() {
    for (f, points) in reference() {
        for [x, _, _, high, low] in points {
            let (least, greatest) = f.derivative(0, x, f64::INFINITY);
            // `least <= high + low <= greatest`, where `high` is the nearest f64.
            let holds = (least < high || (least == high && low >= 0.0))
                && (greatest > high || (greatest == high && low <= 0.0));
            assert!(holds, "{} at {x}: {high:e} outside [{least:e}, {greatest:e}]", f.name());
            let width = greatest - least;
            assert!(
                width <= 1e-11 * (high.abs() + f.eval(0, x).abs()) + 1e-14,
                "{} at {x}: {width:e}",
                f.name()
            );
        }
    }
}
