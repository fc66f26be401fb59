//! Data sets from files on disk.

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2, Array3, Array4};
use ndarray_npy::{NpzWriter, WriteNpyExt};
use tempfile::TempDir;

use super::*;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn bytes(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn npy(&self, name: &str, array: &impl WriteNpyExt) -> PathBuf {
        array.write_npy(fs::File::create(self.path(name)).unwrap()).unwrap();
        self.path(name)
    }
}

fn bits(pixels: &[f32]) -> Vec<u32> {
    pixels.iter().map(|p| p.to_bits()).collect()
}

/// All pixels of the first image, in stored order.
fn first(dataset: &Dataset) -> Vec<f32> {
    let arrangement = dataset.arrange(&[dataset.image_shape().iter().product()]).unwrap();
    dataset.image(0, &arrangement).unwrap()
}

fn problem(images: &Path, labels: Option<&Path>, scale: Option<f64>) -> String {
    let error = Dataset::open(images, labels, scale).unwrap_err().to_string();
    assert!(error.contains("accepted"), "{error}");
    error
}

#[test]
fn bytes_become_the_nearest_float_to_k_over_255() {
    let folder = Folder::new();
    let bytes = folder.npy("x.npy", &Array2::from_shape_vec((1, 256), (0..=255_u8).collect()).unwrap());
    let dataset = Dataset::open(&bytes, None, None).unwrap();
    let expected: Vec<f32> = (0..=255_u8).map(|k| f32::from(k) / 255.0).collect();
    assert_eq!(bits(&first(&dataset)), bits(&expected));
    // Given as a factor, 1/255 leads to the same floats.
    let scaled = Dataset::open(&bytes, None, Some(1.0 / 255.0)).unwrap();
    assert_eq!(bits(&first(&scaled)), bits(&expected));
    let raw = Dataset::open(&bytes, None, Some(1.0)).unwrap();
    assert_eq!(bits(&first(&raw)), bits(&(0..=255_u8).map(f32::from).collect::<Vec<_>>()));
    assert_eq!((dataset.len(), dataset.is_empty(), dataset.image_shape()), (1, false, &[256][..]));
    assert_eq!(dataset.labels(), None);
}

#[test]
fn floats_are_taken_as_they_are_unless_scaled() {
    let folder = Folder::new();
    let stored = vec![0.1_f64, -2.5, 16_777_217.0];
    let doubles = folder.npy("d.npy", &Array2::from_shape_vec((1, 3), stored).unwrap());
    // 16777217 lies halfway between two floats: to the even one.
    assert_eq!(bits(&first(&Dataset::open(&doubles, None, None).unwrap())), bits(&[0.1, -2.5, 16_777_216.0]));
    let floats = folder.npy("f.npy", &Array2::from_elem((1, 1), 1.5_f32));
    assert_eq!(bits(&first(&Dataset::open(&floats, None, None).unwrap())), bits(&[1.5]));
    // The scale is not rounded to f32 before the product: that would lead one float further.
    let scale = 1.0 + 1.0 / f64::from(1 << 24) + 1.0 / f64::from(1 << 30);
    let scaled = first(&Dataset::open(&floats, None, Some(scale)).unwrap());
    assert_eq!(scaled[0].to_bits(), 1.5_f32.to_bits() + 1);
}

#[test]
fn wide_integers_need_a_scale() {
    let folder = Folder::new();
    let integers = folder.npy("i.npy", &Array2::from_elem((1, 2), 100_i64));
    assert!(problem(&integers, None, None).contains("int64 pixels with no scale"));
    assert_eq!(bits(&first(&Dataset::open(&integers, None, Some(0.25)).unwrap())), bits(&[25.0, 25.0]));
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(problem(&integers, None, Some(scale)).contains(&format!("with scale {scale}")));
    }
}

#[test]
fn pixels_that_are_not_finite_are_named() {
    let folder = Folder::new();
    let mut array = Array4::<f64>::zeros((2, 2, 3, 3));
    array[[1, 1, 0, 2]] = f64::NAN;
    array[[0, 0, 2, 1]] = 1e39;
    let file = folder.npy("x.npy", &array);
    let dataset = Dataset::open(&file, None, None).unwrap();
    let arrangement = dataset.arrange(&[1, 3, 2, 3]).unwrap();
    assert!(arrangement.moves_channels());
    let error = dataset.image(1, &arrangement).unwrap_err().to_string();
    let start = format!("{}: found NaN in image 1 at position [1, 0, 2] of shape [2, 3, 3]", file.display());
    assert!(error.starts_with(&start), "{error}");
    let error = dataset.image(0, &arrangement).unwrap_err();
    let DataError::Pixel { index: 0, position, value, .. } = error else { panic!("{error}") };
    assert_eq!((position, value.to_bits()), (vec![0, 2, 1], 1e39_f64.to_bits()));
    // A scale that brings it into range makes it a pixel.
    let scaled = Dataset::open(&file, None, Some(1e-39)).unwrap();
    assert_eq!(bits(&scaled.image(0, &arrangement).unwrap())[8], 1.0_f32.to_bits());
}

