//! Linear functions side by side, and their products with the transposes of affine maps.
//!
//! Backward bounds pull many linear functions of one value back through the
//! same maps. A [`Panel`] holds [`LANES`] of them with the coefficients on one
//! entry next to each other, so that one weight meets a whole vector of
//! coefficients, and zeros, of which there are many, are left out entry by
//! entry.

use super::{Kernel, dispatch};

/// Linear functions of a panel: two vectors of four `f64`.
pub const LANES: usize = 8;

/// One number for each function of a panel; fills a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(align(64))]
pub struct Lane(pub [f64; LANES]);

impl Lane {
    /// Zeros.
    pub const ZERO: Self = Self([0.0; LANES]);

    /// `f` of each number. Loops over lanes become vector instructions only if
    /// nothing in them branches: see [`choose`].
    #[inline(always)]
    #[must_use]
    pub fn map(self, mut f: impl FnMut(usize, f64) -> f64) -> Self {
        Self(std::array::from_fn(|lane| f(lane, self.0[lane])))
    }

    /// Whether all numbers are zero, of either sign.
    #[inline(always)]
    #[must_use]
    pub fn is_zero(&self) -> bool {
        super::is_zero(&self.0)
    }
}

/// `yes` or `no`, without a branch.
#[inline(always)]
#[must_use]
pub fn choose(condition: bool, yes: f64, no: f64) -> f64 {
    let mask = u64::from(condition).wrapping_neg();
    f64::from_bits(yes.to_bits() & mask | no.to_bits() & !mask)
}

/// The coefficients of [`LANES`] linear functions on all entries of a value.
/// Entries that are not *live* are zero.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// At least as many as there are entries; what follows is zero.
    entries: Vec<Lane>,
    /// One bit for each entry.
    live: Vec<u64>,
}

impl Panel {
    /// Makes it zero, for a value of `len` entries. The cost is that of what was live.
    pub fn reset(&mut self, len: usize) {
        self.update(|_, _| false);
        if self.entries.len() < len {
            self.entries.resize(len, Lane::ZERO);
        }
        self.live.clear();
        self.live.resize(len.div_ceil(64), 0);
    }

    /// The entries that may be other than zero, in order.
    #[inline]
    pub fn live(&self) -> impl Iterator<Item = usize> {
        self.live.iter().enumerate().flat_map(|(word, &bits)| Bits(bits).map(move |bit| word * 64 + bit))
    }

    /// The coefficients on an entry.
    ///
    /// # Panics
    /// If there is no such entry.
    #[inline]
    #[must_use]
    pub fn get(&self, entry: usize) -> &Lane {
        &self.entries[entry]
    }

    /// The coefficients on an entry, which becomes live.
    ///
    /// # Panics
    /// If there is no such entry.
    #[inline]
    pub fn entry(&mut self, entry: usize) -> &mut Lane {
        self.live[entry / 64] |= 1 << (entry % 64);
        &mut self.entries[entry]
    }

    /// Sets every entry from rows of coefficients, one for each function; functions without a row are
    /// zero. Entries become live unless they are zero.
    pub fn fill<'a>(&mut self, row: impl Fn(usize) -> Option<&'a [f64]>) {
        let len = row(0).map_or(0, <[f64]>::len);
        let zeros = vec![0.0; len];
        let rows: [&[f64]; LANES] = std::array::from_fn(|lane| row(lane).unwrap_or(&zeros));
        for entry in 0..len {
            let mut lane = Lane::ZERO;
            lane.0.iter_mut().zip(&rows).for_each(|(x, row)| *x = row[entry]);
            if !lane.is_zero() {
                *self.entry(entry) = lane;
            }
        }
    }

    /// Makes those entries live that stand in `entries`, a bit for each, `shift` further on.
    fn enliven(&mut self, entries: &[u64], shift: usize) {
        let (first, bits) = (shift / 64, shift % 64);
        for (word, &entries) in entries.iter().enumerate().filter(|(_, entries)| **entries != 0) {
            self.live[first + word] |= entries << bits;
            // Shifted in two steps, as 64 is no shift.
            let rest = entries >> 1 >> (63 - bits);
            if rest != 0 {
                self.live[first + word + 1] |= rest;
            }
        }
    }

    /// Shows every live entry to `keep` in order; those for which it returns
    /// false become zero.
    #[inline]
    pub fn update(&mut self, mut keep: impl FnMut(usize, &mut Lane) -> bool) {
        for (word, live) in self.live.iter_mut().enumerate() {
            for bit in Bits(*live) {
                let lane = &mut self.entries[word * 64 + bit];
                if !keep(word * 64 + bit, lane) {
                    *lane = Lane::ZERO;
                    *live &= !(1 << bit);
                }
            }
        }
    }
}

/// The places of the ones in a word.
struct Bits(u64);

impl Iterator for Bits {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (bit < 64).then_some(bit)
    }
}

/// Where coefficients go: a tap `[start, target]` adds to the entry `target`
/// with weights from `start` on.
#[derive(Clone, Debug)]
pub struct Taps {
    list: Vec<[u32; 2]>,
    /// A bit for each target.
    live: Vec<u64>,
}

impl Taps {
    /// From starts and targets.
    #[must_use]
    pub fn new(list: Vec<[u32; 2]>) -> Self {
        let end = list.iter().map(|&[_, target]| target as usize + 1).max().unwrap_or(0);
        let mut live = vec![0; end.div_ceil(64)];
        for &[_, target] in &list {
            live[target as usize / 64] |= 1 << (target % 64);
        }
        Self { list, live }
    }
}

