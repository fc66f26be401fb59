//! Bounds held against singular values by power iteration on operators written
//! out column by column, closed forms, and hostile numbers.

use std::sync::Arc;

use proptest::prelude::*;

#[path = "residual_tests.rs"]
mod residual_layers;

use super::*;
use crate::kernels::Window2d;
use crate::ops::*;

/// Uniform in [-1, 1), an f32.
fn entries(n: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from((state >> 40) as f32 / (1 << 23) as f32 - 1.0)
    };
    next();
    (0..n).map(|_| next()).collect()
}

/// The columns of an operator, and its largest singular value by cyclic
/// Jacobi rotations of them (Hestenes 1958).
fn exact(op: &Affine, lens: &[usize], len: usize) -> f64 {
    let total = lens.iter().sum::<usize>();
    let mut columns: Vec<Vec<f64>> = Vec::new();
    for j in 0..total {
        let mut unit = vec![0.0; total];
        unit[j] = 1.0;
        let mut rest = &unit[..];
        let mut inputs = Vec::new();
        for &len in lens {
            let (part, tail) = rest.split_at(len);
            inputs.push(part);
            rest = tail;
        }
        let mut column = vec![0.0; len];
        op.linear(Weights::exact, 1, &inputs, &mut column, &mut Vec::new());
        columns.push(column);
    }
    jacobi(columns)
}

fn jacobi(mut columns: Vec<Vec<f64>>) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    for _ in 0..30 {
        let mut largest = 0.0_f64;
        for p in 0..columns.len() {
            for q in p + 1..columns.len() {
                let (a, b) = (dot(&columns[p], &columns[p]), dot(&columns[q], &columns[q]));
                let c = dot(&columns[p], &columns[q]);
                if c.abs() <= 1e-13 * (a.sqrt() * b.sqrt()) || c == 0.0 {
                    continue;
                }
                largest = largest.max(c.abs() / (a.sqrt() * b.sqrt()));
                let zeta = (b - a) / (2.0 * c);
                let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let (cos, sin) = (1.0 / (1.0 + t * t).sqrt(), t / (1.0 + t * t).sqrt());
                let (head, tail) = columns.split_at_mut(q);
                for (x, y) in head[p].iter_mut().zip(&mut tail[0]) {
                    (*x, *y) = (cos * *x - sin * *y, sin * *x + cos * *y);
                }
            }
        }
        if largest < 1e-12 {
            break;
        }
    }
    columns.iter().map(|c| dot(c, c).sqrt()).fold(0.0, f64::max)
}

fn dense(inputs: usize, outputs: usize, weight: Vec<f64>) -> Affine {
    Affine::Dense(Dense { rows: 1, inputs, outputs, weight: Weights::new(weight), bias: None })
}

fn whole(op: &Affine, lens: &[usize], len: usize) -> f64 {
    Norms::new(op, lens, len).whole
}

/// At least the true norm, up to the rounding of the true norm as computed,
/// and not above it by more than `slack`.
#[track_caller]
fn close(bound: f64, norm: f64, slack: f64) {
    assert!(bound >= norm * (1.0 - 1e-12), "{bound} is below {norm}");
    assert!(bound <= norm * (1.0 + slack), "{bound} for {norm}");
}

fn conv() -> impl Strategy<Value = Conv> {
    let pair = |range: std::ops::Range<usize>| [range.clone(), range];
    let window = (pair(1..7), pair(1..4), pair(1..4), pair(1..3), pair(0..3), pair(0..3));
    (window, 1usize..3, 1usize..3, 1usize..3, any::<bool>(), any::<u64>()).prop_filter_map(
        "the kernel fits",
        |((image, kernel, stride, dilation, pad, after), groups, ins, outs, transposed, seed)| {
            let out = [0, 1].map(|a| {
                let span = dilation[a] * (kernel[a] - 1) + 1;
                (image[a] + pad[a] + after[a]).checked_sub(span).map_or(0, |free| free / stride[a] + 1)
            });
            let window = Window2d { image, kernel, stride, dilation, pad, out };
            let weight = Weights::new(entries(groups * ins * outs * window.taps(), seed));
            let channels = [groups * ins, groups * outs];
            (out[0] > 0 && out[1] > 0).then_some(Conv {
                window,
                channels,
                groups,
                weight,
                bias: None,
                transposed,
            })
        },
    )
}

