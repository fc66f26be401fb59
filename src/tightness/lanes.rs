//! What happens to the coefficients of a panel whose lanes belong to different inputs.

use crate::kernels::{Entries, Kernel, LANES, Lane, Panel, choose};

/// For each lane a number of its input for every place of a value.
pub(super) struct Data<'a> {
    rows: [&'a [f64]; LANES],
    /// Whether all lanes have the same input.
    one: bool,
    /// The entries in the order of their places.
    entries: &'a [u32],
}

impl<'a> Data<'a> {
    /// From `batch * entries` numbers, which stand in the order of the entries.
    pub(super) fn new(all: &'a [f64], entries: &'a [u32], inputs: &[usize; LANES]) -> Self {
        let rows = inputs.map(|input| &all[input * entries.len()..][..entries.len()]);
        Self { rows, one: inputs.iter().all(|input| *input == inputs[0]), entries }
    }

    /// Coefficients at a place times the numbers there. Zeros stay zero, whatever the number: so that a
    /// lane does not depend on which others are other than zero.
    #[inline(always)]
    fn times(&self, place: usize, coefficients: Lane) -> Lane {
        let entry = self.entries[place] as usize;
        let mut data = Lane([self.rows[0][entry]; LANES]);
        if !self.one {
            for (x, row) in data.0.iter_mut().zip(&self.rows) {
                *x = row[entry];
            }
        }
        coefficients.map(|lane, c| choose(c == 0.0, 0.0, c * data.0[lane]))
    }
}

/// `sum |coefficient| data` for each lane, for data without a sign.
pub(super) struct Dot<'a>(pub(super) &'a mut Panel, pub(super) Data<'a>);

impl Kernel for Dot<'_> {
    type Output = Lane;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> Lane {
        let mut sums = Lane::ZERO;
        self.0.update(|place, coefficients| {
            let terms = self.1.times(place, *coefficients);
            sums = sums.map(|lane, sum| sum + terms.0[lane].abs());
            true
        });
        sums
    }
}

/// Every coefficient times its number of the data.
pub(super) struct Multiply<'a>(pub(super) &'a mut Panel, pub(super) Data<'a>);

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        self.0.update(|place, coefficients| {
            *coefficients = self.1.times(place, *coefficients);
            !coefficients.is_zero()
        });
    }
}

/// The greatest absolute coefficient of each lane.
pub(super) struct Greatest<'a>(pub(super) &'a mut Panel);

impl Kernel for Greatest<'_> {
    type Output = Lane;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> Lane {
        let mut greatest = Lane::ZERO;
        self.0.update(|_, coefficients| {
            greatest = greatest.map(|lane, most| {
                let size = coefficients.0[lane].abs();
                choose(size > most, size, most)
            });
            true
        });
        greatest
    }
}
