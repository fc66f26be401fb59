//! Lines and planes: never on the wrong side of what they bound, and where the
//! textbook puts them.

use std::sync::Arc;

use proptest::prelude::*;
use tightrope::ops::*;

use crate::functions::reference;
use crate::networks::{Random, functions};

/// `a + b` and what it rounds away.
pub(crate) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let back = sum - a;
    (sum, (a - (sum - back)) + (b - back))
}

/// `line(x) - (high + low)`, almost exactly.
fn excess(line: Line, x: f64, high: f64, low: f64) -> f64 {
    let product = line.slope * x;
    let rest = line.slope.mul_add(x, -product);
    let (a, b) = two_sum(product, line.offset);
    let (c, d) = two_sum(a, -high);
    c + (d + b + rest - low)
}

/// Every function, with the corners of those that have constants.
fn all(random: &mut Random, len: usize) -> Vec<Arc<dyn Function>> {
    let mut all = functions(random, len);
    let constant = Periodic::constant;
    for exponent in [-3.0, -2.0, -1.5, 0.0, 0.3, 1.5, 2.5, 4.0, 5.0, 17.0] {
        all.push(Arc::new(Pow { exponent }));
    }
    for slope in [-3.0, 0.0, 1.0, 2.5] {
        all.push(Arc::new(LeakyRelu { slope: constant(slope) }));
    }
    for (low, high) in [(0.0, f64::INFINITY), (f64::NEG_INFINITY, 0.3), (1.0, -1.0), (0.5, 0.5), (-1.0, 1.0)]
    {
        all.push(Arc::new(Clip { low: constant(low), high: constant(high) }));
    }
    for (alpha, gamma) in [(1.673_263_242, 1.050_700_987), (0.5, 2.0), (2.0, -1.0), (-1.0, 1.0), (0.0, 1.0)] {
        all.push(Arc::new(Elu { alpha, gamma }));
    }
    all
}

/// Functions with steps, and choices between functions.
fn steps(random: &mut Random, all: &mut Vec<Arc<dyn Function>>) {
    let constant = Periodic::constant;
    let none = (f64::NEG_INFINITY, f64::INFINITY);
    for rounding in [Rounding::Floor, Rounding::Ceil, Rounding::Nearest, Rounding::Truncate] {
        for (zero, (low, high)) in [(0.0, none), (3.0, (-2.0, 4.0))] {
            all.push(Arc::new(Staircase { rounding, scale: None, zero: constant(zero), low, high }));
        }
    }
    for (scale, zero, low, high) in
        [(0.1, 0.0, -128.0, 127.0), (0.37, 128.0, 0.0, 255.0), (3.0, 1.0, -2.0, 2.0)]
    {
        let scale = Some(constant(f64::from(scale as f32)));
        all.push(Arc::new(Staircase { rounding: Rounding::Nearest, scale, zero: constant(zero), low, high }));
    }
    let scaled = |scale: f64, shift: f64| {
        Link::Scale(Some(Box::new(constant(scale))), Some(Box::new(constant(shift))))
    };
    let clip = || Link::Function(Arc::new(Clip { low: constant(-1.0), high: constant(2.0) }));
    for (low, high, bias) in [
        (f64::NEG_INFINITY, 1.0, 0.0),
        (f64::NEG_INFINITY, -0.5, 0.0),
        (-0.5, 0.5, 0.0),
        (-0.5, 0.5, f64::from(0.3f32)),
        (-0.25, 0.25, -1.0),
        (0.5, -0.5, 0.25),
    ] {
        all.push(Arc::new(Shrink { low, high, bias }));
    }
    for inclusive in [false, true] {
        let step = Step { threshold: constant(random.unit()), inclusive };
        all.push(Arc::new(step.clone()));
        let chains = [
            (vec![], vec![scaled(0.1, 0.0)]),
            (vec![scaled(-2.0, 3.0)], vec![scaled(0.0, 0.7)]),
            (
                vec![Link::Function(Arc::new(Tanh)), scaled(3.0, -1.0)],
                vec![scaled(0.5, 1.0), Link::Function(Arc::new(Sigmoid))],
            ),
            // Without a bound before the clip that gives one.
            (vec![Link::Function(Arc::new(Exp)), clip()], vec![Link::Function(Arc::new(Exp)), clip()]),
            (vec![Link::Function(Arc::new(Relu))], vec![Link::Function(Arc::new(Abs)), scaled(-1.0, 0.0)]),
        ];
        for (above, below) in chains {
            all.push(Arc::new(Choice { step: step.clone(), above: Chain(above), below: Chain(below) }));
        }
    }
}

