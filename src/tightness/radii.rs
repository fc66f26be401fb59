//! Radii of linear networks: layer by layer forward, of the whole map by
//! adjoint products.

use std::borrow::Cow;

use super::linearize::Action;
use super::scaled::{Scaled, scale};
use crate::graph::{Graph, ValueId};
use crate::ops::{Affine, Op, PanelAdjoint, Scratch, Weights};

/// Numbers are brought back to about 1 when they leave `2^-LIMIT .. 2^LIMIT`.
const LIMIT: i64 = 200;
/// The exponent of a value that is zero everywhere.
const ZERO: i64 = i64::MIN / 4;

/// A batch of inputs with the linear network of each.
pub(super) struct Frame<'a> {
    pub(super) graph: &'a Graph,
    pub(super) batch: usize,
    pub(super) actions: Vec<Action>,
    /// Of each node that is a dense layer or convolution.
    adjoints: &'a [Option<PanelAdjoint<'a>>],
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
    let exponent = i64::from(libm::frexp(size).1);
    if exponent.abs() <= LIMIT || !size.is_finite() {
        return 0;
    }
    parts.iter_mut().flat_map(|p| p.iter_mut()).for_each(|x| *x = scale(*x, -exponent));
    exponent
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

/// Coefficients of one value, `batch * rows * len`.
#[derive(Clone, Default)]
struct Pending {
    /// Of rows that have not yet passed a layer.
    merged: Option<Vec<f64>>,
    /// Of rows that have.
    open: Option<Vec<f64>>,
}

fn add(sum: &mut Option<Vec<f64>>, part: Vec<f64>) {
    match sum {
        None => *sum = Some(part),
        Some(sum) => sum.iter_mut().zip(part).for_each(|(s, p)| *s += p),
    }
}

