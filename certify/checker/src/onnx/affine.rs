//! Operators that are sums, and maxima.

use super::{Builder, Call, Value, What, broadcast, count, places};
use crate::Result;
use crate::model::{Conv, Kind, Weights};

/// `2^-52`.
const EPSILON: f64 = f64::EPSILON;

/// How a window moves over two axes; one axis has another of length one before it.
struct Window {
    /// Samples and channels.
    outer: [usize; 2],
    image: [usize; 2],
    kernel: [usize; 2],
    out: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    /// Before and behind, for each axis.
    pads: [[usize; 2]; 2],
    /// Axes of the image.
    axes: usize,
}

impl Window {
    fn new(call: &Call, kernel: Option<&[usize]>) -> Result<Self> {
        let shape = &call.value(0)?.shape;
        let axes = shape.len().saturating_sub(2);
        if !matches!(axes, 1 | 2) || !matches!(call.text("auto_pad").as_str(), "" | "NOTSET" | "VALID") {
            return call.fail("images of other than one or two axes, or automatic pads");
        }
        let list = |name: &str, n: usize, default: usize| -> Result<Vec<usize>> {
            let all: Vec<usize> = call
                .attribute(name)
                .map_or(vec![default; n], |a| a.ints.iter().map(|&i| i.max(0) as usize).collect());
            if all.len() == n && all.iter().all(|x| *x < 1 << 20) {
                Ok(all)
            } else {
                call.fail("a window that does not fit")
            }
        };
        let two = |all: Vec<usize>, first: usize| if axes == 2 { [all[0], all[1]] } else { [first, all[0]] };
        let kernel = match kernel {
            Some(kernel) if kernel.len() == axes => kernel.to_vec(),
            Some(_) => return call.fail("a kernel that does not fit"),
            None => list("kernel_shape", axes, 1)?,
        };
        let (pads, global) = (list("pads", 2 * axes, 0)?, call.node.op_type.starts_with("Global"));
        let image = two(shape[2..].to_vec(), 1);
        let window = Self {
            outer: [shape[0], shape[1]],
            image,
            kernel: if global { image } else { two(kernel, 1) },
            out: [1, 1],
            stride: two(list("strides", axes, 1)?, 1),
            dilation: two(list("dilations", axes, 1)?, 1),
            pads: [two(pads[..axes].to_vec(), 0), two(pads[axes..].to_vec(), 0)],
            axes,
        };
        if [window.stride, window.kernel, window.dilation].as_flattened().contains(&0) {
            return call.fail("a window of no size");
        }
        Ok(window)
    }

    /// The results along an axis, if the window fits.
    fn sliding(mut self, call: &Call) -> Result<Self> {
        for axis in 0..2 {
            let padded = self.image[axis] + self.pads[0][axis] + self.pads[1][axis];
            match padded.checked_sub(self.dilation[axis] * (self.kernel[axis] - 1) + 1) {
                Some(rest) if call.int("ceil_mode", 0) == 0 || rest % self.stride[axis] == 0 => {
                    self.out[axis] = rest / self.stride[axis] + 1;
                }
                _ => return call.fail("a window that does not fit"),
            }
        }
        Ok(self)
    }

    fn shape(&self, channels: usize) -> Vec<usize> {
        [&[self.outer[0], channels], &self.out[2 - self.axes..]].concat()
    }
}

