//! Whatever the bytes, reading them ends in an array or an error.

use image::{GrayImage, ImageFormat, RgbImage};
use ndarray::{Array, ShapeBuilder};
use proptest::prelude::*;
use proptest::sample::Index;
use zip::CompressionMethod::{Deflated, Stored};
use zip::write::SimpleFileOptions;

use super::samples::{gzip, npy, npz, picture};
use super::*;

/// Whole files of every format: name and bytes.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let idx = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 5][..], &[9; 40]].concat();
    let doubles = npy(&Array::<f64, _>::ones((3, 4, 2)));
    let arrays = [("x", npy(&Array::<f32, _>::ones((2, 3, 3)))), ("y", npy(&Array::<i64, _>::ones(2)))];
    let options = SimpleFileOptions::default();
    let colours =
        RgbImage::from_fn(12, 9, |x, y| image::Rgb([x, y, x * y].map(|v| u8::try_from(v).unwrap())));
    vec![
        ("x-idx3-ubyte.gz", gzip(&idx)),
        ("x-idx3-ubyte", idx),
        ("x.npy.gz", gzip(&doubles)),
        ("x.npy", doubles),
        ("f.npy", npy(&Array::<u8, _>::ones((3, 4, 2).f()))),
        ("stored.npz", npz(options.compression_method(Stored), &arrays)),
        ("deflated.npz", npz(options.compression_method(Deflated).large_file(true), &arrays)),
        ("batch.bin", vec![3; 3073]),
        ("x.png", picture(GrayImage::new(5, 6), ImageFormat::Png)),
        ("c.png", picture(colours.clone(), ImageFormat::Png)),
        ("c.jpg", picture(colours, ImageFormat::Jpeg)),
    ]
}

fn check(tensor: &Tensor) {
    let entries = tensor.shape().iter().try_fold(1_usize, |n, &axis| n.checked_mul(axis));
    assert_eq!(entries, Some(tensor.values().len()), "the shape fits the values");
}

/// Reads the bytes in both ways and checks what comes of it.
fn read(name: &str, bytes: &[u8]) -> Option<Parsed> {
    let told = |error: ParseError| assert!(!error.found.is_empty() && !error.accepted.is_empty());
    parse_labels(name, bytes).map_or_else(told, |labels| check(&labels));
    let parsed = parse_bytes(name, bytes).map_err(told).ok()?;
    check(&parsed.images);
    parsed.labels.iter().for_each(check);
    Some(parsed)
}

#[test]
fn a_cut_file_is_an_error_unless_nothing_is_lost() {
    for (name, bytes) in files() {
        let whole = read(name, &bytes);
        assert!(whole.is_some(), "{name}");
        for end in 0..bytes.len() {
            let cut = read(name, &bytes[..end]);
            assert!(cut.is_none() || cut == whole, "{name} cut to {end} bytes");
            // Only the last chunk of a PNG file, of 12 bytes, holds nothing.
            assert!(cut.is_none() || end + 12 >= bytes.len(), "{name} cut to {end} bytes");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn changed_files_end_in_an_array_or_an_error(
        file in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..8),
        early in any::<bool>(),
        cut in prop::option::of(any::<Index>()),
        insert in prop::option::of((any::<Index>(), prop::collection::vec(any::<u8>(), 1..20))),
    ) {
        let files = files();
        let (name, mut bytes) = file.get(&files).clone();
        for (at, value) in changes {
            // Headers stand at the beginning.
            let end = if early { bytes.len().min(100) } else { bytes.len() };
            bytes[at.index(end)] = value;
        }
        if let Some((at, new)) = insert {
            let at = at.index(bytes.len());
            bytes.splice(at..at, new);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read(name, &bytes);
    }

    #[test]
    fn any_bytes_after_a_magic_number_end_in_an_array_or_an_error(
        magic in any::<Index>(),
        rest in prop::collection::vec(any::<u8>(), 0..300),
        name in "[a-z]{0,3}(\\.bin|\\.npy|\\.gz|\\.bin\\.gz)?",
    ) {
        let magics: [&[u8]; 9] = [
            b"", b"\0\0\x08\x03", b"\0\0\x0e\x01",
            b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\x30\x00{'descr': '",
            b"PK\x03\x04", b"\x1f\x8b\x08\x00", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff",
        ];
        read(&name, &[magic.get(&magics), &rest[..]].concat());
    }

    #[test]
    fn any_idx_header_is_held_against_its_values(
        kind in prop::sample::select(vec![8_u8, 9, 11, 12, 13, 14]),
        axes in prop::collection::vec(any::<u32>(), 1..6),
        values in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let count = u8::try_from(axes.len()).unwrap();
        let mut bytes = vec![0, 0, kind, count];
        bytes.extend(axes.iter().flat_map(|axis| axis.to_be_bytes()));
        bytes.extend(&values);
        let size = match kind { 8 | 9 => 1, 11 => 2, 14 => 8, _ => 4 };
        let claimed = axes.iter().fold(size, |n: u128, &axis| n.saturating_mul(axis.into()));
        prop_assert_eq!(idx::parse(&bytes).is_ok(), claimed == values.len() as u128);
    }
}
