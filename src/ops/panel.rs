//! Affine maps backward on panels of linear functions.

use std::borrow::Cow;

use super::{Affine, Conv, Dense, Sparse, Weights};
use crate::kernels::{Block, Entries, Kernel, Neighbours, Panel, Taps, accumulate, dispatch};

/// Where the entries of a value stand in a panel: after one convolution the channels of a pixel side by
/// side, as the next one back reads them together; else in their own order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    channels: usize,
    pixels: usize,
}

impl Order {
    /// Entries in their own order.
    pub const PLAIN: Self = Self { channels: 1, pixels: 1 };

    /// The order of what an affine map makes of a value of this order. An elementwise function, `None`,
    /// keeps it.
    #[must_use]
    pub fn after(self, op: Option<&Affine>) -> Self {
        match op {
            Some(Affine::Conv(op)) => {
                let above = usize::from(!op.transposed);
                let pixels = [op.window.pixels(), op.window.positions()][above];
                Self { channels: op.channels[above], pixels }
            }
            Some(Affine::Dense(_) | Affine::Sparse(_)) => Self::PLAIN,
            Some(Affine::Scale(_) | Affine::Sum(_)) | None => self,
        }
    }

    /// The place of an entry.
    #[inline]
    #[must_use]
    pub fn place(&self, entry: usize) -> usize {
        let within = entry % (self.channels * self.pixels);
        entry - within + within % self.pixels * self.channels + within / self.pixels
    }

    /// The entry at a place.
    #[inline]
    #[must_use]
    pub fn entry(&self, place: usize) -> usize {
        Self { channels: self.pixels, pixels: self.channels }.place(place)
    }

    /// The entries of a value in the order of their places.
    pub fn entries(self, len: usize) -> impl Iterator<Item = usize> + Clone {
        let (image, pixels) = (self.channels * self.pixels, self.pixels);
        let of_pixel = move |pixel| (pixel..pixel + image).step_by(pixels);
        (0..len).step_by(image).flat_map(move |first| (first..first + pixels).flat_map(of_pixel))
    }
}

/// `A^T` of an affine map, arranged once for many panels.
pub struct PanelAdjoint<'a> {
    op: &'a Affine,
    /// Orders of the inputs.
    from: Vec<Order>,
    /// The entries of the output in the order of their places.
    entries: Vec<u32>,
    /// For maps that go entry by entry, where each of those stands in each input, and its factor there: one
    /// for all or one for each.
    places: Vec<Vec<u32>>,
    factors: Vec<Vec<f64>>,
    blocks: Option<Blocks<'a>>,
}

/// A dense layer or convolution as many small products: blocks of outputs that are read at one place, one
/// after the other, and the inputs that any of them reads.
struct Blocks<'a> {
    /// For each tap one number for each output, side by side.
    weights: Cow<'a, [f64]>,
    /// Outputs of a block.
    size: usize,
    /// Lists of taps; those of many blocks differ by a shift only.
    classes: Vec<Taps>,
    all: Vec<Source>,
}

/// Where a block's coefficients go.
struct Source {
    class: u32,
    /// Where the weights of the taps begin.
    weights: u32,
    /// Added to the targets of the taps.
    shift: u32,
}

/// Memory of passes back through a network.
#[derive(Default)]
pub struct Workspace {
    live: Vec<u32>,
    free: Vec<Panel>,
}

impl Workspace {
    /// A panel of zeros for a value of `len` entries.
    pub fn panel(&mut self, len: usize) -> Panel {
        let mut panel = self.free.pop().unwrap_or_default();
        panel.reset(len);
        panel
    }

    /// Takes a panel that is not needed any more.
    pub fn give_back(&mut self, panel: Panel) {
        self.free.push(panel);
    }
}

impl<'a> PanelAdjoint<'a> {
    /// Arranges a map whose inputs have the orders `from` and whose output has `len` entries. The output's
    /// order is the first input's [`Order::after`] the map.
    #[must_use]
    pub fn new(op: &'a Affine, from: &[Order], len: usize) -> Self {
        let blocks = match op {
            Affine::Dense(dense) => Some(Blocks::dense(dense, from[0])),
            Affine::Conv(conv) => Some(Blocks::conv(conv, from[0], len)),
            _ => None,
        };
        let to = from[0].after(Some(op));
        let entries: Vec<u32> = to.entries(len).map(|entry| entry as u32).collect();
        let of = |from: &Order| entries.iter().map(|&entry| from.place(entry as usize) as u32).collect();
        let factors: Vec<Vec<f64>> = match op {
            Affine::Scale(op) => match &op.scale {
                None => vec![vec![1.0]],
                Some(scale) => vec![entries.iter().map(|&entry| scale.at(entry as usize)).collect()],
            },
            Affine::Sum(op) => op.coefficients.exact().iter().map(|&factor| vec![factor]).collect(),
            Affine::Dense(_) | Affine::Conv(_) | Affine::Sparse(_) => Vec::new(),
        };
        let places = if factors.is_empty() { Vec::new() } else { from.iter().map(of).collect() };
        Self { op, from: from.to_vec(), entries, places, factors, blocks }
    }

