//! Residual layers `h(x) = A x + V phi(U x + b)` by a matrix inequality.
//!
//! Let the slopes of `phi` lie in `[0, 1]`. For two inputs with difference `d`,
//! the differences `u` of the activations and `U d` of what they are applied to
//! satisfy `u_i ((U d)_i - u_i) >= 0`. So for every diagonal `T > 0`
//!
//! `|h(x) - h(y)|^2 = |A d + V u|^2 <= |A d|^2 + 2 d'(A'V + U'T) u + u'(V'V - 2 T) u`.
//!
//! With `T = D^2`, `w = D u` and the layer written in `w`, that is with `D U`
//! and `V D^-1` for `U` and `V`, this is at most `|A|^2 |d|^2 + 2 e |d| |w| +
//! (n - 2) |w|^2` where `e = |A' V D^-1 + U' D|`, `n = |V D^-1|^2` and `|w| <=
//! |D U| |d|`; and its greatest value over `|w|` is the square of a Lipschitz
//! constant.
//!
//! A layer with `V = -U'T` and `U' T U <= 2` has `e = 0` and `n <= 2`, hence the
//! constant 1: the convex potential layers of Meunier et al. (2022), with `T = 2
//! / |U|^2`, and the SDP-based layers of Araujo et al. (2023), with a diagonal.
//! Elsewhere some `T` are tried. Slopes in `[a, b]` are `a` plus slopes in
//! `[0, b - a]`.

use std::collections::{BTreeMap, BTreeSet};

use super::affine::Norms;
use super::units::{Form, Units};
use super::{conv, matrix, times};
use crate::graph::{Graph, Node, ValueId};
use crate::kernels::{Matrix, Window2d, matmul};
use crate::ops::{Affine, Conv, Op, Pick, Scale, Weights};
use crate::rounding::directed::{add_up, mul_up, sub_up};
use crate::rounding::{gamma, underflow};

/// Most nodes of a layer.
const NODES: usize = 64;
/// Most entries of a matrix that a layer is written out as, and most
/// multiply-adds of a product of two.
const WRITTEN_OUT: [usize; 2] = [1 << 22, 1 << 31];
/// Coefficients up to here, whose products do not overflow.
const LARGEST: f64 = 1e100;
/// An excess over 1 that is not worth improving.
const ENOUGH: f64 = 1e-6;

/// The value `x` that the layer ending in a value reads, and its constant in `x`.
/// `norms` are those of the nodes.
pub(super) fn layer(graph: &Graph, norms: &[Norms], value: ValueId) -> Option<(ValueId, f64)> {
    if graph.nodes[value - 1].inputs.len() < 2 {
        return None;
    }
    let region = Region::new(graph, value)?;
    // So that nothing that underflows matters at the end.
    let gain = |norms: &Norms| norms.absolute.iter().sum::<f64>().max(1.0);
    if !(region.inner.iter().map(|v| gain(&norms[v - 1])).product::<f64>() < LARGEST) {
        return None;
    }
    let mut least = f64::INFINITY;
    for units in [region.convolutions(), None] {
        // Written out, the border of an image counts, too.
        if least > 1.0 + ENOUGH {
            let units = units.or_else(|| region.written_out());
            least = units.map_or(least, |units| units.constant().min(least));
        }
    }
    least.is_finite().then_some((region.base, least))
}

/// Whether the layer ending in a value is bounded through its kernels.
#[cfg(test)]
pub(super) fn by_convolutions(graph: &Graph, value: ValueId) -> bool {
    Region::new(graph, value).is_some_and(|region| region.convolutions().is_some())
}

/// The nodes between a value and the one earlier value that it depends on,
/// with at most one elementwise function on every path.
struct Region<'a> {
    graph: &'a Graph,
    base: ValueId,
    /// In order of evaluation, the value itself last.
    inner: Vec<ValueId>,
    /// The values of elementwise functions among them, with bounds on their slopes.
    functions: BTreeMap<ValueId, [f64; 2]>,
}

