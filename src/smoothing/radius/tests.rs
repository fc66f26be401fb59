//! Radii against the values of closed forms and of each other.

use proptest::prelude::*;

use super::*;

fn scale(x: f64) -> Scale {
    Scale::new(x).expect("a scale")
}

fn lipschitz(x: f64) -> Lipschitz {
    Lipschitz::new(x).expect("a constant")
}

fn bounds(p1: f64, p2: f64) -> (LowerBound, UpperBound) {
    (LowerBound::new(p1), UpperBound::new(p2))
}

fn number(radius: Option<Radius>) -> f64 {
    radius.map_or(0.0, Radius::get)
}

#[test]
fn the_lipschitz_aware_radius_has_its_known_values() {
    let table = [
        (1.0, 0.25, 0.99, 0.84006, 0.58159),
        (2.0, 0.5, 0.9, 0.66721, 0.64078),
        (10.0, 0.25, 0.999, 0.77765, 0.77256),
        (0.5, 1.0, 0.7, 0.61201, 0.52440),
    ];
    for (l, sigma, p, expected, cohen) in table {
        let (p1, p2) = bounds(p, 1.0);
        let radius = number(aware(scale(sigma), p1, p2, lipschitz(l), 0.0));
        assert!((radius - expected).abs() < 1e-5, "L = {l}, sigma = {sigma}, p = {p}: {radius}");
        assert!((number(one_sided(scale(sigma), p1)) - cohen).abs() < 1e-5);
    }
}

#[test]
fn the_aware_radius_solves_its_equation() {
    // 2048 trapezoids for the score of the ramp with its foot at s.
    let score = |l: f64, sigma: f64, s: f64| {
        let f = |i: i32| {
            0.5 * libm::erfc((s + f64::from(i) / 2048.0 / l) / sigma * std::f64::consts::FRAC_1_SQRT_2)
        };
        (0.5 * (f(0) + f(2048)) + (1..2048).map(f).sum::<f64>()) / 2048.0
    };
    for (l, sigma, p1, p2) in [(1.0, 0.25, 0.9, 0.05), (3.0, 0.5, 0.6, 0.3), (0.2, 1.0, 0.55, 0.45)] {
        let root = |p: f64| {
            let (mut low, mut high) = (-50.0, 50.0);
            for _ in 0..80 {
                let middle = 0.5 * (low + high);
                if score(l, sigma, middle) > p { low = middle } else { high = middle }
            }
            low
        };
        let exact = 0.5 * (root(p2) - root(p1));
        let (a, b) = bounds(p1, p2);
        let radius = number(aware(scale(sigma), a, b, lipschitz(l), 0.0));
        assert!(radius <= exact + 1e-6 && radius > exact - 1e-6, "{radius} {exact}");
    }
}

/// The mean of the ramp itself is 1/2 at the radius, and 1-Lipschitz scores of a pair have no larger one.
#[test]
fn the_radius_of_a_pair_is_tight() {
    let mean = |l: f64, sigma: f64, middle: f64| {
        let f = |i: i32| {
            let at = middle + (f64::from(i) / 4096.0 - 0.5) / l;
            0.5 * libm::erfc(at / sigma * std::f64::consts::FRAC_1_SQRT_2)
        };
        (0.5 * (f(0) + f(4096)) + (1..4096).map(f).sum::<f64>()) / 4096.0
    };
    for (vector, sigma, distance) in [(1.0, 0.25, 0.4), (2.0, 0.5, 0.8), (0.3, 1.0, 0.1), (50.0, 0.1, 0.2)] {
        let pair = vector * std::f64::consts::FRAC_1_SQRT_2;
        let h = mean(pair, sigma, -distance);
        let radius = number(pairwise(scale(sigma), LowerBound::new(h), lipschitz(vector)));
        assert!(radius <= distance + 1e-6 && radius >= distance - 1e-6, "{radius} for {distance}");
        assert_eq!(pairwise(scale(sigma), LowerBound::new(0.5), lipschitz(vector)), None);
    }
    assert_eq!(pairwise(scale(0.25), LowerBound::TRIVIAL, lipschitz(1.0)), None);
}

#[test]
fn it_becomes_cohens_radius_as_the_constant_grows() {
    let (p1, p2) = bounds(0.99, 1.0);
    let cohen = number(one_sided(scale(0.25), p1));
    for (l, gap) in [(1e2, 1e-4), (1e4, 1e-7), (1e8, 1e-8), (1e90, 1e-8)] {
        let radius = number(aware(scale(0.25), p1, p2, lipschitz(l), 0.0));
        assert!(radius >= cohen && radius < cohen + gap, "{l}: {radius} {cohen}");
    }
}

