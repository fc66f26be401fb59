//! What happens to the coefficients of a panel whose lanes belong to different inputs.

use crate::kernels::{Entries, Kernel, LANES, Lane, Panel, choose};

/// For each lane the data of its input.
pub(super) struct Data<'a> {
    rows: [&'a [f64]; LANES],
    /// Whether all lanes have the same input.
    one: bool,
}

impl<'a> Data<'a> {
    /// From `batch * len` numbers.
    pub(super) fn new(all: &'a [f64], len: usize, inputs: &[usize; LANES]) -> Self {
        let rows = inputs.map(|input| &all[input * len..][..len]);
        Self { rows, one: inputs.iter().all(|input| *input == inputs[0]) }
    }

    #[inline(always)]
    fn at(&self, entry: usize) -> Lane {
        if self.one {
            return Lane([self.rows[0][entry]; LANES]);
        }
        let mut lane = Lane::ZERO;
        for (x, row) in lane.0.iter_mut().zip(&self.rows) {
            *x = row[entry];
        }
        lane
    }
}

/// `sum |coefficient| data` for each lane.
pub(super) struct Dot<'a> {
    pub(super) coefficients: &'a mut Panel,
    pub(super) data: Data<'a>,
    /// The entries in the order of their places.
    pub(super) entries: &'a [u32],
}

impl Kernel for Dot<'_> {
    type Output = Lane;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> Lane {
        let mut sums = Lane::ZERO;
        self.coefficients.update(|place, coefficients| {
            let data = self.data.at(self.entries[place] as usize);
            for lane in 0..LANES {
                sums.0[lane] += coefficients.0[lane].abs() * data.0[lane];
            }
            true
        });
        sums
    }
}

/// Every coefficient times its number of the data.
pub(super) struct Multiply<'a> {
    pub(super) coefficients: &'a mut Panel,
    pub(super) data: Data<'a>,
    /// The entries in the order of their places.
    pub(super) entries: &'a [u32],
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        self.coefficients.update(|place, coefficients| {
            let data = self.data.at(self.entries[place] as usize);
            *coefficients = coefficients.map(|lane, x| x * data.0[lane]);
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