impl<'a> Region<'a> {
    fn new(graph: &'a Graph, value: ValueId) -> Option<Self> {
        let (mut open, mut inner) = (BTreeSet::from([value]), Vec::new());
        // What elementwise functions depend on.
        let mut before: BTreeSet<ValueId> = BTreeSet::new();
        let mut functions = BTreeMap::new();
        while open.len() > 1 || inner.is_empty() {
            let v = open.pop_last()?;
            let node = &graph.nodes[v.checked_sub(1)?];
            match &node.op {
                Op::Affine(op) if op.is_finite() => {
                    if before.contains(&v) {
                        before.extend(&node.inputs);
                    }
                }
                Op::Elementwise(f) if !before.contains(&v) => {
                    let slopes = f.slopes().filter(|s| s[0] <= s[1] && s.iter().all(|s| s.abs() < LARGEST));
                    functions.insert(v, slopes?);
                    before.extend(&node.inputs);
                }
                _ => return None,
            }
            inner.push(v);
            open.extend(&node.inputs);
            if inner.len() > NODES {
                return None;
            }
        }
        inner.reverse();
        Some(Self { graph, base: open.pop_last()?, inner, functions })
    }

    fn affine(&self, value: ValueId) -> Option<(&'a Affine, &'a [ValueId])> {
        let node = self.graph.nodes.get(value.checked_sub(1)?)?;
        if let Op::Affine(op) = &node.op { Some((op, &node.inputs)) } else { None }
    }

    /// The layer as matrices, if it is small enough.
    fn written_out(&self) -> Option<Units> {
        let len = |v: ValueId| self.graph.len(v);
        let (ins, outs) = (len(self.base), len(*self.inner.last()?));
        let count: usize = self.functions.keys().map(|&v| len(v)).sum();
        let widest = self.inner.iter().map(|&v| len(v)).max()?;
        let [entries, work] = WRITTEN_OUT;
        let small = |a: usize, b: usize| a.saturating_mul(b) <= entries;
        let sides = [ins, outs, count];
        if !(small(ins.max(count), widest) && count.saturating_mul(ins).saturating_mul(outs) <= work) {
            return None;
        }
        let shorter = |rows: usize, cols: usize| rows.min(cols).pow(2).saturating_mul(rows.max(cols)) <= work;
        if !(shorter(ins, outs) && shorter(count, ins.max(outs))) || sides.contains(&0) {
            return None;
        }
        // Coefficients are products of those of at most this many maps.
        let mut share = 1.0;
        for (op, _) in self.inner.iter().filter_map(|&v| self.affine(v)) {
            share = mul_up(share, 1.0 + 1.01 * (gamma(op.terms()) + op.relative_error()));
        }
        let share = sub_up(share, 1.0);
        let pass = |pick: Pick<f64>, of_base: bool| {
            let batch = if of_base { ins } else { count };
            let mut values: BTreeMap<ValueId, Vec<f64>> = BTreeMap::new();
            let identity = |len: usize, from: usize| {
                let mut one = vec![0.0; batch * len];
                (0..len).for_each(|i| one[(from + i) * len + i] = 1.0);
                one
            };
            values.insert(self.base, if of_base { identity(ins, 0) } else { vec![0.0; batch * ins] });
            let (mut read, mut scratch) = (Vec::new(), Vec::new());
            for &v in &self.inner {
                let out = if let Some((op, inputs)) = self.affine(v) {
                    let inputs: Vec<&[f64]> = inputs.iter().map(|v| &values[v][..]).collect();
                    let mut out = vec![0.0; batch * len(v)];
                    op.linear(pick, batch, &inputs, &mut out, &mut scratch);
                    out
                } else if of_base {
                    // Transposed: a row for every entry of the function.
                    let read_by = &values[&self.graph.nodes[v - 1].inputs[0]];
                    let n = len(v);
                    read.extend((0..n * ins).map(|i| read_by[i % ins * n + i / ins]));
                    vec![0.0; batch * n]
                } else {
                    let from = self.functions.range(..v).map(|(&v, _)| len(v)).sum();
                    identity(len(v), from)
                };
                values.insert(v, out);
            }
            (values.remove(self.inner.last().unwrap_or(&0)).unwrap_or_default(), read)
        };
        let ((a, u), (v, _)) = (pass(Weights::exact, true), pass(Weights::exact, false));
        let ((a_size, u_size), (v_size, _)) = (pass(Weights::absolute, true), pass(Weights::absolute, false));
        let sizes = [&a_size, &u_size, &v_size].map(|size| matrix::frobenius(size));
        if !sizes.iter().all(|size| *size < LARGEST) {
            return None;
        }
        let [a_error, u_error, v_error] =
            sizes.map(|size| add_up(mul_up(mul_up(share, 1.0 + 2.0 * share), size), 1.0 / LARGEST));
        let slopes = self.functions.iter().flat_map(|(&v, slopes)| std::iter::repeat_n(*slopes, len(v)));
        let layer = Written { ins, outs, count, a, u, v, errors: [a_error, u_error, v_error] };
        Some(layer.units(&slopes.collect::<Vec<_>>()))
    }

