//! The operators of the standard, in one table: how each is lowered, or why it
//! is not. Refusals, and lists of what is supported, are made from it.

use super::{
    Handler, arithmetic, attention, branch, cast, choice, constants, conv, einsum, functions, layout, learn,
    matmul, normalize, pool, quantized, recurrent, reduce, resize, scatter, softmax,
};

/// What becomes of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Evaluated at load.
    Constant,
    /// Moves entries; its handler works on constants of any type itself.
    Layout,
    /// An affine map.
    Affine,
    /// An elementwise function.
    Function,
    /// A joint function of several activations.
    Product,
    /// Several of the above; some of them depending on which operands are constant.
    Composite,
}

impl Kind {
    /// As tables call it.
    #[cfg(test)]
    fn text(self) -> &'static str {
        match self {
            Self::Constant => "constants only",
            Self::Layout => "moves entries",
            Self::Affine => "affine map",
            Self::Function => "elementwise function",
            Self::Product => "product",
            Self::Composite => "by parts",
        }
    }
}

/// Operators that are lowered alike.
pub(super) struct Row {
    /// Their names.
    pub(super) names: &'static [&'static str],
    /// The first operator set that has all of them.
    pub(super) since: i64,
    pub(super) kind: Kind,
    pub(super) handler: Handler,
}

const fn row(names: &'static [&'static str], since: i64, kind: Kind, handler: Handler) -> Row {
    Row { names, since, kind, handler }
}