impl<'a> Frame<'a> {
    /// The frame of boxes with these radii (`batch * input_len`): computes the
    /// layer-wise radius of every value, `|A|` for every affine map `A` and
    /// `|s|` for every slope `s`.
    pub(super) fn new(
        graph: &'a Graph,
        adjoints: &'a [Option<PanelAdjoint<'a>>],
        batch: usize,
        actions: Vec<Action>,
        radii: Vec<f64>,
    ) -> Self {
        let mut layerwise = vec![Layerwise::new(radii, vec![0; batch])];
        let mut scratch = Vec::new();
        for (i, (node, action)) in graph.nodes.iter().zip(&actions).enumerate() {
            let sources: Vec<&Layerwise> = node.inputs.iter().map(|&v| &layerwise[v]).collect();
            let greatest = |b: usize| sources.iter().map(|s| s.exponents[b]).max().unwrap_or(ZERO);
            if matches!(action, Action::Unused) {
                // Nothing that is used reads it.
                layerwise.push(Layerwise::default());
                continue;
            }
            let exponents: Vec<i64> = (0..batch).map(greatest).collect();
            let inputs: Vec<Cow<[f64]>> = sources.iter().map(|s| s.in_units(&exponents)).collect();
            let inputs: Vec<&[f64]> = inputs.iter().map(|x| &**x).collect();
            let mut out = vec![0.0; batch * graph.len(i + 1)];
            match (action, &node.op) {
                (Action::Slopes(slopes), _) => {
                    out.iter_mut().zip(slopes.iter().zip(inputs[0])).for_each(|(y, (s, x))| *y = s.abs() * x);
                }
                (Action::Choose(chosen), _) => {
                    let lens: Vec<usize> = inputs.iter().map(|x| x.len() / batch).collect();
                    for (j, (y, &from)) in out.iter_mut().zip(chosen).enumerate() {
                        let (input, entry) = locate(&lens, from as usize);
                        *y = inputs[input][j / graph.len(i + 1) * lens[input] + entry];
                    }
                }
                (_, Op::Affine(op)) => match op.boxes(graph.len(node.inputs[0])) {
                    Some(map) => map.rows(true, batch, inputs[0], &mut out),
                    None => op.linear(Weights::absolute, batch, &inputs, &mut out, &mut scratch),
                },
                _ => out.copy_from_slice(inputs[0]),
            }
            layerwise.push(Layerwise::new(out, exponents));
        }
        Self { graph, batch, actions, adjoints, layerwise }
    }

    /// Optimal and layer-wise radius of `rows` linear functions of a value for
    /// every input; `coefficients` holds `batch * rows * len`. The functions
    /// are merged with the last layer before the value.
    pub(super) fn radii(&self, value: ValueId, rows: usize, coefficients: Vec<f64>) -> Vec<[Scaled; 2]> {
        let total = self.batch * rows;
        let mut pending = vec![Pending::default(); value + 1];
        pending[value].merged = Some(coefficients);
        // The coefficients of a row are in units of 2^exponent.
        let mut exponents = vec![0; total];
        let mut layerwise = vec![Scaled::default(); total];
        let (mut scratch, mut panels) = (Vec::new(), Scratch::default());
        for i in (0..value).rev() {
            let (node, above) = (&self.graph.nodes[i], std::mem::take(&mut pending[i + 1]));
            if let Op::Affine(op) = &node.op {
                let closes = mixes(op);
                for (part, merged) in [(above.merged, true), (above.open, false)] {
                    let Some(part) = part else { continue };
                    let mut below: Vec<Vec<f64>> =
                        node.inputs.iter().map(|&v| vec![0.0; total * self.graph.len(v)]).collect();
                    let mut slices: Vec<&mut [f64]> = below.iter_mut().map(Vec::as_mut_slice).collect();
                    match &self.adjoints[i] {
                        Some(adjoint) => adjoint.add_rows(total, &part, &mut slices, &mut panels),
                        None => op.adjoint(Weights::exact, total, &part, &mut slices, &mut scratch),
                    }
                    for (&v, below) in node.inputs.iter().zip(below) {
                        if merged && closes {
                            self.dot(v, &below, &exponents, &mut layerwise);
                        }
                        let to = &mut pending[v];
                        add(if merged && !closes { &mut to.merged } else { &mut to.open }, below);
                    }
                }
            } else {
                if let Some(merged) = &above.merged {
                    self.dot(i + 1, merged, &exponents, &mut layerwise);
                }
                let mut open = above.merged;
                if let Some(part) = above.open {
                    add(&mut open, part);
                }
                if let Some(open) = open {
                    self.pass(i, rows, open, &mut pending);
                }
            }
            self.rescale(&node.inputs, &mut pending[..=i], &mut exponents);
        }
        let Pending { merged, mut open } = std::mem::take(&mut pending[0]);
        if let Some(merged) = merged {
            self.dot(0, &merged, &exponents, &mut layerwise);
            add(&mut open, merged);
        }
        let mut optimal = vec![Scaled::default(); total];
        if let Some(open) = open {
            self.dot(0, &open, &exponents, &mut optimal);
        }
        optimal.into_iter().zip(layerwise).map(|(o, l)| [o, l]).collect()
    }

    /// Adds to every row's sum the layer-wise radii of a value times the
    /// row's absolute coefficients.
    fn dot(&self, value: ValueId, coefficients: &[f64], exponents: &[i64], sums: &mut [Scaled]) {
        let Layerwise { radii, exponents: units } = &self.layerwise[value];
        let len = self.graph.len(value);
        let rows = sums.len() / self.batch;
        for (row, sum) in sums.iter_mut().enumerate() {
            let b = row / rows;
            let terms = coefficients[row * len..][..len].iter().zip(&radii[b * len..][..len]);
            let dot: f64 = terms.map(|(c, r)| c.abs() * r).sum();
            if dot != 0.0 {
                *sum = *sum + Scaled::new(dot, exponents[row] + units[b]);
            }
        }
    }

    /// Coefficients through node `i`, an activation or a maximum.
    fn pass(&self, i: usize, rows: usize, mut open: Vec<f64>, pending: &mut [Pending]) {
        let (inputs, len) = (&self.graph.nodes[i].inputs, self.graph.len(i + 1));
        match &self.actions[i] {
            Action::Choose(chosen) => {
                let total = self.batch * rows;
                let lens: Vec<usize> = inputs.iter().map(|&v| self.graph.len(v)).collect();
                let mut below: Vec<Vec<f64>> = lens.iter().map(|len| vec![0.0; total * len]).collect();
                for (row, coefficients) in open.chunks_exact(len).enumerate() {
                    for (c, &from) in coefficients.iter().zip(&chosen[row / rows * len..][..len]) {
                        let (input, entry) = locate(&lens, from as usize);
                        below[input][row * lens[input] + entry] += c;
                    }
                }
                inputs.iter().zip(below).for_each(|(&v, below)| add(&mut pending[v].open, below));
            }
            action => {
                if let Action::Slopes(slopes) = action {
                    for (row, coefficients) in open.chunks_exact_mut(len).enumerate() {
                        let slopes = &slopes[row / rows * len..][..len];
                        coefficients.iter_mut().zip(slopes).for_each(|(c, s)| *c *= s);
                    }
                }
                add(&mut pending[inputs[0]].open, open);
            }
        }
    }

    /// Brings rows back to about 1 whose coefficients of the values just
    /// reached have left the middle of the range; all of a row together.
    fn rescale(&self, reached: &[ValueId], pending: &mut [Pending], exponents: &mut [i64]) {
        let far = |x: f64| x > libm::scalbn(1.0, LIMIT as i32) || x < libm::scalbn(1.0, -LIMIT as i32);
        for (row, exponent) in exponents.iter_mut().enumerate() {
            let part = |v: usize| row * self.graph.len(v)..(row + 1) * self.graph.len(v);
            let size = reached
                .iter()
                .flat_map(|&v| [(v, &pending[v].merged), (v, &pending[v].open)])
                .filter_map(|(v, coefficients)| Some(&coefficients.as_ref()?[part(v)]))
                .flatten()
                .fold(0.0, |m: f64, x| m.max(x.abs()));
            if size == 0.0 || !far(size) {
                continue;
            }
            let all =
                pending.iter_mut().enumerate().flat_map(|(v, p)| [(v, &mut p.merged), (v, &mut p.open)]);
            let shift = rescale(all.filter_map(|(v, c)| Some(&mut c.as_mut()?[part(v)])));
            *exponent += if shift == ZERO { 0 } else { shift };
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
