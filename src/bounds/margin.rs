//! Lower bounds on the margins `logit_label - logit_other`.

use std::sync::OnceLock;

use ndarray::{Array2, ArrayView1, ArrayViewMut1, Axis, aview1, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::elision::Elision;
use super::linear::{Effort, Function, Plan, Relaxed, Row};
use super::{Evaluation, InputBox, Intervals, propagate, propagate_evaluated};
use crate::graph::{Graph, ValueId};
use crate::ops::Op;
use crate::rounding::directed::{add_up, div_down, mul_up, sub_down};

/// Inputs that pass through the network together.
const TILE: usize = 16;

/// How margins are bounded; linear bounds from the fastest to, nearly always, the tightest.
/// None is ever looser than [`Method::Ibp`], and [`Method::Best`] certifies
/// whatever one of the others does; tighter intervals can lead to lines that
/// are worse for a margin, so [`Method::Crown`] may rarely fall behind
/// [`Method::CrownIbp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Interval bound propagation.
    Ibp,
    /// One backward pass over the intervals of IBP (Zhang et al. 2020).
    CrownIbp,
    /// Backward passes for every intermediate value too (Zhang et al. 2018).
    Crown,
    /// The same with lines optimised for every margin that is not yet
    /// certified (Xu et al. 2021).
    AlphaCrown,
    /// The margin at the centre less the Lipschitz constant of the margin times
    /// the distance (Tsuzuku et al. 2018); see [`Steepness`]. For the l2 norm.
    Lipschitz,
    /// For each input the first of the above that certifies it, from the
    /// cheapest on; [`Method::Lipschitz`] for balls only.
    Best,
    /// The same, then branch and bound ([`crate::verify`]) until the input is certified or falsified; its
    /// bounds alone are those of [`Method::Best`].
    Complete,
}

/// l2 Lipschitz constants of the outputs of a network, from above; infinite
/// where there are none. [`crate::lipschitz::margin_bounds`] gives them.
pub trait Steepness: Send + Sync {
    /// For every class the constant of `logit_label - logit_class`.
    fn margins(&self, label: usize) -> &[f64];
    /// For every class the constant of its logit.
    fn outputs(&self) -> Vec<f64>;
}

impl Method {
    /// The methods that are tried one after the other until one certifies.
    fn stages(self) -> &'static [Self] {
        match self {
            Self::Ibp => &[Self::Ibp],
            Self::CrownIbp => &[Self::CrownIbp],
            Self::Crown => &[Self::Crown],
            Self::AlphaCrown => &[Self::AlphaCrown],
            Self::Lipschitz => &[Self::Lipschitz],
            Self::Best | Self::Complete => {
                &[Self::Ibp, Self::Lipschitz, Self::CrownIbp, Self::Crown, Self::AlphaCrown]
            }
        }
    }

    /// What it spends on linear bounds, and its steps of gradient ascent; `None` if it has none.
    fn linear(self) -> Option<(Effort, usize)> {
        let effort = |tighten, choices, iterations| {
            Some((Effort { tighten, choices, ..Effort::default() }, iterations))
        };
        match self {
            Self::Ibp | Self::Lipschitz => None,
            Self::CrownIbp => effort(false, false, 0),
            Self::Crown => effort(true, false, 0),
            Self::AlphaCrown => effort(true, true, 20),
            Self::Best | Self::Complete => Self::AlphaCrown.linear(),
        }
    }
}

/// Lower bounds on margins, `n x classes`; `inf` at the label itself.
#[derive(Clone, Debug)]
pub struct Margins {
    lower: Array2<f64>,
    methods: Vec<Method>,
}

impl Margins {
    /// The bounds, `n x classes`; `inf` at the label.
    #[must_use]
    pub fn lower(&self) -> &Array2<f64> {
        &self.lower
    }

    /// What bounded the margins of one input: with [`Method::Best`] the last
    /// method that was tried.
    #[must_use]
    pub fn method(&self, input: usize) -> Method {
        self.methods[input]
    }

    /// The least margin bound of one input.
    #[must_use]
    pub fn least(&self, input: usize) -> f64 {
        self.lower.row(input).iter().fold(f64::INFINITY, |m, &x| if x < m || x.is_nan() { x } else { m })
    }

    /// Whether every margin of one input is proved positive over its box.
    #[must_use]
    pub fn certified(&self, input: usize) -> bool {
        self.lower.row(input).iter().all(|&x| x > 0.0)
    }
}

/// Margin bounds of a network.
pub struct MarginBounds<'a> {
    graph: &'a Graph,
    method: Method,
    plan: Plan<'a>,
    keep: Vec<bool>,
    elisions: Vec<OnceLock<Elision>>,
    constants: Option<Box<dyn Steepness>>,
}

