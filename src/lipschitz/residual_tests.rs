//! Residual layers: those that are built to have the constant 1, and bounds held against Jacobians.

use super::*;

fn scale(len: usize, values: Vec<f64>, inner: usize) -> Op {
    let scale = Some(Periodic::new(Weights::new(values), inner));
    Op::Affine(Affine::Scale(Scale { len, scale, shift: None, shift_error: 0.0 }))
}

fn sum(len: usize, a: f64, b: f64) -> Op {
    Op::Affine(Affine::Sum(Sum { len, coefficients: Weights::new(vec![a, b]) }))
}

fn relu() -> Op {
    Op::Elementwise(Arc::new(Relu))
}

/// A graph of values of any length.
fn chain(input: usize, nodes: Vec<(Op, Vec<usize>, usize)>) -> Graph {
    let lens: Vec<usize> = nodes.iter().map(|node| node.2).collect();
    let mut graph = graph(input, nodes.into_iter().map(|(op, inputs, _)| (op, inputs)).collect());
    graph.nodes.iter_mut().zip(lens).for_each(|(node, len)| node.shape = vec![1, len]);
    graph
}

/// Rounded to f32, as exporters write constants.
fn single(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    values.into_iter().map(|v| f64::from(v as f32)).collect()
}

fn transposed(a: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    (0..a.len()).map(|i| a[i % rows * cols + i / rows]).collect()
}

/// The norm of a matrix from its columns.
fn norm(a: &[f64], rows: usize, cols: usize) -> f64 {
    jacobi((0..cols).map(|j| (0..rows).map(|i| a[i * cols + j]).collect()).collect())
}

/// `x - 2 W T^-1 relu(W'x)` with rescaling inside the weights and as nodes; `w` is `n x units`.
fn layers(w: &[f64], t: &[f64], n: usize, units: usize) -> [Graph; 3] {
    let first = || (Op::Affine(dense(n, units, w.to_vec())), vec![0], units);
    let back = transposed(w, n, units);
    let inside = single(back.iter().enumerate().map(|(i, w)| -2.0 * w / t[i / n]));
    let inside = chain(
        n,
        vec![
            first(),
            (relu(), vec![1], units),
            (Op::Affine(dense(units, n, inside)), vec![2], n),
            (sum(n, 1.0, 1.0), vec![0, 3], n),
        ],
    );
    let nodes = |factors: Vec<f64>, last: f64| {
        chain(
            n,
            vec![
                first(),
                (relu(), vec![1], units),
                (scale(units, single(factors), 1), vec![2], units),
                (Op::Affine(dense(units, n, back.clone())), vec![3], n),
                (scale(n, vec![last], 1), vec![4], n),
                (sum(n, 1.0, -1.0), vec![0, 5], n),
            ],
        )
    };
    [inside, nodes(t.iter().map(|t| 1.0 / t).collect(), 2.0), nodes(t.iter().map(|t| 2.0 / t).collect(), 1.0)]
}

#[test]
fn dense_layers_of_constant_one() {
    for (n, units, seed) in [(16, 16, 1), (10, 30, 2), (30, 7, 3), (1, 1, 4)] {
        let w = single(entries(n * units, seed));
        let size = norm(&w, n, units);
        let potential = vec![size * size; units];
        // T_j = sum_i |W'W|_ji q_i / q_j.
        let q: Vec<f64> = entries(units, !seed).iter().map(|e| (2.0 * e).exp()).collect();
        let column = |j: usize| (0..n).map(|i| w[i * units + j]).collect::<Vec<_>>();
        let dot = |j: usize, k: usize| column(j).iter().zip(column(k)).map(|(a, b)| a * b).sum::<f64>().abs();
        let sums = (0..units).map(|j| (0..units).map(|k| dot(j, k) * q[k] / q[j]).sum::<f64>());
        for t in [potential, sums.collect()] {
            for graph in layers(&w, &t, n, units) {
                let total = network(&graph).total.expect("a constant");
                assert!((1.0 - 1e-12..=1.0 + 1e-5).contains(&total), "{total}");
            }
        }
    }
    // A step that is too long is not forgiven: 1 - 2 * 1.5 at the leading singular vector.
    let w = single(entries(64, 9));
    let size = norm(&w, 8, 8);
    let [graph, ..] = layers(&w, &[size * size / 1.5; 8], 8, 8);
    close(network(&graph).total.expect("a constant"), 2.0, 1e-4);
}

