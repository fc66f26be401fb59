"""The table of cases for `generate.py`: every operator with its attributes and idioms."""

import dataclasses

import numpy as np
from onnx import TensorProto, helper, numpy_helper

CASES = []


@dataclasses.dataclass
class Case:
    """A model of one input `x` and one output `y`, and where it is evaluated."""

    name: str
    shape: tuple  # of the input
    nodes: list
    constants: dict  # name to array; a tuple is the shape of random weights, a number or list floats
    opset: int = 17
    dtype: type = np.float32  # of input and weights
    result: type = None  # element type of the output, where it is another
    x: list = None  # the input; random if absent
    between: tuple = (-2, 2)  # where random inputs lie
    radius: float = 1 / 16  # of the box around the input
    tolerance: float = 5e-6  # relative to the output's scale
    store: str = "initializers"  # constants as initializers, as "nodes", or listed among the "inputs"
    declared: list = None  # the input's shape in the model, with names for open axes
    given_shape: bool = False  # whether the loader must be told the shape
    continuous: bool = True  # in a neighbourhood of the centre


def case(name, shape, *nodes, **rest):
    known = {f.name for f in dataclasses.fields(Case)}
    options = {k: v for k, v in rest.items() if k in known}
    constants = {k: v for k, v in rest.items() if k not in known}
    CASES.append(Case(name, shape, list(nodes), constants, **options))


def op(text, **attributes):
    """A node from `Kind input input -> output`; the output is `y` if it is left out, `_` is an absent input."""
    reads, _, writes = text.partition("->")
    kind, _, reads = reads.partition(" ")
    return kind, reads, writes or "y", attributes


def ints(*values):
    return np.array(values, np.int64)


def scalar(value):
    return np.array(value, np.int64)


def tag(**attributes):
    """Attributes as part of a name."""
    text = lambda v: "x".join(map(str, v)) if isinstance(v, (list, tuple)) else str(v)
    return ",".join(f"{k}={text(v)}" for k, v in attributes.items())


# Gemm ------------------------------------------------------------------------
for opset in (7, 9, 11, 13):
    case(f"gemm/opset {opset}", (1, 4), op("Gemm x w c"), opset=opset, w=(4, 3), c=(3,))
case("gemm/no bias", (1, 4), op("Gemm x w"), w=(4, 3))
case("gemm/alpha and beta", (1, 4), op("Gemm x w c", alpha=0.3, beta=-1.7), w=(4, 3), c=(3,))
case("gemm/transB", (1, 4), op("Gemm x w c", transB=1), w=(3, 4), c=(3,))
case("gemm/transA", (4, 2), op("Gemm x w c", transA=1), w=(4, 3), c=(3,))
case("gemm/everything", (4, 2), op("Gemm x w c", transA=1, transB=1, alpha=0.5, beta=2.0), w=(3, 4), c=(2, 1))
for c in ((), (1,), (3,), (1, 1), (1, 3), (2, 1), (2, 3)):
    case(f"gemm/bias of shape {c}", (2, 4), op("Gemm x w c", beta=0.7), w=(4, 3), c=c)
case("gemm/left constant", (4, 2), op("Gemm w x c", alpha=0.3), w=(3, 4), c=(3, 1))
case("gemm/left constant, both transposed", (2, 4), op("Gemm w x c", transA=1, transB=1), w=(4, 3), c=(2,))
case("gemm/both activations", (3, 4), op("Gemm x x c", transB=1, alpha=0.5), c=(3,))
case("gemm/bias an activation", (1, 4), op("MatMul x v -> t"), op("Gemm x w t", beta=0.5), v=(4, 3), w=(4, 3))
case("gemm/bias an activation to broadcast", (2, 4),
     op("Slice x zero one -> row"), op("Gemm x w row", beta=-2.0), w=(4, 4), zero=ints(0), one=ints(1))
case("gemm/bias a scalar activation", (2, 4), op("ReduceSum x -> s", keepdims=0), op("Gemm x w s"), w=(4, 3))

# MatMul ----------------------------------------------------------------------
for x, w in [((1, 4), (4, 3)), ((4,), (4, 3)), ((4,), (4,)), ((2, 4), (4,)), ((1, 2, 3, 4), (4, 5)),
             ((1, 2, 3, 4), (2, 4, 5)), ((1, 2, 3, 4), (1, 1, 4, 5)), ((1, 1, 3, 4), (2, 4, 5)),
             ((3, 4), (2, 4, 5)), ((2, 4), (1, 4, 3)), ((1, 3, 4), (3, 1, 4, 2)), ((4,), (2, 4, 3)),
             ((1, 2, 3, 4), (4,)), ((1, 4), (1, 1, 4, 3))]:
    case(f"matmul/{x} by constant {w}", x, op("MatMul x w"), w=w)
for w, x in [((3, 4), (4,)), ((3, 4), (4, 2)), ((3, 4), (1, 2, 4, 5)), ((2, 3, 4), (1, 1, 4, 5)),
             ((2, 3, 4), (4, 5)), ((4,), (4, 3)), ((4,), (1, 4, 3)), ((1, 2, 3, 4), (1, 2, 4, 2)),
             ((2, 3, 4), (4,)), ((1, 3, 4), (4, 2)), ((4,), (4,))]:
    case(f"matmul/constant {w} by {x}", x, op("MatMul w x"), w=w)
case("matmul/both, matrices", (3, 4), op("Transpose x -> t"), op("MatMul x t"))
case("matmul/both, stacks", (1, 2, 3, 4), op("Transpose x -> t", perm=[0, 1, 3, 2]), op("MatMul x t"))
case("matmul/both, right broadcast", (1, 2, 3, 4),
     op("ReduceMean x -> m", axes=[1]), op("Transpose m -> t", perm=[0, 1, 3, 2]), op("MatMul x t"))
case("matmul/both, left broadcast and of lower rank", (2, 3, 3), op("Gather x i -> g"), op("MatMul g x"), i=scalar(1))
case("matmul/both, each repeated", (1, 2, 3, 3),
     op("Transpose x -> t", perm=[1, 0, 2, 3]), op("MatMul x t"))
case("matmul/both, vectors", (4,), op("Mul x c -> t"), op("MatMul x t"), c=(4,))
case("matmul/both, matrix by vector", (3, 4), op("ReduceSum x a -> v", keepdims=0), op("MatMul x v"), a=ints(0))
case("matmul/both, vector by stack", (2, 3, 4), op("ReduceSum x a -> v", keepdims=0), op("MatMul v x"), a=ints(0, 2))

# Convolutions ----------------------------------------------------------------
for opset in (7, 11, 22):
    case(f"conv/opset {opset}", (1, 2, 5, 6), op("Conv x w b"), opset=opset, w=(3, 2, 3, 2), b=(3,))
for a in (dict(strides=[2, 1]), dict(strides=[3, 4]), dict(pads=[0, 1, 2, 1]), dict(pads=[1, 1, 1, 1], strides=[2, 2]),
          dict(dilations=[2, 3]), dict(dilations=[2, 1], pads=[2, 0, 1, 1], strides=[1, 2]),
          dict(auto_pad="VALID", strides=[2, 2]), dict(kernel_shape=[3, 2])):
    case(f"conv/{tag(**a)}", (1, 2, 5, 6), op("Conv x w b", **a), w=(3, 2, 3, 2), b=(3,))
for side in ("SAME_UPPER", "SAME_LOWER"):
    for kernel, a in [((3, 2), {}), ((3, 2), dict(strides=[2, 2])), ((2, 4), dict(strides=[3, 1])),
                      ((2, 1), dict(strides=[3, 2]))]:
        case(f"conv/{side}, kernel {kernel}, {tag(**a)}", (1, 2, 5, 6), op("Conv x w", auto_pad=side, **a), w=(2, 2, *kernel))
    case(f"conv/1-D, {side}", (1, 2, 8), op("Conv x w b", auto_pad=side, strides=[3]), w=(3, 2, 4), b=(3,))
case("conv/pointwise", (1, 3, 4, 4), op("Conv x w b"), w=(2, 3, 1, 1), b=(2,))
case("conv/pointwise with stride", (1, 3, 5, 4), op("Conv x w", strides=[2, 2]), w=(2, 3, 1, 1))
case("conv/whole image", (1, 2, 3, 4), op("Conv x w b"), w=(5, 2, 3, 4), b=(5,))
case("conv/pads beyond the kernel", (1, 1, 2, 2), op("Conv x w b", pads=[3, 3, 3, 3]), w=(1, 1, 2, 2), b=(1,))
case("conv/groups", (1, 4, 4, 4), op("Conv x w b", group=2), w=(6, 2, 3, 3), b=(6,))
case("conv/depthwise", (1, 3, 4, 4), op("Conv x w b", group=3, pads=[1, 1, 1, 1]), w=(3, 1, 3, 3), b=(3,))
case("conv/depthwise with multiplier", (1, 2, 5, 4), op("Conv x w", group=2, strides=[2, 1]), w=(6, 1, 2, 3))
case("conv/1-D", (1, 2, 7), op("Conv x w b"), w=(3, 2, 3), b=(3,))
case("conv/1-D with everything", (1, 4, 9), op("Conv x w b", group=2, strides=[2], pads=[1, 2], dilations=[2]),
     w=(4, 2, 3), b=(4,))
case("conv/two images", (1, 4, 3, 4), op("Reshape x s -> t"), op("Conv t w b", group=2), w=(2, 1, 2, 2), b=(2,),
     s=ints(2, 2, 3, 4))
case("conv/then batch norm", (1, 2, 4, 4), op("Conv x w b -> t"), op("BatchNormalization t g o m v"),
     w=(3, 2, 2, 2), b=(3,), g=(3,), o=(3,), m=(3,), v=[0.5, 1.0, 2.0])
case("conv/then scale and shift", (1, 2, 4, 4), op("Conv x w -> t"), op("Mul t g -> u"), op("Add u o"),
     w=(3, 2, 2, 2), g=(3, 1, 1), o=(1, 3, 1, 1))
case("conv/then scale per column", (1, 2, 4, 4), op("Conv x w -> t"), op("Mul t g"), w=(3, 2, 2, 2), g=(3,))

for opset in (7, 11, 22):
    case(f"conv transpose/opset {opset}", (1, 2, 3, 4), op("ConvTranspose x w b"), opset=opset, w=(2, 3, 3, 2), b=(3,))
for a in (dict(strides=[2, 3]), dict(pads=[1, 0, 1, 1]), dict(pads=[0, 1, 2, 0], strides=[2, 2]), dict(dilations=[2, 3]),
          dict(strides=[2, 2], output_padding=[1, 1]), dict(strides=[3, 3], output_padding=[2, 1], pads=[1, 1, 1, 1]),
          dict(dilations=[2, 2], strides=[2, 2], output_padding=[1, 1]), dict(strides=[4, 3], kernel_shape=[3, 2]),
          dict(strides=[2, 2], output_shape=[6, 8]), dict(strides=[2, 2], output_shape=[5, 7]),
          dict(strides=[2, 2], output_shape=[5, 7], auto_pad="SAME_UPPER"),
          dict(strides=[2, 2], output_shape=[5, 7], auto_pad="SAME_LOWER"),
          dict(strides=[2, 2], auto_pad="VALID"), dict(strides=[2, 2], output_shape=[8, 9]),
          dict(strides=[1, 2], auto_pad="SAME_UPPER"), dict(strides=[1, 2], auto_pad="SAME_LOWER"),
          dict(strides=[2, 2], output_shape=[6, 8], output_padding=[1, 1])):
    case(f"conv transpose/{tag(**a)}", (1, 2, 3, 4), op("ConvTranspose x w b", **a), w=(2, 1, 3, 2), b=(1,))
case("conv transpose/groups", (1, 4, 3, 3), op("ConvTranspose x w b", group=2, strides=[2, 2]), w=(4, 3, 2, 2), b=(6,))
case("conv transpose/depthwise", (1, 3, 3, 3), op("ConvTranspose x w", group=3), w=(3, 1, 2, 2))
for a in (dict(), dict(strides=[3], pads=[1, 2], output_padding=[1]), dict(strides=[2], output_shape=[9]),
          dict(strides=[2], output_shape=[9], auto_pad="SAME_UPPER"), dict(dilations=[2], group=2)):
    out = 2 if "group" in a else 3
    case(f"conv transpose/1-D, {tag(**a)}", (1, 2, 4), op("ConvTranspose x w", **a), w=(2, out, 3))

