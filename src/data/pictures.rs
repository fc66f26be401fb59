//! PNG and JPEG pictures: one file, or a folder of classes `CLASS/picture.png`.
//!
//! A grey picture is an image `[height, width]`, a coloured one `[height, width, 3]`, or
//! `[height, width, 4]` with an alpha channel, of one byte per value. Colour profiles, gamma and
//! the orientation that a camera notes are not applied.

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
const FOLDER: &str = "a folder of class folders of pictures: CLASS/picture.png";

/// The format that the bytes start like.
pub(super) fn starts(bytes: &[u8]) -> Option<ImageFormat> {
    image::guess_format(bytes).ok().filter(|format| matches!(format, ImageFormat::Png | ImageFormat::Jpeg))
}

/// Reads one picture into an array of one image, `[1, height, width]` or
/// `[1, height, width, channels]`.
///
/// # Errors
/// If the bytes are not a PNG or JPEG file, are damaged or cut off, have sides longer than
/// [`MAX_SIDE`], or hold other than 8 bits per channel.
pub fn parse(bytes: &[u8]) -> Result<Tensor, ParseError> {
    let (shape, pixels) = decode(bytes)?;
    Ok(Tensor { shape: [vec![1], shape].concat(), values: Values::U8(pixels) })
}

/// The shape and the pixels of a picture.
fn decode(bytes: &[u8]) -> Result<(Vec<usize>, Vec<u8>), ParseError> {
    let format = starts(bytes).ok_or_else(|| ParseError::start(bytes, ACCEPTED))?;
    // The decoder fills up what a cut JPEG file lacks; such a picture must not be taken for whole.
    // Padding may follow the mark.
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    if format == ImageFormat::Jpeg && !bytes[..end].ends_with(b"\xff\xd9") {
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
    let shape = vec![picture.height() as usize, picture.width() as usize];
    match picture {
        DynamicImage::ImageLuma8(picture) => Ok((shape, picture.into_raw())),
        DynamicImage::ImageRgb8(picture) => Ok(([shape, vec![3]].concat(), picture.into_raw())),
        DynamicImage::ImageRgba8(picture) => Ok(([shape, vec![4]].concat(), picture.into_raw())),
        _ => Err(ParseError::new(format!("a picture of colour type {:?}", picture.color()), ACCEPTED)),
    }
}

/// What a folder of class folders holds.
pub(super) struct Folder {
    pub(super) parsed: Parsed,
    /// The pictures, in the order of the images.
    pub(super) files: Vec<PathBuf>,
    /// The names of the classes by their labels, where the labels are positions of names.
    pub(super) classes: Option<Vec<String>>,
}

/// Reads a folder of class folders of pictures that all have the same shape into images
/// `[n, height, width]` or `[n, height, width, channels]` and labels `[n]`.
///
/// With `names`, the label is the position of the folder's name among them. Otherwise the names of the
/// class folders are the labels if all are integers, and else the label is the position of the folder's
/// name among the sorted names, empty folders included. The images are
/// in the order of their labels, within a class in the order of the sorted file names. Names that
/// start with a dot are passed over, and so are files beside the class folders that are not
/// pictures.
///
/// # Errors
/// If something cannot be read, there are no class folders or no pictures, a picture stands beside
/// the class folders, a class folder holds something else than pictures, two folders name the same
/// integer, a folder is not among the names, or two pictures differ in shape.
pub(super) fn folder(root: &Path, names: Option<&[String]>) -> Result<Folder, DataError> {
    let (mut pixels, mut labels, mut files) = (Vec::new(), Vec::new(), Vec::new());
    let mut first: Option<(PathBuf, Vec<usize>)> = None;
    let (folders, classes) = classes(root, names)?;
    for (label, class) in folders {
        for path in entries(&class)? {
            if path.is_dir() || !is_picture(&path) {
                let what = if path.is_dir() { "a folder" } else { "a file" };
                let found = format!("{what} in a class folder");
                return Err(ParseError::new(found, "only .png, .jpg and .jpeg files").of(&path));
            }
            let (shape, values) = decode(&file::read(&path)?).map_err(|problem| problem.of(&path))?;
            if (pixels.len() + values.len()) as u64 > MAX_BYTES {
                return Err(ParseError::too_long("pictures", MAX_BYTES).of(root));
            }
            pixels.extend(values);
            labels.push(label);
            let (other, expected) = first.get_or_insert_with(|| (path.clone(), shape.clone()));
            if *expected != shape {
                let accepted = format!("pictures of the shape {expected:?} of {}", other.display());
                return Err(ParseError::new(format!("a picture of shape {shape:?}"), accepted).of(&path));
            }
            files.push(path);
        }
    }
    let Some((_, shape)) = first else {
        return Err(ParseError::new("class folders without pictures", FOLDER).of(root));
    };
    let count = labels.len();
    let parsed = Parsed {
        images: Tensor { shape: [vec![count], shape].concat(), values: Values::U8(pixels) },
        labels: Some(Tensor { shape: vec![count], values: Values::I64(labels) }),
    };
    Ok(Folder { parsed, files, classes })
}

/// Class folders with their labels.
type Classes = Vec<(i64, PathBuf)>;

/// The class folders with their labels, in the order of the labels, and the names of the classes where
/// labels are positions among them.
fn classes(root: &Path, names: Option<&[String]>) -> Result<(Classes, Option<Vec<String>>), DataError> {
    let (folders, files): (Vec<_>, Vec<_>) = entries(root)?.into_iter().partition(|path| path.is_dir());
    if let Some(picture) = files.iter().find(|path| is_picture(path)) {
        return Err(ParseError::new("a picture beside the class folders", FOLDER).of(picture));
    }
    if folders.is_empty() {
        return Err(ParseError::new("a folder without class folders", FOLDER).of(root));
    }
    let name = |folder: &PathBuf| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let integers: Option<Vec<i64>> = folders.iter().map(|folder| name(folder).parse().ok()).collect();
    let (labels, names) = match (names, integers) {
        (Some(names), _) => {
            let place = |folder: &PathBuf| {
                let found = names.iter().position(|known| *known == name(folder));
                found.map(|place| place as i64).ok_or_else(|| {
                    ParseError::new("a class that is not among the names", names.join(", ")).of(folder)
                })
            };
            (folders.iter().map(place).collect::<Result<Vec<_>, _>>()?, Some(names.to_vec()))
        }
        (None, Some(integers)) => (integers, None),
        (None, None) => ((0..).take(folders.len()).collect(), Some(folders.iter().map(name).collect())),
    };
    let mut classes: Vec<_> = labels.into_iter().zip(folders).collect();
    classes.sort();
    for pair in classes.windows(2) {
        if pair[0].0 == pair[1].0 {
            let found = format!("the label {} again, after {}", pair[0].0, pair[0].1.display());
            return Err(ParseError::new(found, "one folder per class").of(&pair[1].1));
        }
    }
    Ok((classes, names))
}

/// What a folder holds, sorted by name, without the names that start with a dot.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let read = |source| DataError::Read { file: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_picture(path: &Path) -> bool {
    let is = |known: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(known));
    is("png") || is("jpg") || is("jpeg")
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use image::{GrayImage, ImageBuffer, Luma, LumaA, Rgb, RgbImage, RgbaImage};

    fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
        samples::picture(picture, ImageFormat::Png)
    }

    fn grey(width: u32, height: u32, value: u8) -> Vec<u8> {
        png(GrayImage::from_pixel(width, height, Luma([value])))
    }

    #[test]
    fn pictures_are_arrays_of_rows_of_pixels() {
        let picture = RgbImage::from_raw(2, 3, (0..18).collect()).unwrap();
        let expected = Tensor::new(vec![1, 3, 2, 3], Values::U8((0..18).collect()));
        assert_eq!(parse(&png(picture)).ok(), expected);
        let picture = RgbaImage::from_raw(2, 1, (0..8).collect()).unwrap();
        assert_eq!(parse(&png(picture)).unwrap().shape(), [1, 1, 2, 4]);
        let expected = Tensor::new(vec![1, 5, 4], Values::U8(vec![77; 20]));
        assert_eq!(parse(&grey(4, 5, 77)).ok(), expected);
        let jpeg = samples::picture(RgbImage::from_pixel(9, 8, Rgb([90; 3])), ImageFormat::Jpeg);
        let (shape, pixels) = decode(&jpeg).unwrap();
        assert!(shape == [8, 9, 3] && pixels.iter().all(|p| p.abs_diff(90) <= 2), "{pixels:?}");
        assert_eq!(parse(&[&jpeg[..], &[0; 3]].concat()), parse(&jpeg));
    }

    #[test]
    fn other_pictures_are_refused() {
        let deep: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_pixel(2, 2, Luma([500]));
        let alpha: ImageBuffer<LumaA<u8>, _> = ImageBuffer::from_pixel(2, 2, LumaA([1, 2]));
        let jpeg = samples::picture(RgbImage::new(40, 40), ImageFormat::Jpeg);
        for (bytes, says) in [
            (&png(deep)[..], "colour type L16"),
            (&png(alpha), "colour type La8"),
            (&grey(MAX_SIDE + 1, 1, 0), "unreadable picture"),
            (&grey(20, 20, 3)[..40], "unreadable picture"),
            (b"GIF89a", "start with"),
            (&jpeg[..jpeg.len() - 9], "end-of-image mark"),
        ] {
            let error = parse(bytes).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("8 bits"), "{error}");
        }
    }

    #[test]
    fn folder_names_are_the_labels_if_all_are_integers() {
        let integers = [
            ("10/a.png", grey(2, 2, 1)),
            ("9/b.PNG", grey(2, 2, 3)),
            ("9/a.png", grey(2, 2, 2)),
            ("9/.hidden", vec![]),
            ("README.txt", vec![]),
        ];
        let others = [("dog/a.png", grey(2, 2, 1)), ("7/a.png", grey(2, 2, 2)), ("cat/.keep", vec![])];
        for (files, values, labels) in
            [(&integers[..], &[2, 3, 1][..], vec![9, 9, 10]), (&others, &[2, 1], vec![0, 2])]
        {
            let Folder { parsed, files, .. } = folder(samples::folder(files).path(), None).unwrap();
            assert_eq!(files.len(), values.len());
            let pixels = values.iter().flat_map(|&value| [value; 4]).collect();
            assert_eq!(parsed.images, Tensor { shape: vec![values.len(), 2, 2], values: Values::U8(pixels) });
            assert_eq!(parsed.labels.unwrap().values(), &Values::I64(labels));
        }
    }

    #[test]
    fn named_classes_keep_their_labels_when_a_folder_is_missing() {
        let names = ["cat", "dog", "owl"].map(String::from);
        let files = [("dog/a.png", grey(2, 2, 1)), ("owl/a.png", grey(2, 2, 2))];
        let root = samples::folder(&files);
        for (named, labels) in [(Some(&names[..]), vec![1, 2]), (None, vec![0, 1])] {
            let Folder { parsed, classes, .. } = folder(root.path(), named).unwrap();
            assert_eq!(parsed.labels.unwrap().values(), &Values::I64(labels));
            assert_eq!(classes.unwrap(), named.unwrap_or(&names[1..]));
        }
        let error = folder(root.path(), Some(&names[..2])).err().unwrap().to_string();
        assert!(error.contains("owl") && error.contains("accepted: cat, dog"), "{error}");
    }

    #[test]
    fn folders_that_hold_something_else_are_refused() {
        for (files, named, says) in [
            (vec![], "", "without class folders"),
            (vec![("a/.x", vec![])], "", "without pictures"),
            (vec![("a.png", grey(1, 1, 0))], "a.png", "beside the class folders"),
            (vec![("a/x.webp", vec![])], "a/x.webp", "a file in a class folder"),
            (vec![("a/b/x.png", vec![])], "a/b", "a folder in a class folder"),
            (vec![("a/x.png", vec![1, 2])], "a/x.png", "start with [01, 02]"),
            (vec![("1/x.png", grey(1, 1, 0)), ("01/x.png", grey(1, 1, 0))], "1", "the label 1 again"),
            (vec![("a/x.png", grey(2, 3, 0)), ("b/y.png", grey(3, 2, 0))], "b/y.png", "shape [2, 3]; acc"),
        ] {
            let root = samples::folder(&files);
            let error = folder(root.path(), None).err().unwrap().to_string();
            let start = format!("{}: found", root.path().join(named).display());
            let start = start.replace("/: found", ": found");
            assert!(error.starts_with(&start) && error.contains(says), "{error}");
        }
        let gone = samples::folder(&[]).path().join("gone");
        assert!(folder(&gone, None).err().unwrap().to_string().contains("cannot be read"));
    }
}
