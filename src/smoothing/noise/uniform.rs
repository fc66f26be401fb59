//! Uniform noise.

use super::{Distribution, Norm};
use crate::random::{SampleStream, unit, with_words};
use crate::smoothing::quantity::{LowerBound, Radius, Scale};
use crate::smoothing::radius;

/// Uniform on `[-lambda, lambda]^d`; certifies l1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uniform {
    /// Half the width.
    pub lambda: Scale,
}

impl Distribution for Uniform {
    fn add(&self, stream: &SampleStream, x: &[f32], out: &mut [f32]) {
        let lambda = self.lambda.single();
        with_words(stream, x, out, |x, word| x + lambda * (2.0 * unit(word) - 1.0));
    }

    fn radius(&self, p1: LowerBound) -> Option<Radius> {
        radius::uniform_l1(self.lambda, p1)
    }

    fn norm(&self) -> Norm {
        Norm::L1
    }
}