# BatchNormalization ----------------------------------------------------------
STATISTICS = dict(g=(3,), o=(3,), m=(3,), v=[0.25, 1.0, 3.0])
for opset in (7, 9, 14, 15):
    case(f"batch norm/opset {opset}", (1, 3, 2, 2), op("BatchNormalization x g o m v"), opset=opset, **STATISTICS)
for shape in ((1, 3), (1, 3, 4), (1, 3, 2, 2, 2)):
    case(f"batch norm/of {shape}", shape, op("BatchNormalization x g o m v", epsilon=0.1), **STATISTICS)
case("batch norm/tiny variance", (1, 2), op("BatchNormalization x g o m v"), g=(2,), o=(2,), m=(2,), v=[0.0, 1e-6])
case("batch norm/after gemm", (1, 4), op("Gemm x w b -> t"), op("BatchNormalization t g o m v"),
     w=(4, 3), b=(3,), **STATISTICS)

# Pooling ---------------------------------------------------------------------
POOLS = [dict(kernel_shape=[2, 2]), dict(kernel_shape=[2, 3], strides=[2, 2]), dict(kernel_shape=[3, 2], pads=[1, 0, 1, 1]),
         dict(kernel_shape=[3, 3], strides=[2, 3], pads=[1, 1, 0, 2]), dict(kernel_shape=[1, 1], strides=[2, 2]),
         dict(kernel_shape=[5, 6]), dict(kernel_shape=[2, 3], auto_pad="VALID", strides=[2, 2]),
         dict(kernel_shape=[3, 2], auto_pad="SAME_UPPER", strides=[2, 2]),
         dict(kernel_shape=[3, 2], auto_pad="SAME_LOWER", strides=[2, 2]),
         dict(kernel_shape=[2, 4], auto_pad="SAME_UPPER"), dict(kernel_shape=[2, 4], auto_pad="SAME_LOWER")]
CEILED = [dict(kernel_shape=[2, 3], strides=[2, 2]), dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
          dict(kernel_shape=[2, 2], strides=[3, 4]), dict(kernel_shape=[2, 2], strides=[3, 3], pads=[0, 0, 1, 1]),
          dict(kernel_shape=[3, 2], strides=[2, 3], pads=[0, 1, 2, 1])]
DILATED = [dict(kernel_shape=[2, 2], dilations=[2, 3]), dict(kernel_shape=[2, 3], dilations=[2, 1], strides=[2, 1], pads=[1, 1, 1, 1]),
           dict(kernel_shape=[2, 2], dilations=[3, 2], strides=[2, 2], ceil_mode=1)]
IMAGE = (1, 2, 5, 6)
for a in POOLS:
    case(f"average pool/{tag(**a)}", IMAGE, op("AveragePool x", **a))
    case(f"max pool/{tag(**a)}", IMAGE, op("MaxPool x", **a))
    if "pads" in a or "SAME" in a.get("auto_pad", ""):
        case(f"average pool/with padding, {tag(**a)}", IMAGE, op("AveragePool x", count_include_pad=1, **a))
for a in CEILED:
    for opset in (11, 19):
        case(f"average pool/opset {opset}, ceil, {tag(**a)}", IMAGE, op("AveragePool x", ceil_mode=1, **a), opset=opset)
        case(f"average pool/opset {opset}, ceil with padding, {tag(**a)}", IMAGE,
             op("AveragePool x", ceil_mode=1, count_include_pad=1, **a), opset=opset)
    case(f"max pool/ceil, {tag(**a)}", IMAGE, op("MaxPool x", ceil_mode=1, **a))
for a in DILATED:
    case(f"average pool/{tag(**a)}", IMAGE, op("AveragePool x", **a), opset=19)
    case(f"max pool/{tag(**a)}", IMAGE, op("MaxPool x", **a))
    case(f"average pool/with padding, {tag(**a)}", IMAGE, op("AveragePool x", count_include_pad=1, **a), opset=19)
for opset in (7, 10, 11, 22):
    case(f"average pool/opset {opset}", IMAGE, op("AveragePool x", kernel_shape=[2, 2], strides=[2, 1]), opset=opset)
for opset in (7, 8, 10, 12, 22):
    case(f"max pool/opset {opset}", IMAGE, op("MaxPool x", kernel_shape=[2, 2], strides=[2, 1]), opset=opset)
case("max pool/indices not used", IMAGE, op("MaxPool x -> y i", kernel_shape=[2, 2]))
case("max pool/storage order", IMAGE, op("MaxPool x", kernel_shape=[2, 2], storage_order=1))
for kind in ("AveragePool", "MaxPool"):
    a = dict(kernel_shape=[3], strides=[2], pads=[1, 0])
    case(f"1-D {kind}/{tag(**a)}", (1, 2, 7), op(f"{kind} x", **a))
    case(f"1-D {kind}/ceil", (1, 2, 8), op(f"{kind} x", ceil_mode=1, **a))
    case(f"1-D {kind}/SAME_LOWER", (1, 2, 8), op(f"{kind} x", kernel_shape=[4], strides=[3], auto_pad="SAME_LOWER"))
for kind in ("GlobalAveragePool", "GlobalMaxPool"):
    for shape in ((1, 3, 2, 3), (1, 3, 4), (1, 2, 2, 1, 3)):
        case(f"{kind}/{shape}", shape, op(f"{kind} x"))

# Arithmetic ------------------------------------------------------------------
for kind in ("Add", "Sub", "Mul", "Div"):
    # Divisors away from zero, by a box that is all positive.
    box = dict(between=(1, 3)) if kind == "Div" else {}
    for shape, c in [((1, 3), (3,)), ((1, 3), ()), ((2, 3), (2, 1)), ((1, 2, 2, 3), (2, 1, 1)), ((1, 2, 2, 3), (1, 2, 1, 1)),
                     ((1, 2, 2, 3), (2, 3)), ((1, 3), (2, 3)), ((3,), (2, 1, 1)), ((1, 2, 1, 3), (4, 1)),
                     ((1, 2, 2, 3), (2, 1, 3)), ((1, 1), (1, 1, 1))]:
        case(f"{kind}/{shape} and constant {c}", shape, op(f"{kind} x c"), **box, c=c)
    case(f"{kind}/constant first", (2, 3), op(f"{kind} c x"), **box, c=(2, 3))
    case(f"{kind}/constant first, broadcast", (1, 3), op(f"{kind} c x"), **box, c=(2, 1))
    case(f"{kind}/opset 7", (1, 3), op(f"{kind} x c"), **box, opset=7, c=(3,))
    case(f"{kind}/two activations", (2, 3), op("Sigmoid x -> s"), op(f"{kind} x s"))
    case(f"{kind}/two activations, broadcast both ways", (2, 3),
         op("ReduceMax x -> a", axes=[0]), op("ReduceMean x -> b", axes=[1]), op(f"{kind} a b"), between=(1, 3))
    case(f"{kind}/two activations, one of lower rank", (1, 2, 3),
         op("ReduceMean x -> a", axes=[0, 1], keepdims=0), op(f"{kind} x a"), between=(1, 3))
    case(f"{kind}/with itself", (2, 3), op(f"{kind} x x"), between=(1, 3))
case("Mul/with itself around zero", (1, 3), op("Mul x x"), x=[-0.03125, 0, 0.03125])
case("Mul/outer product with itself", (3,), op("Unsqueeze x a -> u"), op("Mul x u"), a=ints(1))
case("Mul/by zeros", (2, 3), op("Mul x c"), c=[0.0, 1.0, 0.0])
case("Div/by powers of ten", (1, 3), op("Div x c"), c=[1e-3, 1e3, -255.0])
case("Div/near zero", (1, 4), op("Div c x"), c=1.0, x=[-2, -0.25, 0.25, 2], radius=1 / 8)
case("Div/over zero", (1, 2), op("Div c x"), c=1.0, x=[-0.5, 0.5], radius=1.0)
for opset in (7, 13):
    case(f"Neg/opset {opset}", (1, 3), op("Neg x"), opset=opset)
case("Sum/1", (1, 3), op("Sum x"))
case("Sum/2", (1, 3), op("Sum x c"), c=(3,))
case("Sum/3", (1, 3), op("Relu x -> r"), op("Sum x c r"), c=(3,))
case("Sum/4, broadcast", (2, 3), op("Relu x -> r"), op("Sum c r d x"), c=(2, 1), d=(3,))
case("Sum/same twice", (1, 3), op("Sum x x x"))
case("Sub/residual", (1, 3), op("MatMul x w -> t"), op("Relu t -> r"), op("Sub r x"), w=(3, 3))

# Elementwise functions -------------------------------------------------------
EDGES = [-1e4, -100, -20, -3.5, -3, -1.5, -1, -0.5, 0, 0.25, 1, 2.5, 3, 4, 20, 60]
FUNCTIONS = {
    "Relu": [{}], "LeakyRelu": [{}, dict(alpha=0.25), dict(alpha=1.5), dict(alpha=-0.5)],
    "Elu": [{}, dict(alpha=2.0), dict(alpha=-0.5)], "Selu": [{}, dict(alpha=1.5, gamma=2.0)], "Sigmoid": [{}],
    "HardSigmoid": [{}, dict(alpha=0.5, beta=0.25), dict(alpha=-0.5)], "HardSwish": [{}], "Tanh": [{}], "Softplus": [{}],
    "Gelu": [{}, dict(approximate="tanh"), dict(approximate="none")], "Erf": [{}], "Abs": [{}], "Sin": [{}], "Cos": [{}],
}
for kind, variants in FUNCTIONS.items():
    opset = 20 if kind == "Gelu" else 17
    # Sine and cosine lose all digits of a large argument in f32.
    edges = [v for v in EDGES if abs(v) < 1e3] if kind in ("Sin", "Cos") else EDGES
    for a in variants:
        case(f"{kind}/{tag(**a)}", (2, 3), op(f"{kind} x", **a), opset=opset)
        case(f"{kind}/edges, {tag(**a)}", (1, len(edges)), op(f"{kind} x", **a), opset=opset, x=edges)
        case(f"{kind}/wide box, {tag(**a)}", (1, 4), op(f"{kind} x", **a), opset=opset, x=[-4, -1, 0, 2], radius=3.0)
for kind in ("Relu", "LeakyRelu", "Elu", "Selu", "Sigmoid", "HardSigmoid", "Tanh", "Softplus", "Abs", "Sin", "Cos"):
    case(f"{kind}/opset 7", (1, 3), op(f"{kind} x"), opset=7)
for kind, opset in [("Relu", 14), ("LeakyRelu", 16), ("Elu", 22), ("Selu", 22), ("HardSwish", 22), ("HardSigmoid", 22), ("Softplus", 22)]:
    case(f"{kind}/opset {opset}", (1, 3), op(f"{kind} x"), opset=opset)
case("Exp/", (2, 3), op("Exp x"))
case("Exp/edges", (1, 6), op("Exp x"), x=[-200, -80, -1, 0, 1, 3])
case("Log/", (2, 3), op("Log x"), between=(0.5, 4))
case("Log/edges", (1, 4), op("Log x"), x=[0.25, 1, 10, 1e4], radius=1 / 8)
case("Log/at zero", (1, 2), op("Log x"), x=[0.5, 1], radius=0.5)
case("Sqrt/", (2, 3), op("Sqrt x"), between=(0.5, 4))
case("Sqrt/at zero", (1, 2), op("Sqrt x"), x=[0.5, 1e4], radius=0.5)
case("Reciprocal/", (2, 3), op("Reciprocal x"), between=(-4, -0.5))
case("Reciprocal/over zero", (1, 2), op("Reciprocal x"), x=[0.5, -0.5], radius=1.0)
case("Sign/", (1, 4), op("Sign x"), x=[-2, -0.5, 0.5, 3])
case("Sign/over zero", (1, 3), op("Sign x"), x=[-0.25, 0, 0.25], radius=0.5, continuous=False)
for slope in ((), (1,), (2, 1, 1), (1, 2, 1, 1), (3,), (2, 2, 3), (1, 2, 2, 3), (2, 1)):
    case(f"PRelu/slope of shape {slope}", (1, 2, 2, 3), op("PRelu x s"), s=slope)
for opset in (7, 9, 16):
    case(f"PRelu/opset {opset}", (1, 3, 2), op("PRelu x s"), opset=opset, s=[[-0.5], [0.25], [2.0]])
case("PRelu/dense", (1, 4), op("PRelu x s"), s=(4,))

