//! Radii that know a Lipschitz constant of the scores, and Lipschitz constants of smoothed scores.

use serde::{Deserialize, Serialize};

use super::two_sided;
use crate::rounding::directed::{div_down, div_up, libm_up, mul_down, mul_up, sub_down, sub_up};
use crate::smoothing::normal::{mean_tail, quantile_lower, quantile_upper};
use crate::smoothing::quantity::{LowerBound, OutOfRange, Radius, Scale, UpperBound};

/// An upper bound on an l2 Lipschitz constant: positive and finite, rounded up by whoever computed it.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Lipschitz(f64);

impl Lipschitz {
    /// A constant.
    ///
    /// # Errors
    /// Unless `1e-100 <= constant <= 1e100`.
    pub fn new(constant: f64) -> Result<Self, OutOfRange> {
        if (1e-100..=1e100).contains(&constant) {
            Ok(Self(constant))
        } else {
            let accepted = "a number between 1e-100 and 1e100";
            Err(OutOfRange { quantity: "the Lipschitz constant", found: constant, accepted })
        }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// The constant of this map followed by one with constant `outer`, rounded up.
    ///
    /// # Errors
    /// If the product is out of range.
    pub fn then(self, outer: f64) -> Result<Self, OutOfRange> {
        Self::new(mul_up(self.0, outer))
    }
}

impl TryFrom<f64> for Lipschitz {
    type Error = OutOfRange;
    fn try_from(constant: f64) -> Result<Self, OutOfRange> {
        Self::new(constant)
    }
}

impl From<Lipschitz> for f64 {
    fn from(constant: Lipschitz) -> Self {
        constant.0
    }
}

/// `L erf(1 / (c L sigma))`, rounded up, where `c` is given as a lower bound.
fn smoothed(lipschitz: Lipschitz, sigma: Scale, c: f64) -> f64 {
    let argument = div_up(1.0, mul_down(c, mul_down(lipschitz.0, sigma.get())));
    mul_up(lipschitz.0, libm_up(libm::erf(argument)).min(1.0))
}

/// The Lipschitz constant of one smoothed score in [0, 1] whose score is `L`-Lipschitz:
/// `L erf(1 / (2 sqrt(2) L sigma))`, rounded up (Delattre et al. 2024, Theorem 2).
#[must_use]
pub fn smoothed_score_lipschitz(lipschitz: Lipschitz, sigma: Scale) -> f64 {
    smoothed(lipschitz, sigma, (2.0 * std::f64::consts::SQRT_2).next_down())
}

/// The Lipschitz constant of the smoothed score vector (in the simplex), rounded up:
/// `L erf(1 / (2 L sigma))`, or `1 / (sqrt(pi) sigma)` with no knowledge of the network (Delattre et
/// al. 2024, Theorem 2 and its corollary).
#[must_use]
pub fn smoothed_vector_lipschitz(lipschitz: Option<Lipschitz>, sigma: Scale) -> f64 {
    // 1 / sqrt(pi), between this number and the one below it.
    let unknown = div_up((std::f64::consts::FRAC_2_SQRT_PI * 0.5).next_up(), sigma.get());
    lipschitz.map_or(unknown, |l| smoothed(l, sigma, 2.0).min(unknown))
}

/// l2 radius from the difference of two scores: the larger of `(p1 - p2) / (sqrt(2) Lip(F))` (Delattre et
/// al. 2024, Proposition 1) and, with a constant, of [`pairwise`] with `h = (1 + p1 - p2) / 2`, which is
/// at most `h_j` for every other class `j`. The constant is that of the score *vector*, simplex map after
/// network.
#[must_use]
pub fn margin(sigma: Scale, p1: LowerBound, p2: UpperBound, vector: Option<Lipschitz>) -> Option<Radius> {
    let p2 = p2.tighter(p1.complement());
    let lipschitz = mul_up(std::f64::consts::SQRT_2.next_up(), smoothed_vector_lipschitz(vector, sigma));
    let difference = sub_down(p1.get(), p2.get());
    let h = LowerBound::new(0.5 * -sub_up(-1.0, difference));
    let pair = vector.and_then(|vector| pairwise(sigma, h, vector));
    Radius::larger(Radius::new(div_down(difference, lipschitz)), pair)
}

/// The tight l2 radius against one other class `j`, for a score vector `s` in the simplex that is
/// `L`-Lipschitz, from a lower bound `h` on the mean of `h_j = (1 + s_A - s_j) / 2`.
///
/// `|(e_A - e_j) . v| <= sqrt(2) |v|`, so `h_j` has the constant `L_h = L / sqrt(2)`, and it lies in [0,
/// 1]; hence its smoothed value `p(x)` obeys the law of a single score (see [`aware`]): `-s0(p(x))` is
/// 1-Lipschitz, with the feet of ramps of slope `L_h`. `A` beats `j` where `p > 1/2`, and a ramp's mean is
/// 1/2 where its middle is at 0, `s0(1/2) = -1 / (2 L_h)`. So `A` beats `j` up to `R = -s0(p) - 1 / (2
/// L_h)`. With the whole `L` for a single score the same would need `L <= L_h`, which softmax has and
/// sparsemax has not. The radius of a classifier is the least over `j`.
#[must_use]
pub fn pairwise(sigma: Scale, h: LowerBound, vector: Lipschitz) -> Option<Radius> {
    let pair = vector.then(std::f64::consts::FRAC_1_SQRT_2.next_up()).ok()?;
    let ramp = Ramp::new(pair, sigma);
    Radius::new(sub_down(-ramp.foot_upper(h), 0.5 * ramp.run))
}

/// The tight l2 radius for scores that are each `L`-Lipschitz with values in [0, 1].
///
/// Among such scores with a given mean under `N(0, sigma^2)`, the ramp that rises from 0 at `s` to 1 at
/// `s + 1/L` has the steepest mean. With `s0(p)` the foot of the ramp of mean `p`, the root of
/// `p = 1 - L sigma (G((s + 1/L)/sigma) - G(s/sigma))` with `G(x) = x Phi(x) + phi(x)`, the function
/// `-s0(p(x))` is 1-Lipschitz in `x`, and the radius is `(s0(p2) - s0(p1)) / 2`. The constant is that
/// of a *score*, simplex map after network.
///
/// The certificate speaks of the scores in exact arithmetic: a network evaluated in floating point is
/// not Lipschitz at the scale of its roundings. `evaluation_error` bounds how far an evaluated score may
/// lie from the exact one and is charged to both bounds.
///
/// Never below [`two_sided`] for the same bounds, uncharged: that radius holds for any scores in [0, 1],
/// so for the evaluated ones, whose means are what the bounds speak of. Both radii follow from the one
/// event that both bounds hold, so the larger does, and alpha is spent once. [`margin`] can exceed
/// it where the vector's constant is less than sqrt(2) times the score's (sparsemax with more than two
/// classes).
#[must_use]
pub fn aware(
    sigma: Scale,
    p1: LowerBound,
    p2: UpperBound,
    score: Lipschitz,
    evaluation_error: f64,
) -> Option<Radius> {
    let as_evaluated = two_sided(sigma, p1, p2);
    let (p1, p2) = (
        p1.charged(evaluation_error),
        p2.charged(evaluation_error).tighter(p1.charged(evaluation_error).complement()),
    );
    let ramp = Ramp::new(score, sigma);
    let difference = sub_down(ramp.foot_lower(p2), ramp.foot_upper(p1));
    Radius::larger(Radius::new(0.5 * difference), as_evaluated)
}

/// The ramp of slope `L` under noise of scale sigma.
struct Ramp {
    sigma: f64,
    /// Bounds on `1 / (L sigma)`.
    width: (f64, f64),
    /// At least `1 / L`.
    run: f64,
}

impl Ramp {
    fn new(lipschitz: Lipschitz, sigma: Scale) -> Self {
        let (l, sigma) = (lipschitz.0, sigma.get());
        let width = (div_down(1.0, mul_up(l, sigma)), div_up(1.0, mul_down(l, sigma)));
        Self { sigma, width, run: div_up(1.0, l) }
    }

