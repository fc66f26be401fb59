//! Formulas over the declared variables, with exact coefficients.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

use super::number::{exact, near};

/// Most terms of a polynomial.
const MOST_TERMS: usize = 1 << 20;
/// Most factors of a term.
const MOST_FACTORS: usize = 16;
/// Most bits of a coefficient's numerator or denominator.
const MOST_BITS: u64 = 16_384;

/// The variables of a term, in order, each as often as its power says.
pub(super) type Monomial = Vec<usize>;

/// A sum of terms; the empty monomial is the constant. No coefficient is 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Polynomial(pub(super) BTreeMap<Monomial, BigRational>);

/// Why a polynomial is not formed.
pub(super) type TooLarge = &'static str;

impl Polynomial {
    pub(super) fn constant(value: BigRational) -> Self {
        let mut result = Self::default();
        result.include(Vec::new(), &value);
        result
    }

    pub(super) fn variable(index: usize) -> Self {
        Self(BTreeMap::from([(vec![index], BigRational::one())]))
    }

    fn include(&mut self, monomial: Monomial, value: &BigRational) {
        use std::collections::btree_map::Entry;
        if value.is_zero() {
            return;
        }
        match self.0.entry(monomial) {
            Entry::Vacant(place) => {
                place.insert(value.clone());
            }
            Entry::Occupied(mut place) => {
                *place.get_mut() += value;
                if place.get().is_zero() {
                    place.remove();
                }
            }
        }
    }

    fn checked(self) -> Result<Self, TooLarge> {
        let large = |c: &BigRational| c.numer().bits().max(c.denom().bits()) > MOST_BITS;
        if self.0.len() > MOST_TERMS {
            Err("a polynomial of more than 1048576 terms")
        } else if self.0.values().any(large) {
            Err("a coefficient of more than 16384 bits")
        } else {
            Ok(self)
        }
    }

    pub(super) fn negated(mut self) -> Self {
        self.0.values_mut().for_each(|c| *c = -std::mem::take(c));
        self
    }

    pub(super) fn plus(mut self, mut other: Self) -> Result<Self, TooLarge> {
        if self.0.len() < other.0.len() {
            std::mem::swap(&mut self, &mut other);
        }
        for (monomial, value) in other.0 {
            self.include(monomial, &value);
        }
        // What was there has been checked: a sum of two is larger by a bit or a denominator.
        if self.0.len() > 4096 { Ok(self) } else { self.checked() }
    }

    pub(super) fn times(&self, other: &Self) -> Result<Self, TooLarge> {
        if self.0.len().saturating_mul(other.0.len()) > MOST_TERMS {
            return Err("a product of more than 1048576 terms");
        }
        let mut result = Self::default();
        for (a, x) in &self.0 {
            for (b, y) in &other.0 {
                let mut monomial = [a.as_slice(), b].concat();
                if monomial.len() > MOST_FACTORS {
                    return Err("a product of more than 16 variables");
                }
                monomial.sort_unstable();
                result.include(monomial, &(x * y));
            }
        }
        result.checked()
    }

    /// The value at a point; `None` where a variable that is read is not finite.
    fn at(&self, value: &impl Fn(usize) -> f32) -> Option<BigRational> {
        let mut sum = BigRational::zero();
        for (monomial, c) in &self.0 {
            let mut term = c.clone();
            for &v in monomial {
                term *= exact(f64::from(value(v)))?;
            }
            sum += term;
        }
        Some(sum)
    }
}

/// How a polynomial compares with 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    AtMost,
    Less,
    Equal,
    NotEqual,
}

/// `polynomial relation 0`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Comparison {
    pub(super) polynomial: Polynomial,
    pub(super) relation: Relation,
    /// The terms in `f64`, which decide where the sum is not close to 0.
    quick: Vec<(Monomial, f64)>,
}

impl Comparison {
    pub(super) fn new(polynomial: Polynomial, relation: Relation) -> Self {
        let quick = polynomial.0.iter().map(|(m, c)| (m.clone(), near(c))).collect();
        Self { polynomial, relation, quick }
    }

