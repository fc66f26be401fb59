//! Dense layers and convolutions of many samples side by side.
//!
//! An activation of `LANES` samples holds them entry by entry: entry `i` of
//! sample `s` stands at `i * LANES + s`. One weight then meets whole vectors of
//! samples, windows need no unrolling, and what a window reads beyond the edge
//! is left out instead of padded. Six outputs are summed at once in registers:
//! 6 weights and `LANES` numbers are loaded for `6 LANES` multiply-adds.

use super::{Kernel, Scalar, dispatch};

/// Outputs that are summed together, as long as there are so many; the rest
/// goes in blocks of 4 or 2.
pub(super) const OUTPUTS: usize = <f32 as Scalar>::OUTPUTS;

/// Samples of a full tile: two vectors, so that twelve registers hold sums.
pub const WIDE: usize = 16;
/// Samples of a small tile: one vector.
pub const NARROW: usize = 8;

/// An affine map as sums that read the same inputs: all outputs at one place.
#[derive(Clone, Debug)]
pub struct Gather<T = f32> {
    /// For each group and block of outputs, `terms x width` weights; after those of a term their absolute
    /// values, if the type's kernels need them.
    weights: Vec<T>,
    /// Weights of one group.
    of_group: usize,
    /// One for each output of all groups.
    pub(super) bias: Vec<T>,
    terms: usize,
    pub(super) outputs: usize,
    /// Terms with the inputs that they read; those of many places differ by a
    /// shift only.
    pub(super) lists: Vec<List>,
    pub(super) places: Vec<Place>,
    /// Whether all weights are finite.
    pub(super) finite: bool,
    /// Outputs at one place stand this far apart.
    pub(super) stride: usize,
}

/// Terms with the inputs that they read.
#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) entries: Vec<[u32; 2]>,
    /// Above all terms and all inputs.
    pub(super) reach: [usize; 2],
}

/// The outputs of a block that starts at output `first` of `outputs`: a third, two thirds or all of the
/// type's greatest.
pub(super) fn width<T: Scalar>(first: usize, outputs: usize) -> usize {
    (outputs - first).min(T::OUTPUTS).next_multiple_of(T::OUTPUTS / 3)
}

/// Where the outputs of one group at one place come from and go to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) list: u32,
    /// Added to the inputs of the list.
    pub(super) shift: u32,
    group: u32,
    /// Where the bias of the outputs begins.
    pub(super) bias: u32,
    /// The first output.
    pub(super) target: u32,
}

/// The shape of a [`Gather`].
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Weights of one output.
    pub terms: usize,
    /// Outputs of one group at one place.
    pub outputs: usize,
    /// Groups, each with weights of its own.
    pub groups: usize,
    /// How often the groups repeat, with the same weights.
    pub repeats: usize,
    /// Entries of the input that belong to one group.
    pub inputs: usize,
}

/// What happens to the sums before they are written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Finish<'a> {
    /// Values that are added, of the output's shape.
    pub add: Option<&'a [f32]>,
    /// Whether negative results become zero.
    pub relu: bool,
}

