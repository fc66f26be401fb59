//! Linear relaxations of products: a plane below and a plane above each entry
//! of the result over the box of its operands, as backward linear bounds use
//! them.
//!
//! As for lines, slopes are proposed without proof; the offset is then bounded
//! for the slopes as stored.

use super::Product;
use super::product::{Bounds, MatMul, places};

/// One entry of an operand with its coefficient in a plane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// Which operand.
    pub input: usize,
    /// Which entry of it.
    pub entry: usize,
    /// The coefficient, exact as stored and finite.
    pub coefficient: f64,
}

/// `offset + sum of coefficient * x` over the terms, to be read in exact
/// arithmetic. An entry may stand in several terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plane<'a> {
    /// The linear part.
    pub terms: &'a [Term],
    /// The constant; infinite if there is no bound, NaN where an operand may
    /// be undefined.
    pub offset: f64,
}

/// Both planes under construction: 0 is the lower, 1 the upper one.
#[derive(Default)]
struct Pair {
    terms: [Vec<Term>; 2],
    offset: [f64; 2],
}

impl Pair {
    fn constant(&mut self, offset: [f64; 2]) {
        self.terms.iter_mut().for_each(Vec::clear);
        self.offset = offset;
    }

    fn push(&mut self, side: usize, (input, entry): (usize, usize), coefficient: f64) {
        self.terms[side].push(Term { input, entry, coefficient });
    }
}

impl Product {
    /// Calls `visit` for every entry of the result, in order, with a lower and
    /// an upper plane: for all operands inside their bounds `inputs` (of one
    /// network input), in exact arithmetic, the first is never above the entry
    /// and the second never below. A plane without terms is the bound of
    /// [`Product::interval`], where that is all that is known: for unbounded
    /// operands, and NaN where an operand may be undefined.
    pub fn planes(&self, inputs: &[Bounds], mut visit: impl FnMut(usize, Plane, Plane)) {
        let len = match self {
            Self::Multiply => inputs[0].0.len(),
            Self::MatMul(op) => op.stack.len() * op.size[0] * op.size[2],
            Self::Max { groups, .. } | Self::Rank { groups, .. } | Self::LogSumExp { groups, .. } => {
                groups.len()
            }
        };
        let (mut lower, mut upper) = (vec![0.0; len], vec![0.0; len]);
        self.interval(1, inputs, &mut lower, &mut upper, &mut Vec::new());
        let mut pair = Pair::default();
        let mut emit = |entry: usize, build: &mut dyn FnMut(&mut Pair) -> Option<()>| {
            pair.constant([0.0; 2]);
            let bounded = build(&mut pair).is_some();
            for (side, bound) in [lower[entry], upper[entry]].into_iter().enumerate() {
                if !bounded || !pair.offset[side].is_finite() {
                    pair.terms[side].clear();
                    pair.offset[side] = bound;
                }
            }
            let plane = |side: usize| Plane { terms: &pair.terms[side], offset: pair.offset[side] };
            visit(entry, plane(0), plane(1));
        };
        let end = |input: usize, entry: usize| [inputs[input].0[entry], inputs[input].1[entry]];
        match self {
            Self::Multiply => {
                for entry in 0..len {
                    let factors = std::iter::once([(0, entry), (1, entry)]);
                    emit(entry, &mut |pair| inner_product(pair, factors.clone(), end));
                }
            }
            Self::MatMul(op) => {
                for entry in 0..len {
                    emit(entry, &mut |pair| inner_product(pair, op.factors(entry), end));
                }
            }
            Self::Rank { .. } => (0..len).for_each(|entry| emit(entry, &mut |_| None)),
            Self::Max { inputs: lens, groups } | Self::LogSumExp { inputs: lens, groups } => {
                let places = places(lens);
                let planes = if matches!(self, Self::Max { .. }) { max_planes } else { log_sum_exp_planes };
                for (entry, (_, group)) in groups.iter().enumerate() {
                    let group: Vec<Entry> = group
                        .iter()
                        .map(|&j| places[j as usize])
                        .map(|(input, entry)| ((input, entry), end(input, entry)))
                        .collect();
                    emit(entry, &mut |pair| planes(pair, &group));
                }
            }
        }
    }
}

/// Place and bounds of one operand of a group.
type Entry = ((usize, usize), [f64; 2]);

