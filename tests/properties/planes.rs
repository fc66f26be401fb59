//! Planes of products, held against exact arithmetic.

use proptest::prelude::*;
use tightrope::ops::*;

use crate::networks::Random;
use crate::relaxation::two_sum;

/// A sum of products without any rounding, as a sum of `f64` that do not
/// overlap (Shewchuk 1997).
#[derive(Default)]
struct Exact(Vec<f64>);

impl Exact {
    fn add(&mut self, mut x: f64) {
        for part in &mut self.0 {
            (x, *part) = two_sum(x, *part);
        }
        self.0.push(x);
    }

    fn add_product(&mut self, a: f64, b: f64) {
        let product = a * b;
        self.add(product);
        self.add(a.mul_add(b, -product));
    }

    /// Has the exact sign: the last part that is not zero is the largest.
    fn sign(&self) -> f64 {
        self.0.iter().rev().find(|x| **x != 0.0).copied().unwrap_or(0.0)
    }
}

/// `plane(x) - sum of products of pairs`.
fn excess(plane: &Plane, x: &[Vec<f64>], result: &[(f64, f64)]) -> f64 {
    let mut sum = Exact::default();
    sum.add(plane.offset);
    plane.terms.iter().for_each(|t| sum.add_product(t.coefficient, x[t.input][t.entry]));
    for (a, b) in result {
        sum.add_product(-a, *b);
    }
    sum.sign()
}

/// Lower and upper bounds of `len` entries: narrow, wide, points, one-sided.
fn boxes(random: &mut Random, len: usize) -> (Vec<f64>, Vec<f64>) {
    let entry = |_| {
        let centre = [0.0, 2.0 * random.unit(), 1e3 * random.unit(), 1.0][random.below(4)];
        let reach = [0.0, 1e-12, 1.0, 3.0][random.below(4)] * random.unit().abs();
        match random.below(4) {
            0 => (centre, centre + reach),
            1 => (centre - reach, centre),
            _ => (centre - reach, centre + reach),
        }
    };
    (0..len).map(entry).unzip()
}

fn points(random: &mut Random, inputs: &[(Vec<f64>, Vec<f64>)], corners: bool) -> Vec<Vec<f64>> {
    let mut point = |l: f64, u: f64| match random.below(if corners { 2 } else { 4 }) {
        0 => l,
        1 => u,
        2 => 0.5 * l + 0.5 * u,
        _ => (l + (u - l) * (0.5 + 0.5 * random.unit())).clamp(l, u),
    };
    inputs.iter().map(|(l, u)| l.iter().zip(u).map(|(l, u)| point(*l, *u)).collect()).collect()
}

fn planes(op: &Product, inputs: &[(Vec<f64>, Vec<f64>)], mut visit: impl FnMut(usize, Plane, Plane)) {
    let inputs: Vec<_> = inputs.iter().map(|(l, u)| (&l[..], &u[..])).collect();
    let mut expected = 0;
    op.planes(&inputs, |entry, lower, upper| {
        assert_eq!(entry, expected, "entries in order");
        expected += 1;
        visit(entry, lower, upper);
    });
}

fn groups(random: &mut Random, entries: usize) -> Groups {
    let mut list = |n: usize| (0..n).map(|_| random.below(entries)).collect::<Vec<_>>();
    Groups::new([list(1), list(2), list(3), list(4), list(4), list(7)])
}