impl<T: Scalar> Gather<T> {
    /// Packs a map. `weight(group, output, term)` and `bias(repeat * groups +
    /// group, output)` are its constants. `lists` hold terms with the inputs of
    /// the first group that they read, and `places` give for every place a list
    /// and what is added to its inputs. Output `o` of group `g` at place `p` is
    /// entry `(g * outputs + o) * places + p`, where groups count on from one
    /// repeat to the next.
    ///
    /// # Panics
    /// If there are 2^32 entries or more.
    #[must_use]
    pub fn new(
        layout: Layout,
        weight: impl Fn(usize, usize, usize) -> T,
        bias: impl Fn(usize, usize) -> T,
        lists: Vec<Vec<[u32; 2]>>,
        places: &[[usize; 2]],
    ) -> Self {
        let Layout { terms, outputs, groups, repeats, inputs } = layout;
        let small = |x: usize| u32::try_from(x).expect("a value holds less than 2^32 entries");
        let mut weights = Vec::new();
        for group in 0..groups {
            for first in (0..outputs).step_by(T::OUTPUTS) {
                let block = first..first + width::<T>(first, outputs);
                for term in 0..terms {
                    let of = |o: usize| if o < outputs { weight(group, o, term) } else { T::zero() };
                    weights.extend(block.clone().map(of));
                    if T::SIZES {
                        weights.extend(block.clone().map(|o| of(o).abs()));
                    }
                }
            }
        }
        let list = |entries: Vec<[u32; 2]>| {
            let reach = [0, 1].map(|k| entries.iter().map(|e| e[k] as usize + 1).max().unwrap_or(0));
            assert!(reach[0] <= terms, "lists name terms");
            List { entries, reach }
        };
        let lists = lists.into_iter().map(list).collect();
        let biases = (0..repeats * groups).flat_map(|g| (0..outputs).map(move |o| (g, o)));
        let bias = biases.map(|(g, o)| bias(g, o)).collect();
        let stride = places.len();
        let at = |(group, place): (usize, usize)| Place {
            list: small(places[place][0]),
            shift: small(places[place][1] + group * inputs),
            group: small(group % groups),
            bias: small(group * outputs),
            target: small(group * outputs * stride + place),
        };
        let places = (0..repeats * groups).flat_map(|g| (0..stride).map(move |p| (g, p))).map(at).collect();
        let of_group = weights.len() / groups.max(1);
        let finite = weights.iter().all(|w| w.is_finite());
        Self { weights, of_group, bias, terms, outputs, lists, places, finite, stride }
    }

    /// Blocks of at most [`Scalar::OUTPUTS`] outputs of the group of a place: the first output, how many, and
    /// their weights.
    #[inline(always)]
    pub(super) fn blocks(&self, place: &Place) -> impl Iterator<Item = (usize, usize, &[T])> {
        let mut weights = &self.weights[place.group as usize * self.of_group..];
        (0..self.outputs).step_by(T::OUTPUTS).map(move |first| {
            let width = width::<T>(first, self.outputs);
            let (block, rest) = weights.split_at(self.terms * width * (1 + usize::from(T::SIZES)));
            weights = rest;
            (first, width, block)
        })
    }
}

impl Gather {
    /// `out = A x + b`, finished, for `LANES` samples side by side.
    ///
    /// Every sum is over the terms of its list in order, in the same way for
    /// every sample and every `LANES`, so that a sample's result does not
    /// depend on where it stands.
    ///
    /// # Panics
    /// If `x` or `out` is too short.
    pub fn apply<const LANES: usize>(&self, x: &[f32], out: &mut [f32], finish: Finish) {
        dispatch(Apply::<LANES> { map: self, x, out, finish });
    }
}

struct Apply<'a, const LANES: usize> {
    map: &'a Gather,
    x: &'a [f32],
    out: &'a mut [f32],
    finish: Finish<'a>,
}

impl<const LANES: usize> Kernel for Apply<'_, LANES> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(mut self) {
        let map = self.map;
        for place in &map.places {
            for (first, width, block) in map.blocks(place) {
                match width {
                    2 => self.block::<2, FUSED>(block, place, first),
                    4 => self.block::<4, FUSED>(block, place, first),
                    _ => self.block::<OUTPUTS, FUSED>(block, place, first),
                }
            }
        }
    }
}

