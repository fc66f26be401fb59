//! Noise distributions. Each adds its noise to an input for one sample, from the sample's own stream.
//!
//! What these types draw is `f32` arithmetic on counter-based random words: the distributions are as
//! exact as `f32` allows, and `x + noise` is rounded once. The certificates treat the noise as real
//! numbers, so a network that reads the low-order bits of its input can invalidate them (Voracek and
//! Hein 2023); [`Lattice`] closes that gap for inputs on the grid of 8-bit pixels.

mod lattice;
#[cfg(test)]
mod tests;

use super::quantity::{LowerBound, OutOfRange, Radius, Scale};
use super::radius;
use crate::random::{SampleStream, ln_positive, unit, with_normals, with_words};

pub use lattice::{Lattice, LatticeError};

/// A noise distribution that is added to an input.
pub trait Noise {
    /// Writes `x + noise` for one sample to `out`. The noise of an entry depends on the stream and on
    /// the entry's index alone.
    ///
    /// # Panics
    /// If the lengths differ, or do not fit the distribution.
    fn add(&self, stream: &SampleStream, x: &[f32], out: &mut [f32]);

    /// The radius that a lower bound `p1` on the class's smoothed score certifies, in this
    /// distribution's norm.
    fn radius(&self, p1: LowerBound) -> Option<Radius>;

    /// Which norm the radius is measured in.
    fn norm(&self) -> Norm;
}

/// The norm of a radius.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Sum of absolute values.
    L1,
    /// Euclidean.
    L2,
}

/// `N(0, sigma^2 I)`; certifies l2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gaussian {
    /// Standard deviation of every entry.
    pub sigma: Scale,
}

/// `N(0, diag(sigma_i^2))`; certifies an ellipsoid ([`radius::anisotropic`]), and the l2 ball inside.
#[derive(Clone, Debug, PartialEq)]
pub struct AnisotropicGaussian {
    sigmas: Vec<Scale>,
}

/// Uniform on `[-lambda, lambda]^d`; certifies l1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uniform {
    /// Half the width.
    pub lambda: Scale,
}

/// Laplace with density `exp(-|e| / lambda) / (2 lambda)` in every entry; certifies l1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Laplace {
    /// The scale, which is the mean absolute value.
    pub lambda: Scale,
}

impl AnisotropicGaussian {
    /// The distribution with one standard deviation for each entry of the input.
    ///
    /// # Errors
    /// Without entries.
    pub fn new(sigmas: Vec<Scale>) -> Result<Self, OutOfRange> {
        if sigmas.is_empty() {
            let accepted = "one for each entry of the input";
            return Err(OutOfRange { quantity: "the number of noise scales", found: 0.0, accepted });
        }
        Ok(Self { sigmas })
    }

    /// The standard deviations.
    #[must_use]
    pub fn sigmas(&self) -> &[Scale] {
        &self.sigmas
    }

    /// The certified ellipsoid.
    #[must_use]
    pub fn ellipsoid(&self, p1: LowerBound) -> Option<radius::Ellipsoid> {
        radius::anisotropic(&self.sigmas, p1)
    }
}

impl Noise for Gaussian {
    fn add(&self, stream: &SampleStream, x: &[f32], out: &mut [f32]) {
        let sigma = self.sigma.single();
        with_normals(stream, x, out, |_, x, z| x + sigma * z);
    }

    fn radius(&self, p1: LowerBound) -> Option<Radius> {
        radius::one_sided(self.sigma, p1)
    }

    fn norm(&self) -> Norm {
        Norm::L2
    }
}

impl Noise for AnisotropicGaussian {
    fn add(&self, stream: &SampleStream, x: &[f32], out: &mut [f32]) {
        assert_eq!(x.len(), self.sigmas.len(), "one scale for each entry");
        with_normals(stream, x, out, |i, x, z| x + self.sigmas[i].single() * z);
    }

    fn radius(&self, p1: LowerBound) -> Option<Radius> {
        self.ellipsoid(p1).map(|ellipsoid| ellipsoid.l2)
    }

    fn norm(&self) -> Norm {
        Norm::L2
    }
}

impl Noise for Uniform {
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

impl Noise for Laplace {
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