#[test]
fn an_evaluation_error_costs_radius() {
    let (p1, p2) = bounds(0.9, 0.05);
    let radius = |error| number(aware(scale(0.5), p1, p2, lipschitz(1.0), error));
    assert!(radius(1e-3) < radius(0.0));
    // But no more than the constant gains.
    let without = number(two_sided(scale(0.5), p1, p2));
    assert!(without > 0.0 && radius(1.0) == without && radius(f64::NAN) == without);
}

#[test]
fn closed_forms() {
    let p = LowerBound::new(0.9);
    assert!((number(uniform_l1(scale(0.5), p)) - 0.4).abs() < 1e-12);
    assert!((number(laplace_l1(scale(0.5), p)) + 0.5 * 0.2_f64.ln()).abs() < 1e-12);
    let l2 = one_sided(scale(0.5), p).expect("a radius");
    assert!((number(linf_from_l2(l2, 3072)) - l2.get() / 3072.0_f64.sqrt()).abs() < 1e-12);
    let ellipsoid = anisotropic(&[scale(0.5), scale(0.25)], p).expect("an ellipsoid");
    assert!((ellipsoid.mahalanobis.get() - 1.281_551_565_544_6).abs() < 1e-12);
    assert!((ellipsoid.l2.get() - 0.25 * 1.281_551_565_544_6).abs() < 1e-12);
    assert_eq!(anisotropic(&[], p), None);
    // With no knowledge of the network: 1 / (sqrt(pi) sigma).
    assert!((smoothed_vector_lipschitz(None, scale(0.5)) - 2.0 / std::f64::consts::PI.sqrt()).abs() < 1e-12);
    let margin_radius = number(margin(scale(0.5), LowerBound::new(0.8), UpperBound::new(0.1), None));
    assert!((margin_radius - 0.7 * std::f64::consts::PI.sqrt() / 2.0 / 2.0_f64.sqrt()).abs() < 1e-12);
    // Small constants are hardly smoothed at all.
    assert!((smoothed_score_lipschitz(lipschitz(0.01), scale(0.1)) - 0.01).abs() < 1e-12);
}

#[test]
fn no_radius_without_a_majority_or_from_certainty() {
    let sigma = scale(1.0);
    for p in [0.0, 0.3, 0.5, 1.0, f64::NAN] {
        let p1 = LowerBound::new(p);
        assert_eq!(one_sided(sigma, p1), None, "{p}");
        assert_eq!(two_sided(sigma, p1, UpperBound::TRIVIAL), None, "{p}");
        assert_eq!(aware(sigma, p1, UpperBound::TRIVIAL, lipschitz(1.0), 0.0), None, "{p}");
        assert!(p == 1.0 || uniform_l1(sigma, p1).is_none());
        assert_eq!(laplace_l1(sigma, p1), None, "{p}");
        assert_eq!(anisotropic(&[sigma], p1), None, "{p}");
    }
    // A runner-up bound of exactly 0 has no quantile either.
    assert_eq!(two_sided(sigma, LowerBound::new(0.3), UpperBound::new(0.0)), None);
    assert_eq!(two_sided(sigma, LowerBound::new(0.3), UpperBound::new(0.3)), None);
}

