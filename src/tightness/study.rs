//! The theory on generated networks: what is measured, with its standard
//! error, beside the closed form.

use ndarray::Array2;
use rayon::prelude::*;
use serde::Serialize;

use super::chain::{DenseChain, transposed};
use super::closed_form;
use super::generate::{Draw, Init, dense_chain, orthonormal};
use super::linearize::Mask;
use super::measure::Tightness;
use super::scaled::Scaled;
use crate::bounds::InputBox;
use crate::graph::Graph;

/// A figure: curves over one parameter.
#[derive(Clone, Debug, Serialize)]
pub struct Study {
    /// `width`, `depth` or `embedding`.
    pub name: &'static str,
    /// What the parameter is.
    pub parameter: &'static str,
    /// What is measured.
    pub quantity: &'static str,
    /// The curves.
    pub series: Vec<Series>,
}

/// One curve.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// Which networks.
    pub name: &'static str,
    /// The closed form that it is held against.
    pub formula: &'static str,
    /// Its points.
    pub points: Vec<Point>,
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The parameter.
    pub parameter: usize,
    /// Ratio of means over networks and outputs.
    pub measured: f64,
    /// Standard error of it over networks.
    pub standard_error: f64,
    /// What the formula says.
    pub closed_form: f64,
}

/// Inputs and outputs of the networks of [`width`] and [`depth`].
const ENDS: usize = 32;

/// Two Gaussian layers with 1 to 1024 units between them, as a linear network
/// (held against [`closed_form::two_layers`]) and with relu, by local
/// tightness (held against [`closed_form::two_layers_relu`]); `networks` of each.
#[must_use]
pub fn width(networks: usize, seed: u64) -> Study {
    let series = |name, formula, relu: bool, closed: fn(usize) -> f64| Series {
        name,
        formula,
        points: (0..=10)
            .map(|i| 1 << i)
            .map(|d| {
                point(d, closed(d), networks, |i| chain(&[ENDS, d, ENDS], relu, network_seed(seed, d, i)))
            })
            .collect(),
    };
    Study {
        name: "width",
        parameter: "inner width",
        quantity: "tightness (ratio of means)",
        series: vec![
            series("linear", "sqrt(pi) G((d+1)/2) / (d G(d/2))", false, closed_form::two_layers),
            series("relu, local", "about sqrt(2) times that", true, closed_form::two_layers_relu),
        ],
    }
}

/// Gaussian chains of 2 to 10 layers with 64 units between each, linear (held
/// against [`closed_form::depth`], and against [`closed_form::depth_bound`])
/// and with relu; `networks` of each.
#[must_use]
pub fn depth(networks: usize, seed: u64) -> Study {
    const WIDTH: usize = 64;
    let series = |name, formula, relu: bool, closed: fn(usize) -> f64| Series {
        name,
        formula,
        points: (2..=10)
            .map(|layers| {
                let mut widths = vec![WIDTH; layers + 1];
                (widths[0], widths[layers]) = (ENDS, ENDS);
                point(layers, closed(layers), networks, |i| {
                    chain(&widths, relu, network_seed(seed, layers, i))
                })
            })
            .collect(),
    };
    Study {
        name: "depth",
        parameter: "layers",
        quantity: "tightness (ratio of means)",
        series: vec![
            series("linear", "(pi / 2d)^((L-1)/2), d = 64", false, |l| closed_form::depth(WIDTH, l)),
            series("relu, local", "(pi / d)^((L-1)/2), d = 64", true, |l| {
                // A mask keeps half of the units.
                closed_form::depth(WIDTH / 2, l)
            }),
        ],
    }
}

