//! One node as a backward pass sees it for one input set: what its result is
//! replaced by, and what the replacement costs in rounding.

use crate::bounds::rounding::{gamma, underflow};
use crate::bounds::{Intervals, rounding};
use crate::graph::Graph;
use crate::ops::{Hint, Line, Lines, Op, Order};

/// A linear function of a node's result has coefficients `a`. Going backward
/// it becomes one of the node's inputs. The new coefficients and constants are
/// rounded; since all values are known to lie in intervals, that changes the
/// function by no more than `sum |a_i| charge_i + floor`, and from then on the
/// rounded coefficients count as exact.
pub(super) struct Step {
    pub(super) kind: Kind,
    /// Cost for a coefficient of 1 on each entry of the result.
    pub(super) charge: Vec<f64>,
    /// Whether all constants and costs are finite, so that an entry with
    /// coefficient 0 adds 0.
    pub(super) finite: bool,
    /// Cost of underflow.
    pub(super) floor: f64,
}

pub(super) enum Kind {
    /// The bias of an affine map; its coefficients stay in the graph.
    Affine { offset: Vec<f64> },
    /// Lines below and above each entry, as functions of the node's input or,
    /// after [`Step::fold`], of the linear part of the affine map before it.
    Elementwise { lines: Vec<[Line; 2]>, choices: Option<Vec<[Lines; 2]>> },
    /// Planes below and above each entry.
    Product { planes: Vec<[Plane; 2]> },
}

/// A plane over the inputs of a node: `(input, place of the entry, coefficient)`
/// and a constant.
#[derive(Clone, Default)]
pub(super) struct Plane {
    pub(super) terms: Vec<(usize, usize, f64)>,
    pub(super) offset: f64,
}

impl Step {
    /// Node `index`, whose inputs have these bounds. With `choices` also the
    /// lines at both ends of what elementwise functions allow. Entries stand
    /// in the `orders` of their values. An affine node, `A x + b`, needs `sums`,
    /// `|A|` times the greatest `|x|`.
    pub(super) fn new(
        graph: &Graph,
        index: usize,
        values: &[Intervals],
        orders: &[Order],
        sums: &[f64],
        choices: bool,
    ) -> Self {
        let node = &graph.nodes[index];
        let len = graph.len(index + 1);
        let entries = orders[index + 1].entries(len);
        let sizes: Vec<Vec<f64>> = node.inputs.iter().map(|&v| values[v].magnitudes()).collect();
        let total: f64 = sizes.iter().flatten().sum();
        match &node.op {
            Op::Affine(op) => {
                let terms = op.adjoint_terms();
                let error = (gamma(terms) + 2.0 * op.relative_error()) * (1.0 + gamma(op.terms()));
                let bias_error = op.bias_error() * (1.0 + f64::EPSILON);
                let offset: Vec<f64> =
                    op.bias().map_or(Vec::new(), |b| entries.clone().map(|i| b.at(i)).collect());
                let biases = offset.iter().copied().chain(std::iter::repeat(0.0));
                let of = |(i, bias): (usize, f64)| error * sums[i] + gamma(len) * bias.abs() + bias_error;
                let charge: Vec<f64> = entries.zip(biases).map(of).collect();
                let floor = underflow(terms) * (1.0 + total);
                let finite = all_finite(offset.iter().chain(&charge));
                Self { kind: Kind::Affine { offset }, charge, finite, floor }
            }
            Op::Elementwise(function) => {
                let x = &values[node.inputs[0]];
                let lines = |hint| -> Vec<Lines> {
                    entries.clone().map(|i| function.lines(i, x.lower[i], x.upper[i], hint)).collect()
                };
                let hinted = |t| lines(Hint { lower: Some(t), upper: Some(t) });
                let default = lines(Hint::default());
                let choices = choices.then(|| {
                    hinted(0.0).into_iter().zip(hinted(1.0)).map(|(a, b)| [a, b]).collect::<Vec<_>>()
                });
                let charge: Vec<f64> = entries
                    .clone()
                    .enumerate()
                    .map(|(place, i)| {
                        let all = choices.as_ref().map_or([default[place]; 2], |c| c[place]);
                        let worst = |side: fn(&Lines) -> Line| {
                            let used = [side(&default[place]), side(&all[0]), side(&all[1])];
                            let slopes: f64 = used.iter().map(|line| line.slope.abs()).sum();
                            let offsets: f64 = used.iter().map(|line| line.offset.abs()).sum();
                            let slopes = if slopes == 0.0 { 0.0 } else { slopes * sizes[0][i] };
                            gamma(0) * slopes + gamma(len) * offsets
                        };
                        worst(|l| l.lower).max(worst(|l| l.upper))
                    })
                    .collect();
                let floor = rounding::underflow(len) * (1.0 + total);
                let lines: Vec<[Line; 2]> = default.iter().map(|l| [l.lower, l.upper]).collect();
                let mut step =
                    Self { kind: Kind::Elementwise { lines, choices }, charge, finite: false, floor };
                step.settle();
                step
            }
            Op::Product(op) => {
                let bounds: Vec<_> =
                    node.inputs.iter().map(|&v| (&values[v].lower[..], &values[v].upper[..])).collect();
                let place = |input: usize, entry: usize| orders[node.inputs[input]].place(entry);
                let sizes: Vec<Vec<f64>> = (node.inputs.iter().zip(&sizes))
                    .map(|(&v, sizes)| orders[v].entries(sizes.len()).map(|i| sizes[i]).collect())
                    .collect();
                let mut planes = Vec::with_capacity(len);
                let mut uses: Vec<Vec<usize>> = sizes.iter().map(|s| vec![0; s.len()]).collect();
                op.planes(&bounds, |_, lower, upper| {
                    let pair = [lower, upper].map(|plane| Plane {
                        terms: plane
                            .terms
                            .iter()
                            .map(|t| (t.input, place(t.input, t.entry), t.coefficient))
                            .collect(),
                        offset: plane.offset,
                    });
                    for &(input, entry, _) in pair.iter().flat_map(|p| &p.terms) {
                        uses[input][entry] += 1;
                    }
                    planes.push(pair);
                });
                // Each input entry collects at most this many terms.
                let most = uses.iter().flatten().max().copied().unwrap_or(0);
                let cost = |plane: &Plane| {
                    let terms = plane.terms.iter().map(|&(v, i, c)| c.abs() * sizes[v][i]);
                    gamma(most) * terms.sum::<f64>() + gamma(len) * plane.offset.abs()
                };
                let charge: Vec<f64> = planes.iter().map(|[low, high]| cost(low).max(cost(high))).collect();
                let floor = underflow(most) * (1.0 + total);
                Self { kind: Kind::Product { planes }, charge, finite: false, floor }
            }
        }
    }

