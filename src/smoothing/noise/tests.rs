//! Noise: moments, distribution and independence from how it is asked for, at fixed seeds.

use super::*;
use crate::smoothing::stream::InputStreams;

fn scale(x: f64) -> Scale {
    Scale::new(x).expect("a scale")
}

/// `count` draws around 0, sorted.
fn draws(noise: &impl Noise, count: usize) -> Vec<f64> {
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

#[test]
fn gaussian_draws_are_gaussian() {
    let sigma = scale(0.5);
    let z: Vec<f64> = draws(&Gaussian { sigma }, 2_000_000).iter().map(|z| z / 0.5).collect();
    let n = z.len() as f64;
    let moment = |k: i32| z.iter().map(|z| z.powi(k)).sum::<f64>() / n;
    // Five standard errors each: the variance of Z^k is E Z^2k - (E Z^k)^2.
    for (k, mean, variance) in
        [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0), (6, 15.0, 10170.0)]
    {
        let error: f64 = moment(k) - mean;
        assert!(error.abs() < 5.0 * f64::sqrt(variance / n), "moment {k}: {error}");
    }
    let ks = kolmogorov_smirnov(&z, phi);
    assert!(ks < KS_LIMIT, "{ks}");
    // The tails: counts beyond 4 sigma are Poisson with mean 126.7.
    let beyond = z.iter().filter(|z| z.abs() > 4.0).count();
    assert!((80..180).contains(&beyond), "{beyond}");
}

#[test]
fn neighbours_in_every_direction_are_uncorrelated() {
    let noise = Gaussian { sigma: scale(1.0) };
    let (x, samples) = (vec![0.0f32; 256], 4000u32);
    let mut rows = Vec::new();
    for sample in 0..=samples {
        let mut out = vec![0.0f32; 256];
        noise.add(&InputStreams::new(3, 3).sample(sample), &x, &mut out);
        rows.push(out);
    }
    let n = f64::from(samples) * 192.0;
    for (rows_on, entries_on) in [(0, 1), (0, 16), (0, 32), (0, 64), (1, 0)] {
        let mut sum = 0.0;
        for i in 0..samples as usize {
            for j in 0..192 {
                sum += f64::from(rows[i][j]) * f64::from(rows[i + rows_on][j + entries_on]);
            }
        }
        assert!((sum / n.sqrt()).abs() < 5.0, "{rows_on} {entries_on}: {}", sum / n.sqrt());
    }
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
    let gaussian = Gaussian { sigma: scale(0.5) };
    let anisotropic = AnisotropicGaussian::new(vec![scale(0.5); 130]).expect("scales");
    let noises: [&dyn Noise; 3] =
        [&gaussian, &Uniform { lambda: scale(1.0) }, &Laplace { lambda: scale(1.0) }];
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
    Gaussian { sigma: scale(1.0) }.add(&InputStreams::new(1, 2).sample(3), &[0.0; 3], &mut out);
    assert_eq!(out.map(f32::to_bits), PINNED, "{out:?}");
}

const PINNED: [u32; 3] = [1_053_480_243, 1_043_173_466, 3_215_950_582];
