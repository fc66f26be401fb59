//! Dense layers and convolutions of many samples, or boxes, side by side.
//!
//! An activation of `LANES` samples holds them entry by entry: entry `i` of
//! sample `s` stands at `i * LANES + s`. One weight then meets whole vectors of
//! samples, windows need no unrolling, and what a window reads beyond the edge
//! is left out instead of padded. Six outputs are summed at once in registers:
//! 6 weights and `LANES` numbers are loaded for `6 LANES` multiply-adds.

use super::{Kernel, Scalar, dispatch};

/// Outputs that are summed together, as long as there are so many; the rest
/// goes in blocks of 4 or 2.
pub(super) const OUTPUTS: usize = 6;

/// Samples of a full tile: two vectors, so that twelve registers hold sums.
pub const WIDE: usize = 16;
/// Samples of a small tile: one vector.
pub const NARROW: usize = 8;

/// An affine map as sums that read the same inputs: all outputs at one place.
#[derive(Clone, Debug)]
pub struct Gather<T = f32> {
    /// For each group and block of outputs, `terms x width` weights.
    weights: Vec<T>,
    /// Weights of one group.
    of_group: usize,
    /// One for each output of all groups.
    bias: Vec<T>,
    terms: usize,
    outputs: usize,
    /// Terms with the inputs that they read; those of many places differ by a
    /// shift only.
    lists: Vec<List>,
    places: Vec<Place>,
    /// Whether all weights are finite.
    finite: bool,
    /// Outputs at one place stand this far apart.
    stride: usize,
}

/// Terms with the inputs that they read.
#[derive(Clone, Debug)]
struct List {
    entries: Vec<[u32; 2]>,
    /// Above all terms and all inputs.
    reach: [usize; 2],
}

/// The outputs of a block that starts at output `first` of `outputs`.
pub(super) fn width(first: usize, outputs: usize) -> usize {
    match outputs - first {
        1 | 2 => 2,
        3 | 4 => 4,
        _ => OUTPUTS,
    }
}

