//! A network as the checker sees it: sums, functions of one entry, and maxima, in order of evaluation.

use crate::functions::Function;

/// A node. Value 0 is the network's input, value `i + 1` the result of node `i`.
pub(crate) struct Node {
    /// That of the ONNX node.
    pub(crate) name: String,
    pub(crate) inputs: Vec<usize>,
    pub(crate) len: usize,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    /// `A x + b`.
    Affine(Affine),
    /// The same function of every entry.
    Function(Function),
    /// The greatest of some entries `(input, entry)`.
    Max(Vec<Vec<(usize, usize)>>),
}

pub(crate) struct Affine {
    pub(crate) weights: Weights,
    /// One for each entry of the result, or none.
    pub(crate) bias: Vec<f64>,
    /// The exact coefficients differ from those of `weights` by at most this, relative.
    pub(crate) relative: f64,
    /// The exact bias differs by at most this.
    pub(crate) bias_error: f64,
    /// Whether entries are only moved.
    pub(crate) moves: bool,
}

pub(crate) enum Weights {
    /// Rows of a matrix, applied to every run of `inputs` entries.
    Dense {
        rows: Vec<f64>,
        inputs: usize,
    },
    Conv(Conv),
    /// For every result where its terms begin, and the terms: input, entry, coefficient.
    Sparse {
        starts: Vec<usize>,
        terms: Vec<(u32, u32, f64)>,
    },
}

/// A convolution over two axes.
pub(crate) struct Conv {
    pub(crate) weights: Vec<f64>,
    /// Channels of the input, of the output, and of the input that an output channel reads.
    pub(crate) channels: [usize; 3],
    pub(crate) image: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) out: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) pad: [usize; 2],
}

impl Weights {
    pub(crate) fn sparse(rows: impl Iterator<Item = Vec<(usize, usize, f64)>>) -> Self {
        let (mut starts, mut terms) = (vec![0], Vec::new());
        for row in rows {
            terms.extend(row.into_iter().map(|(input, i, c)| (input as u32, i as u32, c)));
            starts.push(terms.len());
        }
        Self::Sparse { starts, terms }
    }

    /// All terms `coefficient * input[entry]` of entry `o` of the result.
    #[inline(always)]
    pub(crate) fn row(&self, o: usize, mut each: impl FnMut(usize, usize, f64)) {
        match self {
            Self::Dense { rows, inputs } => {
                let outputs = rows.len() / inputs;
                let (from, row) = (o / outputs * inputs, o % outputs * inputs);
                for (i, &c) in rows[row..row + inputs].iter().enumerate() {
                    each(0, from + i, c);
                }
            }
            Self::Conv(conv) => conv.row(o, |i, c| each(0, i, c)),
            Self::Sparse { starts, terms } => {
                for &(input, i, c) in &terms[starts[o]..starts[o + 1]] {
                    each(input as usize, i as usize, c);
                }
            }
        }
    }
}

impl Conv {
    #[inline(always)]
    fn row(&self, o: usize, mut each: impl FnMut(usize, f64)) {
        let ([channels, outputs, own], [height, width]) = (self.channels, self.image);
        let (x, rest) = (o % self.out[1], o / self.out[1]);
        let (y, rest) = (rest % self.out[0], rest / self.out[0]);
        let (channel, sample) = (rest % outputs, rest / outputs);
        let first = sample * channels + channel / (outputs / (channels / own)) * own;
        // Where the window stands inside the image: taps, and the first place.
        let inside = |axis: usize, o: usize| {
            let (begin, step, pad) = (o * self.stride[axis], self.dilation[axis], self.pad[axis]);
            let first = pad.saturating_sub(begin).div_ceil(step).min(self.kernel[axis]);
            let end = (self.image[axis] + pad).saturating_sub(begin).div_ceil(step).min(self.kernel[axis]);
            (first..end.max(first), (begin + first * step).saturating_sub(pad))
        };
        let ((rows, top), (columns, left)) = (inside(0, y), inside(1, x));
        for c in 0..own {
            let (taps, pixels) = ((channel * own + c) * self.kernel[0], (first + c) * height);
            for (ky, row) in rows.clone().zip((top..).step_by(self.dilation[0])) {
                let weights = &self.weights[(taps + ky) * self.kernel[1]..][columns.clone()];
                let from = (pixels + row) * width + left;
                for (&w, i) in weights.iter().zip((from..).step_by(self.dilation[1])) {
                    each(i, w);
                }
            }
        }
    }
}

pub(crate) struct Model {
    pub(crate) nodes: Vec<Node>,
    /// Entries of the input.
    pub(crate) inputs: usize,
    /// The value that is the output.
    pub(crate) output: usize,
    /// For every value the most terms in which one of its entries stands.
    pub(crate) uses: Vec<usize>,
    /// For every affine node the most terms of one entry.
    pub(crate) terms: Vec<usize>,
}

impl Model {
    pub(crate) fn new(inputs: usize, nodes: Vec<Node>, output: usize) -> Self {
        let mut model = Self { nodes, inputs, output, uses: Vec::new(), terms: Vec::new() };
        let mut uses: Vec<Vec<usize>> = (0..=model.nodes.len()).map(|v| vec![1; model.len(v)]).collect();
        for node in &model.nodes {
            let mut most = 0;
            match &node.kind {
                Kind::Affine(affine) => {
                    for o in 0..node.len {
                        let mut count = 0;
                        affine.weights.row(o, |input, i, _| {
                            uses[node.inputs[input]][i] += 1;
                            count += 1;
                        });
                        most = most.max(count);
                    }
                }
                Kind::Function(_) => uses[node.inputs[0]].iter_mut().for_each(|uses| *uses += 1),
                Kind::Max(groups) => {
                    groups.iter().flatten().for_each(|&(input, i)| uses[node.inputs[input]][i] += 1);
                }
            }
            model.terms.push(most);
        }
        model.uses = uses.iter().map(|uses| uses.iter().max().copied().unwrap_or(0)).collect();
        model
    }

    /// Number of entries of a value.
    pub(crate) fn len(&self, value: usize) -> usize {
        value.checked_sub(1).map_or(self.inputs, |node| self.nodes[node].len)
    }
}