    /// Takes the constants and costs of the affine map before an elementwise
    /// function into the lines: `s (z + b) + o = s z + (s b + o)`.
    pub(super) fn fold(&mut self, before: &Self) {
        let (Kind::Elementwise { lines, choices }, Kind::Affine { offset }) = (&mut self.kind, &before.kind)
        else {
            return;
        };
        let terms = gamma(lines.len());
        for (i, charge) in self.charge.iter_mut().enumerate() {
            let bias = offset.get(i).copied().unwrap_or(0.0);
            let chosen = choices.as_mut().map(|c| &mut c[i]).into_iter().flatten();
            let chosen = chosen.flat_map(|Lines { lower, upper }| [lower, upper]);
            let (mut steepest, mut largest) = (0.0_f64, 0.0_f64);
            for line in lines[i].iter_mut().chain(chosen) {
                steepest = steepest.max(line.slope.abs());
                largest += (line.slope * bias).abs();
                line.offset += line.slope * bias;
            }
            let passed = if steepest == 0.0 { 0.0 } else { steepest * before.charge[i] };
            // Of `s b`, its sum with `o`, and the sums that it enters.
            *charge = (*charge * (1.0 + terms) + 2.0 * terms * largest + passed) * (1.0 + gamma(0));
        }
        self.settle();
    }

    /// Finds out whether the lines and charges of a function are finite.
    fn settle(&mut self) {
        let Kind::Elementwise { lines, choices } = &self.kind else { return };
        let chosen = choices.iter().flatten().flatten().flat_map(|l| [l.lower, l.upper]);
        let all = lines.iter().flatten().copied().chain(chosen);
        self.finite = all.map(|line| line.offset).chain(self.charge.iter().copied()).all(f64::is_finite);
    }
}

fn all_finite<'a>(mut values: impl Iterator<Item = &'a f64>) -> bool {
    values.all(|x| x.is_finite())
}