#[test]
fn images_come_in_the_order_of_the_model() {
    let folder = Folder::new();
    let value = |(n, h, w, c)| u8::try_from(100 * n + 20 * h + 4 * w + c).unwrap();
    let file = folder.npy("x.npy", &Array4::from_shape_fn((2, 3, 4, 3), value));
    let dataset = Dataset::open(&file, None, Some(1.0)).unwrap();
    let image = dataset.image(1, &dataset.arrange(&[1, 3, 3, 4]).unwrap()).unwrap();
    let expected = Array3::from_shape_fn((3, 3, 4), |(c, h, w)| f32::from(value((1, h, w, c))));
    assert_eq!(bits(&image), bits(&expected.into_raw_vec_and_offset().0));
    let error = dataset.arrange(&[1, 3, 32, 32]).unwrap_err().to_string();
    assert!(error.contains("2 images of shape [3, 4, 3]") && error.contains("[1, 3, 32, 32]"), "{error}");
    let arrangement = dataset.arrange(&[36]).unwrap();
    let error = dataset.image(2, &arrangement).unwrap_err().to_string();
    assert!(error.contains("2 images and no image 2"), "{error}");
    let other = Dataset::open(&folder.npy("o.npy", &Array2::<u8>::zeros((1, 36))), None, None).unwrap();
    let error = other.image(0, &arrangement).unwrap_err().to_string();
    assert!(error.contains("[36]") && error.contains("[3, 4, 3]"), "{error}");
}

#[test]
fn labels_come_from_their_own_file_or_from_the_images_file() {
    let folder = Folder::new();
    let images = folder.npy("x.npy", &Array3::<u8>::zeros((3, 2, 2)));
    let signed = folder.npy("y.npy", &Array2::from_shape_vec((3, 1), vec![2_i64, 0, 1]).unwrap());
    let dataset = Dataset::open(&images, Some(&signed), None).unwrap();
    assert_eq!(dataset.labels(), Some(&[2, 0, 1][..]));
    dataset.check_labels(3).unwrap();
    let error = dataset.check_labels(2).unwrap_err().to_string();
    let expected = format!(
        "{}: found label 2 for image 0; accepted: class numbers from 0 and below 2",
        signed.display()
    );
    assert_eq!(error, expected);
    let unsigned = folder.npy("u.npy", &Array1::from_vec(vec![7_u64, 8, 9]));
    assert_eq!(Dataset::open(&images, Some(&unsigned), None).unwrap().labels(), Some(&[7, 8, 9][..]));
    let idx = folder.bytes("y-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7]);
    assert_eq!(Dataset::open(&images, Some(&idx), None).unwrap().labels(), Some(&[5, 6, 7][..]));

    let mut npz = NpzWriter::new(fs::File::create(folder.path("both.npz")).unwrap());
    npz.add_array("images", &Array3::<f32>::zeros((3, 2, 2))).unwrap();
    npz.add_array("labels", &Array1::from_vec(vec![1_i32, 1, 0])).unwrap();
    npz.finish().unwrap();
    let both = folder.path("both.npz");
    assert_eq!(Dataset::open(&both, None, None).unwrap().labels(), Some(&[1, 1, 0][..]));
    assert_eq!(Dataset::open(&both, Some(&idx), None).unwrap().labels(), Some(&[5, 6, 7][..]));
    assert_eq!(Dataset::open(&images, Some(&both), None).unwrap().labels(), Some(&[1, 1, 0][..]));
    Dataset::open(&images, None, None).unwrap().check_labels(0).unwrap();
}

#[test]
fn labels_that_do_not_fit_are_refused() {
    let folder = Folder::new();
    let images = folder.npy("x.npy", &Array3::<u8>::zeros((3, 2, 2)));
    let two = folder.npy("two.npy", &Array1::from_vec(vec![0_u8, 1]));
    let error = problem(&images, Some(&two), None);
    let expected = format!("{}: found 2 labels for the 3 images of {}", two.display(), images.display());
    assert!(error.starts_with(&expected), "{error}");
    let negative = folder.npy("n.npy", &Array1::from_vec(vec![0_i32, -1, 2]));
    assert!(problem(&images, Some(&negative), None).contains("label -1 for image 1"));
    let floats = folder.npy("f.npy", &Array1::from_vec(vec![0.0_f32, 1.0, 2.0]));
    assert!(problem(&images, Some(&floats), None).contains("labels of type float32 and shape [3]"));
    let hot = folder.npy("h.npy", &Array2::<u8>::zeros((3, 10)));
    assert!(problem(&images, Some(&hot), None).contains("labels of type uint8 and shape [3, 10]"));
}

#[test]
fn files_without_images_are_refused_by_name() {
    let folder = Folder::new();
    for (name, array, says) in [
        ("none.npy", Array3::<u8>::zeros((0, 28, 28)), "an empty array of shape [0, 28, 28]"),
        ("flat.npy", Array3::<u8>::zeros((5, 0, 28)), "an empty array of shape [5, 0, 28]"),
    ] {
        let file = folder.npy(name, &array);
        let error = problem(&file, None, None);
        assert!(error.starts_with(&format!("{}: found", file.display())) && error.contains(says), "{error}");
    }
    let labels = folder.npy("labels.npy", &Array1::<u8>::zeros(5));
    assert!(problem(&labels, None, None).contains("an array of shape [5]"));
    let gone = folder.path("gone.npy");
    assert!(problem(&gone, None, None).starts_with(&format!("{}: cannot be read", gone.display())));
    let text = folder.bytes("notes.txt", b"some notes");
    let error = problem(&text, None, None);
    assert!(error.starts_with(&format!("{}: found 10 bytes of unknown format", text.display())), "{error}");
    let idx = folder.bytes("huge", &[&[0, 0, 8, 3][..], &[0x10, 0, 0, 0].repeat(3), &[0; 84]].concat());
    assert!(problem(&idx, None, None).contains("84 bytes of values"));
}