fn conv_lens(op: &Conv) -> [usize; 2] {
    let lens = [op.channels[0] * op.window.pixels(), op.channels[1] * op.window.positions()];
    if op.transposed { [lens[1], lens[0]] } else { lens }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn dense_layers_are_bounded_tightly(rows in 1usize..20, cols in 1usize..20, seed: u64, power in -120i32..120) {
        let scale = 10f64.powi(power);
        let weight: Vec<f64> = entries(rows * cols, seed).iter().map(|w| w * scale).collect();
        let op = dense(rows, cols, weight);
        close(whole(&op, &[rows], cols), exact(&op, &[rows], cols), 1e-6);
    }

    #[test]
    fn convolutions_are_bounded(op in conv()) {
        let [len, out] = conv_lens(&op);
        let norm = exact(&Affine::Conv(op.clone()), &[len], out);
        // Small ones are written out as a matrix, and tight.
        close(conv::norm(&op), norm, 1e-6);
        let taps = op.weight.exact().len() / op.groups;
        let by_spectrum = op.weight.exact().chunks(taps).map(|w| conv::spectrum(&op, w, 0.0));
        let by_spectrum = by_spectrum.fold(0.0, f64::max);
        prop_assert!(by_spectrum >= norm * (1.0 - 1e-12), "{by_spectrum} is below {norm}: {op:?}");
        let of_absolute = Norms::new(&Affine::Conv(op), &[len], out).absolute[0];
        prop_assert!(of_absolute >= norm * (1.0 - 1e-12));
    }

    #[test]
    fn sparse_maps_are_bounded(seed: u64, signed: bool, weighted: bool) {
        let mut pick = entries(200, seed).into_iter().map(|x| ((x + 1.0) * 1e6) as usize);
        let mut below = |n: usize| pick.next().expect("enough") % n;
        let groups = Groups::new((0..7).map(|_| (0..below(4)).map(|_| below(9)).collect::<Vec<_>>()).collect::<Vec<_>>());
        let weights = entries(groups.entries(), !seed).into_iter().map(|w| if signed { w } else { w.abs() });
        let weights = weighted.then(|| Weights::new(weights.collect()));
        let op = Affine::Sparse(Sparse { inputs: vec![4, 5], groups, weights, bias: None });
        let norms = Norms::new(&op, &[4, 5], 7);
        let norm = exact(&op, &[4, 5], 7);
        prop_assert!(norms.whole >= norm * (1.0 - 1e-12), "{} {norm}", norms.whole);
        prop_assert!(norms.whole <= norm * 1.5 + 1e-9, "{} {norm}", norms.whole);
        prop_assert!(norms.parts.iter().sum::<f64>() >= norm * (1.0 - 1e-12));
    }
}

#[test]
fn closed_forms() {
    let identity = |n: usize| (0..n * n).map(|i| f64::from(i % (n + 1) == 0)).collect::<Vec<_>>();
    close(whole(&dense(50, 50, identity(50)), &[50], 50), 1.0, 2e-7);
    close(whole(&dense(30, 20, vec![0.5; 600]), &[30], 20), 0.5 * 600f64.sqrt(), 1e-9);
    let sign = |i: u32| if ((i / 64) & (i % 64)).count_ones().is_multiple_of(2) { 3.0 } else { -3.0 };
    let hadamard = (0..4096).map(sign);
    close(whole(&dense(64, 64, hadamard.collect()), &[64], 64), 24.0, 2e-7);
    let one = (0..600).map(|i| if i == 77 { -7.0 } else { 0.0 }).collect();
    close(whole(&dense(30, 20, one), &[30], 20), 7.0, 1e-12);
    assert_eq!(whole(&dense(30, 20, vec![0.0; 600]), &[30], 20), 0.0);

    let sum = Affine::Sum(Sum { len: 4, coefficients: Weights::new(vec![3.0, -4.0]) });
    close(whole(&sum, &[4, 4], 4), 5.0, 1e-12);
    // Pooling over disjoint windows of four: 4 (1/4)^2 = (1/2)^2.
    let windows = Groups::new((0..3).map(|i| 4 * i..4 * i + 4));
    let pool =
        Sparse { inputs: vec![12], groups: windows, weights: Some(Weights::new(vec![0.25; 12])), bias: None };
    close(whole(&Affine::Sparse(pool), &[12], 3), 0.5, 1e-9);
    let copies = Sparse::select(vec![3], [0, 1, 1, 1, 2, 2]);
    close(whole(&Affine::Sparse(copies), &[3], 6), 3f64.sqrt(), 1e-9);
    // Uncertain coefficients count.
    let weight = Weights::rounded(vec![2.0], 0.25);
    let op = Affine::Dense(Dense { rows: 1, inputs: 1, outputs: 1, weight, bias: None });
    close(whole(&op, &[1], 1), 2.5, 1e-12);
}

