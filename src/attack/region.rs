//! Descent into a violation of a region: the greatest atom of a disjunct made small.

use std::time::Instant;

use rayon::prelude::*;

use super::{MOMENTUM, gradient, sign};
use crate::graph::Graph;
use crate::query::{Disjunct, Region};
use crate::random::{InputStreams, unit, with_words};

/// Rows that descend together; groups descend side by side.
const GROUP: usize = 8;

/// How a descent is done.
#[derive(Clone, Copy, Debug)]
pub struct Descent {
    /// Random starting points beside those that are given.
    pub restarts: u32,
    /// Steps from each.
    pub steps: u32,
    /// Seed of the random points.
    pub seed: u64,
    /// When it ends with what it has.
    pub until: Option<Instant>,
}

/// Points of the box of a region at which a disjunct holds as far as `f32` shows, found by descent from each of
/// `starts` and from random points; the lowest of each row if there are none. What counts as a violation
/// is for the caller to decide, and a point may lie outside the box by a rounding.
///
/// Parallel; what is found does not depend on threads unless it is cut off by time.
///
/// # Panics
/// If the region or a start does not fit the network.
#[must_use]
pub fn descend(graph: &Graph, region: &Region, starts: &[Vec<f64>], descent: &Descent) -> Vec<Vec<f64>> {
    let n = graph.input_len();
    let ends = [&region.lower, &region.upper].map(|x| x.iter().map(|&x| x as f32).collect::<Vec<_>>());
    let [lower, upper] = &ends;
    let mut points: Vec<f32> = starts.iter().flatten().map(|&x| x as f32).collect();
    let streams = InputStreams::new(descent.seed, 0);
    for restart in 0..descent.restarts {
        let mut z = vec![0.0; n];
        with_words(&streams.sample(restart), lower, &mut z, |_, word| unit(word));
        points.extend(z.iter().zip(lower.iter().zip(upper)).map(|(t, (l, u))| l + t * (u - l)));
    }
    let groups = points.par_chunks(GROUP * n.max(1)).enumerate();
    groups
        .flat_map_iter(|(i, points)| group(graph, region, &ends, points.to_vec(), i * GROUP, descent))
        .collect()
}

/// Descends from the rows of `points`, of which the first is number `first`.
fn group(
    graph: &Graph,
    region: &Region,
    [lower, upper]: &[Vec<f32>; 2],
    mut points: Vec<f32>,
    first: usize,
    descent: &Descent,
) -> Vec<Vec<f64>> {
    let (n, steps) = (graph.input_len(), descent.steps);
    let batch = points.len() / n.max(1);
    let classes = graph.output_len();
    let mut best = vec![(f32::INFINITY, Vec::new()); batch];
    let mut direction = vec![0.0; points.len()];
    for step in 0..=steps {
        let values = gradient::forward(graph, batch, points.clone());
        let mut seed = vec![0.0; batch * classes];
        let mut direct = vec![0.0; points.len()];
        for (row, best) in best.iter_mut().enumerate() {
            let (x, y) = (&points[row * n..][..n], &values[graph.output][row * classes..][..classes]);
            let worst = |disjunct: &Disjunct| {
                let value = |i: usize| {
                    let atom = &disjunct.atoms[i];
                    let outputs = atom.coefficients.iter().map(|&(i, c)| c as f32 * y[i]);
                    outputs.chain(atom.input.iter().map(|&(i, c)| c as f32 * x[i])).sum::<f32>()
                        - atom.bound as f32
                };
                (0..disjunct.atoms.len()).map(|i| (value(i), i)).max_by(|a, b| a.0.total_cmp(&b.0))
            };
            let number = first + row;
            // Every other row aims at a fixed disjunct, a different one each.
            let all = region.disjuncts.iter().map(|d| worst(d).map(|w| (w, d)));
            let nearest = all.flatten().min_by(|a, b| a.0.0.total_cmp(&b.0.0));
            let fixed = &region.disjuncts[number / 2 % region.disjuncts.len()];
            let aimed = if number % 2 == 1 { worst(fixed).map(|w| (w, fixed)) } else { nearest };
            let Some(((value, i), disjunct)) = aimed else { continue };
            if nearest.is_some_and(|((least, _), _)| least < best.0) {
                *best = (nearest.map_or(value, |((least, _), _)| least), x.to_vec());
            }
            let atom = &disjunct.atoms[i];
            atom.coefficients.iter().for_each(|&(i, c)| seed[row * classes + i] = c as f32);
            atom.input.iter().for_each(|&(i, c)| direct[row * n + i] = c as f32);
        }
        let late = descent.until.is_some_and(|until| Instant::now() >= until);
        if step == steps || late || best.iter().any(|(value, _)| *value <= 0.0) {
            break;
        }
        let gradient = gradient::backward(graph, batch, &values, seed);
        // From a quarter of the box down to a fortieth.
        let rate = 0.25 * 0.1_f32.powf(step as f32 / steps as f32);
        for (k, z) in points.iter_mut().enumerate() {
            let (low, high) = (lower[k % n], upper[k % n]);
            let slope = gradient[k] + direct[k];
            if slope.is_finite() {
                direction[k] = MOMENTUM * direction[k] + sign(slope);
            }
            *z = (*z - rate * (high - low) * direction[k].clamp(-1.0, 1.0)).max(low).min(high);
        }
    }
    best.into_iter()
        .map(|(_, x)| x.into_iter().map(f64::from).collect())
        .filter(|x: &Vec<f64>| x.len() == n)
        .collect()
}
