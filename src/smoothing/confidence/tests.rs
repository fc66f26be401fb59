//! Bounds against published values, against each other, and their coverage by exact enumeration.

use proptest::prelude::*;

use super::*;
use crate::smoothing::normal::quantile_lower;
use crate::smoothing::statistics::Moments;

fn alpha(x: f64) -> Alpha {
    Alpha::new(x).expect("a level")
}

fn counts(k: u32, n: u32) -> Binomial {
    Binomial::new(k, n).expect("counts")
}

fn pmf(k: u32, n: u32, p: f64) -> f64 {
    let choose = (0..k).fold(1.0, |c, i| c * f64::from(n - i) / f64::from(i + 1));
    choose * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32)
}

#[test]
fn the_price_list() {
    let n = 100_000;
    let table = [
        (100_000, [3.812, 3.788, 3.740, 3.572, 3.502]),
        (99_000, [2.290, 2.288, 2.283, 2.277, 2.269]),
        (90_000, [1.265, 1.264, 1.262, 1.260, 1.257]),
    ];
    for (k, expected) in table {
        let (sample, moments) = (counts(k, n), Moments::of_counts(counts(k, n)));
        let found = [
            ClopperPearson.lower(&sample, alpha(1e-3)),
            ClopperPearson.lower(&sample, alpha(5e-4)),
            ClopperPearson.lower(&sample, alpha(1e-4)),
            Bernstein.lower(&moments, alpha(1e-3)),
            Bernstein.lower(&moments, alpha(1e-4)),
        ];
        for (bound, expected) in found.iter().zip(expected) {
            let quantile = quantile_lower(bound.get());
            assert!((quantile - expected).abs() <= 6e-4, "k = {k}: {quantile} {expected}");
        }
    }
}

#[test]
fn clopper_pearson_is_below_the_exact_limit_and_close() {
    // Limits computed with 35 digits.
    let table = [
        (1, 1, 0.05, 0.05),
        (3, 10, 0.001, 0.021_037_971_320_986_837),
        (50, 100, 0.01, 0.380_717_466_906_952_46),
        (99_000, 100_000, 0.001, 0.988_989_340_377_474_8),
        (90_000, 100_000, 0.000_5, 0.896_843_071_050_346_8),
        (99_999, 100_000, 0.001, 0.999_907_669_666_265_4),
        (1, 100_000, 0.001, 1.000_500_328_578_529e-8),
        (600_000, 1_000_000, 1e-6, 0.597_669_280_518_039),
    ];
    for (k, n, level, exact) in table {
        let bound = ClopperPearson.lower(&counts(k, n), alpha(level)).get();
        assert!(bound <= exact && bound >= exact * (1.0 - 1e-10), "{k} of {n}: {bound} {exact}");
    }
    // All successes: alpha^(1/n).
    let bound = ClopperPearson.lower(&counts(100_000, 100_000), alpha(1e-3)).get();
    let exact = (1e-3_f64.ln() / 1e5).exp();
    assert!(bound < exact && bound > exact - 1e-14);
}

#[test]
fn extreme_counts_have_bounds() {
    let a = alpha(1e-3);
    assert_eq!(ClopperPearson.lower(&counts(0, 9), a).get(), 0.0);
    assert_eq!(ClopperPearson.upper(&counts(9, 9), a).get(), 1.0);
    assert_eq!(ClopperPearson.lower(&counts(0, 0), a).get(), 0.0);
    assert_eq!(ClopperPearson.upper(&counts(0, 0), a).get(), 1.0);
    assert_eq!(KrichevskyTrofimov.lower(&counts(0, 0), a).get(), 0.0);
    assert_eq!(Hoeffding.lower(&Moments::default(), a).get(), 0.0);
    assert_eq!(Bernstein.upper(&Moments::default(), a).get(), 1.0);
    assert_eq!(HedgedBetting.lower(&[], a).get(), 0.0);
    assert_eq!(HedgedBetting.lower(&[f64::NAN; 50], a).get(), 0.0);
    assert_eq!(HedgedBetting.upper(&[f64::NAN; 50], a).get(), 1.0);
    let large = ClopperPearson.lower(&counts(u32::MAX - 7, u32::MAX), a).get();
    assert!(large < 1.0 && large > 1.0 - 1e-8);
    let tiny = ClopperPearson.lower(&counts(1000, 1000), alpha(1e-200)).get();
    assert!((tiny - 1e-200_f64.powf(1e-3)).abs() < 1e-9);
}