    /// The layer as two convolutions beside a multiple of the identity.
    fn convolutions(&self) -> Option<Units> {
        let (Affine::Sum(sum), &[first, second]) = self.affine(*self.inner.last()?)? else { return None };
        let (&function, &[least, greatest]) = self.functions.first_key_value()?;
        if self.functions.len() != 1 || least < 0.0 || sum.coefficients.relative_error() != 0.0 {
            return None;
        }
        let coefficients = sum.coefficients.exact();
        let (direct, [a, c]) = if first == self.base {
            (second, [coefficients[0], coefficients[1]])
        } else if second == self.base {
            (first, [coefficients[1], coefficients[0]])
        } else {
            return None;
        };
        let mut inner = self.chain(*self.graph.nodes[function - 1].inputs.first()?, self.base)?;
        let mut outer = self.chain(direct, function)?;
        // The first as a plain convolution, the second as the transpose of one.
        if inner.transposed {
            inner = turned(&inner)?;
        }
        if !outer.transposed {
            outer = turned(&outer)?;
        }
        let geometry = |conv: &Conv| (conv.window.clone(), conv.channels, conv.groups);
        if geometry(&inner) != geometry(&outer) {
            return None;
        }
        // Slopes from 0 on hold those from `least` on.
        let factor = Weights::new(vec![times(c.abs(), greatest).copysign(c)]);
        outer.weight = scaled(&outer.weight, &factor, |_| 0)?;
        let sizes = [&inner, &outer].map(|op| conv::coarse(op, op.weight.absolute()));
        let [u_error, v_error] = [(&inner, sizes[0]), (&outer, sizes[1])]
            .map(|(op, size)| mul_up(op.weight.relative_error(), size));
        let (u, v) = (inner.weight.exact().to_vec(), outer.weight.exact().to_vec());
        let w: Vec<f64> = v.iter().map(|v| a * v).collect();
        let w_error = mul_up(a.abs(), add_up(v_error, mul_up(f64::EPSILON, sizes[1])));
        if !sizes.iter().all(|size| *size < LARGEST) {
            return None;
        }
        let through = if a.abs() == 1.0 { 1.0 } else { mul_up(a, a) };
        let count = inner.channels[1];
        let form = Form::Convolution(Box::new(inner));
        Some(Units { form, count, through, u, v, w, errors: [u_error, v_error, w_error] })
    }

    /// The values from one down to an earlier one as a single convolution with scales merged into it.
    fn chain(&self, mut value: ValueId, base: ValueId) -> Option<Conv> {
        let mut scales: Vec<(&Scale, bool)> = Vec::new();
        let mut conv: Option<Conv> = None;
        while value != base {
            let (op, &[input]) = self.affine(value)? else { return None };
            match op {
                Affine::Scale(op) => scales.push((op, conv.is_none())),
                Affine::Conv(op) if conv.is_none() => conv = Some(op.clone()),
                _ => return None,
            }
            value = input;
        }
        let mut conv = conv?;
        for (scale, behind) in scales {
            conv = folded(conv, scale, behind)?;
        }
        Some(conv)
    }
}

