//! Tightness of a network for inputs and their boxes.

use std::ops::Range;

use ndarray::{ArrayView2, s};
use rayon::prelude::*;

use super::linearize::{Mask, Unsupported, used_nodes};
use super::radii::{Backward, Frame};
use super::scaled::Scaled;
use crate::bounds::{InputBox, Intervals};
use crate::graph::{Graph, ValueId};
use crate::kernels::{LANES, Panel};
use crate::ops::{Op, Order, Workspace};

/// Inputs that pass through the network together.
const TILE: usize = 16;

/// Optimal and layer-wise radii of linear functions of one input's outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Radii {
    rows: Vec<[Scaled; 2]>,
}

impl Radii {
    /// Optimal radius and layer-wise radius of every row.
    #[must_use]
    pub fn rows(&self) -> &[[Scaled; 2]] {
        &self.rows
    }

    /// Tightness of every row: optimal over layer-wise radius, in [0, 1]. It
    /// is 1 where both are 0 (the interval is exact).
    #[must_use]
    pub fn ratios(&self) -> Vec<f64> {
        // Rounding may leave equal radii a few units apart.
        self.rows.iter().map(|[optimal, layerwise]| below_one(optimal.over(*layerwise))).collect()
    }

    /// The mean of the ratios: the tightness of the input.
    #[must_use]
    pub fn tightness(&self) -> f64 {
        self.ratios().iter().sum::<f64>() / self.rows.len() as f64
    }

    /// Mean optimal radius over mean layer-wise radius.
    #[must_use]
    pub fn ratio_of_means(&self) -> f64 {
        let [optimal, layerwise] = self.sums();
        below_one(optimal.over(layerwise))
    }

    /// Optimal and layer-wise radii, summed over the rows.
    #[must_use]
    pub fn sums(&self) -> [Scaled; 2] {
        [0, 1].map(|side| self.rows.iter().map(|row| row[side]).sum())
    }
}

/// NaN stays NaN.
fn below_one(ratio: f64) -> f64 {
    if ratio > 1.0 { 1.0 } else { ratio }
}

/// Tightness of the sub-network that ends before an activation, whose units
/// are its outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTightness {
    /// The node of the activation.
    pub node: usize,
    /// Mean over units of the ratios.
    pub tightness: f64,
    /// Optimal and layer-wise radii, summed over units.
    pub sums: [Scaled; 2],
}

/// The tightness of a network's interval bounds, measured on the linear
/// network that [`Mask`] chooses.
///
/// With `W_k` the layers and `D_k` the diagonals of slopes, a box of radii `e`
/// has the *optimal* radii `|W_L D_{L-1} ... D_1 W_1| e` and the *layer-wise*
/// ones `|W_L| |D_{L-1}| ... |D_1| |W_1| e`; tightness is their ratio (Mao et
/// al. 2024, arXiv 2306.10426). It describes the linear stand-in and is a
/// diagnostic, not a bound on anything the network computes.
pub struct Tightness<'a> {
    graph: &'a Graph,
    mask: Mask,
    used: Vec<bool>,
    back: Backward<'a>,
}

impl<'a> Tightness<'a> {
    /// Prepares the measurement of one network.
    ///
    /// # Errors
    /// [`Unsupported`] if the output depends on an operator that is not
    /// piecewise linear.
    pub fn new(graph: &'a Graph, mask: Mask) -> Result<Self, Unsupported> {
        let used = used_nodes(graph)?;
        graph.prepare_boxes();
        Ok(Self { graph, mask, used, back: Backward::new(graph) })
    }

    /// Radii for every input: of the margins `logit_label - logit_other` for
    /// every other class in order, or of all outputs if there are no labels.
    /// Margins are merged with the last layer. `x` holds `n x input_len`
    /// inputs, `boxes` the box of each.
    ///
    /// Parallel; an input's result does not depend on threads or on the others.
    ///
    /// # Panics
    /// If there is not one box and one label, below the number of classes,
    /// for each input.
    #[must_use]
    pub fn measure(&self, x: ArrayView2<f32>, boxes: &InputBox, labels: Option<&[usize]>) -> Vec<Radii> {
        assert!(labels.is_none_or(|labels| labels.len() == x.nrows()), "one label for each input");
        let classes = self.graph.output_len();
        let rows = if labels.is_some() { classes - 1 } else { classes };
        let function = |input: usize, row: usize| match labels {
            None => (row, None),
            Some(labels) => (labels[input], Some(row + usize::from(row >= labels[input]))),
        };
        self.tiles(x, boxes, |frame, first| Self::rows(frame, first, self.graph.output, rows, &function))
    }

