//! What several benches use.

#![allow(dead_code, reason = "each bench uses a part of it")]

use ndarray::Array2;
use tightrope::Graph;
use tightrope::data::Dataset;
use tightrope::kernels::Kernel;
use tightrope::onnx::{LoadOptions, load};

/// A shipped network.
pub(crate) fn network(name: &str) -> Graph {
    let path = format!("{}/models/{name}.onnx", env!("CARGO_MANIFEST_DIR"));
    load(path, &LoadOptions::default()).expect("a network")
}

/// The first shipped images with their labels, for a shipped network.
pub(crate) fn images(graph: &Graph, count: usize) -> (Array2<f32>, Vec<usize>) {
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/data");
    let labels = data.join("mnist-test-1000-labels.idx.gz");
    let data = Dataset::open(&data.join("mnist-test-1000-images.idx.gz"), Some(&labels), None);
    let data = data.expect("images");
    let arrangement = data.arrange(&graph.input_shape).expect("fits");
    let pixels = (0..count).flat_map(|i| data.image(i, &arrangement).expect("an image")).collect();
    let images = Array2::from_shape_vec((count, graph.input_len()), pixels).expect("all images");
    (images, data.labels().expect("labels")[..count].to_vec())
}

/// Sums that do not wait for each other: enough for two multiply-adds a cycle.
const SUMS: usize = 12;
const LANES: usize = 8;

/// As many steps of multiply-adds in registers as a core can do: [`MultiplyAdds::OPERATIONS`] each.
pub(crate) struct MultiplyAdds {
    pub(crate) factor: f32,
    pub(crate) steps: usize,
}

impl MultiplyAdds {
    /// Additions and multiplications of one step.
    pub(crate) const OPERATIONS: usize = 2 * SUMS * LANES;
}

impl Kernel for MultiplyAdds {
    type Output = f32;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f32 {
        let mut sums = [[1.0_f32; LANES]; SUMS];
        for _ in 0..self.steps {
            for x in sums.as_flattened_mut() {
                *x = if FUSED { self.factor.mul_add(*x, 1e-3) } else { self.factor * *x + 1e-3 };
            }
        }
        sums.as_flattened().iter().sum()
    }
}