/// A convolution with a scale per channel behind or before it.
fn folded(mut conv: Conv, scale: &Scale, behind: bool) -> Option<Conv> {
    let Some(factor) = &scale.scale else { return Some(conv) };
    // Whether it belongs to what a plain convolution writes.
    let written = behind != conv.transposed;
    let places = if written { conv.window.positions() } else { conv.window.pixels() };
    let channels = conv.channels[usize::from(written)];
    let each = factor.values().exact().len() == channels && factor.inner() == places;
    if !(factor.is_constant() || each) {
        return None;
    }
    let [ins, outs] = conv.channels.map(|c| c / conv.groups);
    let taps = conv.window.taps();
    conv.weight = scaled(&conv.weight, factor.values(), |index| match (factor.is_constant(), written) {
        (true, _) => 0,
        (_, true) => index / (ins * taps),
        _ => index / (outs * ins * taps) * ins + index / taps % ins,
    })?;
    Some(conv)
}

/// A dense layer or convolution together with the scales before it, which no
/// merging of scales behind it takes in: the value before them, and the map.
pub(super) fn behind_scales(graph: &Graph, value: ValueId) -> Option<(ValueId, Affine)> {
    let scale = |v: ValueId| match graph.nodes.get(v.checked_sub(1)?) {
        Some(Node { op: Op::Affine(Affine::Scale(op)), inputs, .. }) => Some((op, inputs[0])),
        _ => None,
    };
    let node = &graph.nodes[value - 1];
    let Op::Affine(op @ (Affine::Dense(_) | Affine::Conv(_))) = &node.op else { return None };
    let (mut op, mut base) = (op.clone(), node.inputs[0]);
    scale(base)?;
    while let Some((before, input)) = scale(base) {
        op = match op {
            Affine::Dense(mut dense) => {
                if let Some(factor) = &before.scale {
                    let at = |i: usize| i / factor.inner() % factor.values().exact().len();
                    let (rows, inputs) = (dense.rows, dense.inputs);
                    if (inputs..rows * inputs).any(|i| factor.at(i) != factor.at(i % inputs)) {
                        return None;
                    }
                    dense.weight = scaled(&dense.weight, factor.values(), |index| at(index / dense.outputs))?;
                }
                Affine::Dense(dense)
            }
            Affine::Conv(conv) => Affine::Conv(folded(conv, before, false)?),
            _ => return None,
        };
        base = input;
    }
    Some((base, op))
}

/// Weights times factors; none where the error of a product would not be relative.
fn scaled(weights: &Weights, factors: &Weights, of: impl Fn(usize) -> usize) -> Option<Weights> {
    let product = |(index, &w): (usize, &f64)| {
        let f = factors.exact()[of(index)];
        (w == 0.0 || f == 0.0 || (w * f).abs() >= f64::MIN_POSITIVE).then_some(w * f)
    };
    let values = weights.exact().iter().enumerate().map(product).collect::<Option<Vec<f64>>>()?;
    let errors = weights.relative_error() + factors.relative_error();
    let exact = errors == 0.0 && factors.exact().iter().all(|f| f.abs() == 1.0);
    Some(Weights::rounded(values, if exact { 0.0 } else { 1.01 * errors + 2.0 * f64::EPSILON }))
        .filter(|w| w.relative_error() < 1e-3)
}

