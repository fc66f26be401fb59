//! Gaussian noise with a scale for each entry.

use super::{Distribution, Norm};
use crate::random::{SampleStream, with_normals};
use crate::smoothing::quantity::{LowerBound, OutOfRange, Radius, Scale};
use crate::smoothing::radius;

/// `N(0, diag(sigma_i^2))`; certifies an ellipsoid ([`radius::anisotropic`]), and the l2 ball inside.
#[derive(Clone, Debug, PartialEq)]
pub struct AnisotropicGaussian {
    sigmas: Vec<Scale>,
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

impl Distribution for AnisotropicGaussian {
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