/// Largest probability, over a grid of true values, that a lower bound on `Bin(n, p)` exceeds `p`.
fn worst_failure(n: u32, lower: impl Fn(u32) -> f64) -> f64 {
    let bounds: Vec<f64> = (0..=n).map(lower).collect();
    let at = |p: f64| (0..=n).filter(|&k| bounds[k as usize] > p).map(|k| pmf(k, n, p)).sum::<f64>();
    // Just below each bound the failure probability is greatest.
    let critical = bounds.iter().map(|b| b.next_down()).filter(|&b| b > 0.0);
    (1..200).map(|i| f64::from(i) / 200.0).chain(critical).map(at).fold(0.0, f64::max)
}

#[test]
fn coverage_by_enumeration() {
    for n in [1, 2, 5, 17, 40] {
        for level in [0.001, 0.05, 0.3] {
            let a = alpha(level);
            let moments = |k| Moments::of_counts(counts(k, n));
            let exact = worst_failure(n, |k| ClopperPearson.lower(&counts(k, n), a).get());
            assert!(exact <= level * (1.0 + 1e-9) && exact >= level * (1.0 - 1e-6), "{n} {level}: {exact}");
            let uppers = worst_failure(n, |k| 1.0 - ClopperPearson.upper(&counts(n - k, n), a).get());
            assert!(uppers <= level * (1.0 + 1e-9), "{n} {level}: {uppers}");
            for failure in [
                worst_failure(n, |k| KrichevskyTrofimov.lower(&counts(k, n), a).get()),
                worst_failure(n, |k| Hoeffding.lower(&moments(k), a).get()),
                worst_failure(n, |k| Bernstein.lower(&moments(k), a).get()),
            ] {
                assert!(failure <= level, "{n} {level}: {failure}");
            }
        }
    }
}

#[test]
fn the_randomized_bound_is_exact() {
    let (n, level) = (20, 0.05);
    // Beyond 2^(-1/n) it is conservative instead of infinite.
    assert!(RandomizedClopperPearson::new(0.0).expect("W").lower(&counts(n, n), alpha(level)).get() < 0.966);
    for p in [0.1, 0.35, 0.5, 0.8, 0.96] {
        let steps = 400;
        let mut failure = 0.0;
        for i in 0..steps {
            let bound = RandomizedClopperPearson::new((f64::from(i) + 0.5) / f64::from(steps)).expect("W");
            let wrong = |k: &u32| bound.lower(&counts(*k, n), alpha(level)).get() > p;
            failure += (0..=n).filter(wrong).map(|k| pmf(k, n, p)).sum::<f64>() / f64::from(steps);
        }
        assert!((failure - level).abs() < 2e-3, "{p}: {failure}");
    }
    let classical = RandomizedClopperPearson::new(1.0).expect("W");
    for k in 0..=n {
        let (a, b) =
            (classical.lower(&counts(k, n), alpha(level)), ClopperPearson.lower(&counts(k, n), alpha(level)));
        assert!((a.get() - b.get()).abs() < 1e-12);
    }
    assert!(RandomizedClopperPearson::new(f64::NAN).is_err());
}

/// Probability that a bound consulted after some of `n` trials ever exceeds `p`.
fn ever_above(n: u32, p: f64, mut lower: impl FnMut(u32, u32) -> Option<f64>) -> f64 {
    let (mut alive, mut failed) = (vec![1.0], 0.0);
    for t in 1..=n {
        let mut next = vec![0.0; t as usize + 1];
        for (k, mass) in alive.iter().enumerate() {
            next[k] += mass * (1.0 - p);
            next[k + 1] += mass * p;
        }
        for (k, mass) in next.iter_mut().enumerate() {
            if *mass > 0.0 && lower(k as u32, t).is_some_and(|bound| bound > p) {
                failed += std::mem::take(mass);
            }
        }
        alive = next;
    }
    failed
}

#[test]
fn anytime_bounds_hold_at_all_times_by_enumeration() {
    let (n, a) = (120, alpha(0.1));
    let checkpoints: Vec<Checkpoint> = Checkpoints::new(4, n).collect();
    for p in [0.05, 0.3, 0.5, 0.9] {
        let kt = ever_above(n, p, |k, t| Some(KrichevskyTrofimov.lower(&counts(k, t), a).get()));
        assert!(kt <= 0.1, "{p}: {kt}");
        let union = ever_above(n, p, |k, t| {
            let now = checkpoints.iter().find(|c| c.count() == t)?;
            Some(ClopperPearson.lower(&counts(k, t), now.level(a)?).get())
        });
        assert!(union <= 0.1, "{p}: {union}");
        // Looking at a fixed-sample bound at all times would not do.
        let peeking = ever_above(n, p, |k, t| Some(ClopperPearson.lower(&counts(k, t), a).get()));
        assert!(peeking > 0.1, "{p}: {peeking}");
    }
}