proptest! {
    #[test]
    fn radii_are_ordered(sigma in 0.05f64..3.0, p1 in 0.0f64..0.99999, p2 in 1e-9f64..1.0, log_l in -4.0f64..8.0) {
        let (a, b) = bounds(p1, p2);
        let (sigma, l) = (scale(sigma), lipschitz(log_l.exp()));
        let one = number(one_sided(sigma, a));
        let two = number(two_sided(sigma, a, b));
        let tight = number(aware(sigma, a, b, l, 0.0));
        prop_assert!(one <= two && two <= tight);
        // The scores of softmax: the vector's constant is sqrt(2) times that of each.
        let vector = lipschitz(l.get() * std::f64::consts::SQRT_2);
        prop_assert!(number(margin(sigma, a, b, None)) <= two * (1.0 + 1e-9) + 1e-12);
        prop_assert!(number(margin(sigma, a, b, Some(vector))) <= tight * (1.0 + 1e-9) + 1e-9);
    }

    #[test]
    fn radii_grow_with_knowledge(p1 in 0.0f64..0.9999, p2 in 0.0f64..1.0, d in 0.0f64..0.1, log_l in -3.0f64..5.0) {
        let (sigma, l) = (scale(0.5), lipschitz(log_l.exp()));
        let (a, b) = bounds(p1, p2);
        let (worse1, worse2) = (a.charged(d), b.charged(d));
        let slack = 1e-9;
        prop_assert!(number(one_sided(sigma, worse1)) <= number(one_sided(sigma, a)) + slack);
        prop_assert!(number(two_sided(sigma, worse1, worse2)) <= number(two_sided(sigma, a, b)) + slack);
        prop_assert!(number(aware(sigma, worse1, worse2, l, 0.0)) <= number(aware(sigma, a, b, l, 0.0)) + slack);
        prop_assert!(number(margin(sigma, worse1, worse2, Some(l))) <= number(margin(sigma, a, b, Some(l))) + slack);
        let rougher = lipschitz(l.get() * 2.0);
        prop_assert!(number(aware(sigma, a, b, rougher, 0.0)) <= number(aware(sigma, a, b, l, 0.0)) + 1e-8);
    }

    #[test]
    fn a_ramp_is_never_certified_beyond_its_boundary(l in 0.1f64..20.0, sigma in 0.1f64..1.5, x in 0.01f64..1.5) {
        // Two classes with scores f = clip(1/2 + L z) and 1 - f at distance x from the boundary.
        let sigma = scale(sigma);
        let mean = ramp_mean(l, sigma.get(), x);
        // Nearer to 1 the mean is not known well enough here to tell distances apart.
        prop_assume!(mean < 1.0 - 1e-9);
        let (p1, p2) = bounds(mean, 1.0 - mean);
        let radius = number(aware(sigma, p1, p2, lipschitz(l), 0.0));
        prop_assert!(radius <= x + 2e-6, "{radius} {x}");
        // It is tight for this very score, up to rounding, unless the mean is too close to 1.
        prop_assert!(mean > 1.0 - 1e-6 || radius >= x - 2e-5, "{radius} {x} {mean}");
    }
}

/// `E clip(1/2 + L (x + sigma Z))`, in closed form.
fn ramp_mean(l: f64, sigma: f64, x: f64) -> f64 {
    let h = |t: f64| {
        let tail = 0.5 * libm::erfc(t * std::f64::consts::FRAC_1_SQRT_2);
        (-0.5 * t * t).exp() / std::f64::consts::TAU.sqrt() - t * tail
    };
    let (a, b) = ((-0.5 / l - x) / sigma, (0.5 / l - x) / sigma);
    l * sigma * (h(a) - h(b))
}

#[test]
fn a_weight_of_one_half_is_the_margin_of_two_classes() {
    for mean in [0.51, 0.7, 0.99, 0.999_99] {
        let sigma = scale(0.25);
        assert_eq!(pair(sigma, Weight::HALF, bounds(mean, 1.0).0), one_sided(sigma, bounds(mean, 1.0).0));
    }
    for bad in [0.0, 0.25, 0.499, 0.501, 1.0, f64::NAN, f64::INFINITY] {
        assert!(Weight::new(bad).is_err(), "{bad}");
    }
    let heads = (0..=255).filter(|&byte| Weight::new(0.75).expect("a weight").coin(byte)).count();
    assert_eq!(heads, 192);
}

proptest! {
    /// Against the definition: the least two-sided radius of all scores with this mean.
    #[test]
    fn the_radius_of_a_pair_is_the_least_of_its_mean(parts in 128u32..256, mean in 0.5f64..0.99999) {
        let (sigma, weight) = (scale(1.0), Weight::new(f64::from(parts) / 256.0).expect("a weight"));
        let w = weight.get();
        let found = number(pair(sigma, weight, bounds(mean, 1.0).0));
        let least = (1..20_000).filter_map(|i| {
            // F_j on a grid that is fine near 0, F_A from the mean.
            let other = (1.0 - mean) * (f64::from(i) / 20_000.0).powi(3);
            let top = (mean - w * (1.0 - other)) / (1.0 - w);
            (top > 0.0 && top < 1.0).then(|| 0.5 * (quantile_lower(top) - quantile_lower(other)))
        });
        let least = least.fold(quantile_lower(mean), f64::min).max(0.0);
        prop_assert!(found <= least + 1e-12 && found >= least - 2e-3 * (1.0 + least), "{found} {least}");
    }

    #[test]
    fn the_best_weight_gives_the_two_sided_radius(top in 0.4f64..0.99, share in 0.05f64..1.0) {
        let (sigma, other) = (scale(1.0), (1.0 - top) * share);
        prop_assume!(other < top);
        let exact = 0.5 * (quantile_lower(top) - quantile_lower(other));
        let at = |parts: u32| {
            let weight = Weight::new(f64::from(parts) / 256.0).expect("a weight");
            number(pair(sigma, weight, LowerBound::new(weight.score(top, other))))
        };
        let best = (128..256).map(at).fold(0.0, f64::max);
        prop_assert!(best <= exact + 1e-12 && best >= exact - 1e-3 * (1.0 + exact), "{best} {exact}");
    }
}
