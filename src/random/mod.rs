//! Random numbers from counters: what is drawn depends on the seed, the input's index and the sample's
//! index, and on nothing else, so neither on threads nor on the order of anything.

mod normal;
mod stream;
mod uniform;

pub use stream::{InputStreams, SampleStream};
pub(crate) use {
    normal::{ln_positive, with_normals},
    stream::LANES,
    uniform::{unit, with_words},
};
