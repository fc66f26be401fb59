//! Binomial tails, bounded rigorously from above.

use crate::rounding::directed::{SLACK, exp_up, libm_up};

/// Successes among independent trials of one unknown probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Binomial {
    successes: u32,
    trials: u32,
}

impl Binomial {
    /// Counts; `None` if there are more successes than trials.
    #[must_use]
    pub fn new(successes: u32, trials: u32) -> Option<Self> {
        (successes <= trials).then_some(Self { successes, trials })
    }

    /// Number of successes.
    #[must_use]
    pub fn successes(self) -> u32 {
        self.successes
    }

    /// Number of trials.
    #[must_use]
    pub fn trials(self) -> u32 {
        self.trials
    }

    /// The same trials with success and failure exchanged.
    #[must_use]
    pub fn failures(self) -> Self {
        Self { successes: self.trials - self.successes, trials: self.trials }
    }
}

/// A real number known up to an absolute error.
#[derive(Clone, Copy)]
pub(super) struct Approximate {
    pub(super) value: f64,
    pub(super) error: f64,
}

impl Approximate {
    pub(super) fn plus(self, other: Self) -> Self {
        let value = self.value + other.value;
        Self { value, error: self.error + other.error + f64::EPSILON * value.abs() }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.plus(Self { value: -other.value, error: other.error })
    }

    /// `factor * self` for an integer factor.
    pub(super) fn times(self, factor: u32) -> Self {
        let factor = f64::from(factor);
        let value = factor * self.value;
        Self { value, error: factor * self.error + f64::EPSILON * value.abs() }
    }

    pub(super) fn upper(self) -> f64 {
        // The factor pays for the roundings of the error itself.
        self.value + self.error * (1.0 + 1e-9)
    }

    pub(super) fn lower(self) -> f64 {
        self.value - self.error * (1.0 + 1e-9)
    }
}

/// `ln(x)` of a number whose own relative error is at most `2^-52`.
pub(super) fn ln(x: f64) -> Approximate {
    let value = libm::log(x);
    Approximate { value, error: SLACK * value.abs() + 2.0 * f64::EPSILON }
}

/// `ln(n!)`: exact products up to 20, then Stirling's series, which is enveloping: the error is less
/// than the first term left out, `1 / (1680 n^7)`.
pub(super) fn ln_factorial(n: u64) -> Approximate {
    const HALF_LN_TAU: f64 = 0.918_938_533_204_672_8;
    if n <= 20 {
        return ln((1..=n).product::<u64>() as f64);
    }
    let x = n as f64;
    let log = ln(x);
    let main = (x + 0.5) * log.value - x;
    let x2 = x * x;
    let value = main + HALF_LN_TAU + (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / (1260.0 * x2)) / x2) / x;
    let error = (x + 0.5) * log.error + 4.0 * f64::EPSILON * (main.abs() + x) + 1.0 / (1680.0 * x.powi(7));
    Approximate { value, error }
}

/// `ln (n choose k)`: a product where `k` or `n - k` is small, factorials elsewhere.
fn ln_choose(n: u32, k: u32) -> Approximate {
    let few = k.min(n - k);
    if few > 512 {
        return ln_factorial(u64::from(n))
            .minus(ln_factorial(u64::from(k)))
            .minus(ln_factorial(u64::from(n - k)));
    }
    let mut sum = Approximate { value: 0.0, error: f64::from(few) * 4.0 * f64::EPSILON };
    let mut product = 1.0;
    for i in 0..few {
        product *= f64::from(n - i) / f64::from(i + 1);
        if product > 1e200 {
            sum = sum.plus(ln(product));
            product = 1.0;
        }
    }
    sum.plus(ln(product))
}

/// The upper tail of `Bin(trials, p)` from a count on, as a function of `p`: `P(B >= k)`, or
/// `w P(B = k) + P(B > k)`. What does not depend on `p` is computed once.
pub(super) struct UpperTail {
    k: u32,
    n: u32,
    weight: f64,
    choose: Approximate,
}

