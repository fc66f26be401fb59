//! The third kind: joint functions of several activations. Products proper,
//! and the maximum and its smooth form, which answer the same questions. What
//! they say of their planes is in `planes`; every analysis asks, none matches.

use std::collections::HashMap;

use super::sparse::{Groups, gather_inputs};
use crate::kernels::{Matrix, Scalar, matmul};
use crate::rounding::{FLUSHED, LARGEST, UNIT, single_gamma, single_underflow};

/// A joint function of several activations.
#[derive(Clone, Debug)]
pub enum Product {
    /// Entry by entry `x * y` of two tensors of one shape.
    Multiply,
    /// Matrix product of two activations.
    MatMul(MatMul),
    /// Maximum of each group of entries of the concatenated inputs.
    Max {
        /// Entries of each input.
        inputs: Vec<usize>,
        /// Which entries each output is the maximum of; none is empty.
        groups: Groups,
    },
    /// The entry of a given rank in each group of entries.
    Rank {
        /// Entries of each input.
        inputs: Vec<usize>,
        /// Which entries each output is one of; none is empty.
        groups: Groups,
        /// For each output, how many entries of its group are greater, ties apart.
        ranks: Vec<u32>,
    },
    /// `ln sum exp` of each group of entries.
    LogSumExp {
        /// Entries of each input.
        inputs: Vec<usize>,
        /// Which entries each output sums over; none is empty.
        groups: Groups,
    },
}

/// `stack` matrix products `left_i right_i`, where operands may repeat.
#[derive(Clone, Debug)]
pub struct MatMul {
    /// Rows, inner dimension and columns.
    pub size: [usize; 3],
    /// For each product, which matrix of the left and of the right operand.
    pub stack: Vec<[u32; 2]>,
    /// Number of matrices in the left and in the right operand.
    pub matrices: [usize; 2],
}

impl MatMul {
    /// The two factors and the result of each product for input `b`.
    fn each<'a, T>(
        &'a self,
        b: usize,
        left: &'a [T],
        right: &'a [T],
    ) -> impl Iterator<Item = (&'a [T], &'a [T])> {
        let [m, k, n] = self.size;
        self.stack.iter().map(move |&[i, j]| {
            let i = b * self.matrices[0] + i as usize;
            let j = b * self.matrices[1] + j as usize;
            (&left[i * m * k..][..m * k], &right[j * k * n..][..k * n])
        })
    }
}

/// Lower and upper bounds of every entry of a tensor.
pub(super) type Bounds<'a> = (&'a [f64], &'a [f64]);

impl Product {
    /// Values for `batch` inputs.
    pub fn eval<T: Scalar>(&self, batch: usize, inputs: &[&[T]], out: &mut [T], scratch: &mut Vec<T>) {
        match self {
            Self::Multiply => {
                for ((z, &x), &y) in out.iter_mut().zip(inputs[0]).zip(inputs[1]) {
                    *z = x * y;
                }
            }
            Self::MatMul(op) => {
                let [m, k, n] = op.size;
                let mut results = out.chunks_exact_mut(m * n);
                for b in 0..batch {
                    for ((x, y), z) in op.each(b, inputs[0], inputs[1]).zip(&mut results) {
                        matmul(z, Matrix::new(x, m, k), Matrix::new(y, k, n), false);
                    }
                }
            }
            Self::Max { inputs: lens, groups } => reduce(lens, groups, batch, inputs, out, scratch, max),
            Self::Rank { inputs: lens, groups, ranks } => {
                for b in 0..batch {
                    let x = gather_inputs(lens, b, inputs, scratch);
                    let out = &mut out[b * groups.len()..];
                    for ((y, (_, group)), &rank) in out.iter_mut().zip(groups.iter()).zip(ranks) {
                        let undefined = group.iter().any(|&j| x[j as usize].is_nan());
                        *y = if undefined { T::nan() } else { x[ranked(x, group, rank) as usize] };
                    }
                }
            }
            Self::LogSumExp { inputs: lens, groups } => {
                reduce(lens, groups, batch, inputs, out, scratch, |x, group| {
                    T::of(log_sum_exp(group.iter().map(|&j| x[j as usize].wide())))
                });
            }
        }
    }

