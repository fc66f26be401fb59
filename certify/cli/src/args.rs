//! Options that several commands share, turned into values.

use std::str::FromStr;
use std::time::Duration;

use tightrope::bounds::{Evaluation, Norm};

/// `LO,HI`, or `none`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clip(pub(crate) Option<(f64, f64)>);

impl FromStr for Clip {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "none" {
            return Ok(Self(None));
        }
        let wrong =
            || format!("`{text}` is not a range of values; give LO,HI with LO <= HI, such as 0,1, or none");
        let (low, high) = text.split_once(',').ok_or_else(wrong)?;
        let number = |part: &str| part.trim().parse::<f64>().map_err(|_| wrong());
        let (low, high) = (number(low)?, number(high)?);
        if low <= high { Ok(Self(Some((low, high)))) } else { Err(wrong()) }
    }
}

/// The norm of a ball.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum NormName {
    Linf,
    L2,
    L1,
}

impl From<NormName> for Norm {
    fn from(name: NormName) -> Self {
        match name {
            NormName::Linf => Self::Linf,
            NormName::L2 => Self::L2,
            NormName::L1 => Self::L1,
        }
    }
}

/// The arithmetic of the network that a proof speaks of.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum EvaluationName {
    /// Exact real arithmetic.
    Real,
    /// Every evaluation in f32 at points of f32, in any order of summation, without minimal filtering (see
    /// docs/evaluation.md).
    Float32,
}

impl From<EvaluationName> for Evaluation {
    fn from(name: EvaluationName) -> Self {
        match name {
            EvaluationName::Real => Self::Real,
            EvaluationName::Float32 => Self::Float32,
        }
    }
}

/// A shape such as `1,3,32,32`.
#[derive(Clone, Debug)]
pub(crate) struct Shape(pub(crate) Vec<usize>);

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let axes = text.split([',', 'x']).map(|part| part.trim().parse::<usize>().ok().filter(|&n| n > 0));
        axes.collect::<Option<_>>()
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a shape; give positive lengths such as 1,3,32,32"))
    }
}

/// A time in seconds, such as 30 or 0.5.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time; give seconds > 0");
    let seconds: f64 = text.trim().parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(seconds).ok().filter(|d| !d.is_zero()).ok_or_else(wrong)
}
