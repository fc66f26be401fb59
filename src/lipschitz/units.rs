//! The hidden units of a residual layer, and the constant that follows from
//! weights on them; see [`super::residual`].

use super::{banded, conv, matrix};
use crate::ops::{Conv, Weights};
use crate::rounding::directed::{add_up, div_down, div_up, mul_down, mul_up, sqrt_up, sub_up};

/// What rows of coefficients of the units stand for.
pub(super) enum Form {
    /// A matrix, with columns for what the layer reads or writes.
    Matrix,
    /// Kernels of a convolution to the units, which are channels.
    Convolution(Box<Conv>),
}

/// A layer `A x + V phi(U x + b)` with slopes of `phi` in `[0, 1]`.
pub(super) struct Units {
    pub(super) form: Form,
    /// How many units or channels of units.
    pub(super) count: usize,
    /// At least `|A|^2`.
    pub(super) through: f64,
    /// `U`, a row for every unit.
    pub(super) u: Vec<f64>,
    /// `V'`, a row for every unit.
    pub(super) v: Vec<f64>,
    /// `V' A`, a row for every unit.
    pub(super) w: Vec<f64>,
    /// Bounds on the norms of the errors of the three.
    pub(super) errors: [f64; 3],
}

/// Weights relative to balanced ones that are tried.
const FACTORS: [f64; 5] = [1.0, 1.4, 2.0, 3.0, 5.0];
/// Relative excess of a constant over `|A|` that is not worth improving, and
/// size of `E` beside `|A|` that is not worth a better norm.
const ENOUGH: f64 = 1e-6;
/// Size of `E` up to which a layer is taken to be meant as one with `E = 0`.
const NEAR: f64 = 1e-3;

impl Units {
    /// The least constant that the weights tried give.
    pub(super) fn constant(&self) -> f64 {
        let [u, v, w] = [&self.u, &self.v, &self.w].map(|m| m.chunks(m.len() / self.count));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        // The weight that makes a row of E least, and that of equally long rows.
        let (mut exact, mut balanced) = (Vec::new(), Vec::new());
        for ((u, v), w) in u.zip(v).zip(w) {
            exact.push(-dot(u, w) / dot(u, u));
            balanced.push((dot(v, v) / dot(u, u)).sqrt());
        }
        let usable = |t: f64| t.is_normal() && t > 0.0;
        let typical: Vec<f64> = balanced.iter().copied().filter(|&t| usable(t)).collect();
        let typical =
            if typical.is_empty() { 1.0 } else { typical.iter().sum::<f64>() / typical.len() as f64 };
        for t in &mut balanced {
            // A unit that reads or writes nothing.
            *t = if usable(*t) { t.clamp(1e-6 * typical, 1e6 * typical) } else { typical };
        }
        let exact: Vec<f64> = exact
            .iter()
            .zip(&balanced)
            .map(|(&t, &b)| if usable(t) && t > 0.1 * b { t.min(10.0 * b) } else { b })
            .collect();
        let enough = mul_up(sqrt_up(self.through), 1.0 + ENOUGH);
        let mut least = self.constant_for(&exact);
        for factor in FACTORS {
            if least > enough {
                let weights: Vec<f64> = balanced.iter().map(|t| factor * t).collect();
                least = least.min(self.constant_for(&weights));
            }
        }
        least
    }

    /// The constant for the weights `T = D^2`, with `D` about the roots of these.
    fn constant_for(&self, weights: &[f64]) -> f64 {
        let d: Vec<f64> = weights.iter().map(|t| t.sqrt()).collect();
        let (least, greatest) = d.iter().fold((f64::INFINITY, 0.0_f64), |(l, g), &d| (l.min(d), g.max(d)));
        let row = |m: &[f64]| m.len() / self.count;
        let times = |m: &[f64]| m.iter().enumerate().map(|(i, x)| x * d[i / row(m)]).collect::<Vec<f64>>();
        let over = |m: &[f64]| m.iter().enumerate().map(|(i, x)| x / d[i / row(m)]).collect::<Vec<f64>>();
        let (u, v, w) = (times(&self.u), over(&self.v), over(&self.w));
        let e: Vec<f64> = w.iter().zip(&u).map(|(w, u)| w + u).collect();
        // The errors before, and one rounding of every entry.
        let rounding = |m: &[f64]| mul_up(2.0 * f64::EPSILON, self.coarse(m));
        let u_error = add_up(mul_up(greatest, self.errors[0]), rounding(&u));
        let v_error = add_up(div_up(self.errors[1], least), rounding(&v));
        let w_error = add_up(div_up(self.errors[2], least), rounding(&w));
        let e_error = add_up(add_up(u_error, w_error), rounding(&e));
        let root_of_two = std::f64::consts::SQRT_2 * (1.0 + ENOUGH);
        let reach = add_up(self.norm(&u), u_error);
        let through = self.through;
        let coarse = self.coarse(&e);
        let e = if coarse <= ENOUGH * through.min(1.0) { coarse } else { coarse.min(self.norm(&e)) };
        let e = add_up(e, e_error);
        let mut v_norm = self.norm(&v);
        if let Form::Convolution(op) = &self.form
            && (e <= NEAR && v_norm > root_of_two && v_norm < 1.1 * root_of_two)
        {
            // What the border takes off decides.
            let op = Conv { weight: Weights::new(v), ..(**op).clone() };
            v_norm = banded::norm(&op, v_norm).unwrap_or(v_norm);
        }
        let v = add_up(v_norm, v_error);
        let square = add_up(through, rise(e, sub_up(mul_up(v, v), 2.0), reach));
        if square == 1.0 {
            1.0
        } else if square.is_nan() {
            f64::INFINITY
        } else {
            sqrt_up(square)
        }
    }

    /// An upper bound on the norm of rows of the units.
    fn norm(&self, rows: &[f64]) -> f64 {
        match &self.form {
            Form::Matrix => matrix::norm(rows, self.count, rows.len() / self.count, 0.0),
            Form::Convolution(op) => {
                conv::norm(&Conv { weight: Weights::new(rows.to_vec()), ..(**op).clone() })
            }
        }
    }

    /// A bound that costs little.
    fn coarse(&self, rows: &[f64]) -> f64 {
        match &self.form {
            Form::Matrix => matrix::frobenius(rows),
            Form::Convolution(op) => conv::coarse(op, rows),
        }
    }
}

/// At least the greatest value of `2 e r + k r^2` for `0 <= r <= reach`.
fn rise(e: f64, k: f64, reach: f64) -> f64 {
    if ![e, k, reach].iter().all(|x| x.is_finite()) {
        return f64::INFINITY;
    }
    let linear = mul_up(2.0, mul_up(e, reach));
    if k >= 0.0 {
        return add_up(linear, mul_up(k, mul_up(reach, reach)));
    }
    if reach <= div_down(e, -k) {
        // It rises up to there.
        return add_up(linear, mul_up(k, mul_down(reach, reach)));
    }
    linear.min(div_up(mul_up(e, e), -k))
}
