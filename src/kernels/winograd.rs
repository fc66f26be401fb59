//! Convolutions with fewer products: 3 x 3 kernels with step 1, and 4 x 4 kernels with step 2.
//!
//! Winograd's minimal filtering (Lavin and Gray 2016, "Fast algorithms for convolutional neural networks",
//! section 4.3): a tile of 4 x 4 outputs of one channel is `A^T [(G g G^T) . (B^T d B)] A`, where `g` is the
//! kernel, `d` the inputs below the tile and `.` the product entry by entry. The sum over input channels
//! goes inside, so that small matrix products, one for each point of `d`, replace the convolution: for
//! 3 x 3 kernels, `F(4 x 4, 3 x 3)`, 36 products for each pair of channels instead of 144. A 4 x 4 kernel
//! with step 2 is four 2 x 2 kernels with step 1, on the even and odd rows and columns of the input:
//! `F(4 x 4, 2 x 2)`, 4 * 25 products instead of 256.
//!
//! Samples stand side by side as in [`super::Gather`]. The transforms amplify rounding: an output is
//! off by up to 50 times the unit roundoff times `sum |w| max |x|`, typically by a few times; a direct
//! sum is typically off by less than one.

use super::gather::{OUTPUTS, Target, sums, width};
use super::{Aligned, Finish, Kernel, dispatch};

/// Outputs of a tile along one axis.
const TILE: usize = 4;

/// The kernel transform `G` for the points 0, 1, -1, 2, -2 and infinity.
const G3: [[f64; 3]; 6] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// For the points 0, 1, -1, 2 and infinity.
const G2: [[f64; 2]; 5] =
    [[1.0 / 2.0, 0.0], [-1.0 / 2.0, -1.0 / 2.0], [-1.0 / 6.0, 1.0 / 6.0], [1.0 / 6.0, 1.0 / 3.0], [0.0, 1.0]];

/// A convolution with its kernels transformed.
#[derive(Clone, Debug)]
pub struct Winograd {
    /// For each block of outputs and each point, `planes x width` weights.
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// Input and output channels.
    channels: [usize; 2],
    step: usize,
    image: [usize; 2],
    pad: [usize; 2],
    out: [usize; 2],
}

impl Winograd {
    /// Rows of the kernels for steps of 1 and 2.
    pub const KERNELS: [usize; 2] = [3, 4];

    /// Transforms a convolution with this step of `image` (height and width) with `pad` zeros before it, to
    /// `out`. `weight(output, input, tap)` and `bias(output)` are its constants.
    ///
    /// # Panics
    /// If the step is neither 1 nor 2.
    #[must_use]
    pub fn new(
        channels: [usize; 2],
        step: usize,
        [image, pad, out]: [[usize; 2]; 3],
        weight: impl Fn(usize, usize, usize) -> f32,
        bias: impl Fn(usize) -> f32,
    ) -> Self {
        let [inputs, outputs] = channels;
        let kernel = Self::KERNELS[step - 1];
        let rows: Vec<&[f64]> = match step {
            1 => G3.iter().map(|row| &row[..]).collect(),
            _ => G2.iter().map(|row| &row[..]).collect(),
        };
        let [patch, planes] = [rows.len(), inputs * step * step];
        let transformed = |output: usize, plane: usize, point: usize| {
            let (input, phase) = (plane / (step * step), plane % (step * step));
            let mut sum = 0.0;
            for (y, row) in rows[point / patch].iter().enumerate() {
                for (x, column) in rows[point % patch].iter().enumerate() {
                    let tap = (step * y + phase / step) * kernel + step * x + phase % step;
                    sum += row * column * f64::from(weight(output, input, tap));
                }
            }
            sum as f32
        };
        let mut weights = Vec::new();
        for first in (0..outputs).step_by(OUTPUTS) {
            let block = first..first + width::<f32>(first, outputs);
            for (point, plane) in (0..patch * patch).flat_map(|p| (0..planes).map(move |i| (p, i))) {
                let of = |o: usize| if o < outputs { transformed(o, plane, point) } else { 0.0 };
                weights.extend(block.clone().map(of));
            }
        }
        Self { weights, bias: (0..outputs).map(bias).collect(), channels, step, image, pad, out }
    }

