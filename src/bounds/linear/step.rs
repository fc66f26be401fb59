//! One node as a backward pass sees it over a few boxes: what its result is
//! replaced by, and what the replacement costs in rounding.

use crate::bounds::interval::Computed;
use crate::bounds::{Intervals, rounding};
use crate::graph::Graph;
use crate::ops::{Function, Hint, Line, Lines, Op, Order, Product};
use crate::rounding::{gamma, underflow};

/// A linear function of a node's result has coefficients `a`. Going backward
/// it becomes one of the node's inputs. The new coefficients and constants are
/// rounded; since all values are known to lie in intervals, that changes the
/// function by no more than `sum |a_i| charge_i + floor`, and from then on the
/// rounded coefficients count as exact.
///
/// Numbers that differ from box to box stand side by side, `B` of them.
pub(super) struct Step<const B: usize> {
    pub(super) kind: Kind<B>,
    /// Cost for a coefficient of 1 on each entry of the result.
    pub(super) charge: Vec<[f64; B]>,
    /// Whether all constants and costs are finite, so that an entry with
    /// coefficient 0 adds 0.
    pub(super) finite: bool,
    /// Cost of underflow.
    pub(super) floor: [f64; B],
}

pub(super) enum Kind<const B: usize> {
    /// The bias of an affine map; its coefficients stay in the graph.
    Affine { offset: Vec<f64> },
    /// Lines below and above each entry, as functions of the node's input or,
    /// after [`Step::fold`], of the linear part of the affine map before it.
    Elementwise { lines: Vec<Sides<B>>, choices: Option<Vec<[Sides<B>; 2]>> },
    /// Planes below and above each entry, box after box.
    Product { planes: Vec<Vec<[Plane; 2]>> },
}

/// The lines below and above one entry, box beside box.
#[derive(Clone, Copy)]
pub(super) struct Sides<const B: usize> {
    /// Below, above.
    pub(super) slope: [[f64; B]; 2],
    pub(super) offset: [[f64; B]; 2],
}

impl<const B: usize> Sides<B> {
    fn new(lines: [Lines; B]) -> Self {
        Self {
            slope: [lines.map(|l| l.lower.slope), lines.map(|l| l.upper.slope)],
            offset: [lines.map(|l| l.lower.offset), lines.map(|l| l.upper.offset)],
        }
    }

    /// The line of a box below (0) or above (1).
    #[inline(always)]
    pub(super) fn line(&self, side: usize, of: usize) -> Line {
        Line { slope: self.slope[side][of], offset: self.offset[side][of] }
    }
}

/// What an elementwise function is replaced by at one entry over one interval.
struct Entry {
    lines: Lines,
    /// Those at both ends of what the function allows.
    ends: [Lines; 2],
    charge: f64,
}

impl Entry {
    /// For a function of `len` entries, on an interval with values of at most this size.
    fn new(
        function: &dyn Function,
        i: usize,
        [lower, upper]: [f64; 2],
        size: f64,
        len: usize,
        choices: bool,
    ) -> Self {
        let of = |hint| function.lines(i, lower, upper, hint);
        let lines = of(Hint::default());
        let end = |t| if choices { of(Hint { lower: Some(t), upper: Some(t) }) } else { lines };
        let ends = [end(0.0), end(1.0)];
        let worst = |side: fn(&Lines) -> &Line| {
            let used = [&lines, &ends[0], &ends[1]].map(side);
            let slopes: f64 = used.iter().map(|line| line.slope.abs()).sum();
            let offsets: f64 = used.iter().map(|line| line.offset.abs()).sum();
            let slopes = if slopes == 0.0 { 0.0 } else { slopes * size };
            gamma(0) * slopes + gamma(len) * offsets
        };
        let charge = worst(|lines| &lines.lower).max(worst(|lines| &lines.upper));
        Self { lines, ends, charge }
    }
}

/// A plane over the inputs of a node: `(input, place of the entry, coefficient)`
/// and a constant.
#[derive(Clone, Default)]
pub(super) struct Plane {
    pub(super) terms: Vec<(usize, usize, f64)>,
    pub(super) offset: f64,
}

impl<const B: usize> Step<B> {
    /// Node `index`, whose inputs have these bounds. With `choices` also the
    /// lines at both ends of what elementwise functions allow. Entries stand
    /// in the `orders` of their values. `computed` holds the errors of the node,
    /// and for an affine one, `A x + b`, `|A|` times the greatest `|x|`.
    pub(super) fn new(
        graph: &Graph,
        index: usize,
        values: &[Intervals],
        orders: &[Order],
        computed: &Computed,
        choices: bool,
    ) -> Self {
        let mut step = Self::exact(graph, index, values, orders, &computed.sums, choices);
        let (errors, _) = computed.errors.as_chunks::<B>();
        if !errors.is_empty() {
            for (charge, i) in step.charge.iter_mut().zip(orders[index + 1].entries(errors.len())) {
                charge.iter_mut().zip(errors[i]).for_each(|(charge, error)| *charge += error);
            }
            step.finite &= errors.as_flattened().iter().all(|x| x.is_finite());
        }
        step
    }

