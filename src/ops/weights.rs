//! Constants of operators, in the precisions that the analyses ask for.

use std::sync::OnceLock;

use crate::kernels::{Gather, Scalar};

/// Coefficients of an affine map.
///
/// `f64` holds the `f32` weights of a network exactly. Coefficients that are
/// computed at load time (a batch norm's scale, the reciprocal of a divisor)
/// carry a bound on their relative error, so that interval bounds hold for the
/// exact coefficients.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    exact: Vec<f64>,
    relative_error: f64,
    single: OnceLock<Vec<f32>>,
    absolute: OnceLock<Vec<f64>>,
    boxes: OnceLock<Gather<f64>>,
    magnitudes: OnceLock<[f64; 2]>,
}

/// Chooses a representation of coefficients: [`Weights::exact`],
/// [`Weights::single`] or [`Weights::absolute`].
pub type Pick<T> = fn(&Weights) -> &[T];

impl Weights {
    /// Coefficients that are exactly these.
    #[must_use]
    pub fn new(exact: Vec<f64>) -> Self {
        Self { exact, ..Self::default() }
    }

    /// Coefficients that were rounded: each true one lies within
    /// `relative_error * |value|` of the value given.
    #[must_use]
    pub fn rounded(values: Vec<f64>, relative_error: f64) -> Self {
        Self { exact: values, relative_error, ..Self::default() }
    }

    /// The coefficients in `f64`.
    #[must_use]
    pub fn exact(&self) -> &[f64] {
        &self.exact
    }

    /// The coefficients rounded to `f32`, made on first use.
    pub fn single(&self) -> &[f32] {
        self.single.get_or_init(|| self.exact.iter().map(|&w| f32::of(w)).collect())
    }

    /// The absolute values, made on first use.
    pub fn absolute(&self) -> &[f64] {
        self.absolute.get_or_init(|| self.exact.iter().map(|w| w.abs()).collect())
    }

    /// The least absolute value that is not zero, and the greatest; found on first use. Zeros alone give
    /// infinity and 0, NaN counts as infinite.
    pub(super) fn magnitudes(&self) -> [f64; 2] {
        *self.magnitudes.get_or_init(|| {
            self.exact.iter().fold([f64::INFINITY, 0.0], |[least, most], w| {
                let size = if w.is_nan() { f64::INFINITY } else { w.abs() };
                [if size > 0.0 { least.min(size) } else { least }, most.max(size)]
            })
        })
    }

    /// The map that they belong to as sums, made on first use.
    pub(super) fn boxes(&self, make: impl FnOnce() -> Gather<f64>) -> &Gather<f64> {
        self.boxes.get_or_init(make)
    }

    /// Bound on the relative error of every coefficient; 0 for network weights.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        self.relative_error
    }
}

/// A constant tensor that repeats: entry `i` is `values[(i / inner) % len]`.
///
/// Covers one value for all entries (`len` 1), one per channel (`inner` the
/// pixels of a channel) and one per entry (`inner` 1), without storing copies.
#[derive(Clone, Debug)]
pub struct Periodic {
    values: Weights,
    inner: usize,
}

impl Periodic {
    /// `values[(i / inner) % values.len()]` at entry `i`.
    ///
    /// # Panics
    /// If there are no values or `inner` is 0.
    #[must_use]
    pub fn new(values: Weights, inner: usize) -> Self {
        assert!(!values.exact.is_empty() && inner > 0, "a periodic constant has a period");
        Self { values, inner }
    }

    /// One value for every entry.
    #[must_use]
    pub fn constant(value: f64) -> Self {
        Self::new(Weights::new(vec![value]), 1)
    }

    /// The distinct values.
    #[must_use]
    pub fn values(&self) -> &Weights {
        &self.values
    }

    /// Whether one value stands for all entries.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.values.exact.len() == 1
    }

    /// How many consecutive entries share a value.
    #[must_use]
    pub fn inner(&self) -> usize {
        self.inner
    }

    /// The value at entry `i`.
    #[must_use]
    pub fn at(&self, i: usize) -> f64 {
        self.values.exact[(i / self.inner) % self.values.exact.len()]
    }

    /// Calls `each(entries, value)` for every run of entries of `data` that
    /// share a value; `data` starts at entry 0 of a tensor.
    pub fn runs<T: Scalar, U>(&self, pick: Pick<T>, data: &mut [U], mut each: impl FnMut(&mut [U], T)) {
        let values = pick(&self.values).iter().cycle();
        for (entries, &value) in data.chunks_mut(self.inner).zip(values) {
            each(entries, value);
        }
    }

    /// Adds the constant to every one of `batch` tensors of `data`.
    pub fn add_to<T: Scalar>(&self, pick: Pick<T>, batch: usize, data: &mut [T]) {
        if batch == 0 || data.is_empty() {
            return;
        }
        let len = data.len() / batch;
        for tensor in data.chunks_exact_mut(len) {
            if self.inner == 1 && self.values.exact.len() > 1 {
                for part in tensor.chunks_mut(self.values.exact.len()) {
                    for (x, &value) in part.iter_mut().zip(pick(&self.values)) {
                        *x += value;
                    }
                }
            } else {
                self.runs(pick, tensor, |entries, value| entries.iter_mut().for_each(|x| *x += value));
            }
        }
    }
}
