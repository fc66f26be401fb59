//! Bounds in f64. Sums are formed to nearest and charged with what their roundings cost at most: a sum of `n`
//! products is off by at most `gamma(n)` times the sum of their magnitudes (Higham, "Accuracy and Stability of
//! Numerical Algorithms", section 3.1).
//!
//! A backward pass replaces a linear function of a value by one of earlier values that is nowhere greater, node
//! by node. Its coefficients are rounded; that changes the function by at most the rounding times the magnitude
//! of what they multiply, which is charged, and from there on the rounded ones count as exact.
//! Products that are too small for normal numbers lose up to 2^-1074 whatever their size; that times all that a
//! node reads is charged once for the node.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;

use crate::functions::TINY;
use crate::model::{Affine, Kind, Model};

/// Over twice what `n` roundings in a row do, relative; the rest pays for forming the charges themselves.
pub(crate) fn gamma(n: usize) -> f64 {
    (n as f64 + 8.0) * 2.0 * f64::EPSILON
}

/// Unit roundoff of f32; what underflow or flushing to zero changes at most; the greatest magnitude that sums may
/// have without overflow on the way.
const UNIT: f64 = 1.0 / 16_777_216.0;
const FLUSHED: f64 = f32::MIN_POSITIVE as f64;
const LARGEST: f64 = 0.5 * f32::MAX as f64;

/// A set of inputs: a box, cut to a ball where there is one.
#[derive(Clone)]
pub(crate) struct Inputs {
    pub(crate) lower: Vec<f64>,
    pub(crate) upper: Vec<f64>,
    pub(crate) ball: Option<Arc<Ball>>,
}

pub(crate) struct Ball {
    pub(crate) centre: Vec<f64>,
    pub(crate) eps: f64,
    /// The l2 norm; else l1.
    pub(crate) euclidean: bool,
}

/// What is known of all values over a set of inputs, and the lines of functions there.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) inputs: Arc<Inputs>,
    pub(crate) lower: Vec<Arc<Vec<f64>>>,
    pub(crate) upper: Vec<Arc<Vec<f64>>>,
    /// For each node what a coefficient of 1 on each entry of its result costs in rounding.
    charges: Vec<Arc<Vec<f64>>>,
    /// For each node what underflow of coefficients costs at most.
    floors: Vec<f64>,
    /// Slopes of the lines below and above functions.
    slopes: Vec<Arc<Vec<[f64; 2]>>>,
    offsets: Vec<Arc<Vec<[f64; 2]>>>,
    /// Whether no input has all values where they were said to be.
    pub(crate) empty: bool,
    /// Whether values are those of any evaluation in f32, and not of real arithmetic.
    single: bool,
    /// Whether an evaluation in f32 may overflow: nothing is known then.
    pub(crate) undefined: bool,
}

/// A linear function: value, entry, coefficient; and a constant.
#[derive(Clone, Default)]
pub(crate) struct Linear {
    pub(crate) terms: Vec<(usize, usize, f64)>,
    pub(crate) constant: f64,
    /// What it may be wrong by.
    pub(crate) error: f64,
}

/// Slopes that one function uses instead of those of the state, by node; NaN where it does not.
pub(crate) type Via = HashMap<usize, Vec<f64>>;

/// A line of a maximum or a function of one entry: coefficients on entries of the node's inputs, and a constant.
type Plane = (Vec<(usize, usize, f64)>, f64);

impl State {
    /// Nothing but the inputs.
    pub(crate) fn new(inputs: Arc<Inputs>, model: &Model, single: bool) -> Self {
        let (lower, upper) = inputs.read(single);
        let nodes = model.nodes.len();
        let mut state = Self {
            empty: inputs.lower.iter().zip(&inputs.upper).any(|(l, u)| l > u),
            inputs,
            lower: Vec::with_capacity(nodes + 1),
            upper: Vec::with_capacity(nodes + 1),
            charges: Vec::with_capacity(nodes),
            floors: Vec::with_capacity(nodes),
            slopes: Vec::with_capacity(nodes),
            offsets: Vec::with_capacity(nodes),
            single,
            undefined: false,
        };
        state.lower.push(Arc::new(lower));
        state.upper.push(Arc::new(upper));
        state
    }

    pub(crate) fn is_single(&self) -> bool {
        self.single
    }

    fn magnitude(&self, value: usize, entry: usize) -> f64 {
        self.lower[value][entry].abs().max(self.upper[value][entry].abs())
    }