for opset in (7, 10):
    for a in ({}, dict(min=-0.5), dict(max=0.5), dict(min=-1.0, max=0.25)):
        case(f"Clip/opset {opset}, {tag(**a)}", (2, 4), op("Clip x", **a), opset=opset)
for opset in (11, 12, 13):
    case(f"Clip/opset {opset}, both", (2, 4), op("Clip x l h"), opset=opset, l=-1.0, h=0.25)
    case(f"Clip/opset {opset}, only min", (2, 4), op("Clip x l"), opset=opset, l=-0.5)
    case(f"Clip/opset {opset}, only max", (2, 4), op("Clip x _ h"), opset=opset, h=0.5)
    case(f"Clip/opset {opset}, neither", (2, 4), op("Clip x"), opset=opset)
case("Clip/crossed limits", (2, 4), op("Clip x l h"), l=1.0, h=-0.5)
INF = float("inf")
for kind, limit in [("Max", [-INF, 5.0, 0.0, 0.0]), ("Max", [0.5, -INF, -INF, 0.0]), ("Min", [INF, -5.0, 0.0, 0.0]),
                    ("Min", [0.5, INF, 1.0, INF]), ("Max", [-INF] * 4), ("Min", [INF] * 4)]:
    case(f"{kind}/mixed limits {limit}", (1, 4), op(f"{kind} x c"), c=limit, x=[0.0, 1.0, 2.0, 3.0])
    case(f"{kind}/mixed limits {limit} behind a layer", (1, 3), op("MatMul x w -> h"), op(f"{kind} h c"), w=(3, 4), c=limit)
for kind, sign in (("Max", -INF), ("Min", INF)):
    case(f"{kind}/mixed limits per channel", (1, 2, 3, 2), op(f"{kind} x c"), c=[[[sign]], [[0.25]]])
    case(f"{kind}/mixed limits per channel behind a convolution", (1, 2, 3, 2), op("Conv x w -> h"), op(f"{kind} h c"),
         w=(3, 2, 2, 1), c=[[[sign]], [[0.25]], [[-0.25]]])
    case(f"{kind}/mixed limits along the last axis", (1, 2, 3), op(f"{kind} x c"), c=[sign, 0.25, -1.0])
    case(f"{kind}/mixed limits to broadcast both ways", (1, 2, 1), op(f"{kind} x c"), c=[sign, 0.25, -1.0])
case("Clip/mixed limits of both kinds", (1, 4), op("Max x l -> m"), op("Min m h"), l=[-INF, 0.0, -1.0, -INF], h=[0.5, INF, 1.0, INF])
case("PRelu/first slope one", (1, 4), op("PRelu x s"), s=[1.0, -0.5, 0.0, 2.0], x=[-1.0, -2.0, -0.5, -1.5])
case("PRelu/per channel behind a convolution", (1, 2, 3, 2), op("Conv x w -> h"), op("PRelu h s"), w=(2, 2, 2, 1), s=[[[0.0]], [[-1.0]]])
case("Clip/limits as nodes", (2, 4), op("Clip x l h"), l=0.0, h=6.0, store="nodes")
case("Clip/limits computed", (2, 4), op("Neg h -> l"), op("Clip x l h"), h=0.5)
case("Clip/f64", (2, 4), op("Clip x l h"), l=-0.1, h=0.7, dtype=np.float64)

for kind in ("Min", "Max"):
    for opset in (7, 8, 12, 13):
        case(f"{kind}/opset {opset}", (2, 3), op(f"{kind} x c"), opset=opset, c=(2, 3))
    case(f"{kind}/one", (1, 3), op(f"{kind} x"))
    case(f"{kind}/constant first, scalar", (1, 3), op(f"{kind} c x"), c=0.5)
    case(f"{kind}/constant to broadcast to", (1, 3), op(f"{kind} x c"), c=(2, 1))
    case(f"{kind}/two activations", (2, 3), op("Neg x -> n"), op(f"{kind} x n"))
    case(f"{kind}/two activations, broadcast", (2, 3), op("ReduceMean x -> m", axes=[1]), op(f"{kind} m x"))
    case(f"{kind}/several", (2, 3), op("Neg x -> n"), op("Sin x -> s"), op(f"{kind} x c n d s"), c=(3,), d=(2, 1))
    case(f"{kind}/constants and one activation", (1, 3), op(f"{kind} c x d"), c=(3,), d=0.25)

for opset in (7, 12, 13, 15):
    case(f"Pow/opset {opset}", (1, 4), op("Pow x e"), opset=opset, e=2.0)
for e in (0.0, 0.5, 1.0, 1.5, 3.0, 4.0, -1.0, -2.0, -0.5, -3.0, 0.1):
    case(f"Pow/{e} of positive numbers", (1, 4), op("Pow x e"), e=e, between=(0.5, 3))
for e in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0):
    case(f"Pow/{e} around zero", (1, 4), op("Pow x e"), e=e, x=[-1, 0, 0.25, 2], radius=0.5)
for e in (-1.0, -2.0, -3.0):
    case(f"Pow/{e} of negative numbers", (1, 4), op("Pow x e"), e=e, between=(-3, -0.5))
case("Pow/integer exponent", (1, 4), op("Pow x e"), e=scalar(3))
case("Pow/f64 exponent", (1, 4), op("Pow x e"), e=np.array(2.5), between=(0.5, 3))
case("Pow/exponent of one axis", (1, 4), op("Pow x e"), e=[2.0])
case("Pow/exponents all the same", (2, 3), op("Pow x e"), e=[3.0, 3.0, 3.0])
case("Pow/exponents to broadcast to", (1, 3), op("Pow x e"), e=[[2.0], [2.0]])

# Softmax ---------------------------------------------------------------------
for kind in ("Softmax", "LogSoftmax"):
    for opset in (7, 11, 13):
        for a in ({}, dict(axis=0), dict(axis=1), dict(axis=2), dict(axis=-1), dict(axis=-2)):
            if opset >= 11 or a.get("axis", 0) >= 0:
                case(f"{kind}/opset {opset}, {tag(**a)}", (2, 3, 2), op(f"{kind} x", **a), opset=opset)
    case(f"{kind}/large logits", (1, 4), op(f"{kind} x"), x=[1e3, -1e3, 999, 998.5])
    case(f"{kind}/large box", (1, 3), op(f"{kind} x"), radius=100.0)
    case(f"{kind}/one class", (3, 1), op(f"{kind} x"))
    case(f"{kind}/vector", (4,), op(f"{kind} x"))
case("Softmax/masked", (1, 4), op("Add x m -> t"), op("Softmax t"), m=[0.0, 0.0, -1e9, -3e38])

# Reductions ------------------------------------------------------------------
for kind in ("ReduceSum", "ReduceMean", "ReduceMax"):
    as_input = 13 if kind == "ReduceSum" else 18
    for opset, attribute in [(7, True), (11, True), (12, True), (13, as_input > 13), (17, as_input > 17), (18, False), (20, False)]:
        reduced = lambda axes, attribute=attribute, **a: op(f"{kind} x", axes=axes, **a) if attribute else op(f"{kind} x a", **a)
        with_axes = lambda axes, attribute=attribute: {} if attribute else dict(a=ints(*axes))
        case(f"{kind}/opset {opset}, axis 1", (1, 2, 3), reduced([1]), opset=opset, **with_axes([1]))
        if opset in (11, 18):
            for axes in ([2, 0], [-1], [-2, -1], [0, 1, 2]):
                for keep in (0, 1):
                    case(f"{kind}/opset {opset}, {axes}, {keep=}", (2, 2, 3), reduced(axes, keepdims=keep), opset=opset, **with_axes(axes))
    for opset in (11, 18):
        for keep in (0, 1):
            case(f"{kind}/opset {opset}, all, {keep=}", (2, 3), op(f"{kind} x", keepdims=keep), opset=opset)
    case(f"{kind}/empty axes", (2, 3), op(f"{kind} x a"), opset=18, a=ints())
    case(f"{kind}/empty axes are none", (2, 3), op(f"{kind} x a", noop_with_empty_axes=1), opset=18, a=ints())
    case(f"{kind}/no axes are none", (2, 3), op(f"{kind} x", noop_with_empty_axes=1), opset=18)
    case(f"{kind}/one entry", (2, 1, 3), op(f"{kind} x a", keepdims=0), opset=18, a=ints(1))

# Shapes ----------------------------------------------------------------------
for axis in (0, 1, 2, 3, -1, -2):
    case(f"Flatten/{axis=}", (1, 2, 3), op("Flatten x -> f", axis=axis), op("Neg f"), opset=11)
case("Flatten/default", (1, 2, 3, 2), op("Flatten x -> f"), op("MatMul f w"), opset=9, w=(12, 2))
case("Flatten/vector", (3,), op("Flatten x", axis=0), opset=13)
for opset, target, extra in [(7, (1, -1), {}), (13, (0, -1), {}), (13, (0, 0, 2, -1), {}), (13, (-1, 3), {}), (13, (3, 4), {}),
                             (14, (3, -1), dict(allowzero=1)), (14, (-1,), {}), (21, (1, 0, 6), {})]:
    case(f"Reshape/opset {opset}, {target}", (1, 2, 6), op("Reshape x s -> r", **extra), op("Sin r"), opset=opset, s=ints(*target))
case("Reshape/there and back", (1, 2, 6), op("Reshape x s -> r"), op("Transpose r -> q"), op("Reshape q t"),
     s=ints(3, 4), t=ints(1, 12))
case("Reshape/open batch", (1, 2, 3), op("Reshape x s -> r"), op("Gemm r w"), declared=["batch", 2, 3], s=ints(-1, 6), w=(6, 2))
for opset, axes in [(11, None), (11, [0]), (11, [-3]), (13, None), (13, [1, 3]), (13, [-3, 3])]:
    node = op("Squeeze x") if axes is None else op("Squeeze x a") if opset >= 13 else op("Squeeze x", axes=axes)
    case(f"Squeeze/opset {opset}, {axes}", (2, 1, 3, 1) if axes != [0] else (1, 1, 3, 1), node, opset=opset,
         **({} if axes is None or opset < 13 else dict(a=ints(*axes))))
for opset, axes in [(7, [0]), (11, [1, 3]), (11, [-1]), (13, [3, 0]), (13, [-1, -2]), (13, [0, -1])]:
    node = op("Unsqueeze x a") if opset >= 13 else op("Unsqueeze x", axes=axes)
    case(f"Unsqueeze/opset {opset}, {axes}", (2, 3), node, opset=opset, **({} if opset < 13 else dict(a=ints(*axes))))
case("Transpose/default", (1, 2, 3), op("Transpose x"))
for perm in ([0, 2, 1], [2, 0, 1], [1, 2, 0], [0, 1, 2]):
    case(f"Transpose/{perm}", (1, 2, 3), op("Transpose x", perm=perm))
case("Transpose/image", (1, 2, 3, 4), op("Transpose x", perm=[0, 2, 3, 1]))

# Concat, Split, Slice, Gather ------------------------------------------------
for axis in (0, 1, 2, -1, -2):
    case(f"Concat/{axis=}", (1, 2, 3), op("Neg x -> n"), op("Concat x n", axis=axis))
case("Concat/with constants", (1, 2), op("Concat c x d x", axis=1), c=(1, 3), d=(1, 1))
case("Concat/of lengths 1 to 3", (1, 3), op("Slice x a b c -> s"), op("Concat s x s", axis=1), a=ints(1), b=ints(2), c=ints(1))
case("Concat/class token", (1, 3, 2), op("Concat t x -> c", axis=1), op("Add c p"), t=(1, 1, 2), p=(1, 4, 2))
case("Concat/one", (1, 3), op("Concat x", axis=0))
case("Concat/channels of convolutions", (1, 2, 4, 4), op("Conv x v -> a"), op("Conv x w -> b"), op("Concat a b", axis=1),
     v=(2, 2, 3, 3), w=(1, 2, 3, 3))
