"""CIFAR-10 residual networks under Gaussian noise: another optimiser and augmentation than the rest."""

import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .data import Dataset
from .loop import batches, cosine, set_rate


@dataclass
class Run:
    """What the training needs besides the network."""

    data: Dataset
    epochs: int
    batch: int
    params: dict


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
        print(f"  epoch {epoch + 1}/{run.epochs}  loss {total / len(order):.4f}  {time.time() - started:.0f} s", flush=True)
    network.eval()
    network.to(memory_format=torch.contiguous_format)
