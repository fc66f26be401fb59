//! Joint constants of values that are made entry by entry: maxima and minima
//! of the same pair, sorted groups, `relu(x)` beside `relu(-x)`.
//!
//! Between a value and the values that it is computed from by selections, sums
//! of few entries, maxima and piecewise linear functions (its *bases*), the
//! entries fall apart into blocks that share none. A block is a continuous
//! piecewise linear function of few entries, so its Lipschitz constant is the
//! greatest norm of its Jacobians. They are enumerated: every comparison on the
//! way is of two affine functions of the block's entries, and decides the same
//! way wherever it occurs. So a maximum and a minimum of the same two are found
//! to be a permutation, written in whatever way: as `b + relu(a - b)`, with
//! `|a - b|`, in any layout, as a network of comparisons.
//!
//! All coefficients and the constants are computed exactly, or the block is
//! given up: forms that agree only up to rounding decide differently.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use rayon::prelude::*;

use super::affine::Norms;
use super::matrix;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::{Affine, Function, Groups, Op, Product, Shape};
use crate::rounding::directed::{add_up, sqrt_up};

/// Most entries of bases in a block.
const ATOMS: usize = 8;
/// Most regions of a block on which it is affine.
const REGIONS: usize = 1 << 10;
/// Most entries of all values between a value and its bases.
const ENTRIES: usize = 1 << 21;

/// For every value, whether its entries are affine or straight pieces of few others, known exactly.
pub(super) fn local(graph: &Graph) -> Vec<bool> {
    let of = |node: &Node| match &node.op {
        Op::Affine(op @ (Affine::Scale(_) | Affine::Sum(_) | Affine::Sparse(_))) => {
            op.relative_error() == 0.0 && op.bias_error() == 0.0 && op.is_finite()
        }
        Op::Affine(_) => false,
        Op::Elementwise(f) => {
            // Slopes that are known up to an error are allowed for in the constant.
            let entries = if f.is_uniform() { 1 } else { node.shape.iter().product() };
            let slopes = (0..entries).flat_map(|i| pieces(&**f, i));
            let steepest = slopes.fold(0.0, |m: f64, piece| m.max(piece.slope.abs()));
            f.lipschitz() == Some(steepest)
        }
        Op::Product(op) => op.is_selection(),
    };
    std::iter::once(false).chain(graph.nodes.iter().map(of)).collect()
}

/// The bases of a value, and its norms in them; none if it reads nothing
/// twice, or its blocks are too large.
pub(super) fn joint(graph: &Graph, local: &[bool], value: ValueId) -> Option<(Vec<ValueId>, Norms)> {
    if !local[value] || graph.nodes[value - 1].inputs.len() < 2 {
        return None;
    }
    let (mut open, mut inner, mut entries) = (BTreeSet::new(), Vec::new(), 0);
    // Where paths meet: how many values are between, and the bases.
    let mut meetings: Vec<(usize, Vec<ValueId>)> = Vec::new();
    let mut next = Some(value);
    while let Some(v) = next {
        entries += graph.len(v);
        if entries > ENTRIES {
            break;
        }
        open.remove(&v);
        inner.push(v);
        let inputs = &graph.nodes[v - 1].inputs;
        // All must be asked.
        if inputs.iter().filter(|&&input| !open.insert(input)).count() > 0 {
            meetings.push((inner.len(), open.iter().copied().collect()));
        }
        // Behind a single value on which all depends, blocks are only larger.
        next = if open.len() > 1 { open.iter().rev().copied().find(|&v| local[v]) } else { None };
    }
    meetings.into_iter().rev().find_map(|(count, bases)| {
        let mut cone = Cone { graph, inner: inner[..count].to_vec(), bases, first: HashMap::new() };
        cone.inner.reverse();
        let norms = cone.joint(value)?;
        Some((cone.bases, norms))
    })
}

/// The values between a value and its bases.
struct Cone<'a> {
    graph: &'a Graph,
    /// In order of evaluation, the value itself last.
    inner: Vec<ValueId>,
    bases: Vec<ValueId>,
    /// Of every base, its first entry among those of all bases.
    first: HashMap<ValueId, usize>,
}

/// Entries of bases that share outputs with no others, and these outputs.
struct Block {
    atoms: Vec<u32>,
    outputs: Vec<usize>,
}

/// An affine function of the entries of a block: its coefficients, then its constant.
type Form = Vec<f64>;

/// Why a block is not evaluated to the end.
enum Stop {
    /// The sign of this form is not decided yet.
    Undecided(Form),
    /// Something would round, or is not known.
    Inexact,
}