    /// Far above what underflow of the coefficients of a value changes in a linear function.
    fn underflow(&self, model: &Model, value: usize) -> f64 {
        let total: f64 = (0..model.len(value)).map(|i| self.magnitude(value, i)).sum();
        f64::MIN_POSITIVE * (1.0 + total)
    }

    /// The same over a part of the inputs.
    pub(crate) fn restrict(&mut self, inputs: Arc<Inputs>) {
        let (lower, upper) = inputs.read(self.single);
        for (i, (low, high)) in lower.into_iter().zip(upper).enumerate() {
            self.narrow(0, i, low, high);
        }
        self.inputs = inputs;
    }

    /// Intersects an interval; one that becomes empty says that there is no such input.
    pub(crate) fn narrow(&mut self, value: usize, entry: usize, low: f64, high: f64) {
        let [lower, upper] = [&mut self.lower, &mut self.upper].map(|ends| Arc::make_mut(&mut ends[value]));
        // Ends that are NaN stay so.
        if low > lower[entry] {
            lower[entry] = low;
        }
        if high < upper[entry] {
            upper[entry] = high;
        }
        self.empty |= lower[entry] > upper[entry];
    }

    /// Appends intervals of the next node's result, by interval arithmetic, with slopes for its lines.
    pub(crate) fn advance(&mut self, model: &Model, slopes: Vec<[f64; 2]>) {
        let index = self.charges.len();
        let node = &model.nodes[index];
        let (mut lower, mut upper) = (vec![0.0; node.len], vec![0.0; node.len]);
        let (mut charges, mut offsets) = (Vec::new(), Vec::new());
        match &node.kind {
            Kind::Affine(affine) => charges = self.affine(model, index, affine, &mut lower, &mut upper),
            Kind::Function(function) => {
                let v = node.inputs[0];
                for i in 0..node.len {
                    let (low, high) = (self.lower[v][i], self.upper[v][i]);
                    (lower[i], upper[i]) = function.range(i, low, high);
                    let below = function.offsets(i, slopes[i][0], low, high)[0];
                    offsets.push([below, function.offsets(i, slopes[i][1], low, high)[1]]);
                    let units = function.units() * UNIT;
                    if self.single && units > 0.0 {
                        let error = (units * lower[i].abs().max(upper[i].abs()) + FLUSHED) * (1.0 + gamma(1));
                        (lower[i], upper[i]) = ((lower[i] - error).next_down(), (upper[i] + error).next_up());
                        charges.push(error);
                    }
                }
            }
            Kind::Max(groups) => {
                for (i, group) in groups.iter().enumerate() {
                    let ends = |side: &[Arc<Vec<f64>>]| {
                        let all = group.iter().map(|&(input, e)| side[node.inputs[input]][e]);
                        // The greatest; NaN if there is one.
                        all.fold(f64::NEG_INFINITY, |m, x| if x > m || x.is_nan() { x } else { m })
                    };
                    (lower[i], upper[i]) = (ends(&self.lower), ends(&self.upper));
                }
            }
        }
        let usable = |x: &f64| x.abs() <= LARGEST;
        self.undefined |= self.single && !lower.iter().chain(&upper).all(usable);
        self.lower.push(Arc::new(lower));
        self.upper.push(Arc::new(upper));
        self.charges.push(Arc::new(charges));
        // Each of at most 2^50 terms of a coefficient loses 2^-1074, the least normal number is 2^-1022.
        self.floors.push(node.inputs.iter().map(|&v| self.underflow(model, v)).sum());
        self.slopes.push(Arc::new(slopes));
        self.offsets.push(Arc::new(offsets));
    }

