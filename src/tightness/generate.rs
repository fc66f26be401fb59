//! Networks at random initialisation, for experiments: dense chains and the
//! convolutional architectures of the paper.
//!
//! Weights are drawn from counter-based streams: they depend on the seed and
//! the layer only. They are rounded to `f32`, as in a network file; biases
//! are zero.

use super::chain::{DenseChain, transposed};
use crate::graph::{Graph, Node};
use crate::kernels::Window2d;
use crate::ops::{Affine, Conv, Dense, Op, Periodic, Relu, Scale, Weights};
use crate::random::{InputStreams, SampleStream};
use ndarray::Array2;
use std::f64::consts::{PI, TAU};
use std::sync::Arc;

/// How weights are drawn; `fan_in` is the number of terms of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// Independent, `N(0, 1)`.
    Gaussian,
    /// Uniform on `[-b, b]`, `b = sqrt(6 / fan_in)` (He et al. 2015).
    KaimingUniform,
    /// `N(0, 2 / fan_in)` (He et al. 2015).
    KaimingNormal,
    /// Orthonormal rows, or columns where there are fewer of them, Haar-random.
    Orthogonal,
    /// `N(0, 2 pi / fan_in^2)`, which keeps the width of boxes (Shi et al. 2021).
    Ibp,
}

/// The paper's convolutional networks; layers as `Conv(channels, kernel,
/// stride, padding)`, each followed by relu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Conv(16,5,2,2), Conv(32,4,2,1), Linear.
    Cnn3,
    /// Conv(16,3,1,1), Conv(16,4,2,1), Conv(32,4,2,1), Linear 512, Linear.
    Cnn5,
    /// Conv(64,3,1,1) twice, Conv(128,3,2,1), Conv(128,3,1,1) twice, Linear
    /// 512, Linear, with batch normalisation in front of every relu; at
    /// initialisation it divides by `sqrt(1 + 1e-5)`.
    Cnn7Bn,
}

impl Architecture {
    /// Convolutions and units of the hidden linear layer, 0 for none.
    fn layers(self) -> (&'static [[usize; 4]], usize) {
        match self {
            Self::Cnn3 => (&[[16, 5, 2, 2], [32, 4, 2, 1]], 0),
            Self::Cnn5 => (&[[16, 3, 1, 1], [16, 4, 2, 1], [32, 4, 2, 1]], 512),
            Self::Cnn7Bn => {
                (&[[64, 3, 1, 1], [64, 3, 1, 1], [128, 3, 2, 1], [128, 3, 1, 1], [128, 3, 1, 1]], 512)
            }
        }
    }
}

/// Random numbers in the order of a stream.
pub(super) struct Draw {
    stream: SampleStream,
    block: u32,
}

impl Draw {
    /// The numbers of one part of what a seed generates.
    pub(super) fn new(seed: u64, part: usize) -> Self {
        Self { stream: InputStreams::new(seed, part as u64).sample(0), block: 0 }
    }

    /// Two independent uniform numbers in (0, 1).
    pub(super) fn uniforms(&mut self) -> [f64; 2] {
        let [a, b, c, d] = self.stream.block(self.block);
        self.block += 1;
        let unit = |high: u32, low: u32| {
            let bits = (u64::from(high) << 32 | u64::from(low)) >> 12;
            (bits as f64 + 0.5) / (1u64 << 52) as f64
        };
        [unit(a, b), unit(c, d)]
    }

    /// `n` independent standard normal numbers (Box and Muller).
    pub(super) fn normals(&mut self, n: usize) -> Vec<f64> {
        let pairs = (0..n.div_ceil(2)).flat_map(|_| {
            let [u, v] = self.uniforms();
            let radius = (-2.0 * libm::log(u)).sqrt();
            [radius * libm::cos(TAU * v), radius * libm::sin(TAU * v)]
        });
        pairs.take(n).collect()
    }
}

impl Init {
    /// A matrix of `outputs x fan_in` weights; `part` tells the layers of one
    /// seed apart.
    ///
    /// # Panics
    /// If the matrix would hold more entries than memory can.
    #[must_use]
    pub fn matrix(self, outputs: usize, fan_in: usize, seed: u64, part: usize) -> Array2<f64> {
        let mut draw = Draw::new(seed, part);
        let n = outputs * fan_in;
        let scale = match self {
            Self::Gaussian | Self::Orthogonal => 1.0,
            Self::KaimingUniform => (6.0 / fan_in as f64).sqrt(),
            Self::KaimingNormal => (2.0 / fan_in as f64).sqrt(),
            Self::Ibp => (2.0 * PI).sqrt() / fan_in as f64,
        };
        let values = match self {
            Self::KaimingUniform => {
                (0..n.div_ceil(2)).flat_map(|_| draw.uniforms()).take(n).map(|u| 2.0 * u - 1.0).collect()
            }
            _ => draw.normals(n),
        };
        let mut matrix = Array2::from_shape_vec((outputs, fan_in), values).expect("n values");
        if self == Self::Orthogonal {
            matrix = if outputs <= fan_in {
                orthonormal(matrix)
            } else {
                transposed(&orthonormal(transposed(&matrix)))
            };
        }
        matrix.mapv(|w| f64::from((scale * w) as f32))
    }
}

