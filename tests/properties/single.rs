//! Evaluation of a graph in f32 in one of the many ways that run times have: orders and trees of sums, fused
//! and unfused multiply-adds, wider accumulators, flushed subnormal numbers, formulas of functions.

use tightrope::graph::Graph;
use tightrope::ops::*;

use crate::networks::{Random, affine};

/// One way to evaluate.
#[expect(clippy::struct_excessive_bools, reason = "independent choices")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// Whether subnormal results and operands become 0.
    flush: bool,
    fused: bool,
    /// 0 natural, 1 reversed, 2 and 3 sorted by size, else shuffled.
    order: usize,
    /// 0 one after the other, 1 in f64, 2 pairwise, 3 in lanes, else a random tree.
    tree: usize,
    bias_first: bool,
    /// Functions by the formulas of run times, and not rounded from f64.
    formulas: bool,
}

impl Way {
    pub(crate) fn random(random: &mut Random) -> Self {
        let mut coin = || random.below(2) == 0;
        let [flush, fused, bias_first, formulas] = std::array::from_fn(|_| coin());
        Self { flush, fused, bias_first, formulas, order: random.below(6), tree: random.below(6) }
    }

    /// One term after the other, as a loop would.
    pub(crate) fn plain() -> Self {
        Self { flush: false, fused: false, order: 0, tree: 0, bias_first: false, formulas: true }
    }

    fn value(self, x: f32) -> f32 {
        if self.flush && x.abs() < f32::MIN_POSITIVE { 0.0 } else { x }
    }

    /// `sum w x + bias`.
    fn sum(self, random: &mut Random, mut terms: Vec<[f32; 2]>, bias: f32) -> f32 {
        for x in terms.as_flattened_mut() {
            *x = self.value(*x);
        }
        let size = |[w, x]: &[f32; 2]| (f64::from(*w) * f64::from(*x)).abs();
        match self.order {
            0 => (),
            1 => terms.reverse(),
            2 => terms.sort_by(|a, b| size(a).total_cmp(&size(b))),
            3 => terms.sort_by(|a, b| size(b).total_cmp(&size(a))),
            _ => (1..terms.len()).rev().for_each(|i| terms.swap(i, random.below(i + 1))),
        }
        if self.tree == 1 {
            let sum: f64 = terms.iter().map(|&[w, x]| f64::from(w) * f64::from(x)).sum();
            return self.value((sum + f64::from(bias)) as f32);
        }
        let (first, last) = if self.bias_first { (bias, 0.0) } else { (0.0, bias) };
        let add = |a: f32, b: f32| self.value(a + b);
        let step = |sum: f32, &[w, x]: &[f32; 2]| {
            self.value(if self.fused { w.mul_add(x, sum) } else { sum + self.value(w * x) })
        };
        let sum = match self.tree {
            0 => terms.iter().fold(first, step),
            3 => {
                let lane = |l: usize| terms.iter().skip(l).step_by(4).fold(0.0, step);
                add(first, add(add(lane(0), lane(2)), add(lane(1), lane(3))))
            }
            _ => {
                let mut parts: Vec<f32> = terms.iter().map(|term| step(0.0, term)).collect();
                parts.push(first);
                while parts.len() > 1 {
                    if self.tree == 2 {
                        parts =
                            parts.chunks(2).map(|p| p.iter().copied().reduce(add).unwrap_or(0.0)).collect();
                    } else {
                        let a = parts.swap_remove(random.below(parts.len()));
                        let b = parts.swap_remove(random.below(parts.len()));
                        parts.push(add(a, b));
                    }
                }
                parts[0]
            }
        };
        add(sum, last)
    }

