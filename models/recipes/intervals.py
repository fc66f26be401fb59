"""Interval bound propagation (IBP) through chains of layers, differentiable."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F


def input_box(x, eps):
    """Centre and radius of the eps-box around x, cut to [0, 1]."""
    lower = (x - eps).clamp(0, 1)
    upper = (x + eps).clamp(0, 1)
    return 0.5 * (lower + upper), 0.5 * (upper - lower)


def ibp_margins(network, x, labels, eps):
    """As `box_margins`, of the eps-boxes around ``x``."""
    return box_margins(network, *input_box(x, eps), labels)


def margin_rows(last, labels):
    """``W[label] - W[j]`` and the same of the shifts: the last layer merged with the margins."""
    weight = (last.weight.unsqueeze(1) - last.weight.unsqueeze(0))[labels]
    return weight, (last.bias.unsqueeze(1) - last.bias.unsqueeze(0))[labels]


def through(layer, centre, radius):
    """Centre and radius of a box behind one layer."""
    if isinstance(layer, nn.Conv2d):
        return layer(centre), F.conv2d(radius, layer.weight.abs(), None, layer.stride, layer.padding)
    if isinstance(layer, nn.Linear):
        return layer(centre), F.linear(radius, layer.weight.abs())
    if isinstance(layer, nn.ReLU):
        lower, upper = F.relu(centre - radius), F.relu(centre + radius)
        return 0.5 * (upper + lower), 0.5 * (upper - lower)
    if isinstance(layer, nn.Flatten):
        return layer(centre), layer(radius)
    raise TypeError(f"no interval rule for {layer}")


def pre_activations(network, centre, radius):
    """Lower and upper bounds of what every relu reads, by its place."""
    found = {}
    for place, layer in enumerate(list(network)[:-1]):
        if isinstance(layer, nn.ReLU):
            found[place] = (centre - radius, centre + radius)
        centre, radius = through(layer, centre, radius)
    return found


def box_margins(network, centre, radius, labels):
    """Lower bounds of logit[label] - logit[j] for every j, and the pre-activation radii.

    The last layer is merged with the margin: W[label] - W[j] is one matrix, so that
    what both logits share cancels before the interval is taken.
    """
    radii = [radius]
    for layer in list(network)[:-1]:
        centre, radius = through(layer, centre, radius)
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            radii.append(radius)
    weight, bias = margin_rows(network[-1], labels)
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
