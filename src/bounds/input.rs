//! The set of inputs that a certificate speaks of.

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::kernels::{Kernel, dispatch};
use crate::rounding::directed::{add_up, mul_up, sqrt_up, sub_up};
use crate::rounding::outward;

/// One l-inf box for each network input: all `z` with `lower <= z <= upper`
/// entry by entry; for the l2 and l1 norms, the points of the box that lie in
/// a ball.
#[derive(Clone, Debug)]
pub struct InputBox {
    lower: Array2<f64>,
    upper: Array2<f64>,
    ball: Option<Ball>,
}

/// The balls of an [`InputBox`].
#[derive(Clone, Debug)]
pub struct Ball {
    /// The norm, l2 or l1.
    pub norm: Norm,
    /// Centres, `n x input_len`.
    pub centre: Array2<f64>,
    /// Radius.
    pub eps: f64,
}

/// A norm of perturbations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Greatest entry.
    Linf,
    /// Euclidean length.
    L2,
    /// Sum of absolute values.
    L1,
}

/// Why a box cannot be formed.
#[derive(Debug, Error)]
pub enum BoxError {
    /// eps is negative or not a number.
    #[error("eps = {0} is not a radius; give a finite number >= 0")]
    Eps(f64),
    /// The clipping range is empty.
    #[error("the clipping range [{0}, {1}] is empty; give LO,HI with LO <= HI")]
    Clip(f64, f64),
    /// Ends are not those of boxes.
    #[error("these are not the ends of boxes; give finite ends of one shape, none above its upper one")]
    Ends,
    /// An input is not finite.
    #[error("input {input}: entry {entry} is {value}; inputs must be finite")]
    NotFinite {
        /// Which input.
        input: usize,
        /// Which entry of it.
        entry: usize,
        /// What stands there.
        value: f64,
    },
    /// An input lies outside the range that its box is clipped to.
    #[error(
        "input {input}: entry {entry} is {value}, outside the clipping range [{low}, {high}]; \
         give the range of the data, or none"
    )]
    OutsideClip {
        /// Which input.
        input: usize,
        /// Which entry of it.
        entry: usize,
        /// What stands there.
        value: f64,
        /// Least value of the range.
        low: f64,
        /// Greatest value of the range.
        high: f64,
    },
}

impl BoxError {
    /// The same error where row `i` of the inputs has the number `indices[i]` in its data set.
    #[must_use]
    pub fn at(mut self, indices: &[usize]) -> Self {
        if let Self::NotFinite { input, .. } | Self::OutsideClip { input, .. } = &mut self {
            *input = indices.get(*input).copied().unwrap_or(*input);
        }
        self
    }
}

/// Moves ends that are still centres outward by `eps`, rounded outward.
struct Widen<'a> {
    lower: &'a mut [f64],
    upper: &'a mut [f64],
    eps: f64,
}

impl Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let (lower, rest) = self.lower.as_chunks_mut::<8>();
        let (upper, others) = self.upper.as_chunks_mut::<8>();
        for (lower, upper) in lower.iter_mut().zip(upper) {
            (*lower, *upper) = outward(*lower, [self.eps; 8]);
        }
        for (lower, upper) in rest.iter_mut().zip(others) {
            ([*lower], [*upper]) = outward([*lower], [self.eps]);
        }
    }
}

