//! Dense layers and convolutions of boxes side by side, as centres and radii.

use super::gather::Place;
use super::{Gather, Kernel, dispatch};

/// Boxes that go through a map together.
pub const BOXES: usize = 8;

/// Terms that are summed for all outputs of a place before the next are: they and their weights fit
/// into the first cache.
const PART: usize = 96;

/// One entry of [`BOXES`] boxes, as centres and radii; fills two cache lines.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(align(64))]
pub struct Balls {
    /// Centres.
    pub centre: [f64; BOXES],
    /// Radii.
    pub radius: [f64; BOXES],
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
    /// [`Gather::boxes`] for rows one after the other: of `x`, `[centres, radii]`, to those of `out`.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn rows(&self, batch: usize, x: [&[f64]; 2], out: [&mut [f64]; 2]) {
        let [from, to] = [x[0].len(), out[0].len()].map(|len| len / batch.max(1));
        let (mut balls, mut results) = (vec![Balls::default(); from], vec![Balls::default(); to]);
        let mut live = vec![false; from];
        let [centres, radii] = out.map(|side| side.chunks_mut(to.max(1) * BOXES));
        for (tile, (centres, radii)) in centres.zip(radii).enumerate() {
            for (i, (ball, live)) in balls.iter_mut().zip(&mut live).enumerate() {
                for lane in 0..BOXES {
                    let at = (tile * BOXES + lane) * from + i;
                    let of = |side: &[f64]| side.get(at).copied().unwrap_or(0.0);
                    (ball.centre[lane], ball.radius[lane]) = (of(x[0]), of(x[1]));
                }
                *live = *ball != Balls::default();
            }
            self.boxes(&balls, &live, &mut results);
            let rows = centres.chunks_exact_mut(to.max(1)).zip(radii.chunks_exact_mut(to.max(1)));
            for (lane, (centres, radii)) in rows.enumerate() {
                for (ball, (centre, radius)) in results.iter().zip(centres.iter_mut().zip(radii)) {
                    (*centre, *radius) = (ball.centre[lane], ball.radius[lane]);
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
            // At least one part, as without terms there is still a bias.
            for start in (0..count.max(1)).step_by(PART) {
                let part = &few[start..count.min(start + PART)];
                for (first, width, block) in map.blocks(place) {
                    match width {
                        1 => self.block::<1, 2, FUSED>(block, place, first, part, start == 0),
                        2 => self.block::<2, 4, FUSED>(block, place, first, part, start == 0),
                        _ => self.block::<3, 6, FUSED>(block, place, first, part, start == 0),
                    }
                }
            }
            for o in 0..map.outputs {
                let bias = map.bias[place.bias as usize + o];
                let centre = &mut self.out[place.target as usize + o * map.stride].centre;
                for centre in centre {
                    *centre += bias;
                }
            }
        }
    }
}

impl Boxes<'_> {
    /// Terms `part` of the sums of one place's outputs from `first` on; the first part `begins` them.
    #[inline(always)]
    #[expect(unsafe_code, reason = "the terms and inputs of a list are checked once before its sums")]
    fn block<const WIDTH: usize, const BOTH: usize, const FUSED: bool>(
        &mut self,
        weights: &[f64],
        place: &Place,
        first: usize,
        part: &[[u32; 2]],
        begins: bool,
    ) {
        let (map, list) = (self.map, &self.map.lists[place.list as usize]);
        // Weights of a term, and then their absolute values.
        let (weights, _) = weights.as_chunks::<BOTH>();
        let x = &self.x[place.shift as usize..];
        assert!(list.reach[0] <= weights.len() && list.reach[1] <= x.len(), "lists stay inside");
        let (mut centres, mut radii) = ([[0.0; BOXES]; WIDTH], [[0.0; BOXES]; WIDTH]);
        let outputs = first..map.outputs.min(first + WIDTH);
        let target = |o: usize| place.target as usize + o * map.stride;
        if !begins {
            for (o, (centre, radius)) in outputs.clone().zip(centres.iter_mut().zip(&mut radii)) {
                let sum = &self.out[target(o)];
                (*centre, *radius) = (sum.centre, sum.radius);
            }
        }
        for &[term, input] in part {
            // SAFETY: `part` holds entries of the list, and its terms and inputs are below the reach,
            // which was just checked.
            let (weights, x) =
                unsafe { (weights.get_unchecked(term as usize), x.get_unchecked(input as usize)) };
            let (exact, sizes) = weights.split_at(WIDTH);
            multiply::<WIDTH, FUSED>(&mut centres, exact, &x.centre);
            multiply::<WIDTH, FUSED>(&mut radii, sizes, &x.radius);
        }
        for (o, (&centre, &radius)) in outputs.zip(centres.iter().zip(&radii)) {
            self.out[target(o)] = Balls { centre, radius };
        }
    }
}

/// `sum += weight * x` for each of the sums.
#[inline(always)]
fn multiply<const WIDTH: usize, const FUSED: bool>(
    sums: &mut [[f64; BOXES]; WIDTH],
    weights: &[f64],
    x: &[f64; BOXES],
) {
    for (sum, weight) in sums.iter_mut().zip(weights) {
        for (sum, x) in sum.iter_mut().zip(x) {
            *sum = if FUSED { weight.mul_add(*x, *sum) } else { *sum + weight * x };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::gather::tests::{bias, shape, weight};
    use super::*;
    use crate::kernels::Layout;

    proptest! {
        /// Where about half of the entries are zero and left out.
        #[test]
        fn boxes_follow_the_definition((layout, lists, places) in shape(), seed in 0_usize..100) {
            let wide = |g, o, k| f64::from(weight(g, o, k));
            let map = Gather::new(layout, wide, |g, o| f64::from(bias(g, o)), lists.clone(), &places);
            check(&map, layout, &lists, &places, seed)?;
        }
    }

    fn check(
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
        // More rows than stand side by side.
        let rows = |balls: &[Balls]| -> [Vec<f64>; 2] {
            let of = |side: fn(&Balls, usize) -> f64| {
                (0..11).flat_map(|row| balls.iter().map(move |ball| side(ball, row % BOXES))).collect()
            };
            [of(|ball, lane| ball.centre[lane]), of(|ball, lane| ball.radius[lane])]
        };
        let [centres, radii] = rows(&x);
        let mut found = rows(&out).map(|side| vec![f64::NAN; side.len()]);
        map.rows(11, [&centres, &radii], found.each_mut().map(|side| &mut side[..]));
        prop_assert_eq!(found, rows(&out));
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
}
