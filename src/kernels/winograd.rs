//! Convolutions with a 3 x 3 kernel and step 1, with a quarter of the products.
//!
//! Winograd's minimal filtering `F(4 x 4, 3 x 3)` (Lavin and Gray 2016, "Fast algorithms for
//! convolutional neural networks", section 4.3): a tile of 4 x 4 outputs of one channel is
//! `A^T [(G g G^T) . (B^T d B)] A`, where `g` is the kernel, `d` the 6 x 6 inputs below the tile and
//! `.` the product entry by entry. The sum over input channels goes inside, so that 36 small matrix
//! products replace the convolution: 36 products for each pair of channels instead of 144.
//!
//! Samples stand side by side as in [`super::Gather`]. The transforms amplify rounding: an output is
//! off by up to 50 times the unit roundoff times `sum |w| max |x|`, typically by a few times; a direct
//! sum is typically off by less than one.

use super::gather::{OUTPUTS, Target, sums, width};
use super::{Aligned, Finish, Kernel, dispatch};

/// Outputs of a tile along one axis, and the inputs that they read.
const TILE: usize = 4;
const PATCH: usize = 6;
const POINTS: usize = PATCH * PATCH;

/// The kernel transform `G`.
const G: [[f64; 3]; PATCH] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// A convolution with its kernels transformed.
#[derive(Clone, Debug)]
pub struct Winograd {
    /// For each block of outputs and each of the 36 points, `inputs x width` weights.
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// Input and output channels.
    channels: [usize; 2],
    image: [usize; 2],
    pad: [usize; 2],
    out: [usize; 2],
}

impl Winograd {
    /// Transforms a convolution of `image` (height and width) with `pad` zeros before it, to `out`.
    /// `weight(output, input, tap)` and `bias(output)` are its constants.
    #[must_use]
    pub fn new(
        channels: [usize; 2],
        [image, pad, out]: [[usize; 2]; 3],
        weight: impl Fn(usize, usize, usize) -> f32,
        bias: impl Fn(usize) -> f32,
    ) -> Self {
        let [inputs, outputs] = channels;
        let transformed = |output: usize, input: usize, point: usize| {
            let (row, column) = (G[point / PATCH], G[point % PATCH]);
            let taps =
                (0..9).map(|tap| row[tap / 3] * column[tap % 3] * f64::from(weight(output, input, tap)));
            taps.sum::<f64>() as f32
        };
        let mut weights = Vec::new();
        for first in (0..outputs).step_by(OUTPUTS) {
            let block = first..first + width::<f32>(first, outputs);
            for (point, input) in (0..POINTS).flat_map(|p| (0..inputs).map(move |i| (p, i))) {
                let of = |o: usize| if o < outputs { transformed(o, input, point) } else { 0.0 };
                weights.extend(block.clone().map(of));
            }
        }
        Self { weights, bias: (0..outputs).map(bias).collect(), channels, image, pad, out }
    }

    /// Whether fewer vector operations are needed than for a direct sum, for `out` positions.
    #[must_use]
    pub fn pays([inputs, outputs]: [usize; 2], out: [usize; 2]) -> bool {
        let tiles = out.map(|n| n.div_ceil(TILE)).iter().product::<usize>();
        // The transforms cost about 144 and 100 operations for each tile of a channel.
        let operations = tiles * (POINTS * inputs * outputs + 144 * inputs + 100 * outputs);
        4 * operations < 3 * 9 * inputs * outputs * out[0] * out[1]
    }

    /// Channels of one point, with one more for the sake of caches, which hold few lines at distances
    /// that are powers of two.
    fn stride(&self) -> usize {
        self.channels[0] + 1
    }

    /// The convolution, finished, for `LANES` samples side by side; `scratch` is working memory. A
    /// sample's result depends neither on `LANES` nor on where it stands.
    ///
    /// # Panics
    /// If `x` or `out` is too short.
    pub fn apply<const LANES: usize>(
        &self,
        x: &[f32],
        out: &mut [f32],
        finish: Finish,
        scratch: &mut Aligned,
    ) {
        let points = scratch.room(POINTS * (self.stride() + OUTPUTS) * LANES);
        dispatch(Apply::<LANES> { map: self, x, out, finish, points });
    }
}

