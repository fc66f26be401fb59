//! Random graphs, and their evaluation operator by operator from the definition.

use std::sync::Arc;

use tightrope::graph::{Graph, Node};
use tightrope::kernels::Window2d;
use tightrope::ops::*;

/// A small deterministic generator.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Uniform in `[-1, 1)`, an `f32`.
    pub(crate) fn unit(&mut self) -> f64 {
        f64::from((self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0)
    }

    pub(crate) fn units(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.unit()).collect()
    }
}

/// Every elementwise function that is defined on the whole line, or whose
/// domain the generator can keep to.
pub(crate) fn functions(random: &mut Random, len: usize) -> Vec<Arc<dyn Function>> {
    let slopes = Periodic::new(Weights::new(random.units(len)), 1);
    let limits = |shift: f64, r: &mut Random| {
        let single = |x: &f64| f64::from((x + shift) as f32);
        Periodic::new(Weights::new(r.units(len).iter().map(single).collect()), 1)
    };
    vec![
        Arc::new(Relu),
        Arc::new(LeakyRelu { slope: slopes }),
        Arc::new(Clip { low: limits(-1.5, random), high: limits(0.5, random) }),
        Arc::new(Abs),
        Arc::new(Sign),
        Arc::new(HardSwish),
        Arc::new(Exp),
        Arc::new(Sigmoid),
        Arc::new(Tanh),
        Arc::new(Softplus),
        Arc::new(Elu { alpha: 1.0, gamma: 1.0 }),
        Arc::new(Elu { alpha: random.unit(), gamma: random.unit() }),
        Arc::new(Erf),
        Arc::new(Gelu),
        Arc::new(GeluTanh),
        Arc::new(Log),
        Arc::new(Sqrt),
        Arc::new(Reciprocal),
        Arc::new(Pow { exponent: 2.0 }),
        Arc::new(Pow { exponent: 3.0 }),
        Arc::new(Pow { exponent: -1.0 }),
        Arc::new(Pow { exponent: 0.5 }),
        Arc::new(Sin),
        Arc::new(Cos),
        Arc::new(Silu),
        Arc::new(Mish),
        Arc::new(Softsign),
        Arc::new(Trigonometric::Tan),
        Arc::new(Trigonometric::Asin),
        Arc::new(Trigonometric::Acos),
        Arc::new(Trigonometric::Atan),
        Arc::new(Trigonometric::Sinh),
        Arc::new(Trigonometric::Cosh),
        Arc::new(Trigonometric::Asinh),
        Arc::new(Trigonometric::Acosh),
        Arc::new(Trigonometric::Atanh),
    ]
}

