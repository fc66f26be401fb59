//! Logits of a network under noise: what the procedure asks for.

use std::ops::Range;

use ndarray::{Array2, Axis};
use rayon::prelude::*;
use thiserror::Error;

use super::noise::{Gaussian, Laplace, Lattice, LatticeError, Noise, Uniform};
use super::procedure::Threat;
use super::radius::Lipschitz;
use crate::exec::Plan;
use crate::lipschitz::EvaluationError;
use crate::random::InputStreams;
use crate::rounding::directed::{add_up, div_up, mul_up, sqrt_up};

/// How noise is drawn.
#[derive(Debug)]
pub enum Drawing {
    /// Added in `f32`.
    Ordinary(Threat),
    /// Gaussian noise on the grid of 8-bit pixels, exact.
    Lattice(Box<Lattice>),
}

/// An input that the lattice mode cannot take.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("entry {entry} is {value}; accepted in lattice mode: k/255 with k from 0 to 255")]
pub struct OffGrid {
    /// Which entry.
    pub entry: usize,
    /// Its value.
    pub value: f32,
}

/// One input under noise, by sample index: what a base classifier is asked.
pub struct NoisyInputs<'a> {
    drawing: &'a Drawing,
    streams: InputStreams,
    x: &'a [f32],
    pixels: Vec<u8>,
}

/// The noisy evaluations of one input by a network, by sample index.
pub struct Sampler<'a> {
    plan: &'a Plan,
    inputs: &'a NoisyInputs<'a>,
}

impl Drawing {
    /// The lattice mode for Gaussian noise, the ordinary one for all else.
    ///
    /// # Errors
    /// [`LatticeError`] for a scale that the lattice cannot have.
    pub fn new(threat: Threat, lattice: bool) -> Result<Self, LatticeError> {
        Ok(match threat {
            Threat::Gaussian(sigma) if lattice => Self::Lattice(Box::new(Lattice::new(sigma)?)),
            _ => Self::Ordinary(threat),
        })
    }

    /// What a certificate for an input of `len` entries is charged for the noise.
    #[must_use]
    pub fn charge(&self, len: usize) -> f64 {
        match self {
            Self::Ordinary(_) => 0.0,
            Self::Lattice(lattice) => lattice.charge(len),
        }
    }

    /// Bound on the mean l2 distance between the logits that are sampled at `x`
    /// and the exact ones of the network under real Gaussian noise, for logits
    /// with this Lipschitz constant; infinite where there is none.
    ///
    /// The lattice mode rounds each entry to the grid, hence by 1/510 at most,
    /// which moves the logits by their constant times that; its clipping does
    /// not expand and keeps the constant.
    #[must_use]
    pub fn evaluation_error(&self, x: &[f32], logits: Lipschitz, evaluation: &EvaluationError) -> f64 {
        match self {
            Self::Ordinary(Threat::Gaussian(sigma)) => evaluation.mean(x, sigma.get(), 0.0),
            Self::Ordinary(_) => f64::INFINITY,
            Self::Lattice(lattice) => {
                let moved = div_up(sqrt_up(x.len() as f64), 510.0);
                let evaluated = evaluation.mean(x, lattice.sigma().get(), moved);
                add_up(evaluated, mul_up(logits.get(), moved))
            }
        }
    }
}

impl<'a> NoisyInputs<'a> {
    /// The input `x` under noise from `streams`.
    ///
    /// # Errors
    /// [`OffGrid`] if the lattice mode meets a value off its grid.
    pub fn new(drawing: &'a Drawing, streams: InputStreams, x: &'a [f32]) -> Result<Self, OffGrid> {
        let on_grid = |(entry, &value): (usize, &f32)| {
            let level = (value * 255.0).round();
            let on = (0.0..=255.0).contains(&level) && level / 255.0 == value;
            if on { Ok(level as u8) } else { Err(OffGrid { entry, value }) }
        };
        let pixels = match drawing {
            Drawing::Ordinary(_) => Vec::new(),
            Drawing::Lattice(_) => x.iter().enumerate().map(on_grid).collect::<Result<_, _>>()?,
        };
        Ok(Self { drawing, streams, x, pixels })
    }

    /// Writes the samples from `first` on to `noisy`, one row of the input's length for each.
    pub fn draw(&self, first: u32, noisy: &mut [f32]) {
        for (sample, noisy) in (first..).zip(noisy.chunks_exact_mut(self.x.len().max(1))) {
            let stream = self.streams.sample(sample);
            match self.drawing {
                Drawing::Lattice(lattice) => lattice.add(&stream, &self.pixels, noisy),
                Drawing::Ordinary(Threat::Gaussian(sigma)) => {
                    Gaussian { sigma: *sigma }.add(&stream, self.x, noisy);
                }
                Drawing::Ordinary(Threat::Uniform(lambda)) => {
                    Uniform { lambda: *lambda }.add(&stream, self.x, noisy);
                }
                Drawing::Ordinary(Threat::Laplace(lambda)) => {
                    Laplace { lambda: *lambda }.add(&stream, self.x, noisy);
                }
            }
        }
    }

    /// The samples in `range` (`samples x entries`), drawn in parallel.
    ///
    /// # Panics
    /// If the range includes `u32::MAX`, which is no sample's index.
    #[must_use]
    pub fn batch(&self, range: Range<u32>) -> Array2<f32> {
        let mut noisy = Array2::zeros((range.len(), self.x.len()));
        let rows = noisy.axis_chunks_iter_mut(Axis(0), 16).into_par_iter().enumerate();
        rows.for_each(|(index, mut rows)| {
            let rows = rows.as_slice_mut().expect("rows of a fresh array");
            self.draw(range.start + (index * 16) as u32, rows);
        });
        noisy
    }
}

impl<'a> Sampler<'a> {
    /// The network's answers to these inputs, which have as many entries as the network's.
    #[must_use]
    pub fn new(plan: &'a Plan, inputs: &'a NoisyInputs<'a>) -> Self {
        Self { plan, inputs }
    }

    /// Logits (`samples x classes`) of the samples in `range`, in parallel. A
    /// sample's logits depend on its index alone.
    ///
    /// # Panics
    /// If the input does not have as many entries as the network's.
    #[must_use]
    pub fn logits(&self, range: Range<u32>) -> Array2<f32> {
        let mut logits = Array2::zeros((range.len(), self.plan.output_len()));
        let (tile, len) = (self.plan.tile(), self.inputs.x.len());
        logits.axis_chunks_iter_mut(Axis(0), tile).into_par_iter().enumerate().for_each_init(
            || (self.plan.workspace(), vec![0.0; tile * len]),
            |(workspace, noisy), (index, mut out)| {
                let noisy = &mut noisy[..out.nrows() * len];
                self.inputs.draw(range.start + (index * tile) as u32, noisy);
                self.plan.run_tile(workspace, noisy, out.as_slice_mut().expect("rows of a fresh array"));
            },
        );
        logits
    }
}