    /// Whether fewer vector operations are needed than for a direct sum, for `out` positions.
    #[must_use]
    pub fn pays([inputs, outputs]: [usize; 2], step: usize, out: [usize; 2]) -> bool {
        let tiles = out.map(|n| n.div_ceil(TILE)).iter().product::<usize>();
        // What the transforms cost for each tile of a plane and of an output, about.
        let (points, read, write) = if step == 1 { (36, 144, 100) } else { (25, 90, 75) };
        let planes = inputs * step * step;
        let operations = tiles * (points * planes * outputs + read * planes + write * outputs);
        let taps = Self::KERNELS[step - 1] * Self::KERNELS[step - 1];
        4 * operations < 3 * taps * inputs * outputs * out[0] * out[1]
    }

    /// Even and odd rows and columns of all input channels.
    fn planes(&self) -> usize {
        self.channels[0] * self.step * self.step
    }

    /// Planes of one point, with one more for the sake of caches, which hold few lines at distances
    /// that are powers of two.
    fn stride(&self) -> usize {
        self.planes() + 1
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
        let points = scratch.room(36 * (self.stride() + OUTPUTS) * LANES);
        match self.step {
            1 => dispatch(Apply::<LANES, 6> { map: self, x, out, finish, points }),
            _ => dispatch(Apply::<LANES, 5> { map: self, x, out, finish, points }),
        }
    }
}

/// With patches of `PATCH x PATCH` inputs below a tile.
struct Apply<'a, const LANES: usize, const PATCH: usize> {
    map: &'a Winograd,
    x: &'a [f32],
    out: &'a mut [f32],
    finish: Finish<'a>,
    /// The transformed inputs below one tile (for each point, all planes), then the products of one
    /// block (for each point, all outputs).
    points: &'a mut [f32],
}

impl<const LANES: usize, const PATCH: usize> Kernel for Apply<'_, LANES, PATCH> {
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
                    let (block, rest) = weights.split_at(PATCH * PATCH * map.planes() * width);
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

