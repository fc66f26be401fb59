//! Gaussian noise behind a narrow first layer.
//!
//! Let a network begin with an affine map `A x + b` to fewer entries than its input has, and let
//! `A = R Q` with orthonormal rows of `Q` and a lower triangular `R`, so that `R R^T = A A^T`. Of
//! Gaussian noise `e ~ N(0, sigma^2 I)` it sees
//!
//! `A (x + e) + b = R (Q x + Q e) + b`, where `Q e ~ N(0, sigma^2 I)`, too,
//!
//! on as many entries as `A` has rows: the pre-activations are `A x + b + N(0, sigma^2 A A^T)`. The
//! network that begins with `R z + b` therefore gives at `z = Q x`, under noise of the same sigma, the
//! same distribution of outputs, from fewer random numbers and smaller products. What is certified
//! at `z` holds at `x`, in the l2 norm of the whole input.

use ndarray::{Array2, ArrayView1, Axis, s};
use rayon::prelude::*;

use crate::graph::{Graph, Node};
use crate::ops::{Affine, Dense, Op, Periodic, Weights};

/// A residual smaller than this, relative to its row, is rounding: the row depends on those before it.
const DEPENDENT: f64 = 1e-12;

/// A network with its input cut down to what its first layer reads.
pub struct RowSpace {
    graph: Graph,
    /// `Q`, `m x input_len`; a zero row for each row of `A` that depends on those before it.
    basis: Array2<f64>,
}

impl RowSpace {
    /// Cuts a network whose affine maps before the first other operator lead to at most half as many
    /// entries as the input has; none for any other network.
    #[must_use]
    pub fn new(graph: &Graph) -> Option<Self> {
        let mut uses = vec![0; graph.nodes.len() + 1];
        graph.nodes.iter().flat_map(|n| &n.inputs).for_each(|&v| uses[v] += 1);
        let chain = |&(i, node): &(usize, &Node)| {
            matches!(node.op, Op::Affine(_)) && node.inputs == [i] && uses[i] == 1 && graph.output != i
        };
        let count = graph.nodes.iter().enumerate().take_while(chain).count();
        let affine: Vec<&Affine> = (graph.nodes[..count].iter())
            .map_while(|node| if let Op::Affine(op) = &node.op { Some(op) } else { None })
            .collect();
        let (len, m) = (graph.input_len(), graph.len(count));
        let small = 2 * m <= len && m.saturating_mul(m).saturating_mul(len) <= 1 << 30;
        if count == 0 || m == 0 || !small || !affine.iter().all(|op| op.is_finite()) {
            return None;
        }
        let mut scratch = Vec::new();
        let mut bias = vec![0.0; len];
        let mut rows = vec![0.0; m * m];
        rows.iter_mut().step_by(m + 1).for_each(|entry| *entry = 1.0);
        for (i, op) in affine.iter().enumerate() {
            let mut out = vec![0.0; graph.len(i + 1)];
            op.apply(Weights::exact, 1, &[&bias], &mut out, &mut scratch);
            bias = out;
        }
        for (i, op) in affine.iter().enumerate().rev() {
            let mut grad = vec![0.0; m * graph.len(i)];
            op.adjoint(Weights::exact, m, &rows, &mut [&mut grad], &mut scratch);
            rows = grad;
        }
        let mut basis = Array2::from_shape_vec((m, len), rows).ok()?;
        // Twice, which is enough for the rounding of the first time (Giraud, Langou, Rozloznik 2005).
        let first = orthonormalize(&mut basis);
        let factor = first.dot(&orthonormalize(&mut basis));
        // The factor's entry (o, k) multiplies input k of output o.
        let weight = Weights::new(factor.t().iter().copied().collect());
        let dense = Dense {
            rows: 1,
            inputs: m,
            outputs: m,
            weight,
            bias: Some(Periodic::new(Weights::new(bias), 1)),
        };
        let first =
            Node { inputs: vec![0], op: Op::Affine(Affine::Dense(dense)), ..graph.nodes[count - 1].clone() };
        let later = graph.nodes[count..].iter().map(|node| {
            let inputs = node.inputs.iter().map(|v| v + 1 - count).collect();
            Node { inputs, ..node.clone() }
        });
        let cut = Graph {
            input_shape: vec![m],
            nodes: std::iter::once(first).chain(later).collect(),
            output: graph.output + 1 - count,
            ..graph.clone()
        };
        Some(Self { graph: cut, basis })
    }

    /// The network on what its first layer reads.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What the first layer reads of an input: `Q x`.
    ///
    /// # Panics
    /// If the input has not as many entries as the network's.
    #[must_use]
    pub fn project(&self, x: &[f32]) -> Vec<f32> {
        assert_eq!(x.len(), self.basis.ncols(), "an input of the network");
        let dot = |row: ArrayView1<f64>| row.iter().zip(x).map(|(q, &x)| q * f64::from(x)).sum::<f64>();
        self.basis.rows().into_iter().map(|row| dot(row) as f32).collect()
    }
}

