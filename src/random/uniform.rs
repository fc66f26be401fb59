//! Random words and uniform numbers, one for each entry of an input.

use super::stream::{LANES, SampleStream};

/// Writes `each(x, word)` for every entry, with one random word each.
///
/// # Panics
/// If the lengths differ.
pub(crate) fn with_words(stream: &SampleStream, x: &[f32], out: &mut [f32], each: impl Fn(f32, u32) -> f32) {
    assert_eq!(x.len(), out.len(), "as many entries out as in");
    let chunks = x.chunks(4 * LANES).zip(out.chunks_mut(4 * LANES));
    for (chunk, (x, out)) in chunks.enumerate() {
        let words = stream.blocks((chunk * LANES) as u32);
        let words = words.as_flattened();
        for ((out, &x), &word) in out.iter_mut().zip(x).zip(words) {
            *out = each(x, word);
        }
    }
}

/// The midpoint of one of `2^23` cells of (0, 1), exactly.
pub(crate) fn unit(word: u32) -> f32 {
    ((word >> 9) as f32 + 0.5) * (1.0 / 8_388_608.0)
}