/// Reconstructions `U U^T x` of 100 entries through 5 to 95, with Haar-random
/// orthonormal frames `U`: mean radii over a box of radius 1, held against
/// [`closed_form::embedding`]; `networks` of each.
///
/// # Panics
/// Never: frames are chains.
#[must_use]
pub fn embedding(networks: usize, seed: u64) -> Study {
    const DIMENSION: usize = 100;
    let ranks: Vec<usize> = (1..20).map(|i| 5 * i).collect();
    let one = |rank: usize, network: usize| {
        let normals = Draw::new(network_seed(seed, rank, network), 0).normals(rank * DIMENSION);
        let frame = orthonormal(Array2::from_shape_vec((rank, DIMENSION), normals).expect("a frame"));
        let layers = vec![frame.clone(), transposed(&frame)];
        let graph = DenseChain::new(layers).expect("layers fit").graph(false);
        sums(&graph, Mask::Identity, &[0.0; DIMENSION]).map(|sum| sum.get() / DIMENSION as f64)
    };
    let radii: Vec<Vec<[f64; 2]>> =
        ranks.iter().map(|&rank| (0..networks).into_par_iter().map(|i| one(rank, i)).collect()).collect();
    let series = |name, formula, side: usize| Series {
        name,
        formula,
        points: ranks
            .iter()
            .zip(&radii)
            .map(|(&rank, radii)| {
                let pairs: Vec<[f64; 2]> = radii.iter().map(|r| [r[side], 1.0]).collect();
                ratio(rank, closed_form::embedding(DIMENSION, rank)[side], &pairs)
            })
            .collect(),
    };
    Study {
        name: "embedding",
        parameter: "rank k of 100",
        quantity: "output radius / input radius",
        series: vec![series("layer-wise", "k (1/d + 2(d-1)/(pi d))", 1), series("optimal", "k/d + A B", 0)],
    }
}

/// Seeds of different networks of a study.
fn network_seed(seed: u64, parameter: usize, network: usize) -> u64 {
    seed.wrapping_add((parameter as u64) << 32).wrapping_add((network as u64) << 48)
}

/// A Gaussian chain's radii: of the linear network, or local at a Gaussian input.
fn chain(widths: &[usize], relu: bool, seed: u64) -> [Scaled; 2] {
    let graph = dense_chain(widths, relu, Init::Gaussian, seed);
    let x = Draw::new(seed, widths.len()).normals(widths[0]);
    sums(&graph, if relu { Mask::Local } else { Mask::Identity }, &x)
}

/// Optimal and layer-wise radius, summed over outputs, for the box of radius 1 around `x`.
fn sums(graph: &Graph, mask: Mask, x: &[f64]) -> [Scaled; 2] {
    let x = Array2::from_shape_fn((1, x.len()), |(_, j)| x[j] as f32);
    let ends = |by: f64| x.mapv(|x| f64::from(x) + by);
    let boxes = InputBox::new(ends(-1.0), ends(1.0)).expect("finite ends");
    let tightness = Tightness::new(graph, mask).expect("chains are piecewise linear");
    tightness.measure(x.view(), &boxes, None)[0].sums()
}

/// The ratio of means over networks.
fn point(
    parameter: usize,
    closed_form: f64,
    networks: usize,
    network: impl Fn(usize) -> [Scaled; 2] + Sync + Send,
) -> Point {
    let radii: Vec<[Scaled; 2]> = (0..networks).into_par_iter().map(network).collect();
    let unit: Scaled = radii.iter().map(|r| r[1]).sum();
    let pairs: Vec<[f64; 2]> = radii.iter().map(|r| r.map(|side| side.over(unit))).collect();
    ratio(parameter, closed_form, &pairs)
}

/// Mean over mean, with the standard error of a ratio estimator.
fn ratio(parameter: usize, closed_form: f64, pairs: &[[f64; 2]]) -> Point {
    let n = pairs.len() as f64;
    let mean = |side: usize| pairs.iter().map(|p| p[side] / n).sum::<f64>();
    let measured = mean(0) / mean(1);
    let squares: f64 = pairs.iter().map(|[a, b]| (a - measured * b).powi(2)).sum();
    let standard_error = (squares / (n * (n - 1.0).max(1.0))).sqrt() / mean(1);
    Point { parameter, measured, standard_error, closed_form }
}