impl<const LANES: usize> Apply<'_, LANES> {
    /// The outputs of one place from `first` on, as many as a block has.
    #[inline(always)]
    #[expect(unsafe_code, reason = "the terms and inputs of a list are checked once before its sums")]
    fn block<const WIDTH: usize, const FUSED: bool>(&mut self, weights: &[f32], place: &Place, first: usize) {
        let (map, list) = (self.map, &self.map.lists[place.list as usize]);
        let (weights, _) = weights.as_chunks::<WIDTH>();
        let (x, _) = self.x[place.shift as usize * LANES..].as_chunks::<LANES>();
        assert!(list.reach[0] <= weights.len() && list.reach[1] <= x.len(), "lists stay inside");
        let sums = sums::<LANES, WIDTH, FUSED>(list.entries.iter().map(|&[term, input]| {
            // SAFETY: terms and inputs are below the reach, which was just checked.
            unsafe { (weights.get_unchecked(term as usize), x.get_unchecked(input as usize)) }
        }));
        for (o, sum) in (first..map.outputs).zip(&sums) {
            let (place, bias) = (place.target as usize + o * map.stride, map.bias[place.bias as usize + o]);
            Target { place, bias, finish: self.finish }.write(self.out, sum);
        }
    }
}

/// Where the sums of one output go.
pub(super) struct Target<'a> {
    /// Which entry of the output.
    pub(super) place: usize,
    pub(super) bias: f32,
    pub(super) finish: Finish<'a>,
}

impl Target<'_> {
    #[inline(always)]
    pub(super) fn write<const LANES: usize>(self, out: &mut [f32], sum: &[f32; LANES]) {
        let at = self.place * LANES;
        let out: &mut [f32; LANES] = out[at..].first_chunk_mut().expect("room for all outputs");
        for lane in 0..LANES {
            out[lane] = sum[lane] + self.bias;
        }
        if let Some(add) = self.finish.add {
            let add: &[f32; LANES] = add[at..].first_chunk().expect("as many as outputs");
            for lane in 0..LANES {
                out[lane] += add[lane];
            }
        }
        if self.finish.relu {
            // NaN stays NaN.
            for y in out {
                *y = if *y < 0.0 { 0.0 } else { *y };
            }
        }
    }
}

/// The sums of a block of outputs: of each pair of weights and inputs, in order.
#[inline(always)]
pub(super) fn sums<'a, const LANES: usize, const WIDTH: usize, const FUSED: bool>(
    pairs: impl Iterator<Item = (&'a [f32; WIDTH], &'a [f32; LANES])>,
) -> [[f32; LANES]; WIDTH] {
    let mut sums = [[0.0; LANES]; WIDTH];
    for (weights, x) in pairs {
        for (sum, &weight) in sums.iter_mut().zip(weights) {
            for (sum, &x) in sum.iter_mut().zip(x) {
                *sum = if FUSED { weight.mul_add(x, *sum) } else { *sum + weight * x };
            }
        }
    }
    sums
}

/// Puts the rows of `x` (one sample each) side by side; lanes without a sample
/// become zero.
pub fn side_by_side<const LANES: usize>(x: &[f32], len: usize, out: &mut [f32]) {
    let samples = x.len() / len.max(1);
    for (i, out) in out.as_chunks_mut::<LANES>().0[..len].iter_mut().enumerate() {
        if samples == LANES {
            for (lane, out) in out.iter_mut().enumerate() {
                *out = x[lane * len + i];
            }
        } else {
            for (lane, out) in out.iter_mut().enumerate() {
                *out = if lane < samples { x[lane * len + i] } else { 0.0 };
            }
        }
    }
}

