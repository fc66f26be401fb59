//! Laplace noise.

use super::{Distribution, Norm};
use crate::random::{SampleStream, ln_positive, with_words};
use crate::smoothing::quantity::{LowerBound, Radius, Scale};
use crate::smoothing::radius;

/// Laplace with density `exp(-|e| / lambda) / (2 lambda)` in every entry; certifies l1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Laplace {
    /// The scale, which is the mean absolute value.
    pub lambda: Scale,
}

impl Distribution for Laplace {
    fn add(&self, stream: &SampleStream, x: &[f32], out: &mut [f32]) {
        let lambda = self.lambda.single();
        with_words(stream, x, out, |x, word| {
            // The top bit is the sign, the others the magnitude.
            let magnitude = -ln_positive(((word << 1 >> 1) as f32 + 0.5) * (1.0 / 2_147_483_648.0));
            let sign = f32::from_bits(1.0f32.to_bits() | (word & 0x8000_0000));
            x + lambda * sign * magnitude
        });
    }

    fn radius(&self, p1: LowerBound) -> Option<Radius> {
        radius::laplace_l1(self.lambda, p1)
    }

    fn norm(&self) -> Norm {
        Norm::L1
    }
}
