//! Isotropic Gaussian noise.

use super::{Distribution, Norm};
use crate::random::{SampleStream, with_normals};
use crate::smoothing::quantity::{LowerBound, Radius, Scale};
use crate::smoothing::radius;

/// `N(0, sigma^2 I)`; certifies l2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gaussian {
    /// Standard deviation of every entry.
    pub sigma: Scale,
    /// Whether it may be drawn behind a narrow first layer.
    pub narrow: bool,
}

impl Distribution for Gaussian {
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

    fn gaussian(&self) -> Option<Scale> {
        Some(self.sigma)
    }

    fn narrow(&self) -> bool {
        self.narrow
    }
}
