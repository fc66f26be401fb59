//! Confidence bounds and radii from counts and scores that somebody has already.

use numpy::{PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use tightrope::smoothing::confidence::{
    Bernstein, Binomial, ClopperPearson, ConfidenceBound, HedgedBetting, Hoeffding, KrichevskyTrofimov,
};
use tightrope::smoothing::noise::Noise;
use tightrope::smoothing::quantity::{Alpha, LowerBound, Radius, Scale, UpperBound};
use tightrope::smoothing::radius as rules;
use tightrope::smoothing::statistics::Moments;

use crate::error::Kind;
use crate::network::column;

fn level(alpha: f64) -> PyResult<Alpha> {
    Alpha::new(alpha).map_err(|e| Kind::Input.error(format!("alpha: {e}")))
}

fn one_side<B: ConfidenceBound>(bound: &B, sample: &B::Sample, alpha: Alpha, upper: bool) -> f64 {
    if upper { bound.upper(sample, alpha).get() } else { bound.lower(sample, alpha).get() }
}

/// Bounds on success probabilities from counts.
#[pyfunction]
pub(crate) fn bound_counts<'py>(
    py: Python<'py>,
    name: &str,
    successes: PyReadonlyArray1<i64>,
    trials: PyReadonlyArray1<i64>,
    alpha: f64,
    upper: bool,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let alpha = level(alpha)?;
    let bound = |(&k, &n): (&i64, &i64)| {
        let counts = u32::try_from(k).ok().zip(u32::try_from(n).ok()).and_then(|(k, n)| Binomial::new(k, n));
        let counts = counts.ok_or_else(|| {
            Kind::Input
                .error(format!("found {k} successes of {n}; accepted: from 0 to n of at most 2^32 - 1"))
        })?;
        match name {
            "clopper_pearson" => Ok(one_side(&ClopperPearson, &counts, alpha, upper)),
            _ => Ok(one_side(&KrichevskyTrofimov, &counts, alpha, upper)),
        }
    };
    let (successes, trials) = (successes.as_array(), trials.as_array());
    let bounds: PyResult<Vec<f64>> = successes.iter().zip(&trials).map(bound).collect();
    Ok(column(py, bounds?))
}

/// Bounds on mean scores in [0, 1], one row of samples each.
#[pyfunction]
pub(crate) fn bound_scores<'py>(
    py: Python<'py>,
    name: &str,
    scores: PyReadonlyArray2<f64>,
    alpha: f64,
    upper: bool,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let alpha = level(alpha)?;
    let scores = scores.as_array();
    if let Some(score) = scores.iter().find(|score| !(0.0..=1.0).contains(*score)) {
        return Err(Kind::Input.error(format!("found the score {score}; accepted: numbers from 0 to 1")));
    }
    if scores.ncols() == 0 || u32::try_from(scores.ncols()).is_err() {
        return Err(Kind::Input.error("found no scores, or 2^32; accepted: at least one for each mean"));
    }
    let bounds: Vec<f64> = py.detach(|| {
        let moments = |row: &[f64]| {
            let mut moments = Moments::default();
            for &score in row {
                moments.push(score);
            }
            moments
        };
        let rows = scores.rows().into_iter().map(|row| row.to_vec());
        rows.map(|row| match name {
            "hoeffding" => one_side(&Hoeffding, &moments(&row), alpha, upper),
            "bernstein" => one_side(&Bernstein, &moments(&row), alpha, upper),
            _ => one_side(&HedgedBetting, row.as_slice(), alpha, upper),
        })
        .collect()
    });
    Ok(column(py, bounds))
}

/// Certified radii from bounds on scores; 0 where nothing is certified.
#[pyfunction]
pub(crate) fn radius<'py>(
    py: Python<'py>,
    p_lower: PyReadonlyArray1<f64>,
    p_upper: Option<PyReadonlyArray1<f64>>,
    sigma: f64,
    noise: &str,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let scale = Scale::new(sigma).map_err(|e| Kind::Input.error(format!("sigma: {e}")))?;
    let noise = Noise::new(noise, scale).map_err(|e| Kind::Input.error(format!("noise: {e}")))?;
    if noise.charge(1) > 0.0 {
        let text = format!("noise: found `{}`, whose charge depends on the input", noise.name());
        return Err(Kind::Input.error(format!("{text}; accepted: gaussian, uniform, laplace")));
    }
    let p_lower = p_lower.as_array();
    let uppers: Option<Vec<f64>> = p_upper.map(|p| p.as_array().to_vec());
    let all = p_lower.iter().copied().chain(uppers.iter().flatten().copied());
    for p in all {
        if !(0.0..=1.0).contains(&p) {
            return Err(
                Kind::Input.error(format!("found the bound {p}; accepted: probabilities from 0 to 1"))
            );
        }
    }
    let one = |i: usize| {
        let p1 = LowerBound::new(p_lower[i]);
        match (&uppers, noise.gaussian()) {
            (None, _) => Ok(noise.radius(p1)),
            (Some(uppers), Some(sigma)) => Ok(rules::two_sided(sigma, p1, UpperBound::new(uppers[i]))),
            (Some(_), None) => {
                let text = format!("noise: found `{}` with p_upper", noise.name());
                Err(Kind::Input.error(format!("{text}; accepted: gaussian, or no p_upper")))
            }
        }
    };
    let radii: PyResult<Vec<f64>> =
        (0..p_lower.len()).map(|i| Ok(one(i)?.map_or(0.0, Radius::get))).collect();
    Ok(column(py, radii?))
}