#[test]
fn hostile_numbers() {
    let bound = |weight: Vec<f64>| whole(&dense(2, 2, weight), &[2], 2);
    close(bound(vec![1e-200, 0.0, 0.0, 1e-200]), 1e-200, 1e-6);
    close(bound(vec![1e150, 1e150, 1e150, 1e150]), 2e150, 1e-6);
    close(bound(vec![1e300, -1e300, 1e300, -1e300]), 2e300, 1e-6);
    close(bound(vec![1e150, 0.0, 0.0, 1e-200]), 1e150, 1e-6);
    close(bound(vec![5e-324, 0.0, 0.0, 0.0]), 5e-324, 2.0);
    assert_eq!(bound(vec![f64::MAX; 4]), f64::INFINITY);
    assert_eq!(bound(vec![1.0, f64::NAN, 0.0, 0.0]), f64::INFINITY);
    assert_eq!(bound(vec![f64::NAN, 1.0, 0.0, 0.0]), f64::INFINITY);
    assert_eq!(bound(vec![1.0, f64::NEG_INFINITY, 0.0, 0.0]), f64::INFINITY);
    let constant = |value| Some(Periodic::constant(value));
    let scale =
        |value| Affine::Scale(Scale { len: 3, scale: constant(value), shift: None, shift_error: 0.0 });
    assert_eq!(whole(&scale(-2.0), &[3], 3), 2.0);
    assert_eq!(whole(&scale(f64::NAN), &[3], 3), f64::INFINITY);
}

/// How far the spectrum lies above the norm of a padded convolution: by what
/// the border takes off, which shrinks as the image grows.
#[test]
fn the_spectrum_is_close_for_larger_images() {
    for (size, slack) in [(4, 0.25), (8, 0.10), (12, 0.05)] {
        let window = Window2d {
            image: [size; 2],
            kernel: [3; 2],
            stride: [1; 2],
            dilation: [1; 2],
            pad: [1; 2],
            out: [size; 2],
        };
        let op = Conv {
            channels: [2, 2],
            groups: 1,
            weight: Weights::new(entries(36, 5)),
            bias: None,
            transposed: false,
            window,
        };
        close(conv::spectrum(&op, op.weight.exact(), 0.0), conv::norm(&op), slack);
    }
}

/// A lower bound on the norm of a map of one input, by power iteration.
fn power_iteration(op: &Affine, len: usize, out: usize, steps: usize) -> f64 {
    let mut x = entries(len, 1);
    let mut best = 0.0_f64;
    for _ in 0..steps {
        let size = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        for x in &mut x {
            *x /= size;
        }
        let mut y = vec![0.0; out];
        op.linear(Weights::exact, 1, &[&x], &mut y, &mut Vec::new());
        best = best.max(y.iter().map(|y| y * y).sum::<f64>().sqrt());
        x.fill(0.0);
        op.adjoint(Weights::exact, 1, &y, &mut [&mut x], &mut Vec::new());
    }
    best
}

#[test]
fn layers_of_shipped_networks_are_bounded_tightly() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut seen = [0, 0];
    for name in ["mnist-mlp-noise25", "mnist-cnn-plain", "mnist-cnn-ibp0.3", "cifar-resnet20-noise25"] {
        let path = folder.join(format!("{name}.onnx"));
        let graph = crate::onnx::load(path, &crate::onnx::LoadOptions::default()).expect("a network");
        for (i, node) in graph.nodes.iter().enumerate() {
            let Op::Affine(op @ (Affine::Dense(_) | Affine::Conv(_))) = &node.op else { continue };
            let (len, out) = (graph.len(node.inputs[0]), graph.len(i + 1));
            let dense = matches!(op, Affine::Dense(_));
            seen[usize::from(dense)] += 1;
            let norm = power_iteration(op, len, out, if dense { 300 } else { 60 });
            let bound = whole(op, &[len], out);
            close(bound, norm, if dense { 1e-6 } else { 0.08 });
        }
    }
    assert!(seen[0] >= 20 && seen[1] >= 8, "{seen:?}");
}

