//! Radii of linear networks: layer by layer forward, of the whole map by
//! adjoint products.

use std::borrow::Cow;

use super::lanes::{Data, Dot, Greatest, Multiply};
use super::linearize::{Action, Mask};
use super::scaled::{Scaled, scale};
use crate::bounds::transpose::{Pending, Transpose};
use crate::bounds::{Intervals, propagate};
use crate::graph::{Graph, ValueId};
use crate::kernels::{Entries, LANES, Lane, Panel, dispatch};
use crate::ops::{Affine, Op, Order, Weights, Workspace};

/// Numbers are brought back to about 1 when they leave `2^-LIMIT .. 2^LIMIT`.
const LIMIT: i64 = 200;
/// The exponent of a value that is zero everywhere.
const ZERO: i64 = i64::MIN / 4;

/// A batch of inputs with the linear network of each.
pub(super) struct Frame<'a> {
    pub(super) graph: &'a Graph,
    pub(super) batch: usize,
    pub(super) actions: Vec<Action>,
    back: &'a Backward<'a>,
    /// The layer-wise radii of every value: those of the input are its box's.
    layerwise: Vec<Layerwise>,
}

/// `batch * len` radii, those of input `b` in units of `2^exponents[b]`.
#[derive(Default)]
struct Layerwise {
    radii: Vec<f64>,
    exponents: Vec<i64>,
}

impl Layerwise {
    fn new(mut radii: Vec<f64>, mut exponents: Vec<i64>) -> Self {
        let len = radii.len() / exponents.len().max(1);
        for (part, exponent) in radii.chunks_mut(len.max(1)).zip(&mut exponents) {
            let shift = rescale([&mut part[..]]);
            *exponent = if shift == ZERO { ZERO } else { *exponent + shift };
        }
        Self { radii, exponents }
    }

    /// The radii in units of other, not smaller, exponents.
    fn in_units(&self, exponents: &[i64]) -> Cow<'_, [f64]> {
        if self.exponents == exponents {
            return Cow::Borrowed(&self.radii);
        }
        let len = self.radii.len() / exponents.len();
        let unit = |i: usize| self.exponents[i / len] - exponents[i / len];
        Cow::Owned(self.radii.iter().enumerate().map(|(i, &r)| scale(r, unit(i))).collect())
    }
}

/// Multiplies all parts by one power of two where the largest entry is far
/// from 1; returns the exponent that was taken out, [`ZERO`] if all is zero.
fn rescale<'a>(parts: impl IntoIterator<Item = &'a mut [f64]>) -> i64 {
    let mut parts: Vec<&mut [f64]> = parts.into_iter().collect();
    let size = parts.iter().flat_map(|p| p.iter()).fold(0.0, |m: f64, x| m.max(x.abs()));
    if size == 0.0 {
        return ZERO;
    }
    let exponent = shift(size);
    if exponent == 0 {
        return 0;
    }
    parts.iter_mut().flat_map(|p| p.iter_mut()).for_each(|x| *x = scale(*x, -exponent));
    exponent
}

/// The exponent to take out of numbers of this size, if it is far from 0.
fn shift(size: f64) -> i64 {
    let exponent = i64::from(libm::frexp(size).1);
    if exponent.abs() <= LIMIT || !size.is_finite() { 0 } else { exponent }
}

/// Whether an output of the map adds several entries: a layer of the network,
/// as opposed to a diagonal, a selection of entries or a residual sum.
fn mixes(op: &Affine) -> bool {
    match op {
        Affine::Dense(_) | Affine::Conv(_) => true,
        Affine::Scale(_) | Affine::Sum(_) => false,
        Affine::Sparse(op) => op.groups.longest() > 1,
    }
}

/// What passes back through a network need of it, for all inputs.
pub(super) struct Backward<'a> {
    transpose: Transpose<'a>,
    /// The entries of each value in the order of their places.
    entries: Vec<Vec<u32>>,
}

impl<'a> Backward<'a> {
    pub(super) fn new(graph: &'a Graph) -> Self {
        let transpose = Transpose::new(graph);
        let of = |(v, order): (usize, &Order)| order.entries(graph.len(v)).map(|i| i as u32).collect();
        let entries = transpose.orders.iter().enumerate().map(of).collect();
        Self { transpose, entries }
    }
}

/// Adds the second panel to the first.
fn sum(to: &mut Panel, part: &mut Panel) {
    for place in part.live() {
        to.entry(place).0.iter_mut().zip(&part.get(place).0).for_each(|(s, p)| *s += p);
    }
}

/// Rows on their way back, one for each lane of a panel.
struct Pass {
    /// Coefficients of rows that have not yet passed a layer.
    merged: Pending,
    /// Of rows that have.
    open: Pending,
    /// The input that each row belongs to.
    inputs: [usize; LANES],
    /// The coefficients of a row are in units of 2^exponent.
    exponents: [i64; LANES],
    layerwise: [Scaled; LANES],
}