    /// Interval bounds for `batch` inputs: exact ranges of each entry, rounded
    /// outward; NaN where an operand may be undefined.
    pub fn interval(
        &self,
        batch: usize,
        inputs: &[Bounds],
        lower: &mut [f64],
        upper: &mut [f64],
        scratch: &mut Vec<f64>,
    ) {
        let lowers: Vec<&[f64]> = inputs.iter().map(|x| x.0).collect();
        let uppers: Vec<&[f64]> = inputs.iter().map(|x| x.1).collect();
        match self {
            Self::Multiply => {
                let sides = lowers[0].iter().zip(uppers[0]).zip(lowers[1].iter().zip(uppers[1]));
                for ((l, u), ((&xl, &xu), (&yl, &yu))) in lower.iter_mut().zip(&mut *upper).zip(sides) {
                    let (least, greatest) = multiply([xl, xu], [yl, yu]);
                    (*l, *u) = (least.next_down(), greatest.next_up());
                }
            }
            Self::MatMul(op) => op.interval(batch, &lowers, &uppers, lower, upper),
            // All of these are monotone in every argument.
            Self::Max { inputs: lens, groups } => {
                reduce(lens, groups, batch, &lowers, lower, scratch, max);
                reduce(lens, groups, batch, &uppers, upper, scratch, max);
            }
            Self::Rank { .. } => {
                self.eval(batch, &lowers, lower, scratch);
                self.eval(batch, &uppers, upper, scratch);
            }
            Self::LogSumExp { inputs: lens, groups } => {
                let rounded = |side: f64| {
                    move |x: &[f64], group: &[u32]| {
                        let y = log_sum_exp(group.iter().map(|&j| x[j as usize]));
                        // Each of the `len` terms of the sum, which is at least
                        // 1, has a relative error of a few units, as have the
                        // logarithm and the final addition; the differences
                        // from the maximum have absolute errors relative to
                        // themselves, and each e^-d weighs d by d e^-d < 1.
                        let error = (group.len() as f64 + 16.0) * 4.0 * f64::EPSILON;
                        y + side * error * (1.0 + y.abs())
                    }
                };
                reduce(lens, groups, batch, &lowers, lower, scratch, rounded(-1.0));
                reduce(lens, groups, batch, &uppers, upper, scratch, rounded(1.0));
            }
        }
    }

    /// For every entry of the result for `batch` inputs, how far an evaluation in f32 may lie from the exact
    /// function of operands in these intervals; `magnitudes` are the greatest absolute values of the result.
    /// Infinite where it may overflow on the way. Empty for selections, which do not round.
    ///
    /// Log-sum-exp is evaluated behind the maximum `m` of its group, and so are softmaxes, whose quotients
    /// `e^(x - m) / sum` become differences here: the rounding of `x_i - m` weighs `d e^-d < 1` beside a sum
    /// of at least 1, and that of the sum is relative, as are exponential, logarithm and division.
    #[must_use]
    pub fn single_errors(&self, batch: usize, inputs: &[Bounds], magnitudes: &[f64]) -> Vec<f64> {
        let most =
            |x: &Bounds| -> Vec<f64> { x.0.iter().zip(x.1).map(|(l, u)| l.abs().max(u.abs())).collect() };
        match self {
            Self::Max { .. } | Self::Rank { .. } => Vec::new(),
            Self::Multiply => {
                magnitudes.iter().map(|size| single_gamma(1) * size + single_underflow(1)).collect()
            }
            Self::MatMul(op) => {
                let [m, k, n] = op.size;
                let [x, y] = [0, 1].map(|side| most(&inputs[side]));
                let mut sums = vec![0.0; batch * op.stack.len() * m * n];
                let mut results = sums.chunks_exact_mut(m * n);
                for b in 0..batch {
                    for ((x, y), z) in op.each(b, &x, &y).zip(&mut results) {
                        matmul(z, Matrix::new(x, m, k), Matrix::new(y, k, n), false);
                    }
                }
                let relative = single_gamma(k) * (1.0 + (k as f64 + 8.0) * f64::EPSILON);
                let error = |sum: f64| {
                    if sum <= LARGEST { relative * sum + single_underflow(k) } else { f64::INFINITY }
                };
                sums.into_iter().map(error).collect()
            }
            Self::LogSumExp { groups, .. } => {
                // The exponentials and their exponents, the sum, the logarithm (at most ln n < 24), and a
                // division: 16 units each of elementary functions.
                let n = groups.longest();
                let absolute = single_gamma(4 * n + 16 * 26) + n as f64 * FLUSHED;
                magnitudes.iter().map(|size| absolute + 4.0 * UNIT * size).collect()
            }
        }
    }