/// Makes the rows orthonormal and returns the lower triangular `R` with `old = R new`, by the modified
/// procedure of Gram and Schmidt. A row that depends on those before it becomes zero, and so does its
/// column of `R`.
fn orthonormalize(rows: &mut Array2<f64>) -> Array2<f64> {
    let norm = |row: ArrayView1<f64>| row.dot(&row).sqrt();
    let sizes: Vec<f64> = rows.rows().into_iter().map(norm).collect();
    let mut factor = Array2::zeros((rows.nrows(), rows.nrows()));
    for (i, &size) in sizes.iter().enumerate() {
        let (done, mut later) = rows.view_mut().split_at(Axis(0), i + 1);
        let mut row = done.index_axis_move(Axis(0), i);
        let length = Some(norm(row.view())).filter(|&length| length > DEPENDENT * size);
        row.mapv_inplace(|q| length.map_or(0.0, |length| q / length));
        factor[[i, i]] = length.unwrap_or(0.0);
        let parts = later.axis_iter_mut(Axis(0)).into_par_iter().map(|mut other| {
            let part = row.dot(&other);
            other.scaled_add(-part, &row);
            part
        });
        let parts: Vec<f64> = parts.collect();
        factor.slice_mut(s![i + 1.., i]).assign(&ArrayView1::from(&parts));
    }
    factor
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::{Intervals, propagate};
    use crate::ops::{Relu, Scale};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Normalisation, a dense layer to `m` of `len` entries with some rows that depend on others, and
    /// more behind it.
    fn network(len: usize, m: usize, numbers: &[f64]) -> Graph {
        let mut numbers = numbers.iter().copied().cycle();
        let mut some = |n: usize| -> Vec<f64> { numbers.by_ref().take(n).collect() };
        let scale = Scale {
            len,
            scale: Some(Periodic::constant(4.0)),
            shift: Some(Periodic::constant(-1.5)),
            shift_error: 0.0,
        };
        let mut weight = some(len * m);
        for row in weight.chunks_exact_mut(m).filter(|_| m > 2) {
            row[m - 1] = 2.0 * row[0] - row[1];
        }
        let mut dense = |inputs, outputs, weight| {
            let bias = Some(Periodic::new(Weights::new(some(outputs)), 1));
            Op::Affine(Affine::Dense(Dense { rows: 1, inputs, outputs, weight: Weights::new(weight), bias }))
        };
        let last: Vec<f64> = (0..3 * m).map(|i| ((i * 7) % 5) as f64 - 2.0).collect();
        let ops = [
            (Op::Affine(Affine::Scale(scale)), len),
            (dense(len, m, weight), m),
            (Op::Elementwise(Arc::new(Relu)), m),
            (dense(m, 3, last), 3),
        ];
        let node = |(i, (op, n)): (usize, (Op, usize))| Node {
            name: format!("n{i}"),
            origin: "test".into(),
            op,
            inputs: vec![i],
            shape: vec![1, n],
        };
        Graph {
            input_name: "x".into(),
            input_shape: vec![1, len],
            nodes: ops.into_iter().enumerate().map(node).collect(),
            output: 4,
            output_shape: vec![1, 3],
            folded: Vec::new(),
        }
    }

    fn outputs(graph: &Graph, x: Vec<f64>) -> Vec<f64> {
        let point = Intervals { lower: x.clone(), upper: x };
        propagate(graph, 1, point, |v| v == graph.output)[graph.output].lower.clone()
    }

    proptest! {
        #[test]
        fn the_cut_network_gives_the_same_outputs_and_sees_the_same_noise(
            m in 1_usize..8,
            more in 0_usize..9,
            numbers in prop::collection::vec(-1.0_f64..1.0, 211),
            noise in prop::collection::vec(-1.0_f64..1.0, 24),
        ) {
            let len = 2 * m + more;
            let graph = network(len, m, &numbers);
            let cut = RowSpace::new(&graph).expect("narrow");
            prop_assert_eq!(cut.graph().input_len(), m);
            prop_assert_eq!(cut.graph().nodes.len(), 3);
            let project = |x: &[f64]| cut.basis.dot(&ArrayView1::from(x)).to_vec();
            let x: Vec<f64> = noise[..len].to_vec();
            let size = 1.0 + outputs(&graph, x.clone()).iter().fold(0.0_f64, |m, y| m.max(y.abs()));
            for (a, b) in outputs(&graph, x.clone()).iter().zip(outputs(cut.graph(), project(&x))) {
                prop_assert!((a - b).abs() < 1e-9 * size, "{} {}", a, b);
            }
            let single: Vec<f32> = x.iter().map(|&x| x as f32).collect();
            for (a, b) in cut.project(&single).iter().zip(project(&x)) {
                prop_assert!((f64::from(*a) - b).abs() < 1e-5);
            }
            // Noise with the identity as covariance has it still: rows are orthonormal, but for those
            // of no influence.
            let gram = cut.basis.dot(&cut.basis.t());
            let free = |i: usize| cut.basis.row(i).iter().any(|&q| q != 0.0);
            for ((i, j), &entry) in gram.indexed_iter() {
                prop_assert!((entry - f64::from(i == j && free(i))).abs() < 1e-12, "{}", entry);
            }
            prop_assert_eq!((0..m).filter(|&i| free(i)).count(), if m > 2 { m - 1 } else { m });
        }
    }

    #[test]
    fn other_networks_are_left_alone() {
        let numbers: Vec<f64> = (0..97).map(|i| f64::from((i * 31) % 97) / 97.0 - 0.5).collect();
        assert!(RowSpace::new(&network(7, 4, &numbers)).is_none(), "too wide");
        let mut forked = network(20, 4, &numbers);
        forked.nodes[3].inputs = vec![2];
        assert!(RowSpace::new(&forked).is_some(), "what follows may fork");
        forked.nodes[2].inputs = vec![1];
        assert!(RowSpace::new(&forked).is_none(), "the input is read past the dense layer");
        let mut undefined = network(20, 4, &numbers);
        let Op::Affine(Affine::Dense(dense)) = &mut undefined.nodes[1].op else { panic!("a dense layer") };
        dense.bias = Some(Periodic::constant(f64::INFINITY));
        assert!(RowSpace::new(&undefined).is_none(), "infinite");
    }
}