    /// Tightness of every sub-network that ends before an activation (its
    /// pre-activations are the outputs, merged with nothing), for every input;
    /// in the order of the nodes. Costs a pass per unit, not per class.
    ///
    /// # Panics
    /// If there is not one box for each input.
    #[must_use]
    pub fn layers(&self, x: ArrayView2<f32>, boxes: &InputBox) -> Vec<Vec<LayerTightness>> {
        let unit = |_: usize, row: usize| (row, None);
        self.tiles(x, boxes, |frame, first| {
            let mut inputs = vec![Vec::new(); frame.batch];
            for node in self.activations() {
                let value = self.graph.nodes[node].inputs[0];
                let all = Self::rows(frame, first, value, self.graph.len(value), &unit);
                for (layers, radii) in inputs.iter_mut().zip(all) {
                    layers.push(LayerTightness { node, tightness: radii.tightness(), sums: radii.sums() });
                }
            }
            inputs
        })
    }

    /// The nodes of the activations that the output depends on.
    pub fn activations(&self) -> impl Iterator<Item = usize> {
        let elementwise = |i: &usize| self.used[*i] && matches!(self.graph.nodes[*i].op, Op::Elementwise(_));
        (0..self.used.len()).filter(elementwise)
    }

    /// Calls `each(frame, first input)` for tiles of inputs in parallel.
    fn tiles<T: Send>(
        &self,
        x: ArrayView2<f32>,
        boxes: &InputBox,
        each: impl Fn(&Frame, usize) -> Vec<T> + Sync,
    ) -> Vec<T> {
        assert_eq!(x.nrows(), boxes.len(), "one box for each input");
        let starts: Vec<usize> = (0..x.nrows()).step_by(TILE).collect();
        let results: Vec<Vec<T>> = starts
            .into_par_iter()
            .map(|first| {
                let batch = TILE.min(x.nrows() - first);
                let part = s![first..first + batch, ..];
                let x: Vec<f64> = x.slice(part).iter().map(|&x| f64::from(x)).collect();
                let lower: Vec<f64> = boxes.lower().slice(part).iter().copied().collect();
                let upper: Vec<f64> = boxes.upper().slice(part).iter().copied().collect();
                let ends = Intervals { lower, upper };
                each(&Frame::new(self.graph, &self.back, &self.used, self.mask, (x, &ends)), first)
            })
            .collect();
        results.into_iter().flatten().collect()
    }

    /// Radii of `rows` functions of a value: `function(input, row)` gives the entry with coefficient 1 and,
    /// if there is one, the entry with coefficient -1.
    fn rows(
        frame: &Frame,
        first: usize,
        value: ValueId,
        rows: usize,
        function: &(impl Fn(usize, usize) -> (usize, Option<usize>) + Sync),
    ) -> Vec<Radii> {
        // Whole panels of one input share what is zero; the rest of all inputs fill panels together.
        let whole = rows / LANES * LANES;
        let of = |rows: Range<usize>| {
            (0..frame.batch).flat_map(move |input| rows.clone().map(move |row| (input, row)))
        };
        let all: Vec<(usize, usize)> = of(0..whole).chain(of(whole..rows)).collect();
        let panel = |memory: &mut Workspace, functions: &[(usize, usize)]| {
            let inputs = std::array::from_fn(|lane| functions[lane.min(functions.len() - 1)].0);
            let start = |panel: &mut Panel, order: Order| {
                for (lane, &(input, row)) in functions.iter().enumerate() {
                    let (plus, minus) = function(first + input, row);
                    panel.entry(order.place(plus)).0[lane] = 1.0;
                    if let Some(minus) = minus {
                        panel.entry(order.place(minus)).0[lane] = -1.0;
                    }
                }
            };
            frame.radii(value, inputs, start, memory)
        };
        let found: Vec<_> = all.par_chunks(LANES).map_init(Workspace::default, panel).collect();
        let mut radii = vec![Radii { rows: vec![[Scaled::default(); 2]; rows] }; frame.batch];
        for (&(input, row), found) in all.iter().zip(found.into_iter().flatten()) {
            radii[input].rows[row] = found;
        }
        radii
    }
}
