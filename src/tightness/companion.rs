//! What is reported beside tightness, for every input: the state of its units,
//! boxes and losses (after `CTBench`, arXiv 2406.04848).

use ndarray::{ArrayView2, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::linearize::{Unsupported, evaluate, piece, used_nodes};
use crate::bounds::{InputBox, Intervals, MarginBounds, Margins, Method, propagate};
use crate::graph::{Graph, ValueId};
use crate::ops::{Affine, Function, Op, Weights};
use crate::random::InputStreams;

/// Inputs that pass through the network together.
const TILE: usize = 8;

/// How many units (entries that pass an activation) are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Units {
    /// In a piece of slope 0 over the whole box: of no effect.
    pub dead: usize,
    /// In more than one linear piece, as far as intervals can tell.
    pub unstable: usize,
    /// In one linear piece of another slope over the whole box.
    pub active: usize,
}

impl Units {
    fn count(&mut self, slope: Option<f64>) {
        match slope {
            None => self.unstable += 1,
            Some(0.0) => self.dead += 1,
            Some(_) => self.active += 1,
        }
    }
}

/// The figures of one input.
#[derive(Clone, Debug, PartialEq)]
pub struct Companions {
    /// States under interval bounds on the box.
    pub at_eps: Units,
    /// States at the input itself, where no unit is unstable: a
    /// pre-activation of exactly 0 counts as active.
    pub at_zero: Units,
    /// Units found in different pieces at sampled points of the box: a lower
    /// bound on those that are truly unstable.
    pub sampled_unstable: usize,
    /// Mean over outputs of the radius of their interval.
    pub box_radius: f64,
    /// `logit_label` minus the greatest other logit at the input, in `f64`.
    pub logit_margin: f64,
    /// Cross-entropy of the worst case that the margin bounds allow,
    /// `ln(1 + sum exp(-margin))`.
    pub ibp_loss: f64,
}

/// Points to look for unstable units at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Points of each box: random corners and uniform points in turn.
    pub points: u32,
    /// Seed; what is drawn depends on it and on the input's index only.
    pub seed: u64,
}

/// Measures [`Companions`] for one network.
pub struct CompanionFigures<'a> {
    graph: &'a Graph,
    margins: MarginBounds<'a>,
    /// Every activation with the value that it reads.
    activations: Vec<(&'a dyn Function, ValueId)>,
}

impl<'a> CompanionFigures<'a> {
    /// Prepares the measurement.
    ///
    /// # Errors
    /// [`Unsupported`] if the output depends on an operator that is not
    /// piecewise linear, whose units have no such states.
    pub fn new(graph: &'a Graph) -> Result<Self, Unsupported> {
        let used = used_nodes(graph)?;
        let activations = graph.nodes.iter().zip(used).filter_map(|(node, used)| match &node.op {
            Op::Elementwise(function) if used => Some((&**function, node.inputs[0])),
            _ => None,
        });
        Ok(Self { graph, margins: MarginBounds::new(graph, Method::Ibp), activations: activations.collect() })
    }

    /// Number of units of the network.
    #[must_use]
    pub fn units(&self) -> usize {
        self.activations.iter().map(|(_, v)| self.graph.len(*v)).sum()
    }

    /// The figures and margin bounds of every input; `indices`
    /// are their positions in the data set. Parallel; an input's result does
    /// not depend on threads or on the other inputs.
    ///
    /// # Panics
    /// If there is not one box, one index and one label, below the number of classes,
    /// for each input.
    #[must_use]
    pub fn measure(
        &self,
        x: ArrayView2<f32>,
        boxes: &InputBox,
        labels: &[usize],
        indices: &[usize],
        sampling: Sampling,
    ) -> Vec<(Companions, Margins)> {
        let given = [boxes.len(), labels.len(), indices.len()];
        assert_eq!(given, [x.nrows(); 3], "a box, a label and an index for each input");
        let starts: Vec<usize> = (0..x.nrows()).step_by(TILE).collect();
        let tile = |start: usize| {
            let batch = TILE.min(x.nrows() - start);
            let part = s![start..start + batch, ..];
            let ends = Intervals {
                lower: boxes.lower().slice(part).iter().copied().collect(),
                upper: boxes.upper().slice(part).iter().copied().collect(),
            };
            let x = x.slice(part).iter().map(|&x| f64::from(x)).collect();
            self.tile(x, &ends, &labels[start..start + batch], &indices[start..start + batch], sampling)
        };
        let results: Vec<Vec<_>> = starts.into_par_iter().map(tile).collect();
        results.into_iter().flatten().collect()
    }

