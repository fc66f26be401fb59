//! Affine maps with few terms per output: selections of entries (transpose,
//! slice, concatenation, padding, broadcasting), window sums, differences.

use super::{Periodic, Pick, Weights};
use crate::kernels::Scalar;

/// Lists of entries, one list for each output: output `i` refers to
/// `entries[offsets[i] .. offsets[i + 1]]`. Entries index the concatenation of
/// all inputs of an operator.
#[derive(Clone, Debug)]
pub struct Groups {
    offsets: Vec<u32>,
    entries: Vec<u32>,
}

impl Groups {
    /// From one list per output.
    ///
    /// # Panics
    /// If there are 2^32 entries or more.
    #[must_use]
    pub fn new<L: IntoIterator<Item = usize>>(lists: impl IntoIterator<Item = L>) -> Self {
        let small = |x: usize| u32::try_from(x).expect("a value holds less than 2^32 entries");
        let (mut offsets, mut entries) = (vec![0], Vec::new());
        for list in lists {
            entries.extend(list.into_iter().map(small));
            offsets.push(small(entries.len()));
        }
        Self { offsets, entries }
    }

    /// Number of outputs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are no outputs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of entries of all lists together.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Length of the longest list.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.offsets.windows(2).map(|w| (w[1] - w[0]) as usize).max().unwrap_or(0)
    }

    /// List `i`, with the position of its first entry among all.
    ///
    /// # Panics
    /// If there is no such list.
    #[must_use]
    pub fn get(&self, i: usize) -> (usize, &[u32]) {
        let [first, end] = [self.offsets[i] as usize, self.offsets[i + 1] as usize];
        (first, &self.entries[first..end])
    }

    /// The lists, each with the position of its first entry among all.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[u32])> {
        self.offsets.windows(2).map(|w| (w[0] as usize, &self.entries[w[0] as usize..w[1] as usize]))
    }
}

/// `y_i = sum over the entries j of group i of weight_j * x_j, + bias_i`.
#[derive(Clone, Debug)]
pub struct Sparse {
    /// Entries of each input.
    pub inputs: Vec<usize>,
    /// Which entries of the concatenated inputs each output sums.
    pub groups: Groups,
    /// One weight per entry of the groups; all 1 if absent.
    pub weights: Option<Weights>,
    /// Constant added to the outputs, such as a padding value.
    pub bias: Option<Periodic>,
}

impl Sparse {
    /// Output `i` is entry `source[i]` of the concatenated inputs.
    #[must_use]
    pub fn select(inputs: Vec<usize>, source: impl IntoIterator<Item = usize>) -> Self {
        Self::select_some(inputs, source.into_iter().map(Some))
    }

    /// As [`Sparse::select`], with outputs that no entry goes to: zero, or what
    /// the bias says.
    #[must_use]
    pub fn select_some(inputs: Vec<usize>, source: impl IntoIterator<Item = Option<usize>>) -> Self {
        Self { inputs, groups: Groups::new(source), weights: None, bias: None }
    }

    pub(super) fn linear<T: Scalar>(
        &self,
        pick: Pick<T>,
        batch: usize,
        inputs: &[&[T]],
        out: &mut [T],
        scratch: &mut Vec<T>,
    ) {
        for b in 0..batch {
            let out = &mut out[b * self.groups.len()..][..self.groups.len()];
            let x = gather_inputs(&self.inputs, b, inputs, scratch);
            for (y, (first, group)) in out.iter_mut().zip(self.groups.iter()) {
                *y = match (&self.weights, group) {
                    (None, [j]) => x[*j as usize],
                    (None, _) => group.iter().fold(T::zero(), |sum, &j| sum + x[j as usize]),
                    (Some(w), _) => {
                        let w = &pick(w)[first..first + group.len()];
                        group.iter().zip(w).fold(T::zero(), |sum, (&j, &w)| sum + w * x[j as usize])
                    }
                };
            }
        }
    }

    pub(super) fn adjoint<T: Scalar>(&self, pick: Pick<T>, batch: usize, y: &[T], grads: &mut [&mut [T]]) {
        let mut whole = vec![T::zero(); self.inputs.iter().sum()];
        for b in 0..batch {
            whole.fill(T::zero());
            for (&y, (first, group)) in y[b * self.groups.len()..].iter().zip(self.groups.iter()) {
                for (offset, &j) in group.iter().enumerate() {
                    let weight = self.weights.as_ref().map_or(T::one(), |w| pick(w)[first + offset]);
                    whole[j as usize] += weight * y;
                }
            }
            let mut rest = &whole[..];
            for (grad, &len) in grads.iter_mut().zip(&self.inputs) {
                let (part, tail) = rest.split_at(len);
                grad[b * len..][..len].iter_mut().zip(part).for_each(|(g, &p)| *g += p);
                rest = tail;
            }
        }
    }
}

/// The tensors of one network input, concatenated; without copying if there
/// is only one.
pub(super) fn gather_inputs<'a, T: Scalar>(
    lens: &[usize],
    b: usize,
    inputs: &[&'a [T]],
    scratch: &'a mut Vec<T>,
) -> &'a [T] {
    if let ([len], [x]) = (lens, inputs) {
        return &x[b * len..][..*len];
    }
    scratch.clear();
    for (len, x) in lens.iter().zip(inputs) {
        scratch.extend_from_slice(&x[b * len..][..*len]);
    }
    scratch
}