    /// Intervals of an affine map's results, and its charges.
    ///
    /// In f32, with `u = 2^-24` and `k` terms, an entry is off by at most `gamma_(k+4)` times the sum of the
    /// magnitudes of its terms and its bias, and `2 (k + 4) eta` where results underflow, in any order of
    /// summation, with or without fused multiply-add. Coefficients that are computed in f32, too, count as four
    /// terms more, and a bias that is a difference with the numbers that it is one of.
    fn affine(
        &mut self,
        model: &Model,
        index: usize,
        affine: &Affine,
        lower: &mut [f64],
        upper: &mut [f64],
    ) -> Vec<f64> {
        let node = &model.nodes[index];
        let balls: Vec<Vec<[f64; 3]>> = (node.inputs.iter())
            .map(|&v| {
                let ball = |(&l, &u): (&f64, &f64)| {
                    let centre = 0.5 * l + 0.5 * u;
                    let radius = (u - centre).max(centre - l);
                    [centre, if radius > 0.0 { radius.next_up() } else { 0.0 }, l.abs().max(u.abs())]
                };
                self.lower[v].iter().zip(&**self.upper[v]).map(ball).collect()
            })
            .collect();
        let uses = node.inputs.iter().map(|&v| model.uses[v]).max().unwrap_or(0);
        let (here, back) = (gamma(model.terms[index]), gamma(uses));
        let terms = model.terms[index] as f64 + if affine.relative > 0.0 { 8.0 } else { 4.0 };
        let unit = terms * UNIT / (1.0 - terms * UNIT) * (1.0 + here);
        let mut usable = terms * UNIT < 0.5;
        let mut charges = vec![0.0; node.len];
        for o in 0..node.len {
            let bias = affine.bias.get(o).copied().unwrap_or(0.0);
            let (mut centre, mut radius, mut size, mut flushed) = (0.0, 0.0, 0.0, 0.0);
            affine.weights.row(o, |input, i, c| {
                let [middle, reach, most] = balls[input][i];
                centre += c * middle;
                radius += c.abs() * reach;
                size += c.abs() * most;
                flushed += if c.abs() < FLUSHED { most } else { 0.0 };
            });
            charges[o] = ((back + 2.0 * affine.relative) * size + affine.bias_error) * (1.0 + here) + TINY;
            if affine.moves && affine.bias.is_empty() {
                affine.weights.row(o, |input, i, _| {
                    let v = node.inputs[input];
                    (lower[o], upper[o]) = (self.lower[v][i], self.upper[v][i]);
                });
                continue;
            }
            let error =
                (here + 2.0 * affine.relative) * (size + radius + bias.abs()) + affine.bias_error + TINY;
            let mut rounding = 0.0;
            if self.single {
                let sizes = size + bias.abs() + affine.bias_error / (8.0 * f64::EPSILON);
                rounding = (unit * sizes + 2.0 * terms * FLUSHED + FLUSHED * flushed) * (1.0 + here);
                usable &= sizes <= LARGEST;
                charges[o] += rounding;
            }
            let radius = (radius + error + rounding) * (1.0 + here);
            lower[o] = (centre + bias - radius).next_down();
            upper[o] = (centre + bias + radius).next_up();
        }
        self.undefined |= self.single && !usable;
        charges
    }

    /// Over only those inputs for which an entry of a value lies on one side of a point; lines of what reads it
    /// keep their slopes.
    pub(crate) fn cut(&mut self, model: &Model, (value, entry): (usize, usize), point: f64, above: bool) {
        let (low, high) = if above { (point, f64::INFINITY) } else { (f64::NEG_INFINITY, point) };
        self.narrow(value, entry, low, high);
        for (index, node) in model.nodes.iter().enumerate().take(self.charges.len()) {
            if let (Kind::Function(function), true) = (&node.kind, node.inputs[0] == value) {
                let (low, high) = (self.lower[value][entry], self.upper[value][entry]);
                let [below, above] = self.slopes[index][entry];
                let below = function.offsets(entry, below, low, high)[0];
                let above = function.offsets(entry, above, low, high)[1];
                Arc::make_mut(&mut self.offsets[index])[entry] = [below, above];
            }
        }
    }

    /// The line below (0) or above (1) entry `i` of a maximum.
    fn maximum(&self, model: &Model, index: usize, group: &[(usize, usize)], side: usize) -> Plane {
        let ends = |&(input, e): &(usize, usize)| {
            let v = model.nodes[index].inputs[input];
            [self.lower[v][e], self.upper[v][e]]
        };
        let by = |side: usize| {
            group.iter().copied().reduce(|a, b| if ends(&b)[side] > ends(&a)[side] { b } else { a })
        };
        let (Some(most), Some(top)) = (by(0), by(1)) else { return (Vec::new(), f64::NAN) };
        let [low, high] = ends(&top);
        let others = group.iter().filter(|at| **at != top).map(|at| ends(at)[1]);
        let next = others.fold(f64::NEG_INFINITY, |m, x| if x > m || x.is_nan() { x } else { m });
        if low >= next {
            return (vec![(top.0, top.1, 1.0)], 0.0);
        }
        if side == 0 {
            return (vec![(most.0, most.1, 1.0)], 0.0);
        }
        // max(x, next) is convex in x, so below a line if it is at both ends.
        let slope = (high - next) / (high - low);
        let slope = if slope > 0.0 && slope <= 1.0 { slope } else { 0.0 };
        let size = next.abs() + high.abs() + slope * (low.abs() + high.abs());
        let offset = (next - slope * low).max(high - slope * high) + 4.0 * f64::EPSILON * size + TINY;
        let offset = if next.is_nan() || low.is_nan() || high.is_nan() { f64::NAN } else { offset };
        (vec![(top.0, top.1, slope)], offset)
    }