impl Cone<'_> {
    /// The norms of a value in its bases.
    fn joint(&mut self, value: ValueId) -> Option<Norms> {
        let mut atoms = 0;
        for &v in &self.bases {
            self.first.insert(v, atoms);
            atoms += self.graph.len(v);
        }
        let none = || Norms { whole: 0.0, parts: vec![0.0; self.bases.len()], absolute: vec![] };
        let greater = |a: Norms, b: Norms| Norms {
            whole: a.whole.max(b.whole),
            parts: a.parts.iter().zip(&b.parts).map(|(a, b)| a.max(*b)).collect(),
            absolute: vec![],
        };
        let norms = self.blocks(value, atoms)?.into_par_iter().map(|block| self.norms(value, &block));
        norms.try_fold(none, |a, b| Some(greater(a, b?))).try_reduce(none, |a, b| Some(greater(a, b)))
    }

    /// Calls `each(input, entry)` for what entry `i` of a value between is computed from.
    fn reads(&self, value: ValueId, i: usize, mut each: impl FnMut(usize, usize)) {
        let node = &self.graph.nodes[value - 1];
        let groups: &Groups = match &node.op {
            Op::Affine(Affine::Sparse(op)) => &op.groups,
            Op::Product(Product::Max { groups, .. } | Product::Rank { groups, .. }) => groups,
            _ => return (0..node.inputs.len()).for_each(|k| each(k, i)),
        };
        for &j in groups.get(i).1 {
            let (mut input, mut entry) = (0, j as usize);
            while entry >= self.graph.len(node.inputs[input]) {
                entry -= self.graph.len(node.inputs[input]);
                input += 1;
            }
            each(input, entry);
        }
    }

    /// The blocks of a value; none if one is too large.
    fn blocks(&self, value: ValueId, atoms: usize) -> Option<Vec<Block>> {
        let small = |x: usize| u32::try_from(x).ok();
        // For every entry the entries of bases that it depends on.
        let mut depends: HashMap<ValueId, Vec<Vec<u32>>> = HashMap::new();
        for (&base, &first) in &self.first {
            depends.insert(
                base,
                (0..self.graph.len(base)).map(|i| Some(vec![small(first + i)?])).collect::<Option<_>>()?,
            );
        }
        for &v in &self.inner {
            let inputs = &self.graph.nodes[v - 1].inputs;
            let of = |i: usize| {
                let mut all: Vec<u32> = Vec::new();
                self.reads(v, i, |k, entry| all.extend(&depends[&inputs[k]][entry]));
                all.sort_unstable();
                all.dedup();
                (all.len() <= ATOMS).then_some(all)
            };
            let lists = (0..self.graph.len(v)).map(of).collect::<Option<_>>()?;
            depends.insert(v, lists);
        }
        let mut parent: Vec<u32> = (0..small(atoms)?).collect();
        for list in &depends[&value] {
            for pair in list.windows(2) {
                let roots = [root(&mut parent, pair[0]), root(&mut parent, pair[1])];
                parent[roots[0].max(roots[1]) as usize] = roots[0].min(roots[1]);
            }
        }
        let mut place: HashMap<u32, usize> = HashMap::new();
        let mut blocks: Vec<Block> = Vec::new();
        for (i, list) in depends[&value].iter().enumerate().filter(|(_, list)| !list.is_empty()) {
            let at = *place.entry(root(&mut parent, list[0])).or_insert(blocks.len());
            if at == blocks.len() {
                blocks.push(Block { atoms: vec![], outputs: vec![] });
            }
            blocks[at].outputs.push(i);
            blocks[at].atoms.extend(list);
        }
        for block in &mut blocks {
            block.atoms.sort_unstable();
            block.atoms.dedup();
        }
        blocks.iter().all(|block| block.atoms.len() <= ATOMS).then_some(blocks)
    }

    /// The greatest norms of the Jacobians of a block.
    fn norms(&self, value: ValueId, block: &Block) -> Option<Norms> {
        let mut norms = Norms { whole: 0.0, parts: vec![0.0; self.bases.len()], absolute: vec![] };
        // Columns of every base.
        let columns = |first: usize, len: usize| {
            let of = |bound: usize| block.atoms.partition_point(|&a| (a as usize) < bound);
            of(first)..of(first + len)
        };
        let ranges: Vec<_> = self.bases.iter().map(|v| columns(self.first[v], self.graph.len(*v))).collect();
        let (mut open, mut regions) = (vec![Vec::new()], 0);
        while let Some(positive) = open.pop() {
            regions += 1;
            if regions > REGIONS {
                return None;
            }
            let mut forms = HashMap::new();
            let region = Region { cone: self, block, positive: &positive };
            let rows = block.outputs.iter().map(|&i| region.form(value, i, &mut forms));
            match rows.collect::<Result<Vec<Form>, Stop>>() {
                Ok(rows) => {
                    norms.whole = norms.whole.max(norm(&rows, 0..block.atoms.len()));
                    for (part, range) in norms.parts.iter_mut().zip(&ranges) {
                        *part = part.max(norm(&rows, range.clone()));
                    }
                }
                Err(Stop::Undecided(form)) => {
                    for sign in [-1.0, 1.0] {
                        let side = form.iter().map(|c| sign * c).collect();
                        open.push([&positive[..], &[side]].concat());
                    }
                }
                Err(Stop::Inexact) => return None,
            }
        }
        Some(norms)
    }
}

