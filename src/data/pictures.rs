//! PNG and JPEG pictures: one file, or a folder of classes `CLASS/picture.png`.
//!
//! A grey picture is an image `[height, width]`, a coloured one `[height, width, 3]`, or
//! `[height, width, 4]` with an alpha channel, of one byte per value. Colour profiles, gamma and
//! the orientation that a camera notes are not applied.

use std::ffi::OsString;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageFormat, ImageReader, Limits};

use super::tensor::{Tensor, Values};
use super::{DataError, MAX_BYTES, ParseError, Parsed, file};

/// The longest side of a picture, in pixels.
pub const MAX_SIDE: u32 = 4096;
/// Bytes that decoding one picture may take: the largest picture and the decoder's own buffers.
const MAX_ALLOC: u64 = 128 << 20;
const ACCEPTED: &str = "PNG or JPEG pictures of 8 bits per channel (grey, RGB or RGBA)";

/// The format that the bytes start like.
pub(super) fn starts(bytes: &[u8]) -> Option<ImageFormat> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(ImageFormat::Png)
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        Some(ImageFormat::Jpeg)
    } else {
        None
    }
}

/// Reads one picture into an array of one image, `[1, height, width]` or
/// `[1, height, width, channels]`.
///
/// # Errors
/// If the bytes are not a PNG or JPEG file, are damaged or cut off, have sides longer than [`MAX_SIDE`], or
/// hold other than 8 bits per channel.
pub fn parse(bytes: &[u8]) -> Result<Tensor, ParseError> {
    let Some(format) = starts(bytes) else {
        let start = &bytes[..bytes.len().min(8)];
        return Err(ParseError::new(format!("a file that starts with {start:02x?}"), ACCEPTED));
    };
    // The decoder fills up what a cut JPEG file lacks; such a picture must not be taken for whole.
    if format == ImageFormat::Jpeg && !ends_with_mark(bytes) {
        return Err(ParseError::new("a JPEG file that does not end with the end-of-image mark", ACCEPTED));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_ALLOC);
    reader.limits(limits);
    let picture = reader
        .decode()
        .map_err(|error| ParseError::new(format!("an unreadable picture ({error})"), ACCEPTED))?;
    let (width, height, colour) = (picture.width(), picture.height(), picture.color());
    let (channels, pixels) = match picture {
        DynamicImage::ImageLuma8(picture) => (None, picture.into_raw()),
        DynamicImage::ImageRgb8(picture) => (Some(3), picture.into_raw()),
        DynamicImage::ImageRgba8(picture) => (Some(4), picture.into_raw()),
        _ => return Err(ParseError::new(format!("a picture of colour type {colour:?}"), ACCEPTED)),
    };
    let sides = [1, height as usize, width as usize];
    let shape = sides.into_iter().chain(channels).collect();
    Tensor::new(shape, Values::U8(pixels))
        .ok_or_else(|| ParseError::new(format!("other than {width} x {height} pixels"), ACCEPTED))
}

/// Whether the end-of-image mark of JPEG is the last thing in a file, padding aside.
fn ends_with_mark(bytes: &[u8]) -> bool {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    bytes[..end].ends_with(b"\xff\xd9")
}