    /// What it computes, for messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Multiply => "a product of activations",
            Self::MatMul(_) => "a matrix product of activations",
            Self::Max { .. } => "a maximum",
            Self::Rank { .. } => "a sorted value",
            Self::LogSumExp { .. } => "log-sum-exp",
        }
    }

    /// Adds to `parts`, one for each input, the gradient of `sum y . out` for `batch` inputs; `out` are the
    /// values. At a tie, one that points somewhere.
    pub fn gradient(&self, batch: usize, inputs: &[&[f32]], out: &[f32], y: &[f32], parts: &mut [Vec<f32>]) {
        match self {
            Self::Multiply => {
                for side in 0..2 {
                    for (part, (y, other)) in parts[side].iter_mut().zip(y.iter().zip(inputs[1 - side])) {
                        *part += y * other;
                    }
                }
            }
            Self::MatMul(op) => op.gradient(batch, inputs, y, parts),
            Self::Max { inputs: lens, groups } | Self::Rank { inputs: lens, groups, .. } => {
                let chosen = self.chosen(lens, groups, batch, inputs);
                let places = places(lens);
                for (k, (&j, y)) in chosen.iter().zip(y).enumerate() {
                    let (v, entry) = places[j as usize];
                    parts[v][k / groups.len() * lens[v] + entry] += y;
                }
            }
            Self::LogSumExp { inputs: lens, groups } => {
                let places = places(lens);
                for (k, (y, out)) in y.iter().zip(out).enumerate() {
                    for &j in groups.get(k % groups.len()).1 {
                        let (v, entry) = places[j as usize];
                        let at = k / groups.len() * lens[v] + entry;
                        parts[v][at] += y * (inputs[v][at] - out).exp();
                    }
                }
            }
        }
    }

    /// Squares of Lipschitz constants in the l2 norm, exact: of the whole, and in each input alone. `None`
    /// where there are none.
    ///
    /// A maximum, sorted value or log-sum-exp of a group moves by at most the largest change of an entry, hence by at
    /// most the l2 norm of the group's changes; an entry counts once for every group that it is in. Sorted values of
    /// one and the same group are different entries of it, so they count once together.
    #[must_use]
    pub fn squared_lipschitz(&self) -> Option<(f64, Vec<f64>)> {
        let (Self::Max { inputs: lens, groups }
        | Self::Rank { inputs: lens, groups, .. }
        | Self::LogSumExp { inputs: lens, groups }) = self
        else {
            return None;
        };
        let mut counts = vec![0_u32; lens.iter().sum()];
        if let Self::Rank { ranks, .. } = self {
            // For every group, how often each of its ranks is asked for.
            let mut asked: HashMap<&[u32], HashMap<u32, u32>> = HashMap::new();
            for ((_, group), &rank) in groups.iter().zip(ranks) {
                *asked.entry(group).or_default().entry(rank).or_default() += 1;
            }
            for (group, ranks) in asked {
                let most = ranks.into_values().max().unwrap_or(0);
                for &j in group {
                    counts[j as usize] += most;
                }
            }
        } else {
            groups.iter().flat_map(|(_, group)| group).for_each(|&j| counts[j as usize] += 1);
        }
        let most = |counts: &[u32]| f64::from(counts.iter().copied().max().unwrap_or(0));
        let mut rest = &counts[..];
        let parts = lens.iter().map(|&len| {
            let (part, tail) = rest.split_at(len);
            rest = tail;
            most(part)
        });
        let parts = parts.collect();
        Some((most(&counts), parts))
    }

    /// Whether every result is one of the operands, so that the function is piecewise linear and nothing
    /// rounds.
    #[must_use]
    pub fn is_selection(&self) -> bool {
        matches!(self, Self::Max { .. } | Self::Rank { .. })
    }

    /// For `batch` inputs, which entry of the concatenated operands each result is: of equal ones the
    /// first. `None` unless it [is a selection](Self::is_selection).
    #[must_use]
    pub fn selection(&self, batch: usize, inputs: &[&[f64]]) -> Option<Vec<u32>> {
        match self {
            Self::Max { inputs: lens, groups } | Self::Rank { inputs: lens, groups, .. } => {
                Some(self.chosen(lens, groups, batch, inputs))
            }
            Self::Multiply | Self::MatMul(_) | Self::LogSumExp { .. } => None,
        }
    }

    /// `[a, b]` such that [`Product::eval`] in `f32` errs by at most `2^-24 (a |value| + b)` in every
    /// entry; `None` where that depends on the operands.
    #[must_use]
    pub fn evaluation_error(&self) -> Option<[f64; 2]> {
        match self {
            Self::Max { .. } | Self::Rank { .. } => Some([0.0; 2]),
            // In f64 it is relative to 1 + |value|; then it is rounded once.
            Self::LogSumExp { groups, .. } if groups.longest() < 1 << 24 => Some([2.0; 2]),
            Self::Multiply | Self::MatMul(_) | Self::LogSumExp { .. } => None,
        }
    }

    pub(super) fn multiply_adds(&self, len: usize) -> usize {
        match self {
            Self::Multiply => len,
            Self::MatMul(op) => op.stack.len() * op.size.iter().product::<usize>(),
            Self::Max { groups, .. } | Self::Rank { groups, .. } | Self::LogSumExp { groups, .. } => {
                groups.entries()
            }
        }
    }

    /// The entries that a selection selects.
    fn chosen<T: Scalar>(&self, lens: &[usize], groups: &Groups, batch: usize, inputs: &[&[T]]) -> Vec<u32> {
        let (mut chosen, mut scratch) = (Vec::with_capacity(batch * groups.len()), Vec::new());
        for b in 0..batch {
            let x = gather_inputs(lens, b, inputs, &mut scratch);
            chosen.extend(groups.iter().enumerate().map(|(i, (_, group))| match self {
                Self::Rank { ranks, .. } => ranked(x, group, ranks[i]),
                _ => ranked(x, group, 0),
            }));
        }
        chosen
    }
}