/// Adds to the entry `shift + target`, for each tap `[start, target]`, the sum
/// over `k` of `weights[start + terms[k]] * y[k]`.
///
/// Sums go in the order of `k`; where the processor has fused multiply-add it
/// is used.
///
/// # Panics
/// If there is not one term for each of `y`, or an index is out of range.
pub fn accumulate(weights: &[f64], terms: &[u32], y: &[Lane], taps: &Taps, shift: usize, grad: &mut Panel) {
    assert_eq!(terms.len(), y.len(), "one term for each coefficient");
    let Some(&last) = terms.iter().max() else { return };
    grad.enliven(&taps.live, shift);
    let product = Product { weights, terms, y, reach: last as usize + 1, shift };
    dispatch(All { product, taps: &taps.list, grad: &mut grad.entries });
}

/// What the taps of one call share.
#[derive(Clone, Copy)]
struct Product<'a> {
    weights: &'a [f64],
    terms: &'a [u32],
    y: &'a [Lane],
    /// Above all terms.
    reach: usize,
    shift: usize,
}

/// All taps, in groups whose sums stay in registers.
struct All<'a> {
    product: Product<'a>,
    taps: &'a [[u32; 2]],
    grad: &'a mut [Lane],
}

impl Kernel for All<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { product, taps, grad } = self;
        let (groups, rest) = taps.as_chunks::<6>();
        for group in groups {
            micro::<6, FUSED>(product, group, grad);
        }
        let (groups, rest) = rest.as_chunks::<2>();
        for group in groups {
            micro::<2, FUSED>(product, group, grad);
        }
        let (groups, _) = rest.as_chunks::<1>();
        for group in groups {
            micro::<1, FUSED>(product, group, grad);
        }
    }
}

#[inline(always)]
#[expect(unsafe_code, reason = "the bounds of the terms are checked once for all of them")]
fn micro<const TAPS: usize, const FUSED: bool>(product: Product, taps: &[[u32; 2]; TAPS], grad: &mut [Lane]) {
    let Product { weights, terms, y, reach, shift } = product;
    let weights = taps.map(|[start, _]| &weights[start as usize..][..reach]);
    let mut sums = [[0.0; LANES]; TAPS];
    for (&term, y) in terms.iter().zip(y) {
        for i in 0..TAPS {
            // SAFETY: `reach` is above every term, and the length of every slice.
            let weight = unsafe { *weights[i].get_unchecked(term as usize) };
            for (sum, y) in sums[i].iter_mut().zip(&y.0) {
                *sum = if FUSED { weight.mul_add(*y, *sum) } else { *sum + weight * y };
            }
        }
    }
    for ([_, target], sum) in taps.iter().zip(&sums) {
        let entry = &mut grad[shift + *target as usize];
        entry.0.iter_mut().zip(sum).for_each(|(entry, sum)| *entry += sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number() -> impl Strategy<Value = f64> {
        (-50_i32..50).prop_map(f64::from)
    }

    proptest! {
        #[test]
        fn products_follow_the_definition(
            terms in prop::collection::vec(0_u32..20, 0..40),
            taps in prop::collection::vec([0_u32..30, 0_u32..100], 0..30),
            numbers in prop::collection::vec(number(), 50 + 40 * LANES),
            shift in 0_usize..70,
        ) {
            // Integers: every order of summing gives the same.
            let (weights, rest) = numbers.split_at(50);
            let y: Vec<Lane> =
                rest.as_chunks::<LANES>().0[..terms.len()].iter().map(|&lanes| Lane(lanes)).collect();
            let mut expected = vec![Lane::ZERO; 170];
            let mut grad = Panel::default();
            grad.reset(170);
            for round in 1..3 {
                for &[start, target] in &taps {
                    for (&term, y) in terms.iter().zip(&y) {
                        for lane in 0..LANES {
                            expected[shift + target as usize].0[lane] +=
                                weights[(start + term) as usize] * y.0[lane];
                        }
                    }
                }
                accumulate(weights, &terms, &y, &Taps::new(taps.clone()), shift, &mut grad);
                let found: Vec<Lane> = (0..170).map(|i| *grad.get(i)).collect();
                prop_assert_eq!(&found, &expected, "round {}", round);
            }
            let product = Product { weights, terms: &terms, y: &y, reach: 20, shift };
            let mut portable: Vec<Lane> = expected.clone();
            All { product, taps: &taps, grad: &mut portable }.run::<false>();
            let mut fused = expected.clone();
            All { product, taps: &taps, grad: &mut fused }.run::<true>();
            prop_assert_eq!(portable, fused);
            let touched: Vec<usize> = grad.live().collect();
            let mut targets: Vec<usize> = taps.iter().map(|t| shift + t[1] as usize).collect();
            targets.sort_unstable();
            targets.dedup();
            prop_assert_eq!(touched, if terms.is_empty() { Vec::new() } else { targets });
        }

        #[test]
        fn what_is_not_live_is_zero(
            steps in prop::collection::vec((0_usize..200, number()), 1..100),
            lens in [200_usize..300, 1..300],
        ) {
            let mut panel = Panel::default();
            panel.reset(lens[0]);
            for &(entry, x) in &steps {
                panel.entry(entry).0[entry % LANES] += x;
            }
            panel.update(|entry, lane| entry % 3 > 0 && !lane.is_zero());
            for entry in 0..200 {
                let sum: f64 = steps.iter().filter(|s| s.0 == entry).map(|s| s.1).sum();
                let kept = entry % 3 > 0 && sum != 0.0;
                prop_assert_eq!(panel.get(entry).0[entry % LANES], if kept { sum } else { 0.0 });
                prop_assert_eq!(panel.live().any(|i| i == entry), kept);
            }
            panel.reset(lens[1]);
            prop_assert_eq!(panel.live().count(), 0);
            prop_assert!((0..lens[1]).all(|i| panel.get(i).is_zero()));
        }
    }
}