/// Kernels `outs x ins x taps` of a padded convolution, and its transpose in two forms.
fn padded(size: usize, channels: [usize; 2], weight: Vec<f64>) -> Conv {
    let [image, out, kernel, pad] = [[size; 2], [size; 2], [3; 2], [1; 2]];
    let window = Window2d { image, kernel, stride: [1; 2], dilation: [1; 2], pad, out };
    Conv { window, channels, groups: 1, weight: Weights::new(weight), bias: None, transposed: false }
}

#[test]
fn convolutions_of_constant_one() {
    let (size, ins, hidden) = (7, 3, 5);
    let weight = single(entries(hidden * ins * 9, 3));
    let plain = padded(size, [ins, hidden], weight.clone());
    let (n, units) = (ins * size * size, hidden * size * size);
    let norm = conv::norm(&plain);
    // Bounds on the sums of rows of the products of all pairs of kernels.
    let kernel = |o: usize, i: usize| &weight[(o * ins + i) * 9..][..9];
    let overlap = |o: usize, p: usize| {
        let mut sums = [0.0; 25];
        for i in 0..ins {
            for (a, b) in (0..9).flat_map(|a| (0..9).map(move |b| (a, b))) {
                let [y, x] = [2 + a / 3 - b / 3, 2 + a % 3 - b % 3];
                sums[y * 5 + x] += kernel(o, i)[a] * kernel(p, i)[b];
            }
        }
        sums.iter().map(|s| s.abs()).sum::<f64>()
    };
    let sums: Vec<f64> = (0..hidden).map(|o| (0..hidden).map(|p| overlap(o, p)).sum()).collect();
    for t in [vec![norm * norm; hidden], sums] {
        let by_unit = |index: usize| index / (ins * 9);
        let back = |factor: f64| {
            let weight = weight.iter().enumerate().map(|(i, w)| factor * w / t[by_unit(i)]);
            Conv { weight: Weights::new(single(weight)), transposed: true, ..plain.clone() }
        };
        // The transpose as a plain convolution with turned kernels.
        let turned = |op: &Conv| {
            let w = op.weight.exact();
            let at = |index: usize| {
                let (i, o, tap) = (index / (hidden * 9), index / 9 % hidden, index % 9);
                w[(o * ins + i) * 9 + 8 - tap]
            };
            padded(size, [hidden, ins], (0..w.len()).map(at).collect())
        };
        let first = || (Op::Affine(Affine::Conv(plain.clone())), vec![0], units);
        let whole = |op: Conv, sign: f64| {
            chain(
                n,
                vec![
                    first(),
                    (relu(), vec![1], units),
                    (Op::Affine(Affine::Conv(op)), vec![2], n),
                    (sum(n, sign, 1.0), vec![3, 0], n),
                ],
            )
        };
        let unscaled = Conv { transposed: true, ..plain.clone() };
        let nodes = chain(
            n,
            vec![
                first(),
                (relu(), vec![1], units),
                (scale(units, single(t.iter().map(|t| 1.0 / t)), size * size), vec![2], units),
                (Op::Affine(Affine::Conv(unscaled)), vec![3], n),
                (scale(n, vec![2.0], 1), vec![4], n),
                (sum(n, 1.0, -1.0), vec![0, 5], n),
            ],
        );
        let graphs = [whole(back(-2.0), 1.0), whole(back(2.0), -1.0), whole(turned(&back(-2.0)), 1.0), nodes];
        for graph in graphs {
            assert!(residual::by_convolutions(&graph, graph.output), "found as convolutions");
            let total = network(&graph).total.expect("a constant");
            assert!((1.0 - 1e-12..=1.0 + 1e-5).contains(&total), "{total}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any dense layer: at least the norm of `A + V D U` for every `D` that slopes can make, and no more
    /// than the sum of the branches.
    #[test]
    fn layers_are_bounded(n in 1usize..7, units in 1usize..9, seed: u64, sign in -1.0..1.0_f64, which in 0usize..4) {
        let (u, mut v) = (entries(n * units, seed), entries(n * units, !seed));
        // Near to and far from a transpose.
        for (v, u) in v.iter_mut().zip(transposed(&u, n, units)) {
            *v = 0.3 * *v + sign * u;
        }
        let skip = entries(n * n, seed ^ 5);
        let f: Arc<dyn Function> = match which {
            0 => Arc::new(Relu),
            1 => Arc::new(Abs),
            2 => Arc::new(LeakyRelu { slope: Periodic::constant(0.2) }),
            _ => Arc::new(Tanh),
        };
        let slopes = f.slopes().expect("slopes");
        let graph = chain(n, vec![
            (Op::Affine(dense(n, units, u.clone())), vec![0], units),
            (Op::Elementwise(f), vec![1], units),
            (Op::Affine(dense(units, n, v.clone())), vec![2], n),
            (Op::Affine(dense(n, n, skip.clone())), vec![0], n),
            (sum(n, 0.5, 1.0), vec![3, 4], n),
        ]);
        let bounds = Network::new(&graph);
        let total = bounds.report().total.expect("a constant");
        prop_assert!(total <= constant(&bounds.norms[4], &[bounds.constants[3].unwrap(), bounds.constants[4].unwrap()]));
        let mut steepest = 0.0_f64;
        for seed in 0..20 {
            let ends = entries(units, seed);
            let slope = |k: usize| slopes[usize::from(ends[k] > 0.0)];
            let entry = |i: usize| {
                let (from, to) = (i / n, i % n);
                skip[i] + 0.5 * (0..units).map(|k| u[from * units + k] * slope(k) * v[k * n + to]).sum::<f64>()
            };
            steepest = steepest.max(norm(&(0..n * n).map(entry).collect::<Vec<_>>(), n, n));
        }
        prop_assert!(steepest <= total * (1.0 + 1e-12), "{steepest} of at most {total}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// With the border, by a factorisation: a little above the singular value.
    #[test]
    fn factorisations_bound_the_norm_tightly(op in conv()) {
        let [len, out] = conv_lens(&op);
        let norm = exact(&Affine::Conv(op.clone()), &[len], out);
        match banded::norm(&op, f64::INFINITY) {
            Some(bound) => close(bound, norm, 1e-4),
            None => prop_assert!(op.groups > 1 || norm == 0.0),
        }
    }
}

/// A layer with the norm of its convolution as power iteration finds it, border and all: the spectrum alone
/// gives more than 1.
#[test]
fn borders_of_convolutions_count() {
    let (size, ins, hidden) = (13, 5, 6);
    let mut plain = padded(size, [ins, hidden], single(entries(hidden * ins * 9, 11)));
    let (n, units) = (ins * size * size, hidden * size * size);
    let norm = power_iteration(&Affine::Conv(plain.clone()), n, units, 300);
    let by_spectrum = conv::spectrum(&plain, plain.weight.exact(), 0.0);
    assert!(by_spectrum > 1.005 * norm, "{by_spectrum} {norm}");
    let factor = -2.0 / (norm * norm);
    let first = plain.clone();
    plain.weight = Weights::new(single(plain.weight.exact().iter().map(|w| factor * w)));
    plain.transposed = true;
    let nodes = vec![
        (Op::Affine(Affine::Conv(first)), vec![0], units),
        (relu(), vec![1], units),
        (Op::Affine(Affine::Conv(plain)), vec![2], n),
        (sum(n, 1.0, 1.0), vec![0, 3], n),
    ];
    let total = network(&chain(n, nodes)).total.expect("a constant");
    assert!((1.0 - 1e-12..=1.0 + 1e-4).contains(&total), "{total}");
}

/// Scales before a layer count together with it: rescaled inputs of a dense layer, channels of a convolution.
#[test]
fn scales_before_a_layer_are_taken_with_it() {
    let (n, outs) = (6, 9);
    let (w, d) = (entries(n * outs, 1), entries(n, 2).iter().map(|e| (3.0 * e).exp()).collect::<Vec<_>>());
    let graph = chain(
        n,
        vec![(scale(n, d.clone(), 1), vec![0], n), (Op::Affine(dense(n, outs, w.clone())), vec![1], outs)],
    );
    let scaled: Vec<f64> = w.iter().enumerate().map(|(i, w)| w * d[i / outs]).collect();
    close(network(&graph).total.expect("a constant"), norm(&scaled, n, outs), 1e-6);
    for transposed in [false, true] {
        let op = Conv { transposed, ..padded(4, [2, 3], entries(54, 3)) };
        let channels = if transposed { 3 } else { 2 };
        let d = [0.1, 4.0, 0.7][..channels].to_vec();
        let [from, to] = conv_lens(&op);
        let folded = op
            .weight
            .exact()
            .iter()
            .enumerate()
            .map(|(index, w)| w * d[if transposed { index / 18 } else { index / 9 % 2 }]);
        let exact_op = Conv { weight: Weights::new(folded.collect()), ..op.clone() };
        let graph = chain(
            from,
            vec![(scale(from, d.clone(), 16), vec![0], from), (Op::Affine(Affine::Conv(op)), vec![1], to)],
        );
        close(network(&graph).total.expect("a constant"), exact(&Affine::Conv(exact_op), &[from], to), 1e-6);
    }
}
