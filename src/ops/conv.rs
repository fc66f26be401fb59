//! Convolution in one or two dimensions, and its transpose.

use super::{Periodic, Pick, Weights};
use crate::kernels::{Gather, Layout, Matrix, Neighbours, Scalar, Window2d, matmul};

/// A convolution over `channels x height x width`, or the transpose of one.
///
/// The fields describe the plain convolution. Transposed, the map goes the
/// other way: from what would be the convolution's output to its input.
#[derive(Clone, Debug)]
pub struct Conv {
    /// Geometry of the plain convolution.
    pub window: Window2d,
    /// Input and output channels of the plain convolution.
    pub channels: [usize; 2],
    /// Number of groups; divides both channel counts.
    pub groups: usize,
    /// Row-major `channels[1] x channels[0] / groups x kernel`.
    pub weight: Weights,
    /// Bias over the entries of this map's output.
    pub bias: Option<Periodic>,
    /// Whether this map is the transpose (ONNX `ConvTranspose`).
    pub transposed: bool,
}

impl Conv {
    fn group_channels(&self) -> [usize; 2] {
        self.channels.map(|c| c / self.groups)
    }

    /// The map as sums that read the same inputs. `len` counts the entries of the input, which may hold
    /// several images.
    #[must_use]
    pub fn gather<T: Scalar>(&self, pick: Pick<T>, len: usize) -> Gather<T> {
        let (window, [ins, outs]) = (&self.window, self.group_channels());
        let taps = window.taps();
        // The channels and places that are read and written.
        let (from, to, size) =
            if self.transposed { (outs, ins, window.positions()) } else { (ins, outs, window.pixels()) };
        let Neighbours { lists, places } = window.neighbours(self.transposed);
        let list = |list: Vec<[usize; 2]>| {
            let of = |channel: usize| {
                let term = move |&[tap, place]: &[usize; 2]| {
                    [(channel * taps + tap) as u32, (channel * size + place) as u32]
                };
                list.iter().map(term).collect::<Vec<_>>()
            };
            (0..from).flat_map(of).collect()
        };
        let weights = pick(&self.weight);
        let weight = |group: usize, output: usize, term: usize| {
            let (channel, tap) = (term / taps, term % taps);
            let [i, o] = if self.transposed { [output, channel] } else { [channel, output] };
            weights[((group * outs + o) * ins + i) * taps + tap]
        };
        let (inputs, groups) = (from * size, self.groups);
        let repeats = len / (groups * inputs).max(1);
        let layout = Layout { terms: from * taps, outputs: to, groups, repeats, inputs };
        let stride = places.len();
        let bias = |group: usize, output: usize| {
            self.bias.as_ref().map_or(T::zero(), |bias| T::of(bias.at((group * to + output) * stride)))
        };
        Gather::new(layout, weight, bias, lists.into_iter().map(list).collect(), &places)
    }

    /// `y = W * x` as `out_channels x taps` times `taps x positions`.
    fn convolve<T: Scalar>(&self, weight: &[T], x: &[T], out: &mut [T], scratch: &mut Vec<T>) {
        let [ins, outs] = self.group_channels();
        let (w, positions) = (&self.window, self.window.positions());
        let taps = ins * w.taps();
        let images = x.chunks_exact(ins * w.pixels()).zip(out.chunks_exact_mut(outs * positions));
        for (index, (x, out)) in images.enumerate() {
            let group = index % self.groups;
            let kernel = Matrix::new(&weight[group * outs * taps..][..outs * taps], outs, taps);
            if w.is_pointwise() {
                matmul(out, kernel, Matrix::new(x, taps, positions), false);
            } else {
                scratch.resize(taps * positions, T::zero());
                w.im2col(x, scratch);
                matmul(out, kernel, Matrix::new(scratch, taps, positions), false);
            }
        }
    }

    /// `grad += W^T y`, leaving out the positions around which `y` is zero:
    /// backward passes start from single entries.
    fn convolve_back<T: Scalar>(&self, weight: &[T], y: &[T], grad: &mut [T], scratch: &mut Vec<T>) {
        let [ins, outs] = self.group_channels();
        let (w, positions) = (&self.window, self.window.positions());
        let taps = ins * w.taps();
        let images = y.chunks_exact(outs * positions).zip(grad.chunks_exact_mut(ins * w.pixels()));
        for (index, (y, grad)) in images.enumerate() {
            let Some(part) = w.support(y, scratch) else { continue };
            let group = index % self.groups;
            let kernel = &weight[group * outs * taps..][..outs * taps];
            let size = part[0].len() * part[1].len();
            scratch.resize((taps + outs) * size, T::zero());
            let (patches, few) = scratch.split_at_mut(taps * size);
            let lines = y.chunks_exact(w.out[1]).enumerate();
            let lines = lines.filter(|(line, _)| part[0].contains(&(line % w.out[0])));
            for (few, (_, line)) in few.chunks_exact_mut(part[1].len()).zip(lines) {
                few.copy_from_slice(&line[part[1].clone()]);
            }
            // A single entry picks one kernel; the others would add zeros.
            let mut entries = few.iter().enumerate().filter(|(_, y)| **y != T::zero());
            match (entries.next(), entries.next()) {
                (Some((channel, &y)), None) if size == 1 => {
                    let kernel = &kernel[channel * taps..][..taps];
                    patches.iter_mut().zip(kernel).for_each(|(p, &k)| *p = y * k);
                }
                _ => {
                    let y = Matrix::new(few, outs, size).t();
                    matmul(patches, y, Matrix::new(kernel, outs, taps), false);
                }
            }
            w.col2im(&part, patches, grad);
        }
    }

    pub(super) fn linear<T: Scalar>(&self, pick: Pick<T>, x: &[T], out: &mut [T], scratch: &mut Vec<T>) {
        if self.transposed {
            out.fill(T::zero());
            self.convolve_back(pick(&self.weight), x, out, scratch);
        } else {
            self.convolve(pick(&self.weight), x, out, scratch);
        }
    }

    pub(super) fn adjoint<T: Scalar>(&self, pick: Pick<T>, y: &[T], grad: &mut [T], scratch: &mut Vec<T>) {
        if self.transposed {
            let mut part = vec![T::zero(); grad.len()];
            self.convolve(pick(&self.weight), y, &mut part, scratch);
            grad.iter_mut().zip(part).for_each(|(g, p)| *g += p);
        } else {
            self.convolve_back(pick(&self.weight), y, grad, scratch);
        }
    }

    pub(super) fn terms(&self) -> usize {
        self.group_channels()[usize::from(self.transposed)] * self.window.taps()
    }

    pub(super) fn adjoint_terms(&self) -> usize {
        self.group_channels()[usize::from(!self.transposed)] * self.window.taps()
    }

    pub(super) fn multiply_adds(&self) -> usize {
        let [ins, outs] = self.group_channels();
        self.groups * ins * outs * self.window.taps() * self.window.positions()
    }
}
