//! One box and the violations that are looked for in it: what bounds, search
//! and branch and bound work on.

use num_rational::BigRational;
use num_traits::Zero;
use thiserror::Error;

use super::number::exact;

/// `coefficients . y + input . x <= bound`, or `<` where it is strict.
///
/// Coefficients are exact; the bound is rounded up, so that the set is never
/// smaller than what was asked for. No index occurs twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Atom {
    /// Entries of the graph's output, with their factors.
    pub coefficients: Vec<(usize, f64)>,
    /// Entries of the graph's input, with their factors. What mixes inputs and
    /// outputs reads both from the output, so one of the two lists is empty.
    pub input: Vec<(usize, f64)>,
    /// The right-hand side.
    pub bound: f64,
    /// Whether equality is no violation.
    pub strict: bool,
}

impl Atom {
    /// Whether the atom holds, in exact arithmetic; no NaN or infinity that it
    /// reads satisfies it.
    ///
    /// # Panics
    /// If `x` or `y` is too short.
    #[must_use]
    pub fn holds(&self, x: &[f32], y: &[f32]) -> bool {
        let values = self.input.iter().map(|&(i, d)| (d, x[i]));
        let values = values.chain(self.coefficients.iter().map(|&(i, c)| (c, y[i])));
        // In f64 a product of these rounds once, and so does every sum: decided unless it is close.
        let (mut sum, mut size) = (-self.bound, self.bound.abs());
        for (c, v) in values.clone() {
            let term = c * f64::from(v);
            sum += term;
            size += term.abs();
        }
        if !size.is_finite() {
            return false;
        }
        let terms = (self.input.len() + self.coefficients.len() + 4) as f64;
        if sum.abs() > terms * (2.0 * f64::EPSILON * size + f64::MIN_POSITIVE) {
            return sum < 0.0;
        }
        let mut sum = BigRational::zero();
        for (c, v) in values {
            let (Some(c), Some(v)) = (exact(c), exact(f64::from(v))) else { return false };
            sum += c * v;
        }
        exact(self.bound).is_some_and(|bound| if self.strict { sum < bound } else { sum <= bound })
    }
}

/// A conjunction of atoms: a violation where all of them hold. Without atoms
/// every point is one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disjunct {
    /// What must hold at once.
    pub atoms: Vec<Atom>,
}

/// A box of inputs and the disjuncts that would be violations in it. It is
/// refuted (`unsat`) if no point of the box satisfies any disjunct.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Lower ends over the graph's flat input, rounded down.
    pub lower: Vec<f64>,
    /// Upper ends, rounded up.
    pub upper: Vec<f64>,
    /// The violations, any of which counts; never empty.
    pub disjuncts: Vec<Disjunct>,
}

/// Why a region cannot be formed.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum RegionError {
    /// The ends differ in number.
    #[error("{lower} lower and {upper} upper ends; give one of each for every entry of the input")]
    Lengths {
        /// Number of lower ends.
        lower: usize,
        /// Number of upper ends.
        upper: usize,
    },
    /// Two ends are not those of an interval.
    #[error(
        "entry {entry} of the box is [{lower}, {upper}]; accepted: finite ends, the lower not above the upper"
    )]
    Ends {
        /// Which entry.
        entry: usize,
        /// Its lower end.
        lower: f64,
        /// Its upper end.
        upper: f64,
    },
    /// The label is none of the classes, or there is nothing to compare.
    #[error(
        "label {label} of {classes} classes; accepted: a label below the number of classes, at least 2 of these"
    )]
    Label {
        /// The label.
        label: usize,
        /// Number of outputs.
        classes: usize,
    },
    /// Rows do not fit the output or the right-hand sides.
    #[error(
        "{found}; accepted: disjuncts of at least one row, each with {outputs} coefficients and one right-hand side, all finite"
    )]
    Rows {
        /// What was found.
        found: String,
        /// Entries of the output.
        outputs: usize,
    },
}

