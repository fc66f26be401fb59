//! Noise: moments, distribution and independence from how it is asked for, at fixed seeds.

use super::*;
use crate::random::InputStreams;

fn scale(x: f64) -> Scale {
    Scale::new(x).expect("a scale")
}

/// `count` draws around 0, sorted.
fn draws(noise: &impl Distribution, count: usize) -> Vec<f64> {
    let (x, mut out) = (vec![0.0f32; 1000], vec![0.0f32; 1000]);
    let streams = InputStreams::new(20, 7);
    let mut all = Vec::with_capacity(count);
    for sample in 0..(count / 1000) as u32 {
        noise.add(&streams.sample(sample), &x, &mut out);
        all.extend(out.iter().map(|&z| f64::from(z)));
    }
    all.sort_by(f64::total_cmp);
    all
}

/// `sqrt(n)` times the Kolmogorov-Smirnov distance.
fn kolmogorov_smirnov(sorted: &[f64], cdf: impl Fn(f64) -> f64) -> f64 {
    let n = sorted.len() as f64;
    let distance = |(i, &z): (usize, &f64)| {
        let p = cdf(z);
        (p - i as f64 / n).abs().max((p - (i + 1) as f64 / n).abs())
    };
    sorted.iter().enumerate().map(distance).fold(0.0, f64::max) * n.sqrt()
}

fn phi(z: f64) -> f64 {
    0.5 * libm::erfc(-z * std::f64::consts::FRAC_1_SQRT_2)
}

/// Below this lie 99.99 % of the values for the true distribution.
const KS_LIMIT: f64 = 2.23;

fn gaussian_draws_are_gaussian(count: usize) {
    let z = draws(&Gaussian { sigma: scale(1.0), narrow: false }, count);
    let n = z.len() as f64;
    let moment = |k: i32| z.iter().map(|z| z.powi(k)).sum::<f64>() / n;
    // Five standard errors each: the variance of Z^k is E Z^2k - (E Z^k)^2.
    let moments =
        [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0), (5, 0.0, 945.0), (6, 15.0, 10170.0)];
    for (k, mean, variance) in moments {
        let error: f64 = moment(k) - mean;
        assert!(error.abs() < 5.0 * f64::sqrt(variance / n), "moment {k}: {error}");
    }
    let ks = kolmogorov_smirnov(&z, phi);
    assert!(ks < KS_LIMIT, "{ks}");
    // Counts in either tail are Poisson; one more standard error where they are few.
    for limit in [3.0, 4.0, 5.0, 6.0] {
        let expected = n * phi(-limit);
        let slack = 5.0 * expected.sqrt() + 2.0;
        for found in [z.partition_point(|&z| z < -limit), z.len() - z.partition_point(|&z| z <= limit)] {
            assert!((found as f64 - expected).abs() < slack, "{found} beyond {limit}, expected {expected}");
        }
    }
}

#[test]
fn ten_million_gaussian_draws() {
    gaussian_draws_are_gaussian(10_000_000);
}

#[test]
#[ignore = "1 GB; run by cargo test --release -- --ignored"]
fn a_hundred_million_gaussian_draws() {
    gaussian_draws_are_gaussian(100_000_000);
}

/// The standard errors by which the mean product of `a` and `b` is from 0, and that of their squares'
/// distances from the mean.
fn correlations(a: &[f32], b: &[f32]) -> [f64; 2] {
    let products = a
        .iter()
        .zip(b)
        .map(|(&a, &b)| [f64::from(a) * f64::from(b), f64::from(a * a - 1.0) * f64::from(b * b - 1.0) / 2.0]);
    let sums = products.fold([0.0, 0.0], |sum, each| [sum[0] + each[0], sum[1] + each[1]]);
    sums.map(|sum| sum / (a.len() as f64).sqrt())
}