/// The reverse of [`side_by_side`], for as many samples as `out` has room for.
pub fn one_by_one<const LANES: usize>(x: &[f32], len: usize, out: &mut [f32]) {
    for (lane, row) in out.chunks_exact_mut(len.max(1)).enumerate() {
        for (out, x) in row.iter_mut().zip(x.as_chunks::<LANES>().0) {
            *out = x[lane];
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A layout with lists and places.
    pub(in super::super) type Shape = (Layout, Vec<Vec<[u32; 2]>>, Vec<[usize; 2]>);

    pub(in super::super) fn shape() -> impl Strategy<Value = Shape> {
        (1_usize..20, 1_usize..11, [1_usize..4, 1..3], 1_usize..30).prop_flat_map(
            |(terms, outputs, [groups, repeats], inputs)| {
                let layout = Layout { terms, outputs, groups, repeats, inputs };
                let list = prop::collection::vec([0..terms as u32, 0..inputs as u32], 0..25);
                let lists = prop::collection::vec(list, 1..4);
                (Just(layout), lists).prop_flat_map(|(layout, lists)| {
                    let places = prop::collection::vec((0..lists.len()).prop_map(|list| [list, 0]), 1..6);
                    (Just(layout), Just(lists), places)
                })
            },
        )
    }

    pub(in super::super) fn weight(g: usize, o: usize, k: usize) -> f32 {
        ((g * 31 + o * 7 + k * 3) % 17) as f32 - 8.0
    }

    pub(in super::super) fn bias(g: usize, o: usize) -> f32 {
        (g * 5 + o) as f32 - 6.0
    }

    proptest! {
        #[test]
        fn sums_follow_the_definition_for_any_number_of_samples(
            (layout, lists, places) in shape(),
            seed in 0_usize..100,
            samples in 1_usize..=WIDE,
            relu in any::<bool>(),
            added in any::<bool>(),
        ) {
            let (n, groups) = (places.len(), layout.groups * layout.repeats);
            let (inputs, outputs) = (groups * layout.inputs, groups * layout.outputs * n);
            // Integers: every order of summing gives the same.
            let x: Vec<f32> = (0..samples * inputs).map(|i| ((i * i + seed) % 13) as f32 - 6.0).collect();
            let add: Vec<f32> = (0..samples * outputs).map(|i| (i % 7) as f32 - 3.0).collect();
            let mut expected = vec![0.0; samples * outputs];
            for s in 0..samples {
                for g in 0..groups {
                    for o in 0..layout.outputs {
                        for (p, &[list, shift]) in places.iter().enumerate() {
                            let at = |&[k, i]: &[u32; 2]| {
                                weight(g % layout.groups, o, k as usize) * x[s * inputs + g * layout.inputs + shift + i as usize]
                            };
                            let target = s * outputs + (g * layout.outputs + o) * n + p;
                            let mut y = lists[list].iter().map(at).sum::<f32>() + bias(g, o);
                            y += if added { add[target] } else { 0.0 };
                            expected[target] = if relu { y.max(0.0) } else { y };
                        }
                    }
                }
            }
            let map = Gather::new(layout, weight, bias, lists, &places);
            prop_assert_eq!(&run::<WIDE>(&map, &x, inputs, &add, outputs, added, relu), &expected);
            if samples <= NARROW {
                prop_assert_eq!(&run::<NARROW>(&map, &x, inputs, &add, outputs, added, relu), &expected);
            }
        }
    }

    fn run<const LANES: usize>(
        map: &Gather,
        x: &[f32],
        inputs: usize,
        add: &[f32],
        outputs: usize,
        added: bool,
        relu: bool,
    ) -> Vec<f32> {
        let samples = x.len() / inputs;
        let (mut beside, mut others) = (vec![f32::NAN; inputs * LANES], vec![f32::NAN; outputs * LANES]);
        side_by_side::<LANES>(x, inputs, &mut beside);
        side_by_side::<LANES>(add, outputs, &mut others);
        let finish = Finish { add: added.then_some(&others[..]), relu };
        let mut out = vec![f32::NAN; outputs * LANES];
        map.apply::<LANES>(&beside, &mut out, finish);
        let mut portable = vec![f32::NAN; outputs * LANES];
        Apply::<LANES> { map, x: &beside, out: &mut portable, finish }.run::<false>();
        assert_eq!(out, portable, "integers, exactly");
        let mut rows = vec![f32::NAN; samples * outputs];
        one_by_one::<LANES>(&out, outputs, &mut rows);
        rows
    }
}