fn root(parent: &mut [u32], mut atom: u32) -> u32 {
    while parent[atom as usize] != atom {
        parent[atom as usize] = parent[parent[atom as usize] as usize];
        atom = parent[atom as usize];
    }
    atom
}

/// A straight piece of a function: `slope x + offset` up to `end`.
struct Piece {
    end: f64,
    slope: f64,
    offset: f64,
}

/// The pieces of a function for entry `i`; none unless all are straight and computed exactly.
fn pieces(f: &dyn Function, i: usize) -> Vec<Piece> {
    if f.slope(i, 0.0).is_none() {
        return vec![];
    }
    let mut shapes = f.shapes(i, f64::NEG_INFINITY, f64::INFINITY);
    shapes.retain(|(end, _)| *end > f64::NEG_INFINITY);
    let ends: Vec<f64> = shapes.iter().map(|(end, _)| *end).collect();
    let pieces = shapes.iter().enumerate().map(|(k, &(end, shape))| {
        let left = k.checked_sub(1).map_or(f64::NEG_INFINITY, |k| ends[k]);
        let [inside, corner] = match (left.is_finite(), end.is_finite()) {
            (true, true) => [0.5 * left + 0.5 * end, end],
            (true, false) => [left + left.abs() + 1.0, left],
            (false, true) => [end - end.abs() - 1.0, end],
            (false, false) => [0.0, 0.0],
        };
        let slope = f.slope(i, inside)?;
        let offset = sum(f.eval(i, corner), product(-slope, corner)?)?;
        matches!(shape, Shape::Straight).then_some(Piece { end, slope, offset })
    });
    pieces.collect::<Option<_>>().unwrap_or_default()
}

/// A region of a block, by forms that are positive in it.
struct Region<'a> {
    cone: &'a Cone<'a>,
    block: &'a Block,
    positive: &'a [Form],
}