#[test]
fn neighbours_in_every_direction_are_independent() {
    let noise = Noise::gaussian(scale(1.0));
    // All samples of one input in one row.
    let rows = |seed, input| {
        let mut out = vec![0.0f32; 256 * 4000];
        for (sample, out) in (0..).zip(out.chunks_exact_mut(256)) {
            noise.add(&InputStreams::new(seed, input).sample(sample), &[0.0; 256], out);
        }
        out
    };
    let base = rows(3, 3);
    let near = |z: [f64; 2], what: &str| assert!(z.iter().all(|z| z.abs() < 5.0), "{what}: {z:?}");
    for distance in [1, 16, 32, 48, 64, 128, 256, 512] {
        near(correlations(&base[distance..], &base), &format!("{distance} entries on"));
    }
    near(correlations(&base, &rows(3, 4)), "the next input");
    near(correlations(&base, &rows(3, 3 + (1 << 32))), "an input far off");
    near(correlations(&base, &rows(4, 3)), "the next seed");
    near(correlations(&base, &rows(3 ^ 1 << 63, 3)), "a seed of another highest bit");
}

#[test]
fn uniform_and_laplace_draws_follow_their_distributions() {
    let uniform = draws(&Uniform { lambda: scale(2.0) }, 500_000);
    assert!(uniform[0] >= -2.0 && uniform[uniform.len() - 1] <= 2.0);
    assert!(kolmogorov_smirnov(&uniform, |z| 0.25 * z + 0.5) < KS_LIMIT);
    let laplace = draws(&Laplace { lambda: scale(0.5) }, 500_000);
    let cdf = |z: f64| if z < 0.0 { 0.5 * (2.0 * z).exp() } else { 1.0 - 0.5 * (-2.0 * z).exp() };
    assert!(kolmogorov_smirnov(&laplace, cdf) < KS_LIMIT);
}

#[test]
fn an_entrys_noise_depends_on_its_index_alone() {
    let (long, short) = (vec![0.25f32; 1003], vec![0.25f32; 130]);
    let stream = InputStreams::new(9, 1).sample(4);
    let gaussian = Noise::gaussian(scale(0.5));
    let anisotropic = AnisotropicGaussian::new(vec![scale(0.5); 130]).expect("scales");
    let noises: [&dyn Distribution; 3] =
        [&*gaussian, &Uniform { lambda: scale(1.0) }, &Laplace { lambda: scale(1.0) }];
    for noise in noises {
        let (mut a, mut b) = (vec![0.0; 1003], vec![0.0; 130]);
        noise.add(&stream, &long, &mut a);
        noise.add(&stream, &short, &mut b);
        assert_eq!(a[..130], b);
        assert!(a.iter().all(|z| z.is_finite()));
    }
    let (mut a, mut b) = (vec![0.0; 130], vec![0.0; 130]);
    gaussian.add(&stream, &short, &mut a);
    anisotropic.add(&stream, &short, &mut b);
    assert_eq!(a, b);
}

#[test]
fn pinned_values_keep_recorded_runs_reproducible() {
    let mut out = [0.0f32; 3];
    Noise::gaussian(scale(1.0)).add(&InputStreams::new(1, 2).sample(3), &[0.0; 3], &mut out);
    assert_eq!(out.map(f32::to_bits), PINNED, "{out:?}");
}

const PINNED: [u32; 3] = [1_053_480_243, 1_043_173_466, 3_215_950_582];

#[test]
fn names_and_records_lead_to_the_same_noise() {
    for name in Noise::names() {
        let noise = Noise::new(name, scale(0.25)).expect("a scale that fits");
        let text = serde_json::to_string(&noise).expect("json");
        assert_eq!(text, format!("{{\"{name}\":0.25}}"));
        let read: Noise = serde_json::from_str(&text).expect("a noise");
        assert_eq!((read.name(), read.scale(), read.norm()), (name, scale(0.25), noise.norm()));
        // Whatever is called Gaussian certifies the Gaussian radius, and no other does.
        let (p1, sigma) = (LowerBound::new(0.9), scale(0.25));
        let cohen = crate::smoothing::radius::one_sided(sigma, p1);
        assert_eq!(noise.radius(p1) == cohen, noise.gaussian() == Some(sigma), "{name}");
    }
    let refused = Noise::new("cauchy", scale(1.0)).expect_err("no such noise").to_string();
    assert!(refused.contains("cauchy") && Noise::names().all(|name| refused.contains(name)), "{refused}");
    assert!(Noise::new("lattice", scale(100.0)).is_err());
    for record in ["{}", r#"{"gaussian":0.1,"laplace":0.1}"#, r#"{"gaussian":-1}"#, r#"{"cauchy":1}"#] {
        assert!(serde_json::from_str::<Noise>(record).is_err(), "{record}");
    }
}
