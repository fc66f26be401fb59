//! Search for counterexamples: projected gradient descent on the margin (PGD,
//! Madry et al. 2018), with momentum (Dong et al. 2018) and restarts.
//!
//! What it finds bounds robustness from the other side: a point inside the
//! perturbation set that the deployed `f32` network classifies otherwise.

mod gradient;
mod region;

use ndarray::{ArrayView1, aview1};

use crate::bounds::{Norm, Region};
use crate::exec::Plan;
use crate::graph::Graph;
use crate::random::{InputStreams, unit, with_normals, with_words};

pub use region::{Descent, descend};

/// How hard to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pgd {
    /// Gradient steps of each restart.
    pub steps: u32,
    /// Starting points: the input itself, then random ones.
    pub restarts: u32,
    /// Seed of the starting points.
    pub seed: u64,
}

/// The best point found for one input.
#[derive(Clone, Debug)]
pub struct Attacked {
    /// Its margin: the label's logit less the greatest other logit, as the
    /// `f32` network computes them; NaN if a logit is.
    pub margin: f32,
    /// The point.
    pub point: Vec<f32>,
    /// Whether the network does not give the label there.
    pub succeeded: bool,
}

impl Attacked {
    /// A point with these logits.
    pub(crate) fn at(logits: &[f32], label: usize, point: Vec<f32>) -> Self {
        Self { margin: margin(logits, label).0, succeeded: class_of(logits) != Some(label), point }
    }
}

/// Share of the last direction that stays in the next.
const MOMENTUM: f32 = 0.75;

impl Pgd {
    /// Searches around `x` (input number `index`, for its random streams) for
    /// a point of the region, as it was written and in exact arithmetic, where the network's class is not `label`. `plan` is compiled
    /// from `graph`; it decides what counts. Ends at the first such point.
    ///
    /// # Panics
    /// If `x` or `label` does not fit the network.
    #[must_use]
    pub fn attack(
        &self,
        graph: &Graph,
        plan: &Plan,
        region: &Region,
        x: ArrayView1<f32>,
        label: usize,
        index: usize,
    ) -> Attacked {
        let x = x.to_vec();
        let judge = |point: Vec<f32>| {
            let logits = plan.run(aview1(&point).insert_axis(ndarray::Axis(0)));
            Attacked::at(&logits.row(0).to_vec(), label, point)
        };
        let mut best = judge(x.clone());
        if best.succeeded || region.eps.lower() <= 0.0 {
            return best;
        }
        let bounds = Bounds::new(&x, region);
        let n = x.len();
        let batch = self.restarts.max(1) as usize;
        let mut points = self.starts(&x, region, index);
        points.chunks_exact_mut(n).for_each(|z| bounds.project(z));
        let mut direction = vec![0.0; points.len()];
        for step in 0..=self.steps {
            let values = gradient::forward(graph, batch, points.clone());
            let classes = graph.output_len();
            let mut seed = vec![0.0; batch * classes];
            let mut promising = None;
            for (row, logits) in values[graph.output].chunks_exact(classes).enumerate() {
                let (margin, other) = margin(logits, label);
                seed[row * classes + label] = 1.0;
                // Every other restart aims at a fixed class, a different one each.
                let target =
                    if row % 2 == 1 { (label + 1 + row / 2 % (classes - 1)) % classes } else { other };
                seed[row * classes + target] -= 1.0;
                if margin < best.margin && promising.is_none_or(|(least, _)| margin < least) {
                    promising = Some((margin, row));
                }
            }
            if let Some((_, row)) = promising {
                let found = judge(points[row * n..(row + 1) * n].to_vec());
                if found.succeeded || found.margin < best.margin {
                    best = found;
                }
            }
            if best.succeeded || step == self.steps {
                break;
            }
            let gradient = gradient::backward(graph, batch, &values, seed);
            // From half of eps down to a twentieth.
            let progress = step as f32 / self.steps as f32;
            let rate = region.eps.value() as f32 * 0.5 * 0.1_f32.powf(progress);
            let rows = points.chunks_exact_mut(n).zip(direction.chunks_exact_mut(n));
            for ((z, direction), gradient) in rows.zip(gradient.chunks_exact(n)) {
                let size = length(region.norm, gradient);
                if size > 0.0 && size.is_finite() {
                    for (d, g) in direction.iter_mut().zip(gradient) {
                        *d = MOMENTUM * *d + g / size;
                    }
                    bounds.step(z, direction, rate);
                    bounds.project(z);
                }
            }
        }
        best
    }

    /// `restarts x n` starting points; the first is `x`.
    fn starts(&self, x: &[f32], region: &Region, index: usize) -> Vec<f32> {
        let streams = InputStreams::new(self.seed, index as u64);
        let mut points = x.to_vec();
        let (eps, root) = (region.eps.value() as f32, (x.len() as f32).sqrt());
        for restart in 1..self.restarts {
            let mut z = vec![0.0; x.len()];
            let stream = streams.sample(restart);
            // What leaves the region, or overflows, is projected back.
            if region.norm == Norm::Linf {
                with_words(&stream, x, &mut z, |x, word| x + eps * (2.0 * unit(word) - 1.0));
            } else {
                with_normals(&stream, x, &mut z, |_, x, normal| x + eps / root * normal);
            }
            points.extend(z);
        }
        points
    }
}

