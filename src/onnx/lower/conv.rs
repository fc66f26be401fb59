//! Convolutions and batch normalisation.

use super::{Call, Lowering, NodeError, Value, shapes};
use crate::kernels::Window2d;
use crate::ops::{Affine, Conv, Groups, Periodic, Scale, Sparse, Weights};

type Result<T> = std::result::Result<T, NodeError>;

/// What the attributes of a sliding window say, in two dimensions; a single
/// spatial axis becomes the second of two.
pub(super) struct Sliding {
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    /// Before and after, for each axis.
    pub(super) pads: [[usize; 2]; 2],
    /// Number of spatial axes in the model: 1 or 2.
    axes: usize,
    auto: Auto,
}

#[derive(Clone, Copy, PartialEq)]
enum Auto {
    No,
    Upper,
    Lower,
}

impl Sliding {
    /// Reads the attributes; `kernel` is the shape of the weights' window if
    /// there are weights.
    pub(super) fn new(call: &Call, spatial: usize, kernel: Option<&[usize]>) -> Result<Self> {
        if !(1..=2).contains(&spatial) {
            return Err(NodeError::Value {
                what: "the number of spatial axes",
                found: spatial.to_string(),
                accepted: "1 or 2; 3 for Conv",
            });
        }
        let list = |name: &'static str, len: usize, least: i64| -> Result<Option<Vec<usize>>> {
            let Some(values) = call.attributes.ints(name)? else { return Ok(None) };
            // 2^20 keeps all products of these numbers far from overflow.
            if values.len() != len || values.iter().any(|&v| v < least || v > 1 << 20) {
                return Err(NodeError::Value {
                    what: name,
                    found: format!("{values:?}"),
                    accepted: "one moderate, non-negative number per axis (and side)",
                });
            }
            Ok(Some(values.iter().map(|&v| v as usize).collect()))
        };
        let pair = |values: Vec<usize>, filler: usize| match values[..] {
            [x] => [filler, x],
            _ => [values[0], values[1]],
        };
        let said = list("kernel_shape", spatial, 1)?;
        let kernel = match (kernel, said) {
            (Some(k), None) => k.to_vec(),
            (Some(k), Some(said)) if k == said => said,
            (None, Some(said)) => said,
            (k, said) => {
                return Err(NodeError::Value {
                    what: "kernel_shape",
                    found: format!("{said:?} with weights of {k:?}"),
                    accepted: "the window of the weights",
                });
            }
        };
        if kernel.contains(&0) {
            return Err(NodeError::Value {
                what: "the kernel",
                found: format!("{kernel:?}"),
                accepted: "positive lengths",
            });
        }
        let auto = match call.attributes.string("auto_pad")?.unwrap_or("NOTSET") {
            "NOTSET" | "VALID" | "" => Auto::No,
            "SAME_UPPER" => Auto::Upper,
            "SAME_LOWER" => Auto::Lower,
            other => {
                return Err(NodeError::Value {
                    what: "auto_pad",
                    found: other.into(),
                    accepted: "NOTSET, VALID, SAME_UPPER or SAME_LOWER",
                });
            }
        };
        let pads = match list("pads", 2 * spatial, 0)?.unwrap_or_else(|| vec![0; 2 * spatial])[..] {
            [a, b] => [[0, 0], [a, b]],
            [a, b, c, d] => [[a, c], [b, d]],
            _ => unreachable!("the list has two or four entries"),
        };
        Ok(Self {
            kernel: pair(kernel, 1),
            stride: pair(list("strides", spatial, 1)?.unwrap_or_else(|| vec![1; spatial]), 1),
            dilation: pair(list("dilations", spatial, 1)?.unwrap_or_else(|| vec![1; spatial]), 1),
            pads,
            axes: spatial,
            auto,
        })
    }

    /// Leading axes and spatial ones as the model writes them.
    pub(super) fn shape(&self, lead: [usize; 2], image: [usize; 2]) -> Vec<usize> {
        [&lead[..], &image[2 - self.axes..]].concat()
    }

    fn span(&self, axis: usize) -> usize {
        self.dilation[axis] * (self.kernel[axis] - 1) + 1
    }

    /// The windows over an image, with automatic padding resolved.
    pub(super) fn over(&mut self, image: [usize; 2], ceil: bool) -> Result<Window2d> {
        let mut out = [0; 2];
        for axis in 0..2 {
            let (span, stride) = (self.span(axis), self.stride[axis]);
            if self.auto != Auto::No && axis + self.axes >= 2 {
                out[axis] = image[axis].div_ceil(stride);
                let reach = out[axis].saturating_sub(1) * stride + span;
                // Some runtimes then cut the image on both sides, others do not.
                if reach + 1 < image[axis] {
                    return Err(NodeError::Value {
                        what: "auto_pad",
                        found: format!("automatic, with windows of {span} every {stride} that miss the end"),
                        accepted: "explicit pads, where windows do not reach the end of the image",
                    });
                }
                let total = reach.saturating_sub(image[axis]);
                let small = total / 2;
                self.pads[axis] =
                    if self.auto == Auto::Upper { [small, total - small] } else { [total - small, small] };
                continue;
            }
            let [before, after] = self.pads[axis];
            let Some(free) = (image[axis] + before + after).checked_sub(span) else {
                return Err(NodeError::Shape {
                    found: format!("window {:?} on image {image:?} with pads {:?}", self.kernel, self.pads),
                    accepted: "a window that fits the padded image",
                });
            };
            out[axis] = if ceil { free.div_ceil(stride) } else { free / stride } + 1;
            // A window that would start in the padding after the image is left out.
            if ceil && (out[axis] - 1) * stride >= image[axis] + before {
                out[axis] -= 1;
            }
        }
        if image.contains(&0) || out.contains(&0) {
            return Err(NodeError::Shape {
                found: format!("an image of {image:?}"),
                accepted: "an image that is not empty",
            });
        }
        Ok(Window2d {
            image,
            kernel: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            pad: self.pads.map(|p| p[0]),
            out,
        })
    }
}