/// What is supported.
#[rustfmt::skip]
pub(super) const SUPPORTED: &[Row] = &[
    row(&["Constant"], 1, Kind::Layout, constants::constant),
    row(&["Shape", "Size"], 1, Kind::Layout, constants::shape),
    row(&["ConstantOfShape"], 9, Kind::Layout, constants::constant_of_shape),
    row(&["EyeLike"], 9, Kind::Layout, constants::eye),
    row(&["Range"], 11, Kind::Layout, constants::range),
    row(&["Cast"], 1, Kind::Layout, cast::cast),
    row(&["CastLike"], 15, Kind::Layout, cast::cast),
    row(&["Less", "Greater", "Equal"], 1, Kind::Function, choice::compare),
    row(&["And", "Or", "Xor", "Not"], 1, Kind::Composite, choice::logic),
    row(&["Floor", "Ceil"], 1, Kind::Function, choice::integer),
    row(&["Mod"], 10, Kind::Constant, constants::only_constants),
    row(&["Round"], 11, Kind::Function, choice::integer),
    row(&["LessOrEqual", "GreaterOrEqual"], 12, Kind::Function, choice::compare),
    row(&["If"], 1, Kind::Layout, branch::choose),
    row(&["Identity", "Dropout"], 1, Kind::Layout, layout::identity),
    row(&["Reshape"], 1, Kind::Layout, layout::reshape),
    row(&["Flatten"], 1, Kind::Layout, layout::flatten),
    row(&["Squeeze"], 1, Kind::Layout, layout::squeeze),
    row(&["Unsqueeze"], 1, Kind::Layout, layout::unsqueeze),
    row(&["Transpose"], 1, Kind::Layout, layout::transpose),
    row(&["Concat"], 1, Kind::Layout, layout::concat),
    row(&["Split"], 1, Kind::Layout, layout::split),
    row(&["Slice"], 1, Kind::Layout, layout::slice),
    row(&["Gather"], 1, Kind::Layout, layout::gather),
    row(&["GatherND"], 11, Kind::Layout, scatter::gather),
    row(&["GatherElements"], 11, Kind::Layout, scatter::gather_elements),
    row(&["Scatter"], 9, Kind::Layout, scatter::scatter),
    row(&["ScatterND", "ScatterElements"], 11, Kind::Layout, scatter::scatter),
    row(&["ReverseSequence"], 10, Kind::Layout, scatter::reverse_sequence),
    row(&["CumSum"], 11, Kind::Affine, scatter::running_sum),
    row(&["Expand"], 8, Kind::Layout, layout::expand),
    row(&["DepthToSpace", "SpaceToDepth"], 1, Kind::Layout, layout::depth),
    row(&["Tile"], 1, Kind::Layout, layout::tile),
    row(&["Trilu"], 14, Kind::Layout, layout::triangle),
    row(&["DequantizeLinear"], 10, Kind::Layout, quantized::dequantize),
    row(&["QuantizeLinear"], 10, Kind::Layout, quantized::quantize),
    row(&["QLinearMatMul"], 10, Kind::Layout, quantized::product),
    row(&["QLinearConv"], 10, Kind::Layout, quantized::convolution),
    row(&["MatMulInteger", "ConvInteger"], 10, Kind::Layout, quantized::integers),
    row(&["RNN", "GRU", "LSTM"], 1, Kind::Composite, recurrent::recurrent),
    row(&["Pad"], 1, Kind::Layout, layout::pad),
    row(&["Upsample", "Resize"], 1, Kind::Layout, resize::resize),
    row(&["Where"], 9, Kind::Layout, choice::select),
    row(&["Add", "Sum", "Sub"], 1, Kind::Affine, arithmetic::add),
    row(&["Mean"], 1, Kind::Affine, arithmetic::mean),
    row(&["Neg"], 1, Kind::Affine, arithmetic::negate),
    row(&["Mul"], 1, Kind::Composite, arithmetic::multiply),
    row(&["Div"], 1, Kind::Composite, arithmetic::divide),
    row(&["Min", "Max"], 1, Kind::Composite, arithmetic::extremum),
    row(&["Pow"], 1, Kind::Function, arithmetic::power),
    row(&["Gemm"], 1, Kind::Composite, matmul::gemm),
    row(&["MatMul"], 1, Kind::Composite, matmul::matmul),
    row(&["TopK"], 1, Kind::Product, reduce::top),
    row(&["Einsum"], 12, Kind::Composite, einsum::einsum),
    row(&["Conv"], 1, Kind::Affine, conv::conv),
    row(&["ConvTranspose"], 1, Kind::Affine, conv::conv_transpose),
    row(&["BatchNormalization"], 1, Kind::Affine, conv::batch_normalization),
    row(&["AveragePool"], 1, Kind::Affine, pool::average),
    row(&["MaxPool"], 1, Kind::Product, pool::max),
    row(&["LpPool"], 1, Kind::Composite, pool::norms),
    row(&["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"], 1, Kind::Composite, pool::global),
    row(&["ReduceSum", "ReduceMean", "ReduceMax"], 1, Kind::Composite, reduce::reduce),
    row(&["ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"], 1,
        Kind::Composite, reduce::reduce),
    row(&["InstanceNormalization"], 1, Kind::Composite, normalize::normalization),
    row(&["LayerNormalization"], 17, Kind::Composite, normalize::normalization),
    row(&["GroupNormalization"], 18, Kind::Composite, normalize::normalization),
    row(&["RMSNormalization"], 23, Kind::Composite, normalize::normalization),
    row(&["LpNormalization"], 1, Kind::Composite, normalize::norm),
    row(&["LRN"], 1, Kind::Composite, normalize::local_response),
    row(&["MeanVarianceNormalization"], 9, Kind::Composite, normalize::mean_variance),
    row(&["Attention"], 23, Kind::Composite, attention::attention),
    row(&["Softmax", "LogSoftmax"], 1, Kind::Composite, softmax::softmax),
    row(&["Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Sigmoid", "HardSigmoid", "Tanh", "Softplus",
          "Softsign", "Exp", "Log", "Sqrt", "Reciprocal", "Abs", "Clip"], 1, Kind::Function, functions::function),
    row(&["Sin", "Cos", "Tan", "Asin", "Acos", "Atan"], 7, Kind::Function, functions::function),
    row(&["ThresholdedRelu"], 10, Kind::Function, functions::function),
    row(&["Erf", "Sign", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Shrink"], 9, Kind::Function, functions::function),
    row(&["HardSwish"], 14, Kind::Function, functions::function),
    row(&["Celu"], 12, Kind::Function, functions::function),
    row(&["Mish"], 18, Kind::Function, functions::function),
    row(&["Swish"], 24, Kind::Function, functions::function),
    row(&["Gelu"], 20, Kind::Function, functions::function),
];

/// What is not lowered, by reason.
#[rustfmt::skip]
pub(super) const REFUSED: &[(&str, &[&str])] = &[
    ("control flow is not a fixed graph", &["Loop", "Scan", "SequenceMap"]),
    ("its result is random", &[
        "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"]),
    ("sequences and optional values are no tensors", &[
        "ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt",
        "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength",
        "SplitToSequence"]),
    ("it works on text or encoded images", &[
        "ImageDecoder", "RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"]),
    ("the shape of its result depends on the values of its input", &[
        "Compress", "NonMaxSuppression", "NonZero", "Unique"]),
    ("positions that are read depend on the values of its input", &[
        "DeformConv", "GridSample", "MaxRoiPool", "MaxUnpool", "RoiAlign", "TensorScatter"]),
    ("it works on the bits of integers", &[
        "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"]),
    ("it is a loss, of use in training only", &["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"]),
    ("its result is a position or a choice, which no bound of scores gives; export the scores instead", &[
        "ArgMax", "ArgMin", "Hardmax", "IsInf", "IsNaN", "OneHot"]),
    ("signal processing is not supported by this version", &[
        "BlackmanWindow", "DFT", "HammingWindow", "HannWindow", "MelWeightMatrix", "STFT"]),
    ("its scale depends on the input; quantise with fixed scales", &["DynamicQuantizeLinear"]),
    ("not supported by this version; export it by its parts", &[
        "AffineGrid", "CenterCropPad", "Col2Im", "Det", "ReduceProd", "RotaryEmbedding"]),
];

/// The domain of scikit-learn's models.
const LEARN: &str = "ai.onnx.ml";

/// What is supported of that domain.
const LEARNT: &[Row] = &[
    row(&["Scaler"], 1, Kind::Affine, learn::scaler),
    row(&["Normalizer"], 1, Kind::Composite, learn::normalizer),
    row(&["LinearClassifier"], 1, Kind::Composite, learn::classifier),
    row(&["LinearRegressor"], 1, Kind::Affine, learn::regressor),
];

/// The domain of onnxruntime's own operators.
const RUNTIME: &str = "com.microsoft";

/// What is supported of that domain: what its quantiser and its optimizer of transformers write.
#[rustfmt::skip]
const OF_RUNTIME: &[Row] = &[
    row(&["QGemm"], 1, Kind::Layout, quantized::gemm),
    row(&["QLinearAdd", "QLinearMul"], 1, Kind::Layout, quantized::arithmetic),
    row(&["QuantizeLinear"], 1, Kind::Layout, quantized::quantize),
    row(&["DequantizeLinear"], 1, Kind::Layout, quantized::dequantize),
    row(&["QLinearSigmoid", "QLinearLeakyRelu", "QLinearAveragePool", "QLinearGlobalAveragePool"], 1, Kind::Layout,
        quantized::single),
    row(&["QLinearConcat"], 1, Kind::Layout, quantized::concat),
    row(&["Attention"], 1, Kind::Composite, attention::of_layer),
    row(&["MultiHeadAttention"], 1, Kind::Composite, attention::of_heads),
    row(
        &["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"],
        1,
        Kind::Composite,
        normalize::of_sum,
    ),
    row(&["Gelu", "FastGelu", "BiasGelu", "QuickGelu"], 1, Kind::Composite, functions::biased),
    row(&["FusedMatMul"], 1, Kind::Composite, matmul::fused),
];

/// What is not lowered of `ai.onnx.ml`, by reason.
const UNLEARNT: &[(&str, &[&str])] = &[
    (
        "trees are no network: a model of another kind",
        &["TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"],
    ),
    ("kernels are no network: a model of another kind", &["SVMClassifier", "SVMRegressor"]),
    (
        "it gives names or a dictionary; export the scores instead",
        &[
            "ArrayFeatureExtractor",
            "CategoryMapper",
            "DictVectorizer",
            "LabelEncoder",
            "OneHotEncoder",
            "ZipMap",
        ],
    ),
];

/// The row of an operator, or why there is none.
pub(super) fn find(domain: &str, op: &str) -> Result<&'static Row, &'static str> {
    if domain == LEARN {
        let row = LEARNT.iter().find(|row| row.names.contains(&op));
        let reason = UNLEARNT.iter().find(|(_, names)| names.contains(&op)).map(|(reason, _)| *reason);
        return row.ok_or(reason.unwrap_or("of ai.onnx.ml, and unknown to this version"));
    }
    if domain == RUNTIME {
        let row = OF_RUNTIME.iter().find(|row| row.names.contains(&op));
        if op == "QLinearSoftmax" {
            return Err("onnxruntime computes it in integers, otherwise than its parts say; quantise as QDQ");
        }
        if matches!(op, "DynamicQuantizeMatMul" | "DynamicQuantizeLSTM") {
            return Err("its scale depends on the input; quantise with fixed scales");
        }
        return row
            .ok_or("of com.microsoft, and not supported by this version; export it by standard operators");
    }
    if !matches!(domain, "" | "ai.onnx") {
        return Err("not of the standard ONNX domain");
    }
    let refused = || REFUSED.iter().find(|(_, names)| names.contains(&op)).map(|(reason, _)| *reason);
    let row = SUPPORTED.iter().find(|row| row.names.contains(&op));
    row.ok_or_else(|| refused().unwrap_or("unknown to this version"))
}

/// The names of all operators of the standard that are lowered, at least in some forms.
pub fn operators() -> impl Iterator<Item = &'static str> {
    SUPPORTED.iter().flat_map(|row| row.names).copied()
}

#[cfg(test)]
mod tests;