    /// `grads[i] += A_i^T f(y)` for every input `i`, where `A = [A_0 A_1 ...]`, with at most
    /// [`Affine::adjoint_terms`] terms in each sum. `f` changes the entries of `y` before they are used,
    /// some at a time and each once; `y` becomes zero. That way what is read, changed and used stays in
    /// the cache.
    ///
    /// # Panics
    /// If the panels do not have the lengths of the map's inputs and output.
    pub fn add_to(
        &self,
        y: &mut Panel,
        grads: &mut [Panel],
        memory: &mut Workspace,
        mut f: impl FnMut(&mut Block),
    ) {
        if let Some(blocks) = &self.blocks {
            return y.drain(blocks.size, &mut memory.live, |number, y| {
                f(y);
                let Source { class, weights, shift } = blocks.all[number];
                let (weights, taps) = (&blocks.weights[weights as usize..], &blocks.classes[class as usize]);
                accumulate(weights, y, taps, shift as usize, &mut grads[0]);
            });
        }
        y.drain(self.entries.len(), &mut memory.live, |_, y| {
            f(y);
            if let Affine::Sparse(op) = self.op {
                return self.add_sparse(op, y, grads);
            }
            for ((grad, places), factors) in grads.iter_mut().zip(&self.places).zip(&self.factors) {
                dispatch(Entrywise { y, grad, places, factors });
            }
        });
    }

    fn add_sparse(&self, op: &Sparse, y: &mut Block, grads: &mut [Panel]) {
        let weights = op.weights.as_ref().map(Weights::exact);
        y.update(|place, y| {
            let (first, group) = op.groups.get(self.entries[place] as usize);
            for (offset, &entry) in group.iter().enumerate() {
                let (mut input, mut entry) = (0, entry as usize);
                while entry >= op.inputs[input] {
                    entry -= op.inputs[input];
                    input += 1;
                }
                let factor = weights.map_or(1.0, |w| w[first + offset]);
                let sum = grads[input].entry(self.from[input].place(entry));
                sum.0.iter_mut().zip(&y.0).for_each(|(sum, y)| *sum += factor * y);
            }
            true
        });
    }
}

/// Adds `factor * y` to the entry at another place; one factor for all, or one for each place.
struct Entrywise<'a, 'b> {
    y: &'a mut Block<'b>,
    grad: &'a mut Panel,
    places: &'a [u32],
    factors: &'a [f64],
}

impl Kernel for Entrywise<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        self.y.update(|place, y| {
            let factor = self.factors[if self.factors.len() == 1 { 0 } else { place }];
            let sum = self.grad.entry(self.places[place] as usize);
            *sum = sum.map(|lane, sum| sum + factor * y.0[lane]);
            true
        });
    }
}

impl<'a> Blocks<'a> {
    fn dense(op: &'a Dense, from: Order) -> Self {
        let tap = |row: usize, i: usize| [(i * op.outputs) as u32, from.place(row * op.inputs + i) as u32];
        let row = |row| Taps::new((0..op.inputs).map(|i| tap(row, i)).collect());
        // Rows of a value in its own order differ by a shift.
        let plain = from == Order::PLAIN;
        let classes = (0..if plain { op.rows.min(1) } else { op.rows }).map(row).collect();
        let source = |row| {
            let [class, shift] = if plain { [0, row * op.inputs] } else { [row, 0] };
            Source { class: class as u32, weights: 0, shift: shift as u32 }
        };
        let all = (0..op.rows).map(source).collect();
        Self { weights: Cow::Borrowed(op.weight.exact()), size: op.outputs, classes, all }
    }