/// Least (sign -1: greatest) value of a plane over the box.
fn extreme(plane: &Plane, inputs: &[(Vec<f64>, Vec<f64>)], sign: f64) -> f64 {
    let terms = plane.terms.iter().map(|t| {
        let (l, u) = (inputs[t.input].0[t.entry], inputs[t.input].1[t.entry]);
        sign * (sign * t.coefficient * l).min(sign * t.coefficient * u)
    });
    plane.offset + terms.sum::<f64>()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn products_lie_between_their_planes(seed: u64) {
        let mut random = Random::new(seed);
        let inputs = [boxes(&mut random, 12), boxes(&mut random, 12)];
        let matmul = MatMul { size: [2, 3, 2], stack: vec![[0, 1], [1, 1], [1, 0]], matrices: [2, 2] };
        for op in [Product::Multiply, Product::MatMul(matmul.clone())] {
            let (mut low, mut high) = (vec![0.0; 12], vec![0.0; 12]);
            let ends: Vec<_> = inputs.iter().map(|(l, u)| (&l[..], &u[..])).collect();
            op.interval(1, &ends, &mut low, &mut high, &mut Vec::new());
            let samples: Vec<_> = (0..24).map(|k| points(&mut random, &inputs, k % 2 == 0)).collect();
            planes(&op, &inputs, |entry, lower, upper| {
                for x in &samples {
                    let factors: Vec<(f64, f64)> = match &op {
                        Product::MatMul(_) => {
                            let [a, b] = matmul.stack[entry / 4].map(|m| m as usize);
                            let (i, j) = (entry / 2 % 2, entry % 2);
                            (0..3).map(|p| (x[0][a * 6 + i * 3 + p], x[1][b * 6 + p * 2 + j])).collect()
                        }
                        _ => vec![(x[0][entry], x[1][entry])],
                    };
                    assert!(excess(&lower, x, &factors) <= 0.0 && excess(&upper, x, &factors) >= 0.0, "{op:?} {entry}: {inputs:?} at {x:?}");
                }
                // No looser than the interval, but for rounding.
                let slack = 1e-12 * (1.0 + low[entry].abs().max(high[entry].abs()));
                let slack = slack + 1e-14 * lower.terms.iter().chain(upper.terms).map(|t| {
                    (t.coefficient * inputs[t.input].0[t.entry].abs().max(inputs[t.input].1[t.entry].abs())).abs()
                }).sum::<f64>();
                assert!(extreme(&lower, &inputs, 1.0) >= low[entry] - slack, "{inputs:?}");
                assert!(extreme(&upper, &inputs, -1.0) <= high[entry] + slack, "{inputs:?}");
            });
        }
    }

    #[test]
    fn maxima_lie_between_their_planes(seed: u64) {
        let mut random = Random::new(seed);
        let inputs = [boxes(&mut random, 5), boxes(&mut random, 4)];
        let groups = groups(&mut random, 9);
        let op = Product::Max { inputs: vec![5, 4], groups: groups.clone() };
        let samples: Vec<_> = (0..40).map(|k| points(&mut random, &inputs, k % 2 == 0)).collect();
        let lists: Vec<&[u32]> = groups.iter().map(|(_, group)| group).collect();
        planes(&op, &inputs, |entry, lower, upper| {
            let of = |x: &[f64]| lists[entry].iter().map(|&j| x[j as usize]).fold(f64::NEG_INFINITY, f64::max);
            for x in &samples {
                let max = of(&x.concat());
                assert!(excess(&lower, x, &[(max, 1.0)]) <= 0.0 && excess(&upper, x, &[(max, 1.0)]) >= 0.0);
            }
            let (low, high) = (of(&[&inputs[0].0[..], &inputs[1].0].concat()), of(&[&inputs[0].1[..], &inputs[1].1].concat()));
            assert_eq!(extreme(&lower, &inputs, 1.0), low);
            assert!(extreme(&upper, &inputs, -1.0) <= high + 1e-11 * (1.0 + high.abs()));
        });
    }

    /// Up to the rounding of the evaluation in f64.
    #[test]
    fn log_sum_exps_lie_between_their_planes(seed: u64) {
        let mut random = Random::new(seed);
        let inputs = [boxes(&mut random, 5), boxes(&mut random, 4)];
        let groups = groups(&mut random, 9);
        let op = Product::LogSumExp { inputs: vec![5, 4], groups: groups.clone() };
        let mut samples: Vec<_> = (0..40).map(|k| points(&mut random, &inputs, k % 2 == 0)).collect();
        samples.push(inputs.iter().map(|(l, u)| l.iter().zip(u).map(|(l, u)| 0.5 * l + 0.5 * u).collect()).collect());
        let lists: Vec<&[u32]> = groups.iter().map(|(_, group)| group).collect();
        planes(&op, &inputs, |entry, lower, upper| {
            for (k, x) in samples.iter().enumerate() {
                let whole = x.concat();
                let values: Vec<f64> = lists[entry].iter().map(|&j| whole[j as usize]).collect();
                let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let rest = values.iter().map(|x| (x - top).exp()).sum::<f64>().ln();
                let result = [(top, 1.0), (rest, 1.0)];
                let slack = 4.0 * f64::EPSILON * (1.0 + rest);
                let (below, above) = (excess(&lower, x, &result), excess(&upper, x, &result));
                assert!(below <= slack && above >= -slack, "{below:e} {above:e} for {values:?}");
                // The lower plane is the tangent at the centre.
                assert!(k < 40 || below >= -1e-11 * (1.0 + values.iter().fold(0.0, |m: f64, x| m.max(x.abs()))));
            }
        });
    }
}