/// The rows made orthonormal one after the other (Gram and Schmidt, twice
/// each); of Gaussian rows, no more than their length, this is a Haar-random frame.
pub(super) fn orthonormal(mut rows: Array2<f64>) -> Array2<f64> {
    for i in 0..rows.nrows() {
        let (done, mut rest) = rows.view_mut().split_at(ndarray::Axis(0), i);
        let mut row = rest.row_mut(0);
        for _ in 0..2 {
            for other in done.rows() {
                let part = other.dot(&row);
                row.scaled_add(-part, &other);
            }
        }
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    rows
}

/// A dense chain through layers of `widths` units, the input first; linear,
/// or with relu between its layers.
///
/// # Panics
/// With fewer than two widths, or one that is zero.
#[must_use]
pub fn dense_chain(widths: &[usize], relu: bool, init: Init, seed: u64) -> Graph {
    let layers = widths.windows(2).enumerate().map(|(i, w)| init.matrix(w[1], w[0], seed, i));
    DenseChain::new(layers.collect()).expect("widths of a chain").graph(relu)
}

/// A chain whose interval bounds are exact (propagation-invariant): the
/// weights of layer `l` have the signs `s_l s_{l-1}^T` with random sign vectors
/// `s_l`, and magnitudes of normal numbers. A relu between the layers keeps
/// local tightness 1.
///
/// # Panics
/// With fewer than two widths, or one that is zero.
#[must_use]
pub fn invariant_chain(widths: &[usize], seed: u64) -> DenseChain {
    let sign = |x: f64| if x < 0.0 { -1.0 } else { 1.0 };
    let signs: Vec<Vec<f64>> = (0..widths.len())
        .map(|i| Draw::new(seed, widths.len() + i).normals(widths[i]).into_iter().map(sign).collect())
        .collect();
    let layer = |(i, w): (usize, &[usize])| {
        let mut matrix = Init::Gaussian.matrix(w[1], w[0], seed, i);
        matrix.indexed_iter_mut().for_each(|((k, j), w)| *w = w.abs() * signs[i + 1][k] * signs[i][j]);
        matrix
    };
    DenseChain::new(widths.windows(2).enumerate().map(layer).collect()).expect("widths of a chain")
}

/// A network of the paper over `channels x height x width` inputs.
///
/// # Panics
/// If the input is empty or too small for the kernels.
#[must_use]
pub fn cnn(architecture: Architecture, input: [usize; 3], classes: usize, init: Init, seed: u64) -> Graph {
    let (convolutions, hidden) = architecture.layers();
    let norm = architecture == Architecture::Cnn7Bn;
    let mut builder = Builder { nodes: Vec::new(), shape: [&[1], &input[..]].concat(), init, seed };
    for &[channels, kernel, stride, pad] in convolutions {
        builder.conv(channels, kernel, stride, pad);
        builder.activate(norm);
    }
    if hidden > 0 {
        builder.dense(hidden);
        builder.activate(norm);
    }
    builder.dense(classes);
    Graph {
        input_name: "input".into(),
        input_shape: [&[1], &input[..]].concat(),
        output: builder.nodes.len(),
        nodes: builder.nodes,
        output_shape: vec![1, classes],
        folded: Vec::new(),
    }
}

struct Builder {
    nodes: Vec<Node>,
    shape: Vec<usize>,
    init: Init,
    seed: u64,
}

impl Builder {
    fn push(&mut self, origin: &str, op: Op, shape: Vec<usize>) {
        let name = format!("{}{}", origin.to_lowercase(), self.nodes.len());
        let inputs = vec![self.nodes.len()];
        self.shape.clone_from(&shape);
        self.nodes.push(Node { name, origin: origin.to_owned(), op, inputs, shape });
    }

    fn conv(&mut self, channels: usize, kernel: usize, stride: usize, pad: usize) {
        let [_, ins, height, width] = self.shape[..] else { unreachable!("an image") };
        let out = [height, width].map(|size| (size + 2 * pad - kernel) / stride + 1);
        let window = Window2d {
            image: [height, width],
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            pad: [pad; 2],
            out,
        };
        let weight = self.init.matrix(channels, ins * kernel * kernel, self.seed, self.nodes.len());
        let weight = Weights::new(weight.into_raw_vec_and_offset().0);
        let op = Conv { window, channels: [ins, channels], groups: 1, weight, bias: None, transposed: false };
        self.push("Conv", Op::Affine(Affine::Conv(op)), vec![1, channels, out[0], out[1]]);
    }

    fn dense(&mut self, outputs: usize) {
        let inputs = self.shape.iter().product();
        let weight = transposed(&self.init.matrix(outputs, inputs, self.seed, self.nodes.len()));
        let weight = Weights::new(weight.into_raw_vec_and_offset().0);
        let op = Dense { rows: 1, inputs, outputs, weight, bias: None };
        self.push("Gemm", Op::Affine(Affine::Dense(op)), vec![1, outputs]);
    }

    fn activate(&mut self, norm: bool) {
        let shape = self.shape.clone();
        if norm {
            let factor = f64::from((1.0 / (1.0 + 1e-5f64).sqrt()) as f32);
            let len = shape.iter().product();
            let op = Scale { len, scale: Some(Periodic::constant(factor)), shift: None, shift_error: 0.0 };
            self.push("BatchNormalization", Op::Affine(Affine::Scale(op)), shape.clone());
        }
        self.push("Relu", Op::Elementwise(Arc::new(Relu)), shape);
    }
}