/// Where the outputs of one group at one place come from and go to.
#[derive(Clone, Copy, Debug)]
struct Place {
    list: u32,
    /// Added to the inputs of the list.
    shift: u32,
    group: u32,
    /// Where the bias of the outputs begins.
    bias: u32,
    /// The first output.
    target: u32,
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
            for first in (0..outputs).step_by(OUTPUTS) {
                let block = first..first + width(first, outputs);
                for term in 0..terms {
                    let of = |o: usize| if o < outputs { weight(group, o, term) } else { T::zero() };
                    weights.extend(block.clone().map(of));
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

    /// Blocks of at most [`OUTPUTS`] outputs of the group of a place: the first output, how many, and
    /// their weights.
    #[inline(always)]
    fn blocks(&self, place: &Place) -> impl Iterator<Item = (usize, usize, &[T])> {
        let mut weights = &self.weights[place.group as usize * self.of_group..];
        (0..self.outputs).step_by(OUTPUTS).map(move |first| {
            let width = width(first, self.outputs);
            let (block, rest) = weights.split_at(self.terms * width);
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

/// Boxes that go through a map together.
pub const BOXES: usize = 4;

/// One entry of [`BOXES`] boxes, as centres and radii; fills a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(align(64))]
pub struct Balls {
    /// Centres.
    pub centre: [f64; BOXES],
    /// Radii.
    pub radius: [f64; BOXES],
}

impl Balls {
    fn part(&mut self, radius: bool) -> &mut [f64; BOXES] {
        if radius { &mut self.radius } else { &mut self.centre }
    }
}

impl Gather<f64> {
    /// Centres through `A x + b` and radii through `|A| x`, in one pass. Entries of `x` that are not
    /// `live` are left out unless a weight is infinite: they must be zero. Sums are over the terms of a list in order.
    ///
    /// # Panics
    /// If `x`, `live` or `out` is too short.
    pub fn boxes(&self, x: &[Balls], live: &[bool], out: &mut [Balls]) {
        dispatch(Boxes { map: self, x, live, out });
    }
}

impl Gather<f64> {
    /// `out = A x + b` for every row of `x`, one after the other; or `out = |A| x` if `absolute`.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn rows(&self, absolute: bool, batch: usize, x: &[f64], out: &mut [f64]) {
        let [from, to] = [x.len(), out.len()].map(|len| len / batch.max(1));
        let (mut balls, mut results) = (vec![Balls::default(); from], vec![Balls::default(); to]);
        let mut live = vec![false; from];
        let tiles = x.chunks(from.max(1) * BOXES).zip(out.chunks_mut(to.max(1) * BOXES));
        for (x, out) in tiles {
            for (i, (ball, live)) in balls.iter_mut().zip(&mut live).enumerate() {
                for (lane, value) in ball.part(absolute).iter_mut().enumerate() {
                    *value = x.get(lane * from + i).copied().unwrap_or(0.0);
                }
                *live = *ball != Balls::default();
            }
            self.boxes(&balls, &live, &mut results);
            for (lane, row) in out.chunks_exact_mut(to.max(1)).enumerate() {
                for (y, ball) in row.iter_mut().zip(&mut results) {
                    *y = ball.part(absolute)[lane];
                }
            }
        }
    }
}

struct Boxes<'a> {
    map: &'a Gather<f64>,
    x: &'a [Balls],
    live: &'a [bool],
    out: &'a mut [Balls],
}

impl Kernel for Boxes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(mut self) {
        let map = self.map;
        let mut few = vec![[0; 2]; map.lists.iter().map(|list| list.entries.len()).max().unwrap_or(0)];
        for place in &map.places {
            let list = &map.lists[place.list as usize];
            let live = &self.live[place.shift as usize..][..list.reach[1]];
            let mut count = 0;
            for entry in &list.entries {
                few[count] = *entry;
                count += usize::from(live[entry[1] as usize] || !map.finite);
            }
            for (first, width, block) in map.blocks(place) {
                let few = &few[..count];
                match width {
                    2 => self.block::<2, FUSED>(block, place, first, few),
                    4 => self.block::<4, FUSED>(block, place, first, few),
                    _ => self.block::<OUTPUTS, FUSED>(block, place, first, few),
                }
            }
        }
    }
}

impl Boxes<'_> {
    /// The outputs of one place from `first` on, from the terms `few` of its list.
    #[inline(always)]
    #[expect(unsafe_code, reason = "the terms and inputs of a list are checked once before its sums")]
    fn block<const WIDTH: usize, const FUSED: bool>(
        &mut self,
        weights: &[f64],
        place: &Place,
        first: usize,
        few: &[[u32; 2]],
    ) {
        let (map, list) = (self.map, &self.map.lists[place.list as usize]);
        let (weights, _) = weights.as_chunks::<WIDTH>();
        let x = &self.x[place.shift as usize..];
        assert!(list.reach[0] <= weights.len() && list.reach[1] <= x.len(), "lists stay inside");
        let mut sums = [Balls::default(); WIDTH];
        for &[term, input] in few {
            // SAFETY: `few` holds entries of the list, and its terms and inputs are below the reach,
            // which was just checked.
            let (weights, x) =
                unsafe { (weights.get_unchecked(term as usize), x.get_unchecked(input as usize)) };
            for (sum, &weight) in sums.iter_mut().zip(weights) {
                let size = weight.abs();
                for lane in 0..BOXES {
                    let (centre, radius) = (sum.centre[lane], sum.radius[lane]);
                    sum.centre[lane] = if FUSED {
                        weight.mul_add(x.centre[lane], centre)
                    } else {
                        centre + weight * x.centre[lane]
                    };
                    sum.radius[lane] = if FUSED {
                        size.mul_add(x.radius[lane], radius)
                    } else {
                        radius + size * x.radius[lane]
                    };
                }
            }
        }
        for (o, sum) in (first..map.outputs).zip(&mut sums) {
            let bias = map.bias[place.bias as usize + o];
            sum.centre.iter_mut().for_each(|centre| *centre += bias);
            self.out[place.target as usize + o * map.stride] = *sum;
        }
    }
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A layout with lists and places.
    type Shape = (Layout, Vec<Vec<[u32; 2]>>, Vec<[usize; 2]>);

    fn shape() -> impl Strategy<Value = Shape> {
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

    fn weight(g: usize, o: usize, k: usize) -> f32 {
        ((g * 31 + o * 7 + k * 3) % 17) as f32 - 8.0
    }

    fn bias(g: usize, o: usize) -> f32 {
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
            let wide = |g, o, k| f64::from(weight(g, o, k));
            let boxes = Gather::new(layout, wide, |g, o| f64::from(bias(g, o)), lists.clone(), &places);
            check_boxes(&boxes, layout, &lists, &places, seed)?;
            let map = Gather::new(layout, weight, bias, lists, &places);
            prop_assert_eq!(&run::<WIDE>(&map, &x, inputs, &add, outputs, added, relu), &expected);
            if samples <= NARROW {
                prop_assert_eq!(&run::<NARROW>(&map, &x, inputs, &add, outputs, added, relu), &expected);
            }
        }
    }

    /// Boxes against the definition, where about half of the entries are zero and left out.
    fn check_boxes(
        map: &Gather<f64>,
        layout: Layout,
        lists: &[Vec<[u32; 2]>],
        places: &[[usize; 2]],
        seed: usize,
    ) -> Result<(), TestCaseError> {
        let (n, groups) = (places.len(), layout.groups * layout.repeats);
        let x: Vec<Balls> = (0..groups * layout.inputs)
            .map(|i| match (i * 7 + seed) % 5 {
                0 | 1 => Balls::default(),
                k => Balls {
                    centre: std::array::from_fn(|lane| (i + lane * k) as f64 - 9.0),
                    radius: std::array::from_fn(|lane| ((i + lane) % 4) as f64),
                },
            })
            .collect();
        let live: Vec<bool> = x.iter().map(|x| *x != Balls::default()).collect();
        let mut out =
            vec![Balls { centre: [f64::NAN; BOXES], radius: [f64::NAN; BOXES] }; groups * layout.outputs * n];
        map.boxes(&x, &live, &mut out);
        let mut portable = out.clone();
        Boxes { map, x: &x, live: &live, out: &mut portable }.run::<false>();
        prop_assert_eq!(&out, &portable);
        for absolute in [false, true] {
            let part = |balls: &[Balls], lane: usize| -> Vec<f64> {
                balls.iter().map(|b| if absolute { b.radius[lane] } else { b.centre[lane] }).collect()
            };
            let rows: Vec<f64> = (0..6).flat_map(|row| part(&x, row % BOXES)).collect();
            let expected: Vec<f64> = (0..6).flat_map(|row| part(&out, row % BOXES)).collect();
            let mut found = vec![f64::NAN; expected.len()];
            map.rows(absolute, 6, &rows, &mut found);
            prop_assert_eq!(found, expected);
        }
        for (g, o) in (0..groups).flat_map(|g| (0..layout.outputs).map(move |o| (g, o))) {
            for (p, &[list, shift]) in places.iter().enumerate() {
                let mut expected = Balls { centre: [f64::from(bias(g, o)); BOXES], radius: [0.0; BOXES] };
                for &[k, i] in &lists[list] {
                    let w = f64::from(weight(g % layout.groups, o, k as usize));
                    let x = &x[g * layout.inputs + shift + i as usize];
                    for lane in 0..BOXES {
                        expected.centre[lane] += w * x.centre[lane];
                        expected.radius[lane] += w.abs() * x.radius[lane];
                    }
                }
                prop_assert_eq!(out[(g * layout.outputs + o) * n + p], expected);
            }
        }
        Ok(())
    }

    #[test]
    fn infinite_weights_are_not_left_out() {
        let layout = Layout { terms: 1, outputs: 1, groups: 1, repeats: 1, inputs: 1 };
        let map = Gather::new(layout, |_, _, _| f64::INFINITY, |_, _| 0.0, vec![vec![[0, 0]]], &[[0, 0]]);
        let mut out = [Balls::default()];
        map.boxes(&[Balls::default()], &[false], &mut out);
        assert!(out[0].centre[0].is_nan() && out[0].radius[0].is_nan());
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