/// A network of `depth` random operators over values of `2 * 3 * 3` entries.
pub(crate) fn network(random: &mut Random, depth: usize) -> Graph {
    const LEN: usize = 18;
    let mut nodes: Vec<Node> = Vec::new();
    for i in 0..depth {
        let last = nodes.len();
        let other = random.below(last + 1);
        let (op, inputs) = match random.below(12) {
            0 => (Op::Affine(Affine::Dense(dense(random))), vec![last]),
            1 => (Op::Affine(Affine::Conv(conv(random))), vec![last]),
            2 => (Op::Affine(Affine::Scale(scale(random))), vec![last]),
            3 => {
                let coefficients = Weights::new(vec![random.unit(), 1.0]);
                (Op::Affine(Affine::Sum(Sum { len: LEN, coefficients })), vec![last, other])
            }
            4 => {
                let groups = Groups::new(
                    (0..LEN).map(|_| (0..random.below(4)).map(|_| random.below(2 * LEN)).collect::<Vec<_>>()),
                );
                let weights = Some(Weights::new(random.units(groups.entries())));
                let bias = Some(Periodic::new(Weights::new(random.units(LEN)), 1));
                (
                    Op::Affine(Affine::Sparse(Sparse { inputs: vec![LEN, LEN], groups, weights, bias })),
                    vec![last, other],
                )
            }
            5 => {
                let source: Vec<usize> = (0..LEN).map(|_| random.below(LEN)).collect();
                (Op::Affine(Affine::Sparse(Sparse::select(vec![LEN], source))), vec![last])
            }
            6 => (Op::Product(Product::Multiply), vec![last, other]),
            7 => {
                // Two 3 x 3 matrices on each side, paired crosswise.
                let op = MatMul { size: [3, 3, 3], stack: vec![[0, 1], [1, 0]], matrices: [2, 2] };
                (Op::Product(Product::MatMul(op)), vec![last, other])
            }
            8 | 9 => {
                let groups = Groups::new(
                    (0..LEN)
                        .map(|_| (0..=random.below(4)).map(|_| random.below(2 * LEN)).collect::<Vec<_>>()),
                );
                let inputs = vec![LEN, LEN];
                let ranks = groups.iter().map(|(_, group)| random.below(group.len()) as u32).collect();
                let op = match random.below(3) {
                    0 => Product::Max { inputs, groups },
                    1 => Product::Rank { inputs, groups, ranks },
                    _ => Product::LogSumExp { inputs, groups },
                };
                (Op::Product(op), vec![last, other])
            }
            _ => {
                let all = functions(random, LEN);
                (Op::Elementwise(all[random.below(all.len())].clone()), vec![last])
            }
        };
        nodes.push(Node {
            name: format!("n{i}"),
            origin: "test".into(),
            op,
            inputs,
            shape: vec![1, 2, 3, 3],
        });
    }
    Graph {
        input_name: "x".into(),
        input_shape: vec![1, 2, 3, 3],
        output: nodes.len(),
        nodes,
        output_shape: vec![1, LEN],
        folded: vec![],
    }
}

pub(crate) fn dense(random: &mut Random) -> Dense {
    Dense {
        rows: 3,
        inputs: 6,
        outputs: 6,
        weight: Weights::new(random.units(36)),
        bias: Some(Periodic::new(Weights::new(random.units(6)), 1)),
    }
}

/// Two channels of 3 x 3 to the same, by any of the window's features.
pub(crate) fn conv(random: &mut Random) -> Conv {
    let groups = 1 + random.below(2);
    let (kernel, pad, dilation) =
        [([3, 3], [1, 1], [1, 1]), ([1, 1], [0, 0], [1, 1]), ([2, 2], [1, 0], [2, 1])][random.below(3)];
    let window = Window2d { image: [3, 3], kernel, stride: [1, 1], dilation, pad, out: [3, 3] };
    Conv {
        channels: [2, 2],
        groups,
        weight: Weights::new(random.units(4 / groups * window.taps())),
        bias: Some(Periodic::new(Weights::new(random.units(2)), 9)),
        transposed: random.below(2) == 0,
        window,
    }
}

pub(crate) fn scale(random: &mut Random) -> Scale {
    Scale {
        len: 18,
        scale: Some(Periodic::new(Weights::new(random.units(2)), 9)),
        shift: Some(Periodic::new(Weights::new(random.units(3)), 1)),
        shift_error: 0.0,
    }
}

/// Values of all nodes for one input, each operator by its definition in f64.
pub(crate) fn evaluate(graph: &Graph, x: &[f64]) -> Vec<Vec<f64>> {
    let mut values = vec![x.to_vec()];
    for (i, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<&[f64]> = node.inputs.iter().map(|&v| &values[v][..]).collect();
        let out = match &node.op {
            Op::Affine(op) => affine(op, &inputs, graph.len(i + 1)),
            Op::Elementwise(f) => inputs[0].iter().enumerate().map(|(i, &x)| f.eval(i, x)).collect(),
            Op::Product(op) => product(op, &inputs),
        };
        values.push(out);
    }
    values
}

