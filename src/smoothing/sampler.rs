//! Logits of a network under noise: what the procedure asks for.

use std::ops::Range;

use ndarray::{Array2, Axis};
use rayon::prelude::*;

use super::noise::{Noise, OffGrid};
use crate::exec::Plan;
use crate::random::InputStreams;

/// One input under noise, by sample index: what a base classifier is asked.
pub struct NoisyInputs<'a> {
    noise: &'a Noise,
    streams: InputStreams,
    x: &'a [f32],
}

/// The noisy evaluations of one input by a network, by sample index.
pub struct Sampler<'a> {
    plan: &'a Plan,
    inputs: &'a NoisyInputs<'a>,
}

impl<'a> NoisyInputs<'a> {
    /// The input `x` under noise from `streams`.
    ///
    /// # Errors
    /// [`OffGrid`] for an input that the noise cannot be added to.
    pub fn new(noise: &'a Noise, streams: InputStreams, x: &'a [f32]) -> Result<Self, OffGrid> {
        noise.accepts(x)?;
        Ok(Self { noise, streams, x })
    }

    /// Writes the samples from `first` on to `noisy`, one row of the input's length for each.
    pub fn draw(&self, first: u32, noisy: &mut [f32]) {
        for (sample, noisy) in (first..).zip(noisy.chunks_exact_mut(self.x.len().max(1))) {
            self.noise.add(&self.streams.sample(sample), self.x, noisy);
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