impl<'a> MarginBounds<'a> {
    /// Prepares the bounds of one network in real arithmetic.
    #[must_use]
    pub fn new(graph: &'a Graph, method: Method) -> Self {
        graph.prepare_boxes();
        let mut keep = vec![false; graph.nodes.len() + 1];
        keep[graph.output] = true;
        for (i, node) in graph.nodes.iter().enumerate().rev() {
            if keep[i + 1] && matches!(node.op, Op::Affine(_)) {
                keep[i + 1] = false;
                node.inputs.iter().for_each(|&v| keep[v] = true);
            }
        }
        let (plan, elisions) = (Plan::new(graph, Evaluation::Real), Vec::new());
        Self { graph, method, plan, keep, elisions, constants: None }.evaluated(Evaluation::Real)
    }

    /// The same for a network that is evaluated in this arithmetic. In f32,
    /// margins are differences of the logits as computed: a positive bound says
    /// that the label's logit is the greatest and ties with none.
    #[must_use]
    pub fn evaluated(mut self, evaluation: Evaluation) -> Self {
        self.plan.evaluation = evaluation;
        self.elisions = (0..self.graph.output_len()).map(|_| OnceLock::new()).collect();
        self
    }

    /// The arithmetic that the bounds speak of.
    #[must_use]
    pub fn evaluation(&self) -> Evaluation {
        self.plan.evaluation
    }

    /// With Lipschitz constants, without which [`Method::Lipschitz`] is [`Method::Ibp`].
    #[must_use]
    pub fn with_constants(self, constants: Box<dyn Steepness>) -> Self {
        Self { constants: Some(constants), ..self }
    }

    /// The margins of one input by Lipschitz constants: lower bounds at the centre of its box or ball,
    /// and constants; none without constants.
    fn steep(&self, boxes: &InputBox, i: usize, label: usize) -> Option<(Vec<f64>, &[f64])> {
        // Constants speak of real arithmetic.
        let constants = self.constants.as_ref().filter(|_| self.evaluation() == Evaluation::Real)?;
        let constants = constants.margins(label);
        let centre = boxes.centre(i);
        let point = Intervals { lower: centre.clone(), upper: centre };
        let values = propagate(self.graph, 1, point, |v| self.keep[v]);
        Some((self.from_values(&values, &[label]).lower.into_raw_vec_and_offset().0, constants))
    }

    /// An l2 radius around the centre of every set within which Lipschitz constants prove its label: the
    /// least quotient of a margin and its constant, rounded down; 0 where they prove none.
    ///
    /// # Panics
    /// As [`MarginBounds::bound`].
    #[must_use]
    pub fn radius(&self, boxes: &InputBox, i: usize, label: usize) -> f64 {
        let Some((margins, constants)) = self.steep(boxes, i, label) else { return 0.0 };
        let others = margins.iter().zip(constants).enumerate().filter(|(class, _)| *class != label);
        others.fold(f64::INFINITY, |least, (_, (&margin, &constant))| {
            // Strictly within, as a margin of zero is no certificate.
            let radius = div_down(margin, constant).next_down();
            if !(radius > 0.0) || !constant.is_finite() { 0.0 } else { least.min(radius) }
        })
    }

    /// Margin bounds of every box against its label. Parallel over tiles of
    /// inputs; an input's result does not depend on the others.
    ///
    /// # Panics
    /// If there is not one label, below the number of classes, per box.
    #[must_use]
    pub fn bound(&self, boxes: &InputBox, labels: &[usize]) -> Margins {
        self.bounded(boxes, labels, false).0
    }

    /// The same, and for every box that is certified what proves it, as the checker of certificates reads it:
    /// Lipschitz constants, of which it knows nothing, are not used.
    ///
    /// # Panics
    /// As [`MarginBounds::bound`].
    #[must_use]
    pub fn prove(&self, boxes: &InputBox, labels: &[usize]) -> (Margins, Vec<Option<String>>) {
        self.bounded(boxes, labels, true)
    }