impl MatMul {
    /// The pairs of entries whose products sum to one entry of the result.
    fn factors(&self, entry: usize) -> impl Iterator<Item = [(usize, usize); 2]> + Clone {
        let [m, k, n] = self.size;
        let (product, row, column) = (entry / (m * n), entry / n % m, entry % n);
        let [left, right] = self.stack[product].map(|matrix| matrix as usize);
        (0..k).map(move |p| [(0, (left * m + row) * k + p), (1, (right * k + p) * n + column)])
    }
}

/// Planes for `sum x y`: the sums of those of the products.
fn inner_product(
    pair: &mut Pair,
    factors: impl Iterator<Item = [(usize, usize); 2]>,
    end: impl Fn(usize, usize) -> [f64; 2],
) -> Option<()> {
    let (mut size, mut count) = ([0.0; 2], 0.0);
    for [x, y] in factors {
        let planes = mccormick(end(x.0, x.1), end(y.0, y.1))?;
        for (side, [a, b, c]) in planes.into_iter().enumerate() {
            pair.push(side, x, a);
            pair.push(side, y, b);
            pair.offset[side] += c;
            size[side] += c.abs();
        }
        count += 1.0;
    }
    if count > 1.0 {
        for (side, sign) in [(0, -1.0), (1, 1.0)] {
            pair.offset[side] += sign * (count * f64::EPSILON * size[side]);
        }
    }
    Some(())
}

/// Coefficients `[a, b, c]` of a lower and an upper plane `a x + b y + c` of
/// the product `x y` over a box (`McCormick`, "Computability of global solutions
/// to factorable nonconvex programs", 1976). `None` if the box is unbounded or
/// not a box.
///
/// The two lower planes of `McCormick`, `y_l x + x_l y - x_l y_l` and `y_u x +
/// x_u y - x_u y_u`, and all their mixtures have the same value at the centre
/// of the box. Taken is the one whose minimum over the box is the minimum of
/// `x y`: with the mixture written as `(y_c + s y_r) x + (x_c + s x_r) y + c`
/// (centres and radii), its minimum falls by `|y_c + s y_r| x_r + |x_c + s x_r|
/// y_r`, which is least between the zeros of the two coefficients. The upper
/// planes are those of `-(x (-y))`.
fn mccormick(x: [f64; 2], y: [f64; 2]) -> Option<[[f64; 3]; 2]> {
    let [a, b, c] = product_below(x, y)?;
    let [up, down, constant] = product_below(x, [-y[1], -y[0]])?;
    Some([[a, b, c], [-up, down, -constant]])
}

fn product_below(x: [f64; 2], y: [f64; 2]) -> Option<[f64; 3]> {
    let radius = |[l, u]: [f64; 2]| 0.5 * u - 0.5 * l;
    let centre = |[l, u]: [f64; 2]| 0.5 * u + 0.5 * l;
    let zero = |z: [f64; 2]| {
        let s = -centre(z) / radius(z);
        if s.is_nan() { 0.0 } else { s.clamp(-1.0, 1.0) }
    };
    let weight = 0.5 + 0.25 * (zero(x) + zero(y));
    // At weight 0 and 1 exactly an end, as is the constant slope of a point.
    let mix = |[l, u]: [f64; 2]| (l * (1.0 - weight) + u * weight).clamp(l.min(u), l.max(u));
    let ordered = |[l, u]: [f64; 2]| l <= u && l.is_finite() && u.is_finite();
    if !(ordered(x) && ordered(y)) {
        return None;
    }
    let (a, b) = (mix(y), mix(x));
    // `x y - a x - b y` is linear in each argument: least at a corner.
    let mut least = f64::INFINITY;
    for x in x {
        for y in y {
            let (p, q, r) = (x * y, a * x, b * y);
            let size = p.abs() + q.abs() + r.abs();
            // The second part pays for underflow. Not a number where products overflow.
            let value = p - q - r - (4.0 * f64::EPSILON * size + 4.0 * f64::MIN_POSITIVE);
            least = if value.is_nan() { f64::NEG_INFINITY } else { least.min(value) };
        }
    }
    Some([a, b, least])
}