impl<'a> Frame<'a> {
    /// The linear networks that `mask` chooses for inputs `x` with boxes `ends`, `batch * input_len`
    /// numbers each, and the layer-wise radius of every value: with `|A|` for every affine map `A` and
    /// `|s|` for every slope `s`. Nodes that are not `used` are left out.
    pub(super) fn new(
        graph: &'a Graph,
        back: &'a Backward<'a>,
        used: &[bool],
        mask: Mask,
        (x, ends): (Vec<f64>, &Intervals),
    ) -> Self {
        let batch = x.len() / graph.input_len().max(1);
        let boxes =
            if mask == Mask::Stable { propagate(graph, batch, ends.clone(), |_| true) } else { Vec::new() };
        let radii = ends.upper.iter().zip(&ends.lower).map(|(u, l)| 0.5 * (u - l)).collect();
        let mut layerwise = vec![Layerwise::new(radii, vec![0; batch])];
        let mut values = vec![mask.reference(x, ends)];
        let (mut actions, mut scratch) = (Vec::new(), Vec::new());
        for (i, node) in graph.nodes.iter().enumerate() {
            if !used[i] {
                // Nothing that is used reads it.
                actions.push(Action::Unused);
                layerwise.push(Layerwise::default());
                values.push(Vec::new());
                continue;
            }
            let action = mask.action(graph, i, batch, &values, &boxes);
            let sources: Vec<&Layerwise> = node.inputs.iter().map(|&v| &layerwise[v]).collect();
            let greatest = |b: usize| sources.iter().map(|s| s.exponents[b]).max().unwrap_or(ZERO);
            let exponents: Vec<i64> = (0..batch).map(greatest).collect();
            let inputs: Vec<Cow<[f64]>> = sources.iter().map(|s| s.in_units(&exponents)).collect();
            let inputs: Vec<&[f64]> = inputs.iter().map(|x| &**x).collect();
            let x: Vec<&[f64]> = node.inputs.iter().map(|&v| &values[v][..]).collect();
            let len = graph.len(i + 1);
            let [mut value, mut out] = [(); 2].map(|()| vec![0.0; batch * len]);
            match (&node.op, &action) {
                (Op::Affine(op), _) => {
                    if let Some(map) = op.boxes(graph.len(node.inputs[0])) {
                        map.rows(batch, [x[0], inputs[0]], [&mut value, &mut out]);
                    } else {
                        op.apply(Weights::exact, batch, &x, &mut value, &mut scratch);
                        op.linear(Weights::absolute, batch, &inputs, &mut out, &mut scratch);
                    }
                }
                (Op::Elementwise(function), action) => {
                    value.copy_from_slice(x[0]);
                    function.apply64(len, &mut value);
                    match action {
                        Action::Slopes(slopes) => {
                            let radii = slopes.iter().zip(inputs[0]);
                            out.iter_mut().zip(radii).for_each(|(y, (s, r))| *y = s.abs() * r);
                        }
                        _ => out.copy_from_slice(inputs[0]),
                    }
                }
                (Op::Product(op), action) => {
                    op.eval(batch, &x, &mut value, &mut scratch);
                    if let Action::Choose(chosen) = action {
                        let lens: Vec<usize> = inputs.iter().map(|x| x.len() / batch).collect();
                        for (j, (y, &from)) in out.iter_mut().zip(chosen).enumerate() {
                            let (input, entry) = locate(&lens, from as usize);
                            *y = inputs[input][j / len * lens[input] + entry];
                        }
                    }
                }
            }
            actions.push(action);
            values.push(value);
            layerwise.push(Layerwise::new(out, exponents));
        }
        Self { graph, batch, actions, back, layerwise }
    }

    /// Optimal and layer-wise radii of linear functions of a value: those with the coefficients of a panel
    /// that `start` fills, each of the input that `inputs` gives. The functions are merged with the last
    /// layer before the value.
    pub(super) fn radii(
        &self,
        value: ValueId,
        inputs: [usize; LANES],
        start: impl FnOnce(&mut Panel, Order),
        memory: &mut Workspace,
    ) -> [[Scaled; 2]; LANES] {
        let [mut merged, open] = [(); 2].map(|()| Pending::new(value));
        start(merged.on(value, self.graph, memory), self.back.transpose.orders[value]);
        let layerwise = [Scaled::default(); LANES];
        let mut pass = Pass { merged, open, inputs, exponents: [0; LANES], layerwise };
        for i in (0..value).rev() {
            let node = &self.graph.nodes[i];
            if let Op::Affine(op) = &node.op {
                if let Some(merged) = pass.merged.take(i + 1) {
                    for (v, mut below) in self.back.transpose.pull(i, merged, memory, |_| ()) {
                        if mixes(op) {
                            self.close(v, &mut below, &mut pass);
                        }
                        let to = if mixes(op) { &mut pass.open } else { &mut pass.merged };
                        to.add(v, below, memory, sum);
                    }
                }
                if let Some(open) = pass.open.take(i + 1) {
                    for (v, below) in self.back.transpose.pull(i, open, memory, |_| ()) {
                        pass.open.add(v, below, memory, sum);
                    }
                }
            } else {
                self.open(i + 1, &mut pass, memory);
                if let Some(open) = pass.open.take(i + 1) {
                    self.pass(i, open, &mut pass, memory);
                }
            }
            pass.rescale(&node.inputs);
        }
        self.open(0, &mut pass, memory);
        let open = pass.open.take(0);
        let mut optimal = [Scaled::default(); LANES];
        if let Some(mut open) = open {
            optimal = self.dot(0, &mut open, &pass);
            memory.give_back(open);
        }
        std::array::from_fn(|lane| [optimal[lane], pass.layerwise[lane]])
    }