    fn bounded(&self, boxes: &InputBox, labels: &[usize], proved: bool) -> (Margins, Vec<Option<String>>) {
        assert_eq!(boxes.len(), labels.len(), "one label for each box");
        let classes = self.graph.output_len();
        let mut lower = Array2::from_elem((boxes.len(), classes), f64::INFINITY);
        lower.axis_chunks_iter_mut(Axis(0), TILE).into_par_iter().enumerate().for_each(|(tile, mut out)| {
            let first = tile * TILE;
            let labels = &labels[first..first + out.nrows()];
            let rows = s![first..first + out.nrows(), ..];
            let input = Intervals {
                lower: boxes.lower().slice(rows).iter().copied().collect(),
                upper: boxes.upper().slice(rows).iter().copied().collect(),
            };
            let keep = |v: ValueId| self.keep[v];
            let values = propagate_evaluated(self.evaluation(), self.graph, labels.len(), input, keep);
            out.assign(&self.from_values(&values, labels).lower);
        });
        if self.method == Method::Lipschitz {
            // From one evaluation alone.
            lower.mapv_inplace(|m| if m == f64::INFINITY { m } else { f64::NEG_INFINITY });
        }
        let mut methods = vec![Method::Ibp; boxes.len()];
        let mut proofs: Vec<Option<Proof>> = vec![None; boxes.len()];
        let rows = lower.axis_iter_mut(Axis(0)).into_par_iter().zip(&mut methods).zip(&mut proofs);
        rows.enumerate().for_each(|(i, ((row, used), proof))| {
            // The other methods alone have intervals of their own.
            let first = matches!(self.method, Method::Ibp | Method::Best | Method::Complete);
            *proof = proved.then(|| Proof::new(row.view(), labels[i], first));
            if self.method != Method::Ibp {
                *used = self.refine((boxes, i, labels[i]), row, proof.as_mut());
            }
        });
        let texts = proofs.into_iter().map(|proof| proof.and_then(Proof::text)).collect();
        (Margins { lower, methods }, texts)
    }

    /// Bounds on the outputs themselves over every box: lower and upper, each
    /// `n x classes`; both NaN where the network may be undefined. With
    /// [`Method::Best`], those of [`Method::AlphaCrown`]. Parallel; an input's
    /// result does not depend on the others.
    #[must_use]
    pub fn outputs(&self, boxes: &InputBox) -> [Array2<f64>; 2] {
        let classes = self.graph.output_len();
        let mut bounds = [(); 2].map(|()| Array2::zeros((boxes.len(), classes)));
        let [lower, upper] = &mut bounds;
        let rows = lower.axis_iter_mut(Axis(0)).into_par_iter().zip(upper.axis_iter_mut(Axis(0)));
        rows.enumerate().for_each(|(i, (mut lower, mut upper))| {
            let linear = self.method.linear();
            let (effort, iterations) = linear.unwrap_or_default();
            let relaxed = Relaxed::of_set(self.graph, &self.plan, boxes, i, effort);
            let intervals = &relaxed.values[self.graph.output];
            lower.assign(&aview1(&intervals.lower));
            upper.assign(&aview1(&intervals.upper));
            let undefined = |v: &Intervals| v.lower.iter().any(|x| x.is_nan());
            if self.method == Method::Lipschitz
                && let Some(constants) =
                    self.constants.as_ref().filter(|_| self.evaluation() == Evaluation::Real)
            {
                let (centre, distance) = (boxes.centre(i), boxes.distance(i));
                let point = Intervals { lower: centre.clone(), upper: centre };
                let values = propagate(self.graph, 1, point, |v| v == self.graph.output);
                let at = &values[self.graph.output];
                for (class, constant) in constants.outputs().into_iter().enumerate() {
                    if constant.is_finite() && !at.lower[class].is_nan() && !at.upper[class].is_nan() {
                        let reach = mul_up(constant, distance);
                        lower[class] = lower[class].max(sub_down(at.lower[class], reach));
                        upper[class] = upper[class].min(add_up(at.upper[class], reach));
                    }
                }
            }
            if linear.is_none() || relaxed.values.iter().any(undefined) {
                return;
            }
            let [below, above] = [1.0, -1.0].map(|sign| {
                let functions: Vec<Function> = (0..classes)
                    .map(|class| Function { value: vec![(class, sign)], ..Function::default() })
                    .collect();
                relaxed.lower_bounds(self.graph.output, &each(&functions), iterations)
            });
            for class in 0..classes {
                lower[class] = lower[class].max(below[class]);
                upper[class] = upper[class].min(-above[class]);
            }
        });
        bounds
    }

