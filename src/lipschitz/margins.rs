//! Lipschitz constants of the margins `logit_label - logit_class`, for
//! [`Method::Lipschitz`].

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::Network;
use crate::bounds::{MarginBounds, Method, Steepness};
use crate::graph::{Graph, ValueId};
use crate::ops::{Op, Weights};
use crate::rounding::directed::{add_up, mul_up, sqrt_up};
use crate::rounding::{gamma, underflow};

/// Most affine maps at the end of a network that a margin is pulled back through.
const STEPS: usize = 8;
/// Most coefficients of one value.
const COEFFICIENTS: usize = 1 << 23;

/// The margin bounds of a network by any method, with its Lipschitz constants
/// where the method uses them; these are computed when they are first needed.
#[must_use]
pub fn margin_bounds(graph: &Graph, method: Method) -> MarginBounds<'_> {
    let bounds = MarginBounds::new(graph, method);
    if !matches!(method, Method::Lipschitz | Method::Best) {
        return bounds;
    }
    let margins = (0..graph.output_len()).map(|_| OnceLock::new()).collect();
    bounds.with_constants(Box::new(Constants { graph: graph.clone(), network: OnceLock::new(), margins }))
}

struct Constants {
    graph: Graph,
    network: OnceLock<Network>,
    margins: Vec<OnceLock<Vec<f64>>>,
}

impl Constants {
    fn network(&self) -> &Network {
        self.network.get_or_init(|| Network::new(&self.graph))
    }
}

impl Steepness for Constants {
    fn margins(&self, label: usize) -> &[f64] {
        self.margins[label].get_or_init(|| {
            let classes = self.graph.output_len();
            let sign = |row: usize, class: usize| f64::from(class == label) - f64::from(class == row);
            let rows = (0..classes * classes).map(|i| sign(i / classes, i % classes)).collect();
            self.network().of_functions(classes, rows)
        })
    }

    fn outputs(&self) -> Vec<f64> {
        let classes = self.graph.output_len();
        let rows = (0..classes * classes).map(|i| f64::from(i % (classes + 1) == 0)).collect();
        self.network().of_functions(classes, rows)
    }
}

/// Linear functions of one value: coefficients, a row for each, and bounds on
/// the norms of the errors of the rows.
struct Rows {
    coefficients: Vec<f64>,
    errors: Vec<f64>,
}

impl Network {
    /// Lipschitz constants of `count` linear functions of the output with
    /// exact coefficients, in rows; infinite where there are none.
    ///
    /// A function `a . y` of values `y_i` with constants `L_i` has the constant
    /// `sum |a_i| L_i`. It is pulled back through affine maps one after the
    /// other, and the least of these constants counts.
    fn of_functions(&self, count: usize, rows: Vec<f64>) -> Vec<f64> {
        let graph = &self.fused.graph;
        let mut rows =
            BTreeMap::from([(graph.output, Rows { coefficients: rows, errors: vec![0.0; count] })]);
        let mut least = vec![f64::INFINITY; count];
        for _ in 0..=STEPS {
            for (row, least) in least.iter_mut().enumerate() {
                let sum = rows.iter().fold(0.0, |sum, (&v, rows)| {
                    let norm = rows.norm(row, count);
                    let constant = self.constants[v].unwrap_or(f64::INFINITY);
                    // What a function does not depend on needs no constant.
                    if norm == 0.0 { sum } else { add_up(sum, mul_up(norm, constant)) }
                });
                if sum < *least {
                    *least = sum;
                }
            }
            if !self.pull_back(count, &mut rows) {
                break;
            }
        }
        least
    }

    /// Replaces the last value by those that it is computed from, if it is an affine function of them.
    fn pull_back(&self, count: usize, rows: &mut BTreeMap<ValueId, Rows>) -> bool {
        let graph = &self.fused.graph;
        let Some((&v, _)) = rows.last_key_value() else { return false };
        let Some(node) = v.checked_sub(1).map(|i| &graph.nodes[i]) else { return false };
        let Op::Affine(op) = &node.op else { return false };
        let lens: Vec<usize> = node.inputs.iter().map(|&v| graph.len(v)).collect();
        if !op.is_finite() || lens.iter().any(|len| len.saturating_mul(count) > COEFFICIENTS) {
            return false;
        }
        let Some(above) = rows.remove(&v) else { return false };
        let mut parts: Vec<Vec<f64>> = lens.iter().map(|len| vec![0.0; count * len]).collect();
        let mut grads: Vec<&mut [f64]> = parts.iter_mut().map(Vec::as_mut_slice).collect();
        op.adjoint(Weights::exact, count, &above.coefficients, &mut grads, &mut Vec::new());
        // Every coefficient is within this share of a sum of absolute products.
        let share = 1.01 * (gamma(op.adjoint_terms() + lens.len()) + op.relative_error());
        let norms = &self.norms[v - 1];
        for (k, (&input, coefficients)) in node.inputs.iter().zip(parts).enumerate() {
            let error = |row: usize| {
                let rounded = mul_up(share, mul_up(norms.absolute[k], above.norm(row, count)));
                let carried = mul_up(norms.parts[k], above.errors[row]);
                add_up(add_up(carried, rounded), underflow(coefficients.len()))
            };
            let errors: Vec<f64> = (0..count).map(error).collect();
            let part = Rows { coefficients, errors };
            let sum = match rows.remove(&input) {
                Some(other) => part.plus(&other, count),
                None => part,
            };
            rows.insert(input, sum);
        }
        true
    }
}

impl Rows {
    /// At least the norm of a row of exact coefficients.
    fn norm(&self, row: usize, count: usize) -> f64 {
        let len = self.coefficients.len() / count;
        let squares = self.coefficients[row * len..][..len].iter().map(|&x| mul_up(x, x));
        let square = squares.fold(0.0, add_up);
        add_up(if square == 1.0 { 1.0 } else { sqrt_up(square) }, self.errors[row])
    }

    fn plus(mut self, other: &Self, count: usize) -> Self {
        for (row, error) in self.errors.iter_mut().enumerate() {
            *error = add_up(*error, other.errors[row]);
        }
        self.coefficients.iter_mut().zip(&other.coefficients).for_each(|(a, b)| *a += b);
        for row in 0..count {
            self.errors[row] = add_up(self.errors[row], mul_up(f64::EPSILON, self.norm(row, count)));
        }
        self
    }
}
