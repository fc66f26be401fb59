"""Tightrope beside PyTorch, onnxruntime and auto_LiRPA on the shipped networks.

Run by `cargo xtask bench --peers`, which sets up what is imported here. Every
case is computed by our command line program, which says how many seconds the
work itself took, and by the peers inside this process; neither time includes
loading. Each peer first tries batch sizes and thread counts on the work itself
and keeps its fastest; then ours and the peers take turns. The table of medians
is written to benches/RESULTS.md.
"""

import argparse
import gzip
import json
import os
import pathlib
import platform
import select
import statistics
import subprocess
import sys
import time
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch.nn import functional as F

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
THREADS = os.cpu_count() or 1


# Networks and images


class Network(torch.nn.Module):
    """A shipped network as PyTorch modules in the order of its nodes."""

    def __init__(self, name):
        super().__init__()
        graph = onnx.load(MODELS / f"{name}.onnx").graph
        self.steps, self.layers = [], torch.nn.ModuleList()
        weights = {i.name: torch.tensor(numpy_helper.to_array(i).copy()) for i in graph.initializer}
        for node in graph.node:
            values = [weights[i] for i in node.input if i in weights]
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            layer = self.layer(node.op_type, attributes, values)
            self.layers.append(layer)
            self.steps.append((layer, [i for i in node.input if i not in weights], node.output[0]))
        self.input, self.output = graph.input[0].name, graph.output[0].name
        self.eval().requires_grad_(False)

    @staticmethod
    def layer(kind, attributes, values):
        if kind == "Conv":
            outputs, inputs, size, _ = values[0].shape
            stride, padding = attributes["strides"][0], attributes["pads"][0]
            layer = torch.nn.Conv2d(inputs, outputs, size, stride, padding, bias=len(values) > 1)
            names = ["weight", "bias"]
        elif kind == "Gemm":
            layer, names = torch.nn.Linear(*reversed(values[0].shape)), ["weight", "bias"]
        elif kind == "BatchNormalization":
            layer = torch.nn.BatchNorm2d(len(values[0]), eps=attributes["epsilon"])
            names = ["weight", "bias", "running_mean", "running_var"]
        else:
            modules = {
                "Relu": torch.nn.ReLU,
                "Flatten": torch.nn.Flatten,
                "GlobalAveragePool": lambda: torch.nn.AdaptiveAvgPool2d(1),
                "Add": lambda: Function(torch.add),
                "Sub": lambda: Function(torch.sub, values),
                "Div": lambda: Function(torch.div, values),
            }
            return modules[kind]()
        layer.load_state_dict(dict(zip(names, values, strict=False)), strict=False)
        return layer

    def forward(self, x):
        values = {self.input: x}
        for layer, inputs, output in self.steps:
            values[output] = layer(*(values[i] for i in inputs))
        return values[self.output]


class Function(torch.nn.Module):
    def __init__(self, function, constants=()):
        super().__init__()
        self.function = function
        for i, constant in enumerate(constants):
            self.register_buffer(f"constant{i}", constant)

    def forward(self, *x):
        return self.function(*x, *self.buffers())


def mnist(count):
    def read(name, header):
        return np.frombuffer(gzip.open(MODELS / "data" / name).read()[header:], np.uint8)

    images = read("mnist-test-1000-images.idx.gz", 16).reshape(-1, 1, 28, 28)[:count]
    labels = read("mnist-test-1000-labels.idx.gz", 8)[:count]
    return torch.tensor(images / 255.0, dtype=torch.float32), torch.tensor(labels.astype(np.int64))


def cifar(count):
    rows = np.frombuffer(gzip.open(MODELS / "data" / "cifar10-test-500.bin.gz").read(), np.uint8)
    rows = rows.reshape(-1, 3073)[:count]
    images = rows[:, 1:].reshape(-1, 3, 32, 32)
    return torch.tensor(images / 255.0, dtype=torch.float32), torch.tensor(rows[:, 0].astype(np.int64))


# What the peers compute


def smoothing(evaluate, x, samples, batch, sigma):
    """The counts of Cohen et al. (2019): noise, network, argmax, for every image."""
    counts = []
    for image in x:
        count = torch.zeros(10, dtype=torch.int64)
        for first in range(0, samples, batch):
            size = min(batch, samples - first)
            noisy = torch.randn(size, *image.shape).mul_(sigma).add_(image)
            count += torch.bincount(evaluate(noisy).argmax(1), minlength=10)
        counts.append(count)
    return torch.stack(counts)


def absolute_layers(network):
    """Layers with a function that applies their absolute weights, without bias."""
    for layer, _, _ in network.steps:
        if isinstance(layer, torch.nn.Conv2d):
            weight = layer.weight.abs()
            yield layer, lambda r, w=weight, c=layer: F.conv2d(r, w, None, c.stride, c.padding)
        elif isinstance(layer, torch.nn.Linear):
            weight = layer.weight.abs()
            yield layer, lambda r, w=weight: F.linear(r, w)
        else:
            yield layer, None


