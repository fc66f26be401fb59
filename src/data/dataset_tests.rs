//! Data sets from files on disk.

use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2, Array3, Array4};
use ndarray_npy::WriteNpyExt;
use zip::write::SimpleFileOptions;

use super::samples::{folder, npy, npz};
use super::*;

fn open(array: &impl WriteNpyExt, scale: Option<f64>) -> Result<Dataset, DataError> {
    Dataset::open(&folder(&[("x.npy", npy(array))]).path().join("x.npy"), None, scale)
}

fn bits(pixels: &[f32]) -> Vec<u32> {
    pixels.iter().map(|p| p.to_bits()).collect()
}

/// The bits of all pixels of the first image, in stored order.
fn first(array: &impl WriteNpyExt, scale: Option<f64>) -> Vec<u32> {
    let dataset = open(array, scale).unwrap();
    let arrangement = dataset.arrange(&[dataset.image_shape().iter().product()]).unwrap();
    bits(&dataset.image(0, &arrangement).unwrap())
}

fn check(error: DataError, says: &str) {
    let error = error.to_string();
    assert!(error.contains(says) && error.contains("accepted"), "{error}");
}

#[test]
fn pixels_are_scaled_and_rounded_once() {
    let bytes = Array2::from_shape_vec((1, 256), (0..=255_u8).collect()).unwrap();
    let dataset = open(&bytes, None).unwrap();
    assert_eq!((dataset.len(), dataset.is_empty(), dataset.image_shape()), (1, false, &[256][..]));
    assert_eq!(dataset.labels(), None);
    dataset.check_labels(0).unwrap();
    let expected: Vec<f32> = (0..=255_u8).map(|k| f32::from(k) / 255.0).collect();
    assert_eq!(first(&bytes, None), bits(&expected));
    // Given as a factor, 1/255 leads to the same floats.
    assert_eq!(first(&bytes, Some(1.0 / 255.0)), bits(&expected));
    assert_eq!(first(&bytes, Some(1.0)), bits(&(0..=255_u8).map(f32::from).collect::<Vec<_>>()));
    // 16777217 lies halfway between two floats: to the even one.
    let doubles = Array2::from_shape_vec((1, 3), vec![0.1_f64, -2.5, 16_777_217.0]).unwrap();
    assert_eq!(first(&doubles, None), bits(&[0.1, -2.5, 16_777_216.0]));
    let floats = Array2::from_elem((1, 1), 1.5_f32);
    assert_eq!(first(&floats, None), bits(&[1.5]));
    // The scale is not rounded to f32 before the product: that would lead one float further.
    let scale = 1.0 + 1.0 / f64::from(1 << 24) + 1.0 / f64::from(1 << 30);
    assert_eq!(first(&floats, Some(scale)), [1.5_f32.to_bits() + 1]);
    let integers = Array2::from_elem((1, 2), 100_i64);
    assert_eq!(first(&integers, Some(0.25)), bits(&[25.0, 25.0]));
    check(open(&integers, None).unwrap_err(), "int64 pixels with no scale");
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        check(open(&integers, Some(scale)).unwrap_err(), &format!("with scale {scale}"));
    }
}

#[test]
fn pixels_that_are_not_finite_are_named() {
    let mut array = Array4::<f64>::zeros((2, 2, 3, 3));
    array[[1, 1, 0, 2]] = f64::NAN;
    array[[0, 0, 2, 1]] = 1e39;
    let dataset = open(&array, None).unwrap();
    let arrangement = dataset.arrange(&[1, 3, 2, 3]).unwrap();
    assert!(arrangement.moves_channels());
    let says = "x.npy: found NaN in image 1 at position [1, 0, 2] of shape [2, 3, 3]";
    check(dataset.image(1, &arrangement).unwrap_err(), says);
    let error = dataset.image(0, &arrangement).unwrap_err();
    let DataError::Pixel { index: 0, position, value, .. } = error else { panic!("{error}") };
    assert_eq!((position, value.to_bits()), (vec![0, 2, 1], 1e39_f64.to_bits()));
    // A scale that brings it into range makes it a pixel.
    let scaled = open(&array, Some(1e-39)).unwrap();
    assert_eq!(bits(&scaled.image(0, &arrangement).unwrap())[8], 1.0_f32.to_bits());
}