    /// Raises the margin bounds of one input; returns the last method used.
    fn refine(
        &self,
        (boxes, i, label): (&InputBox, usize, usize),
        mut margins: ArrayViewMut1<f64>,
        mut proof: Option<&mut Proof>,
    ) -> Method {
        let classes = self.graph.output_len();
        let others: Vec<usize> = (0..classes).filter(|&c| c != label).collect();
        let mut used = Method::Ibp;
        for &stage in self.method.stages() {
            if matches!(self.method, Method::Best | Method::Complete) && margins.iter().all(|&m| m > 0.0) {
                break;
            }
            if stage == Method::Lipschitz
                && proof.is_none()
                && (self.method == stage || boxes.balls().is_some())
                && let Some((centre, constants)) = self.steep(boxes, i, label)
            {
                used = stage;
                let distance = boxes.distance(i);
                for class in others.iter().copied().filter(|&class| constants[class].is_finite()) {
                    let margin = sub_down(centre[class], mul_up(constants[class], distance));
                    margins[class] = margins[class].max(margin);
                }
            }
            let Some((effort, iterations)) = stage.linear() else { continue };
            used = stage;
            let relaxed = Relaxed::of_set(self.graph, &self.plan, boxes, i, effort);
            // Where the network may be undefined nothing is certified; a later
            // stage may find that it is defined.
            if relaxed.values.iter().any(|v| v.lower.iter().any(|x| x.is_nan())) {
                continue;
            }
            let intervals = self.from_values(&relaxed.values, &[label]).lower;
            let margin =
                |&other: &usize| Function { value: vec![(label, 1.0), (other, -1.0)], ..Function::default() };
            let functions: Vec<Function> = others.iter().map(margin).collect();
            let numbers: Option<Vec<u32>> = proof.is_some().then(|| (0..others.len() as u32).collect());
            let linear =
                relaxed.proved_bounds(self.graph.output, &each(&functions), iterations, numbers.as_deref());
            let mut rows = Vec::new();
            for (&class, (bound, text)) in others.iter().zip(linear) {
                let interval = intervals[[0, class]];
                rows.push(text.or_else(|| (interval > 0.0).then(String::new)));
                margins[class] = margins[class].max(interval).max(bound);
            }
            if let Some(proof) = &mut proof {
                proof.add(relaxed.intervals_proof(0), rows);
            }
        }
        used
    }

    /// Whether [`MarginBounds::from_values`] reads this value.
    #[must_use]
    pub fn reads(&self, value: ValueId) -> bool {
        self.keep[value]
    }

    /// Margin bounds from what [`propagate`] gave for a batch, with all values
    /// kept that [`MarginBounds::reads`] names.
    ///
    /// # Panics
    /// If a label is not below the number of classes, or values are missing.
    #[must_use]
    pub fn from_values(&self, values: &[Intervals], labels: &[usize]) -> Margins {
        let classes = self.graph.output_len();
        let mut lower = Array2::from_elem((labels.len(), classes), f64::INFINITY);
        for (i, &label) in labels.iter().enumerate() {
            let elision =
                self.elisions[label].get_or_init(|| Elision::margins(self.graph, label, self.evaluation()));
            // In f32 a logit may overflow where real arithmetic has a value.
            let logits = &values[self.graph.output].lower[i * classes..(i + 1) * classes];
            if self.evaluation() == Evaluation::Float32 && logits.iter().any(|logit| logit.is_nan()) {
                lower.row_mut(i).fill(f64::NEG_INFINITY);
                lower[[i, label]] = f64::INFINITY;
                continue;
            }
            let bounds = elision.lower(i, labels.len(), values);
            let others = (0..classes).filter(|&c| c != label);
            others.zip(bounds).for_each(|(class, bound)| lower[[i, class]] = bound);
        }
        Margins { methods: vec![Method::Ibp; labels.len()], lower }
    }
}

/// Each function as a row of its own.
fn each(functions: &[Function]) -> Vec<Row<'_>> {
    functions.iter().map(|f| Row { of: 0, functions: std::slice::from_ref(f), cuts: &[] }).collect()
}

/// Parts of a proof that all margins of an input are positive, one for each method that proved some of them.
#[derive(Clone)]
struct Proof {
    open: Vec<bool>,
    parts: Vec<String>,
}

impl Proof {
    /// Nothing yet, or what intervals show.
    fn new(margins: ArrayView1<f64>, label: usize, by_intervals: bool) -> Self {
        let others = margins.iter().enumerate().filter(|(class, _)| *class != label);
        let rows: Vec<Option<String>> =
            others.map(|(_, m)| (by_intervals && *m > 0.0).then(String::new)).collect();
        let mut proof = Self { open: vec![true; rows.len()], parts: Vec::new() };
        proof.add(String::new(), rows);
        proof
    }

    /// Adds what was proved over some intervals; an empty row is one of constant lines.
    fn add(&mut self, intervals: String, rows: Vec<Option<String>>) {
        let mut own = String::new();
        for (number, (row, open)) in rows.into_iter().zip(&mut self.open).enumerate() {
            if let (Some(row), true) = (row, *open) {
                *open = false;
                let constant = || format!("row {number}\nconstant\n");
                own += &Some(row).filter(|row| !row.is_empty()).unwrap_or_else(constant);
            }
        }
        if !own.is_empty() {
            self.parts.push(format!("box\n{intervals}{own}"));
        }
    }

    /// The proof, if nothing is left open.
    fn text(self) -> Option<String> {
        (!self.open.contains(&true)).then(|| self.parts.join("again\n") + "end\n")
    }
}