struct Apply<'a, const LANES: usize> {
    map: &'a Winograd,
    x: &'a [f32],
    out: &'a mut [f32],
    finish: Finish<'a>,
    /// The transformed inputs below one tile (for each point, all channels), then the products of one
    /// block (for each point, all outputs).
    points: &'a mut [f32],
}

impl<const LANES: usize> Kernel for Apply<'_, LANES> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(mut self) {
        let map = self.map;
        for y in (0..map.out[0]).step_by(TILE) {
            for x in (0..map.out[1]).step_by(TILE) {
                self.read::<FUSED>([y, x]);
                let mut weights = &map.weights[..];
                for first in (0..map.channels[1]).step_by(OUTPUTS) {
                    let width = width::<f32>(first, map.channels[1]);
                    let (block, rest) = weights.split_at(POINTS * map.channels[0] * width);
                    weights = rest;
                    match width {
                        2 => self.write::<2, FUSED>(block, first, [y, x]),
                        4 => self.write::<4, FUSED>(block, first, [y, x]),
                        _ => self.write::<OUTPUTS, FUSED>(block, first, [y, x]),
                    }
                }
            }
        }
    }
}

impl<const LANES: usize> Apply<'_, LANES> {
    /// `B^T d B` of the tile at a position of the output, for all channels.
    #[inline(always)]
    fn read<const FUSED: bool>(&mut self, at: [usize; 2]) {
        let Self { map, x, points, .. } = self;
        let [inputs, _] = map.channels;
        let [height, width] = map.image;
        let parts = LANES / VECTOR;
        // Where in a channel the vectors of each entry of the patch begin: past its end for what stands
        // among the zeros around the image.
        let mut places = [[usize::MAX / 2; PATCH]; PATCH];
        for (y, line) in (at[0]..).zip(&mut places) {
            for (x, place) in (at[1]..).zip(line) {
                let [y, x] = [y.wrapping_sub(map.pad[0]), x.wrapping_sub(map.pad[1])];
                if y < height && x < width {
                    *place = (y * width + x) * parts;
                }
            }
        }
        let (x, _) = x.as_chunks::<VECTOR>();
        let stride = map.stride();
        let (points, _) = points.as_chunks_mut::<VECTOR>();
        let mut half = [[[0.0; VECTOR]; PATCH]; PATCH];
        for (channel, image) in x.chunks_exact(height * width * parts).take(inputs).enumerate() {
            for part in 0..parts {
                for x in 0..PATCH {
                    let mut column = [[0.0; VECTOR]; PATCH];
                    for (pixel, line) in column.iter_mut().zip(&places) {
                        if let Some(found) = image.get(line[x] + part) {
                            *pixel = *found;
                        }
                    }
                    half[x] = input::<FUSED>(&column);
                }
                for row in 0..PATCH {
                    let [a, b, c, d, e, f] = &half;
                    let line = input::<FUSED>(&[a[row], b[row], c[row], d[row], e[row], f[row]]);
                    for (column, result) in line.into_iter().enumerate() {
                        points[((row * PATCH + column) * stride + channel) * parts + part] = result;
                    }
                }
            }
        }
    }

    /// Multiplies with one block of kernels and transforms back.
    #[inline(always)]
    fn write<const WIDTH: usize, const FUSED: bool>(&mut self, block: &[f32], first: usize, at: [usize; 2]) {
        let [inputs, outputs] = self.map.channels;
        let stride = self.map.stride();
        let (weights, _) = block.as_chunks::<WIDTH>();
        let (points, products) = self.points.split_at_mut(POINTS * stride * LANES);
        let (points, _) = points.as_chunks::<LANES>();
        let (sums_of, _) = products.as_chunks_mut::<LANES>();
        for (point, product) in sums_of.chunks_exact_mut(WIDTH).take(POINTS).enumerate() {
            let (weights, points) = (&weights[point * inputs..], &points[point * stride..]);
            let sums = sums::<LANES, WIDTH, FUSED>(weights.iter().zip(points).take(inputs));
            product.copy_from_slice(&sums);
        }
        let parts = LANES / VECTOR;
        let (products, _) = products.as_chunks::<VECTOR>();
        let [height, width] = self.map.out;
        let mut half = [[[0.0; VECTOR]; TILE]; PATCH];
        for o in first..outputs.min(first + WIDTH) {
            for part in 0..parts {
                for (column, half) in half.iter_mut().enumerate() {
                    let mut line = [[0.0; VECTOR]; PATCH];
                    for (row, entry) in line.iter_mut().enumerate() {
                        *entry = products[((row * PATCH + column) * WIDTH + o - first) * parts + part];
                    }
                    *half = output::<FUSED>(&line);
                }
                for (row, y) in (at[0]..height).take(TILE).enumerate() {
                    let [a, b, c, d, e, f] = &half;
                    let line = output::<FUSED>(&[a[row], b[row], c[row], d[row], e[row], f[row]]);
                    for (x, sum) in (at[1]..width).zip(line) {
                        let place = ((o * height + y) * width + x) * parts + part;
                        Target { place, bias: self.map.bias[o], finish: self.finish }.write(self.out, &sum);
                    }
                }
            }
        }
    }
}

