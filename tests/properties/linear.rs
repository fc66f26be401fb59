//! No point of an input set ever falls below a backward linear bound.

use std::sync::Arc;

use ndarray::{Array2, Axis, s};
use proptest::prelude::*;
use tightrope::bounds::{InputBox, Intervals, MarginBounds, Method, Norm, propagate};
use tightrope::graph::Graph;
use tightrope::ops::{Log, Op};

use crate::adversarial::{METHODS, perceptron};
use crate::bounds::{chain, sample};
use crate::networks::{Random, evaluate, network};

/// Margin bounds of one input by one method.
fn margins(graph: &Graph, method: Method, set: &InputBox, label: usize) -> Vec<f64> {
    MarginBounds::new(graph, method).bound(set, &[label]).lower().row(0).to_vec()
}

/// Margins against every class at a point, by definition, and how far each may
/// lie from the exact one. None beyond the range in which `f64` says anything.
fn evaluate_margins(graph: &Graph, x: &[f64], label: usize) -> Option<Vec<(f64, f64)>> {
    let values = evaluate(graph, x);
    if values.iter().flatten().any(|y| y.is_infinite() || y.abs() > 1e150) {
        return None;
    }
    // Evaluation and exact value both lie in the interval bounds of the point.
    let point = Intervals { lower: x.to_vec(), upper: x.to_vec() };
    let bounds = &propagate(graph, 1, point, |_| false)[graph.output];
    let width = |c: usize| bounds.upper[c] - bounds.lower[c];
    let logits = values.last().expect("an output");
    Some((0..logits.len()).map(|c| (logits[label] - logits[c], width(label) + width(c))).collect())
}

/// The bounds of all methods hold at a point; where the network is undefined
/// there, there are none.
fn holds(graph: &Graph, x: &[f64], label: usize, found: &[Vec<f64>]) -> Result<(), TestCaseError> {
    let Some(exact) = evaluate_margins(graph, x, label) else { return Ok(()) };
    for (class, (margin, slack)) in exact.into_iter().enumerate().filter(|(c, _)| *c != label) {
        for (bounds, method) in found.iter().zip(METHODS) {
            let bound = bounds[class];
            if margin.is_nan() {
                prop_assert!(bound == f64::NEG_INFINITY, "{method:?}: {bound:e} of an undefined margin");
            } else {
                prop_assert!(
                    !(bound > margin + slack),
                    "{method:?} class {class}: {bound:e} above {margin:e} (+- {slack:e})"
                );
            }
        }
    }
    Ok(())
}

/// The next centre, radius and clipping range to try.
fn draw(random: &mut Random, n: usize, exponent: i32) -> (Array2<f32>, f64, Option<(f64, f64)>) {
    let centre = random.units(n).iter().map(|&x| x as f32).collect();
    let clip = [None, Some((-1.0, 1.0))][random.below(2)];
    (Array2::from_shape_vec((1, n), centre).expect("one input"), 10f64.powi(exponent), clip)
}