/// Reads a folder of class folders of pictures that all have the same shape into images
/// `[n, height, width]` or `[n, height, width, channels]` and labels `[n]`.
///
/// The names of the class folders are the labels if all are integers. Otherwise the label is the
/// position of the folder's name among the sorted names, empty folders included. The images are
/// in the order of their labels, within a class in the order of the sorted file names. Names that
/// start with a dot are passed over, and so are files beside the class folders that are not
/// pictures.
///
/// # Errors
/// If something cannot be read, there are no class folders or no pictures, a picture stands beside
/// the class folders, a class folder holds something else than pictures, two folders name the same
/// integer, or two pictures differ in shape.
pub fn folder(root: &Path) -> Result<Parsed, DataError> {
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    let mut first: Option<(PathBuf, Vec<usize>)> = None;
    for (label, class) in classes(root)? {
        for name in names(&class)? {
            let path = class.join(name);
            if path.is_dir() || !is_picture(&path) {
                let what = if path.is_dir() { "a folder" } else { "a file" };
                return Err(content(
                    &path,
                    format!("{what} in a class folder"),
                    "only .png, .jpg and .jpeg files",
                ));
            }
            let picture = parse(&file::read(&path)?)
                .map_err(|problem| DataError::Content { file: path.clone(), problem })?;
            let Values::U8(values) = picture.values() else {
                return Err(content(&path, picture.values().type_name(), ACCEPTED));
            };
            if (pixels.len() + values.len()) as u64 > MAX_BYTES {
                return Err(content(
                    root,
                    format!("more than {MAX_BYTES} bytes of pixels"),
                    "fewer pictures",
                ));
            }
            pixels.extend_from_slice(values);
            labels.push(label);
            let shape = picture.shape()[1..].to_vec();
            match &first {
                None => first = Some((path, shape)),
                Some((_, expected)) if *expected == shape => (),
                Some((other, expected)) => {
                    let accepted =
                        format!("pictures that all have the shape {expected:?} of {}", other.display());
                    return Err(content(&path, format!("a picture of shape {shape:?}"), accepted));
                }
            }
        }
    }
    let Some((_, shape)) = first else {
        return Err(content(root, "class folders without pictures", "a folder of class folders of pictures"));
    };
    let count = labels.len();
    let shape = [count].into_iter().chain(shape).collect();
    Ok(Parsed {
        images: Tensor::from_parts(shape, Values::U8(pixels)),
        labels: Some(Tensor::from_parts(vec![count], Values::I64(labels))),
    })
}

/// The class folders with their labels, in the order of the labels.
fn classes(root: &Path) -> Result<Vec<(i64, PathBuf)>, DataError> {
    let accepted = "a folder of class folders of pictures: CLASS/picture.png";
    let mut folders = Vec::new();
    for name in names(root)? {
        let path = root.join(&name);
        if path.is_dir() {
            folders.push((name, path));
        } else if is_picture(&path) {
            return Err(content(&path, "a picture beside the class folders", accepted));
        }
    }
    if folders.is_empty() {
        return Err(content(root, "a folder without class folders", accepted));
    }
    let integers: Option<Vec<i64>> = folders.iter().map(|(name, _)| name.to_str()?.parse().ok()).collect();
    let labels = integers.unwrap_or_else(|| (0..).take(folders.len()).collect());
    let mut classes: Vec<_> = labels.into_iter().zip(folders.into_iter().map(|(_, path)| path)).collect();
    classes.sort();
    for pair in classes.windows(2) {
        if pair[0].0 == pair[1].0 {
            let found = format!("the label {} again, after {}", pair[0].0, pair[0].1.display());
            return Err(content(&pair[1].1, found, "one folder per class"));
        }
    }
    Ok(classes)
}

