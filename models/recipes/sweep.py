"""Trains the networks of the tightness study; `tightrope tightness --study trained DIR` measures and draws them.

    cd models && python3 -m recipes.sweep DIR            # all; continues where it was cut off
    cd models && python3 -m recipes.sweep DIR --only training --images 12000 --epochs 20

DIR gets a folder for every network (ONNX files of its epochs, `epochs.csv`), `sweep.json`, which says what
figures they are for, and `autoencoder.csv`.
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch

from . import METHODS
from .data import load_mnist, write_atomically
from .export import export_onnx
from .loop import Training, fit
from .measure import study_figures
from .networks import study_cnn

#: Test images of all figures, the first of the shipped slice.
TEST_IMAGES = 200
EPS = 0.1

#: What is drawn: values of networks against a key of them, one line a method, over the seeds.
FIGURES = [
    {"name": "init-width", "title": "Tightness at initialisation against width", "x": "width",
     "x_label": "width (channels relative to CNN3)", "y": ["tightness"], "log_x": True, "log_y": True},
    {"name": "init-depth", "title": "Tightness at initialisation against depth", "x": "depth",
     "x_label": "layers", "y": ["tightness"], "log_y": True},
    {"name": "training", "title": "Tightness through training, CNN3, eps 0.1", "x": "epoch",
     "x_label": "epoch (0: before training)", "y": ["tightness"]},
    {"name": "training-certified", "title": "IBP-certified accuracy through training, CNN3, eps 0.1", "x": "epoch",
     "x_label": "epoch (0: before training)", "y": ["certified"]},
    {"name": "width-trained", "title": "Tightness after training against width, eps 0.1", "x": "width",
     "x_label": "width (channels relative to CNN3)", "y": ["tightness"], "log_x": True},
    {"name": "depth-trained", "title": "Tightness after IBP training against depth, eps 0.1", "x": "depth",
     "x_label": "layers", "y": ["tightness", "certified"]},
    {"name": "regularisation", "title": "Strength of IBP training, CNN3, measured at eps 0.1", "x": "eps_train",
     "x_label": "eps of training (pixels in [0, 1])", "y": ["tightness", "clean", "certified", "dead"]},
    {"name": "tightness-accuracy", "title": "Accuracy against tightness after training, CNN3, eps 0.1",
     "x": "tightness", "x_label": "tightness", "y": ["clean"]},
]  # fmt: skip

LAMBDAS = [0.05, 0.1, 0.4]


def plan(seeds):
    """Every network: its name, figures, method with parameters, and shape; the most telling first."""
    found = []

    def add(name, figures, method, label, seed, **more):
        shape = {"width": more.pop("width", 1), "depth": more.pop("depth", 3)}
        found.append({"name": f"{name}-s{seed}", "figures": figures, "method": label, "recipe": method, "seed": seed,
                      "params": more} | shape)  # fmt: skip

    for seed in range(5):
        for width in (1, 2, 4, 8):
            add(f"init-w{width}", ["init-width"], None, "random", seed, width=width)
        for depth in range(2, 8):
            add(f"init-d{depth}", ["init-depth"], None, "random", seed, depth=depth)
    both = ["training", "training-certified", "tightness-accuracy"]
    for seed in range(seeds):
        trained = [*both, "width-trained"]
        add("ibp", [*trained, "depth-trained", "regularisation"], "ibp", "IBP (SABR 1)", seed, eps=EPS)
        add("pgd", trained, "pgd", "PGD", seed, eps=EPS, steps=4)
        for lam in LAMBDAS:
            add(f"sabr{lam}", both, "sabr", f"SABR {lam}", seed, eps=EPS, lam=lam)
        for eps in (0.01, 0.03, 0.2):
            add(f"ibp-eps{eps}", ["regularisation"], "ibp", "IBP (SABR 1)", seed, eps=eps)
        for depth in (2, 4, 5, 6, 7):
            add(f"ibp-d{depth}", ["depth-trained"], "ibp", "IBP (SABR 1)", seed, eps=EPS, depth=depth)
        for width in (2, 4):
            add(f"ibp-w{width}", ["width-trained"], "ibp", "IBP (SABR 1)", seed, eps=EPS, width=width)
            add(f"pgd-w{width}", ["width-trained"], "pgd", "PGD", seed, eps=EPS, steps=4, width=width)
        for method, label in (("mtl-ibp", "MTL-IBP 0.1"), ("crown-ibp", "CROWN-IBP"), ("llr", "LLR"), ("plain", "plain")):
            more = {} if method == "plain" else {"steps": 4} if method == "llr" else {"eps": EPS}
            add(method, ["tightness-accuracy"], method, label, seed, **more)
    return found


def train(item, data, images, epochs, folder):
    """Trains one network and returns its entries: one for each epoch where that is drawn, else the last."""
    here = folder / item["name"]
    here.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(item["seed"])
    network = study_cnn(item["depth"], item["width"])
    x, y = data.test_x[:TEST_IMAGES], data.test_y[:TEST_IMAGES]
    last = epochs if item["recipe"] else 0
    each = "training" in item["figures"]

    def after(network, epoch):
        if each or epoch == last:
            export_onnx(network, here / f"epoch-{epoch}.onnx", x[:8])
        return study_figures(network, x, y, EPS)

    if item["recipe"] is None:
        rows = [{"epoch": 0, **after(network.eval(), 0)}]
    else:
        subset = type(data)(data.train_x[:images], data.train_y[:images], data.test_x, data.test_y)
        recipe = METHODS[item["recipe"]](epochs, **item["params"])
        rows = fit(network, recipe, Training(subset, 64, item["seed"], here, after))
    entries = []
    for row in rows if each else rows[-1:]:
        # Only the end of a training belongs to the figures that are not of its epochs.
        figures = [f for f in item["figures"] if row["epoch"] == last or f.startswith("training")]
        kept = {key: item[key] for key in ("method", "width", "depth", "seed")}
        measured = {k: row[k] for k in ("adversarial", "weight_norm")}
        onnx = f"{item['name']}/epoch-{row['epoch']}.onnx"
        entries.append({"onnx": onnx, "figures": figures, **kept, "epoch": row["epoch"],
                        "eps_train": item["params"].get("eps", 0.0), **measured})  # fmt: skip
    return entries


def autoencoder(data, images, folder):
    """Radii of reconstructions `U U^T x` for a box of radius 1, where the linear autoencoder of least squared error
    has the frame `U` of principal components (exactly; it needs no descent)."""
    flat = data.train_x[:images].flatten(1).double()
    _, _, components = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
    lines = ["rank,optimal,layerwise,error"]
    for rank in (2, 5, 10, 20, 50, 100, 150, 200, 300, 400):
        frame = components[:rank].T
        optimal = (frame @ frame.T).abs().sum(1).mean().item()
        layerwise = (frame.abs() @ frame.T.abs().sum(1)).mean().item()
        rest = flat - flat.mean(0)
        error = ((rest - rest @ frame @ frame.T) ** 2).mean().item()
        lines.append(f"{rank},{optimal:.9g},{layerwise:.9g},{error:.6g}")
    write_atomically(folder / "autoencoder.csv", ("\n".join(lines) + "\n").encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", metavar="FIGURE", help=f"from: {', '.join(f['name'] for f in FIGURES)}")
    parser.add_argument("--images", type=int, default=12000, help="training images, the first of MNIST")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3, help="of trained networks; random ones have 5")
    parser.add_argument("--minutes", type=float, help="begin no network after so many")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/tightrope")
    args = parser.parse_args()
    torch.set_num_threads(1)
    root = Path(__file__).resolve().parent.parent
    data = load_mnist(args.cache, root)
    args.folder.mkdir(parents=True, exist_ok=True)
    path, begun = args.folder / "sweep.json", time.time()
    made_with = {"images": args.images, "epochs": args.epochs}
    sweep = json.loads(path.read_text()) if path.exists() else {"training": made_with, "done": {}}
    if sweep["training"] != made_with:
        raise SystemExit(f"{path}: found a sweep with {sweep['training']}, and asked for {made_with}; take another folder")
    slices = {kind: os.path.relpath(root / f"data/mnist-test-1000-{kind}.idx.gz", args.folder) for kind in ("images", "labels")}
    if not (args.folder / "autoencoder.csv").exists():
        autoencoder(data, args.images, args.folder)
    # All methods with one seed come before the next seed.
    for item in sorted(plan(args.seeds), key=lambda item: item["seed"] if item["recipe"] else -1):
        if item["name"] in sweep["done"] or (args.only and not set(args.only) & set(item["figures"])):
            continue
        if args.minutes is not None and time.time() - begun > 60 * args.minutes:
            raise SystemExit(f"{len(sweep['done'])} networks after {args.minutes} minutes; the same command continues")
        start = time.time()
        sweep["done"][item["name"]] = train(item, data, args.images, args.epochs, args.folder)
        print(f"{item['name']}: {time.time() - start:.0f} s", flush=True)
        sweep |= {"eps": EPS, "inputs": TEST_IMAGES, **slices, "figures": FIGURES}
        write_atomically(path, json.dumps(sweep, indent=1).encode())


if __name__ == "__main__":
    main()