def margins(network, labels):
    """The last layer merged with the margins: weight (n x 9 x inputs) and bias (n x 9)."""
    last = network.layers[-1]
    others = torch.stack([torch.tensor([c for c in range(10) if c != label]) for label in labels])
    return last.weight[labels, None] - last.weight[others], last.bias[labels, None] - last.bias[others]


def interval_margins(network, layers, x, labels, eps):
    """IBP by centre and radius, the last layer merged with the margins."""
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    for layer, absolute in layers[:-1]:
        if absolute:
            centre, radius = layer((low + high) / 2), absolute((high - low) / 2)
            low, high = centre - radius, centre + radius
        else:
            low, high = layer(low), layer(high)
    weight, bias = margins(network, labels)
    centre, radius = ((low + high) / 2).unsqueeze(2), ((high - low) / 2).unsqueeze(2)
    return (weight @ centre - weight.abs() @ radius).squeeze(2) + bias


def local_tightness(network, layers, x, labels, eps):
    """Mean over margins of the optimal radius over the layer-wise radius, of
    the linear network that the activations at x select (Mao et al. 2024)."""
    radii = radius = ((x + eps).clamp(0, 1) - (x - eps).clamp(0, 1)) / 2
    value, backward = x, []
    for layer, absolute in layers[:-1]:
        if isinstance(layer, torch.nn.ReLU):
            mask = (value > 0).to(value)
            radius = radius * mask
            backward.append(lambda rows, mask=mask: rows * mask.unsqueeze(1))
        elif absolute:
            radius = absolute(radius)
            backward.append(adjoint(layer, value.shape))
        else:
            radius = layer(radius)
            backward.append(lambda rows, shape=value.shape: rows.reshape(*rows.shape[:2], *shape[1:]))
        value = layer(value)
    rows, _ = margins(network, labels)
    layerwise = (rows.abs() @ radius.unsqueeze(2)).squeeze(2)
    for back in reversed(backward):
        rows = back(rows)
    optimal = (rows.abs() * radii.unsqueeze(1)).flatten(2).sum(2)
    return (optimal / layerwise).mean(1)


def adjoint(layer, shape):
    if isinstance(layer, torch.nn.Linear):
        return lambda rows: rows @ layer.weight

    def convolution(rows):
        size = (rows.shape[0] * rows.shape[1], *shape[1:])
        back = torch.nn.grad.conv2d_input(size, layer.weight, rows.flatten(0, 1), layer.stride, layer.padding)
        return back.unflatten(0, rows.shape[:2])

    return convolution


def by_batches(function, batch, *tensors):
    parts = zip(*(tensor.split(batch) for tensor in tensors), strict=True)
    return torch.cat([function(*part) for part in parts])


class Lirpa:
    """CROWN of the margins by auto_LiRPA."""

    def __init__(self, network, x, labels, eps, checkout):
        if not checkout:
            old_names()
        import auto_LiRPA
        from auto_LiRPA.perturbations import PerturbationLpNorm

        self.lirpa, self.perturbation = auto_LiRPA, PerturbationLpNorm
        self.network, self.x, self.eps = torch.nn.Sequential(*network.layers), x, eps
        eye = torch.eye(10)
        self.rows = torch.stack([(eye[y] - eye)[torch.arange(10) != y] for y in labels])
        self.bounded = {}

    def __call__(self, batch):
        if batch not in self.bounded:
            self.bounded[batch] = self.lirpa.BoundedModule(self.network, self.x[:batch])

        def bound(x, rows):
            ball = self.perturbation(
                norm=np.inf, x_L=(x - self.eps).clamp(0, 1), x_U=(x + self.eps).clamp(0, 1)
            )
            x = self.lirpa.BoundedTensor(x, ball)
            return self.bounded[batch].compute_bounds(x=(x,), C=rows, method="CROWN", bound_upper=False)[0]

        return by_batches(bound, batch, self.x, self.rows)


def old_names():
    """Names that auto_LiRPA 0.3 looks for where PyTorch had them in its time."""
    import torch.onnx.symbolic_helper
    import torch.onnx.utils
    from torch._C import _onnx
    from torch.onnx._internal.torchscript_exporter import utils
    from torch.onnx._internal.torchscript_exporter._globals import GLOBALS

    torch.onnx.utils._optimize_graph = utils._optimize_graph
    torch.onnx.symbolic_helper._set_opset_version = lambda v: setattr(GLOBALS, "export_onnx_opset_version", v)
    torch.onnx.OperatorExportTypes = _onnx.OperatorExportTypes
    torch._C.Node.__getitem__ = lambda node, key: getattr(node, node.kindOf(key))(key)