/// The names in a folder, sorted, without those that start with a dot.
fn names(folder: &Path) -> Result<Vec<OsString>, DataError> {
    let read = |source| DataError::Read { file: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn is_picture(path: &Path) -> bool {
    let known = |extension: &str| ["png", "jpg", "jpeg"].iter().any(|e| extension.eq_ignore_ascii_case(e));
    path.extension().and_then(|extension| extension.to_str()).is_some_and(known)
}

fn content(file: &Path, found: impl Into<String>, accepted: impl Into<String>) -> DataError {
    DataError::Content { file: file.to_owned(), problem: ParseError::new(found, accepted) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, ImageBuffer, Luma, LumaA, Rgb, RgbImage, RgbaImage};

    fn encode(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn grey(width: u32, height: u32, value: u8) -> Vec<u8> {
        encode(GrayImage::from_pixel(width, height, Luma([value])), ImageFormat::Png)
    }

    #[test]
    fn pictures_are_arrays_of_rows_of_pixels() {
        let picture = RgbImage::from_raw(2, 3, (0..18).collect()).unwrap();
        let tensor = parse(&encode(picture, ImageFormat::Png)).unwrap();
        assert_eq!(tensor, Tensor::new(vec![1, 3, 2, 3], Values::U8((0..18).collect())).unwrap());
        let picture = RgbaImage::from_raw(2, 1, (0..8).collect()).unwrap();
        assert_eq!(parse(&encode(picture, ImageFormat::Png)).unwrap().shape(), [1, 1, 2, 4]);
        let tensor = parse(&grey(4, 5, 77)).unwrap();
        assert_eq!(tensor, Tensor::new(vec![1, 5, 4], Values::U8(vec![77; 20])).unwrap());
        let tensor = parse(&encode(RgbImage::from_pixel(9, 8, Rgb([90; 3])), ImageFormat::Jpeg)).unwrap();
        assert_eq!(tensor.shape(), [1, 8, 9, 3]);
        let Values::U8(pixels) = tensor.values() else { panic!("bytes stay bytes") };
        assert!(pixels.iter().all(|p| p.abs_diff(90) <= 2), "{pixels:?}");
    }

    #[test]
    fn other_pictures_are_refused() {
        let deep: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_pixel(2, 2, Luma([500]));
        let error = parse(&encode(deep, ImageFormat::Png)).unwrap_err().to_string();
        assert!(error.contains("colour type L16") && error.contains("8 bits"), "{error}");
        let alpha: ImageBuffer<LumaA<u8>, _> = ImageBuffer::from_pixel(2, 2, LumaA([1, 2]));
        assert!(parse(&encode(alpha, ImageFormat::Png)).unwrap_err().to_string().contains("colour type La8"));
        assert!(parse(&grey(MAX_SIDE + 1, 1, 0)).unwrap_err().to_string().contains("unreadable picture"));
        assert!(parse(b"GIF89a").unwrap_err().to_string().contains("starts with"));
        let jpeg = encode(RgbImage::new(40, 40), ImageFormat::Jpeg);
        assert_eq!(parse(&[&jpeg[..], &[0; 3]].concat()), parse(&jpeg));
        let error = parse(&jpeg[..jpeg.len() - 9]).unwrap_err().to_string();
        assert!(error.contains("end-of-image mark"), "{error}");
        let png = grey(20, 20, 3);
        assert!(parse(&png[..png.len() / 2]).unwrap_err().to_string().contains("unreadable picture"));
    }

    fn folder_of(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        root
    }

    /// The first pixel of each picture of 2 x 2 and the labels.
    fn first_pixels_and_labels(files: &[(&str, Vec<u8>)]) -> (Vec<u8>, Vec<i64>) {
        let root = folder_of(files);
        let parsed = folder(root.path()).unwrap();
        assert_eq!(parsed.images.shape()[1..], [2, 2]);
        let (Values::U8(pixels), Values::I64(labels)) =
            (parsed.images.values(), parsed.labels.as_ref().unwrap().values())
        else {
            panic!("bytes and labels")
        };
        (pixels.chunks(4).map(|picture| picture[0]).collect(), labels.clone())
    }

    #[test]
    fn integer_folder_names_are_the_labels() {
        let files = [
            ("10/a.png", grey(2, 2, 1)),
            ("9/b.PNG", grey(2, 2, 3)),
            ("9/a.png", grey(2, 2, 2)),
            ("9/.hidden", vec![]),
            ("README.txt", vec![]),
        ];
        assert_eq!(first_pixels_and_labels(&files), (vec![2, 3, 1], vec![9, 9, 10]));
    }

    #[test]
    fn other_folder_names_are_numbered_in_sorted_order() {
        let files = [("dog/a.png", grey(2, 2, 1)), ("7/a.png", grey(2, 2, 2)), ("cat/.keep", vec![])];
        assert_eq!(first_pixels_and_labels(&files), (vec![2, 1], vec![0, 2]));
    }

    #[test]
    fn folders_that_hold_something_else_are_refused() {
        for (files, named, says) in [
            (vec![], "", "without class folders"),
            (vec![("a/.x", vec![])], "", "without pictures"),
            (vec![("a.png", grey(1, 1, 0))], "a.png", "beside the class folders"),
            (vec![("a/x.webp", vec![])], "a/x.webp", "a file in a class folder"),
            (vec![("a/b/x.png", vec![])], "a/b", "a folder in a class folder"),
            (vec![("a/x.png", vec![1, 2])], "a/x.png", "starts with [01, 02]"),
            (vec![("1/x.png", grey(1, 1, 0)), ("01/x.png", grey(1, 1, 0))], "1", "the label 1 again"),
            (
                vec![("a/x.png", grey(2, 3, 0)), ("b/y.png", grey(3, 2, 0))],
                "b/y.png",
                "shape [2, 3]; accepted",
            ),
        ] {
            let root = folder_of(&files);
            let error = folder(root.path()).unwrap_err().to_string();
            let start = format!("{}: found", root.path().join(named).display());
            let start = start.replace("/: found", ": found");
            assert!(error.starts_with(&start) && error.contains(says), "{error}");
        }
        let gone = folder_of(&[]).path().join("gone");
        assert!(folder(&gone).unwrap_err().to_string().contains("cannot be read"));
    }
}