impl UpperTail {
    /// `P(B >= successes)`.
    pub(super) fn new(counts: Binomial) -> Self {
        Self::weighted(counts, 1.0)
    }

    /// `weight P(B = successes) + P(B > successes)`.
    pub(super) fn weighted(counts: Binomial, weight: f64) -> Self {
        let (k, n) = (counts.successes, counts.trials);
        Self { k, n, weight, choose: ln_choose(n, k) }
    }

    /// A number at least the tail at probability `p`, and 1 wherever the tail is not small because the
    /// count is below the mean.
    pub(super) fn upper(&self, p: f64) -> f64 {
        self.evaluate(p).0
    }

    /// An upper bound on the tail, and an approximation of its derivative in `p`.
    ///
    /// All terms are positive, so relative errors do not grow; each term takes four roundings from its
    /// predecessor. Beyond the mode the ratios of successive terms fall, so a geometric series bounds
    /// what is left out.
    pub(super) fn evaluate(&self, p: f64) -> (f64, f64) {
        let (k, n) = (f64::from(self.k), f64::from(self.n));
        if self.k == 0 && self.weight >= 1.0 {
            return (1.0, 0.0);
        }
        if p <= 0.0 {
            return (if self.k == 0 { self.weight } else { 0.0 }, 0.0);
        }
        if p.is_nan() || p >= 1.0 || n * p >= (k + 1.0) * (1.0 - 1e-9) {
            return (1.0, 0.0);
        }
        let q = 1.0 - p;
        let mut log = self.choose;
        // 0 ln 0 = 0 where a factor is absent.
        if self.k > 0 {
            log = log.plus(ln(p).times(self.k));
        }
        if self.n > self.k {
            log = log.plus(ln(q).times(self.n - self.k));
        }
        let first = exp_up(log.upper());
        let odds = p / q;
        let (mut sum, mut term, mut steps) = (self.weight * first, first, 0.0);
        let mut rest = 0.0;
        for j in self.k..self.n {
            let ratio = f64::from(self.n - j) / (f64::from(j) + 1.0) * odds;
            if ratio < 1.0 - 1e-9 {
                rest = term * ratio / (1.0 - ratio) * (1.0 + 1e-5);
                if rest <= sum * 1e-13 || rest < 1e-280 {
                    break;
                }
            }
            rest = 0.0;
            term *= ratio;
            sum += term;
            steps += 1.0;
        }
        let roundings = (steps + 4.0) * 4.0 * f64::EPSILON;
        let total = (sum + rest) * (1.0 + roundings);
        let total = libm_up(total);
        // d/dp P(B >= j) = j/p P(B = j); the weighted tail mixes j = k and j = k + 1.
        let next = first * (n - k) / (k + 1.0) * odds;
        let slope = (self.weight * k * first + (1.0 - self.weight) * (k + 1.0) * next) / p;
        (if total < 1.0 { total } else { 1.0 }, slope)
    }
}

/// The greatest `p` found with tail at most `alpha`, shown by [`UpperTail::upper`]; 0 if none is.
pub(super) fn invert(tail: &UpperTail, alpha: f64) -> f64 {
    let holds = |p: f64| tail.upper(p) <= alpha;
    let mut high = ((f64::from(tail.k) + 1.0) / f64::from(tail.n)).min(1.0);
    let mut low = 0.0;
    if !holds(low) {
        return 0.0;
    }
    // The weighted tail can stay below alpha all the way to p = 1.
    if tail.k == tail.n && tail.weight <= alpha {
        return 1.0;
    }
    // Newton's method on the logarithm of the tail, kept in the bracket; [low] always holds.
    let mut p = wilson(tail, alpha).clamp(0.01 * high, 0.999_999_999 * high);
    for _ in 0..200 {
        let (value, slope) = tail.evaluate(p);
        if value <= alpha {
            low = p;
        } else {
            high = p;
        }
        // Far below alpha the tail may have run into the floor of its evaluation.
        let newton = value > 1e-280;
        let target = if newton { p - (value / alpha).ln() * value / slope } else { f64::NAN };
        let next = if target > low && target < high { target } else { 0.5 * (low + high) };
        if (next - p).abs() <= 1e-14 * p || high - low <= 1e-14 * high {
            p = next;
            break;
        }
        p = next;
    }
    // From the approximate root downward until the inequality holds.
    let mut distance = f64::EPSILON;
    while distance < 1.0 {
        let candidate = p * (1.0 - distance);
        if candidate <= low {
            break;
        }
        if holds(candidate) {
            return candidate;
        }
        distance *= 2.0;
    }
    low
}