impl<const LANES: usize, const PATCH: usize> Apply<'_, LANES, PATCH> {
    /// `B^T d B` of the tile at a position of the output, for all planes.
    #[inline(always)]
    fn read<const FUSED: bool>(&mut self, at: [usize; 2]) {
        let Self { map, x, points, .. } = self;
        let ([inputs, _], step) = (map.channels, map.step);
        let [height, width] = map.image;
        let parts = LANES / VECTOR;
        let (x, _) = x.as_chunks::<VECTOR>();
        let stride = map.stride();
        let (points, _) = points.as_chunks_mut::<VECTOR>();
        let mut half = [[[0.0; VECTOR]; PATCH]; PATCH];
        for phase in 0..step * step {
            // Where in a channel the vectors of each entry of the patch begin: past its end for what
            // stands among the zeros around the image.
            let mut places = [[usize::MAX / 2; PATCH]; PATCH];
            let first = [step * at[0] + phase / step, step * at[1] + phase % step];
            for (y, line) in (first[0]..).step_by(step).zip(&mut places) {
                for (x, place) in (first[1]..).step_by(step).zip(line) {
                    let [y, x] = [y.wrapping_sub(map.pad[0]), x.wrapping_sub(map.pad[1])];
                    if y < height && x < width {
                        *place = (y * width + x) * parts;
                    }
                }
            }
            for (channel, image) in x.chunks_exact(height * width * parts).take(inputs).enumerate() {
                let plane = channel * step * step + phase;
                for part in 0..parts {
                    for x in 0..PATCH {
                        let mut column = [[0.0; VECTOR]; PATCH];
                        for (pixel, line) in column.iter_mut().zip(&places) {
                            if let Some(found) = image.get(line[x] + part) {
                                *pixel = *found;
                            }
                        }
                        half[x] = input::<PATCH, FUSED>(&column);
                    }
                    for row in 0..PATCH {
                        let mut line = [[0.0; VECTOR]; PATCH];
                        for x in 0..PATCH {
                            line[x] = half[x][row];
                        }
                        let line = input::<PATCH, FUSED>(&line);
                        for (column, result) in line.into_iter().enumerate() {
                            points[((row * PATCH + column) * stride + plane) * parts + part] = result;
                        }
                    }
                }
            }
        }
    }

    /// Multiplies with one block of kernels and transforms back.
    #[inline(always)]
    fn write<const WIDTH: usize, const FUSED: bool>(&mut self, block: &[f32], first: usize, at: [usize; 2]) {
        let (planes, outputs) = (self.map.planes(), self.map.channels[1]);
        let stride = self.map.stride();
        let (weights, _) = block.as_chunks::<WIDTH>();
        let (points, products) = self.points.split_at_mut(PATCH * PATCH * stride * LANES);
        let (points, _) = points.as_chunks::<LANES>();
        let (sums_of, _) = products.as_chunks_mut::<LANES>();
        for (point, product) in sums_of.chunks_exact_mut(WIDTH).take(PATCH * PATCH).enumerate() {
            let (weights, points) = (&weights[point * planes..], &points[point * stride..]);
            let sums = sums::<LANES, WIDTH, FUSED>(weights.iter().zip(points).take(planes));
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
                    *half = output::<PATCH, FUSED>(&line);
                }
                for (row, y) in (at[0]..height).take(TILE).enumerate() {
                    let mut line = [[0.0; VECTOR]; PATCH];
                    for x in 0..PATCH {
                        line[x] = half[x][row];
                    }
                    for (x, sum) in (at[1]..width).zip(output::<PATCH, FUSED>(&line)) {
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
fn input<const PATCH: usize, const FUSED: bool>(d: &[Vector; PATCH]) -> [Vector; PATCH] {
    let of = fma::<FUSED>;
    let mut result = [[0.0; VECTOR]; PATCH];
    if PATCH == 5 {
        let (outer, inner) = (sub(d[4], d[2]), sub(d[3], d[1]));
        result[0] = of(2.0, sub(d[0], d[2]), inner);
        result[1] = of(-2.0, d[1], sub(d[3], d[2]));
        result[2] = of(2.0, d[1], of(-3.0, d[2], d[3]));
        result[3] = inner;
        result[4] = of(-2.0, inner, outer);
    } else {
        let (even, odd) = (of(-4.0, d[2], d[4]), of(-4.0, d[1], d[3]));
        let (outer, inner) = (sub(d[4], d[2]), sub(d[3], d[1]));
        result[0] = of(4.0, d[0], of(-5.0, d[2], d[4]));
        result[1] = add(even, odd);
        result[2] = sub(even, odd);
        result[3] = of(2.0, inner, outer);
        result[4] = of(-2.0, inner, outer);
        result[5] = of(4.0, d[1], of(-5.0, d[3], d[5]));
    }
    result
}

/// `A^T m`.
#[inline(always)]
fn output<const PATCH: usize, const FUSED: bool>(m: &[Vector; PATCH]) -> [Vector; TILE] {
    let of = fma::<FUSED>;
    let (near, slope) = (add(m[1], m[2]), sub(m[1], m[2]));
    if PATCH == 5 {
        let far = m[3];
        return [
            add(add(m[0], near), far),
            of(2.0, far, slope),
            of(4.0, far, near),
            of(8.0, far, add(slope, m[4])),
        ];
    }
    let (far, steep) = (add(m[3], m[4]), sub(m[3], m[4]));
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
            step in 1_usize..=2,
            image in [4_usize..14, 4..14],
            pad in [0_usize..3, 0..3],
            after in [0_usize..3, 0..3],
            samples in 1_usize..=WIDE,
            seed in 0_usize..1000,
            relu in any::<bool>(),
            added in any::<bool>(),
        ) {
            let kernel = Winograd::KERNELS[step - 1];
            let out = [0, 1].map(|axis| (image[axis] + pad[axis] + after[axis] - kernel) / step + 1);
            let map = Winograd::new([inputs, outputs], step, [image, pad, out], weight, bias);
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
                    for (i, tap) in (0..inputs).flat_map(|i| (0..kernel * kernel).map(move |t| (i, t))) {
                        size += f64::from(weight(o, i, tap).abs());
                        let [row, column] = [step * y + tap / kernel, step * column + tap % kernel];
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
        for (step, [size, reading]) in [(1, [8, 3]), (2, [4, 2])] {
            let map = Winograd::new([1, 1], step, [[8, 8], [1, 1], [size; 2]], |_, _, _| 1.0, |_| 0.0);
            let mut x = vec![1.0; 64];
            // The first outputs of the first rows read it.
            x[9 * step] = f32::NAN;
            let out = run::<NARROW>(&map, &x, None, true);
            assert!((0..reading).all(|y| (0..reading).all(|x| out[y * size + x].is_nan())));
        }
    }
}