#[test]
fn images_come_in_the_order_of_the_model() {
    let value = |(n, h, w, c)| u8::try_from(100 * n + 20 * h + 4 * w + c).unwrap();
    let dataset = open(&Array4::from_shape_fn((2, 3, 4, 3), value), Some(1.0)).unwrap();
    let image = dataset.image(1, &dataset.arrange(&[1, 3, 3, 4]).unwrap()).unwrap();
    let expected = Array3::from_shape_fn((3, 3, 4), |(c, h, w)| f32::from(value((1, h, w, c))));
    assert_eq!(bits(&image), bits(&expected.into_raw_vec_and_offset().0));
    let error = dataset.arrange(&[1, 3, 32, 32]).unwrap_err();
    check(error, "2 images of shape [3, 4, 3], which do not fit the model's input of shape [1, 3, 32, 32]");
    let arrangement = dataset.arrange(&[36]).unwrap();
    check(dataset.image(2, &arrangement).unwrap_err(), "2 images and no image 2");
    let other = open(&Array2::<u8>::zeros((1, 36)), None).unwrap();
    let error = other.image(0, &arrangement).unwrap_err();
    check(error, "[36]; accepted by this arrangement: images of shape [3, 4, 3]");
}

#[test]
fn labels_come_from_their_own_file_or_from_the_images_file() {
    let both = [
        ("images", npy(&Array3::<f32>::zeros((3, 2, 2)))),
        ("labels", npy(&Array1::from(vec![1_i32, 1, 0]))),
    ];
    let folder = folder(&[
        ("x.npy", npy(&Array3::<u8>::zeros((3, 2, 2)))),
        ("y.npy", npy(&Array2::from_shape_vec((3, 1), vec![2_i64, 0, 1]).unwrap())),
        ("u.npy", npy(&Array1::from(vec![7_u64, 8, 9]))),
        ("y-idx1-ubyte", vec![0, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7]),
        ("both.npz", npz(SimpleFileOptions::default(), &both)),
    ]);
    let path = |name| folder.path().join(name);
    for (images, labels, expected) in [
        ("x.npy", Some("y.npy"), [2, 0, 1]),
        ("x.npy", Some("u.npy"), [7, 8, 9]),
        ("x.npy", Some("y-idx1-ubyte"), [5, 6, 7]),
        ("x.npy", Some("both.npz"), [1, 1, 0]),
        ("both.npz", None, [1, 1, 0]),
        ("both.npz", Some("y-idx1-ubyte"), [5, 6, 7]),
    ] {
        let label_file: PathBuf = path(labels.unwrap_or(images));
        let dataset = Dataset::open(&path(images), labels.map(path).as_deref(), None).unwrap();
        assert_eq!(dataset.labels(), Some(&expected[..]));
        let most = expected.into_iter().max().unwrap();
        dataset.check_labels(most + 1).unwrap();
        let says = format!("{}: found label {most} for image ", label_file.display());
        check(dataset.check_labels(most).unwrap_err(), &says);
    }
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let folder = folder(&[
        ("x.npy", npy(&Array3::<u8>::zeros((3, 2, 2)))),
        ("two.npy", npy(&Array1::from(vec![0_u8, 1]))),
        ("negative.npy", npy(&Array1::from(vec![0_i32, -1, 2]))),
        ("floats.npy", npy(&Array1::from(vec![0.0_f32, 1.0, 2.0]))),
        ("hot.npy", npy(&Array2::<u8>::zeros((3, 10)))),
        ("none.npy", npy(&Array3::<u8>::zeros((0, 28, 28)))),
        ("flat.npy", npy(&Array3::<u8>::zeros((5, 0, 28)))),
        ("notes.txt", b"some notes".to_vec()),
        ("idx", [&[0, 0, 8, 3][..], &[0x10, 0, 0, 0].repeat(3), &[0; 84]].concat()),
    ]);
    let refused = |images: &Path, labels: Option<&Path>, says: &str| {
        let says = format!("{}: {says}", labels.unwrap_or(images).display());
        check(Dataset::open(images, labels, None).unwrap_err(), &says);
    };
    let images = folder.path().join("x.npy");
    let count = format!("found 2 labels for the 3 images of {}", images.display());
    for (labels, says) in [
        ("two.npy", &count[..]),
        ("negative.npy", "found label -1 for image 1"),
        ("floats.npy", "found labels of type float32 and shape [3]"),
        ("hot.npy", "found labels of type uint8 and shape [3, 10]"),
    ] {
        refused(&images, Some(&folder.path().join(labels)), says);
    }
    for (images, says) in [
        ("none.npy", "found an empty array of shape [0, 28, 28]"),
        ("flat.npy", "found an empty array of shape [5, 0, 28]"),
        ("two.npy", "found an array of shape [2]"),
        ("gone.npy", "cannot be read"),
        ("notes.txt", "found 10 bytes of unknown format"),
        ("idx", "found 3 axes [268435456, "),
    ] {
        refused(&folder.path().join(images), None, says);
    }
}