    /// Rows that reach a value before any layer: their merged part ends here.
    fn open(&self, value: ValueId, pass: &mut Pass, memory: &mut Workspace) {
        if let Some(mut merged) = pass.merged.take(value) {
            self.close(value, &mut merged, pass);
            pass.open.add(value, merged, memory, sum);
        }
    }

    /// Adds the layer-wise radii behind a value to those of the rows.
    fn close(&self, value: ValueId, coefficients: &mut Panel, pass: &mut Pass) {
        let sums = self.dot(value, coefficients, pass);
        pass.layerwise.iter_mut().zip(sums).for_each(|(l, sum)| *l = *l + sum);
    }

    /// The layer-wise radii of a value times the absolute coefficients, summed.
    fn dot(&self, value: ValueId, coefficients: &mut Panel, pass: &Pass) -> [Scaled; LANES] {
        let Layerwise { radii, exponents: units } = &self.layerwise[value];
        let data = Data::new(radii, &self.back.entries[value], &pass.inputs);
        let sums = dispatch(Dot(coefficients, data));
        std::array::from_fn(|lane| {
            let exponent = pass.exponents[lane] + units[pass.inputs[lane]];
            if sums.0[lane] == 0.0 { Scaled::default() } else { Scaled::new(sums.0[lane], exponent) }
        })
    }

    /// Coefficients through node `i`, an activation or a maximum.
    fn pass(&self, i: usize, mut open: Panel, pass: &mut Pass, memory: &mut Workspace) {
        let (inputs, len) = (&self.graph.nodes[i].inputs, self.graph.len(i + 1));
        let orders = &self.back.transpose.orders;
        match &self.actions[i] {
            Action::Choose(chosen) => {
                let lens: Vec<usize> = inputs.iter().map(|&v| self.graph.len(v)).collect();
                let mut below: Vec<Panel> = lens.iter().map(|&len| memory.panel(len)).collect();
                for place in open.live() {
                    let entry = self.back.entries[i + 1][place] as usize;
                    for (lane, &c) in open.get(place).0.iter().enumerate().filter(|(_, c)| **c != 0.0) {
                        let from = chosen[pass.inputs[lane] * len + entry] as usize;
                        let (input, entry) = locate(&lens, from);
                        below[input].entry(orders[inputs[input]].place(entry)).0[lane] += c;
                    }
                }
                memory.give_back(open);
                for (&v, part) in inputs.iter().zip(below) {
                    pass.open.add(v, part, memory, sum);
                }
            }
            action => {
                if let Action::Slopes(slopes) = action {
                    let data = Data::new(slopes, &self.back.entries[i + 1], &pass.inputs);
                    dispatch(Multiply(&mut open, data));
                }
                pass.open.add(inputs[0], open, memory, sum);
            }
        }
    }
}

impl Pass {
    /// Brings rows back to about 1 whose coefficients of the values just
    /// reached have left the middle of the range; all of a row together.
    fn rescale(&mut self, reached: &[ValueId]) {
        let far = |x: &f64| *x > libm::scalbn(1.0, LIMIT as i32) || *x < libm::scalbn(1.0, -LIMIT as i32);
        let mut sizes = Lane::ZERO;
        for &v in reached {
            for panel in [&mut self.merged, &mut self.open].into_iter().filter_map(|rows| rows.get(v)) {
                let greatest = dispatch(Greatest(panel));
                sizes = sizes.map(|lane, size| size.max(greatest.0[lane]));
            }
        }
        if !sizes.0.iter().any(|size| *size != 0.0 && far(size)) {
            return;
        }
        let mut all = Lane::ZERO;
        for panel in self.merged.all().chain(self.open.all()) {
            let greatest = dispatch(Greatest(panel));
            all = all.map(|lane, size| size.max(greatest.0[lane]));
        }
        let shifts: [i64; LANES] = std::array::from_fn(|lane| {
            let (near, size) = (sizes.0[lane] == 0.0 || !far(&sizes.0[lane]), all.0[lane]);
            if near { 0 } else { shift(size) }
        });
        for panel in self.merged.all().chain(self.open.all()) {
            panel.update(|_, coefficients| {
                *coefficients = coefficients.map(|lane, x| scale(x, -shifts[lane]));
                !coefficients.is_zero()
            });
        }
        for (exponent, shift) in self.exponents.iter_mut().zip(shifts) {
            *exponent += shift;
        }
    }
}

/// Input and entry of a position in concatenated inputs.
fn locate(lens: &[usize], mut position: usize) -> (usize, usize) {
    for (input, &len) in lens.iter().enumerate() {
        if position < len {
            return (input, position);
        }
        position -= len;
    }
    (lens.len(), position)
}