    /// Lower bounds of at most `R` functions of values up to `from` over all inputs, and the coefficients on the
    /// input. `constant` takes constants for all lines.
    #[expect(clippy::too_many_lines, reason = "one pass, with what each kind of node does")]
    pub(crate) fn bound<const R: usize>(
        &self,
        model: &Model,
        from: usize,
        functions: &[Linear],
        via: Option<&Via>,
        constant: bool,
    ) -> ([f64; R], Vec<[f64; R]>) {
        let mut pending: Vec<Vec<[f64; R]>> = vec![Vec::new(); from + 1];
        pending[0] = vec![[0.0; R]; model.inputs];
        let open = |pending: &mut Vec<[f64; R]>, v: usize| {
            if pending.is_empty() {
                pending.resize(model.len(v), [0.0; R]);
            }
        };
        // Constant, sum of the magnitudes of its terms, cost.
        let (mut sum, mut size, mut cost) = ([0.0; R], [0.0; R], [0.0; R]);
        for (r, function) in functions.iter().enumerate() {
            (sum[r], size[r], cost[r]) = (function.constant, function.constant.abs(), function.error);
            for &(v, i, c) in &function.terms {
                open(&mut pending[v], v);
                pending[v][i][r] += c;
                let rounded = gamma(model.uses[v]) * (c.abs() + pending[v][i][r].abs());
                cost[r] += rounded * self.magnitude(v, i);
            }
        }
        let mut count = model.inputs + functions.iter().map(|f| f.terms.len()).max().unwrap_or(0);
        for index in (0..from).rev() {
            let node = &model.nodes[index];
            let above = std::mem::take(&mut pending[index + 1]);
            if above.is_empty() {
                continue;
            }
            count += node.len;
            node.inputs.iter().for_each(|&v| open(&mut pending[v], v));
            for r in (0..R).filter(|&r| above.iter().any(|a| a[r] != 0.0)) {
                cost[r] += self.floors[index];
            }
            let slopes = via.and_then(|via| via.get(&index));
            for (i, a) in above.iter().enumerate().filter(|(_, a)| a.iter().any(|a| *a != 0.0)) {
                let mut add = |r: usize, offset: f64, charge: f64| {
                    let term = a[r] * offset;
                    sum[r] += term;
                    size[r] += term.abs();
                    cost[r] += charge;
                };
                match &node.kind {
                    Kind::Affine(affine) => {
                        let bias = affine.bias.get(i).copied().unwrap_or(0.0);
                        let charge = self.charges[index][i];
                        (0..R).filter(|&r| a[r] != 0.0).for_each(|r| add(r, bias, a[r].abs() * charge));
                        let mut used = (0..R).filter(|&r| a[r] != 0.0);
                        if let (Some(r), None) = (used.next(), used.next()) {
                            affine
                                .weights
                                .row(i, |input, j, c| pending[node.inputs[input]][j][r] += a[r] * c);
                        } else if let [v] = node.inputs[..] {
                            let pending = &mut pending[v][..];
                            affine.weights.row(i, |_, j, c| add_to(&mut pending[j], a, c));
                        } else {
                            affine.weights.row(i, |input, j, c| {
                                add_to(&mut pending[node.inputs[input]][j], a, c);
                            });
                        }
                    }
                    Kind::Function(function) => {
                        let v = node.inputs[0];
                        let own = slopes.map_or(f64::NAN, |slopes| slopes[i]);
                        let (low, high) = (self.lower[v][i], self.upper[v][i]);
                        for r in (0..R).filter(|&r| a[r] != 0.0) {
                            let side = usize::from(a[r] < 0.0);
                            let (slope, offset) = if constant {
                                let (low, high) = (self.lower[index + 1][i], self.upper[index + 1][i]);
                                (0.0, [low, high][side])
                            } else if own.is_nan() {
                                (self.slopes[index][i][side], self.offsets[index][i][side])
                            } else {
                                (own, function.offsets(i, own, low, high)[side])
                            };
                            let part = a[r] * slope;
                            let single = self.charges[index].get(i).filter(|_| !constant);
                            let charged = if part == 0.0 {
                                0.0
                            } else {
                                gamma(model.uses[v]) * (part.abs() * self.magnitude(v, i))
                            };
                            add(r, offset, charged + single.map_or(0.0, |error| a[r].abs() * error));
                            pending[v][i][r] += part;
                        }
                    }
                    Kind::Max(groups) => {
                        for r in (0..R).filter(|&r| a[r] != 0.0) {
                            let side = usize::from(a[r] < 0.0);
                            if constant {
                                add(r, [&self.lower, &self.upper][side][index + 1][i], 0.0);
                                continue;
                            }
                            let (terms, offset) = self.maximum(model, index, &groups[i], side);
                            add(r, offset, 0.0);
                            for (input, j, c) in terms {
                                let (v, part) = (node.inputs[input], a[r] * c);
                                add(r, 0.0, gamma(model.uses[v]) * (part.abs() * self.magnitude(v, j)));
                                pending[v][j][r] += part;
                            }
                        }
                    }
                }
            }
        }
        let at_input = std::mem::take(&mut pending[0]);
        let least = std::array::from_fn(|r| {
            if r >= functions.len() {
                return f64::NEG_INFINITY;
            }
            let (mut least, most) = self.inputs.least((&self.lower[0], &self.upper[0]), &at_input, r);
            if self.single && self.inputs.ball.is_some() {
                // An entry that is read as zero may lie outside of the ball.
                least -= 4.0 * FLUSHED * at_input.iter().map(|a| a[r].abs()).sum::<f64>();
            }
            let error = cost[r] + gamma(count) * (size[r] + most) + TINY * (1.0 + most);
            (sum[r] + least - error * (1.0 + gamma(count))).next_down()
        });
        (least, at_input)
    }