JOIN = op("Concat c b a", axis=0)
case("Split/equal, opset 7", (3, 2), op("Split x -> a b c"), JOIN, opset=7)
case("Split/equal, opset 13", (3, 2), op("Split x -> a b c"), JOIN, opset=13)
case("Split/sizes, opset 11", (6, 2), op("Split x -> a b c", split=[1, 3, 2]), JOIN, opset=11)
case("Split/sizes, opset 13", (6, 2), op("Split x s -> a b c"), JOIN, opset=13, s=ints(2, 3, 1))
case("Split/num_outputs", (6, 2), op("Split x -> a b c", num_outputs=3), JOIN, opset=18)
case("Split/num_outputs, uneven", (7, 2), op("Split x -> a b c", num_outputs=3), JOIN, opset=18)
case("Split/num_outputs, uneven by two", (10, 1), op("Split x -> a b c d", num_outputs=4), op("Concat d c b a", axis=0), opset=18)
case("Split/last axis", (1, 2, 6), op("Split x -> a b c", axis=-1), op("Sub c a"), opset=13)
case("Split/a part not used", (1, 6), op("Split x s -> a b c", axis=1), op("Neg b"), opset=13, s=ints(2, 3, 1))
case("Split/gated", (1, 4), op("Split x -> a b", axis=1), op("Sigmoid b -> s"), op("Mul a s"), opset=13)

END = np.iinfo(np.int64).max
SLICES = [((1,), (3,), None, None), ((0, 1), (2, 3), (1, 0), None), ((-2,), (END,), (1,), None), ((0,), (-1,), (-1,), None),
          ((0,), (END,), (1,), (2,)), ((END,), (-END,), (1,), (-1,)), ((-1,), (0,), (1,), (-2,)), ((3,), (-END,), (1,), (-3,)),
          ((-100,), (100,), (0,), None), ((1,), (1000,), (1,), (100,)), ((4, 2), (0, 0), (1, 0), (-1, -2)),
          ((10,), (1,), (1,), (-1,)), ((-1,), (-4,), (-1,), (-1,)), ((0,), (-END,), (1,), (-1,)),
          ((-100,), (-END,), (1,), (-1,))]
for starts, ends, axes, steps in SLICES:
    given = {k: ints(*v) for k, v in dict(s=starts, e=ends, a=axes, t=steps).items() if v is not None}
    words = f"Slice x s e {'a' if axes else '_'} {'t' if steps else ''}" if axes or steps else "Slice x s e"
    case(f"Slice/{starts}..{ends} on {axes} by {steps}", (3, 5), op(words), opset=13, **given)
case("Slice/opset 7", (3, 5), op("Slice x", starts=[1, -3], ends=[3, END], axes=[0, 1]), opset=7)
case("Slice/opset 9, no axes", (3, 5), op("Slice x", starts=[1, 0], ends=[100, -1]), opset=9)
case("Slice/int32", (3, 5), op("Slice x s e a"), s=np.array([1], np.int32), e=np.array([3], np.int32), a=np.array([1], np.int32))
case("Slice/pixels to channels", (1, 1, 4, 4), op("Slice x z e a t -> p"), op("Slice x o e a t -> q"), op("Concat p q", axis=1),
     z=ints(0, 0), o=ints(1, 1), e=ints(END, END), a=ints(2, 3), t=ints(2, 2))
for axis, index in [(0, scalar(1)), (1, scalar(-1)), (0, ints(2, 0, 0)), (1, ints(-1, -3)), (-1, ints(1, 1)),
                    (1, np.array([[0, 1], [2, -1]])), (0, np.array([[1]], np.int32))]:
    case(f"Gather/{axis=}, {index.tolist()}", (3, 4, 2), op("Gather x i", axis=axis), i=index)
case("Gather/first token", (1, 3, 2), op("Gather x i -> g", axis=1), op("Gemm g w"), i=scalar(0), w=(2, 3))
case("Gather/vector", (4,), op("Gather x i"), i=scalar(2))

# Pad -------------------------------------------------------------------------
for mode in ("constant", "reflect", "edge"):
    case(f"Pad/opset 2, {mode}", (1, 3, 4), op("Pad x", mode=mode, pads=[0, 1, 2, 0, 2, 1]), opset=7)
    case(f"Pad/opset 11, {mode}", (1, 3, 4), op("Pad x p", mode=mode), opset=11, p=ints(0, 2, 0, 0, 1, 3))
    case(f"Pad/opset 18 with axes, {mode}", (1, 3, 4), op("Pad x p _ a", mode=mode), opset=18, p=ints(1, 2, 0, 1), a=ints(-1, 1))
    case(f"Pad/negative, {mode}", (1, 3, 4), op("Pad x p", mode=mode), opset=13, p=ints(0, -1, 1, 0, 0, -2))
case("Pad/opset 2, value", (1, 3), op("Pad x", pads=[0, 1, 0, 2], value=1.5), opset=7)
case("Pad/value", (1, 3), op("Pad x p v"), p=ints(0, 1, 0, 2), v=-0.75)
case("Pad/value of one axis", (1, 3), op("Pad x p v"), p=ints(1, 0, 0, 0), v=[0.5])
case("Pad/wrap what is left of a cut", (3, 4), op("Pad x p", mode="wrap"), opset=19, p=ints(-1, 2, 2, -1))
case("Pad/wrap", (1, 4), op("Pad x p", mode="wrap"), opset=19, p=ints(0, 2, 0, 3))
case("Pad/nothing", (1, 3), op("Pad x p"), p=ints(0, 0, 0, 0))
case("Pad/then convolution", (1, 1, 3, 3), op("Pad x p v -> t"), op("Conv t w"), p=ints(0, 0, 1, 1, 0, 0, 1, 1), v=0.5, w=(2, 1, 3, 3))

# Upsample and Resize ---------------------------------------------------------
case("Upsample/opset 7", (1, 1, 2, 3), op("Upsample x", scales=[1.0, 1.0, 2.0, 3.0]), opset=7)
case("Upsample/opset 9", (1, 1, 2, 3), op("Upsample x s", mode="nearest"), opset=9, s=[1.0, 1.0, 2.0, 2.5])
case("Resize/opset 10", (1, 1, 2, 3), op("Resize x s"), opset=10, s=[1.0, 1.0, 2.0, 1.5])
case("Resize/opset 10, down", (1, 1, 5, 6), op("Resize x s"), opset=10, s=np.array([1, 1, 0.6, 0.5], np.float32))
EMPTY = np.array([], np.float32)
for coordinates in ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners", "tf_half_pixel_for_nn"):
    for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"):
        a = dict(coordinate_transformation_mode=coordinates, nearest_mode=rounding)
        if coordinates != "tf_half_pixel_for_nn":
            case(f"Resize/{coordinates}, {rounding}, scales", (1, 1, 3, 10), op("Resize x r s", **a), opset=13,
                 r=EMPTY, s=np.array([1, 1, 2.4, 0.7], np.float32))
        case(f"Resize/{coordinates}, {rounding}, sizes", (1, 1, 4, 6), op("Resize x r e n", **a),
             opset=11 if coordinates == "tf_half_pixel_for_nn" else 13, r=EMPTY, e=EMPTY, n=ints(1, 1, 7, 3))
