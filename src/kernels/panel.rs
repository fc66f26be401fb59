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
        self.update(|_, lane| {
            *lane = Lane::ZERO;
            false
        });
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

    /// Shows the blocks of `size` entries in which any is live to `each`, in order and with their numbers,
    /// then makes them zero. The list of live entries is kept in `live`.
    ///
    /// # Panics
    /// If entries are live beyond the last whole block.
    pub fn drain(&mut self, size: usize, live: &mut Vec<u32>, mut each: impl FnMut(usize, &mut Block)) {
        let mut word = 0;
        while word < self.live.len() {
            if self.live[word] == 0 {
                word += 1;
                continue;
            }
            let number = (word * 64 + self.live[word].trailing_zeros() as usize) / size;
            let (start, end) = (number * size, (number + 1) * size);
            live.clear();
            for word in word..end.div_ceil(64).min(self.live.len()) {
                // What is live before the start is none of the block's, and has been shown before.
                let inside = if end - word * 64 < 64 { (1 << (end - word * 64)) - 1 } else { u64::MAX };
                live.extend(Bits(self.live[word] & inside).map(|bit| (word * 64 + bit - start) as u32));
                self.live[word] &= !inside;
            }
            let mut block = Block { start, live, lanes: &mut self.entries[start..end] };
            each(number, &mut block);
            for &entry in &*block.live {
                block.lanes[entry as usize] = Lane::ZERO;
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
}

/// Entries of a panel that can be changed all at once.
pub trait Entries {
    /// Shows every entry that may be other than zero to `keep`; those for which it returns false must be
    /// zero by then.
    fn update(&mut self, keep: impl FnMut(usize, &mut Lane) -> bool);
}

impl Entries for Panel {
    #[inline(always)]
    fn update(&mut self, mut keep: impl FnMut(usize, &mut Lane) -> bool) {
        for (word, live) in self.live.iter_mut().enumerate() {
            for bit in Bits(*live) {
                let lane = &mut self.entries[word * 64 + bit];
                *live &= !(u64::from(!keep(word * 64 + bit, lane)) << bit);
            }
        }
    }
}

/// Neighbouring entries of a [`Panel`].
pub struct Block<'a> {
    start: usize,
    /// Those that are live, counted from the first of the block.
    live: &'a mut Vec<u32>,
    lanes: &'a mut [Lane],
}

impl Entries for Block<'_> {
    #[inline(always)]
    fn update(&mut self, mut keep: impl FnMut(usize, &mut Lane) -> bool) {
        let mut kept = 0;
        for k in 0..self.live.len() {
            let entry = self.live[k];
            let lane = &mut self.lanes[entry as usize];
            let live = keep(self.start + entry as usize, lane);
            self.live[kept] = entry;
            kept += usize::from(live);
        }
        self.live.truncate(kept);
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

/// Where the coefficients of a block go: a tap `[start, target]` adds to the entry `target` with weights
/// from `start` on.
#[derive(Clone, Debug)]
pub struct Taps {
    list: Vec<[u32; 2]>,
    /// A bit for each target.
    live: Vec<u64>,
    /// Above all starts and all targets.
    reach: [usize; 2],
}

impl Taps {
    /// From starts and targets.
    ///
    /// # Panics
    /// If two taps have the same target.
    #[must_use]
    pub fn new(list: Vec<[u32; 2]>) -> Self {
        let reach = [0, 1].map(|k| list.iter().map(|tap| tap[k] as usize + 1).max().unwrap_or(0));
        let mut live = vec![0; reach[1].div_ceil(64)];
        for &[_, target] in &list {
            let (word, bit) = (target as usize / 64, 1 << (target % 64));
            assert!(live[word] & bit == 0, "a target for each tap");
            live[word] |= bit;
        }
        Self { list, live, reach }
    }
}

/// Adds to the entry `shift + target`, for each tap `[start, target]`, the sum over the entries `k` of the
/// block of `weights[start + k] * y[k]`.
///
/// Terms are added in the order of `k`; where the processor has fused multiply-add it is used.
///
/// # Panics
/// If an index is out of range.
pub fn accumulate(weights: &[f64], y: &Block, taps: &Taps, shift: usize, grad: &mut Panel) {
    if y.live.is_empty() || taps.list.is_empty() {
        return;
    }
    grad.enliven(&taps.live, shift);
    dispatch(Product { weights, y, taps, grad: &mut grad.entries[shift..] });
}

/// All taps, in groups whose sums stay in registers.
struct Product<'a> {
    weights: &'a [f64],
    y: &'a Block<'a>,
    taps: &'a Taps,
    grad: &'a mut [Lane],
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(mut self) {
        let [start, target] = self.taps.reach;
        assert!(
            start + self.y.lanes.len() <= self.weights.len() + 1 && target <= self.grad.len(),
            "taps stay inside"
        );
        assert!(self.y.live.iter().all(|&k| (k as usize) < self.y.lanes.len()), "entries of the block");
        let (groups, rest) = self.taps.list.as_chunks::<6>();
        for group in groups {
            self.group::<6, FUSED>(group);
        }
        let (groups, rest) = rest.as_chunks::<4>();
        for group in groups {
            self.group::<4, FUSED>(group);
        }
        let (groups, rest) = rest.as_chunks::<2>();
        for group in groups {
            self.group::<2, FUSED>(group);
        }
        let (groups, _) = rest.as_chunks::<1>();
        for group in groups {
            self.group::<1, FUSED>(group);
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    #[expect(unsafe_code, reason = "the indices of all taps are checked once")]
    fn group<const TAPS: usize, const FUSED: bool>(&mut self, taps: &[[u32; 2]; TAPS]) {
        let mut sums = [[0.0; LANES]; TAPS];
        for i in 0..TAPS {
            // SAFETY: `run` has checked that the greatest target is inside; here and below.
            sums[i] = unsafe { self.grad.get_unchecked(taps[i][1] as usize) }.0;
        }
        for &k in &*self.y.live {
            // SAFETY: `run` has checked all entries of the block.
            let y = unsafe { self.y.lanes.get_unchecked(k as usize) };
            for i in 0..TAPS {
                // SAFETY: as many weights follow on the greatest start as there are lanes, as `run` has
                // checked, and `k` is below that.
                let weight = unsafe { *self.weights.get_unchecked(taps[i][0] as usize + k as usize) };
                for (sum, y) in sums[i].iter_mut().zip(&y.0) {
                    *sum = if FUSED { weight.mul_add(*y, *sum) } else { *sum + weight * y };
                }
            }
        }
        // Targets differ, so nothing was added to them since they were read.
        for i in 0..TAPS {
            // SAFETY: as above.
            unsafe { self.grad.get_unchecked_mut(taps[i][1] as usize) }.0 = sums[i];
        }
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
            size in 1_usize..90,
            live in prop::collection::vec(0_usize..200, 0..60),
            targets in prop::collection::btree_map(0_u32..100, 0_u32..30, 0..30),
            numbers in prop::collection::vec(number(), 120 + LANES),
            shift in 0_usize..70,
        ) {
            // Integers: every order of summing gives the same.
            let taps: Vec<[u32; 2]> = targets.into_iter().rev().map(|(target, start)| [start, target]).collect();
            let whole = 200_usize.next_multiple_of(size);
            let (weights, lanes) = numbers.split_at(120);
            let mut y = Panel::default();
            y.reset(whole);
            for (k, &entry) in live.iter().enumerate() {
                y.entry(entry).0[k % LANES] += lanes[(k + entry) % LANES];
            }
            let mut expected = vec![Lane::ZERO; 170];
            let mut grad = Panel::default();
            grad.reset(170);
            let mut shown = Vec::new();
            for _ in 0..2 {
                for &[start, target] in &taps {
                    for entry in 0..whole {
                        for lane in 0..LANES {
                            expected[shift + target as usize].0[lane] +=
                                weights[start as usize + entry % size] * y.get(entry).0[lane];
                        }
                    }
                }
                let taps = Taps::new(taps.clone());
                let mut from = y.clone();
                from.drain(size, &mut Vec::new(), |number, block| {
                    shown.push(number);
                    assert_eq!(block.start, number * size);
                    let mut portable = grad.clone();
                    let rest = &mut portable.entries[shift..];
                    if !block.live.is_empty() {
                        Product { weights, y: block, taps: &taps, grad: rest }.run::<false>();
                    }
                    accumulate(weights, block, &taps, shift, &mut grad);
                    assert_eq!(portable.entries, grad.entries);
                });
                prop_assert!(from.live().next().is_none() && (0..whole).all(|i| from.get(i).is_zero()));
                let found: Vec<Lane> = (0..170).map(|i| *grad.get(i)).collect();
                prop_assert_eq!(&found, &expected);
            }
            let mut blocks: Vec<usize> = live.iter().map(|entry| entry / size).collect();
            blocks.sort_unstable();
            blocks.dedup();
            prop_assert_eq!(&shown, &blocks.repeat(2));
            let touched: Vec<usize> = grad.live().collect();
            let mut targets: Vec<usize> = taps.iter().map(|t| shift + t[1] as usize).collect();
            targets.sort_unstable();
            targets.dedup();
            prop_assert_eq!(touched, if live.is_empty() { Vec::new() } else { targets });
        }

        #[test]
        fn blocks_drop_what_is_not_kept(
            size in 1_usize..90,
            live in prop::collection::btree_set(0_usize..200, 0..60),
        ) {
            let mut panel = Panel::default();
            panel.reset(200_usize.next_multiple_of(size));
            for &entry in &live {
                panel.entry(entry).0[0] = entry as f64 + 1.0;
            }
            let (mut seen, mut left) = (Vec::new(), Vec::new());
            panel.drain(size, &mut Vec::new(), |_, block| {
                block.update(|entry, lane| {
                    seen.push((entry, lane.0[0]));
                    lane.0[0] = if entry % 3 > 0 { lane.0[0] + 1.0 } else { 0.0 };
                    entry % 3 > 0
                });
                left.extend(block.live.iter().map(|&k| block.start + k as usize));
                for (k, lane) in block.lanes.iter().enumerate() {
                    let (entry, kept) = (block.start + k, block.live.contains(&(k as u32)));
                    assert_eq!(lane.0[0], if kept { entry as f64 + 2.0 } else { 0.0 });
                }
            });
            let expected: Vec<(usize, f64)> = live.iter().map(|&entry| (entry, entry as f64 + 1.0)).collect();
            prop_assert_eq!(seen, expected);
            let kept: Vec<usize> = live.into_iter().filter(|entry| entry % 3 > 0).collect();
            prop_assert_eq!(left, kept);
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
            panel.update(|entry, lane| {
                *lane = if entry % 3 > 0 { *lane } else { Lane::ZERO };
                !lane.is_zero()
            });
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
