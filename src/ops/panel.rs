//! Affine maps backward on panels of linear functions.

use std::borrow::Cow;

use super::{Affine, Conv, Dense, Weights};
use crate::kernels::{LANES, Lane, Neighbours, Panel, Taps, accumulate};

/// `A^T` of an affine map, arranged once for many panels.
pub struct PanelAdjoint<'a> {
    op: &'a Affine,
    blocks: Option<Blocks<'a>>,
}

/// A dense layer or convolution as many small products: outputs that are read
/// at one place, and the inputs that any of them reads.
struct Blocks<'a> {
    /// For each tap one number for each term, side by side.
    weights: Cow<'a, [f64]>,
    /// The block of every output, and which of its terms that is.
    places: Vec<[u32; 2]>,
    /// Lists of taps; those of many blocks differ by a shift only.
    classes: Vec<Taps>,
    all: Vec<Block>,
}

struct Block {
    class: u32,
    /// Where the weights of the taps begin.
    weights: u32,
    /// Added to the targets of the taps.
    shift: u32,
}

/// Working memory of a [`PanelAdjoint`].
#[derive(Default)]
pub struct Scratch {
    /// Where the outputs of each block end.
    ends: Vec<u32>,
    terms: Vec<u32>,
    y: Vec<Lane>,
    /// Of [`PanelAdjoint::add_rows`].
    above: Panel,
    below: Vec<Panel>,
}

impl<'a> PanelAdjoint<'a> {
    /// Arranges a map whose output has `len` entries.
    #[must_use]
    pub fn new(op: &'a Affine, len: usize) -> Self {
        let blocks = match op {
            Affine::Dense(dense) => Some(Blocks::dense(dense)),
            Affine::Conv(conv) => Some(Blocks::conv(conv, len)),
            _ => None,
        };
        Self { op, blocks }
    }

    /// `grads[i] += A_i^T y` for every input `i`, where `A = [A_0 A_1 ...]`,
    /// with at most [`Affine::adjoint_terms`] terms in each sum.
    ///
    /// # Panics
    /// If the panels do not have the lengths of the map's inputs and output.
    pub fn add_to(&self, y: &Panel, grads: &mut [Panel], scratch: &mut Scratch) {
        let scaled = |grad: &mut Panel, to: usize, from: usize, factor: f64| {
            let (sum, y) = (grad.entry(to), y.get(from));
            for lane in 0..LANES {
                sum.0[lane] += factor * y.0[lane];
            }
        };
        match self.op {
            Affine::Dense(_) | Affine::Conv(_) => {
                let blocks = self.blocks.as_ref().expect("arranged when made");
                blocks.add_to(y, &mut grads[0], scratch);
            }
            Affine::Scale(op) => {
                let factor = |i| op.scale.as_ref().map_or(1.0, |s| s.at(i));
                y.live().for_each(|i| scaled(&mut grads[0], i, i, factor(i)));
            }
            Affine::Sum(op) => {
                for (grad, &factor) in grads.iter_mut().zip(op.coefficients.exact()) {
                    y.live().for_each(|i| scaled(grad, i, i, factor));
                }
            }
            Affine::Sparse(op) => {
                let weights = op.weights.as_ref().map(Weights::exact);
                for i in y.live() {
                    let (first, group) = op.groups.get(i);
                    for (offset, &entry) in group.iter().enumerate() {
                        let (mut input, mut entry) = (0, entry as usize);
                        while entry >= op.inputs[input] {
                            entry -= op.inputs[input];
                            input += 1;
                        }
                        scaled(&mut grads[input], entry, i, weights.map_or(1.0, |w| w[first + offset]));
                    }
                }
            }
        }
    }
}

