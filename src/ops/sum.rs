//! Linear combinations of activations of one shape.

use super::{Pick, Weights};
use crate::kernels::Scalar;

/// `y = sum_i coefficient_i * x_i`: residual sums and differences.
#[derive(Clone, Debug)]
pub struct Sum {
    /// Entries of each input and of the output.
    pub len: usize,
    /// One coefficient for each input.
    pub coefficients: Weights,
}

impl Sum {
    pub(super) fn linear<T: Scalar>(&self, pick: Pick<T>, inputs: &[&[T]], out: &mut [T]) {
        for (i, (x, &c)) in inputs.iter().zip(pick(&self.coefficients)).enumerate() {
            for (y, &x) in out.iter_mut().zip(*x) {
                *y = if i == 0 { c * x } else { *y + c * x };
            }
        }
    }

    pub(super) fn adjoint<T: Scalar>(&self, pick: Pick<T>, y: &[T], grads: &mut [&mut [T]]) {
        for (grad, &c) in grads.iter_mut().zip(pick(&self.coefficients)) {
            grad.iter_mut().zip(y).for_each(|(g, &y)| *g += c * y);
        }
    }
}
