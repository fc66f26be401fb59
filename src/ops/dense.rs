//! Matrix product with a constant matrix.

use super::{Periodic, Pick, Weights};
use crate::kernels::{Gather, Layout, Matrix, Scalar, matmul};

/// `y = x W + b`, applied to every one of `rows` rows of a tensor.
#[derive(Clone, Debug)]
pub struct Dense {
    /// Rows of one network input's tensor; 1 for an ordinary dense layer.
    pub rows: usize,
    /// Entries of a row of the input.
    pub inputs: usize,
    /// Entries of a row of the output.
    pub outputs: usize,
    /// `W`, row-major, `inputs x outputs`.
    pub weight: Weights,
    /// `b`, over the `rows * outputs` entries of the output.
    pub bias: Option<Periodic>,
}

impl Dense {
    fn matrix<T: Scalar>(&self, pick: Pick<T>) -> Matrix<'_, T> {
        Matrix::new(pick(&self.weight), self.inputs, self.outputs)
    }

    /// The map as sums that read the same inputs.
    #[must_use]
    pub fn gather<T: Scalar>(&self, pick: Pick<T>) -> Gather<T> {
        let (terms, outputs) = (self.inputs, self.outputs);
        // A group for every row, so that outputs stand in order.
        let layout = Layout { terms, outputs, groups: 1, repeats: self.rows, inputs: terms };
        let weights = pick(&self.weight);
        let bias = |row, o| self.bias.as_ref().map_or(T::zero(), |bias| T::of(bias.at(row * outputs + o)));
        let all = (0..terms as u32).map(|k| [k, k]).collect();
        Gather::new(layout, |_, o, k| weights[k * outputs + o], bias, vec![all], &[[0, 0]])
    }

    pub(super) fn linear<T: Scalar>(&self, pick: Pick<T>, batch: usize, x: &[T], out: &mut [T]) {
        matmul(out, Matrix::new(x, batch * self.rows, self.inputs), self.matrix(pick), false);
    }

    pub(super) fn adjoint<T: Scalar>(&self, pick: Pick<T>, batch: usize, y: &[T], grad: &mut [T]) {
        matmul(grad, Matrix::new(y, batch * self.rows, self.outputs), self.matrix(pick).t(), true);
    }
}