/// Wilson's approximation of the lower confidence limit.
fn wilson(tail: &UpperTail, alpha: f64) -> f64 {
    let (k, n) = (f64::from(tail.k), f64::from(tail.n));
    let z2 = -1.7 * alpha.ln();
    let share = k / n;
    (share + 0.5 * z2 / n - (z2 * (share * (1.0 - share) + 0.25 * z2 / n) / n).sqrt()) / (1.0 + z2 / n)
}

/// A number at least `P(B <= k)` for `B ~ Bin(n, p)`.
pub(crate) fn lower_tail_upper(k: u32, n: u32, p: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    // P(B <= k) = P(n - B >= n - k), increasing in the failure probability, which is rounded up.
    let failure = libm_up(1.0 - p).clamp(0.0, 1.0);
    UpperTail::new(Binomial { successes: n - k, trials: n }).upper(failure)
}

/// A number at least `P(B >= k)` for `B ~ Bin(n, p)`.
pub(crate) fn upper_tail_upper(k: u32, n: u32, p: f64) -> f64 {
    Binomial::new(k, n).map_or(0.0, |counts| UpperTail::new(counts).upper(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tails by direct summation, for small `n`.
    fn direct(k: u32, n: u32, p: f64) -> f64 {
        let choose = |j: u32| (0..j).fold(1.0, |c, i| c * f64::from(n - i) / f64::from(i + 1));
        (k..=n).map(|j| choose(j) * p.powi(j as i32) * (1.0 - p).powi((n - j) as i32)).sum()
    }

    #[test]
    fn tails_bound_direct_sums_from_above_and_closely() {
        for n in 1..=30 {
            for k in 0..=n {
                for i in 1..20 {
                    let p = f64::from(i) / 20.0;
                    let (bound, exact) = (upper_tail_upper(k, n, p), direct(k, n, p));
                    assert!(bound >= exact * (1.0 - 1e-14), "{k} {n} {p}: {bound} {exact}");
                    assert!(bound == 1.0 || bound <= exact * (1.0 + 1e-11), "{k} {n} {p}: {bound} {exact}");
                    let (bound, exact) = (lower_tail_upper(k, n, p), direct(n - k, n, 1.0 - p));
                    assert!(bound >= exact * (1.0 - 1e-13), "{k} {n} {p}: {bound} {exact}");
                }
            }
        }
    }

    #[test]
    fn factorials_are_enclosed() {
        let mut sum = 0.0;
        for n in 1..=3000_u64 {
            sum += (n as f64).ln();
            let bound = ln_factorial(n);
            assert!((sum - bound.value).abs() <= bound.error + 1e-12 * sum, "{n}");
            assert!(bound.error <= 1e-13 * (1.0 + sum), "{n}: {:e}", bound.error);
        }
    }

    #[test]
    fn tails_stay_probabilities_at_the_ends() {
        assert_eq!(upper_tail_upper(0, 5, 0.3), 1.0);
        assert_eq!(upper_tail_upper(6, 5, 0.3), 0.0);
        assert_eq!(upper_tail_upper(3, 5, 0.0), 0.0);
        assert_eq!(upper_tail_upper(3, 5, 1.0), 1.0);
        assert_eq!(upper_tail_upper(3, 5, f64::NAN), 1.0);
        assert_eq!(lower_tail_upper(5, 5, 0.3), 1.0);
        assert!(upper_tail_upper(100_000, 100_000, 1e-9) > 0.0);
    }
}