    fn holds(&self, value: &impl Fn(usize) -> f32) -> bool {
        let (mut sum, mut size) = (0.0f64, 0.0f64);
        for (monomial, c) in &self.quick {
            let term = monomial.iter().fold(*c, |term, &v| term * f64::from(value(v)));
            sum += term;
            size += term.abs();
        }
        if self.quick.iter().any(|(m, _)| m.iter().any(|&v| !value(v).is_finite())) {
            return false;
        }
        // Coefficients are within 4 units; a term has at most 16 roundings, the sum one for each.
        let error = (self.quick.len() + 32) as f64 * 2.0 * f64::EPSILON * size;
        // Below this a product may have lost digits to underflow.
        let safe = size.is_finite() && sum.abs() > 1e-200 * (1 + self.quick.len()) as f64;
        let sign = if safe && sum.abs() > error {
            sum.partial_cmp(&0.0)
        } else {
            self.polynomial.at(value).map(|sum| sum.cmp(&BigRational::zero()))
        };
        match self.relation {
            Relation::AtMost => sign.is_some_and(std::cmp::Ordering::is_le),
            Relation::Less => sign.is_some_and(std::cmp::Ordering::is_lt),
            Relation::Equal => sign.is_some_and(std::cmp::Ordering::is_eq),
            Relation::NotEqual => sign.is_some_and(std::cmp::Ordering::is_ne),
        }
    }
}

/// A formula without quantifiers or negation.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Formula {
    All(Vec<Formula>),
    Any(Vec<Formula>),
    Atom(Comparison),
}

impl Formula {
    /// `and` of parts; an `and` among them is opened.
    pub(super) fn all(parts: Vec<Self>) -> Self {
        let open = |part| match part {
            Self::All(inner) => Ok(inner),
            other => Err(other),
        };
        let mut flat = flatten(parts, open);
        if flat.len() == 1 { flat.remove(0) } else { Self::All(flat) }
    }

    /// `or` of parts; an `or` among them is opened.
    pub(super) fn any(parts: Vec<Self>) -> Self {
        let open = |part| match part {
            Self::Any(inner) => Ok(inner),
            other => Err(other),
        };
        let mut flat = flatten(parts, open);
        if flat.len() == 1 { flat.remove(0) } else { Self::Any(flat) }
    }

    /// Whether the values satisfy it, in exact arithmetic; a comparison that
    /// reads NaN or an infinity is false.
    pub(super) fn holds(&self, value: &impl Fn(usize) -> f32) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(value)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(value)),
            Self::Atom(atom) => atom.holds(value),
        }
    }

    /// In the syntax of both languages; `name` gives the variables' names.
    pub(super) fn print(&self, name: &impl Fn(usize) -> String, out: &mut String) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                out.push_str(if matches!(self, Self::All(_)) { "(and" } else { "(or" });
                for part in parts {
                    out.push(' ');
                    part.print(name, out);
                }
                out.push(')');
            }
            Self::Atom(Comparison { polynomial, relation, .. }) => {
                let relation = match relation {
                    Relation::AtMost => "<=",
                    Relation::Less => "<",
                    Relation::Equal => "==",
                    Relation::NotEqual => "!=",
                };
                let _ = write!(out, "({relation} ");
                // Denominators are multiplied away: only whole numbers are sure to be decimals.
                let scale = polynomial
                    .0
                    .values()
                    .fold(num_bigint::BigInt::one(), |l, c| num_integer::Integer::lcm(&l, c.denom()));
                let terms = polynomial.0.iter().map(|(monomial, c)| {
                    let c = (c * BigRational::from_integer(scale.clone())).to_integer();
                    let sign = if c.is_negative() { "-" } else { "" };
                    let mut factors = String::new();
                    for &v in monomial {
                        let _ = write!(factors, " {}", name(v));
                    }
                    let number = format!("{sign}{}.0", c.abs());
                    if factors.is_empty() { number } else { format!("(* {number}{factors})") }
                });
                let terms: Vec<String> = terms.collect();
                match &terms[..] {
                    [] => out.push_str("0.0"),
                    [term] => out.push_str(term),
                    terms => {
                        let _ = write!(out, "(+ {})", terms.join(" "));
                    }
                }
                out.push_str(" 0.0)");
            }
        }
    }
}

/// Parts with those of their own kind opened. The longest is taken as it is,
/// so that formulas nested to any depth are flattened in linear time.
fn flatten(parts: Vec<Formula>, open: impl Fn(Formula) -> Result<Vec<Formula>, Formula>) -> Vec<Formula> {
    let (mut flat, mut others) = (Vec::new(), Vec::new());
    for part in parts {
        match open(part) {
            Ok(inner) if inner.len() > flat.len() => others.append(&mut std::mem::replace(&mut flat, inner)),
            Ok(inner) => others.extend(inner),
            Err(other) => others.push(other),
        }
    }
    flat.append(&mut others);
    flat
}