/// An interval of any size, at times around or beside a special point.
fn interval(random: &mut Random) -> (f64, f64) {
    let special = [
        0.0,
        0.0,
        0.0,
        1.0,
        -1.0,
        3.0,
        -3.0,
        0.5,
        -0.5,
        2f64.sqrt(),
        -1.4185,
        std::f64::consts::PI,
        1e-310,
        700.0,
    ];
    let power = |random: &mut Random| 10f64.powf(7.0 * random.unit().abs().powi(2) * random.unit());
    let centre = match random.below(3) {
        0 => special[random.below(special.len())],
        1 => 4.0 * random.unit(),
        _ => power(random) * random.unit(),
    };
    let reach = match random.below(8) {
        0 => 1e-300,
        1 => 1e-12,
        2 => power(random),
        3 => 1e-5,
        _ => 3.0 * random.unit().abs(),
    };
    match random.below(4) {
        0 => (centre, centre + reach),
        1 => (centre - reach, centre),
        _ => (centre - reach * random.unit().abs(), centre + reach * random.unit().abs()),
    }
}

fn hint(random: &mut Random) -> Hint {
    let mut one = || [None, Some(0.0), Some(1.0), Some(0.5 + 0.5 * random.unit())][random.below(4)];
    Hint { lower: one(), upper: one() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Up to the rounding of the evaluation that they are compared with.
    #[test]
    fn lines_enclose_their_function(seed: u64) {
        let mut random = Random::new(seed);
        let len = 4;
        let mut functions = all(&mut random, len);
        steps(&mut random, &mut functions);
        for f in functions {
            let i = random.below(len);
            let (l, u) = interval(&mut random);
            let hint = hint(&mut random);
            let lines = f.lines(i, l, u, hint);
            let range = f.range(i, l, u);
            prop_assert!(lines.lower.slope.is_finite() && lines.upper.slope.is_finite());
            if range.0.is_nan() {
                prop_assert!(lines.lower.offset.is_nan() && lines.upper.offset.is_nan(), "{} undefined", f.name());
                continue;
            }
            for k in 0..40 {
                let near = [l, u, 0.5 * l + 0.5 * u, 0.0, 0.5, -0.5, 3.0, -3.0][random.below(8)];
                let x = match k {
                    0 => l,
                    1 => u,
                    2..=20 => l + (u - l) * (0.5 + 0.5 * random.unit()),
                    _ => near + (u - l) * 10f64.powi(-(random.below(14) as i32)) * random.unit(),
                };
                let x = x.clamp(l, u);
                let y = f.eval(i, x);
                if !y.is_finite() {
                    continue;
                }
                let allowed = f.rounding(x, y);
                let (below, above) = (excess(lines.lower, x, y, 0.0), excess(lines.upper, x, y, 0.0));
                prop_assert!(
                    !(below > allowed) && !(above < -allowed),
                    "{f:?} entry {i} over [{l:e}, {u:e}], {hint:?} at {x:e}: {below:e} and {above:e}, allowed {allowed:e}; {lines:?}"
                );
            }
        }
    }

    /// Whatever side of a step a quotient in f32 falls on, near ties too.
    #[test]
    fn steps_hold_for_quotients_in_f32(seed: u64) {
        let mut random = Random::new(seed);
        let scale = (10f64.powf(2.0 * random.unit()) as f32).max(1e-3);
        let zero = (random.below(41) as f64 - 20.0).round();
        let f = Staircase {
            rounding: Rounding::Nearest,
            scale: Some(Periodic::constant(scale.into())),
            zero: Periodic::constant(zero),
            low: -30.0,
            high: 30.0,
        };
        for _ in 0..40 {
            // Within a few numbers of f32 of a tie, or anywhere.
            let tie = (random.below(80) as f32 - 40.0 + 0.5) * scale;
            let moved = f32::from_bits((i64::from(tie.to_bits()) + random.below(9) as i64 - 4) as u32);
            let x = if random.below(4) == 0 { 40.0 * random.unit() as f32 * scale } else { moved };
            let y = f64::from((x / scale).round_ties_even()) + zero;
            let y = y.clamp(-30.0, 30.0);
            let reach = [0.0, 1e-6, 1.0, 30.0][random.below(4)] * f64::from(scale);
            let (l, u) = (f64::from(x) - reach, f64::from(x) + reach * random.unit().abs());
            let (range, lines) = (f.range(0, l, u), f.lines(0, l, u, Hint::default()));
            prop_assert!(range.0 <= y && y <= range.1, "{y} at {x} outside {range:?}");
            let (below, above) = (excess(lines.lower, x.into(), y, 0.0), excess(lines.upper, x.into(), y, 0.0));
            prop_assert!(below <= 0.0 && above >= 0.0, "{f:?} over [{l:e}, {u:e}] at {x:e}: {lines:?}, value {y}");
            let mut data = [x];
            f.apply32(1, &mut data);
            prop_assert_eq!(f64::from(data[0]), y);
        }
    }

    /// The default lines are the function's envelopes at the centre.
    #[test]
    fn default_lines_are_tight(seed: u64) {
        let mut random = Random::new(seed);
        let len = 4;
        for f in all(&mut random, len) {
            let i = random.below(len);
            let (centre, reach) = (3.0 * random.unit(), 4.0 * random.unit().abs() + 1e-3);
            let (l, u) = (centre - reach, centre + reach);
            let lines = f.lines(i, l, u, Hint::default());
            let n = 80;
            let x = |k: usize| (l + (u - l) * (k as f64 / f64::from(n))).clamp(l, u);
            let y: Vec<f64> = (0..=n as usize).map(|k| f.eval(i, x(k))).collect();
            let (least, greatest) = (y.iter().fold(f64::INFINITY, |m, y| m.min(*y)), y.iter().fold(f64::NEG_INFINITY, |m, y| m.max(*y)));
            // A step falls between the samples.
            if f.name() == "sign" || lines.lower.offset.is_nan() || greatest - least > 1e6 || greatest - least < 1e-9 {
                continue;
            }
            let half = n as usize / 2;
            let mut envelope = (y[half], y[half]);
            for p in 0..half {
                for q in half + 1..=n as usize {
                    let t = (half - p) as f64 / (q - p) as f64;
                    let chord = y[p] + t * (y[q] - y[p]);
                    envelope = (envelope.0.min(chord), envelope.1.max(chord));
                }
            }
            let at = |line: Line| line.slope * x(half) + line.offset;
            // What may lie between the samples, such as a kink.
            let slack = y.windows(2).fold(1e-9, |m: f64, y| m.max((y[1] - y[0]).abs()));
            prop_assert!(
                envelope.0 - at(lines.lower) <= slack && at(lines.upper) - envelope.1 <= slack,
                "{f:?} entry {i} over [{l}, {u}]: {lines:?} at the centre {} {}, envelopes {envelope:?}",
                at(lines.lower), at(lines.upper)
            );
        }
    }

    /// Of values that are known to be small, whatever their interval says.
    #[test]
    fn lines_and_ranges_hold_within_a_limit(seed: u64) {
        let mut random = Random::new(seed);
        let f = Within { limit: 3.0 * random.unit().abs() + 0.1 };
        let (l, u) = interval(&mut random);
        let hint = hint(&mut random);
        let (lines, range) = (f.lines(0, l, u, hint), f.range(0, l, u));
        prop_assert!(range.0 <= range.1 && -f.limit <= range.0 && range.1 <= f.limit);
        for t in [0.0, 1.0, 0.5, 0.5 + 0.5 * random.unit()] {
            let x = (l.max(-f.limit) * (1.0 - t) + u.min(f.limit) * t).clamp(-f.limit, f.limit);
            if l <= x && x <= u {
                let (below, above) = (excess(lines.lower, x, x, 0.0), excess(lines.upper, x, x, 0.0));
                prop_assert!(below <= 0.0 && above >= 0.0, "{f:?} over [{l:e}, {u:e}] at {x:e}: {lines:?}");
                prop_assert!(range.0 <= x && x <= range.1);
            }
        }
    }

    /// Against values of 60 digits, without any tolerance: the ends of the
    /// intervals, where chords touch, and the points that tangents aim at.
    #[test]
    fn lines_enclose_exact_values(seed: u64) {
        let mut random = Random::new(seed);
        for (f, points) in reference() {
            let [a, b] = [0, 1].map(|_| points[random.below(points.len())][0]);
            let (l, u) = (a.min(b), a.max(b));
            let inside: Vec<_> = points.iter().filter(|p| l <= p[0] && p[0] <= u).collect();
            let aim = |random: &mut Random| Some((inside[random.below(inside.len())][0] - l) / (u - l));
            for hint in [Hint::default(), Hint { lower: aim(&mut random), upper: aim(&mut random) }] {
                let lines = f.lines(0, l, u, hint);
                for &&[x, high, low, ..] in &inside {
                    let (below, above) = (excess(lines.lower, x, high, low), excess(lines.upper, x, high, low));
                    prop_assert!(
                        below <= 0.0 && above >= 0.0,
                        "{f:?} over [{l:e}, {u:e}], {hint:?} at {x:e}: {below:e} and {above:e}; {lines:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn intervals_without_lines_give_constants() {
    let mut random = Random::new(1);
    // The lines of ReLU do without an upper end.
    let identity = Line { slope: 1.0, offset: 0.0 };
    assert_eq!(
        Relu.lines(0, 0.0, f64::INFINITY, Hint::default()),
        Lines { lower: identity, upper: identity }
    );
    for f in all(&mut random, 4).into_iter().filter(|f| f.name() != "relu") {
        for (l, u) in [
            (f64::NEG_INFINITY, 1.0),
            (1.0, f64::INFINITY),
            (f64::NEG_INFINITY, f64::INFINITY),
            (f64::NAN, 1.0),
            (0.0, f64::NAN),
            (-1e308, 1e308),
            (0.7, 0.7),
            (2.0, 1.0),
        ] {
            let lines = f.lines(0, l, u, Hint::default());
            let range = f.range(0, l, u);
            let same = |line: Line, end: f64| {
                line.slope == 0.0 && (line.offset == end || (line.offset.is_nan() && end.is_nan()))
            };
            assert!(same(lines.lower, range.0) && same(lines.upper, range.1), "{f:?} [{l}, {u}]: {lines:?}");
        }
    }
}

#[test]
fn lines_of_straight_functions_are_those_of_the_textbook() {
    let none = Hint::default();
    let line = |slope: f64, offset: f64| Line { slope, offset };
    // Bounds that divide without rounding.
    let relu = Relu.lines(0, -1.0, 3.0, none);
    assert_eq!(relu, Lines { lower: line(1.0, 0.0), upper: line(0.75, 0.75) });
    assert_eq!(Relu.lines(0, -3.0, 1.0, none).lower, line(0.0, 0.0));
    assert_eq!(Relu.lines(0, -2.0, 2.0, none).lower, line(0.0, 0.0));
    let alpha = Hint { lower: Some(0.3), upper: None };
    assert_eq!(Relu.lines(0, -3.0, 1.0, alpha).lower, line(0.3, 0.0));
    assert_eq!(Relu.lines(0, 1.0, 2.0, none), Lines { lower: line(1.0, 0.0), upper: line(1.0, 0.0) });
    assert_eq!(Relu.lines(0, -2.0, 0.0, none), Lines { lower: line(0.0, 0.0), upper: line(0.0, 0.0) });

    assert_eq!(Abs.lines(0, -1.0, 3.0, none), Lines { lower: line(1.0, 0.0), upper: line(0.5, 1.5) });
    assert_eq!(Abs.lines(0, -1.0, 3.0, Hint { lower: Some(0.5), upper: None }).lower, line(0.0, 0.0));

    let clip = Clip { low: Periodic::constant(0.0), high: Periodic::constant(1.0) };
    let both = clip.lines(0, -1.0, 4.0, none);
    assert_eq!(both, Lines { lower: line(0.25, 0.0), upper: line(0.0, 1.0) });
    assert_eq!(clip.lines(0, -1.0, 1.0, none), Relu.lines(0, -1.0, 1.0, none));
    assert_eq!(clip.lines(0, 0.25, 0.75, none), Lines { lower: line(1.0, 0.0), upper: line(1.0, 0.0) });

    let leaky = LeakyRelu { slope: Periodic::constant(0.25) };
    assert_eq!(leaky.lines(0, -1.0, 3.0, none).lower, line(1.0, 0.0));
    let lower = |t: f64| leaky.lines(0, -3.0, 1.0, Hint { lower: Some(t), upper: None }).lower.slope;
    assert_eq!((lower(0.0), lower(0.5), lower(1.0)), (0.25, 0.625, 1.0));
}

/// Where tangents touch, by their defining equations.
#[test]
fn lines_of_smooth_functions_touch_them() {
    let gap = |line: Line, f: &dyn Function, x: f64| (line.slope * x + line.offset - f.eval(0, x)).abs();
    let none = Hint::default();
    for f in [&Sigmoid as &dyn Function, &Tanh, &Erf] {
        // The lower line meets the upper end and touches in the convex part,
        // where its slope is the derivative; the upper line mirrors it.
        let (l, u) = (-3.0, 4.0);
        let Lines { lower, upper } = f.lines(0, l, u, none);
        assert!(gap(lower, f, u) < 1e-12, "{f:?}");
        let touches = |line: Line, from: f64| {
            let nearest =
                (0..=20_000).map(|k| gap(line, f, from * f64::from(k) / 20_000.0)).fold(1.0, f64::min);
            assert!(nearest < 1e-7, "{f:?}: {nearest}");
        };
        touches(lower, l);
        assert!(gap(upper, f, l) < 1e-12 || gap(upper, f, 0.5) < 1e-12, "{f:?}");
        touches(upper, u);
    }
    for (f, l, u) in [(&Exp as &dyn Function, -2.0, 1.0), (&Softplus, -1.0, 4.0), (&Reciprocal, 0.5, 3.0)] {
        let Lines { lower, upper } = f.lines(0, l, u, none);
        assert!(
            gap(lower, f, 0.5 * (l + u)) < 1e-13 && gap(upper, f, l) < 1e-13 && gap(upper, f, u) < 1e-13,
            "{f:?}"
        );
        // The hint moves the touching point.
        let hint = Hint { lower: Some(0.25), upper: None };
        assert!(gap(f.lines(0, l, u, hint).lower, f, 0.75 * l + 0.25 * u) < 1e-13, "{f:?}");
    }
    for (f, l, u) in [(&Log as &dyn Function, 0.5, 3.0), (&Sqrt, 0.0, 2.0)] {
        let Lines { lower, upper } = f.lines(0, l, u, none);
        assert!(
            gap(upper, f, 0.5 * (l + u)) < 1e-13 && gap(lower, f, l) < 1e-13 && gap(lower, f, u) < 1e-13,
            "{f:?}"
        );
    }
}