/// The spatial axes of a shape as two.
pub(super) fn image(shape: &[usize]) -> [usize; 2] {
    match shape[2..] {
        [w] => [1, w],
        _ => [shape[2], shape[3]],
    }
}

/// What a convolution works on.
struct Operands<'a> {
    /// Shape of the input.
    x: &'a [usize],
    /// Shape of the weights.
    w: &'a [usize],
    weight: &'a [f64],
    groups: usize,
}

/// Input, weights and groups, checked against each other. `flipped`: the
/// weights' first axis is the input's channels.
fn operands<'a>(call: &'a Call, flipped: bool) -> Result<Operands<'a>> {
    let (x, w) = (call.shape(0)?, call.shape(1)?);
    let weight = call.floats(1)?;
    let groups = usize::try_from(call.int("group", 1)?).unwrap_or(0);
    let wrong =
        || NodeError::shape(&[x, w], "N x C x image and M x C/groups x kernel, groups dividing C and M");
    if x.len() < 3 || w.len() != x.len() || groups == 0 || x.contains(&0) || w.contains(&0) {
        return Err(wrong());
    }
    let channels = if flipped { w[0] } else { w[1].saturating_mul(groups) };
    if x[1] != channels || !w[0].is_multiple_of(groups) {
        return Err(wrong());
    }
    Ok(Operands { x, w, weight, groups })
}

fn bias(call: &Call, channels: usize, positions: usize) -> Result<Option<Periodic>> {
    if call.optional(2).is_none() {
        return Ok(None);
    }
    let values = call.floats(2)?;
    if values.len() != channels {
        return Err(NodeError::shape(&[call.shape(2)?], "one bias for every output channel"));
    }
    Ok(Some(Periodic::new(Weights::new(values.to_vec()), positions)))
}

/// The unrolled image of one group must fit in memory: 2 GiB of `f64`. It is
/// made when the network runs, so it may be larger than a value.
fn check_unrolled(conv: &Conv) -> Result<()> {
    let shape = [conv.channels[0] / conv.groups, conv.window.taps(), conv.window.positions()];
    shapes::count_within(&shape, 1 << 28).map(|_| ())
}