impl Region {
    /// The question whether the network gives a class other than `label`, or
    /// two classes tie: `y_j >= y_label` for some other `j`.
    ///
    /// # Errors
    /// [`RegionError`] if ends or label are not usable.
    pub fn robustness(
        lower: Vec<f64>,
        upper: Vec<f64>,
        label: usize,
        classes: usize,
    ) -> Result<Self, RegionError> {
        if label >= classes || classes < 2 {
            return Err(RegionError::Label { label, classes });
        }
        let atom = |j| Atom {
            coefficients: vec![(label, 1.0), (j, -1.0)],
            input: Vec::new(),
            bound: 0.0,
            strict: false,
        };
        let others = (0..classes).filter(|&j| j != label);
        let disjuncts = others.map(|j| Disjunct { atoms: vec![atom(j)] }).collect();
        Self { lower, upper, disjuncts }.checked()
    }

    /// The question whether for some disjunct all of its rows hold: a row with
    /// `outputs` coefficients `c` and a right-hand side `b` says `c . y <= b`.
    ///
    /// # Errors
    /// [`RegionError`] if ends or rows are not usable.
    pub fn constraints(
        lower: Vec<f64>,
        upper: Vec<f64>,
        disjuncts: &[Vec<(&[f64], f64)>],
        outputs: usize,
    ) -> Result<Self, RegionError> {
        let refused = |found: String| RegionError::Rows { found, outputs };
        if disjuncts.is_empty() {
            return Err(refused("no disjuncts".into()));
        }
        let atom = |&(row, bound): &(&[f64], f64)| {
            if row.len() != outputs {
                return Err(refused(format!("a row of {} coefficients", row.len())));
            }
            if let Some(bad) = row.iter().chain([&bound]).find(|c| !c.is_finite()) {
                return Err(refused(format!("a row with {bad}")));
            }
            let coefficients = row.iter().copied().enumerate().filter(|&(_, c)| c != 0.0).collect();
            Ok(Atom { coefficients, input: Vec::new(), bound, strict: false })
        };
        let disjuncts = disjuncts.iter().map(|rows| {
            if rows.is_empty() {
                return Err(refused("a disjunct without rows".into()));
            }
            Ok(Disjunct { atoms: rows.iter().map(atom).collect::<Result<_, _>>()? })
        });
        Self { lower, upper, disjuncts: disjuncts.collect::<Result<_, _>>()? }.checked()
    }

    fn checked(self) -> Result<Self, RegionError> {
        if self.lower.len() != self.upper.len() {
            return Err(RegionError::Lengths { lower: self.lower.len(), upper: self.upper.len() });
        }
        for (entry, (&lower, &upper)) in self.lower.iter().zip(&self.upper).enumerate() {
            if !(lower <= upper && lower.is_finite() && upper.is_finite()) {
                return Err(RegionError::Ends { entry, lower, upper });
            }
        }
        Ok(self)
    }

    /// Whether `x` lies in the box and satisfies a disjunct together with the
    /// output `y`, in exact arithmetic.
    ///
    /// # Panics
    /// If `x` is not of the box's length, or `y` too short.
    #[must_use]
    pub fn holds(&self, x: &[f32], y: &[f32]) -> bool {
        self.contains(x) && self.is_violation(x, y)
    }

    /// Whether `x` lies in the box.
    ///
    /// # Panics
    /// If `x` is not of the box's length.
    #[must_use]
    pub fn contains(&self, x: &[f32]) -> bool {
        assert_eq!(x.len(), self.lower.len(), "a point of the box");
        let mut sides = x.iter().zip(self.lower.iter().zip(&self.upper));
        sides.all(|(&x, (&l, &u))| (l..=u).contains(&f64::from(x)))
    }

    /// Whether `x`, wherever it lies, satisfies a disjunct together with the output `y`, in exact arithmetic.
    ///
    /// # Panics
    /// If `x` or `y` is too short.
    #[must_use]
    pub fn is_violation(&self, x: &[f32], y: &[f32]) -> bool {
        self.disjuncts.iter().any(|disjunct| disjunct.atoms.iter().all(|atom| atom.holds(x, y)))
    }
}
