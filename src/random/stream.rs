//! The generator and its streams.
//!
//! The generator is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

use crate::kernels::{Kernel, dispatch};

/// Blocks computed side by side.
pub(crate) const LANES: usize = 16;

/// The words of [`LANES`] consecutive blocks: `words[w][lane]`.
pub(crate) type Words = [[u32; LANES]; 4];

/// A sample index that no sample has: for what is drawn once per input.
const PER_INPUT: u32 = u32::MAX;

/// The random streams of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputStreams {
    seed: u64,
    input: u64,
}

/// The stream of one sample of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleStream {
    key: [u32; 2],
    sample: u32,
    input: [u32; 2],
}

impl InputStreams {
    /// The streams of the input with this index under this seed.
    #[must_use]
    pub fn new(seed: u64, input: u64) -> Self {
        Self { seed, input }
    }

    /// The stream of a sample.
    ///
    /// # Panics
    /// For the index `u32::MAX`, which is kept for what is drawn once per input.
    #[must_use]
    pub fn sample(self, sample: u32) -> SampleStream {
        assert!(sample != PER_INPUT, "sample indices end below {PER_INPUT}");
        self.stream(sample)
    }

    /// A uniform number in [0, 1), a multiple of `2^-53`: the one draw of an input that no sample sees.
    #[must_use]
    pub fn once(self) -> f64 {
        let [a, b, ..] = self.stream(PER_INPUT).block(0);
        let bits = (u64::from(a) << 32 | u64::from(b)) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }

    /// A uniform byte for each sample, independent of its noise and of [`Self::once`]: for the coins that
    /// a decision on that sample is made with.
    #[must_use]
    pub fn byte(self, sample: u32) -> u8 {
        // Sixteen bytes in a block of the stream that no sample has; its block 0 is the input's draw.
        let words = self.stream(PER_INPUT).block(1 + sample / 16);
        words[(sample / 4 % 4) as usize].to_le_bytes()[(sample % 4) as usize]
    }

    fn stream(self, sample: u32) -> SampleStream {
        SampleStream { key: halves(self.seed), sample, input: halves(self.input) }
    }
}

impl SampleStream {
    /// Block number `block` of the stream: four uniform words.
    #[must_use]
    #[inline(always)]
    pub fn block(&self, block: u32) -> [u32; 4] {
        philox([block, self.sample, self.input[0], self.input[1]], self.key)
    }

    /// Blocks `first .. first + LANES`.
    #[inline(always)]
    pub(crate) fn blocks(&self, first: u32) -> Words {
        dispatch(Blocks { stream: *self, first })
    }
}

struct Blocks {
    stream: SampleStream,
    first: u32,
}

impl Kernel for Blocks {
    type Output = Words;

    /// A loop over blocks, each computed to its end: the shape that compilers vectorise.
    #[inline(always)]
    fn run<const FUSED: bool>(self) -> Words {
        let mut words = [[0; LANES]; 4];
        for lane in 0..LANES {
            let block = self.stream.block(self.first.wrapping_add(lane as u32));
            for (words, word) in words.iter_mut().zip(block) {
                words[lane] = word;
            }
        }
        words
    }
}

/// The multipliers of the generator.
const A: u64 = 0xD251_1F53;
const B: u64 = 0xCD9E_8D57;

fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

#[inline(always)]
fn round(c: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let a = A * u64::from(c[0]);
    let b = B * u64::from(c[2]);
    [(b >> 32) as u32 ^ c[1] ^ key[0], b as u32, (a >> 32) as u32 ^ c[3] ^ key[1], a as u32]
}

#[inline(always)]
fn bump(key: [u32; 2]) -> [u32; 2] {
    [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)]
}

#[inline(always)]
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        counter = round(counter, key);
        key = bump(key);
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        // The published known-answer vectors of Philox4x32-10.
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox(counter, key), expected);
        }
    }

    #[test]
    fn blocks_side_by_side_are_the_blocks_one_by_one() {
        let stream = InputStreams::new(0x0123_4567_89ab_cdef, 1 << 40).sample(77);
        let words = stream.blocks(1000);
        for lane in 0..LANES {
            let one = stream.block(1000 + lane as u32);
            assert_eq!(one, words.map(|word| word[lane]));
        }
    }

    #[test]
    fn bytes_are_uniform_and_their_own() {
        let streams = InputStreams::new(4, 9);
        let mut counts = [0_i32; 256];
        let mut same = 0;
        for sample in 0..256_000 {
            let byte = streams.byte(sample);
            counts[usize::from(byte)] += 1;
            same += i32::from(byte == streams.byte(sample + 1));
        }
        assert!(counts.iter().all(|count| (count - 1000).abs() < 200), "{counts:?}");
        assert!((same - 1000).abs() < 200, "{same}");
        let first: Vec<u8> = (0..16).map(|sample| streams.byte(sample)).collect();
        let noise = streams.sample(0).block(0).map(u32::to_le_bytes);
        assert_ne!(first, noise.as_flattened());
        assert_ne!(streams.stream(PER_INPUT).block(0).map(u32::to_le_bytes).as_flattened(), first);
    }

    #[test]
    fn every_part_of_the_key_matters() {
        let base = InputStreams::new(1, 2).sample(3).block(0);
        assert_ne!(base, InputStreams::new(1 << 32, 2).sample(3).block(0));
        assert_ne!(base, InputStreams::new(1, 2 << 32).sample(3).block(0));
        assert_ne!(base, InputStreams::new(1, 2).sample(4).block(0));
        assert_ne!(base, InputStreams::new(1, 2).sample(3).block(1));
    }
}