    fn tile(
        &self,
        x: Vec<f64>,
        ends: &Intervals,
        labels: &[usize],
        indices: &[usize],
        sampling: Sampling,
    ) -> Vec<(Companions, Margins)> {
        let (graph, batch) = (self.graph, labels.len());
        let kept = |v: ValueId| self.activations.iter().any(|a| a.1 == v) || v == graph.output;
        let boxes = propagate(graph, batch, ends.clone(), |v| kept(v) || self.margins.reads(v));
        let values = evaluate(graph, batch, x);
        let sampled = self.sampled(&values, ends, indices, sampling);
        let one = |(b, &label): (usize, &usize)| {
            let [mut at_eps, mut at_zero] = [Units::default(); 2];
            for (function, v) in &self.activations {
                let len = graph.len(*v);
                for j in 0..len {
                    let at = b * len + j;
                    at_eps.count(piece(*function, j, boxes[*v].lower[at], boxes[*v].upper[at]));
                    at_zero.count(function.slope(j, values[*v][at]));
                }
            }
            let classes = graph.output_len();
            let part = b * classes..(b + 1) * classes;
            let widths =
                boxes[graph.output].upper[part.clone()].iter().zip(&boxes[graph.output].lower[part.clone()]);
            let logits = &values[graph.output][part];
            let others = (0..classes).filter(|&c| c != label).map(|c| logits[c]);
            let margins = self.margins.from_values(&of_input(&boxes, b, batch), &[label]);
            let companions = Companions {
                at_eps,
                at_zero,
                sampled_unstable: sampled[b],
                box_radius: widths.map(|(u, l)| 0.5 * (u - l) / classes as f64).sum(),
                logit_margin: logits[label] - others.fold(f64::NEG_INFINITY, f64::max),
                ibp_loss: loss(margins.lower().iter().copied().filter(|m| *m != f64::INFINITY)),
            };
            (companions, margins)
        };
        labels.iter().enumerate().map(one).collect()
    }

    /// For each input, the units whose slope differs between the input and
    /// some sampled point.
    fn sampled(
        &self,
        values: &[Vec<f64>],
        ends: &Intervals,
        indices: &[usize],
        sampling: Sampling,
    ) -> Vec<usize> {
        let batch = indices.len();
        let mut differ: Vec<Vec<bool>> =
            self.activations.iter().map(|(_, v)| vec![false; values[*v].len()]).collect();
        let len = self.graph.input_len();
        for point in 0..sampling.points {
            let mut x = Vec::with_capacity(batch * len);
            for (b, &index) in indices.iter().enumerate() {
                let stream = InputStreams::new(sampling.seed, index as u64).sample(point);
                let words = (0..len.div_ceil(4)).flat_map(|block| stream.block(block as u32));
                for (j, word) in words.take(len).enumerate() {
                    let (l, u) = (ends.lower[b * len + j], ends.upper[b * len + j]);
                    x.push(match (point % 2, word >> 31) {
                        (0, 0) => l,
                        (0, _) => u,
                        _ => (l + (u - l) * f64::from(word) / f64::from(u32::MAX)).clamp(l, u),
                    });
                }
            }
            let sample = evaluate(self.graph, batch, x);
            for ((function, v), differ) in self.activations.iter().zip(&mut differ) {
                let len = self.graph.len(*v);
                for (at, (differ, (a, b))) in
                    differ.iter_mut().zip(values[*v].iter().zip(&sample[*v])).enumerate()
                {
                    *differ |= function.slope(at % len, *a) != function.slope(at % len, *b);
                }
            }
        }
        let count = |b: usize| {
            let of_input = |(differ, (_, v)): (&Vec<bool>, &(_, ValueId))| {
                let len = self.graph.len(*v);
                differ[b * len..(b + 1) * len].iter().filter(|d| **d).count()
            };
            differ.iter().zip(&self.activations).map(of_input).sum()
        };
        (0..batch).map(count).collect()
    }
}

/// The bounds of one input of a batch.
fn of_input(values: &[Intervals], b: usize, batch: usize) -> Vec<Intervals> {
    let part = |side: &[f64]| side[b * side.len() / batch..(b + 1) * side.len() / batch].to_vec();
    values.iter().map(|v| Intervals { lower: part(&v.lower), upper: part(&v.upper) }).collect()
}

/// `ln(1 + sum exp(-margin))`.
fn loss(margins: impl Iterator<Item = f64> + Clone) -> f64 {
    let worst = margins.clone().fold(0.0, |m: f64, margin| m.max(-margin));
    if worst == f64::INFINITY {
        return worst;
    }
    worst + libm::log(libm::exp(-worst) + margins.map(|m| libm::exp(-m - worst)).sum::<f64>())
}

/// Signs of the weights of one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightSigns {
    /// The node's name.
    pub name: String,
    /// Number of weights.
    pub weights: usize,
    /// Share of positive ones.
    pub positive: f64,
    /// Share of negative ones.
    pub negative: f64,
    /// `|sum w| / sum |w|`, from 0 (balanced) to 1 (one sign); 1 where all are zero.
    pub imbalance: f64,
}

/// Signs of the weights of every dense layer and convolution.
#[must_use]
pub fn weight_signs(graph: &Graph) -> Vec<WeightSigns> {
    let signs = |name: &str, weight: &Weights| {
        let w = weight.exact();
        let share = |sign: fn(f64) -> bool| w.iter().filter(|w| sign(**w)).count() as f64 / w.len() as f64;
        let (sum, size) = w.iter().fold((0.0, 0.0), |(s, a), w| (s + w, a + w.abs()));
        WeightSigns {
            name: name.to_owned(),
            weights: w.len(),
            positive: share(|w| w > 0.0),
            negative: share(|w| w < 0.0),
            imbalance: if size == 0.0 { 1.0 } else { f64::abs(sum) / size },
        }
    };
    let layers = graph.nodes.iter().filter_map(|node| match &node.op {
        Op::Affine(Affine::Dense(op)) => Some(signs(&node.name, &op.weight)),
        Op::Affine(Affine::Conv(op)) => Some(signs(&node.name, &op.weight)),
        _ => None,
    });
    layers.collect()
}