impl MatMul {
    fn gradient(&self, batch: usize, inputs: &[&[f32]], y: &[f32], parts: &mut [Vec<f32>]) {
        let [m, k, n] = self.size;
        for b in 0..batch {
            for (s, &[left, right]) in self.stack.iter().enumerate() {
                let left = (b * self.matrices[0] + left as usize) * m * k;
                let right = (b * self.matrices[1] + right as usize) * k * n;
                let y = &y[(b * self.stack.len() + s) * m * n..][..m * n];
                for i in 0..m {
                    for j in 0..n {
                        for p in 0..k {
                            parts[0][left + i * k + p] += y[i * n + j] * inputs[1][right + p * n + j];
                            parts[1][right + p * n + j] += y[i * n + j] * inputs[0][left + i * k + p];
                        }
                    }
                }
            }
        }
    }

    fn interval(
        &self,
        batch: usize,
        lowers: &[&[f64]],
        uppers: &[&[f64]],
        lower: &mut [f64],
        upper: &mut [f64],
    ) {
        let [m, k, n] = self.size;
        let mut results = lower.chunks_exact_mut(m * n).zip(upper.chunks_exact_mut(m * n));
        for b in 0..batch {
            let sides = self.each(b, lowers[0], lowers[1]).zip(self.each(b, uppers[0], uppers[1]));
            for (((xl, yl), (xu, yu)), (lower, upper)) in sides.zip(&mut results) {
                for i in 0..m {
                    for j in 0..n {
                        let (mut least, mut greatest, mut size) = (0.0, 0.0, 0.0);
                        for p in 0..k {
                            let x = [xl[i * k + p], xu[i * k + p]];
                            let y = [yl[p * n + j], yu[p * n + j]];
                            let (a, b) = multiply(x, y);
                            least += a;
                            greatest += b;
                            size += a.abs().max(b.abs());
                        }
                        // gamma_{k+1} * sum |x||y| covers products and sum in
                        // any order; doubled, it also covers its own rounding.
                        let error = (k as f64 + 4.0) * f64::EPSILON * size + k as f64 * f64::MIN_POSITIVE;
                        lower[i * n + j] = (least - error).next_down();
                        upper[i * n + j] = (greatest + error).next_up();
                    }
                }
            }
        }
    }
}