/// Lower plane: the entry with the greatest lower bound. Upper plane: with the
/// entry `x` of greatest upper bound and `m` the next such bound, `max(x, m)`
/// lies below its chord. At the centre of the box no sum of chords
/// `m + sum relu(x_i - m)` lies lower, and over the box this one never exceeds
/// the greatest upper bound.
fn max_planes(pair: &mut Pair, group: &[Entry]) -> Option<()> {
    if group.iter().any(|(_, [l, u])| l.is_nan() || u.is_nan()) {
        return None;
    }
    let by = |side: usize| move |a: &&Entry, b: &&Entry| a.1[side].total_cmp(&b.1[side]);
    let &(most, _) = group.iter().max_by(by(0))?;
    let &(top, [l, u]) = group.iter().max_by(by(1))?;
    // The entry itself may stand in the group more than once.
    let m = group.iter().filter(|(at, _)| *at != top).fold(f64::NEG_INFINITY, |m, (_, [_, u])| m.max(*u));
    if l >= m {
        pair.push(0, top, 1.0);
        pair.push(1, top, 1.0);
        return Some(());
    }
    pair.push(0, most, 1.0);
    pair.offset[1] = u;
    let slope = (u - m) / (u - l);
    if slope.is_finite() && slope > 0.0 {
        // Convex, so below the line if it is at both ends.
        let size = m.abs() + u.abs() + slope * (l.abs() + u.abs());
        let offset = (m - slope * l).max(u - slope * u);
        pair.push(1, top, slope);
        pair.offset[1] = offset + (4.0 * f64::EPSILON * size + f64::MIN_POSITIVE);
    }
    Some(())
}

/// Lower plane: for weights `g >= 0` of sum 1 and their entropy `H`, `ln sum
/// exp(x) >= g . x + H(g)` (Gibbs), with equality where `g` is the softmax of
/// `x`: of the centre of the box. Upper plane: for every `s > 0` and `t`,
/// `ln sum exp(x) <= t + ln s - 1 + sum exp(x_i - t) / s`, whose terms lie below
/// their chords; `s` is the sum of the chords at the centre.
fn log_sum_exp_planes(pair: &mut Pair, group: &[Entry]) -> Option<()> {
    if !group.iter().all(|(_, [l, u])| l <= u && l.is_finite() && u.is_finite()) {
        return None;
    }
    let n = group.len() as f64;
    let largest = group.iter().fold(0.0, |m: f64, (_, [l, u])| m.max(l.abs()).max(u.abs()));
    let error = (n + 16.0) * 8.0 * f64::EPSILON;
    let top = |of: &dyn Fn([f64; 2]) -> f64| group.iter().fold(f64::NEG_INFINITY, |m, (_, x)| m.max(of(*x)));

    let centre = |[l, u]: [f64; 2]| 0.5 * l + 0.5 * u;
    let highest = top(&centre);
    let sum: f64 = group.iter().map(|(_, x)| libm::exp(centre(*x) - highest)).sum();
    let mut entropy = 0.0;
    for &(at, x) in group {
        let g = libm::exp(centre(x) - highest) / sum;
        if g > 0.0 {
            pair.push(0, at, g);
            entropy -= g * libm::log(g);
        }
    }
    // The weights sum to 1 up to `n` roundings, each of which moves `g . x` by
    // at most the largest entry, and the entropy by at most `1 + H`.
    pair.offset[0] = entropy - error * (1.0 + entropy.abs() + largest);

    let shift = top(&|[_, u]| u);
    let ends: Vec<[f64; 2]> = group.iter().map(|(_, x)| x.map(|end| libm::exp(end - shift))).collect();
    let s: f64 = ends.iter().map(|[low, high]| 0.5 * low + 0.5 * high).sum();
    let (mut offset, mut size) = (shift + (libm::log(s) - 1.0), shift.abs() + 1.0 + libm::log(s).abs());
    for (&(at, [l, u]), [low, high]) in group.iter().zip(ends) {
        // Between the slopes at the ends; that of the lower for a point.
        let slope = ((high - low) / (u - l) / s).max(low / s).min(high / s);
        pair.push(1, at, slope);
        // Convex, so below the line if it is at both ends.
        offset += (low / s - slope * l).max(high / s - slope * u);
        size += high / s + slope * l.abs().max(u.abs());
    }
    // The argument of an exponential, `d = shift - end`, has a relative error
    // of half a unit, which moves `e^-d` by at most `d e^-d < 1` of them.
    pair.offset[1] = offset + error * (size + n / s);
    Some(())
}