    /// The same in real arithmetic.
    fn exact(
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
        let mut total = [0.0; B];
        for sizes in sizes.iter().flat_map(|sizes| sizes.as_chunks::<B>().0) {
            total.iter_mut().zip(sizes).for_each(|(total, size)| *total += size);
        }
        match &node.op {
            Op::Affine(op) => {
                let terms = op.adjoint_terms();
                let error = (gamma(terms) + 2.0 * op.relative_error()) * (1.0 + gamma(op.terms()));
                let bias_error = op.bias_error() * (1.0 + f64::EPSILON);
                let offset: Vec<f64> =
                    op.bias().map_or(Vec::new(), |b| entries.clone().map(|i| b.at(i)).collect());
                let biases = offset.iter().copied().chain(std::iter::repeat(0.0));
                let (sums, _) = sums.as_chunks::<B>();
                let of = |(i, bias): (usize, f64)| {
                    sums[i].map(|sum| error * sum + gamma(len) * bias.abs() + bias_error)
                };
                let charge: Vec<[f64; B]> = entries.zip(biases).map(of).collect();
                let floor = total.map(|total| underflow(terms) * (1.0 + total));
                let finite = offset.iter().chain(charge.as_flattened()).all(|x| x.is_finite());
                Self { kind: Kind::Affine { offset }, charge, finite, floor }
            }
            Op::Elementwise(function) => {
                let x = &values[node.inputs[0]];
                let (lower, upper, sizes) =
                    (x.lower.as_chunks::<B>().0, x.upper.as_chunks::<B>().0, sizes[0].as_chunks::<B>().0);
                let entry = |i: usize, b: usize| {
                    Entry::new(&**function, i, [lower[i][b], upper[i][b]], sizes[i][b], len, choices)
                };
                let all: Vec<[Entry; B]> =
                    entries.clone().map(|i| std::array::from_fn(|b| entry(i, b))).collect();
                let lines = all.iter().map(|of| Sides::new(of.each_ref().map(|e| e.lines))).collect();
                let ends = |of: &[Entry; B]| [0, 1].map(|end| Sides::new(of.each_ref().map(|e| e.ends[end])));
                let choices: Option<Vec<[Sides<B>; 2]>> = choices.then(|| all.iter().map(ends).collect());
                let charge = all.iter().map(|of| of.each_ref().map(|e| e.charge));
                let charge = charge.collect();
                let floor = total.map(|total| rounding::underflow(len) * (1.0 + total));
                let mut step =
                    Self { kind: Kind::Elementwise { lines, choices }, charge, finite: false, floor };
                step.settle();
                step
            }
            Op::Product(op) => {
                let place = |input: usize, entry: usize| orders[node.inputs[input]].place(entry);
                let (mut planes, mut charges, mut floor) = (Vec::new(), Vec::new(), [0.0; B]);
                for b in 0..B {
                    let of_box =
                        |ends: &[f64]| -> Vec<f64> { ends.iter().skip(b).step_by(B).copied().collect() };
                    let ends: Vec<[Vec<f64>; 2]> = (node.inputs.iter())
                        .map(|&v| [of_box(&values[v].lower), of_box(&values[v].upper)])
                        .collect();
                    let bounds: Vec<_> = ends.iter().map(|[l, u]| (&l[..], &u[..])).collect();
                    let sizes: Vec<Vec<f64>> = (node.inputs.iter().zip(&sizes))
                        .map(|(&v, sizes)| {
                            let sizes = of_box(sizes);
                            orders[v].entries(sizes.len()).map(|i| sizes[i]).collect()
                        })
                        .collect();
                    let (pairs, charge, most) = product(op, &bounds, len, &sizes, place);
                    planes.push(pairs);
                    charges.push(charge);
                    floor[b] = underflow(most) * (1.0 + total[b]);
                }
                let charge = (0..len).map(|i| std::array::from_fn(|b| charges[b][i])).collect();
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
        for (i, charges) in self.charge.iter_mut().enumerate() {
            let bias = offset.get(i).copied().unwrap_or(0.0);
            let chosen = choices.as_mut().map(|c| &mut c[i]).into_iter().flatten();
            let all = std::iter::once(&mut lines[i]).chain(chosen);
            fold_entry(all, charges, bias, &before.charge[i], terms);
        }
        self.settle();
    }

    /// Finds out whether the lines and charges of a function are finite.
    fn settle(&mut self) {
        let Kind::Elementwise { lines, choices } = &self.kind else { return };
        let all = lines.iter().chain(choices.iter().flatten().flatten());
        let offsets = all.flat_map(|sides| sides.offset.as_flattened());
        self.finite = offsets.chain(self.charge.as_flattened()).all(|x| x.is_finite());
    }
}

/// The lines of one entry, all that may be chosen, with the bias of the map before it.
fn fold_entry<'s, const B: usize>(
    all: impl Iterator<Item = &'s mut Sides<B>>,
    charges: &mut [f64; B],
    bias: f64,
    before: &[f64; B],
    terms: f64,
) {
    let (mut steepest, mut largest) = ([0.0_f64; B], [0.0_f64; B]);
    for sides in all {
        for (slopes, offsets) in sides.slope.iter().zip(&mut sides.offset) {
            for b in 0..B {
                steepest[b] = steepest[b].max(slopes[b].abs());
                largest[b] += (slopes[b] * bias).abs();
                offsets[b] += slopes[b] * bias;
            }
        }
    }
    for (b, charge) in charges.iter_mut().enumerate() {
        let passed = if steepest[b] == 0.0 { 0.0 } else { steepest[b] * before[b] };
        // Of `s b`, its sum with `o`, and the sums that it enters.
        *charge = (*charge * (1.0 + terms) + 2.0 * terms * largest[b] + passed) * (1.0 + gamma(0));
    }
}

impl Step<1> {
    /// The same over `B` parts of the box.
    pub(super) fn beside<const B: usize>(&self) -> Step<B> {
        let of = |sides: &Sides<1>| Sides {
            slope: sides.slope.map(|[slope]| [slope; B]),
            offset: sides.offset.map(|[offset]| [offset; B]),
        };
        let kind = match &self.kind {
            Kind::Affine { offset } => Kind::Affine { offset: offset.clone() },
            Kind::Elementwise { lines, choices } => Kind::Elementwise {
                lines: lines.iter().map(of).collect(),
                choices: choices.as_ref().map(|all| all.iter().map(|ends| ends.each_ref().map(of)).collect()),
            },
            Kind::Product { planes } => Kind::Product { planes: vec![planes[0].clone(); B] },
        };
        let charge = self.charge.iter().map(|&[charge]| [charge; B]).collect();
        Step { kind, charge, finite: self.finite, floor: [self.floor[0]; B] }
    }
}

impl<const B: usize> Step<B> {
    /// Narrows the interval of entry `i` in box `b` of a function that stands at `place`; `before` is the step
    /// of the affine map that is folded into the lines, `error` what rounding the function in f32 costs.
    pub(super) fn narrow(
        &mut self,
        function: &dyn Function,
        (i, place, b): (usize, usize, usize),
        ends: [f64; 2],
        error: f64,
        before: Option<&Step<1>>,
    ) {
        let len = self.charge.len();
        let Kind::Elementwise { lines, choices } = &mut self.kind else { return };
        let entry = Entry::new(function, i, ends, ends[0].abs().max(ends[1].abs()), len, choices.is_some());
        let one = |lines: Lines| Sides::<1>::new([lines]);
        let mut all = [one(entry.lines), one(entry.ends[0]), one(entry.ends[1])];
        let mut charge = [entry.charge + error];
        if let Some(Step { kind: Kind::Affine { offset }, charge: before, .. }) = before {
            let bias = offset.get(place).copied().unwrap_or(0.0);
            fold_entry(all.iter_mut(), &mut charge, bias, &before[place], gamma(len));
        }
        let chosen = choices.as_mut().map(|c| &mut c[place]).into_iter().flatten();
        for (sides, from) in std::iter::once(&mut lines[place]).chain(chosen).zip(&all) {
            for side in [0, 1] {
                sides.slope[side][b] = from.slope[side][0];
                sides.offset[side][b] = from.offset[side][0];
            }
        }
        self.charge[place][b] = charge[0];
        let offsets = all.iter().flat_map(|sides| sides.offset.as_flattened());
        self.finite &= charge[0].is_finite() && offsets.into_iter().all(|x| x.is_finite());
    }
}

/// Planes, their costs, and how many terms an entry of the inputs collects at most.
fn product(
    op: &Product,
    bounds: &[(&[f64], &[f64])],
    len: usize,
    sizes: &[Vec<f64>],
    place: impl Fn(usize, usize) -> usize,
) -> (Vec<[Plane; 2]>, Vec<f64>, usize) {
    let mut planes = Vec::with_capacity(len);
    let mut uses: Vec<Vec<usize>> = sizes.iter().map(|s| vec![0; s.len()]).collect();
    op.planes(bounds, |_, lower, upper| {
        let pair = [lower, upper].map(|plane| Plane {
            terms: plane.terms.iter().map(|t| (t.input, place(t.input, t.entry), t.coefficient)).collect(),
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
    let charge = planes.iter().map(|[low, high]| cost(low).max(cost(high))).collect();
    (planes, charge, most)
}