impl PanelAdjoint<'_> {
    /// `grads[i] += A_i^T y` for linear functions one after the other: `rows x len` coefficients each,
    /// panel by panel.
    ///
    /// # Panics
    /// If the lengths do not fit the map and each other.
    pub fn add_rows(&self, rows: usize, y: &[f64], grads: &mut [&mut [f64]], scratch: &mut Scratch) {
        let len = y.len() / rows.max(1);
        let lens: Vec<usize> = grads.iter().map(|grad| grad.len() / rows.max(1)).collect();
        let mut above = std::mem::take(&mut scratch.above);
        let mut below = std::mem::take(&mut scratch.below);
        below.resize_with(grads.len().max(below.len()), Panel::default);
        for first in (0..rows).step_by(LANES) {
            let count = LANES.min(rows - first);
            above.reset(len);
            above.fill(|lane| (lane < count).then(|| &y[(first + lane) * len..][..len]));
            below.iter_mut().zip(&lens).for_each(|(panel, &len)| panel.reset(len));
            self.add_to(&above, &mut below[..grads.len()], scratch);
            for ((grad, panel), &len) in grads.iter_mut().zip(&below).zip(&lens) {
                for entry in panel.live() {
                    for (lane, part) in panel.get(entry).0[..count].iter().enumerate() {
                        grad[(first + lane) * len + entry] += part;
                    }
                }
            }
        }
        (scratch.above, scratch.below) = (above, below);
    }
}

impl<'a> Blocks<'a> {
    fn dense(op: &'a Dense) -> Self {
        let taps = (0..op.inputs).map(|i| [(i * op.outputs) as u32, i as u32]).collect();
        let all = (0..op.rows).map(|r| Block { class: 0, weights: 0, shift: (r * op.inputs) as u32 });
        let (all, weights) = (all.collect(), Cow::Borrowed(op.weight.exact()));
        let places = (0..op.rows * op.outputs).map(|i| [i / op.outputs, i % op.outputs].map(|x| x as u32));
        Self { weights, places: places.collect(), classes: vec![Taps::new(taps)], all }
    }

    /// The output, of `len` entries, may hold several images.
    fn conv(op: &Conv, len: usize) -> Self {
        let window = &op.window;
        let [ins, outs] = op.channels.map(|c| c / op.groups);
        // A plain convolution goes back from positions to pixels, a transposed
        // one from pixels to positions.
        let (from, to) = (usize::from(!op.transposed), usize::from(op.transposed));
        let (terms, others) = ([ins, outs][from], [ins, outs][to]);
        let ends = [window.pixels(), window.positions()];
        let (stride, size) = (ends[from], ends[to]);
        let Neighbours { lists, places: located } = window.neighbours(op.transposed);
        let taps = |list: Vec<[usize; 2]>| {
            let of = |other| {
                let tap = move |&[tap, target]: &[usize; 2]| {
                    [((other * window.taps() + tap) * terms) as u32, (other * size + target) as u32]
                };
                list.iter().map(tap)
            };
            Taps::new((0..others).flat_map(of).collect())
        };
        let classes = lists.into_iter().map(taps).collect();
        let kernel = window.taps();
        // Groups count on from image to image.
        let groups = len / (terms * stride).max(1);
        let all = (0..groups).flat_map(|group| {
            located.iter().map(move |&[class, first]| Block {
                class: class as u32,
                weights: (group % op.groups * others * kernel * terms) as u32,
                shift: (group * others * size + first) as u32,
            })
        });
        let all = all.collect();
        // From `group, out, in, tap` to `group, other, tap, term`.
        let weight = op.weight.exact();
        let mut weights = Vec::with_capacity(weight.len());
        for group in 0..op.groups {
            for other in 0..others {
                for tap in 0..kernel {
                    weights.extend((0..terms).map(|term| {
                        let [i, o] = if op.transposed { [term, other] } else { [other, term] };
                        weight[((group * outs + o) * ins + i) * kernel + tap]
                    }));
                }
            }
        }
        let places = (0..groups * terms * stride).map(|i| {
            let (rest, place) = (i / stride, i % stride);
            [rest / terms * stride + place, rest % terms].map(|x| x as u32)
        });
        Self { weights: Cow::Owned(weights), places: places.collect(), classes, all }
    }