impl Builder {
    pub(super) fn product(&mut self, call: &Call) -> Result<Value> {
        let (a, b) = (call.value(0)?, call.value(1)?);
        let gemm = call.node.op_type == "Gemm";
        if call.int("transA", 0) != 0 {
            return call.fail("transA");
        }
        let (alpha, beta) =
            if gemm { (call.float("alpha", 1.0), call.float("beta", 1.0)) } else { (1.0, 1.0) };
        if alpha != 1.0 && alpha.abs().log2().fract() != 0.0 || beta != 1.0 && beta != 0.0 {
            return call.fail("a factor that rounds");
        }
        let transposed = call.int("transB", 0) != 0;
        let [rows, columns] = b.shape[..] else {
            return call.fail("a second factor that is no matrix");
        };
        if a.constant().is_some() {
            // W x: a sum over the rows of x.
            let (w, x) = (call.numbers(0)?, call.computed(1)?);
            let [outputs, inner] = a.shape[..] else { return call.fail("a first factor that is no matrix") };
            if gemm || inner != rows {
                return call.fail("factors that do not fit");
            }
            count(&[outputs, columns, inner])?;
            let entry = |o: usize| {
                let (row, column) = (o / columns, o % columns);
                (0..inner).map(|k| (0, k * columns + column, w[row * inner + k])).collect()
            };
            let weights = Weights::sparse((0..outputs * columns).map(entry));
            return self.affine(call, vec![x], vec![outputs, columns], weights, Vec::new());
        }
        let (x, w) = (call.computed(0)?, call.numbers(1)?);
        let (inputs, outputs) = if transposed { (columns, rows) } else { (rows, columns) };
        if a.shape.last() != Some(&inputs) || inputs == 0 {
            return call.fail("factors that do not fit");
        }
        let at = |o: usize, i: usize| alpha * if transposed { w[o * inputs + i] } else { w[i * outputs + o] };
        let dense =
            (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i))).map(|(o, i)| at(o, i)).collect();
        let shape = [&a.shape[..a.shape.len() - 1], &[outputs]].concat();
        let mut bias = Vec::new();
        if gemm && beta != 0.0 && call.inputs.len() > 2 {
            let c = call.numbers(2)?;
            match broadcast(&shape, &call.value(2)?.shape) {
                Some((to, [_, reads])) if to == shape => bias = reads.iter().map(|&i| c[i]).collect(),
                _ => return call.fail("a bias that does not fit"),
            }
        }
        self.affine(call, vec![x], shape, Weights::Dense { rows: dense, inputs }, bias)
    }

    /// The bias of a convolution at every entry of its result.
    fn channel_bias(call: &Call, shape: &[usize]) -> Result<Vec<f64>> {
        let Some(bias) = call.optional(2)? else { return Ok(Vec::new()) };
        if bias.len() != shape[1] {
            return call.fail("a bias that does not fit");
        }
        let pixels: usize = shape[2..].iter().product();
        Ok((0..count(shape)?).map(|o| bias[o / pixels % shape[1]]).collect())
    }

    pub(super) fn convolution(&mut self, call: &Call) -> Result<Value> {
        let (id, weights, kernel) = (call.computed(0)?, call.numbers(1)?, &call.value(1)?.shape);
        let groups = call.int("group", 1).max(1) as usize;
        if kernel.len() < 3 || kernel[1] * groups != call.value(0)?.shape[1] || kernel[0] % groups != 0 {
            return call.fail("weights that do not fit");
        }
        let window = Window::new(call, Some(&kernel[2..]))?.sliding(call)?;
        let shape = window.shape(kernel[0]);
        let bias = Self::channel_bias(call, &shape)?;
        let Window { outer, image, kernel: size, out, stride, dilation, pads, .. } = window;
        let channels = [outer[1], kernel[0], kernel[1]];
        let conv = Conv {
            weights: weights.to_vec(),
            channels,
            image,
            kernel: size,
            out,
            stride,
            dilation,
            pad: pads[0],
        };
        self.affine(call, vec![id], shape, Weights::Conv(conv), bias)
    }

    pub(super) fn transposed(&mut self, call: &Call) -> Result<Value> {
        let (id, weights, kernel) = (call.computed(0)?, call.numbers(1)?, call.value(1)?.shape.clone());
        let groups = call.int("group", 1).max(1) as usize;
        let set = |name| call.attribute(name).is_some_and(|a| !a.ints.is_empty());
        let inputs = call.value(0)?.shape.get(1).copied().unwrap_or(0);
        if kernel.len() < 3 || kernel[0] != inputs || inputs % groups != 0 || set("output_shape") {
            return call.fail("weights that do not fit, or a shape of the result");
        }
        let mut window = Window::new(call, Some(&kernel[2..]))?;
        let more = call.attribute("output_padding").map_or(vec![0; window.axes], |a| a.ints.clone());
        for axis in 0..2 {
            let more = more.get((axis + window.axes).wrapping_sub(2)).map_or(0, |m| (*m).max(0) as usize);
            let reach = window.stride[axis] * (window.image[axis] - 1)
                + window.dilation[axis] * (window.kernel[axis] - 1)
                + 1
                + more;
            match reach.checked_sub(window.pads[0][axis] + window.pads[1][axis]) {
                Some(out) => window.out[axis] = out,
                None => return call.fail("pads that leave nothing"),
            }
        }
        let shape = window.shape(kernel[1] * groups);
        count(&[count(&shape)?, inputs / groups, window.kernel[0], window.kernel[1]])?;
        let source = |axis: usize, o: usize, k: usize| {
            let at = (o + window.pads[0][axis]).checked_sub(k * window.dilation[axis])?;
            (at % window.stride[axis] == 0 && at / window.stride[axis] < window.image[axis])
                .then(|| at / window.stride[axis])
        };
        let rows = places(&[window.outer[0], shape[1], window.out[0], window.out[1]]).map(|p| {
            let (own, per) = (inputs / groups, kernel[1]);
            let group = p[1] / per;
            let mut row = Vec::new();
            for c in group * own..(group + 1) * own {
                for (ky, kx) in (0..window.kernel[0]).flat_map(|y| (0..window.kernel[1]).map(move |x| (y, x)))
                {
                    if let (Some(y), Some(x)) = (source(0, p[2], ky), source(1, p[3], kx)) {
                        let from = ((p[0] * inputs + c) * window.image[0] + y) * window.image[1] + x;
                        row.push((
                            0,
                            from,
                            weights[((c * per + p[1] % per) * window.kernel[0] + ky) * window.kernel[1] + kx],
                        ));
                    }
                }
            }
            row
        });
        let (weights, bias) = (Weights::sparse(rows), Self::channel_bias(call, &shape)?);
        self.affine(call, vec![id], shape, weights, bias)
    }

    pub(super) fn pool(&mut self, call: &Call) -> Result<Value> {
        let id = call.computed(0)?;
        let window = Window::new(call, None)?.sliding(call)?;
        let [samples, channels] = window.outer;
        let counted = call.int("count_include_pad", 0) != 0;
        let shape = window.shape(channels);
        let at = |axis: usize, o: usize, k: usize| {
            let place =
                (o * window.stride[axis] + k * window.dilation[axis]).checked_sub(window.pads[0][axis])?;
            (place < window.image[axis]).then_some(place)
        };
        let groups: Vec<Vec<(usize, usize)>> = places(&[samples * channels, window.out[0], window.out[1]])
            .map(|p| {
                let taps = (0..window.kernel[0]).flat_map(|y| (0..window.kernel[1]).map(move |x| (y, x)));
                let place = |(ky, kx)| Some((at(0, p[1], ky)?, at(1, p[2], kx)?));
                let flat = |(y, x)| (0, (p[0] * window.image[0] + y) * window.image[1] + x);
                taps.filter_map(place).map(flat).collect()
            })
            .collect();
        if groups.iter().any(Vec::is_empty) {
            return call.fail("windows without entries");
        }
        if call.node.op_type.contains("Max") {
            return self.push(&call.name, vec![id], shape, Kind::Max(groups));
        }
        let taps = window.kernel[0] * window.kernel[1];
        let rows = groups.iter().map(|group| {
            let share = 1.0 / if counted { taps } else { group.len() } as f64;
            group.iter().map(|&(v, i)| (v, i, share)).collect()
        });
        let value = self.affine(call, vec![id], shape, Weights::sparse(rows), Vec::new());
        self.uncertain(EPSILON, 0.0);
        value
    }

    pub(super) fn normalised(&mut self, call: &Call) -> Result<Value> {
        let (id, shape) = (call.computed(0)?, call.value(0)?.shape.clone());
        let [scale, shift, mean, variance] = [1, 2, 3, 4].map(|i| call.numbers(i));
        let (scale, shift, mean, variance) = (scale?, shift?, mean?, variance?);
        let epsilon = call.float("epsilon", 1e-5);
        let channels = shape.get(1).copied().unwrap_or(0);
        let fits = [scale, shift, mean, variance].iter().all(|x| x.len() == channels);
        if !fits || call.int("training_mode", 0) != 0 || variance.iter().any(|v| !(v + epsilon > 0.0)) {
            return call.fail("statistics that do not fit");
        }
        let factor: Vec<f64> = (0..channels).map(|c| scale[c] / (variance[c] + epsilon).sqrt()).collect();
        let offset = |c: usize| shift[c] - factor[c] * mean[c];
        let size = (0..channels).fold(0.0, |m: f64, c| m.max(shift[c].abs() + (factor[c] * mean[c]).abs()));
        let pixels: usize = shape[2..].iter().product();
        let entries = count(&shape)?;
        let rows = (0..entries).map(|i| vec![(0, i, factor[i / pixels % channels])]);
        let bias = (0..entries).map(|i| offset(i / pixels % channels)).collect();
        let value = self.affine(call, vec![id], shape, Weights::sparse(rows), bias);
        // A sum, a root, a quotient; then a product and a sum.
        self.uncertain(4.0 * EPSILON, 8.0 * EPSILON * size);
        value
    }

    pub(super) fn binary(&mut self, call: &Call) -> Result<Value> {
        let (a, b, op) = (call.value(0)?, call.value(1)?, call.node.op_type.as_str());
        let Some((shape, [left, right])) = broadcast(&a.shape, &b.shape) else {
            return call.fail("shapes that do not fit");
        };
        let len = left.len();
        let sign = if op == "Sub" { -1.0 } else { 1.0 };
        let all =
            |data: &[f64], reads: &[usize], factor: f64| reads.iter().map(|&i| factor * data[i]).collect();
        let moved = |reads: &[usize], c: f64| {
            Weights::sparse(reads.iter().map(|&i| vec![(0, i, c)]).collect::<Vec<_>>().into_iter())
        };
        match (op, &a.what, &b.what) {
            // Of constants only what is exact.
            (_, What::Constant(x), What::Constant(y)) => {
                let of = |(&i, &j): (&usize, &usize)| match op {
                    "Add" | "Sub" => x[i] + sign * y[j],
                    "Mul" => x[i] * y[j],
                    _ => x[i] / y[j],
                };
                let data: Vec<f64> = left.iter().zip(&right).map(of).collect();
                let whole = |data: &[f64]| data.iter().all(|x| x.fract() == 0.0 && x.abs() < 16_777_216.0);
                if whole(&data) && whole(x) && whole(y) {
                    Ok(Value { shape, what: What::Constant(data) })
                } else {
                    call.fail("constants that are computed")
                }
            }
            ("Add" | "Sub", What::Computed(x), What::Computed(y)) => {
                let rows = (0..len).map(|o| vec![(0, left[o], 1.0), (1, right[o], sign)]);
                self.affine(call, vec![*x, *y], shape, Weights::sparse(rows), Vec::new())
            }
            ("Add" | "Sub", What::Computed(x), What::Constant(y)) => {
                self.affine(call, vec![*x], shape, moved(&left, 1.0), all(y, &right, sign))
            }
            ("Add" | "Sub", What::Constant(x), What::Computed(y)) => {
                self.affine(call, vec![*y], shape, moved(&right, sign), all(x, &left, 1.0))
            }
            ("Mul", What::Computed(x), What::Constant(y)) | ("Mul", What::Constant(y), What::Computed(x)) => {
                let (reads, factors) = if a.constant().is_none() { (&left, &right) } else { (&right, &left) };
                let rows = (0..len).map(|o| vec![(0, reads[o], y[factors[o]])]);
                self.affine(call, vec![*x], shape, Weights::sparse(rows), Vec::new())
            }
            ("Div", What::Computed(x), What::Constant(y)) if y.iter().all(|y| *y != 0.0) => {
                let rows = (0..len).map(|o| vec![(0, left[o], 1.0 / y[right[o]])]);
                let value = self.affine(call, vec![*x], shape, Weights::sparse(rows), Vec::new());
                self.uncertain(EPSILON, 0.0);
                value
            }
            _ => call.fail("two computed values"),
        }
    }

    /// `Max`, and `Min` as `-max(-a, -b)`: negations, the maximum, a negation.
    pub(super) fn greatest(&mut self, call: &Call) -> Result<Value> {
        let n = call.inputs.len();
        let (shape, negated) = (call.value(0)?.shape.clone(), call.node.op_type == "Min");
        let entries = count(&shape)?;
        let negative = || Weights::sparse((0..entries).map(|i| vec![(0, i, -1.0)]));
        let mut inputs = Vec::new();
        for k in 0..n {
            let id = call.computed(k)?;
            if call.value(k)?.shape != shape {
                return call.fail("shapes that differ");
            }
            inputs.push(id);
            if negated {
                self.affine(call, vec![id], shape.clone(), negative(), Vec::new())?;
                inputs[k] = self.nodes.len();
            }
        }
        let groups = (0..entries).map(|i| (0..n).map(|k| (k, i)).collect()).collect();
        let name = if negated { format!("{}#{}", call.name, n + 1) } else { call.name.clone() };
        let value = self.push(&name, inputs, shape.clone(), Kind::Max(groups))?;
        if !negated {
            return Ok(value);
        }
        let id = self.nodes.len();
        self.affine(call, vec![id], shape, negative(), Vec::new())
    }

    pub(super) fn reduced(&mut self, call: &Call) -> Result<Value> {
        let (id, from) = (call.computed(0)?, call.value(0)?.shape.clone());
        let mut gone = vec![false; from.len()];
        match call.ints("axes", 1)? {
            Some(axes) => {
                for axis in axes {
                    gone[call.axis(axis, from.len())?] = true;
                }
            }
            None => gone.fill(call.int("noop_with_empty_axes", 0) == 0),
        }
        let kept: Vec<usize> = from.iter().zip(&gone).map(|(&n, gone)| if *gone { 1 } else { n }).collect();
        let outer = super::strides(&kept);
        let mut rows = vec![Vec::new(); count(&kept)?];
        for (i, place) in places(&from).enumerate() {
            let to: usize =
                place.iter().zip(&gone).zip(&outer).map(|((p, gone), s)| if *gone { 0 } else { p * s }).sum();
            rows[to].push((0, i, 1.0));
        }
        let mean = call.node.op_type == "ReduceMean";
        if mean {
            for row in &mut rows {
                let share = 1.0 / row.len() as f64;
                for term in row {
                    term.2 = share;
                }
            }
        }
        let keep = call.int("keepdims", 1) != 0;
        let shape = kept.into_iter().zip(gone).filter(|(_, gone)| keep || !gone).map(|(n, _)| n).collect();
        let value = self.affine(call, vec![id], shape, Weights::sparse(rows.into_iter()), Vec::new());
        self.uncertain(if mean { EPSILON } else { 0.0 }, 0.0);
        value
    }
}