    /// A function of a number, off by some units in the last place, or by a formula in f32.
    fn function(self, random: &mut Random, function: &dyn Function, i: usize, x: f32) -> f32 {
        let x = self.value(x);
        let y = function.eval(i, f64::from(x));
        let exact = matches!(function.name(), "relu" | "clip" | "abs" | "sign" | "leaky relu" | "sqrt");
        let gate = |g: f32| if x == f32::NEG_INFINITY { 0.0 } else { x * g };
        let logistic = 1.0 / (1.0 + (-x).exp());
        let formula = match function.name() {
            "sigmoid" => Some(logistic),
            "silu" => Some(gate(logistic)),
            "softplus" => Some(if x > 0.0 { x + ((-x).exp() + 1.0).ln() } else { (x.exp() + 1.0).ln() }),
            "mish" => Some(gate((x.exp() + 1.0).ln().tanh())).filter(|y| y.is_finite()),
            "gelu" => Some(gate(0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)))),
            "gelu (tanh)" => Some(gate(0.5 * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh()))),
            "hard swish" => Some(x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
            "softsign" => Some(x / (1.0 + x.abs())),
            "exp" => Some(x.exp()),
            "tanh" => Some(x.tanh()),
            "sin" => Some(x.sin()),
            "cos" => Some(x.cos()),
            "log" => Some(x.ln()),
            "tan" => Some(x.tan()),
            "asin" => Some(x.asin()),
            "acos" => Some(std::f32::consts::FRAC_PI_2 - x.asin()),
            "atan" => Some(x.atan()),
            "sinh" => {
                Some((0.5 * x).exp() * (0.5 * x).exp() * 0.5 - 0.5 * (-x).exp()).filter(|y| y.is_finite())
            }
            "cosh" => Some(x.cosh()),
            "asinh" => Some((x.abs() + (x * x + 1.0).sqrt()).ln().copysign(x)).filter(|y| y.is_finite()),
            "acosh" => Some(x.acosh()),
            "atanh" => Some(0.5 * ((1.0 + x) / (1.0 - x)).ln()),
            _ => None,
        };
        let off = if exact { 0.0 } else { [-6.0, 0.0, 6.0][random.below(3)] };
        let near = (y * (1.0 + off * f64::from(f32::EPSILON))) as f32;
        self.value(formula.filter(|_| self.formulas).unwrap_or(near))
    }

    /// Every value of the graph at a point of f32; `rows` as [`rows`] finds them.
    pub(crate) fn evaluate(
        self,
        random: &mut Random,
        graph: &Graph,
        rows: &[Rows],
        x: &[f32],
    ) -> Vec<Vec<f32>> {
        let mut values = vec![x.to_vec()];
        for (node, rows) in graph.nodes.iter().zip(rows) {
            let inputs: Vec<&[f32]> = node.inputs.iter().map(|&v| &values[v][..]).collect();
            let all = inputs.concat();
            let out = match &node.op {
                Op::Affine(op) if op.is_selection() => {
                    let value =
                        |(terms, bias): &(Vec<(usize, f32)>, f32)| terms.first().map_or(*bias, |t| all[t.0]);
                    rows.iter().map(value).collect()
                }
                Op::Affine(_) => rows
                    .iter()
                    .map(|(terms, bias)| {
                        let terms = terms.iter().map(|&(j, w)| [w, all[j]]).collect();
                        self.sum(random, terms, self.value(*bias))
                    })
                    .collect(),
                Op::Elementwise(function) => {
                    let all = inputs[0].iter().enumerate();
                    all.map(|(i, &x)| self.function(random, &**function, i, x)).collect()
                }
                Op::Product(op) => self.product(random, op, &inputs, &all),
            };
            values.push(out);
        }
        values
    }

    fn product(self, random: &mut Random, op: &Product, inputs: &[&[f32]], all: &[f32]) -> Vec<f32> {
        match op {
            Product::Multiply => {
                let factors = inputs[0].iter().zip(inputs[1]);
                factors.map(|(&x, &y)| self.value(self.value(x) * self.value(y))).collect()
            }
            Product::MatMul(op) => {
                let [m, k, n] = op.size;
                let mut out = Vec::new();
                for &[a, b] in &op.stack {
                    for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                        let left = |p: usize| inputs[0][(a as usize * m + i) * k + p];
                        let terms = (0..k).map(|p| [left(p), inputs[1][(b as usize * k + p) * n + j]]);
                        out.push(self.sum(random, terms.collect(), 0.0));
                    }
                }
                out
            }
            Product::Max { .. } | Product::Rank { .. } => {
                let mut out = vec![0.0; op_len(op)];
                op.eval(1, inputs, &mut out, &mut Vec::new());
                out
            }
            Product::LogSumExp { groups, .. } => groups
                .iter()
                .map(|(_, group)| {
                    let group: Vec<f32> = group.iter().map(|&j| all[j as usize]).collect();
                    let top = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let terms = group.iter().map(|x| [1.0, (x - top).exp()]).collect();
                    self.value(top + self.sum(random, terms, 0.0).ln())
                })
                .collect(),
        }
    }
}

fn op_len(op: &Product) -> usize {
    let (Product::Max { groups, .. } | Product::Rank { groups, .. }) = op else { return 0 };
    groups.len()
}

/// For each entry of an affine node the terms that are not zero, as entries of all inputs and weights, and
/// the bias; nothing for other nodes.
pub(crate) type Rows = Vec<(Vec<(usize, f32)>, f32)>;

/// The rows of all nodes, by their definition on unit vectors. Weights must be sums of two numbers of f32.
pub(crate) fn rows(graph: &Graph) -> Vec<Rows> {
    let of = |(index, node): (usize, &tightrope::graph::Node)| {
        let Op::Affine(op) = &node.op else { return Rows::new() };
        let lens: Vec<usize> = node.inputs.iter().map(|&v| graph.len(v)).collect();
        let bias = (0..graph.len(index + 1)).map(|i| op.bias().map_or(0.0, |bias| bias.at(i)));
        let mut rows: Rows = bias.map(|bias| (Vec::new(), bias as f32)).collect();
        let mut linear = op.clone();
        match &mut linear {
            Affine::Dense(op) => op.bias = None,
            Affine::Conv(op) => op.bias = None,
            Affine::Scale(op) => op.shift = None,
            Affine::Sum(_) => (),
            Affine::Sparse(op) => op.bias = None,
        }
        for j in 0..lens.iter().sum() {
            let mut unit = vec![0.0; lens.iter().sum()];
            unit[j] = 1.0;
            let mut rest = &unit[..];
            let inputs = lens.iter().map(|&len| {
                let (part, tail) = rest.split_at(len);
                rest = tail;
                part
            });
            let column = affine(&linear, &inputs.collect::<Vec<_>>(), graph.len(index + 1));
            for ((terms, _), w) in rows.iter_mut().zip(column) {
                let high = w as f32;
                let low = (w - f64::from(high)) as f32;
                terms.extend([high, low].into_iter().filter(|w| *w != 0.0).map(|w| (j, w)));
            }
        }
        rows
    };
    graph.nodes.iter().enumerate().map(of).collect()
}