/// Least and greatest product of two intervals, rounded to nearest. Zero times
/// infinity is zero: the infinite end is a limit that no value takes. NaN, a
/// value that may be undefined, stays NaN.
fn multiply(x: [f64; 2], y: [f64; 2]) -> (f64, f64) {
    let times = |a: f64, b: f64| if a == 0.0 || b == 0.0 { 0.0 } else { a * b };
    let products = [times(x[0], y[0]), times(x[0], y[1]), times(x[1], y[0]), times(x[1], y[1])];
    if [x, y].as_flattened().iter().any(|end| end.is_nan()) {
        return (f64::NAN, f64::NAN);
    }
    products.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, u), &p| (l.min(p), u.max(p)))
}

fn reduce<T: Scalar>(
    lens: &[usize],
    groups: &Groups,
    batch: usize,
    inputs: &[&[T]],
    out: &mut [T],
    scratch: &mut Vec<T>,
    value: impl Fn(&[T], &[u32]) -> T,
) {
    for b in 0..batch {
        let x = gather_inputs(lens, b, inputs, scratch);
        for (y, (_, group)) in out[b * groups.len()..].iter_mut().zip(groups.iter()) {
            *y = value(x, group);
        }
    }
}

/// The input and the entry in it of each entry of the concatenated inputs.
pub(super) fn places(lens: &[usize]) -> Vec<(usize, usize)> {
    lens.iter().enumerate().flat_map(|(input, &len)| (0..len).map(move |entry| (input, entry))).collect()
}

/// The entry of a group that comes after `rank` others when sorted from the
/// greatest on, equal ones in their order.
fn ranked<T: Scalar>(x: &[T], group: &[u32], rank: u32) -> u32 {
    if rank == 0 {
        let greatest = |best: u32, j: u32| if x[j as usize] > x[best as usize] { j } else { best };
        return group.iter().copied().reduce(greatest).unwrap_or(0);
    }
    let mut sorted = group.to_vec();
    sorted.sort_by(|&i, &j| x[j as usize].wide().total_cmp(&x[i as usize].wide()));
    sorted[rank as usize]
}

/// The greatest entry of a group; NaN if one of them is.
fn max<T: Scalar>(x: &[T], group: &[u32]) -> T {
    group
        .iter()
        .map(|&j| x[j as usize])
        .fold(T::neg_infinity(), |m, y| if y > m || y.is_nan() { y } else { m })
}

fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = values.clone().fold(f64::NEG_INFINITY, |m, y| if y > m || y.is_nan() { y } else { m });
    if top.is_infinite() {
        return top;
    }
    top + libm::log(values.map(|y| libm::exp(y - top)).sum())
}