/// A convolution of stride 1 as the transpose of another, or the other way
/// round: the kernel is turned, and reading becomes writing.
fn turned(conv: &Conv) -> Option<Conv> {
    let w = &conv.window;
    if w.stride != [1, 1] {
        return None;
    }
    let reach = [0, 1].map(|a| (w.kernel[a] - 1) * w.dilation[a]);
    let pad = [reach[0].checked_sub(w.pad[0])?, reach[1].checked_sub(w.pad[1])?];
    let window = Window2d { image: w.out, out: w.image, pad, ..w.clone() };
    let [ins, outs] = conv.channels.map(|c| c / conv.groups);
    let taps = w.taps();
    let source = |index: usize| {
        let (tap, channels) = (index % taps, index / taps);
        let (group, o, i) =
            (channels / (ins * outs), channels % (ins * outs) % outs, channels % (ins * outs) / outs);
        ((group * outs + o) * ins + i) * taps + taps - 1 - tap
    };
    let weight = conv.weight.exact();
    let weight = (0..weight.len()).map(|index| weight[source(index)]).collect();
    let weight = Weights::rounded(weight, conv.weight.relative_error());
    let channels = [conv.channels[1], conv.channels[0]];
    Some(Conv { window, channels, weight, bias: None, transposed: !conv.transposed, ..conv.clone() })
}

/// A layer as matrices: `a` of `ins x outs`, a row of `u` of `ins` and a row of
/// `v` of `outs` entries for every unit, and bounds on the norms of their errors.
struct Written {
    ins: usize,
    outs: usize,
    count: usize,
    a: Vec<f64>,
    u: Vec<f64>,
    v: Vec<f64>,
    errors: [f64; 3],
}

impl Written {
    /// With `slopes` of every unit.
    fn units(mut self, slopes: &[[f64; 2]]) -> Units {
        let Self { ins, outs, count, .. } = self;
        let [mut a_error, u_error, mut v_error] = self.errors;
        let size = |m: &[f64], error: f64| add_up(matrix::frobenius(m), error);
        if slopes.iter().any(|&[least, _]| least != 0.0) {
            // The part that is linear in the input.
            let tilted: Vec<f64> = self.v.iter().enumerate().map(|(i, v)| slopes[i / outs][0] * v).collect();
            let steepest = slopes.iter().fold(0.0_f64, |m, s| m.max(s[0].abs()));
            let [u_size, v_size] = [size(&self.u, u_error), mul_up(steepest, size(&self.v, v_error))];
            let rows = (Matrix::new(&self.u, count, ins), Matrix::new(&tilted, count, outs));
            matmul(&mut self.a, rows.0.t(), rows.1, true);
            let crossed = add_up(mul_up(u_error, v_size), mul_up(u_size, mul_up(steepest, v_error)));
            let rounded = add_up(mul_up(u_size, v_size), size(&self.a, a_error));
            a_error = add_up(a_error, add_up(crossed, mul_up(gamma(count + 2), rounded)));
        }
        let steepest = slopes.iter().fold(0.0_f64, |m, s| m.max(sub_up(s[1], s[0])));
        let v_size = mul_up(steepest, size(&self.v, v_error));
        let rise = |i: usize| sub_up(slopes[i][1], slopes[i][0]);
        self.v.iter_mut().enumerate().for_each(|(i, v)| *v *= rise(i / outs));
        v_error = add_up(mul_up(steepest, v_error), mul_up(gamma(0), v_size));
        let identity =
            ins == outs && self.a.iter().enumerate().all(|(i, &a)| a == f64::from(i % (ins + 1) == 0));
        let a_norm = if identity { 1.0 } else { matrix::norm(&self.a, ins, outs, 0.0) };
        let a_size = add_up(a_norm, a_error);
        let w = if identity {
            self.v.clone()
        } else {
            let mut w = vec![0.0; count * ins];
            matmul(&mut w, Matrix::new(&self.v, count, outs), Matrix::new(&self.a, ins, outs).t(), false);
            w
        };
        let rounded =
            if identity { 0.0 } else { mul_up(gamma(outs), mul_up(v_size, size(&self.a, a_error))) };
        let w_error = add_up(
            add_up(mul_up(a_size, v_error), mul_up(a_error, v_size)),
            add_up(rounded, underflow(w.len())),
        );
        let through = if a_size == 1.0 { 1.0 } else { mul_up(a_size, a_size) };
        let form = Form::Matrix;
        Units { form, count, through, u: self.u, v: self.v, w, errors: [u_error, v_error, w_error] }
    }
}