    /// Bounds entries of the value that is next, from below (`sign` 1) or above (-1), by a backward pass each.
    pub(crate) fn tighten(&mut self, model: &Model, value: usize, entries: &[usize], sign: f64) {
        const WIDTH: usize = 8;
        let bounds: Vec<f64> = entries
            .par_chunks(WIDTH)
            .flat_map_iter(|entries| {
                let one = |&i: &usize| Linear { terms: vec![(value, i, sign)], ..Linear::default() };
                let functions: Vec<Linear> = entries.iter().map(one).collect();
                let (bounds, _) = self.bound::<WIDTH>(model, value, &functions, None, false);
                bounds.into_iter().take(entries.len())
            })
            .collect();
        for (&i, bound) in entries.iter().zip(bounds) {
            if sign > 0.0 {
                self.narrow(value, i, bound, f64::INFINITY);
            } else {
                self.narrow(value, i, f64::NEG_INFINITY, -bound);
            }
        }
    }
}

#[inline(always)]
fn add_to<const R: usize>(to: &mut [f64; R], a: &[f64; R], c: f64) {
    for r in 0..R {
        to[r] += a[r] * c;
    }
}

impl Inputs {
    /// The ends of what is read: in f32 a subnormal number may be taken for zero.
    fn read(&self, single: bool) -> (Vec<f64>, Vec<f64>) {
        let end = |x: f64, sign: f64| if single && sign * x > 0.0 && x.abs() < FLUSHED { 0.0 } else { x };
        (
            self.lower.iter().map(|&x| end(x, 1.0)).collect(),
            self.upper.iter().map(|&x| end(x, -1.0)).collect(),
        )
    }

    /// The least value of a linear function, about, and a number that times a few roundings bounds the error.
    fn least<const R: usize>(
        &self,
        (lower, upper): (&[f64], &[f64]),
        a: &[[f64; R]],
        r: usize,
    ) -> (f64, f64) {
        let (mut least, mut size) = (0.0, 0.0);
        for (a, (l, u)) in a.iter().zip(lower.iter().zip(upper)) {
            let a = a[r];
            if a != 0.0 {
                least += if a > 0.0 { a * l } else { a * u };
                size += a.abs() * l.abs().max(u.abs());
            }
        }
        let Some(ball) = &self.ball else { return (least, size) };
        let (mut middle, mut square, mut greatest) = (0.0, 0.0, 0.0_f64);
        for (a, c) in a.iter().zip(&ball.centre) {
            middle += a[r] * c;
            square += a[r] * a[r];
            greatest = greatest.max(a[r].abs());
            size += (a[r] * c).abs();
        }
        // Where squares leave the range the box alone counts.
        let usable = square > 1e-250 && square < 1e300;
        let reach = ball.eps * if ball.euclidean { square.sqrt() } else { greatest };
        if usable && middle - reach > least { (middle - reach, size + reach) } else { (least, size + reach) }
    }
}
