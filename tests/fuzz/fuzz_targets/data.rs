//! Any bytes under any name are images and labels, or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tightrope::data::{parse_bytes, parse_labels};

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    let names = ["x.idx", "x.idx.gz", "x.npy", "x.npz", "x.bin", "x.bin.gz", "x.png", "x.jpg", "x"];
    let name = names[kind as usize % names.len()];
    let _ = parse_bytes(name, bytes);
    let _ = parse_labels(name, bytes);
});