impl Region<'_> {
    /// Entry `i` of a value as a form.
    fn form(
        &self,
        value: ValueId,
        i: usize,
        known: &mut HashMap<(ValueId, usize), Form>,
    ) -> Result<Form, Stop> {
        let mut constant = vec![0.0; self.block.atoms.len() + 1];
        if let Some(first) = self.cone.first.get(&value) {
            let atom = self.block.atoms.iter().position(|&a| a as usize == first + i);
            constant[atom.ok_or(Stop::Inexact)?] = 1.0;
            return Ok(constant);
        }
        if let Some(form) = known.get(&(value, i)) {
            return Ok(form.clone());
        }
        let node = &self.cone.graph.nodes[value - 1];
        let mut reads = Vec::new();
        self.cone.reads(value, i, |k, entry| reads.push((k, entry)));
        let mut operands = Vec::new();
        for &(k, entry) in &reads {
            operands.push(self.form(node.inputs[k], entry, known)?);
        }
        let form = match &node.op {
            Op::Affine(op) => {
                constant[self.block.atoms.len()] = op.bias().map_or(0.0, |bias| bias.at(i));
                for (k, (form, (input, _))) in operands.iter().zip(&reads).enumerate() {
                    let coefficient = match op {
                        Affine::Scale(op) => op.scale.as_ref().map_or(1.0, |scale| scale.at(i)),
                        Affine::Sum(op) => op.coefficients.exact()[*input],
                        Affine::Sparse(op) => {
                            op.weights.as_ref().map_or(1.0, |w| w.exact()[op.groups.get(i).0 + k])
                        }
                        _ => return Err(Stop::Inexact),
                    };
                    constant = plus(&constant, coefficient, form).ok_or(Stop::Inexact)?;
                }
                constant
            }
            Op::Elementwise(f) => self.piece(&pieces(&**f, i), &operands[0])?,
            Op::Product(op) => {
                let rank = match op {
                    Product::Rank { ranks, .. } => ranks[i] as usize,
                    _ => 0,
                };
                // By insertion, from the greatest on.
                let mut sorted: Vec<Form> = Vec::new();
                for form in operands {
                    let mut at = 0;
                    while at < sorted.len() && self.compare(&form, &sorted[at])? != Ordering::Greater {
                        at += 1;
                    }
                    sorted.insert(at, form);
                }
                sorted.swap_remove(rank)
            }
        };
        known.insert((value, i), form.clone());
        Ok(form)
    }

    fn piece(&self, pieces: &[Piece], x: &Form) -> Result<Form, Stop> {
        let mut constant = vec![0.0; x.len()];
        for piece in pieces {
            constant[x.len() - 1] = piece.end;
            if piece.end == f64::INFINITY || self.compare(x, &constant)? == Ordering::Less {
                constant[x.len() - 1] = piece.offset;
                return plus(&constant, piece.slope, x).ok_or(Stop::Inexact);
            }
        }
        Err(Stop::Inexact)
    }

    fn compare(&self, a: &Form, b: &Form) -> Result<Ordering, Stop> {
        let difference = plus(a, -1.0, b).ok_or(Stop::Inexact)?;
        let (constant, coefficients) = difference.split_last().ok_or(Stop::Inexact)?;
        let Some(leading) = coefficients.iter().find(|c| **c != 0.0) else {
            return constant.partial_cmp(&0.0).ok_or(Stop::Inexact);
        };
        // Scaled by a power of two, which is exact, to a leading coefficient in [1/2, 1).
        let scale = libm::ldexp(1.0, -libm::frexp(*leading).1);
        let form: Option<Form> = difference.iter().map(|&c| product(c, scale)).collect();
        let form = form.ok_or(Stop::Inexact)?;
        let negative: Form = form.iter().map(|c| -c).collect();
        if implied(self.positive, &form, 3) {
            Ok(Ordering::Greater)
        } else if implied(self.positive, &negative, 3) {
            Ok(Ordering::Less)
        } else {
            Err(Stop::Undecided(form))
        }
    }
}

/// Whether a form is one of the positive ones or a sum of some of them.
fn implied(positive: &[Form], form: &Form, terms: usize) -> bool {
    positive.contains(form)
        || terms > 1
            && positive
                .iter()
                .any(|p| plus(form, -1.0, p).is_some_and(|rest| implied(positive, &rest, terms - 1)))
}

/// `a + c b`; none if it would round.
fn plus(a: &Form, c: f64, b: &Form) -> Option<Form> {
    a.iter().zip(b).map(|(&a, &b)| sum(a, product(c, b)?)).collect()
}

/// `a + b`; none if it would round.
fn sum(a: f64, b: f64) -> Option<f64> {
    let sum = a + b;
    let b_part = sum - a;
    ((a - (sum - b_part)) + (b - b_part) == 0.0).then_some(sum)
}

/// `a b`; none if it would round.
fn product(a: f64, b: f64) -> Option<f64> {
    let product = a * b;
    let exact = a.abs() == 1.0
        || b.abs() == 1.0
        || a == 0.0
        || b == 0.0
        || product.abs() > 1e-200 && a.mul_add(b, -product) == 0.0;
    (exact && product.is_finite()).then_some(product)
}

/// An upper bound on the norm of some columns of a matrix with few: the root of
/// the greatest sum of absolute entries of a row of `J^T J`, which for a signed
/// permutation is exact; where columns are not orthogonal, [`matrix::norm`] may be smaller.
fn norm(rows: &[Form], columns: std::ops::Range<usize>) -> f64 {
    let (mut greatest, mut orthogonal) = (0.0_f64, true);
    for j in columns.clone() {
        let mut total = 0.0;
        for k in columns.clone() {
            let exact = rows.iter().try_fold(0.0, |dot, row| sum(dot, product(row[j], row[k])?));
            let size = exact.unwrap_or_else(|| {
                let terms = rows.iter().map(|row| (row[j] * row[k]).abs().next_up());
                terms.fold(0.0, add_up)
            });
            orthogonal &= j == k || size == 0.0;
            total = add_up(total, size.abs());
        }
        greatest = greatest.max(total);
    }
    let bound = if greatest == 1.0 { 1.0 } else { sqrt_up(greatest) };
    if orthogonal {
        return bound;
    }
    let matrix: Vec<f64> = rows.iter().flat_map(|row| &row[columns.clone()]).copied().collect();
    bound.min(matrix::norm(&matrix, rows.len(), columns.len(), 0.0))
}
