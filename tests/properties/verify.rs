//! Branch and bound, held against networks whose least value is known exactly.

use proptest::prelude::*;
use tightrope::Graph;
use tightrope::bounds::Evaluation;
use tightrope::query::Region;
use tightrope::verify::{Limits, Outcome, Verdict, Verifier};

use crate::adversarial::perceptron;

/// `y_0 - y_1` of a relu network of two inputs with one hidden layer, in integers.
#[derive(Clone, Debug)]
struct Small {
    /// Coefficients of both inputs and bias of each neuron, and its weight in the difference.
    neurons: Vec<([i64; 2], i64, i64)>,
    bias: i64,
    lower: [i64; 2],
    upper: [i64; 2],
}

fn small() -> impl Strategy<Value = Small> {
    let neuron = ([-2_i64..3, -2_i64..3], -3_i64..4, -2_i64..3);
    let side = || (-2_i64..1, 1_i64..3);
    (prop::collection::vec(neuron, 1..7), -3_i64..4, side(), side()).prop_map(|(neurons, bias, a, b)| Small {
        neurons,
        bias,
        lower: [a.0, b.0],
        upper: [a.1, b.1],
    })
}

impl Small {
    /// The least difference over the box, exactly, as a quotient with a positive divisor: a piecewise linear
    /// function is least where two of the lines meet at which it bends, or at which the box ends.
    fn least(&self) -> (i64, i64) {
        let mut lines: Vec<([i64; 2], i64)> = self.neurons.iter().map(|&(w, b, _)| (w, b)).collect();
        for (i, axis) in [[1, 0], [0, 1]].into_iter().enumerate() {
            lines.extend([(axis, -self.lower[i]), (axis, -self.upper[i])]);
        }
        let mut least: Option<(i64, i64)> = None;
        for (k, &([a, b], e)) in lines.iter().enumerate() {
            for &([c, d], f) in &lines[..k] {
                let det = a * d - b * c;
                if det == 0 {
                    continue;
                }
                let sign = det.signum();
                // Of a x + b y = -e, c x + d y = -f.
                let (point, det) = ([sign * (b * f - d * e), sign * (c * e - a * f)], det.abs());
                let inside = |i: usize| (self.lower[i] * det..=self.upper[i] * det).contains(&point[i]);
                if !(inside(0) && inside(1)) {
                    continue;
                }
                let neuron = |&([v, w], bias, out): &([i64; 2], i64, i64)| {
                    out * (v * point[0] + w * point[1] + bias * det).max(0)
                };
                let value = self.neurons.iter().map(neuron).sum::<i64>() + self.bias * det;
                if least.is_none_or(|(num, den)| value * den < num * det) {
                    least = Some((value, det));
                }
            }
        }
        least.expect("the corners of the box")
    }

    /// The network with each input as the sum of `copies`, and its box.
    fn network(&self, copies: usize) -> (Graph, Vec<f64>, Vec<f64>) {
        let spread = |pair: [f64; 2]| pair.into_iter().flat_map(|x| vec![x; copies]).collect::<Vec<_>>();
        let real = |pair: [i64; 2]| pair.map(|x| x as f64);
        let first = self.neurons.iter().map(|(w, _, _)| spread(real(*w))).collect();
        let biases = self.neurons.iter().map(|(_, b, _)| *b as f64).collect();
        let outputs = self.neurons.iter().map(|(_, _, out)| *out as f64).collect();
        let zeros = vec![0.0; self.neurons.len()];
        let second = (vec![outputs, zeros], vec![self.bias as f64, 0.0]);
        let scaled = |pair: [i64; 2]| spread(real(pair).map(|x| x / copies as f64));
        (perceptron(&[(first, biases), second]), scaled(self.lower), scaled(self.upper))
    }

    /// Whether the difference falls to `bound` somewhere.
    fn ask(&self, evaluation: Evaluation, copies: usize, bound: f64, seconds: f64) -> Outcome {
        let (graph, lower, upper) = self.network(copies);
        let rows = [vec![(&[1.0, -1.0][..], bound)]];
        let region = Region::constraints(lower, upper, &rows, 2).expect("a region");
        let limits =
            Limits { timeout: Some(std::time::Duration::from_secs_f64(seconds)), ..Limits::default() };
        let verifier = Verifier::new(&graph).evaluated(evaluation);
        verifier.verify(&[region], &|_, _| true, &limits, &mut |_| true)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Two inputs, cut at the input, and 32, cut at the neurons; bounds that touch the least value included.
    /// What f32 rounds is far less than what lies between here.
    #[test]
    fn verdicts_are_exact(
        small in small(),
        offset in -2_i64..3,
        copies in prop_oneof![Just(1), Just(16)],
        evaluation in prop_oneof![Just(Evaluation::Real), Just(Evaluation::Float32)],
    ) {
        let (num, den) = small.least();
        // Below, above or at the least value, which halves do not always hit.
        let bound = (2 * num).div_euclid(den) as f64 / 2.0 + offset as f64 / 2.0;
        let above = num as f64 - bound * den as f64;
        // At the least value the search may go on for ever.
        let outcome = small.ask(evaluation, copies, bound, if above == 0.0 { 0.1 } else { 60.0 });
        if above > 0.0 {
            prop_assert_eq!(outcome.verdict, Verdict::Unsat, "{:?}", outcome);
        } else if above < 0.0 {
            prop_assert_eq!(outcome.verdict, Verdict::Sat, "{:?}", outcome);
        } else {
            prop_assert_ne!(outcome.verdict, Verdict::Unsat, "{:?}", outcome);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn nothing_depends_on_threads(small in small(), copies in prop_oneof![Just(1), Just(16)]) {
        let (num, den) = small.least();
        let bound = num as f64 / den as f64 - 0.01;
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| small.ask(Evaluation::Real, copies, bound, 60.0))
        };
        let one = on(1);
        prop_assert_eq!(one.verdict, Verdict::Unsat);
        prop_assert_eq!(&one, &on(2));
        prop_assert_eq!(&one, &on(5));
    }
}