fn graph(len: usize, nodes: Vec<(Op, Vec<usize>)>) -> Graph {
    let node = |(i, (op, inputs)): (usize, (Op, Vec<usize>))| Node {
        name: format!("n{i}"),
        origin: "test".into(),
        op,
        inputs,
        shape: vec![1, len],
    };
    Graph {
        input_name: "x".into(),
        input_shape: vec![1, len],
        output: nodes.len(),
        nodes: nodes.into_iter().enumerate().map(node).collect(),
        output_shape: vec![1, len],
        folded: vec![],
    }
}

#[test]
fn constants_follow_the_graph() {
    let scale = |c| {
        let scale = Some(Periodic::constant(c));
        Op::Affine(Affine::Scale(Scale { len: 4, scale, shift: None, shift_error: 0.0 }))
    };
    let sum = || Op::Affine(Affine::Sum(Sum { len: 4, coefficients: Weights::new(vec![1.0, 1.0]) }));
    let relu = || Op::Elementwise(Arc::new(Relu));
    // x + 3 relu(x): the branches' constants add.
    let residual = graph(4, vec![(relu(), vec![0]), (scale(3.0), vec![1]), (sum(), vec![0, 2])]);
    close(network(&residual).total.expect("a constant"), 4.0, 1e-12);
    // Each entry is in three of the windows {i, i + 1, i + 2}.
    let windows = Groups::new((0..4).map(|i| (0..3).map(move |k| (i + k) % 4)));
    let max = Op::Product(Product::Max { inputs: vec![4], groups: windows });
    close(network(&graph(4, vec![(max, vec![0])])).total.expect("a constant"), 3f64.sqrt(), 1e-12);
    // What has no constant is named, unless the output does not depend on it.
    let exp = || Op::Elementwise(Arc::new(Exp));
    let report = network(&graph(4, vec![(scale(2.0), vec![0]), (exp(), vec![1]), (relu(), vec![2])]));
    assert_eq!((report.total, report.obstacle.as_deref()), (None, Some("n1")));
    assert_eq!(report.nodes[2].norm, Some(1.0));
    let product = graph(4, vec![(Op::Product(Product::Multiply), vec![0, 0])]);
    assert_eq!(network(&product).obstacle.as_deref(), Some("n0"));
    let aside = network(&graph(4, vec![(exp(), vec![0]), (scale(2.0), vec![0])]));
    assert_eq!((aside.total, aside.obstacle), (Some(2.0), None));
    let weights = dense(4, 4, vec![f64::INFINITY; 16]);
    assert_eq!(network(&graph(4, vec![(Op::Affine(weights), vec![0])])).obstacle.as_deref(), Some("n0"));
}

#[cfg(feature = "lapack")]
#[test]
fn singular_values_agree_with_gram_iteration() {
    for (rows, cols) in [(1, 1), (7, 3), (3, 7), (60, 40), (128, 256)] {
        let a = entries(rows * cols, (rows + cols) as u64);
        let (exact, gram) =
            (lapack::norm(&a, rows, cols).expect("LAPACK succeeds"), matrix::norm(&a, rows, cols, 0.0));
        assert!((exact / gram - 1.0).abs() < 1e-6, "{exact} {gram}");
        if rows * cols < 3000 {
            let columns = (0..cols).map(|j| (0..rows).map(|i| a[i * cols + j]).collect()).collect();
            close(exact, jacobi(columns), 1e-10);
        }
    }
    assert_eq!(lapack::norm(&[f64::NAN; 4], 2, 2), None);
}

