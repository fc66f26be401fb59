"""What is measured on networks: accuracies and tightness."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from .attack import pgd_perturb
from .intervals import ibp_margins, input_box, margin_rows, pre_activations
from .networks import pull_back

CERTIFY_EPS = [0.02, 0.1, 0.3]
EVAL_BATCH = 500


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
    return standing.sum().item() / len(x)


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


@torch.no_grad()
def tightness(network, x, labels, eps):
    """Local tightness of every input, ``n``: mean over margins of the radius of the linear network at ``x`` over
    the one that intervals give it (Mao et al. 2024). A diagnostic, not a bound."""
    network.double()
    x = x.double()
    _, radius = input_box(x, eps)
    value, layerwise, masks, shapes = x, radius, {}, []
    for place, layer in enumerate(list(network)[:-1]):
        shapes.append(value.shape[1:])
        if isinstance(layer, nn.ReLU):
            masks[place] = (value >= 0).to(value)
            layerwise = layerwise * masks[place]
        elif isinstance(layer, nn.Conv2d):
            layerwise = F.conv2d(layerwise, layer.weight.abs(), None, layer.stride, layer.padding)
        elif isinstance(layer, nn.Linear):
            layerwise = F.linear(layerwise, layer.weight.abs())
        else:
            layerwise = layer(layerwise)
        value = layer(value)
    rows, _ = margin_rows(network[-1], labels)
    layerwise = (rows.abs() @ layerwise.flatten(1).unsqueeze(2)).squeeze(2)
    for place in range(len(network) - 2, -1, -1):
        if place in masks:
            rows = rows.view(len(x), -1, *shapes[place]) * masks[place].unsqueeze(1)
        else:
            rows = pull_back(network[place], rows, shapes[place])
    optimal = (rows.flatten(2).abs() @ radius.flatten(1).unsqueeze(2)).squeeze(2)
    network.float()
    others = ~F.one_hot(labels, rows.shape[1]).bool()
    ratios = torch.where(layerwise > 0, optimal / layerwise.clamp_min(1e-300), torch.ones_like(optimal))
    return torch.where(others, ratios.clamp_max(1), torch.zeros_like(ratios)).sum(1) / (rows.shape[1] - 1)


@torch.no_grad()
def unit_states(network, x, eps):
    """Shares of dead and of unstable relu units under interval bounds of the eps-boxes."""
    bounds = pre_activations(network, *input_box(x, eps)).values()
    units = sum(lower.numel() for lower, _ in bounds)
    dead = sum((upper <= 0).sum().item() for _, upper in bounds)
    unstable = sum(((lower < 0) & (upper > 0)).sum().item() for lower, upper in bounds)
    return dead / units, unstable / units


def study_figures(network, x, labels, eps, attack=(10, 1)):
    """One line of figures of a network, all on the same images."""
    dead, unstable = unit_states(network, x, eps)
    return {
        "clean": accuracy(network, x, labels),
        "adversarial": attacked_accuracy(network, x, labels, eps, *attack),
        "certified": certified_accuracy(network, x, labels, eps),
        "tightness": tightness(network, x, labels, eps).mean().item(),
        "dead": dead,
        "unstable": unstable,
        "weight_norm": math.sqrt(sum((p**2).sum().item() for p in network.parameters() if p.ndim > 1)),
    }