/// A convolution over three axes, as the sums that it is.
fn volume(graph: &mut Lowering, call: &Call, operands: &Operands) -> Result<Vec<Value>> {
    let &Operands { x, w, weight, groups } = operands;
    let list = |name: &'static str, len: usize, default: i64| -> Result<Vec<i64>> {
        let values = call.attributes.ints(name)?.map_or_else(|| vec![default; len], <[i64]>::to_vec);
        if values.len() != len || values.iter().any(|v| !(default..1 << 20).contains(v)) {
            let accepted = "one moderate, non-negative number per axis (and side)";
            return Err(NodeError::Value { what: name, found: format!("{values:?}"), accepted });
        }
        Ok(values)
    };
    let auto = call.attributes.string("auto_pad")?.unwrap_or("NOTSET");
    if !matches!(auto, "NOTSET" | "VALID") {
        let accepted = "explicit pads, over three axes";
        return Err(NodeError::Value { what: "auto_pad", found: auto.into(), accepted });
    }
    let (kernel, strides, dilations) = (&w[2..], list("strides", 3, 1)?, list("dilations", 3, 1)?);
    let pads = if auto == "VALID" { vec![0; 6] } else { list("pads", 6, 0)? };
    let said = call.attributes.ints("kernel_shape")?;
    if said.is_some_and(|said| !said.iter().map(|&k| usize::try_from(k)).eq(kernel.iter().map(|&k| Ok(k)))) {
        return Err(NodeError::shape(&[x, w], "the window of the weights in kernel_shape"));
    }
    let image: Vec<i64> = x[2..].iter().map(|&d| d as i64).collect();
    let mut out = vec![x[0], w[0]];
    for axis in 0..3 {
        let span = dilations[axis] * (kernel[axis] as i64 - 1) + 1;
        let free = image[axis] + pads[axis] + pads[axis + 3] - span;
        if free < 0 {
            return Err(NodeError::shape(&[x, w], "a window that fits the padded image"));
        }
        out.push((free / strides[axis]) as usize + 1);
    }
    let (taps, positions): (usize, usize) = (kernel.iter().product(), out[2..].iter().product());
    shapes::count(&[shapes::count(&out)?, w[1], taps])?;
    let pixels: usize = x[2..].iter().product();
    let digits = |mut n: usize, lens: &[usize]| {
        let mut at = [0_i64; 3];
        for axis in (0..3).rev() {
            at[axis] = (n % lens[axis]) as i64;
            n /= lens[axis];
        }
        at
    };
    let (mut lists, mut weights) = (Vec::new(), Vec::new());
    for o in 0..x[0] * w[0] * positions {
        let (position, channel, sample) =
            (digits(o % positions, &out[2..]), o / positions % w[0], o / positions / w[0]);
        let first = sample * x[1] + channel / (w[0] / groups) * w[1];
        let mut entries = Vec::new();
        for tap in 0..taps {
            let offset = digits(tap, kernel);
            let along = |a: usize| position[a] * strides[a] + offset[a] * dilations[a] - pads[a];
            let at = [along(0), along(1), along(2)];
            if (0..3).all(|a| (0..image[a]).contains(&at[a])) {
                let pixel = ((at[0] * image[1] + at[1]) * image[2] + at[2]) as usize;
                for input in 0..w[1] {
                    entries.push((first + input) * pixels + pixel);
                    weights.push(weight[(channel * w[1] + input) * taps + tap]);
                }
            }
        }
        lists.push(entries);
    }
    let op = Sparse {
        inputs: vec![shapes::count(x)?],
        groups: Groups::new(lists),
        weights: Some(Weights::new(weights)),
        bias: bias(call, w[0], positions)?,
    };
    Ok(vec![graph.affine(call, Affine::Sparse(op), Lowering::activation(call.input(0)?, 0)?, out)?])
}

pub(super) fn conv(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let operands = operands(call, false)?;
    if operands.x.len() == 5 {
        return volume(graph, call, &operands);
    }
    let Operands { x, w, weight, groups } = operands;
    let mut sliding = Sliding::new(call, x.len() - 2, Some(&w[2..]))?;
    let window = sliding.over(image(x), false)?;
    let shape = sliding.shape([x[0], w[0]], window.out);
    shapes::count(&shape)?;
    let conv = Conv {
        channels: [x[1], w[0]],
        groups,
        weight: Weights::new(weight.to_vec()),
        bias: bias(call, w[0], window.positions())?,
        transposed: false,
        window,
    };
    check_unrolled(&conv)?;
    let input = Lowering::activation(call.input(0)?, 0)?;
    Ok(vec![graph.affine(call, Affine::Conv(conv), input, shape)?])
}