#[test]
fn a_test_of_a_threshold_holds_at_all_times_by_enumeration() {
    let (n, a) = (100, alpha(0.1));
    for (p, thresholds) in [(0.5, [0.5, 0.55, 0.8]), (0.7, [0.7, 0.72, 0.9]), (0.95, [0.95, 0.97, 0.999])] {
        for (threshold, pilot) in thresholds.into_iter().zip([counts(0, 0), counts(18, 20), counts(400, 400)])
        {
            let threshold = f64::next_up(threshold);
            let test = TestMartingale::new(LowerBound::new(threshold), pilot);
            let failed = ever_above(n, p, |k, t| Some(test.lower(&counts(k, t), a).get()));
            assert!(failed <= 0.1, "{p} {threshold}: {failed}");
            assert!(test.lower(&counts(n, n), a).get() <= threshold);
        }
    }
    // Against less than the threshold it is no better, and a high count reaches the threshold exactly.
    let test = TestMartingale::new(LowerBound::new(0.8), counts(19, 20));
    assert_eq!(test.lower(&counts(190, 200), a).get(), 0.8);
    assert_eq!(test.lower(&counts(0, 0), a).get(), 0.0);
    assert_eq!(test.upper(&counts(190, 200), a), UpperBound::TRIVIAL);
    assert!(test.lower(&counts(160, 200), a).get() < 0.8);
    let futility = test.futility(1000, a);
    assert!(futility.reached(counts(50, 100)) && !futility.reached(counts(95, 100)));
    assert!(test.futility(10, alpha(1e-9)).reached(counts(1, 1)), "ten successes are not enough");
}

#[test]
fn a_capital_reaches_its_target_as_seldom_as_stated_by_enumeration() {
    let n = 11_u32;
    for mean in [0.3, 0.6, 0.9] {
        for level in [0.05, 0.2] {
            let a = alpha(level);
            let reaches = |bits: &u32| {
                let mut capital = Capital::new(mean, 8, a);
                (0..n).any(|i| {
                    capital.push(f64::from(bits >> i & 1));
                    capital.ln() >= -level.ln()
                })
            };
            let mass = |bits: u32| {
                mean.powi(bits.count_ones() as i32) * (1.0 - mean).powi((n - bits.count_ones()) as i32)
            };
            let failure: f64 = (0..1 << n).filter(reaches).map(mass).sum();
            assert!(failure <= level, "{mean}: {failure}");
        }
    }
    // It is what the bound looks at.
    let scores: Vec<f64> = (0..400).map(|i| 0.8 + 0.2 * (f64::from(i) * 0.618_033_988_75).fract()).collect();
    let bound = HedgedBetting.lower(&scores, alpha(0.01)).get();
    for (mean, rejected) in [(bound * 0.999, true), (bound * 1.001, false)] {
        let mut capital = Capital::new(mean, scores.len(), alpha(0.01));
        let ever = scores.iter().any(|&score| {
            capital.push(score);
            capital.ln() >= -(0.01_f64.ln())
        });
        assert_eq!(ever, rejected, "{mean}");
    }
    // Neither end of its range overflows.
    let mut rich = Capital::new(0.5, 10, alpha(0.01));
    (0..5000).for_each(|_| rich.push(1.0));
    assert!(rich.ln() > 2000.0 && rich.ln().is_finite());
    (0..5000).for_each(|_| rich.push(f64::NAN));
    assert_eq!(rich.ln(), f64::NEG_INFINITY);
}

#[test]
fn the_weakest_of_several_samples_has_the_bound_by_betting() {
    let sample = |offset: f64| -> Vec<f64> {
        (0..300).map(|i| offset + 0.1 * (f64::from(i) * 0.754_877_666).fract()).collect()
    };
    let samples = [sample(0.8), sample(0.75), sample(0.9)];
    let all = || samples.iter().map(Vec::as_slice);
    let (a, planned) = (alpha(0.01), 300);
    let lower = HedgedBetting.lower_of_all(all(), planned, a).get();
    let least = all().map(|s| HedgedBetting.lower(s, a).get()).fold(1.0, f64::min);
    assert!((lower - least).abs() < 1e-9, "{lower} {least}");
    let upper = HedgedBetting.upper_of_all(all(), planned, a).get();
    let greatest = all().map(|s| HedgedBetting.upper(s, a).get()).fold(0.0, f64::max);
    assert!((upper - greatest).abs() < 1e-9, "{upper} {greatest}");
    let none: [&[f64]; 0] = [];
    assert_eq!(HedgedBetting.lower_of_all(none, 1, a), LowerBound::TRIVIAL);
}