    fn add_to(&self, y: &Panel, grad: &mut Panel, scratch: &mut Scratch) {
        let Scratch { ends, terms, y: sorted, .. } = scratch;
        ends.clear();
        ends.resize(self.all.len() + 1, 0);
        // A counting sort by block.
        y.live().for_each(|output| ends[self.places[output][0] as usize + 1] += 1);
        let mut total = 0;
        for end in &mut *ends {
            total += *end;
            *end = total;
        }
        terms.resize(total as usize, 0);
        sorted.resize(total as usize, Lane::ZERO);
        for output in y.live() {
            let [block, term] = self.places[output];
            let place = &mut ends[block as usize];
            terms[*place as usize] = term;
            sorted[*place as usize] = *y.get(output);
            *place += 1;
        }
        let mut first = 0;
        for (block, &end) in self.all.iter().zip(&*ends) {
            let range = first..end as usize;
            first = range.end;
            if !range.is_empty() {
                accumulate(
                    &self.weights[block.weights as usize..],
                    &terms[range.clone()],
                    &sorted[range],
                    &self.classes[block.class as usize],
                    block.shift as usize,
                    grad,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::Window2d;
    use crate::ops::{Groups, Periodic, Scale, Sparse, Sum};

    fn integers(n: usize, seed: usize) -> Vec<f64> {
        (0..n).map(|i| ((i + seed) * (i + 7 * seed + 3) % 17) as f64 - 8.0).collect()
    }

    fn conv() -> impl Strategy<Value = Affine> {
        let pair = |range: std::ops::Range<usize>| [range.clone(), range];
        let shape = (pair(1..7), pair(1..4), pair(1..4), pair(1..3), pair(0..4), pair(0..4));
        let channels = (pair(1..4), 1_usize..3, any::<bool>());
        (shape, channels).prop_filter_map("the kernel fits", |(shape, (channels, groups, transposed))| {
            let (image, kernel, stride, dilation, pad, after) = shape;
            let out = [0, 1].map(|a| {
                let span = dilation[a] * (kernel[a] - 1) + 1;
                (image[a] + pad[a] + after[a]).checked_sub(span).map_or(0, |free| free / stride[a] + 1)
            });
            let window = Window2d { image, kernel, stride, dilation, pad, out };
            let weight = Weights::new(integers(channels[0] * channels[1] * groups * window.taps(), 5));
            let channels = channels.map(|c| c * groups);
            let conv = Conv { window, channels, groups, weight, bias: None, transposed };
            (out[0] > 0 && out[1] > 0).then_some(Affine::Conv(conv))
        })
    }

    fn other() -> impl Strategy<Value = Affine> {
        let dense = (1_usize..4, 1_usize..9, 1_usize..9).prop_map(|(rows, inputs, outputs)| {
            let weight = Weights::new(integers(inputs * outputs, 2));
            Affine::Dense(Dense { rows, inputs, outputs, weight, bias: None })
        });
        let scale = (1_usize..4, 1_usize..4, any::<bool>()).prop_map(|(period, inner, scaled)| {
            let scale = scaled.then(|| Periodic::new(Weights::new(integers(period, 3)), inner));
            Affine::Scale(Scale { len: 2 * period * inner, scale, shift: None, shift_error: 0.0 })
        });
        let sum = (1_usize..4, 1_usize..20).prop_map(|(inputs, len)| {
            Affine::Sum(Sum { len, coefficients: Weights::new(integers(inputs, 4)) })
        });
        let lists = prop::collection::vec(prop::collection::vec(0_usize..15, 0..5), 1..12);
        let sparse = (lists, any::<bool>()).prop_map(|(lists, weighted)| {
            let groups = Groups::new(lists);
            let weights = weighted.then(|| Weights::new(integers(groups.entries(), 1)));
            Affine::Sparse(Sparse { inputs: vec![4, 0, 11], groups, weights, bias: None })
        });
        prop_oneof![dense, scale, sum, sparse]
    }

    /// Entries of the inputs and of the output, with as many images for a convolution.
    fn lens(op: &Affine, images: usize) -> (Vec<usize>, usize) {
        match op {
            Affine::Dense(op) => (vec![op.rows * op.inputs], op.rows * op.outputs),
            Affine::Conv(op) => {
                let mut ends = [op.channels[0] * op.window.pixels(), op.channels[1] * op.window.positions()];
                if op.transposed {
                    ends.reverse();
                }
                (vec![images * ends[0]], images * ends[1])
            }
            Affine::Scale(op) => (vec![op.len], op.len),
            Affine::Sum(op) => (vec![op.len; op.coefficients.exact().len()], op.len),
            Affine::Sparse(op) => (op.inputs.clone(), op.groups.len()),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn panels_go_back_as_single_functions_do(
            op in prop_oneof![conv(), other()],
            seed in 0_usize..100,
            sparsity in 1_usize..5,
            images in 1_usize..3,
        ) {
            let (inputs, outputs) = lens(&op, images);
            // Integers, so that the order of sums does not matter.
            let rows: Vec<Vec<f64>> = (0..LANES).map(|lane| integers(outputs, seed + lane)).collect();
            let mut y = Panel::default();
            y.reset(outputs);
            for i in (0..outputs).filter(|i| (i + seed) % sparsity == 0) {
                rows.iter().zip(&mut y.entry(i).0).for_each(|(row, lane)| *lane = row[i]);
            }
            let mut grads = vec![Panel::default(); inputs.len()];
            grads.iter_mut().zip(&inputs).for_each(|(grad, &len)| grad.reset(len));
            let adjoint = PanelAdjoint::new(&op, outputs);
            let mut scratch = Scratch::default();
            adjoint.add_to(&y, &mut grads, &mut scratch);
            adjoint.add_to(&y, &mut grads, &mut scratch);
            for lane in 0..LANES {
                let row: Vec<f64> = (0..outputs).map(|i| 2.0 * y.get(i).0[lane]).collect();
                let mut expected: Vec<Vec<f64>> = inputs.iter().map(|&len| vec![0.0; len]).collect();
                let mut below: Vec<&mut [f64]> = expected.iter_mut().map(Vec::as_mut_slice).collect();
                op.adjoint(Weights::exact, 1, &row, &mut below, &mut Vec::new());
                let mut alone: Vec<Vec<f64>> = inputs.iter().map(|&len| vec![0.0; len]).collect();
                let mut slices: Vec<&mut [f64]> = alone.iter_mut().map(Vec::as_mut_slice).collect();
                adjoint.add_rows(1, &row, &mut slices, &mut scratch);
                prop_assert_eq!(&alone, &expected);
                for (grad, expected) in grads.iter().zip(&expected) {
                    let found: Vec<f64> = (0..expected.len()).map(|i| grad.get(i).0[lane]).collect();
                    prop_assert_eq!(&found, expected);
                }
            }
            // More rows than a panel holds.
            let more: Vec<f64> = (0..LANES + 3).flat_map(|row| integers(outputs, row)).collect();
            let [mut found, mut expected] = [(); 2].map(|()| {
                inputs.iter().map(|&len| vec![1.0; (LANES + 3) * len]).collect::<Vec<Vec<f64>>>()
            });
            let mut slices: Vec<&mut [f64]> = found.iter_mut().map(Vec::as_mut_slice).collect();
            adjoint.add_rows(LANES + 3, &more, &mut slices, &mut scratch);
            let mut slices: Vec<&mut [f64]> = expected.iter_mut().map(Vec::as_mut_slice).collect();
            op.adjoint(Weights::exact, LANES + 3, &more, &mut slices, &mut Vec::new());
            prop_assert_eq!(found, expected);
        }
    }
}