    /// A number at least the smoothed ramp's score with its foot at `s`. A narrower ramp scores more.
    fn score_upper(&self, s: f64) -> f64 {
        mean_tail(div_down(s, self.sigma), self.width.0).1
    }

    /// A number at most the smoothed ramp's score with its foot at `s`.
    fn score_lower(&self, s: f64) -> f64 {
        mean_tail(div_up(s, self.sigma), self.width.1).0
    }

    /// A number at least `s0(p1)`: a foot at which the score is at most `p1`. `inf` if none is found.
    fn foot_upper(&self, p1: LowerBound) -> f64 {
        let end = -mul_down(self.sigma, quantile_lower(p1.get()));
        self.search(end, -1.0, |s| self.score_upper(s) <= p1.get())
    }

    /// A number at most `s0(p2)`: a foot at which the score is at least `p2`. `-inf` if none is found.
    fn foot_lower(&self, p2: UpperBound) -> f64 {
        let end = sub_down(-mul_up(self.sigma, quantile_upper(p2.get())), self.run);
        self.search(end, 1.0, |s| self.score_lower(s) >= p2.get())
    }

    /// Bisection between `end`, where the inequality holds by the ramp lying on one side of a step, and
    /// the opposite end of the ramp. What is returned satisfies the inequality as evaluated.
    fn search(&self, end: f64, direction: f64, holds: impl Fn(f64) -> bool) -> f64 {
        let failed = -direction * f64::INFINITY;
        if !end.is_finite() {
            return failed;
        }
        let mut distance = 4.0 * f64::EPSILON * (end.abs() + self.sigma);
        let mut good = end;
        // At the very end the inequality can fail by the width of its evaluation.
        while !holds(good) {
            good = end - direction * distance;
            distance *= 4.0;
            if distance > 1e3 * (self.sigma + self.run) + end.abs() {
                return failed;
            }
        }
        let mut bad = sub_up(end, -direction * self.run);
        for _ in 0..80 {
            let middle = 0.5 * (good + bad);
            if middle == good || middle == bad {
                break;
            }
            if holds(middle) {
                good = middle;
            } else {
                bad = middle;
            }
        }
        good
    }
}