#[test]
fn levels_of_all_checkpoints_sum_to_at_most_alpha() {
    let a = alpha(1e-3);
    let sum: f64 = Checkpoints::new(1, u32::MAX - 1).filter_map(|c| c.level(a)).map(Alpha::get).sum();
    assert!(sum <= 1e-3 && sum > 0.95e-3, "{sum}");
    let list: Vec<u32> = Checkpoints::new(16, 100).map(Checkpoint::count).collect();
    assert_eq!(list, [16, 18, 20, 22, 25, 28, 31, 35, 39, 43, 48, 53, 59, 65, 72, 80, 88, 97, 100]);
    assert_eq!(Checkpoints::new(16, 0).count(), 0);
    assert_eq!(Checkpoints::new(16, 3).map(Checkpoint::count).collect::<Vec<_>>(), [3]);
}

#[test]
fn betting_covers_by_enumeration_of_all_sequences() {
    let n = 11_u32;
    for level in [0.05, 0.2] {
        let bounds: Vec<f64> = (0..1u32 << n)
            .map(|bits| {
                let scores: Vec<f64> = (0..n).map(|i| f64::from(bits >> i & 1)).collect();
                HedgedBetting.lower(&scores, alpha(level)).get()
            })
            .collect();
        for i in 1..50 {
            let p = f64::from(i) / 50.0;
            let mass = |bits: &u32| {
                p.powi(bits.count_ones() as i32) * (1.0 - p).powi((n - bits.count_ones()) as i32)
            };
            let failure: f64 = (0..1u32 << n).filter(|&b| bounds[b as usize] > p).map(|b| mass(&b)).sum();
            assert!(failure <= level, "{p}: {failure}");
        }
    }
}

#[test]
fn betting_beats_bernstein_on_soft_scores() {
    let scores: Vec<f64> = (0..2000).map(|i| 0.9 + 0.1 * (f64::from(i) * 0.618_033_988_75).fract()).collect();
    let mut moments = Moments::default();
    for &score in &scores {
        moments.push(score);
    }
    let a = alpha(1e-3);
    let (betting, bernstein) = (HedgedBetting.lower(&scores, a).get(), Bernstein.lower(&moments, a).get());
    assert!(betting > bernstein && betting < 0.95, "{betting} {bernstein}");
    let upper = HedgedBetting.upper(&scores, a).get();
    assert!(upper > 0.95 && upper < Bernstein.upper(&moments, a).get(), "{upper}");
}

proptest! {
    #[test]
    fn bounds_enclose_the_mean_and_move_with_it(k in 0u32..=300, extra in 0u32..300, level in 1e-6f64..0.4) {
        let (n, a) = (k + extra.max(1), alpha(level));
        let share = f64::from(k) / f64::from(n);
        let moments = Moments::of_counts(counts(k, n));
        let (cp, kt, randomized) =
            (ClopperPearson, KrichevskyTrofimov, RandomizedClopperPearson::new(0.3).expect("W"));
        for (low, high) in [
            (cp.lower(&counts(k, n), a), cp.upper(&counts(k, n), a)),
            (kt.lower(&counts(k, n), a), kt.upper(&counts(k, n), a)),
            (Hoeffding.lower(&moments, a), Hoeffding.upper(&moments, a)),
            (Bernstein.lower(&moments, a), Bernstein.upper(&moments, a)),
        ] {
            prop_assert!(low.get() <= share && share <= high.get());
        }
        prop_assert!(randomized.lower(&counts(k, n), a).get() >= cp.lower(&counts(k, n), a).get() - 1e-12);
        prop_assert!(kt.lower(&counts(k, n), a).get() <= cp.lower(&counts(k, n), a).get() + 1e-12);
        // More successes, or a larger alpha: a larger lower bound.
        prop_assert!(cp.lower(&counts(k + 1, n + 1), a).get() >= cp.lower(&counts(k, n), a).get());
        prop_assert!(cp.lower(&counts(k, n), alpha(level * 2.0)).get() >= cp.lower(&counts(k, n), a).get());
    }

    #[test]
    fn betting_bounds_enclose_the_mean(scores in prop::collection::vec(0.0f64..=1.0, 1..80)) {
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let a = alpha(0.05);
        prop_assert!(HedgedBetting.lower(&scores, a).get() <= mean + 1e-12);
        prop_assert!(HedgedBetting.upper(&scores, a).get() >= mean - 1e-12);
    }
}