/// Points of a ball, on its surface where clipping leaves it: along axes,
/// towards corners, in random directions and against the gradient of a margin.
fn in_ball(
    random: &mut Random,
    graph: &Graph,
    (label, class): (usize, usize),
    (norm, centre, eps, clip): (Norm, &[f64], f64, Option<(f64, f64)>),
) -> Vec<Vec<f64>> {
    let n = centre.len();
    let length = |d: &[f64]| match norm {
        Norm::Linf => d.iter().fold(0.0, |m: f64, x| m.max(x.abs())),
        Norm::L2 => d.iter().map(|x| x * x).sum::<f64>().sqrt(),
        Norm::L1 => d.iter().map(|x| x.abs()).sum(),
    };
    let margin = |x: &[f64]| evaluate_margins(graph, x, label).map_or(0.0, |m| m[class].0);
    let step = eps * 1e-3;
    let gradient: Vec<f64> = (0..n)
        .map(|i| {
            let moved = |by: f64| {
                let mut x = centre.to_vec();
                x[i] += by;
                margin(&x)
            };
            let slope = moved(-step) - moved(step);
            if slope.is_finite() { slope } else { 0.0 }
        })
        .collect();
    let steepest = (0..n).fold(0, |m, i| if gradient[i].abs() > gradient[m].abs() { i } else { m });
    let axis = |i: usize, sign: f64| (0..n).map(|j| if i == j { sign } else { 0.0 }).collect::<Vec<f64>>();
    let mut directions = vec![axis(steepest, gradient[steepest].signum()), gradient];
    for _ in 0..6 {
        directions.push(axis(random.below(n), [-1.0, 1.0][random.below(2)]));
        directions.push(random.units(n));
        directions.push((0..n).map(|_| [-1.0, 1.0][random.below(2)]).collect());
    }
    let (low, high) = clip.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
    let place = |d: Vec<f64>| {
        let scale = eps * (1.0 - 1e-9) / length(&d);
        let x: Vec<f64> = centre.iter().zip(d).map(|(c, d)| (c + scale * d).clamp(low, high)).collect();
        let moved: Vec<f64> = x.iter().zip(centre).map(|(x, c)| x - c).collect();
        // Rounding of the sum may have left the ball; a zero direction has none.
        (length(&moved) <= eps * (1.0 - 1e-13)).then_some(x)
    };
    directions.into_iter().filter_map(place).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Corners, faces and insides of boxes, and a coordinate search for the
    /// least margin; all methods on all operators.
    #[test]
    fn samples_respect_linear_bounds(seed: u64, depth in 1usize..8, exponent in -8i32..1) {
        let mut random = Random::new(seed);
        let graph = network(&mut random, depth);
        let (x, eps, clip) = draw(&mut random, graph.input_len(), exponent);
        let set = InputBox::linf(x.view(), eps, clip).expect("a box");
        let label = random.below(graph.output_len());
        let found = METHODS.map(|method| margins(&graph, method, &set, label));
        let (lower, upper) = (set.lower().row(0).to_vec(), set.upper().row(0).to_vec());
        let class = (label + 1 + random.below(graph.output_len() - 1)) % graph.output_len();
        let margin = |x: &[f64]| evaluate_margins(&graph, x, label).map_or(f64::NAN, |m| m[class].0);
        let mut least = lower.clone();
        for _ in 0..16 {
            let x = sample(&mut random, &lower, &upper);
            holds(&graph, &x, label, &found)?;
            if margin(&x) < margin(&least) {
                least = x;
            }
        }
        for i in 0..least.len() {
            for end in [lower[i], upper[i]] {
                let mut next = least.clone();
                next[i] = end;
                if margin(&next) < margin(&least) {
                    least = next;
                }
            }
        }
        holds(&graph, &least, label, &found)?;
    }

    /// No method is worse than IBP, and `Best` certifies whatever one of the
    /// others does, or else is at least as tight as all of them.
    #[test]
    fn methods_are_ordered(seed: u64, depth in 1usize..8, exponent in -5i32..1) {
        let mut random = Random::new(seed);
        let graph = network(&mut random, depth);
        let (x, eps, clip) = draw(&mut random, graph.input_len(), exponent);
        let set = InputBox::linf(x.view(), eps, clip).expect("a box");
        let label = random.below(graph.output_len());
        let found = METHODS.map(|method| margins(&graph, method, &set, label));
        let [ibp, linear @ .., best] = &found;
        for (bounds, method) in found.iter().zip(METHODS) {
            for (class, (bound, ibp)) in bounds.iter().zip(ibp).enumerate() {
                prop_assert!(bound >= ibp, "{method:?} class {class}: {bound:e} below {ibp:e} of IBP");
            }
        }
        if !best.iter().all(|&m| m > 0.0) {
            for (bounds, method) in linear.iter().zip(&METHODS[1..]) {
                for (class, (best, bound)) in best.iter().zip(bounds).enumerate() {
                    prop_assert!(best >= bound, "class {class}: {best:e} below {bound:e} of {method:?}");
                }
            }
        }
    }

    /// Points of l2 and l1 balls; and a ball is never bounded worse than the
    /// box around it where both have the same lines.
    #[test]
    fn samples_respect_bounds_over_balls(seed: u64, depth in 1usize..7, exponent in -5i32..1) {
        let mut random = Random::new(seed);
        let graph = network(&mut random, depth);
        let (x, eps, clip) = draw(&mut random, graph.input_len(), exponent);
        let centre: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let label = random.below(graph.output_len());
        let class = (label + 1 + random.below(graph.output_len() - 1)) % graph.output_len();
        let around = InputBox::linf(x.view(), eps, clip).expect("a box");
        for norm in [Norm::L2, Norm::L1] {
            let set = InputBox::ball(norm, x.view(), eps, clip).expect("a ball");
            let found = METHODS.map(|method| margins(&graph, method, &set, label));
            let points = in_ball(&mut random, &graph, (label, class), (norm, &centre, eps, clip));
            prop_assert!(!points.is_empty());
            for x in points {
                holds(&graph, &x, label, &found)?;
            }
            for (bounds, method) in found.iter().zip(METHODS).take(2) {
                let outer = margins(&graph, method, &around, label);
                for (ball, outer) in bounds.iter().zip(outer) {
                    prop_assert!(*ball >= outer, "{norm:?} {method:?}: {ball:e} below {outer:e} of the box");
                }
            }
        }
    }

    /// Integer networks whose sums lose most of their digits in f64, against
    /// exact arithmetic in 128-bit integers, at integer points of the box.
    #[test]
    fn linear_bounds_hold_for_exact_arithmetic_under_cancellation(seed: u64, radius in 0i64..1 << 12) {
        let mut random = Random::new(seed);
        let big = |r: &mut Random, bits: u32| (r.bits() % (1 << bits)) as i64 - (1 << (bits - 1));
        let (n, h) = (12, 8);
        let first: Vec<i64> = (0..n * h).map(|_| big(&mut random, 31)).collect();
        let second: Vec<i64> = (0..h * h).map(|_| big(&mut random, 21)).collect();
        let third: Vec<i64> = (0..h * 2).map(|_| big(&mut random, 31)).collect();
        let layer = |x: &[i128], weight: &[i64]| -> Vec<i128> {
            let outs = weight.len() / x.len();
            let term = |i: usize, j: usize| x[i] * i128::from(weight[i * outs + j]);
            (0..outs).map(|j| (0..x.len()).map(|i| term(i, j)).sum()).collect()
        };
        let relu = |x: Vec<i128>| x.into_iter().map(|x| x.max(0)).collect::<Vec<_>>();
        let graph = chain(&[(n, h, first.clone()), (h, h, second.clone()), (h, 2, third.clone())]);
        let x: Vec<i64> = (0..n).map(|_| big(&mut random, 24)).collect();
        let input = Array2::from_shape_fn((1, n), |(_, i)| x[i] as f32);
        let set = InputBox::linf(input.view(), radius as f64, None).expect("a box");
        let found = [0, 1].map(|label| METHODS.map(|m| margins(&graph, m, &set, label)[1 - label]));
        for _ in 0..20 {
            let moves = [-radius, 0, radius];
            let point: Vec<i128> = x.iter().map(|&x| i128::from(x + moves[random.below(3)])).collect();
            let logits = layer(&relu(layer(&relu(layer(&point, &first)), &second)), &third);
            for (label, bounds) in found.iter().enumerate() {
                // An i128 converts to the nearest f64: compare one step further out.
                let exact = ((logits[label] - logits[1 - label]) as f64).next_up();
                for (bound, method) in bounds.iter().zip(METHODS) {
                    prop_assert!(*bound <= exact, "{method:?}: {bound:e} above {exact:e}");
                }
            }
        }
    }

    /// Where the network is linear over the set, the least margin has a closed
    /// form: the value at the centre less radius times dual norm.
    #[test]
    fn linear_networks_are_bounded_by_the_dual_norm(seed: u64, exponent in -6i32..2) {
        let mut random = Random::new(seed);
        let rows = |r: &mut Random, outs: usize, ins: usize| (0..outs).map(|_| r.units(ins)).collect::<Vec<_>>();
        let (n, h) = (7, 5);
        let (first, second) = (rows(&mut random, h, n), rows(&mut random, 3, h));
        let (shift, bias) = (vec![1000.0; h], random.units(3));
        let centre = random.units(n);
        let eps = 10f64.powi(exponent);
        let x = Array2::from_shape_fn((1, n), |(_, i)| centre[i] as f32);
        // The ReLU passes all on: its inputs stay far above zero.
        let graph = perceptron(&[(first.clone(), shift.clone()), (second.clone(), bias.clone())]);
        let row = |class: usize| -> Vec<f64> {
            let by = |k: usize| second[0][k] - second[class][k];
            (0..n).map(|i| (0..h).map(|k| by(k) * first[k][i]).sum()).collect()
        };
        let constant = |class: usize| -> f64 {
            let hidden = (0..h).map(|k| (second[0][k] - second[class][k]) * shift[k]);
            hidden.sum::<f64>() + bias[0] - bias[class]
        };
        for norm in [Norm::Linf, Norm::L2, Norm::L1] {
            let set = InputBox::ball(norm, x.view(), eps, None).expect("a ball");
            for method in METHODS {
                let found = margins(&graph, method, &set, 0);
                // IBP knows boxes only; CROWN-IBP has lines from boxes.
                if method == Method::Ibp && norm != Norm::Linf {
                    continue;
                }
                for (class, &bound) in found.iter().enumerate().skip(1) {
                    let row = row(class);
                    let dual = match norm {
                        Norm::Linf => row.iter().map(|a| a.abs()).sum::<f64>(),
                        Norm::L2 => row.iter().map(|a| a * a).sum::<f64>().sqrt(),
                        Norm::L1 => row.iter().fold(0.0, |m: f64, a| m.max(a.abs())),
                    };
                    let middle: f64 = row.iter().zip(&centre).map(|(a, c)| a * c).sum();
                    let exact = constant(class) + middle - eps * dual;
                    // IBP and `Best`, if it ends there, bound the hidden values first.
                    let tight = method != Method::Ibp && (method != Method::Best || !(found[1] > 0.0 && found[2] > 0.0));
                    let size = 1.0 + constant(class).abs() + 1000.0 * eps;
                    prop_assert!(bound <= exact + 1e-12 * size, "{norm:?} {method:?}: {bound:e} above {exact:e}");
                    prop_assert!(!tight || bound >= exact - 1e-9, "{norm:?} {method:?}: {bound:e}, exactly {exact:e}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn linear_bounds_do_not_depend_on_batches_or_threads(seed: u64, depth in 2usize..8) {
        let mut random = Random::new(seed);
        let graph = network(&mut random, depth);
        let (count, n) = (20, graph.input_len());
        let x = Array2::from_shape_fn((count, n), |_| random.unit() as f32);
        let labels: Vec<usize> = (0..count).map(|_| random.below(graph.output_len())).collect();
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let (one, two) = (pool(1), pool(2));
        for norm in [Norm::Linf, Norm::L2] {
            for method in METHODS {
                let bounds = MarginBounds::new(&graph, method);
                let bound = |rows: std::ops::Range<usize>| {
                    let set = InputBox::ball(norm, x.slice(s![rows.clone(), ..]), 0.05, None).expect("sets");
                    bounds.bound(&set, &labels[rows])
                };
                let all = two.install(|| bound(0..count));
                let same = one.install(|| bound(0..count));
                prop_assert_eq!(same.lower(), all.lower());
                for i in [0, 7, count - 1] {
                    let alone = one.install(|| bound(i..i + 1));
                    prop_assert_eq!(alone.lower().index_axis(Axis(0), 0), all.lower().row(i));
                    prop_assert_eq!(alone.method(0), all.method(i));
                }
            }
        }
    }
}

#[test]
fn a_domain_that_only_backward_passes_show() {
    // log(x - x + 1/2) + 1 for x in [0, 1]: intervals cannot tell that the
    // logarithm is defined.
    let copies = (vec![vec![1.0], vec![1.0]], vec![0.0, 0.0]);
    let log = |bias: f64| {
        let mut graph = perceptron(&[
            copies.clone(),
            (vec![vec![1.0, -1.0]], vec![0.5]),
            (vec![vec![1.0], vec![0.0]], vec![bias, 0.0]),
        ]);
        graph.nodes[3].op = Op::Elementwise(Arc::new(Log));
        graph
    };
    let set = InputBox::linf(Array2::from_elem((1, 1), 0.5).view(), 0.5, None).expect("a box");
    let certified = |bias: f64, method| MarginBounds::new(&log(bias), method).bound(&set, &[0]).certified(0);
    assert_eq!(METHODS.map(|m| certified(1.0, m)), [false, false, true, true, true]);
    // log(1/2) is about -0.693.
    assert_eq!(METHODS.map(|m| certified(0.69, m)), [false; 5]);
}
