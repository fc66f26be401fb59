//! True tightness of small networks: the exact range of every margin over a
//! box against its interval bound.
//!
//! The exact range is found by branch and bound: the input box is split, each
//! part is bounded by intervals (sound, rounded outward), and values at points
//! bound the range from inside. Where the budget ends before both meet, the
//! gap between them is given and so is an interval that holds the true value.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use ndarray::{Array2, Axis};

use super::linearize::evaluate;
use crate::bounds::{InputBox, MarginBounds, Method};
use crate::graph::Graph;

/// Boxes that are bounded together.
const BATCH: usize = 32;

/// When the search for one end of a range stops.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// When what is proved and what is attained are this close, as a share of
    /// their distance at the beginning,
    pub gap: f64,
    /// or after this many boxes.
    pub boxes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { gap: 1e-3, boxes: 20_000 }
    }
}

/// What is known of the range of `logit_label - logit_other` over a box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MarginRange {
    /// The other class.
    pub other: usize,
    /// The interval bound on the whole box.
    pub interval: [f64; 2],
    /// Contains the exact range: proved.
    pub outer: [f64; 2],
    /// Least and greatest value found: inside the exact range, up to the
    /// rounding of an evaluation in `f64`.
    pub inner: [f64; 2],
}

impl MarginRange {
    /// The true tightness, exact width over interval width, lies between
    /// these two; both are 1 where the interval is a point.
    #[must_use]
    pub fn tightness(&self) -> [f64; 2] {
        let width = |[l, u]: [f64; 2]| (u - l).max(0.0);
        let whole = width(self.interval);
        [self.inner, self.outer].map(|part| if whole == 0.0 { 1.0 } else { (width(part) / whole).min(1.0) })
    }
}

/// The ranges of all margins of `label` over box number `input`.
///
/// # Panics
/// If there is no such box or class.
#[must_use]
pub fn margin_ranges(
    graph: &Graph,
    boxes: &InputBox,
    input: usize,
    label: usize,
    budget: Budget,
) -> Vec<MarginRange> {
    let row = |side: ndarray::ArrayView2<f64>| side.row(input).to_vec();
    let search = Search { graph, margins: MarginBounds::new(graph, Method::Ibp), budget };
    let (lower, upper) = (row(boxes.lower()), row(boxes.upper()));
    let others = (0..graph.output_len()).filter(|&other| other != label);
    others
        .map(|other| {
            // The greatest value of a margin is minus the least of its negative.
            let low = search.least(&lower, &upper, label, other);
            let high = search.least(&lower, &upper, other, label);
            let range = |pick: fn(&End) -> f64| [pick(&low), -pick(&high)];
            MarginRange {
                other,
                interval: range(|e| e.interval),
                outer: range(|e| e.outer),
                inner: range(|e| e.inner),
            }
        })
        .collect()
}

/// The least value of a margin: below `interval` and `outer` it never falls,
/// `inner` it attains.
struct End {
    interval: f64,
    outer: f64,
    inner: f64,
}

struct Search<'a> {
    graph: &'a Graph,
    margins: MarginBounds<'a>,
    budget: Budget,
}

/// Lower and upper ends of a box.
type Ends = (Vec<f64>, Vec<f64>);

/// A part of the box, with a lower bound on the margin in it.
struct Part {
    bound: f64,
    lower: Vec<f64>,
    upper: Vec<f64>,
}

impl Search<'_> {
    fn least(&self, lower: &[f64], upper: &[f64], positive: usize, negative: usize) -> End {
        let start = vec![(lower.to_vec(), upper.to_vec())];
        let (mut inner, mut open) = (f64::INFINITY, BinaryHeap::new());
        // Parts that are a single point and cannot be split.
        let mut settled = f64::INFINITY;
        self.bound(start, positive, negative, f64::NEG_INFINITY, &mut inner, &mut open);
        let interval = open.peek().map_or(f64::NEG_INFINITY, |p: &Part| p.bound);
        let tolerance = self.budget.gap * (inner - interval);
        let mut used = 1;
        while let Some(least) = open.peek().map(|p| p.bound) {
            if inner - least.min(settled) <= tolerance || used >= self.budget.boxes {
                break;
            }
            let mut halves = Vec::with_capacity(2 * BATCH);
            while halves.len() < 2 * BATCH
                && let Some(part) = open.pop()
            {
                match split(&part) {
                    Some(two) => halves.extend(two.map(|half| (part.bound, half))),
                    None => settled = settled.min(part.bound),
                }
            }
            used += halves.len();
            let inherited = halves.iter().map(|h| h.0).fold(f64::INFINITY, f64::min);
            let halves = halves.into_iter().map(|h| h.1).collect();
            self.bound(halves, positive, negative, inherited, &mut inner, &mut open);
        }
        let least = open.peek().map_or(f64::INFINITY, |p| p.bound);
        End { interval, outer: least.min(settled).min(inner).max(interval), inner }
    }

    /// Bounds parts, whose values are known to be at least `inherited`, and
    /// evaluates the network at their centres.
    fn bound(
        &self,
        parts: Vec<Ends>,
        positive: usize,
        negative: usize,
        inherited: f64,
        inner: &mut f64,
        open: &mut BinaryHeap<Part>,
    ) {
        let (n, len) = (parts.len(), self.graph.input_len());
        if n == 0 {
            return;
        }
        let rows = |side: fn(&Ends) -> &[f64]| {
            let all = parts.iter().flat_map(|p| side(p).iter().copied()).collect();
            Array2::from_shape_vec((n, len), all).expect("n boxes")
        };
        let (lower, upper) = (rows(|p| &p.0), rows(|p| &p.1));
        let centres: Vec<f64> =
            lower.iter().zip(&upper).map(|(l, u)| (0.5 * l + 0.5 * u).clamp(*l, *u)).collect();
        let values = evaluate(self.graph, n, centres);
        for logits in values[self.graph.output].chunks_exact(self.graph.output_len()) {
            *inner = inner.min(logits[positive] - logits[negative]);
        }
        let boxes = InputBox::new(lower, upper).expect("parts of a box are boxes");
        let bounds = self.margins.bound(&boxes, &vec![positive; n]);
        for (bound, (lower, upper)) in bounds.lower().index_axis(Axis(1), negative).iter().zip(parts) {
            open.push(Part { bound: bound.max(inherited), lower, upper });
        }
    }
}

/// Both halves of a part along its longest edge; none of a single point.
fn split(part: &Part) -> Option<[Ends; 2]> {
    let width = |j: usize| part.upper[j] - part.lower[j];
    let longest = (0..part.lower.len()).max_by(|&i, &j| width(i).total_cmp(&width(j)))?;
    let middle = 0.5 * part.lower[longest] + 0.5 * part.upper[longest];
    if !(part.lower[longest] < middle && middle < part.upper[longest]) {
        return None;
    }
    let mut halves = [(part.lower.clone(), part.upper.clone()), (part.lower.clone(), part.upper.clone())];
    halves[0].1[longest] = middle;
    halves[1].0[longest] = middle;
    Some(halves)
}

/// The part with the least bound comes first.
impl Ord for Part {
    fn cmp(&self, other: &Self) -> Ordering {
        other.bound.total_cmp(&self.bound)
    }
}

impl PartialOrd for Part {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Part {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Part {}