/// Maxima and minima of the same pairs, in the forms and layouts that they are written in.
#[test]
fn permutations_have_constant_one() {
    let scale = |c: f64| {
        let scale = Some(Periodic::constant(c));
        Op::Affine(Affine::Scale(Scale { len: 4, scale, shift: None, shift_error: 0.0 }))
    };
    let sum =
        |a: f64, b: f64| Op::Affine(Affine::Sum(Sum { len: 4, coefficients: Weights::new(vec![a, b]) }));
    let select = |source: [usize; 4]| Op::Affine(Affine::Sparse(Sparse::select(vec![8], source)));
    let all = |source: [usize; 8]| Op::Affine(Affine::Sparse(Sparse::select(vec![4, 4], source)));
    let max = || {
        let groups = Groups::new((0..4).map(|i| [i, 4 + i]));
        Op::Product(Product::Max { inputs: vec![4, 4], groups })
    };
    let f = |f: Arc<dyn Function>| Op::Elementwise(f);
    let total = |nodes: Vec<(Op, Vec<usize>)>| {
        let mut graph = graph(4, nodes);
        graph.input_shape = vec![1, 8];
        let last = graph.nodes.len() - 1;
        graph.nodes[last].shape = vec![1, 8];
        network(&graph).total.expect("a constant")
    };
    let rows = [0, 1, 2, 3, 4, 5, 6, 7];
    let pairs = [0, 4, 1, 5, 2, 6, 3, 7];
    let halves = || vec![(select([0, 1, 2, 3]), vec![0]), (select([4, 5, 6, 7]), vec![0])];
    let neighbours = || vec![(select([0, 2, 4, 6]), vec![0]), (select([1, 3, 5, 7]), vec![0])];
    for (parts, joined) in [(halves(), rows), (halves(), pairs), (neighbours(), pairs), (neighbours(), rows)]
    {
        let with = |more: Vec<(Op, Vec<usize>)>| total([parts.clone(), more].concat());
        // max and -max(-a, -b).
        let extrema = vec![(max(), vec![1, 2]), (scale(-1.0), vec![1]), (scale(-1.0), vec![2])];
        let extrema =
            [extrema, vec![(max(), vec![4, 5]), (scale(-1.0), vec![6]), (all(joined), vec![3, 7])]].concat();
        assert_eq!(with(extrema), 1.0);
        // b + relu(a - b) and a - relu(a - b).
        let difference = vec![(sum(1.0, -1.0), vec![1, 2]), (f(Arc::new(Relu)), vec![3])];
        let kinked =
            vec![(sum(1.0, 1.0), vec![2, 4]), (sum(1.0, -1.0), vec![1, 4]), (all(joined), vec![5, 6])];
        assert_eq!(with([difference.clone(), kinked].concat()), 1.0);
        // (a + b)/2 + |a - b|/2 and (a + b)/2 - |a - b|/2.
        let size =
            vec![(sum(1.0, -1.0), vec![1, 2]), (f(Arc::new(Abs)), vec![3]), (sum(1.0, 1.0), vec![1, 2])];
        let halved =
            vec![(sum(0.5, 0.5), vec![5, 4]), (sum(0.5, -0.5), vec![5, 4]), (all(joined), vec![6, 7])];
        assert_eq!(with([size, halved].concat()), 1.0);
        // Two maxima of the same pair repeat an entry.
        close(with(vec![(max(), vec![1, 2]), (all(joined), vec![3, 3])]), 2f64.sqrt(), 1e-12);
        // A minimum of the pair moved by one is another: both can be one entry.
        let shift = Scale { len: 4, scale: None, shift: Some(Periodic::constant(1.0)), shift_error: 0.0 };
        let moved = vec![(max(), vec![1, 2]), (Op::Affine(Affine::Scale(shift)), vec![1])];
        let least =
            vec![(sum(1.0, -1.0), vec![4, 2]), (f(Arc::new(Relu)), vec![5]), (sum(1.0, -1.0), vec![4, 6])];
        close(with([moved, least, vec![(all(joined), vec![3, 7])]].concat()), 2f64.sqrt(), 1e-12);
    }
    // relu(x) beside relu(-x), and x - relu(x).
    let both = vec![(scale(-1.0), vec![0]), (f(Arc::new(Relu)), vec![0]), (f(Arc::new(Relu)), vec![1])];
    let mut both = graph(4, [both, vec![(all(rows), vec![2, 3])]].concat());
    both.nodes[3].shape = vec![1, 8];
    assert_eq!(network(&both).total, Some(1.0));
    let below = graph(4, vec![(f(Arc::new(Relu)), vec![0]), (sum(1.0, -1.0), vec![0, 1])]);
    assert_eq!(network(&below).total, Some(1.0));
    // All of a sorted group, however long.
    let groups = Groups::new((0..300).map(|_| 0..300));
    let sorted = Op::Product(Product::Rank { inputs: vec![300], groups, ranks: (0..300).collect() });
    assert_eq!(network(&graph(300, vec![(sorted, vec![0])])).total, Some(1.0));
}