/// Samples that are transformed together.
const VECTOR: usize = 8;
type Vector = [f32; VECTOR];

// The loops of these become single instructions.

#[inline(always)]
fn add(x: Vector, y: Vector) -> Vector {
    std::array::from_fn(|i| x[i] + y[i])
}

#[inline(always)]
fn sub(x: Vector, y: Vector) -> Vector {
    std::array::from_fn(|i| x[i] - y[i])
}

/// `a x + y`.
#[inline(always)]
fn fma<const FUSED: bool>(a: f32, x: Vector, y: Vector) -> Vector {
    std::array::from_fn(|i| if FUSED { a.mul_add(x[i], y[i]) } else { a * x[i] + y[i] })
}

/// `B^T d`.
#[inline(always)]
fn input<const FUSED: bool>(d: &[Vector; PATCH]) -> [Vector; PATCH] {
    let of = fma::<FUSED>;
    let (even, odd) = (of(-4.0, d[2], d[4]), of(-4.0, d[1], d[3]));
    let (outer, inner) = (sub(d[4], d[2]), sub(d[3], d[1]));
    [
        of(4.0, d[0], of(-5.0, d[2], d[4])),
        add(even, odd),
        sub(even, odd),
        of(2.0, inner, outer),
        of(-2.0, inner, outer),
        of(4.0, d[1], of(-5.0, d[3], d[5])),
    ]
}

/// `A^T m`.
#[inline(always)]
fn output<const FUSED: bool>(m: &[Vector; PATCH]) -> [Vector; TILE] {
    let of = fma::<FUSED>;
    let (near, far) = (add(m[1], m[2]), add(m[3], m[4]));
    let (slope, steep) = (sub(m[1], m[2]), sub(m[3], m[4]));
    [add(add(m[0], near), far), of(2.0, steep, slope), of(4.0, far, near), of(8.0, steep, add(slope, m[5]))]
}

#[cfg(test)]
mod tests {
    use super::super::{NARROW, WIDE, one_by_one, side_by_side};
    use super::*;
    use proptest::prelude::*;

    fn weight(o: usize, i: usize, tap: usize) -> f32 {
        ((o * 31 + i * 7 + tap * 13) % 23) as f32 / 23.0 - 0.5
    }

    fn bias(o: usize) -> f32 {
        o as f32 / 8.0 - 0.25
    }