impl InputBox {
    /// The l-inf balls of radius `eps` around the rows of `x` (`n x input_len`),
    /// cut to the data range `clip` where one is given. Ends are rounded
    /// outward, so the box holds the whole ball.
    ///
    /// # Errors
    /// [`BoxError`] if eps, the range or an input is not usable.
    pub fn linf(x: ArrayView2<f32>, eps: f64, clip: Option<(f64, f64)>) -> Result<Self, BoxError> {
        if !(eps >= 0.0 && eps.is_finite()) {
            return Err(BoxError::Eps(eps));
        }
        let (low, high) = clip.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        if low.is_nan() || high.is_nan() || low > high {
            return Err(BoxError::Clip(low, high));
        }
        let refused = |input: usize| {
            let wrong = |&value: &f32| !value.is_finite() || !(low..=high).contains(&f64::from(value));
            let (entry, &value) = x.row(input).into_iter().enumerate().find(|(_, value)| wrong(value))?;
            let value = f64::from(value);
            Some(if value.is_finite() {
                BoxError::OutsideClip { input, entry, value, low, high }
            } else {
                BoxError::NotFinite { input, entry, value }
            })
        };
        if let Some(error) = (0..x.nrows()).into_par_iter().find_map_first(refused) {
            return Err(error);
        }
        let [mut lower, mut upper] = [(); 2].map(|()| Array2::zeros(x.dim()));
        let ends = lower.axis_iter_mut(Axis(0)).into_par_iter().zip(upper.axis_iter_mut(Axis(0)));
        ends.zip(x.axis_iter(Axis(0))).for_each(|((mut lower, mut upper), x)| {
            let (Some(lower), Some(upper)) = (lower.as_slice_mut(), upper.as_slice_mut()) else {
                unreachable!("rows of fresh arrays")
            };
            lower.iter_mut().zip(x).for_each(|(lower, &x)| *lower = f64::from(x));
            upper.copy_from_slice(lower);
            if eps > 0.0 {
                dispatch(Widen { lower, upper, eps });
            }
            lower.iter_mut().chain(upper).for_each(|end| *end = end.clamp(low, high));
        });
        Ok(Self { lower, upper, ball: None })
    }

    /// The balls of radius `eps` in a norm around the rows of `x`, cut to the
    /// data range `clip` where one is given.
    ///
    /// # Errors
    /// As [`InputBox::linf`].
    pub fn ball(
        norm: Norm,
        x: ArrayView2<f32>,
        eps: f64,
        clip: Option<(f64, f64)>,
    ) -> Result<Self, BoxError> {
        let mut set = Self::linf(x, eps, clip)?;
        if norm != Norm::Linf {
            set.ball = Some(Ball { norm, centre: x.mapv(f64::from), eps });
        }
        Ok(set)
    }

    /// The balls, unless the norm is l-inf.
    #[must_use]
    pub fn balls(&self) -> Option<&Ball> {
        self.ball.as_ref()
    }

    /// Boxes from their ends, `n x input_len` each.
    ///
    /// # Errors
    /// [`BoxError::Ends`] if the shapes differ, or an end is not finite or a
    /// lower one above its upper one.
    pub fn new(lower: Array2<f64>, upper: Array2<f64>) -> Result<Self, BoxError> {
        let ordered = |(l, u): (&f64, &f64)| l <= u && l.is_finite() && u.is_finite();
        if lower.dim() == upper.dim() && lower.iter().zip(&upper).all(ordered) {
            Ok(Self { lower, upper, ball: None })
        } else {
            Err(BoxError::Ends)
        }
    }

    /// Lower ends, `n x input_len`.
    #[must_use]
    pub fn lower(&self) -> ArrayView2<'_, f64> {
        self.lower.view()
    }

    /// Upper ends, `n x input_len`.
    #[must_use]
    pub fn upper(&self) -> ArrayView2<'_, f64> {
        self.upper.view()
    }

    /// The centre of set `i`: that of its ball, else about that of its box.
    #[must_use]
    pub fn centre(&self, i: usize) -> Vec<f64> {
        match &self.ball {
            Some(ball) => ball.centre.row(i).to_vec(),
            None => self.lower.row(i).iter().zip(self.upper.row(i)).map(|(l, u)| 0.5 * l + 0.5 * u).collect(),
        }
    }

    /// At least the l2 distance of any point of set `i` from its [centre](Self::centre).
    #[must_use]
    pub fn distance(&self, i: usize) -> f64 {
        let ends = self.lower.row(i).into_iter().zip(self.upper.row(i));
        let square = self.centre(i).into_iter().zip(ends).fold(0.0, |sum, (c, (&l, &u))| {
            let side = sub_up(c, l).max(sub_up(u, c));
            add_up(sum, mul_up(side, side))
        });
        // A ball of the l1 norm lies in that of the l2 norm.
        self.ball.as_ref().map_or(f64::INFINITY, |ball| ball.eps).min(sqrt_up(square))
    }

    /// Number of boxes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lower.nrows()
    }

    /// Whether there are no boxes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
