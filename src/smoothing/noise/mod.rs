//! Noise: what is drawn, on what, and what it certifies, in one value.
//!
//! A [`Noise`] is a [`Distribution`] with its scale under the name that front ends know it by. Everything
//! else asks it: samplers what to add, radius rules which norm and which radius, certifiers whether it may
//! be drawn behind the first layer and what its rounding costs. A new distribution is
//!
//! 1. a file of this folder with its [`Distribution`], the radius that it certifies included;
//! 2. a line in [`Noise::KINDS`] below;
//! 3. and, for C, whose options are numbers, a line in `certify/capi/src/smooth.rs`, from which
//! 4. `certify/capi/include/tightrope.h` is generated.
//!
//! The command line, Python, run files, merging and reports know distributions by name alone.
//!
//! What is drawn is `f32` arithmetic on counter-based random words: the distributions are as exact as
//! `f32` allows, and `x + noise` is rounded once. The certificates treat the noise as real numbers, so a
//! network that reads the low-order bits of its input can invalidate them (Voracek and Hein 2023);
//! [`Lattice`] closes that gap for inputs on the grid of 8-bit pixels.

mod anisotropic;
mod gaussian;
mod laplace;
mod lattice;
#[cfg(test)]
mod tests;
mod uniform;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::quantity::{LowerBound, Radius, Scale};
use crate::random::SampleStream;

pub use anisotropic::AnisotropicGaussian;
pub use gaussian::Gaussian;
pub use laplace::Laplace;
pub use lattice::Lattice;
pub use uniform::Uniform;

/// A noise distribution that is added to an input.
pub trait Distribution: fmt::Debug + Send + Sync {
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

    /// The standard deviation, if smoothed scores are those of isotropic Gaussian noise up to the
    /// [`charge`](Self::charge): then there are two-sided and Lipschitz-aware radii, too.
    fn gaussian(&self) -> Option<Scale> {
        None
    }

    /// Whether the noise may be drawn behind a narrow first layer
    /// ([`RowSpace`](super::row_space::RowSpace)) instead of on the input.
    fn narrow(&self) -> bool {
        false
    }

    /// How far the probability of any event can be from the one that certificates speak of, for an input
    /// of `len` entries. Taken off every bound that decides a certificate.
    fn charge(&self, _len: usize) -> f64 {
        0.0
    }

    /// How far (l2) from the sum of the input and real noise the noisy input may lie by construction, for
    /// an input of `len` entries.
    fn moved(&self, _len: usize) -> f64 {
        0.0
    }

    /// Whether noise can be added to this input.
    ///
    /// # Errors
    /// The first entry that it cannot be added to.
    fn accepts(&self, _x: &[f32]) -> Result<(), OffGrid> {
        Ok(())
    }
}

/// The norm of a radius.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Sum of absolute values.
    L1,
    /// Euclidean.
    L2,
}

/// An input that lattice noise cannot be added to.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("entry {entry} is {value}; accepted in lattice mode: k/255 with k from 0 to 255")]
pub struct OffGrid {
    /// Which entry.
    pub entry: usize,
    /// Its value.
    pub value: f32,
}

/// No noise.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum NoiseError {
    /// No distribution has this name.
    #[error("found the noise `{found}`; accepted: {}", Noise::names().collect::<Vec<_>>().join(", "))]
    Name {
        /// The name.
        found: String,
    },
    /// The distribution cannot have this scale.
    #[error("found the scale {found} for {name} noise; accepted: {accepted}")]
    Scale {
        /// The distribution.
        name: &'static str,
        /// The scale.
        found: f64,
        /// What it can have.
        accepted: &'static str,
    },
    /// A record with no noise, or several.
    #[error("found {found} noises in a record; accepted: one name with its scale")]
    Record {
        /// How many.
        found: usize,
    },
}

/// A distribution by name.
#[derive(Debug)]
pub struct Kind {
    /// The name.
    pub name: &'static str,
    /// What it is and what it certifies.
    pub about: &'static str,
    make: fn(Scale) -> Result<Arc<dyn Distribution>, NoiseError>,
}

/// A distribution with its scale. What it draws, certifies and costs is asked of it as a
/// [`Distribution`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Scale>", into = "BTreeMap<String, Scale>")]
pub struct Noise {
    kind: &'static Kind,
    scale: Scale,
    distribution: Arc<dyn Distribution>,
}

impl Noise {
    /// All that have a name.
    pub const KINDS: &[Kind] = &[
        Kind {
            name: "gaussian",
            about: "N(0, scale^2) in every entry, drawn behind a narrow first layer where that is the same; l2",
            make: |sigma| Ok(Arc::new(Gaussian { sigma, narrow: true })),
        },
        Kind {
            name: "gaussian-input",
            about: "N(0, scale^2) in every entry of the input; l2",
            make: |sigma| Ok(Arc::new(Gaussian { sigma, narrow: false })),
        },
        Kind {
            name: "lattice",
            about: "N(0, scale^2) on the grid of 8-bit pixels, which no rounding can break; l2",
            make: |sigma| Ok(Arc::new(Lattice::new(sigma)?)),
        },
        Kind {
            name: "uniform",
            about: "uniform on [-scale, scale] in every entry; l1",
            make: |lambda| Ok(Arc::new(Uniform { lambda })),
        },
        Kind {
            name: "laplace",
            about: "Laplace of this scale in every entry; l1",
            make: |lambda| Ok(Arc::new(Laplace { lambda })),
        },
    ];

    /// The distribution of this name with this scale.
    ///
    /// # Errors
    /// [`NoiseError`] for a name that none has, or a scale that it cannot have.
    pub fn new(name: &str, scale: Scale) -> Result<Self, NoiseError> {
        let kind = Self::KINDS.iter().find(|kind| kind.name == name);
        let kind = kind.ok_or_else(|| NoiseError::Name { found: name.to_owned() })?;
        Ok(Self { kind, scale, distribution: (kind.make)(scale)? })
    }

    /// `N(0, sigma^2 I)`: the first kind.
    #[must_use]
    pub fn gaussian(sigma: Scale) -> Self {
        Self { kind: &Self::KINDS[0], scale: sigma, distribution: Arc::new(Gaussian { sigma, narrow: true }) }
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::KINDS.iter().map(|kind| kind.name)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind.name
    }

    /// The scale, in units of the input.
    #[must_use]
    pub fn scale(&self) -> Scale {
        self.scale
    }
}

impl Deref for Noise {
    type Target = dyn Distribution;

    fn deref(&self) -> &Self::Target {
        &*self.distribution
    }
}

impl PartialEq for Noise {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.scale == other.scale
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} noise of scale {}", self.name(), self.scale.get())
    }
}

impl From<Noise> for BTreeMap<String, Scale> {
    fn from(noise: Noise) -> Self {
        Self::from([(noise.name().to_owned(), noise.scale)])
    }
}

impl TryFrom<BTreeMap<String, Scale>> for Noise {
    type Error = NoiseError;

    fn try_from(record: BTreeMap<String, Scale>) -> Result<Self, NoiseError> {
        let (Some((name, scale)), 1) = (record.first_key_value(), record.len()) else {
            return Err(NoiseError::Record { found: record.len() });
        };
        Self::new(name, *scale)
    }
}