# Cases


def onnxruntime_network(name, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    path = str(MODELS / f"{name}.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"input": x.numpy()})[0])


def smoothing_case(title, name, images, samples, batches, options=()):
    x, _ = images
    sessions = {threads: onnxruntime_network(name, threads) for threads in {1, THREADS}}
    plain, last = Network(name), Network(name).to(memory_format=torch.channels_last)

    def work(evaluate, samples):
        return lambda batch: smoothing(evaluate, x, samples, batch, 0.25)

    def channels_last(x):
        return last(x.contiguous(memory_format=torch.channels_last))

    evaluators = {
        "PyTorch": [(t, plain) for t in {1, THREADS}] + [(t, channels_last) for t in {1, THREADS}],
        "onnxruntime": list(sessions.items()),
    }
    ours = ["smooth", f"models/{name}.onnx", "--sigma", "0.25", "--map", "hardmax", "--n0", "100", *options]
    return {
        "title": f"smoothing {title}",
        "unit": "samples/s",
        "items": len(x) * samples,
        "ours": [*ours, "--n", str(samples), "--indices", f"0..{len(x)}"],
        "peers": {
            peer: [(t, batch, work(e, samples)) for t, e in evaluators for batch in batches]
            for peer, evaluators in evaluators.items()
        },
    }


def bound_cases(lirpa):
    x, labels = mnist(1000)
    hundred = (x[:100], labels[:100])
    ibp, pgd = Network("mnist-cnn-ibp0.1"), Network("mnist-cnn-pgd0.1")
    layers = {network: list(absolute_layers(network)) for network in (ibp, pgd)}

    def on_both(function, network, data, eps):
        def work(batch):
            return by_batches(lambda x, y: function(network, layers[network], x, y, eps), batch, *data)

        return [(t, batch, work) for t in {1, THREADS} for batch in (10, 25, 100, 250, 1000)]

    def case(title, items, command, network, agrees, peers):
        ours = [*command, "--indices", f"0..{items}"]
        ours.insert(1, f"models/mnist-cnn-{network}.onnx")
        return {"title": title, "unit": "images/s", "items": items, "ours": ours, "agrees": agrees, "peers": peers}

    def mean_margin(record, found):
        return record["results"][0]["mean_margin"], found.min(1).values.mean().item()

    crown = Lirpa(pgd, *hundred, 0.1, lirpa)
    return [
        case(
            "IBP CNN",
            1000,
            ["certify", "--eps", "0.1"],
            "ibp0.1",
            mean_margin,
            {"PyTorch": on_both(interval_margins, ibp, (x, labels), 0.1)},
        ),
        case(
            "CROWN CNN",
            100,
            ["certify", "--eps", "0.1", "--method", "crown"],
            "pgd0.1",
            mean_margin,
            {"auto_LiRPA": [(t, batch, crown) for t in {1, THREADS} for batch in (1, 10, 25, 100)]},
        ),
        case(
            "local tightness CNN",
            100,
            ["tightness", "--eps", "0.1", "--samples", "0"],
            "pgd0.1",
            lambda record, found: (record["mean_tightness"], found.mean().item()),
            {"PyTorch": on_both(local_tightness, pgd, hundred, 0.1)},
        ),
    ]


def cases(lirpa):
    mlp = ("mnist-mlp-noise25", mnist(2), 100_000, (256, 1024, 4096))
    yield smoothing_case("MLP", *mlp)
    yield smoothing_case("MLP, noise on the input", *mlp, ["--noise", "gaussian-input"])
    yield smoothing_case("CNN", "mnist-cnn-plain", mnist(1), 100_000, (64, 256, 1024, 4096))
    yield smoothing_case("ResNet-20", "cifar-resnet20-noise25", cifar(1), 4000, (16, 64, 256))
    yield from bound_cases(lirpa)


# Timing


def timed(function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def run_peer(setting):
    threads, batch, work = setting
    torch.set_num_threads(threads)
    with torch.inference_mode():
        return timed(work, batch)


def run_ours(binary, arguments, threads):
    """Seconds of the work, and the JSON record with the process's peak memory in MiB."""
    command = [binary, *arguments, "--threads", str(threads), "--json"]
    memory = 0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        # Its own peak, which includes nothing of the process that started it.
        while not select.select([process.stdout], [], [], 0.02)[0]:
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            memory = next((int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line), memory)
        record = json.loads(process.stdout.read())
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed")
    record["memory"] = memory / 1024
    return record["seconds"], record


def multiply_adds(binary, model):
    found = subprocess.run([binary, "inspect", model, "--json"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return json.loads(found.stdout)["multiply_adds"]


def measure(case, binary, rounds, peak):
    """Medians of seconds: ours on one thread and on all, and the best setting of every peer."""
    best = {}
    for peer, settings in case["peers"].items():
        # The first use of a setting traces and warms up.
        first = [(run_peer(s)[0], s) for s in settings]
        few = [s for _, s in sorted(first, key=lambda pair: pair[0])[:3]]
        best[peer] = min(few, key=lambda s: run_peer(s)[0])
        print(f"{case['title']}: {peer} threads {best[peer][0]} batch {best[peer][1]}", file=sys.stderr)
    seconds = {name: [] for name in ["one", "ours", *best]}
    for _ in range(rounds):
        for name, times in seconds.items():
            # Worker threads that spin after their work must not meet the next one.
            time.sleep(0.3)
            if name in best:
                spent, found = run_peer(best[name])
                if "agrees" in case:
                    ours, theirs = case["agrees"](record, found)
                    assert abs(ours - theirs) < 1e-3 * abs(theirs), (case["title"], name, ours, theirs)
            else:
                spent, record = run_ours(binary, case["ours"], 1 if name == "one" else THREADS)
                if name == "one" and case["unit"] == "samples/s":
                    work = 2 * multiply_adds(binary, case["ours"][1]) * case["items"]
                    case["share"] = work / spent / 1e9 / peak
            times.append(spent)
    case["memory"] = record["memory"]
    return {name: statistics.median(times) for name, times in seconds.items()}, best


def machine():
    def first(path, key):
        lines = pathlib.Path(path).read_text().splitlines()
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "unknown")

    versions = [f"torch {torch.__version__}", f"onnxruntime {onnxruntime.__version__}"]
    return (
        f"{first('/proc/cpuinfo', 'model name')}, {THREADS} cores, {first('/proc/meminfo', 'MemTotal')}, "
        f"{platform.system()} {platform.release()}, {', '.join(versions)}"
    )


def table(rows):
    lines = [
        "| work | Tightrope, one core | of peak | all cores | scaling | memory | peer | peer's best | ratio |",
        "|---|--:|--:|--:|--:|--:|---|--:|--:|",
    ]
    for case, seconds, best in rows:
        rate = {name: case["items"] / s for name, s in seconds.items()}
        ours = [
            f"{rate['one']:,.0f}",
            f"{case['share']:.0%}" if "share" in case else "",
            f"{rate['ours']:,.0f} {case['unit']}",
            f"{seconds['one'] / seconds['ours']:.2f}",
            f"{case['memory']:.0f} MiB",
        ]
        for peer, (threads, batch, _) in best.items():
            shown = f"{rate[peer]:,.0f} (batch {batch}, {threads} threads)"
            lines.append(
                f"| {case['title']} | {' | '.join(ours)} | {peer} | {shown} | {seconds[peer] / seconds['ours']:.1f} |"
            )
    return lines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--peak", type=float, nargs=2, required=True, help="GFLOP/s of one core and of all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lirpa", help="a checkout of auto_LiRPA instead of the installed one")
    parser.add_argument("--only", default="", help="cases whose title holds this")
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    if arguments.lirpa:
        sys.path.insert(0, arguments.lirpa)
    rows = []
    for case in cases(arguments.lirpa):
        if arguments.only in case["title"]:
            rows.append((case, *measure(case, arguments.binary, arguments.rounds, arguments.peak[0])))
            print("\n".join(table(rows[-1:])), file=sys.stderr)
    text = "\n".join(table(rows)) + "\n"
    if arguments.out:
        arguments.out.write_text(HEADER.format(machine=machine(), rounds=arguments.rounds, peak=arguments.peak) + text)
    else:
        print(text)


HEADER = """\
# Speed

Made by `cargo xtask bench --peers` on {machine}. Medians of {rounds} rounds in
which all take turns; rates are of the work alone, without loading, on both
sides. Each peer has the batch size and number of threads that were fastest for
it. A ratio above 1 says that Tightrope, on all cores, is faster.

- Smoothing: noise, network and argmax at sigma .25, 100,000 samples for each of
  two images (MLP), 100,000 for one (CNN), 4,000 for one (ResNet-20). "Of peak":
  the network's multiply-adds as the model states them against what one core
  reaches in f32 ({peak[0]:.0f} GFLOP/s here, {peak[1]:.0f} on all cores;
  `cargo bench --bench peak`). Less work than stated is done where noise is
  drawn behind the first layer (MLP) and where convolutions are filtered
  (CNN, ResNet-20).
- Bounds: MNIST at eps .1 in f64 with rounding accounted for, against f32
  without. IBP on 1,000 images; CROWN on 100, against auto_LiRPA 0.3; tightness
  on 100, where ours computes the companion figures, too. Margins and tightness
  of both sides agree to a thousandth, which is checked in every round.
- Memory: the peak of the whole process on all cores.

"""


if __name__ == "__main__":
    main()