for size in (3, 5, 7, 11, 13, 20, 30):
    for coordinates, rounding in [("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("align_corners", "round_prefer_ceil")]:
        a = dict(coordinate_transformation_mode=coordinates, nearest_mode=rounding)
        case(f"Resize/10 to {size}, {coordinates}, {rounding}", (1, 10), op("Resize x _ _ n", **a), opset=13, n=ints(1, size))
case("Resize/default", (1, 1, 3, 4), op("Resize x _ s"), opset=13, s=np.array([1, 1, 2, 2], np.float32))
case("Resize/half_pixel_symmetric", (1, 1, 3, 4), op("Resize x _ s", coordinate_transformation_mode="half_pixel_symmetric"),
     opset=19, s=np.array([1, 1, 1.5, 0.7], np.float32))
for size in (2, 7, 10, 13):
    case(f"Resize/half_pixel_symmetric to {size}", (1, 9), op("Resize x _ _ n", coordinate_transformation_mode="half_pixel_symmetric",
         nearest_mode="floor"), opset=19, n=ints(1, size))
case("Resize/to the same length", (1, 9), op("Resize x _ s", nearest_mode="floor"), opset=13, s=np.array([1, 1.1], np.float32))
for mode in ("round_prefer_floor", "round_prefer_ceil"):
    for size, scale in [(9, 1.2), (14, 2.4), (22, 52 / 22), (29, 18 / 29)]:
        case(f"Resize/halves missed, {mode}, {size} by {scale:.3}", (1, size),
             op("Resize x _ s", coordinate_transformation_mode="asymmetric", nearest_mode=mode), opset=13,
             s=np.array([1, scale], np.float32))
case("Resize/scales that round", (1, 1, 10, 10), op("Resize x _ s", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
     opset=13, s=np.array([1, 1, 0.7, 0.9], np.float32))
case("Resize/axes", (1, 2, 3, 4), op("Resize x _ s", axes=[3, 2]), opset=18, s=np.array([2, 3], np.float32))
case("Resize/all axes in another order", (1, 2, 3, 4), op("Resize x _ s", axes=[3, 2, 0, 1]), opset=18,
     s=np.array([2, 3, 1, 1], np.float32))
case("Resize/sizes on axes", (1, 2, 3, 4), op("Resize x _ _ n", axes=[-2, -1]), opset=18, n=ints(6, 8))
for policy in ("stretch", "not_larger", "not_smaller"):
    case(f"Resize/{policy}", (1, 1, 3, 4), op("Resize x _ _ n", axes=[2, 3], keep_aspect_ratio_policy=policy), opset=18, n=ints(7, 6))
case("Resize/size from shape", (1, 2, 3, 3), op("Shape x -> s"), op("Slice s z two -> b"), op("Concat b t -> n", axis=0),
     op("Resize x _ _ n", coordinate_transformation_mode="asymmetric", nearest_mode="floor"), z=ints(0), two=ints(2), t=ints(6, 6))

# Where, Expand, Identity, Dropout, Cast ---------------------------------------
MASK = np.array([[True, False, True], [False, False, True]])
case("Where/activation and constant", (2, 3), op("Where m x c"), m=MASK, c=(2, 3))
case("Where/constant and activation", (2, 3), op("Where m c x"), m=MASK, c=0.5)
case("Where/two activations", (2, 3), op("Neg x -> n"), op("Where m x n"), m=MASK)
case("Where/all broadcast", (1, 3), op("Sin x -> s"), op("Where m x s"), m=np.array([[[True]], [[False]]]))
case("Where/condition computed", (2, 3), op("Greater c d -> m"), op("Where m x d"), c=(2, 3), d=[0.0])
for target in ((2, 3), (4, 1, 1), (1, 1), (3,)):
    case(f"Expand/{target}", (2, 3) if target != (3,) else (2, 1), op("Expand x s"), s=ints(*target))
case("Expand/to own shape", (2, 3), op("Shape x -> s"), op("Expand m s -> e"), op("Add x e"), m=(3,))
case("Identity/alone", (1, 3), op("Identity x"))
case("Identity/of a constant", (1, 3), op("Identity w -> v"), op("Gemm x v"), w=(3, 2))
case("Identity/after a sum", (1, 3), op("Add x c -> t"), op("Identity t"), c=(3,))
for opset in (7, 10):
    case(f"Dropout/opset {opset}", (1, 3), op("Dropout x -> d", ratio=0.3), op("Neg d"), opset=opset)
case("Dropout/opset 13", (1, 3), op("Dropout x r -> d"), op("Neg d"), opset=13, r=0.5)
case("Dropout/not training", (1, 3), op("Dropout x r t -> d"), op("Neg d"), opset=13, r=0.5, t=np.array(False))
case("Dropout/mask not used", (1, 3), op("Dropout x -> d m"), op("Neg d"), opset=10)
case("Cast/to float", (1, 3), op("Cast x -> c", to=TensorProto.FLOAT), op("Neg c"))
case("Cast/from f64", (1, 3), op("Cast x -> c", to=TensorProto.FLOAT), op("Neg c"), dtype=np.float64, result=np.float32)
case("Cast/to f64", (1, 3), op("Cast x -> c", to=TensorProto.DOUBLE), op("Neg c"), result=np.float64)
case("Cast/integers", (1, 3), op("Cast i -> c", to=TensorProto.FLOAT), op("Mul x c"), i=ints(1, -2, 3))
for kind in ("FLOAT16", "BFLOAT16"):
    case(f"Cast/constant to {kind} and back", (1, 3), op("Cast c -> h", to=getattr(TensorProto, kind)),
         op("Cast h -> w", to=TensorProto.FLOAT), op("Mul x w"), c=[1 / 3, 1e-6, 1000.1])
case("Cast/large integers", (1, 2), op("Cast i -> c", to=TensorProto.FLOAT), op("Sub c d -> e"), op("Mul x e"),
     i=ints(2**24 + 1, 2**26 + 3), d=[2.0**24, 2.0**26])
case("Cast/like", (1, 3), op("CastLike i x -> c"), op("Mul x c"), i=ints(1, -2, 3))
case("Cast/truth values", (1, 3), op("Cast m -> c", to=TensorProto.FLOAT), op("Mul x c"), m=np.array([True, False, True]))

# Functions, reductions and normalisations by parts ------------------------------
for alpha in (1.0, 0.5, 3.0):
    case(f"Celu/alpha {alpha}", (2, 4), op("Celu x", alpha=alpha))
for equation, w in (("bi,ij->bj", (4, 3)), ("bi,ij", (4, 3)), ("ab,b->a", (4,)), ("ij,kl->ijkl", (2, 3)), ("ba,ba->", (3, 4))):
    case(f"Einsum/{equation} with a constant", (3, 4), op("Einsum x w", equation=equation), w=w)
case("Einsum/constant first", (3, 4), op("Einsum w x", equation="ij,jk->ki"), w=(2, 3))
case("Einsum/diagonal", (3, 3), op("Einsum x", equation="ii->i"))
case("Einsum/transpose and sum", (2, 3, 4), op("Einsum x", equation="abc->ca"))
case("Einsum/attention scores", (1, 3, 2, 4), op("Mul x c -> q"), op("Einsum q x", equation="bqhd,bkhd->bhqk"), c=(4,))
case("Einsum/two activations and a constant", (2, 3), op("Tanh x -> t"), op("Einsum x w t", equation="ai,ij,aj->a"), w=(3, 3))
for mode in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
    case(f"Resize/linear, {mode}, up", (1, 2, 3, 2), op("Resize x _ _ s", mode="linear", coordinate_transformation_mode=mode), s=ints(1, 2, 7, 3))
    case(f"Resize/linear, {mode}, down", (1, 1, 5, 6), op("Resize x _ _ s", mode="linear", coordinate_transformation_mode=mode), s=ints(1, 1, 2, 4))
case("Resize/linear, scales", (1, 2, 3, 4), op("Resize x _ s", mode="linear"), s=np.array([1, 1, 2.5, 0.6], np.float32))
case("Resize/linear, opset 10", (1, 2, 3, 4), op("Resize x s", mode="linear"), s=np.array([1, 1, 2, 2], np.float32), opset=10)
case("Upsample/linear", (1, 1, 3, 4), op("Upsample x s", mode="linear"), s=np.array([1, 1, 2, 3], np.float32), opset=9)
case("conv/3-D", (2, 2, 3, 4, 3), op("Conv x w b"), w=(3, 2, 2, 3, 2), b=(3,))
case("conv/3-D with everything", (1, 4, 3, 5, 4), op("Conv x w b", group=2, strides=[1, 2, 2], pads=[1, 0, 2, 0, 1, 1], dilations=[1, 2, 1]),
     w=(4, 2, 2, 2, 3), b=(4,))
case("conv/3-D, VALID", (1, 1, 3, 3, 3), op("Conv x w", auto_pad="VALID", kernel_shape=[2, 2, 2]), w=(2, 1, 2, 2, 2))
for a in ({}, dict(largest=0), dict(axis=1), dict(axis=0, largest=0)):
    case(f"TopK/{tag(**a)}", (3, 4, 3), op("TopK x k -> y i", **a), k=ints(2))
case("TopK/all", (1, 5), op("TopK x k -> y i"), k=ints(5))
case("TopK/opset 9", (1, 5), op("TopK x -> y i", k=3), opset=9)
case("TopK/ties", (1, 4), op("TopK x k -> y i"), k=ints(3), x=[1.0, 1.0, 0.5, 1.0])
case("Celu/default", (2, 4), op("Celu x"), opset=12)
case("Mish/opset 18", (2, 4), op("Mish x"), opset=18, between=(-4, 4))
case("Mish/wide", (2, 4), op("Mish x"), opset=22, x=[-30.0, -8.0, -2.25, -1.2, 0.0, 1.5, 6.0, 40.0], radius=0.5)
case("Softsign/opset 17", (2, 4), op("Softsign x"), between=(-4, 4))
case("Softsign/opset 22", (2, 4), op("Softsign x"), opset=22, x=[-1e6, -3.0, -0.01, 0.0, 0.01, 1.0, 20.0, 1e6], radius=0.5)
for kind in ("ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"):
    positive = dict(between=(1, 3)) if kind == "ReduceLogSum" else {}
    case(f"{kind}/opset 13", (2, 3, 2), op(f"{kind} x", axes=[1]), opset=13, **positive)
    case(f"{kind}/opset 18, two axes", (2, 3, 2), op(f"{kind} x a", keepdims=0), opset=18, a=ints(-1, 0), **positive)
    case(f"{kind}/all axes", (2, 3), op(f"{kind} x"), opset=18, **positive)
case("ReduceL2/around zero", (1, 3), op("ReduceL2 x", axes=[1]), opset=13, x=[0.0, 0.0, 0.0], continuous=False)
for mode in ("DCR", "CRD"):
    case(f"DepthToSpace/{mode}", (2, 12, 2, 3), op("DepthToSpace x", blocksize=2, mode=mode))
case("DepthToSpace/opset 7", (1, 9, 2, 1), op("DepthToSpace x", blocksize=3), opset=7)
case("SpaceToDepth/two", (2, 3, 4, 6), op("SpaceToDepth x", blocksize=2))
case("Tile/axes", (1, 2, 3), op("Tile x r"), r=ints(2, 1, 3))
case("Tile/constant", (1, 4), op("Tile w r -> t"), op("Mul x t"), w=(1, 2), r=ints(1, 2))
for upper in (0, 1):
    case(f"Trilu/upper {upper}", (2, 3, 4), op("Trilu x", upper=upper))
    case(f"Trilu/upper {upper}, diagonal", (2, 3, 4), op("Trilu x k", upper=upper), k=scalar(-1))
case("DequantizeLinear/one scale", (1, 4), op("DequantizeLinear q s z -> w"), op("MatMul x w"), q=np.arange(-6, 6, dtype=np.int8).reshape(4, 3),
     s=0.03, z=np.array(2, np.int8), opset=13)
case("DequantizeLinear/no zero point", (1, 4), op("DequantizeLinear q s -> w"), op("MatMul x w"), q=np.arange(12, dtype=np.uint8).reshape(4, 3), s=0.03)
for axis, n in ((0, 4), (1, 3), (-1, 3)):
    case(f"DequantizeLinear/axis {axis}", (1, 4), op("DequantizeLinear q s z -> w", axis=axis), op("MatMul x w"),
         q=np.arange(-6, 6, dtype=np.int8).reshape(4, 3), s=[0.03, 0.5, 1.5, 0.01][:n], z=np.arange(n, dtype=np.int8))
case("DequantizeLinear/blocks", (1, 4), op("DequantizeLinear q s z -> w", axis=0, block_size=2), op("MatMul x w"), opset=21,
     q=np.arange(-6, 6, dtype=np.int8).reshape(4, 3), s=[[0.03, 0.5, 1.5], [1.0, 0.1, 0.2]], z=np.arange(6, dtype=np.int8).reshape(2, 3))
case("InstanceNormalization/2-D", (2, 3, 2, 2), op("InstanceNormalization x s b"), s=(3,), b=(3,), radius=1 / 64)
case("InstanceNormalization/1-D", (1, 2, 5), op("InstanceNormalization x s b", epsilon=0.1), s=(2,), b=(2,), radius=1 / 64)
case("GroupNormalization/opset 21", (2, 4, 3), op("GroupNormalization x s b", num_groups=2), opset=21, s=(4,), b=(4,), radius=1 / 64)
case("GroupNormalization/one group", (1, 4, 2, 2), op("GroupNormalization x s b", num_groups=1, epsilon=0.01), opset=21, s=(4,), b=(4,), radius=1 / 64)
case("LayerNormalization/last axis", (1, 3, 4), op("LayerNormalization x s b"), s=(4,), b=(4,), radius=1 / 64)
case("LayerNormalization/no bias", (1, 3, 4), op("LayerNormalization x s", epsilon=0.01), s=(4,), radius=1 / 64)
case("LayerNormalization/two axes", (2, 3, 4), op("LayerNormalization x s b", axis=1), s=(3, 4), b=(3, 4), radius=1 / 64)
case("LayerNormalization/all axes", (2, 3), op("LayerNormalization x s b", axis=0), s=(2, 3), b=(2, 3), radius=1 / 64)
case("RMSNormalization/last axis", (1, 3, 4), op("RMSNormalization x s"), opset=23, s=(4,), radius=1 / 64)

# Shape idioms ----------------------------------------------------------------
BATCH = [op("Shape x -> s"), op("Gather s zero -> b")]
ZERO, ONE, MINUS = scalar(0), ints(1), ints(-1)
case("idiom/flatten by shape, opset 9", (1, 2, 3), *BATCH, op("Unsqueeze b -> u", axes=[0]), op("Concat u minus -> t", axis=0),
     op("Reshape x t -> r"), op("MatMul r w"), opset=9, declared=["batch", 2, 3], zero=ZERO, minus=MINUS, w=(6, 2))
case("idiom/flatten by shape, opset 13", (1, 2, 3), *BATCH, op("Unsqueeze b axis -> u"), op("Concat u minus -> t", axis=0),
     op("Reshape x t -> r"), op("Gemm r w"), opset=13, declared=["batch", 2, 3], zero=ZERO, axis=ints(0), minus=MINUS, w=(6, 2))
case("idiom/part of a shape", (2, 3, 4), op("Shape x -> s", start=1, end=-1), op("Concat s minus -> t", axis=0),
     op("Reshape x t"), opset=15, minus=MINUS)
case("idiom/shape arithmetic", (1, 4, 2), op("Shape x -> s"), op("Gather s i -> n"), op("Div n two -> h"), op("Mul h h -> q"),
     op("Mod q three -> m"), op("Concat h m minus -> t", axis=0), op("Reshape x t"), i=ints(1), two=ints(2), three=ints(3), minus=MINUS)
case("idiom/size", (2, 3), op("Size x -> n"), op("Reshape n one -> t"), op("Reshape x t"), one=ONE)
case("idiom/class token by expand", (1, 3, 2), *BATCH, op("Unsqueeze b z -> u"), op("Concat u minus minus -> t", axis=0),
     op("ConstantOfShape three -> ones", value=helper.make_tensor("v", TensorProto.INT64, [1], [1])),
     op("Equal t minus -> open"), op("Where open ones t -> shape"), op("Expand token shape -> e"), op("Concat e x", axis=1),
     declared=["batch", 3, 2], zero=ZERO, z=ints(0), minus=MINUS, three=ints(3), token=(1, 1, 2))
case("idiom/constant of shape", (2, 3), op("Shape x -> s"), op("ConstantOfShape s -> c",
     value=helper.make_tensor("v", TensorProto.FLOAT, [1], [2.5])), op("Mul x c"))
case("idiom/zeros of shape", (2, 3), op("Shape x -> s"), op("ConstantOfShape s -> c"), op("Max x c"))
case("idiom/positions by range", (1, 4), op("Shape x -> s"), op("Gather s one -> n"), op("Range zero n step -> r"),
     op("Cast r -> f", to=TensorProto.FLOAT), op("Mul f c -> p"), op("Add x p"), zero=ZERO, one=scalar(1), step=scalar(1), c=0.25)
case("idiom/reversed by range", (1, 4), op("Range three end step -> r"), op("Gather x r", axis=1),
     three=scalar(3), end=scalar(-1), step=scalar(-1))
case("idiom/range of floats, inexact step", (1, 10), op("Range a b c -> r"), op("Add x r"), a=0.0, b=1.0, c=0.1)
case("idiom/range of floats", (1, 4), op("Range a b c -> r"), op("Add x r"), a=0.5, b=1.5, c=0.25)
case("idiom/size by division of floats", (1, 98), op("Shape x -> s"), op("Gather s i -> n"), op("Cast n -> f", to=TensorProto.FLOAT),
     op("Div f d -> q"), op("Floor q -> g"), op("Cast g -> k", to=TensorProto.INT64), op("Concat minus k -> t", axis=0),
     op("Reshape x t"), i=ints(1), d=[49.0], minus=MINUS)
case("idiom/size by truncated quotient of floats", (1, 98), op("Shape x -> s"), op("Gather s i -> n"),
     op("Cast n -> f", to=TensorProto.FLOAT), op("Div f d -> q"), op("Cast q -> k", to=TensorProto.INT64),
     op("Concat minus k -> t", axis=0), op("Reshape x t"), i=ints(1), d=[49.0], minus=MINUS)
case("idiom/remainders", (3, 4), op("Mod a b -> m"), op("Mod a b -> n", fmod=1), op("Abs n -> p"), op("Gather x p -> g", axis=1),
     op("Gather g m", axis=1), a=ints(-3, 5, 2), b=ints(4, 3, 4))
case("idiom/resize by scaled shape", (1, 1, 10, 3), op("Shape x -> s"), op("Slice s z two -> b"), op("Slice s two four -> n"),
     op("Cast n -> f", to=TensorProto.FLOAT), op("Mul f c -> g"), op("Floor g -> h"), op("Cast h -> k", to=TensorProto.INT64),
     op("Concat b k -> t", axis=0), op("Resize x _ _ t", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
     z=ints(0), two=ints(2), four=ints(4), c=np.array([0.7, 2], np.float32))
case("idiom/causal mask", (1, 3, 3), op("Range zero three one -> r"), op("Unsqueeze r first -> c"), op("LessOrEqual r c -> m"),
     op("Where m x low -> s"), op("Softmax s"), zero=ZERO, three=scalar(3), one=scalar(1), first=ints(1), low=-1e4)
case("idiom/constants folded through arithmetic", (1, 3), op("Sqrt v -> s"), op("Div g s -> a"), op("Mul m a -> b"), op("Sub o b -> c"),
     op("Mul x a -> t"), op("Add t c"), v=[0.5, 2.0, 3.0], g=(3,), m=(3,), o=(3,))
case("idiom/weights transposed and scaled", (1, 4), op("Transpose w -> v"), op("Mul v g -> u"), op("MatMul x u"), w=(3, 4), g=(3,))

# Networks in small -----------------------------------------------------------
for opset in range(7, 25):
    case(f"network/opset {opset}", (1, 1, 6, 6), op("Conv x w b -> h"), op("BatchNormalization h g o m v -> n"), op("Relu n -> r"),
         op("MaxPool r -> p", kernel_shape=[2, 2], strides=[2, 2]), op("Flatten p -> f"), op("Gemm f u c -> z", transB=1),
         op("Softmax z", axis=1), opset=opset, declared=["N", 1, 6, 6], w=(2, 1, 3, 3), b=(2,), g=(2,), o=(2,), m=(2,),
         v=[0.5, 2.0], u=(3, 8), c=(3,))
case("network/dense", (1, 4), op("Gemm x w b -> h", transB=1), op("Relu h -> r"), op("Gemm r v c", transB=1),
     declared=["batch", 4], w=(5, 4), b=(5,), v=(3, 5), c=(3,))
case("network/convolutional", (1, 1, 6, 6), op("Conv x w b -> h", pads=[1, 1, 1, 1]), op("Relu h -> r"),
     op("MaxPool r -> p", kernel_shape=[2, 2], strides=[2, 2]), op("Flatten p -> f"), op("Gemm f v c"),
     declared=["N", 1, 6, 6], w=(2, 1, 3, 3), b=(2,), v=(18, 3), c=(3,))
case("network/residual", (1, 2, 4, 4), op("Conv x w -> h", pads=[1, 1, 1, 1]), op("BatchNormalization h g o m v -> n"),
     op("Add n x -> a"), op("Relu a -> r"), op("GlobalAveragePool r"), w=(2, 2, 3, 3), g=(2,), o=(2,), m=(2,), v=[0.5, 2.0])
case("network/layer norm", (1, 3, 4), op("ReduceMean x -> m", axes=[-1]), op("Sub x m -> d"), op("Pow d two -> s"),
     op("ReduceMean s -> v", axes=[-1]), op("Add v e -> w"), op("Sqrt w -> q"), op("Div d q -> n"), op("Mul n g -> h"),
     op("Add h o"), two=2.0, e=1e-5, g=(4,), o=(4,))
case("network/attention", (1, 3, 4), op("MatMul x q -> a"), op("MatMul x k -> b"), op("MatMul x v -> c"),
     op("Transpose b -> t", perm=[0, 2, 1]), op("MatMul a t -> s"), op("Div s root -> u"), op("Softmax u -> p"), op("MatMul p c"),
     q=(4, 4), k=(4, 4), v=(4, 4), root=2.0, radius=1 / 64)
case("network/swish", (1, 4), op("Sigmoid x -> s"), op("Mul x s"))
case("network/mish", (1, 4), op("Softplus x -> s"), op("Tanh s -> t"), op("Mul x t"))
case("network/gelu by erf", (1, 4), op("Div x root -> d"), op("Erf d -> e"), op("Add e one -> a"), op("Mul x a -> m"), op("Mul m half"),
     root=2.0**0.5, one=1.0, half=0.5)
case("network/squeeze and excite", (1, 2, 3, 3), op("GlobalAveragePool x -> g"), op("Conv g w -> c"), op("HardSigmoid c -> h"),
     op("Mul x h"), w=(2, 2, 1, 1))
case("network/NHWC", (1, 4, 4, 2), op("Transpose x -> t", perm=[0, 3, 1, 2]), op("Conv t w b -> c"), op("Relu c -> r"),
     op("Transpose r -> u", perm=[0, 2, 3, 1]), op("Add u p -> a"), op("Reshape a s -> f"), op("MatMul f v"),
     declared=["N", 4, 4, 2], w=(3, 2, 2, 2), b=(3,), p=(3,), s=ints(-1, 27), v=(27, 2))
case("network/no batch axis", (2, 4, 4), op("Unsqueeze x a -> u"), op("Conv u w -> c"), op("Relu c -> r"), op("Squeeze r a"),
     a=ints(0), w=(3, 2, 2, 2))
case("network/vector in, vector out", (4,), op("MatMul x w -> m"), op("Add m b -> a"), op("Tanh a"), w=(4, 3), b=(3,))
case("network/one number out", (1, 4), op("MatMul x w -> m"), op("ReduceSum m", keepdims=0), w=(4, 3))
case("network/open axes", (1, 2, 4, 5), op("Conv x w -> c"), op("GlobalAveragePool c"), w=(3, 2, 2, 2),
     declared=["N", 2, "H", "W"], given_shape=True)
case("network/fixed batch", (1, 4), op("Gemm x w"), declared=[1, 4], w=(4, 3))
case("network/reused value", (1, 3), op("Relu x -> a"), op("Neg a -> b"), op("Add a b -> c"), op("Add c a -> d"), op("Mul d b"))
case("network/long list of inputs", (1, 2), op("Relu x -> a"), op("Neg x -> b"), op("Sin x -> c"), op("Concat a b c x a", axis=1))
for store in ("nodes", "inputs"):
    case(f"weights/{store}", (1, 2, 4, 4), op("Conv x w b -> c"), op("Reshape c s -> r"), op("Gemm r v"), store=store,
         w=(2, 2, 3, 3), b=(2,), s=ints(1, -1), v=(8, 2))
case("weights/f64", (1, 4), op("Gemm x w b -> g"), op("Relu g"), dtype=np.float64, w=(4, 3), b=(3,))
case("weights/f64 in a convolution", (1, 2, 4, 4), op("Cast d -> w", to=TensorProto.FLOAT), op("Conv x w b"), d=np.linspace(-1, 1, 36).reshape(2, 2, 3, 3), b=(2,))
case("weights/f16, cast", (1, 4), op("Cast h -> w", to=TensorProto.FLOAT), op("MatMul x w"), h=np.linspace(-1, 1, 12).reshape(4, 3).astype(np.float16))
case("weights/f16 throughout", (1, 4), op("MatMul x w -> m"), op("Add m b"), dtype=np.float16, w=(4, 3), b=(3,), tolerance=2e-3)
case("weights/f64 cast to f32", (1, 3), op("Cast d -> c", to=TensorProto.FLOAT), op("Mul x c"), d=np.array([1 / 3, 1e5 + 1 / 3, 1e-3]))

# Recurrent -------------------------------------------------------------------
SEQUENCE = (4, 1, 3)  # steps, batch, entries
for direction, n in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
    for kind, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        case(f"recurrent/{kind} {direction}", SEQUENCE, op(f"{kind} x w r", direction=direction, hidden_size=2),
             w=(n, 2 * gates, 3), r=(n, 2 * gates, 2))
        case(f"recurrent/{kind} {direction}, last state", SEQUENCE, op(f"{kind} x w r b -> _ y", direction=direction, hidden_size=2),
             w=(n, 2 * gates, 3), r=(n, 2 * gates, 2), b=(n, 4 * gates))
for kind, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
    case(f"recurrent/{kind} from a state", SEQUENCE, op(f"{kind} x w r b _ h", hidden_size=2), w=(1, 2 * gates, 3), r=(1, 2 * gates, 2),
         b=(1, 4 * gates), h=(1, 1, 2))
    case(f"recurrent/{kind} of a batch", (3, 2, 3), op(f"{kind} x w r b", hidden_size=2), w=(1, 2 * gates, 3), r=(1, 2 * gates, 2), b=(1, 4 * gates))
    case(f"recurrent/{kind} clipped", SEQUENCE, op(f"{kind} x w r b", hidden_size=2, clip=0.5), w=(1, 2 * gates, 3), r=(1, 2 * gates, 2), b=(1, 4 * gates))
    case(f"recurrent/{kind} with lengths", SEQUENCE, op(f"{kind} x w r b n", hidden_size=2), w=(1, 2 * gates, 3), r=(1, 2 * gates, 2), b=(1, 4 * gates),
         n=np.array([4], np.int32))
    case(f"recurrent/{kind} of one step", (1, 1, 3), op(f"{kind} x w r", hidden_size=2), w=(1, 2 * gates, 3), r=(1, 2 * gates, 2))
    for opset in (7, 14, 22):
        case(f"recurrent/{kind} opset {opset}", SEQUENCE, op(f"{kind} x w r", hidden_size=2), w=(1, 2 * gates, 3), r=(1, 2 * gates, 2), opset=opset)
case("recurrent/GRU reset after the product", SEQUENCE, op("GRU x w r b", hidden_size=2, linear_before_reset=1), w=(1, 6, 3), r=(1, 6, 2), b=(1, 12))
case("recurrent/GRU reset after the product, from a state", SEQUENCE, op("GRU x w r b _ h", hidden_size=2, linear_before_reset=1),
     w=(1, 6, 3), r=(1, 6, 2), b=(1, 12), h=(1, 1, 2))
case("recurrent/LSTM with peepholes", SEQUENCE, op("LSTM x w r b _ h c p", hidden_size=2), w=(1, 8, 3), r=(1, 8, 2), b=(1, 16), h=(1, 1, 2), c=(1, 1, 2), p=(1, 6))
case("recurrent/LSTM whose input forgets", SEQUENCE, op("LSTM x w r b", hidden_size=2, input_forget=1), w=(1, 8, 3), r=(1, 8, 2), b=(1, 16))
case("recurrent/LSTM last cell", SEQUENCE, op("LSTM x w r b -> _ _ y", hidden_size=2), w=(1, 8, 3), r=(1, 8, 2), b=(1, 16))
case("recurrent/RNN relu", SEQUENCE, op("RNN x w r b", hidden_size=2, activations=["Relu"]), w=(1, 2, 3), r=(1, 2, 2), b=(1, 4))
case("recurrent/RNN both ways, other functions", SEQUENCE, op("RNN x w r b", hidden_size=2, direction="bidirectional", activations=["HardSigmoid", "Affine"],
     activation_alpha=[0.3, 0.5], activation_beta=[0.4, 0.1]), w=(2, 2, 3), r=(2, 2, 2), b=(2, 4))
case("recurrent/LSTM other functions", SEQUENCE, op("LSTM x w r b", hidden_size=2, activations=["HardSigmoid", "Softsign", "Relu"], activation_alpha=[0.25],
     activation_beta=[0.5]), w=(1, 8, 3), r=(1, 8, 2), b=(1, 16))
case("recurrent/state of the input", (1, 1, 2), op("RNN s w r _ _ x", hidden_size=2), s=(3, 1, 3), w=(1, 2, 3), r=(1, 2, 2))

# Quantised -------------------------------------------------------------------
U8, I8 = (lambda *v: np.array(v, np.uint8)), (lambda *v: np.array(v, np.int8))
for name, zero in (("u8", np.uint8(128)), ("i8", np.int8(3)), ("u16", np.uint16(30000)), ("i16", np.int16(-7))):
    case(f"quantised/{name} and back", (1, 5), op("QuantizeLinear x s z -> q"), op("DequantizeLinear q s z"), s=0.05, z=np.array(zero),
         continuous=False, opset=21)
case("quantised/saturated", (1, 4), op("QuantizeLinear x s z -> q"), op("DequantizeLinear q s z"), s=0.01, z=np.array(np.int8(0)), continuous=False)
case("quantised/without zero point", (1, 4), op("QuantizeLinear x s -> q"), op("DequantizeLinear q s"), s=0.1, continuous=False)
case("quantised/along an axis", (1, 3, 2), op("QuantizeLinear x s z -> q", axis=1), op("DequantizeLinear q s z", axis=1), s=[0.1, 0.3, 0.07], z=I8(0, 5, -3),
     continuous=False)
case("quantised/ties", (1, 5), op("QuantizeLinear x s z -> q"), op("DequantizeLinear q s z"), s=0.5, z=np.array(np.int8(0)), x=[0.25, 0.75, -0.25, -0.75, 1.25],
     continuous=False)
case("quantised/weights that are floats", (1, 4), op("QuantizeLinear w s z -> q"), op("DequantizeLinear q s z -> v"), op("MatMul x v"), w=(4, 3), s=0.07,
     z=np.array(np.int8(0)))
case("quantised/layer between quantisations", (1, 4), op("QuantizeLinear x s z -> q"), op("DequantizeLinear q s z -> d"), op("DequantizeLinear w t u -> v", axis=1),
     op("MatMul d v -> m"), op("Add m b -> a"), op("Relu a -> r"), op("QuantizeLinear r k z -> p"), op("DequantizeLinear p k z"), s=0.02, z=np.array(np.uint8(100)),
     w=np.arange(-6, 6, dtype=np.int8).reshape(4, 3), t=[0.1, 0.05, 0.2], u=I8(0, 0, 0), b=(3,), k=0.05, continuous=False)
INTEGERS = dict(s=0.05, z=np.array(np.uint8(120)), w=np.arange(-6, 6, dtype=np.int8).reshape(4, 3), u=np.array(np.int8(1)), continuous=False)
case("quantised/QLinearMatMul", (2, 4), op("QuantizeLinear x s z -> q"), op("QLinearMatMul q s z w t u k o -> p"), op("DequantizeLinear p k o"), t=0.1, k=0.2,
     o=np.array(np.uint8(99)), **INTEGERS)
case("quantised/MatMulInteger", (2, 4), op("QuantizeLinear x s z -> q"), op("MatMulInteger q w z u -> m"), op("Cast m -> f", to=TensorProto.FLOAT), op("Mul f g"), g=0.01,
     **INTEGERS)
KERNELS = dict(s=0.05, z=np.array(np.uint8(120)), w=(np.arange(36) % 11 - 5).astype(np.int8).reshape(2, 2, 3, 3), continuous=False)
case("quantised/QLinearConv", (1, 2, 5, 5), op("QuantizeLinear x s z -> q"), op("QLinearConv q s z w t u k o b -> p", pads=[1, 1, 1, 1], strides=[2, 2]),
     op("DequantizeLinear p k o"), t=[0.1, 0.07], u=I8(0, 0), k=0.2, o=np.array(np.uint8(99)), b=np.array([30, -40], np.int32), **KERNELS)
case("quantised/ConvInteger", (1, 2, 4, 4), op("QuantizeLinear x s z -> q"), op("ConvInteger q w z -> m"), op("Cast m", to=TensorProto.FLOAT), **KERNELS)

MS = dict(domain="com.microsoft")
GEMM = dict(s=0.05, z=np.array(np.uint8(120)), u=np.array(np.int8(1)), t=0.1, b=np.array([30, -40, 5], np.int32), continuous=False)
case("quantised/QGemm", (2, 4), op("QuantizeLinear x s z -> q"), op("QGemm q s z w t u b k o -> p", transB=1, alpha=0.5, **MS), op("DequantizeLinear p k o"),
     w=np.arange(-6, 6, dtype=np.int8).reshape(3, 4), k=0.137, o=np.array(np.uint8(99)), **GEMM)
case("quantised/QGemm to floats", (2, 4), op("QuantizeLinear x s z -> q"), op("QGemm q s z w t u b", **MS), w=np.arange(-6, 6, dtype=np.int8).reshape(4, 3), **GEMM)
SUMS = dict(s=0.05, z=np.array(np.uint8(120)), k=0.1, o=np.array(np.uint8(99)), continuous=False)
for kind in ("QLinearAdd", "QLinearMul"):
    case(f"quantised/{kind}", (1, 4), op("QuantizeLinear x s z -> q"), op("Neg x -> n"), op("QuantizeLinear n s z -> m"), op(f"{kind} q s z m s z k o -> p", **MS),
         op("DequantizeLinear p k o"), **SUMS)

# Choices ---------------------------------------------------------------------
for kind in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
    case(f"choice/{kind}, leaky", (1, 6), op(f"{kind} x c -> m"), op("Mul x a -> l"), op("Where m x l"), c=0.0, a=0.1, continuous=False)
    case(f"choice/{kind} as a number", (1, 6), op(f"{kind} c x -> m"), op("Cast m", to=TensorProto.FLOAT), c=0.25, continuous=False)
case("choice/elu by parts", (1, 6), op("Greater x z -> m"), op("Exp x -> e"), op("Sub e o -> s"), op("Where m x s"), z=0.0, o=1.0, continuous=False)
case("choice/constants", (1, 6), op("Less x t -> m"), op("Where m a b"), t=[0.1, 0.2, 0.3, 0.0, -1.0, 1.0], a=(6,), b=0.5, continuous=False)
case("choice/negated", (1, 6), op("Greater x z -> m"), op("Not m -> n"), op("Neg x -> g"), op("Where n g x"), z=0.0, continuous=False)
case("choice/of two activations", (1, 4), op("Neg x -> n"), op("Add n s -> b"), op("Greater x b -> m"), op("Where m x b"), s=(4,), continuous=False)
case("choice/of what is not compared", (1, 4), op("Greater x z -> m"), op("MatMul x w -> v"), op("Where m v x"), z=0.1, w=(4, 4), continuous=False)
case("choice/between, by and", (1, 6), op("Greater x a -> g"), op("Less x b -> l"), op("And g l -> m"), op("Where m x z"), a=-0.5, b=0.5, z=0.0, continuous=False)
case("choice/outside, by or", (1, 6), op("Less x a -> g"), op("Greater x b -> l"), op("Or g l -> m"), op("Where m x z"), a=-0.5, b=0.5, z=0.0, continuous=False)
case("choice/equal", (1, 4), op("Equal x c -> m"), op("Where m a x"), x=[0.5, 0.25, -1.0, 0.0], c=[0.5, 0.0, -1.0, 1.0], a=9.0, continuous=False)
case("choice/not zero", (1, 4), op("Cast x -> m", to=TensorProto.BOOL), op("Not m -> n"), op("Cast n", to=TensorProto.FLOAT), x=[0.5, 0.0, -1.0, 0.0],
     continuous=False)
case("choice/sum that may be zero", (1, 4), op("Abs x -> p"), op("ReduceSum p -> s", keepdims=1), op("Cast s -> m", to=TensorProto.BOOL), op("Not m -> n"),
     op("Cast n -> z", to=TensorProto.FLOAT), op("Add s z -> t"), op("Div p t"))
for kind in ("Floor", "Ceil", "Round"):
    case(f"rounding/{kind}", (1, 6), op(f"{kind} x"), continuous=False)
    case(f"rounding/{kind} at steps", (1, 5), op(f"{kind} x"), x=[0.5, 1.0, -0.5, -1.0, 2.5], continuous=False, radius=0.5)
case("rounding/cast to integers and back", (1, 6), op("Mul x f -> s"), op("Cast s -> i", to=TensorProto.INT64), op("Cast i", to=TensorProto.FLOAT), f=4.0, continuous=False)
case("rounding/fraction", (1, 4), op("Floor x -> f"), op("Sub x f"), continuous=False)

# scikit-learn ----------------------------------------------------------------
ML = dict(domain="ai.onnx.ml")
case("learn/Scaler", (1, 3), op("Scaler x", offset=[0.5, -0.25, 1.0], scale=[2.0, 0.5, -1.5], **ML))
case("learn/Scaler of one number", (1, 3), op("Scaler x", offset=[0.5], scale=[2.0], **ML))
for norm in ("L1", "L2"):
    case(f"learn/Normalizer {norm}", (1, 3), op("Normalizer x", norm=norm, **ML), x=[0.5, -1.0, 2.0])
LINEAR = dict(coefficients=[0.5, -1.0, 0.25, 1.5, 0.75, -0.5, -0.25, 0.1, 1.0], intercepts=[0.1, -0.2, 0.3], classlabels_ints=[0, 1, 2])
for transform in ("NONE", "LOGISTIC", "SOFTMAX"):
    case(f"learn/LinearClassifier {transform}", (1, 3), op("LinearClassifier x -> l y", post_transform=transform, **LINEAR, **ML))
case("learn/LinearRegressor", (1, 3), op("LinearRegressor x", coefficients=[0.5, -1.0, 0.25, 1.5, 0.75, -0.5], intercepts=[0.1, -0.2], targets=2, **ML))

# Positions -------------------------------------------------------------------
case("positions/GatherND", (2, 3, 2), op("GatherND x i"), i=np.array([[0, 1], [1, -1]], np.int64))
case("positions/GatherND, whole places", (2, 3), op("GatherND x i"), i=np.array([[0, 2], [1, 0], [0, 2]], np.int64))
case("positions/GatherND of a batch", (2, 3, 2), op("GatherND x i", batch_dims=1), i=np.array([[[1]], [[-1]]], np.int64))
case("positions/GatherElements", (2, 3), op("GatherElements x i", axis=1), i=np.array([[0, 2, -1], [1, 1, 0]], np.int64))
case("positions/GatherElements, first axis", (3, 2), op("GatherElements x i"), i=np.array([[2, 0]], np.int64))
case("positions/ScatterND", (3, 2), op("ScatterND x i u"), i=np.array([[1], [-1]], np.int64), u=(2, 2))
case("positions/ScatterND into constants", (2, 2), op("ScatterND c i x"), i=np.array([[0], [2]], np.int64), c=(3, 2))
case("positions/ScatterND twice at one place", (3,), op("ScatterND x i u"), i=np.array([[1], [1]], np.int64), u=[2.0, 3.0])
case("positions/ScatterElements", (2, 3), op("ScatterElements x i u", axis=1), i=np.array([[1], [0]], np.int64), u=(2, 1), opset=18)
for attributes in ({}, dict(exclusive=1), dict(reverse=1), dict(exclusive=1, reverse=1)):
    case(f"CumSum/{tag(**attributes) or 'plain'}", (2, 4), op("CumSum x a", **attributes), a=scalar(1))
case("CumSum/first axis", (3, 2), op("CumSum x a"), a=scalar(0))

# Further normalisations ------------------------------------------------------
for p in (1, 2):
    case(f"LpNormalization/p={p}", (2, 3), op("LpNormalization x", p=p, axis=1), x=[0.5, -1.0, 2.0, 1.0, 0.75, -0.5])
case("LpNormalization/first axis", (2, 3), op("LpNormalization x", axis=0), x=[0.5, -1.0, 2.0, 1.0, 0.75, -0.5])
case("MeanVarianceNormalization/usual axes", (1, 2, 3, 3), op("MeanVarianceNormalization x"), radius=1 / 64)
case("MeanVarianceNormalization/one axis", (2, 5), op("MeanVarianceNormalization x", axes=[1]), radius=1 / 64)
case("LRN/size 3", (1, 5, 2, 2), op("LRN x", size=3, alpha=0.3, beta=0.6, bias=1.5))
case("LRN/defaults", (1, 4, 3, 1), op("LRN x", size=5))
case("Mean/of three", (1, 3), op("Neg x -> n"), op("Mean x n c"), c=(3,))

# Attention -------------------------------------------------------------------
def attention(name, q, k, v, *operands, **rest):
    """Queries, keys and values that are the input through constants."""
    case(f"Attention/{name}", (1, 3, 4), op("MatMul x wq -> q"), op("MatMul x wk -> k"), op("MatMul x wv -> v"),
         *operands, wq=(4, q), wk=(4, k), wv=(4, v), opset=23, radius=1 / 64, **rest)


for a in ({}, dict(scale=0.3), dict(is_causal=1), dict(softcap=0.75), dict(softcap=2.0, is_causal=1)):
    attention(tag(**a) or "plain", 6, 6, 6, op("Attention q k v", q_num_heads=2, kv_num_heads=2, **a))
attention("one head", 6, 6, 2, op("Attention q k v", q_num_heads=1, kv_num_heads=1))
attention("groups of heads", 12, 6, 4, op("Attention q k v", q_num_heads=4, kv_num_heads=2))
attention("one head for many", 12, 3, 3, op("Attention q k v", q_num_heads=4, kv_num_heads=1))
attention("heads apart", 6, 6, 4, *[op(f"Reshape {n} s -> {n}r") for n in "qkv"], *[op(f"Transpose {n}r -> {n}t", perm=[0, 2, 1, 3]) for n in "qkv"],
          op("Attention qt kt vt"), s=ints(1, 3, 2, -1))
SEEN = np.array([[True, False, True], [True, True, True], [False, False, True]])
attention("mask of truths", 6, 6, 6, op("Attention q k v m", q_num_heads=2, kv_num_heads=2), m=SEEN)
attention("mask of truths, causal", 6, 6, 6, op("Attention q k v m", q_num_heads=2, kv_num_heads=2, is_causal=1), m=SEEN | (np.eye(3) > 0))
attention("mask of numbers", 6, 6, 6, op("Attention q k v m", q_num_heads=2, kv_num_heads=2), m=(1, 2, 3, 3))
attention("mask of numbers, some infinite", 6, 6, 6, op("Attention q k v m", q_num_heads=2, kv_num_heads=2, softcap=1.5),
          m=np.where(SEEN, 0.5, -np.inf).astype(np.float32))
attention("mask that depends on the input", 6, 6, 6, op("Transpose x -> t", perm=[0, 2, 1]), op("MatMul x t -> m"),
          op("Attention q k v m", q_num_heads=2, kv_num_heads=2))
case("Attention/of other keys", (1, 2, 6), op("Attention x k v", q_num_heads=2, kv_num_heads=1), k=(1, 5, 3), v=(1, 5, 4), opset=23)

# Of onnxruntime, as its optimizer of transformers writes -----------------------
case("MultiHeadAttention/plain", (1, 3, 4), op("MatMul x w -> q"), op("MultiHeadAttention q x x", num_heads=2, **MS), w=(4, 4), radius=1 / 64)
case("MultiHeadAttention/bias, causal, scale", (1, 3, 4), op("MultiHeadAttention x x x b", num_heads=2, unidirectional=1, scale=0.4, **MS), b=(12,), radius=1 / 64)
case("MultiHeadAttention/added", (1, 3, 4), op("MultiHeadAttention x x x _ _ m", num_heads=2, **MS), m=(1, 2, 3, 3), radius=1 / 64)
case("MultiHeadAttention/hidden", (1, 3, 4), op("MultiHeadAttention x x x _ m", num_heads=2, **MS), m=np.array([[1, 1, 0]], np.int32), radius=1 / 64)
case("Attention of onnxruntime/plain", (1, 3, 4), op("Attention x w b", num_heads=2, **MS), w=(4, 12), b=(12,), radius=1 / 64)
case("Attention of onnxruntime/causal", (1, 3, 4), op("Attention x w b", num_heads=2, unidirectional=1, **MS), w=(4, 12), b=(12,), radius=1 / 64)
case("Attention of onnxruntime/marks", (1, 3, 4), op("Attention x w b m", num_heads=2, **MS), w=(4, 12), b=(12,), m=np.array([[1, 0, 1]], np.int32), radius=1 / 64)
case("Attention of onnxruntime/length", (1, 3, 4), op("Attention x w b m", num_heads=2, **MS), w=(4, 12), b=(12,), m=np.array([2], np.int32), radius=1 / 64)
case("SkipLayerNormalization/plain", (1, 2, 4), op("MatMul x w -> h"), op("SkipLayerNormalization x h g c", **MS), w=(4, 4), g=(4,), c=(4,), radius=1 / 64)
case("SkipLayerNormalization/bias, and its sum", (1, 2, 4), op("MatMul x w -> h"), op("SkipLayerNormalization x h g c b -> l _ _ s", epsilon=0.01, **MS),
     op("Add l s"), w=(4, 4), g=(4,), c=(4,), b=(4,), radius=1 / 64)
case("SkipSimplifiedLayerNormalization/plain", (1, 2, 4), op("MatMul x w -> h"), op("SkipSimplifiedLayerNormalization x h g", epsilon=1e-5, **MS),
     w=(4, 4), g=(4,), radius=1 / 64)
for kind in ("BiasGelu", "FastGelu"):
    case(f"{kind}/", (2, 3), op(f"{kind} x b", **MS), b=(3,))
for kind in ("Gelu", "FastGelu", "QuickGelu"):
    case(f"{kind} of onnxruntime/", (2, 3), op(f"{kind} x", **MS))
case("QuickGelu/alpha", (2, 3), op("QuickGelu x", alpha=0.5, **MS))
for a in ({}, dict(transA=1, transB=1, alpha=0.5), dict(transB=1, alpha=-2.0)):
    case(f"FusedMatMul/{tag(**a) or 'plain'}", (2, 3, 3), op("MatMul x w -> h"), op("FusedMatMul x h", **a, **MS), w=(3, 3))

# Trigonometric functions and thresholds ----------------------------------------
for kind, between, first in (("Tan", (-1.4, 1.4), 7), ("Asin", (-0.9, 0.9), 7), ("Acos", (-0.9, 0.9), 7), ("Atan", (-4, 4), 7), ("Sinh", (-3, 3), 9),
                             ("Cosh", (-3, 3), 9), ("Asinh", (-9, 9), 9), ("Acosh", (1.25, 9), 9), ("Atanh", (-0.9, 0.9), 9)):
    for opset in (first, 22):
        case(f"{kind}/opset {opset}", (2, 3), op(f"{kind} x"), between=between, opset=opset)
for a in ({}, dict(alpha=0.25), dict(alpha=-0.5), dict(alpha=0.0)):
    case(f"ThresholdedRelu/{tag(**a) or 'default'}", (2, 4), op("ThresholdedRelu x", **a), continuous=False)
case("ThresholdedRelu/at the threshold", (1, 3), op("ThresholdedRelu x", alpha=0.5), x=[0.5, 0.4375, 0.5625], continuous=False)
for a in ({}, dict(bias=0.5), dict(lambd=1.0, bias=0.3), dict(lambd=0.25, bias=-0.5), dict(lambd=-0.5, bias=0.25)):
    case(f"Shrink/{tag(**a) or 'default'}", (2, 4), op("Shrink x", **a), continuous=False)
case("Shrink/at the thresholds", (1, 4), op("Shrink x", lambd=0.5, bias=0.25), x=[0.5, -0.5, 0.53125, -0.53125], continuous=False)

# Norms over windows --------------------------------------------------------------
for p in (1, 2):
    case(f"LpPool/p={p}", (1, 2, 5, 6), op("LpPool x", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1], p=p), opset=18, continuous=False)
    case(f"GlobalLpPool/p={p}", (1, 2, 3, 4), op("GlobalLpPool x", p=p))
case("LpPool/opset 11", (1, 2, 6), op("LpPool x", kernel_shape=[2]), opset=11)
case("LpPool/dilated", (1, 2, 6), op("LpPool x", kernel_shape=[2], dilations=[2]), opset=18)
case("LpPool/SAME_UPPER", (1, 2, 5), op("LpPool x", kernel_shape=[3], strides=[2], auto_pad="SAME_UPPER"), opset=22)

# Branches that are known ------------------------------------------------------------
def branch(*nodes, **tensors):
    """A graph that gives `r`, and reads names around it."""
    made = [helper.make_node(kind, reads.split(), writes.split(), **rest) for kind, reads, writes, rest in nodes]
    result = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    return helper.make_graph(made, "branch", [], [result], [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in tensors.items()])


TRUE = np.array(True)
case("If/then", (1, 3), op("If c", then_branch=branch(op("Mul x k -> m"), op("Add m k -> r"), k=[2.0]), else_branch=branch(op("Neg x -> r"))), c=TRUE)
case("If/else", (1, 3), op("If c", then_branch=branch(op("Mul x k -> r"), k=[2.0]), else_branch=branch(op("Relu x -> m"), op("Mul m w -> r"))), c=~TRUE, w=(3,))
case("If/by the shape", (1, 3), op("Shape x -> s"), op("Size s -> n"), op("Equal n two -> c"),
     op("If c", then_branch=branch(op("MatMul x w -> r")), else_branch=branch(op("Identity x -> r"))), two=scalar(2), w=(3, 2))
case("If/twice, of equal names", (1, 3), op("If c -> t", then_branch=branch(op("Mul x k -> r"), k=[2.0]), else_branch=branch(op("Neg x -> r"))),
     op("If d", then_branch=branch(op("Neg t -> r")), else_branch=branch(op("Add t k -> r"), k=[-1.0])), c=TRUE, d=~TRUE)
case("If/inside another", (1, 3), op("If c", then_branch=branch(op("If d -> m", then_branch=branch(op("Neg x -> r")), else_branch=branch(op("Mul x w -> r"))),
     op("Exp m -> r")), else_branch=branch(op("Neg x -> r"))), c=TRUE, d=~TRUE, w=(3,))

# Rarer movements -----------------------------------------------------------------
case("EyeLike/", (3, 4), op("EyeLike x -> e"), op("Mul x e"))
case("EyeLike/shifted", (3, 4), op("EyeLike x -> e", k=-1, dtype=TensorProto.FLOAT), op("Add x e"))
case("ReverseSequence/", (3, 2, 2), op("ReverseSequence x n"), n=ints(2, 3))
case("ReverseSequence/other axes", (2, 4), op("ReverseSequence x n", batch_axis=0, time_axis=1), n=ints(4, 1))
case("Scatter/", (2, 3), op("Scatter x i u", axis=1), i=np.array([[1], [0]], np.int64), u=(2, 1), opset=10)
case("choice/either, by xor", (1, 6), op("Less x a -> g"), op("Less x b -> l"), op("Xor g l -> m"), op("Where m x z"), a=-0.5, b=0.5, z=0.0, continuous=False)

QUANTISED = dict(s=0.03, z=np.array(120, np.uint8), k=0.0213, o=np.array(100, np.uint8), continuous=False)

# Scores under a mask of infinities ---------------------------------------------------
MASKED = np.where(np.tri(3) > 0, 0, -np.inf).astype(np.float32)
case("Softmax/behind infinities", (1, 2, 3, 3), op("Add x m -> t"), op("Softmax t"), m=MASKED)
case("Softmax/behind infinities by a choice", (2, 3, 3), op("Where c x m -> t"), op("Softmax t"), c=MASKED == 0, m=-INF)
case("Softmax/behind infinities, other axis", (2, 3, 3), op("Add x m -> t"), op("Softmax t", axis=1), m=MASKED.T.copy())
case("LayerNormalization/near no variance", (2, 4), op("LayerNormalization x s b"), s=(4,), b=(4,), x=[0.5, 0.5, 0.5, 0.5, 1.0, -1.0, 0.0, 0.25])

# Quantised, of onnxruntime -------------------------------------------------------------
for kind, a in (("QLinearSigmoid", {}), ("QLinearLeakyRelu", dict(alpha=0.25))):
    case(f"quantised/{kind}", (1, 8), op("QuantizeLinear x s z -> q"), op(f"{kind} q s z k o -> p", **a, **MS), op("DequantizeLinear p k o"), **QUANTISED)
case("quantised/QLinearAveragePool", (1, 2, 4, 4), op("QuantizeLinear x s z -> q"), op("QLinearAveragePool q s z k o -> p", kernel_shape=[2, 2], strides=[2, 2], **MS),
     op("DequantizeLinear p k o"), **QUANTISED)
case("quantised/QLinearGlobalAveragePool", (1, 2, 4, 4), op("QuantizeLinear x s z -> q"), op("QLinearGlobalAveragePool q s z k o -> p", **MS),
     op("DequantizeLinear p k o"), **QUANTISED)
case("quantised/QLinearConcat", (1, 4), op("QuantizeLinear x s z -> q"), op("QuantizeLinear x k z -> r"), op("QLinearConcat k o q s z r k z -> p", axis=1, **MS),
     op("DequantizeLinear p k o"), **QUANTISED)
