//! What a certificate claims: a set of inputs, and properties of outputs none of which holds there.

use std::sync::Arc;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive, Zero};

use crate::bounds::{Ball, Inputs};

/// `y . outputs + x . inputs <= bound`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Atom {
    pub(crate) y: Vec<(usize, f64)>,
    pub(crate) x: Vec<(usize, f64)>,
    /// Rounded up.
    pub(crate) bound: f64,
}

/// A set of inputs with conjunctions of atoms, none of which may hold there.
pub(crate) struct Region {
    pub(crate) inputs: Inputs,
    pub(crate) disjuncts: Vec<Vec<Atom>>,
}

/// A decimal such as `-1.5e-3`, exactly.
pub(crate) fn decimal(text: &str) -> Option<BigRational> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let figures = format!("{whole}{fraction}");
    if figures.is_empty()
        || figures.len() > 1100
        || exponent.abs() > 1100
        || !figures.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let value = BigRational::from_integer(figures.parse::<BigInt>().ok()?);
    let value = value * BigRational::from_integer(10.into()).pow(exponent - fraction.len() as i32);
    Some(if negative { -value } else { value })
}

/// A decimal or a quotient of two.
pub(crate) fn quotient(text: &str) -> Option<BigRational> {
    let Some((over, under)) = text.split_once('/') else { return decimal(text) };
    let (over, under) = (decimal(over)?, decimal(under)?);
    (!under.is_zero()).then(|| over / under)
}

/// The exact value of a number.
pub(crate) fn exact(x: f64) -> Option<BigRational> {
    BigRational::from_float(x)
}

/// The least f64 that is not below a number.
pub(crate) fn up(x: &BigRational) -> f64 {
    let mut y = x.to_f64().unwrap_or(f64::NAN);
    if y.is_nan() || y == f64::NEG_INFINITY {
        y = if x.is_negative() { f64::MIN } else { f64::INFINITY };
    }
    while exact(y).is_some_and(|y| y < *x) {
        y = y.next_up();
    }
    while exact(y.next_down()).is_some_and(|lower| lower >= *x) {
        y = y.next_down();
    }
    y
}

pub(crate) fn down(x: &BigRational) -> f64 {
    -up(&-x)
}

/// The perturbations of an input: of radius `eps`, cut to the range of the data.
pub(crate) fn perturbed(
    x: &[f32],
    eps: &BigRational,
    norm: &str,
    clip: Option<(f64, f64)>,
) -> Option<Inputs> {
    let (least, most) = clip.unwrap_or((f64::MIN, f64::MAX));
    let end = |x: f32, sign: bool| {
        let at = exact(x.into())?;
        Some(if sign { up(&(at + eps)).min(most) } else { down(&(at - eps)).max(least) })
    };
    let lower = x.iter().map(|&x| end(x, false)).collect::<Option<Vec<_>>>()?;
    let upper = x.iter().map(|&x| end(x, true)).collect::<Option<Vec<_>>>()?;
    let centre = x.iter().map(|&x| f64::from(x)).collect();
    let ball = || Arc::new(Ball { centre, eps: up(eps), euclidean: norm == "l2" });
    Some(Inputs { lower, upper, ball: (norm != "linf").then(ball) })
}

/// Whether `z` is one of these perturbations, exactly.
pub(crate) fn is_perturbed(
    x: &[f32],
    z: &[f32],
    eps: &BigRational,
    norm: &str,
    clip: Option<(f64, f64)>,
) -> bool {
    let exact = |x: f32| exact(x.into()).unwrap_or_default();
    let distances = || x.iter().zip(z).map(|(&x, &z)| (exact(z) - exact(x)).abs());
    let near = match norm {
        "linf" => distances().all(|d| d <= *eps),
        "l1" => distances().fold(BigRational::zero(), |sum, d| sum + d) <= *eps,
        _ => distances().fold(BigRational::zero(), |sum, d| sum + &d * &d) <= eps * eps,
    };
    near && z.iter().all(|&z| clip.is_none_or(|(low, high)| (low..=high).contains(&z.into())))
}

/// `y_label <= y_j` for every other class.
pub(crate) fn misclassified(label: usize, classes: usize) -> Vec<Vec<Atom>> {
    let others = (0..classes).filter(|&j| j != label);
    others.map(|j| vec![Atom { y: vec![(label, 1.0), (j, -1.0)], x: Vec::new(), bound: 0.0 }]).collect()
}