    fn run<const LANES: usize>(map: &Winograd, x: &[f32], add: Option<&[f32]>, relu: bool) -> Vec<f32> {
        let inputs = map.channels[0] * map.image[0] * map.image[1];
        let outputs = map.channels[1] * map.out[0] * map.out[1];
        let (mut beside, mut others) = (vec![f32::NAN; inputs * LANES], vec![f32::NAN; outputs * LANES]);
        side_by_side::<LANES>(x, inputs, &mut beside);
        side_by_side::<LANES>(add.unwrap_or(&[]), outputs, &mut others);
        let mut out = vec![f32::NAN; outputs * LANES];
        let finish = Finish { add: add.map(|_| &others[..]), relu };
        map.apply::<LANES>(&beside, &mut out, finish, &mut Aligned::default());
        let mut rows = vec![0.0; x.len() / inputs * outputs];
        one_by_one::<LANES>(&out, outputs, &mut rows);
        rows
    }

    proptest! {
        #[test]
        fn filtering_follows_the_definition(
            [inputs, outputs] in [1_usize..9, 1..15],
            image in [3_usize..12, 3..12],
            pad in [0_usize..3, 0..3],
            after in [0_usize..3, 0..3],
            samples in 1_usize..=WIDE,
            seed in 0_usize..1000,
            relu in any::<bool>(),
            added in any::<bool>(),
        ) {
            let out = [0, 1].map(|axis| image[axis] + pad[axis] + after[axis] - 2);
            let map = Winograd::new([inputs, outputs], [image, pad, out], weight, bias);
            let len = inputs * image[0] * image[1];
            let x: Vec<f32> = (0..samples * len).map(|i| ((i * 37 + seed * 11) % 97) as f32 / 97.0 - 0.4).collect();
            let add: Vec<f32> = (0..samples * outputs * out[0] * out[1]).map(|i| (i % 7) as f32 - 3.0).collect();
            let found = run::<WIDE>(&map, &x, added.then_some(&add), relu);
            let mut at = 0;
            for s in 0..samples {
                for (o, y, column) in (0..outputs)
                    .flat_map(|o| (0..out[0]).flat_map(move |y| (0..out[1]).map(move |c| (o, y, c))))
                {
                    let mut exact = f64::from(bias(o)) + if added { f64::from(add[at]) } else { 0.0 };
                    let mut size = 1.0 + exact.abs();
                    for (i, tap) in (0..inputs).flat_map(|i| (0..9).map(move |t| (i, t))) {
                        size += f64::from(weight(o, i, tap).abs());
                        let [row, column] = [y + tap / 3, column + tap % 3];
                        let (Some(row), Some(column)) = (row.checked_sub(pad[0]), column.checked_sub(pad[1])) else {
                            continue;
                        };
                        if row < image[0] && column < image[1] {
                            let pixel = x[s * len + (i * image[0] + row) * image[1] + column];
                            exact += f64::from(weight(o, i, tap)) * f64::from(pixel);
                        }
                    }
                    let exact = if relu { exact.max(0.0) } else { exact };
                    let error = (f64::from(found[at]) - exact).abs() / size * f64::from(1 << 24);
                    prop_assert!(error < 50.0, "{error} units");
                    at += 1;
                }
            }
            // Every sample for itself, in either width, gives the same bits.
            for (x, found) in x.chunks(len).zip(found.chunks(outputs * out[0] * out[1])).take(3) {
                if !added {
                    prop_assert_eq!(&run::<NARROW>(&map, x, None, relu), found);
                    prop_assert_eq!(&run::<WIDE>(&map, x, None, relu), found);
                }
            }
        }
    }

    #[test]
    fn nothing_undefined_is_hidden() {
        let map = Winograd::new([1, 1], [[8, 8], [1, 1], [8, 8]], |_, _, _| 1.0, |_| 0.0);
        let mut x = vec![1.0; 64];
        x[9] = f32::NAN;
        let out = run::<NARROW>(&map, &x, None, true);
        assert!((0..3).flat_map(|y| (0..3).map(move |x| y * 8 + x)).all(|i| out[i].is_nan()));
    }
}