/// Margin of the label and the greatest other class.
fn margin(logits: &[f32], label: usize) -> (f32, usize) {
    let others = (0..logits.len()).filter(|&j| j != label);
    let other = others.reduce(|best, j| if logits[j] > logits[best] { j } else { best }).unwrap_or(label);
    (logits[label] - logits[other], other)
}

/// The class with the greatest logit, the first of several; none if a logit is
/// NaN.
#[must_use]
pub fn class_of(logits: &[f32]) -> Option<usize> {
    if logits.iter().any(|x| x.is_nan()) {
        return None;
    }
    (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best })
}

/// The dual norm of a gradient: what a step of length 1 can gain.
fn length(norm: Norm, gradient: &[f32]) -> f32 {
    match norm {
        Norm::Linf => gradient.iter().map(|g| g.abs()).sum::<f32>(),
        Norm::L2 => gradient.iter().map(|g| g * g).sum::<f32>().sqrt(),
        Norm::L1 => gradient.iter().fold(0.0, |m, g| g.abs().max(m)),
    }
}

/// A region around one input.
struct Bounds<'a> {
    x: &'a [f32],
    norm: Norm,
    /// A little less than eps, so that nothing that rounds leaves the region.
    eps: f64,
    lower: Vec<f32>,
    upper: Vec<f32>,
}

/// The least and the greatest `f32` entries within eps of `x`, as it was written, and in the range of the
/// data.
pub(crate) fn ends(x: &[f32], region: &Region) -> [Vec<f32>; 2] {
    let eps = region.eps.lower();
    let (low, high) = region.clip.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
    let up = |v: f64| if f64::from(v as f32) < v { (v as f32).next_up() } else { v as f32 };
    // `x - eps` may round down, so one step up; a point is never outside,
    // and the input itself is always inside.
    let lower = x.iter().map(|&x| up((f64::from(x) - eps).next_up().max(low)).min(x)).collect();
    let upper = x.iter().map(|&x| -up(-(f64::from(x) + eps).next_down().min(high)).min(-x)).collect();
    [lower, upper]
}

impl<'a> Bounds<'a> {
    fn new(x: &'a [f32], region: &Region) -> Self {
        let [lower, upper] = ends(x, region);
        Self { x, norm: region.norm, eps: region.eps.lower(), lower, upper }
    }

    /// A step of size `rate` in the norm, against `direction`.
    fn step(&self, z: &mut [f32], direction: &[f32], rate: f32) {
        match self.norm {
            Norm::Linf => z.iter_mut().zip(direction).for_each(|(z, d)| *z -= rate * sign(*d)),
            Norm::L2 => {
                let size = length(Norm::L2, direction).max(f32::MIN_POSITIVE);
                z.iter_mut().zip(direction).for_each(|(z, d)| *z -= rate * d / size);
            }
            Norm::L1 => {
                // The steepest entries that still have room share the step.
                let room = |i: usize| {
                    if direction[i] > 0.0 { z[i] > self.lower[i] } else { z[i] < self.upper[i] }
                };
                let most = (0..z.len()).filter(|&i| room(i)).fold(0.0f32, |m, i| m.max(direction[i].abs()));
                let chosen: Vec<usize> =
                    (0..z.len()).filter(|&i| room(i) && direction[i].abs() >= 0.9 * most).collect();
                for &i in &chosen {
                    z[i] -= rate / chosen.len() as f32 * sign(direction[i]);
                }
            }
        }
    }

    /// Moves a point into the region.
    fn project(&self, z: &mut [f32]) {
        if self.norm != Norm::Linf {
            let distance = |z: &[f32]| {
                let gaps = z.iter().zip(self.x).map(|(z, x)| f64::from(*z) - f64::from(*x));
                match self.norm {
                    Norm::L2 => gaps.map(|d| d * d).sum::<f64>().sqrt(),
                    _ => gaps.map(f64::abs).sum(),
                }
            };
            // Rounding to f32 can move a point out again; then a little more.
            let mut reach = self.eps * (1.0 - 1e-6);
            for _ in 0..3 {
                let found = distance(z);
                if found <= self.eps * (1.0 - 1e-9) {
                    break;
                }
                let factor = (reach / found) as f32;
                z.iter_mut().zip(self.x).for_each(|(z, x)| *z = x + (*z - x) * factor);
                reach *= 0.999;
            }
            if !(distance(z) <= self.eps * (1.0 - 1e-9)) {
                z.copy_from_slice(self.x);
            }
        }
        for ((z, &low), &high) in z.iter_mut().zip(&self.lower).zip(&self.upper) {
            *z = z.max(low).min(high);
        }
    }
}

fn sign(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

#[cfg(test)]
mod tests;