pub(crate) fn affine(op: &Affine, inputs: &[&[f64]], len: usize) -> Vec<f64> {
    let x = inputs[0];
    let mut out = vec![0.0; len];
    match op {
        Affine::Dense(d) => {
            for r in 0..d.rows {
                for j in 0..d.outputs {
                    for i in 0..d.inputs {
                        out[r * d.outputs + j] += x[r * d.inputs + i] * d.weight.exact()[i * d.outputs + j];
                    }
                }
            }
        }
        Affine::Conv(c) => convolve(c, x, &mut out),
        Affine::Scale(s) => {
            for (i, y) in out.iter_mut().enumerate() {
                *y = x[i] * s.scale.as_ref().map_or(1.0, |p| p.at(i));
            }
        }
        Affine::Sum(s) => {
            for (x, c) in inputs.iter().zip(s.coefficients.exact()) {
                out.iter_mut().zip(*x).for_each(|(y, x)| *y += c * x);
            }
        }
        Affine::Sparse(s) => {
            let x = inputs.concat();
            for (y, (first, group)) in out.iter_mut().zip(s.groups.iter()) {
                for (k, &j) in group.iter().enumerate() {
                    *y += s.weights.as_ref().map_or(1.0, |w| w.exact()[first + k]) * x[j as usize];
                }
            }
        }
    }
    if let Some(bias) = op.bias() {
        out.iter_mut().enumerate().for_each(|(i, y)| *y += bias.at(i));
    }
    out
}

/// Every tap of every window, one multiplication at a time.
fn convolve(c: &Conv, x: &[f64], out: &mut [f64]) {
    let w = &c.window;
    let [ins, outs] = c.channels.map(|n| n / c.groups);
    for g in 0..c.groups {
        for (o, i) in (0..outs).flat_map(|o| (0..ins).map(move |i| (o, i))) {
            for (ky, kx) in (0..w.kernel[0]).flat_map(|y| (0..w.kernel[1]).map(move |x| (y, x))) {
                for (oy, ox) in (0..w.out[0]).flat_map(|y| (0..w.out[1]).map(move |x| (y, x))) {
                    let iy = (oy * w.stride[0] + ky * w.dilation[0]).wrapping_sub(w.pad[0]);
                    let ix = (ox * w.stride[1] + kx * w.dilation[1]).wrapping_sub(w.pad[1]);
                    if iy >= w.image[0] || ix >= w.image[1] {
                        continue;
                    }
                    let tap = (((g * outs + o) * ins + i) * w.kernel[0] + ky) * w.kernel[1] + kx;
                    let from = ((g * ins + i) * w.image[0] + iy) * w.image[1] + ix;
                    let to = ((g * outs + o) * w.out[0] + oy) * w.out[1] + ox;
                    let (from, to) = if c.transposed { (to, from) } else { (from, to) };
                    out[to] += c.weight.exact()[tap] * x[from];
                }
            }
        }
    }
}

fn product(op: &Product, inputs: &[&[f64]]) -> Vec<f64> {
    match op {
        Product::Multiply => inputs[0].iter().zip(inputs[1]).map(|(x, y)| x * y).collect(),
        Product::MatMul(op) => {
            let [m, k, n] = op.size;
            let mut out = Vec::new();
            for &[a, b] in &op.stack {
                for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                    let term = |p: usize| {
                        inputs[0][(a as usize * m + i) * k + p] * inputs[1][(b as usize * k + p) * n + j]
                    };
                    out.push((0..k).map(term).sum());
                }
            }
            out
        }
        Product::Max { groups, .. } | Product::Rank { groups, .. } | Product::LogSumExp { groups, .. } => {
            let x = inputs.concat();
            let entries = |group: &[u32]| group.iter().map(|&j| x[j as usize]).collect::<Vec<_>>();
            groups
                .iter()
                .enumerate()
                .map(|(i, (_, group))| {
                    let mut group = entries(group);
                    if group.iter().any(|x| x.is_nan()) {
                        return f64::NAN;
                    }
                    let top = group.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    match op {
                        Product::LogSumExp { .. } if top.is_finite() => {
                            top + group.iter().map(|x| (x - top).exp()).sum::<f64>().ln()
                        }
                        Product::Rank { ranks, .. } => {
                            group.sort_by(f64::total_cmp);
                            group[group.len() - 1 - ranks[i] as usize]
                        }
                        _ => top,
                    }
                })
                .collect()
        }
    }
}