#[test]
fn planes_of_the_textbook() {
    let one = |l: f64, u: f64| (vec![l], vec![u]);
    let term = |input: usize, coefficient: f64| Term { input, entry: 0, coefficient };
    // Positive factors: McCormick through the least and through the mixed corners.
    planes(&Product::Multiply, &[one(1.0, 2.0), one(3.0, 5.0)], |_, lower, upper| {
        assert_eq!(lower.terms, [term(0, 3.0), term(1, 1.0)]);
        assert!((lower.offset + 3.0).abs() < 1e-13 && lower.offset <= -3.0);
        // `5 x + y - 5` and `3 x + 2 y - 6` have the same greatest value.
        assert!((extreme(&upper, &[one(1.0, 2.0), one(3.0, 5.0)], -1.0) - 10.0).abs() < 1e-13);
    });
    // A symmetric box: the plane that is least at its worst is constant.
    planes(&Product::Multiply, &[one(-1.0, 1.0), one(-1.0, 1.0)], |_, lower, upper| {
        assert_eq!(
            (lower.terms, upper.terms),
            (&[term(0, 0.0), term(1, 0.0)][..], &[term(0, 0.0), term(1, 0.0)][..])
        );
        assert!((lower.offset + 1.0).abs() < 1e-14 && (upper.offset - 1.0).abs() < 1e-14);
    });
    let max = Product::Max { inputs: vec![1, 1], groups: Groups::new([[0, 1]]) };
    planes(&max, &[one(0.0, 1.0), one(1.0, 2.0)], |_, lower, upper| {
        assert_eq!((lower.terms, lower.offset), (&[term(1, 1.0)][..], 0.0));
        assert_eq!((upper.terms, upper.offset), (&[term(1, 1.0)][..], 0.0));
    });
    planes(&max, &[one(-1.0, 3.0), one(0.0, 1.0)], |_, lower, upper| {
        assert_eq!((lower.terms, lower.offset), (&[term(1, 1.0)][..], 0.0));
        assert_eq!(upper.terms, [term(0, 0.5)]);
        assert!((upper.offset - 1.5).abs() < 1e-14 && upper.offset >= 1.5);
    });
}

#[test]
fn unbounded_operands_have_the_planes_of_their_intervals() {
    let two = |l: [f64; 2], u: [f64; 2]| (l.to_vec(), u.to_vec());
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let groups = || Groups::new([[0, 2], [1, 3]]);
    for op in [
        Product::Multiply,
        Product::Max { inputs: vec![2, 2], groups: groups() },
        Product::LogSumExp { inputs: vec![2, 2], groups: groups() },
    ] {
        planes(&op, &[two([nan, -1.0], [nan, inf]), two([0.0, 0.0], [1.0, 1.0])], |entry, lower, upper| {
            if entry == 0 {
                assert!(lower.offset.is_nan() && upper.offset.is_nan(), "{op:?}");
            } else {
                assert_eq!((upper.terms.len(), upper.offset), (0, inf), "{op:?}");
                assert!(lower.offset.is_finite());
            }
        });
    }
}

#[test]
fn planes_allow_for_underflow_and_overflow() {
    // In f64 all products of the first box are 0 and those of the second infinite.
    for (size, huge) in [(1e-200, false), (1e200, true)] {
        let inputs = [(vec![-size], vec![2.0 * size]), (vec![size], vec![3.0 * size])];
        planes(&Product::Multiply, &inputs, |_, lower, upper| {
            assert!(lower.offset < 0.0 && upper.offset > 0.0);
            assert_eq!((lower.offset.is_infinite(), upper.offset.is_infinite()), (huge, huge));
        });
    }
}
