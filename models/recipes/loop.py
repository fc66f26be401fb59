"""The training loop of all methods: schedules, seeds, resume, and figures after every epoch."""

import csv
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

from .data import Dataset
from .intervals import ibp_initialise


def batches(count, size):
    order = torch.randperm(count)
    return [order[i : i + size] for i in range(0, count - size + 1, size)]


def cosine(progress, peak, floor=0.01):
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def ramp(progress):
    """Smooth 0 -> 1: quadratic over the first quarter, straight afterwards."""
    progress = min(max(progress, 0.0), 1.0)
    knee = 0.25
    slope = 1 / (1 - knee / 2)
    if progress < knee:
        return slope * progress**2 / (2 * knee)
    return slope * (progress - knee / 2)


def set_rate(optimiser, rate):
    for group in optimiser.param_groups:
        group["lr"] = rate


@dataclass
class Recipe:
    """A method: how weights start, the rate and the loss at a time ``t`` in epochs."""

    epochs: int
    rate: float = 1e-3

    gradient_norm = None

    def start(self, network):
        """Draws the weights anew where the method needs others than the layers' own."""

    def rate_at(self, t):
        return cosine(t / self.epochs, self.rate)

    def loss(self, network, x, labels, t):
        """The loss of a batch, and figures of it for the log."""
        raise NotImplementedError


@dataclass
class Growing(Recipe):
    """A method with bounds: clean warm-up, eps grown with a mixed loss, then full eps (Gowal et al. 2018).

    loss = kappa * clean cross-entropy + (1 - kappa) * robust loss; kappa falls from 1 to ``kappa_end`` as eps
    grows to ``eps``. Warm-up and the end of the growth are shares of the epochs.
    """

    eps: float = 0.1
    kappa_end: float = 0.0
    warm_up: float = 0.02
    ramp_end: float = 0.4
    tightness: float = 0.5

    gradient_norm = 8.0

    def start(self, network):
        ibp_initialise(network)

    def grown(self, t):
        start, end = self.warm_up * self.epochs, self.ramp_end * self.epochs
        return ramp((t - start) / (end - start))

    def rate_at(self, t):
        end = self.ramp_end * self.epochs
        return cosine(max(0.0, t - end) / (self.epochs - end), self.rate)

    def robust(self, network, x, labels, eps, grown, weight):
        """``weight`` times the robust loss at this eps, with what helps until eps has ``grown`` to 1; and the
        share of the batch with positive margins."""
        raise NotImplementedError

    def loss(self, network, x, labels, t):
        grown = self.grown(t)
        eps, kappa = self.eps * grown, 1 - (1 - self.kappa_end) * grown
        loss = kappa * F.cross_entropy(network(x), labels) if kappa > 0 else 0.0
        figures = {"eps": eps, "kappa": kappa}
        if eps > 0:
            robust, figures["certified"] = self.robust(network, x, labels, eps, grown, 1 - kappa)
            loss = loss + robust
        return loss, figures


@dataclass
class Training:
    """How a recipe is run. With ``folder`` every epoch leaves a line in ``epochs.csv`` and the state to resume
    from; ``after(network, epoch)`` gives the figures of that line, from epoch 0 (before training) on."""

    data: Dataset
    batch: int = 128
    seed: int | None = None
    folder: Path | None = None
    after: object = None


def fit(network, recipe, training):
    """Trains ``network`` in place and returns the lines of figures."""
    if training.seed is not None:
        torch.manual_seed(training.seed)
    data, rows, state, begun = training.data, [], None, 0
    if training.folder is not None:
        training.folder.mkdir(parents=True, exist_ok=True)
        state = training.folder / "state.pt"
    if state is not None and state.exists():
        kept = torch.load(state, weights_only=False)
        network.load_state_dict(kept["network"])
        optimiser = torch.optim.Adam(network.parameters(), lr=recipe.rate)
        optimiser.load_state_dict(kept["optimiser"])
        torch.set_rng_state(kept["random"])
        rows, begun = kept["rows"], kept["epoch"]
    else:
        recipe.start(network)
        optimiser = torch.optim.Adam(network.parameters(), lr=recipe.rate)
        _note(network, training, rows, 0, float("nan"))
    started = time.time()
    for epoch in range(begun, recipe.epochs):
        order = batches(len(data.train_x), training.batch)
        total, sums = 0.0, {}
        for step, index in enumerate(order):
            t = epoch + step / len(order)
            set_rate(optimiser, recipe.rate_at(t))
            loss, figures = recipe.loss(network, data.train_x[index], data.train_y[index], t)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if recipe.gradient_norm is not None:
                nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_norm)
            optimiser.step()
            total += loss.item()
            for key, value in figures.items():
                sums[key] = sums.get(key, 0.0) + value / len(order)
        details = "".join(f"  {key} {value:.4g}" for key, value in sums.items())
        mean = total / len(order)
        print(f"  epoch {epoch + 1}/{recipe.epochs}  loss {mean:.4f}{details}  {time.time() - started:.0f} s", flush=True)
        _note(network, training, rows, epoch + 1, mean)
        if state is not None:
            kept = {
                "network": network.state_dict(), "optimiser": optimiser.state_dict(),
                "random": torch.get_rng_state(), "rows": rows, "epoch": epoch + 1,
            }  # fmt: skip
            torch.save(kept, state.with_suffix(".tmp"))
            os.replace(state.with_suffix(".tmp"), state)
    return rows


def _note(network, training, rows, epoch, loss):
    """Adds the figures after an epoch, without touching the random numbers of the training."""
    if training.after is None:
        return
    random = torch.get_rng_state()
    network.eval()
    rows.append({"epoch": epoch, "loss": loss, **training.after(network, epoch)})
    network.train()
    torch.set_rng_state(random)
    if training.folder is not None:
        with open(training.folder / "epochs.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
