//! The sliding window of a 2-D convolution, as a matrix and back.

use std::collections::HashMap;
use std::ops::Range;

use super::Scalar;

/// A rectangle of output positions: rows and columns.
pub type Part = [Range<usize>; 2];

/// Geometry of a window that slides over an image of `height x width`.
/// A 1-D convolution has height 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window2d {
    /// Height and width of the image.
    pub image: [usize; 2],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Step between windows.
    pub stride: [usize; 2],
    /// Step between the entries of one window.
    pub dilation: [usize; 2],
    /// Zeros before the first row and column. Zeros after the last follow
    /// from `out`.
    pub pad: [usize; 2],
    /// Number of windows per axis.
    pub out: [usize; 2],
}

/// What [`Window2d::neighbours`] finds. Most places have one list, but for a
/// shift.
#[derive(Clone, Debug)]
pub struct Neighbours {
    /// Lists of taps with where each leads.
    pub lists: Vec<Vec<[usize; 2]>>,
    /// For every place its list, and what is added to where its taps lead.
    pub places: Vec<[usize; 2]>,
}

impl Window2d {
    /// Entries of one window: kernel height times width.
    #[must_use]
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Number of windows: output height times width.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.out[0] * self.out[1]
    }

    /// Pixels of one channel.
    #[must_use]
    pub fn pixels(&self) -> usize {
        self.image[0] * self.image[1]
    }

    /// Whether the window is a single pixel that visits every pixel once, so
    /// that `im2col` would only copy.
    #[must_use]
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.pad == [0, 0] && self.out == self.image
    }

    /// The output positions along one axis whose tap number `tap` falls inside
    /// the image, and the coordinate that the first of them reads.
    fn inside(&self, axis: usize, tap: usize) -> (Range<usize>, usize) {
        let offset = tap * self.dilation[axis];
        let (stride, pad, size) = (self.stride[axis], self.pad[axis], self.image[axis]);
        // Position o reads coordinate o * stride + offset - pad.
        let first = pad.saturating_sub(offset).div_ceil(stride);
        let end = (size + pad).saturating_sub(offset).div_ceil(stride).min(self.out[axis]);
        (first..end.max(first), (first * stride + offset).saturating_sub(pad))
    }

    /// The taps along one axis that fall inside the image at output position
    /// `o`, and the coordinate that the first of them reads.
    fn taps_inside(&self, axis: usize, o: usize) -> (Range<usize>, usize) {
        let (dilation, pad, start) = (self.dilation[axis], self.pad[axis], o * self.stride[axis]);
        // Tap t reads coordinate start + t * dilation - pad.
        let first = pad.saturating_sub(start).div_ceil(dilation);
        let end = (self.image[axis] + pad).saturating_sub(start).div_ceil(dilation).min(self.kernel[axis]);
        (first..end.max(first), (start + first * dilation).saturating_sub(pad))
    }

    /// Calls `each(position, tap, pixel)` for every tap of every window that
    /// falls inside the image.
    pub fn each_read(&self, mut each: impl FnMut(usize, usize, usize)) {
        for (y, x) in (0..self.out[0]).flat_map(|y| (0..self.out[1]).map(move |x| (y, x))) {
            let ((taps_y, first_y), (taps_x, first_x)) = (self.taps_inside(0, y), self.taps_inside(1, x));
            for (ky, pixel_y) in taps_y.zip((first_y..).step_by(self.dilation[0])) {
                for (kx, pixel_x) in taps_x.clone().zip((first_x..).step_by(self.dilation[1])) {
                    let (tap, pixel) = (ky * self.kernel[1] + kx, pixel_y * self.image[1] + pixel_x);
                    each(y * self.out[1] + x, tap, pixel);
                }
            }
        }
    }

    /// The taps of every window with the pixels that they read; or, for
    /// `of_pixels`, the taps that read every pixel with the positions of their
    /// windows.
    #[must_use]
    pub fn neighbours(&self, of_pixels: bool) -> Neighbours {
        let places = if of_pixels { self.pixels() } else { self.positions() };
        let mut reads: Vec<Vec<[usize; 2]>> = vec![Vec::new(); places];
        self.each_read(|position, tap, pixel| {
            let [place, other] = if of_pixels { [pixel, position] } else { [position, pixel] };
            reads[place].push([tap, other]);
        });
        let mut numbers: HashMap<Vec<[usize; 2]>, usize> = HashMap::new();
        let relative = |mut list: Vec<[usize; 2]>| {
            let first = list.iter().map(|t| t[1]).min().unwrap_or(0);
            for [_, other] in &mut list {
                *other -= first;
            }
            let fresh = numbers.len();
            [*numbers.entry(list).or_insert(fresh), first]
        };
        let places = reads.into_iter().map(relative).collect();
        let mut lists = vec![Vec::new(); numbers.len()];
        for (list, number) in numbers {
            lists[number] = list;
        }
        Neighbours { lists, places }
    }

    /// Calls `each(column, pixel, count)` for every run of `count` output
    /// positions, starting at index `column` of the unrolled matrix, which
    /// read pixels from `pixel` on in steps of the horizontal stride.
    fn runs(&self, mut each: impl FnMut(usize, usize, usize)) {
        for ky in 0..self.kernel[0] {
            let (rows, first_y) = self.inside(0, ky);
            for kx in 0..self.kernel[1] {
                let (columns, first_x) = self.inside(1, kx);
                if columns.is_empty() {
                    continue;
                }
                let tap = ky * self.kernel[1] + kx;
                for (step, row) in rows.clone().enumerate() {
                    let y = first_y + step * self.stride[0];
                    each(
                        tap * self.positions() + row * self.out[1] + columns.start,
                        y * self.image[1] + first_x,
                        columns.len(),
                    );
                }
            }
        }
    }

    /// The least rectangle of positions outside which all channels of
    /// `outputs` (`positions` entries each) are zero; none if they are inside
    /// too. `sizes` is working memory.
    pub fn support<T: Scalar>(&self, outputs: &[T], sizes: &mut Vec<T>) -> Option<Part> {
        sizes.clear();
        sizes.resize(self.positions(), T::zero());
        for channel in outputs.chunks_exact(self.positions()) {
            sizes.iter_mut().zip(channel).for_each(|(size, y)| *size += y.abs());
        }
        let mut part: Option<Part> = None;
        for (row, y) in sizes.chunks_exact(self.out[1]).enumerate() {
            let Some(first) = y.iter().position(|&y| y != T::zero()) else { continue };
            let end = y.iter().rposition(|&y| y != T::zero()).unwrap_or(first) + 1;
            let [rows, columns] = part.unwrap_or([row..row + 1, first..end]);
            part = Some([rows.start..row + 1, columns.start.min(first)..columns.end.max(end)]);
        }
        part
    }

    /// Unrolls `channels` images into a matrix of `channels * taps` rows and
    /// `positions` columns (row-major); padding reads as zero.
    pub fn im2col<T: Scalar>(&self, images: &[T], matrix: &mut [T]) {
        let block = self.taps() * self.positions();
        matrix.fill(T::zero());
        for (image, part) in images.chunks_exact(self.pixels()).zip(matrix.chunks_exact_mut(block)) {
            self.runs(|column, pixel, count| {
                let target = &mut part[column..column + count];
                if self.stride[1] == 1 {
                    target.copy_from_slice(&image[pixel..pixel + count]);
                } else {
                    for (x, y) in target.iter_mut().zip(image[pixel..].iter().step_by(self.stride[1])) {
                        *x = *y;
                    }
                }
            });
        }
    }

    /// The adjoint of [`Window2d::im2col`], for the positions of `part` only:
    /// adds every entry of the matrix to the pixel that it was read from. The
    /// matrix is transposed: one row of `channels * taps` entries for each
    /// position.
    pub fn col2im<T: Scalar>(&self, part: &Part, matrix: &[T], images: &mut [T]) {
        let channels = images.len() / self.pixels().max(1);
        let mut rows = matrix.chunks_exact(channels * self.taps());
        for y in part[0].clone() {
            let (taps_y, first_y) = self.taps_inside(0, y);
            for (x, row) in part[1].clone().zip(&mut rows) {
                let (taps_x, first_x) = self.taps_inside(1, x);
                if taps_x.is_empty() {
                    continue;
                }
                let patches = images.chunks_exact_mut(self.pixels()).zip(row.chunks_exact(self.taps()));
                for (image, patch) in patches {
                    for (step, ky) in taps_y.clone().enumerate() {
                        let line =
                            &mut image[(first_y + step * self.dilation[0]) * self.image[1] + first_x..];
                        let source = &patch[ky * self.kernel[1]..][taps_x.clone()];
                        for (x, y) in line.iter_mut().step_by(self.dilation[1]).zip(source) {
                            *x += *y;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window() -> impl Strategy<Value = Window2d> {
        let pair = |range: std::ops::Range<usize>| [range.clone(), range];
        (pair(1..9), pair(1..5), pair(1..4), pair(1..4), pair(0..5), pair(0..5)).prop_filter_map(
            "the kernel fits",
            |(image, kernel, stride, dilation, pad, after)| {
                let out = [0, 1].map(|a| {
                    let span = dilation[a] * (kernel[a] - 1) + 1;
                    (image[a] + pad[a] + after[a]).checked_sub(span).map_or(0, |free| free / stride[a] + 1)
                });
                (out[0] > 0 && out[1] > 0).then_some(Window2d { image, kernel, stride, dilation, pad, out })
            },
        )
    }

    /// The definition, entry by entry.
    fn reference(w: &Window2d, image: &[f64]) -> Vec<f64> {
        let mut matrix = Vec::new();
        for ky in 0..w.kernel[0] {
            for kx in 0..w.kernel[1] {
                for oy in 0..w.out[0] {
                    for ox in 0..w.out[1] {
                        let y = (oy * w.stride[0] + ky * w.dilation[0]).checked_sub(w.pad[0]);
                        let x = (ox * w.stride[1] + kx * w.dilation[1]).checked_sub(w.pad[1]);
                        matrix.push(match (y, x) {
                            (Some(y), Some(x)) if y < w.image[0] && x < w.image[1] => {
                                image[y * w.image[1] + x]
                            }
                            _ => 0.0,
                        });
                    }
                }
            }
        }
        matrix
    }

    fn transposed(matrix: &[f64], columns: usize) -> Vec<f64> {
        (0..columns).flat_map(|j| matrix.iter().skip(j).step_by(columns)).copied().collect()
    }

    proptest! {
        #[test]
        fn unrolling_follows_the_definition_and_its_adjoint(w in window()) {
            let images: Vec<f64> = (0..2 * w.pixels()).map(|i| i as f64 + 1.0).collect();
            let block = w.taps() * w.positions();
            let mut matrix = vec![f64::NAN; 2 * block];
            w.im2col(&images, &mut matrix);
            prop_assert_eq!(&matrix[..block], &reference(&w, &images[..w.pixels()])[..]);
            prop_assert_eq!(&matrix[block..], &reference(&w, &images[w.pixels()..])[..]);
            let mut reads = vec![0.0; block];
            w.each_read(|position, tap, pixel| reads[tap * w.positions() + position] = images[pixel]);
            prop_assert_eq!(&matrix[..block], &reads[..]);
            // <im2col(x), m> = <x, col2im(m)>; all integers, so exactly.
            let other: Vec<f64> = (0..2 * block).map(|i| (i * i % 11) as f64).collect();
            let mut back = vec![0.0; images.len()];
            w.col2im(&w.out.map(|n| 0..n), &transposed(&other, w.positions()), &mut back);
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
            prop_assert_eq!(dot(&matrix, &other), dot(&images, &back));
        }

        #[test]
        fn a_part_gives_what_zeros_around_it_give(w in window(), seed in 0..1000_usize) {
            let range = |n: usize, seed: usize| seed % n..seed % n + 1 + (seed / 7) % (n - seed % n);
            let part = [range(w.out[0], seed), range(w.out[1], seed / 3)];
            let inside = |o: usize| {
                part[0].contains(&(o / w.out[1])) && part[1].contains(&(o % w.out[1]))
            };
            let whole: Vec<f64> = (0..w.taps() * w.positions())
                .map(|i| if inside(i % w.positions()) { (i % 13 + 1) as f64 } else { 0.0 })
                .collect();
            let few: Vec<f64> = whole.iter().copied().filter(|&x| x != 0.0).collect();
            let (mut a, mut b) = (vec![0.0; w.pixels()], vec![0.0; w.pixels()]);
            w.col2im(&w.out.map(|n| 0..n), &transposed(&whole, w.positions()), &mut a);
            let size = part[0].len() * part[1].len();
            w.col2im(&part, &transposed(&few, size), &mut b);
            prop_assert_eq!(a, b);
            prop_assert_eq!(w.support(&whole[..w.positions()], &mut Vec::new()), Some(part));
            prop_assert_eq!(w.support(&vec![0.0; w.positions()], &mut Vec::new()), None);
        }
    }
}