    /// The output, of `len` entries, may hold several images.
    fn conv(op: &Conv, from: Order, len: usize) -> Self {
        let window = &op.window;
        let [ins, outs] = op.channels.map(|c| c / op.groups);
        let above = usize::from(!op.transposed);
        let (size, others) = ([ins, outs][above], [ins, outs][1 - above]);
        let (ends, kernel) = ([window.pixels(), window.positions()], window.taps());
        let Neighbours { lists, places: located } = window.neighbours(op.transposed);
        let taps = |list: &[[usize; 2]], first: usize| {
            let of = |&[tap, target]: &[usize; 2]| {
                (0..others).map(move |other| {
                    let to = from.place(first + other * ends[1 - above] + target);
                    [((tap * others + other) * size) as u32, to as u32]
                })
            };
            Taps::new(list.iter().flat_map(of).collect())
        };
        // Blocks of a value that stands as the convolution reads it differ by a shift.
        let own = Order { channels: op.channels[1 - above], pixels: ends[1 - above] };
        let shifted = from == Order::PLAIN || from == own;
        let mut classes: Vec<Taps> = Vec::new();
        if shifted {
            classes.extend(lists.iter().map(|list| taps(list, 0)));
        }
        let images = len / (op.channels[above] * ends[above]).max(1);
        let mut all = Vec::with_capacity(images * op.groups * located.len());
        for (image, &[class, first]) in (0..images).flat_map(|image| located.iter().map(move |l| (image, l)))
        {
            for group in 0..op.groups {
                let first = (image * op.groups + group) * others * ends[1 - above] + first;
                let weights = (group * kernel * others * size) as u32;
                let (class, shift) = if shifted {
                    (class, from.place(first))
                } else {
                    classes.push(taps(&lists[class], first));
                    (classes.len() - 1, 0)
                };
                all.push(Source { class: class as u32, weights, shift: shift as u32 });
            }
        }
        // From `group, out, in, tap` to `group, tap, other, output`.
        let weight = op.weight.exact();
        let mut weights = Vec::with_capacity(weight.len());
        for group in 0..op.groups {
            for (tap, other) in (0..kernel).flat_map(|tap| (0..others).map(move |other| (tap, other))) {
                weights.extend((0..size).map(|output| {
                    let [i, o] = if op.transposed { [output, other] } else { [other, output] };
                    weight[((group * outs + o) * ins + i) * kernel + tap]
                }));
            }
        }
        Self { weights: Cow::Owned(weights), size, classes, all }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::LANES;
    use crate::kernels::Window2d;
    use crate::ops::{Groups, Periodic, Scale, Sum};

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

    /// Plain, or the channels that a convolution reads side by side, or any other arrangement.
    fn order(op: &Affine, len: usize, choice: usize) -> Order {
        match (choice, op) {
            (0..4, _) => Order::PLAIN,
            (4..8, Affine::Conv(op)) if op.transposed => {
                Order { channels: op.channels[1], pixels: op.window.positions() }
            }
            (4..8, Affine::Conv(op)) => Order { channels: op.channels[0], pixels: op.window.pixels() },
            _ => {
                let divisors: Vec<usize> = (1..=len.max(1)).filter(|d| len.is_multiple_of(*d)).collect();
                let channels = divisors[choice % divisors.len()];
                Order { channels, pixels: (len / channels).max(1) }
            }
        }
    }

    #[test]
    fn places_and_entries_are_each_others_reverse() {
        let order = Order { channels: 3, pixels: 4 };
        assert_eq!(order.entries(24).take(7).collect::<Vec<_>>(), [0, 4, 8, 1, 5, 9, 2]);
        for order in [order, Order::PLAIN, Order { channels: 24, pixels: 1 }] {
            for (place, entry) in order.entries(24).enumerate() {
                assert_eq!((order.place(entry), order.entry(place)), (place, entry));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        #[test]
        fn panels_go_back_as_single_functions_do(
            op in prop_oneof![conv(), other()],
            seed in 0_usize..100,
            sparsity in 1_usize..5,
            images in 1_usize..3,
            orders in 0_usize..12,
        ) {
            let (inputs, outputs) = lens(&op, images);
            // Integers, so that the order of sums does not matter.
            let rows: Vec<Vec<f64>> = (0..LANES).map(|lane| integers(outputs, seed + lane)).collect();
            let from: Vec<Order> = inputs.iter().map(|&len| order(&op, len, orders)).collect();
            let to = from[0].after(Some(&op));
            let mut y = Panel::default();
            y.reset(outputs);
            for i in (0..outputs).filter(|i| (i + seed) % sparsity == 0) {
                rows.iter().zip(&mut y.entry(to.place(i)).0).for_each(|(row, lane)| *lane = row[i]);
            }
            let mut grads = vec![Panel::default(); inputs.len()];
            grads.iter_mut().zip(&inputs).for_each(|(grad, &len)| grad.reset(len));
            let adjoint = PanelAdjoint::new(&op, &from, outputs);
            let mut memory = Workspace::default();
            adjoint.add_to(&mut y.clone(), &mut grads, &mut memory, |_| ());
            // Each entry is shown once before it is used.
            let mut shown = vec![0; outputs];
            adjoint.add_to(&mut y.clone(), &mut grads, &mut memory, |block| {
                block.update(|place, lane| {
                    shown[to.entry(place)] += 1;
                    lane.0.iter_mut().for_each(|x| *x *= 2.0);
                    !lane.is_zero()
                });
            });
            let expected: Vec<usize> = (0..outputs).map(|i| usize::from((i + seed) % sparsity == 0)).collect();
            prop_assert_eq!(shown, expected);
            for lane in 0..LANES {
                let row: Vec<f64> = (0..outputs).map(|i| 3.0 * y.get(to.place(i)).0[lane]).collect();
                let mut expected: Vec<Vec<f64>> = inputs.iter().map(|&len| vec![0.0; len]).collect();
                let mut below: Vec<&mut [f64]> = expected.iter_mut().map(Vec::as_mut_slice).collect();
                op.adjoint(Weights::exact, 1, &row, &mut below, &mut Vec::new());
                for ((grad, expected), order) in grads.iter().zip(&expected).zip(&from) {
                    let found: Vec<f64> =
                        (0..expected.len()).map(|i| grad.get(order.place(i)).0[lane]).collect();
                    prop_assert_eq!(&found, expected);
                }
            }
        }
    }
}
