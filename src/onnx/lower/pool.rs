//! Pooling: averages are affine maps, maxima are products.

use super::conv::{Sliding, image};
use super::{Call, Lowering, NodeError, Value, reduce, shapes};
use crate::kernels::Window2d;
use crate::ops::{Affine, Groups, Op, Product, Sparse, Weights};

type Result<T> = std::result::Result<T, NodeError>;

/// Windows of a pooling over `N x C x image`.
struct Windows {
    /// Shape of the output.
    shape: Vec<usize>,
    window: Window2d,
    sliding: Sliding,
    /// For every output, the entries of the input that its window holds.
    groups: Vec<Vec<usize>>,
}

fn windows(call: &Call) -> Result<Windows> {
    let x = call.shape(0)?;
    if x.len() < 3 {
        return Err(NodeError::shape(&[x], "N x C x image"));
    }
    let mut sliding = Sliding::new(call, x.len() - 2, None)?;
    let auto = call.attributes.string("auto_pad")?.unwrap_or_default();
    if auto.starts_with("SAME") && sliding.dilation != [1, 1] {
        return Err(NodeError::Value {
            what: "auto_pad",
            found: format!("{auto} with dilations {:?}", sliding.dilation),
            accepted: "explicit pads with dilations, since runtimes disagree on the automatic ones",
        });
    }
    let window = sliding.over(image(x), call.int("ceil_mode", 0)? != 0)?;
    let shape = sliding.shape([x[0], x[1]], window.out);
    shapes::count(&[shapes::count(&shape)?, window.taps()])?;
    let along = |axis: usize, o: usize| {
        let w = &window;
        let start = o * w.stride[axis];
        (0..w.kernel[axis])
            .filter_map(move |t| (start + t * w.dilation[axis]).checked_sub(w.pad[axis]))
            .filter(move |&i| i < w.image[axis])
    };
    let mut groups = Vec::new();
    for plane in 0..x[0] * x[1] {
        let base = plane * window.pixels();
        for oy in 0..window.out[0] {
            for ox in 0..window.out[1] {
                let width = window.image[1];
                groups.push(
                    along(0, oy).flat_map(|y| along(1, ox).map(move |x| base + y * width + x)).collect(),
                );
            }
        }
    }
    Ok(Windows { shape, window, sliding, groups })
}

/// The mean of each group: `divisors` where padding counts, else the size of
/// the group.
pub(super) fn means(
    graph: &mut Lowering,
    call: &Call,
    shape: Vec<usize>,
    groups: &[Vec<usize>],
    divisors: Option<Vec<usize>>,
) -> Result<Value> {
    let weight = |i: usize, size: usize| 1.0 / divisors.as_ref().map_or(size, |d| d[i]) as f64;
    let weights = groups.iter().enumerate().flat_map(|(i, g)| vec![weight(i, g.len()); g.len()]).collect();
    let op = Sparse {
        inputs: vec![shapes::count(call.shape(0)?)?],
        groups: Groups::new(groups.iter().map(|g| g.iter().copied())),
        weights: Some(Weights::rounded(weights, f64::EPSILON)),
        bias: None,
    };
    graph.affine(call, Affine::Sparse(op), Lowering::activation(call.input(0)?, 0)?, shape)
}

/// The maximum of each group.
pub(super) fn maxima(
    graph: &mut Lowering,
    call: &Call,
    shape: Vec<usize>,
    groups: &[Vec<usize>],
) -> Result<Value> {
    if groups.iter().any(Vec::is_empty) {
        return Err(NodeError::shape(&[call.shape(0)?], "windows that each hold an entry"));
    }
    let inputs = vec![shapes::count(call.shape(0)?)?];
    let groups = Groups::new(groups.iter().map(|g| g.iter().copied()));
    let x = Lowering::activation(call.input(0)?, 0)?;
    graph.push(call, Op::Product(Product::Max { inputs, groups }), vec![x], shape)
}

pub(super) fn average(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let Windows { shape, window, sliding, groups } = windows(call)?;
    let divisors = (call.int("count_include_pad", 0)? != 0).then(|| {
        // Padding counts, what lies beyond it does not.
        let count = |axis: usize, o: usize| {
            let end = window.image[axis] + sliding.pads[axis][0] + sliding.pads[axis][1];
            let start = o * window.stride[axis];
            (0..window.kernel[axis]).filter(|t| start + t * window.dilation[axis] < end).count()
        };
        let [h, w] = window.out;
        (0..groups.len()).map(|i| count(0, (i / w) % h) * count(1, i % w)).collect()
    });
    if divisors.is_none() && groups.iter().any(Vec::is_empty) {
        return Err(NodeError::shape(&[call.shape(0)?], "windows that each hold an entry"));
    }
    Ok(vec![means(graph, call, shape, &groups, divisors)?])
}

pub(super) fn max(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let Windows { shape, groups, .. } = windows(call)?;
    Ok(vec![maxima(graph, call, shape, &groups)?])
}

/// `LpPool`: what is padded adds nothing.
pub(super) fn norms(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let Windows { shape, groups, .. } = windows(call)?;
    reduce::norms(graph, call, call.input(0)?, groups, shape, call.int("p", 2)?)
}

pub(super) fn global(graph: &mut Lowering, call: &Call) -> Result<Vec<Value>> {
    let x = call.shape(0)?;
    if x.len() < 3 {
        return Err(NodeError::shape(&[x], "N x C x image"));
    }
    let pixels: usize = x[2..].iter().product();
    let groups: Vec<Vec<usize>> =
        (0..x[0] * x[1]).map(|p| (p * pixels..(p + 1) * pixels).collect()).collect();
    let mut shape = x.to_vec();
    shape[2..].fill(1);
    match call.op {
        "GlobalMaxPool" => Ok(vec![maxima(graph, call, shape, &groups)?]),
        "GlobalLpPool" => reduce::norms(graph, call, call.input(0)?, groups, shape, call.int("p", 2)?),
        _ => Ok(vec![means(graph, call, shape, &groups, None)?]),
    }
}