pub(super) fn conv_transpose(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let Operands { x, w, weight, groups } = operands(call, true)?;
    let mut sliding = Sliding::new(call, x.len() - 2, Some(&w[2..]))?;
    let from = image(x);
    let list = |name: &'static str| -> Result<Option<[usize; 2]>> {
        let Some(values) = call.attributes.ints(name)? else { return Ok(None) };
        let wrong = || NodeError::Value {
            what: name,
            found: format!("{values:?}"),
            accepted: "a moderate length per spatial axis",
        };
        // Some exporters name all axes of the output.
        let spatial = &values[values.len().saturating_sub(x.len() - 2)..];
        if spatial.len() != x.len() - 2 || spatial.iter().any(|&v| !(0..1 << 20).contains(&v)) {
            return Err(wrong());
        }
        Ok(Some(match spatial[..] {
            [v] => [usize::from(name == "output_shape"), v as usize],
            _ => [spatial[0] as usize, spatial[1] as usize],
        }))
    };
    let extra = list("output_padding")?.unwrap_or([0, 0]);
    let target = list("output_shape")?;
    let mut image = [0; 2];
    for axis in 0..2 {
        let full = sliding.stride[axis] * (from[axis] - 1) + extra[axis] + sliding.span(axis);
        if target.is_some() || (sliding.auto != Auto::No && axis + sliding.axes >= 2) {
            image[axis] = target.map_or(from[axis] * sliding.stride[axis], |t| t[axis]);
            // Runtimes take the automatic length no further than the kernels reach,
            // a given one as far as `output_padding` could.
            let slack = if target.is_some() { sliding.stride[axis] - 1 } else { 0 };
            if image[axis] > full + slack {
                return Err(NodeError::Value {
                    what: "the output's length",
                    found: format!("{} where the kernels reach {full}", image[axis]),
                    accepted: "what the kernels reach, or by output_shape less than a stride more",
                });
            }
            let total = full.saturating_sub(image[axis]);
            let small = total / 2;
            sliding.pads[axis] =
                if sliding.auto == Auto::Upper { [small, total - small] } else { [total - small, small] };
        } else {
            let [before, after] = sliding.pads[axis];
            image[axis] = full.saturating_sub(before + after);
        }
        if image[axis] == 0 {
            return Err(NodeError::shape(
                &[x, w],
                "a transposed convolution with an output that is not empty",
            ));
        }
    }
    let window = Window2d {
        image,
        kernel: sliding.kernel,
        stride: sliding.stride,
        dilation: sliding.dilation,
        pad: sliding.pads.map(|p| p[0]),
        out: from,
    };
    let channels = w[1] * groups;
    let shape = sliding.shape([x[0], channels], image);
    shapes::count(&shape)?;
    let conv = Conv {
        channels: [channels, w[0]],
        groups,
        weight: Weights::new(weight.to_vec()),
        bias: bias(call, channels, image.iter().product())?,
        transposed: true,
        window,
    };
    check_unrolled(&conv)?;
    let input = Lowering::activation(call.input(0)?, 0)?;
    Ok(vec![graph.affine(call, Affine::Conv(conv), input, shape)?])
}

/// `gamma (x - mean) / sqrt(var + epsilon) + beta`, its own affine map.
pub(super) fn batch_normalization(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    // Before there was an attribute, outputs for statistics meant training.
    if call.int("training_mode", 0)? != 0 || call.named > 1 {
        return Err(NodeError::Value {
            what: "training_mode",
            found: "training".into(),
            accepted: "a model exported for inference",
        });
    }
    let shape = call.shape(0)?;
    let channels = *shape.get(1).ok_or_else(|| NodeError::shape(&[shape], "N x C x ..."))?;
    let [gamma, beta, mean, variance] = [call.floats(1)?, call.floats(2)?, call.floats(3)?, call.floats(4)?];
    if [gamma, beta, mean, variance].iter().any(|p| p.len() != channels) || channels == 0 {
        return Err(NodeError::shape(&[shape], "four parameters for every channel"));
    }
    let epsilon = call.float("epsilon", 1e-5_f32.into())?;
    if let Some(bad) = variance.iter().find(|v| !(**v + epsilon > 0.0)) {
        return Err(NodeError::Value {
            what: "a variance",
            found: bad.to_string(),
            accepted: "a positive sum with epsilon",
        });
    }
    let scale: Vec<f64> = gamma.iter().zip(variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let shift: Vec<f64> = (0..channels).map(|c| beta[c] - mean[c] * scale[c]).collect();
    // Three roundings each in the scale and in what is made from it.
    let error = 4.0 * f64::EPSILON;
    let size = |c: usize| beta[c].abs() + (mean[c] * scale[c]).abs();
    let shift_error = (0..channels).map(size).fold(0.0, f64::max) * 2.0 * error;
    let inner = shape[2..].iter().product::<usize>().max(1);
    let op = Scale {
        len: shapes::count(shape)?,
        scale: Some(Periodic::new(Weights::rounded(scale, error), inner)),
        shift: Some(Periodic::new(Weights::new(shift), inner)),
        shift_error,
    };
    let x = Lowering::activation(call.input(0)?, 0)?;
    Ok(vec![graph.affine(call, Affine::Scale(op), x, shape.to_vec())?])
}
