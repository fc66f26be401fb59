//! Entry by entry: `scale * x + shift`.

use super::{Periodic, Pick};
use crate::kernels::Scalar;

/// `y = scale * x + shift`: constants added or multiplied, negation, batch
/// normalisation.
#[derive(Clone, Debug)]
pub struct Scale {
    /// Entries of the tensor.
    pub len: usize,
    /// Factor of every entry; 1 if absent.
    pub scale: Option<Periodic>,
    /// Constant added to every entry; 0 if absent.
    pub shift: Option<Periodic>,
    /// Bound on the absolute error of the stored shift.
    pub shift_error: f64,
}

impl Scale {
    fn multiply<T: Scalar>(&self, pick: Pick<T>, batch: usize, data: &mut [T]) {
        if let Some(scale) = &self.scale
            && batch > 0
            && self.len > 0
        {
            for tensor in data.chunks_exact_mut(self.len) {
                scale.runs(pick, tensor, |entries, factor| {
                    for x in entries {
                        *x = *x * factor;
                    }
                });
            }
        }
    }

    pub(super) fn linear<T: Scalar>(&self, pick: Pick<T>, batch: usize, x: &[T], out: &mut [T]) {
        out.copy_from_slice(x);
        self.multiply(pick, batch, out);
    }

    pub(super) fn adjoint<T: Scalar>(&self, pick: Pick<T>, batch: usize, y: &[T], grad: &mut [T]) {
        let mut part = y.to_vec();
        self.multiply(pick, batch, &mut part);
        grad.iter_mut().zip(part).for_each(|(g, p)| *g += p);
    }
}
