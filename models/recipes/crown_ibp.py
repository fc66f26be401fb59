"""Linear bounds of the margins over interval bounds of what is before (CROWN-IBP: Zhang et al. 2020)."""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

from .intervals import ibp_margins, input_box, margin_rows, pre_activations, tightness_penalty
from .loop import Growing
from .networks import pull_back


def crown_ibp_margins(network, x, labels, eps):
    """Lower bounds of the margins, ``n x 10``, from one linear function pulled back to the input."""
    centre, radius = input_box(x, eps)
    boxes, inputs = pre_activations(network, centre, radius), {}
    value = centre[:1]
    for place, layer in enumerate(network):
        inputs[place] = value.shape[1:]
        value = layer(value)
    rows, constant = margin_rows(network[-1], labels)
    for place in range(len(network) - 2, -1, -1):
        layer = network[place]
        if isinstance(layer, nn.ReLU):
            lower, upper = (side.unsqueeze(1) for side in boxes[place])
            rows = rows.view(len(x), 10, *inputs[place])
            unstable = (lower < 0) & (upper > 0)
            chord = upper / (upper - lower).clamp_min(1e-12)
            above = torch.where(unstable, chord, (lower >= 0).to(chord))
            below = torch.where(unstable, (upper > -lower).to(chord), above)
            shift = torch.where(unstable, -chord * lower, torch.zeros_like(chord))
            constant = constant + (rows.clamp_max(0) * shift).flatten(2).sum(2)
            rows = rows.clamp_min(0) * below + rows.clamp_max(0) * above
        else:
            if isinstance(layer, nn.Linear):
                constant = constant + rows.flatten(2) @ layer.bias
            elif isinstance(layer, nn.Conv2d):
                constant = constant + torch.einsum("nrchw,c->nr", rows, layer.bias)
            rows = pull_back(layer, rows, inputs[place])
    rows = rows.flatten(2)
    at = (rows @ centre.flatten(1).unsqueeze(2) - rows.abs() @ radius.flatten(1).unsqueeze(2)).squeeze(2)
    return at + constant


@dataclass
class CrownIbp(Growing):
    """``beta * linear + (1 - beta) * interval`` margins; beta falls from 1 to ``beta_end`` as eps grows."""

    beta_end: float = 0.5

    def robust(self, network, x, labels, eps, grown, weight):
        margins, radii = ibp_margins(network, x, labels, eps)
        beta = 1 - (1 - self.beta_end) * grown
        if beta > 0:
            margins = beta * crown_ibp_margins(network, x, labels, eps) + (1 - beta) * margins
        loss = weight * F.cross_entropy(-margins, labels)
        if grown < 1:
            loss = loss + self.tightness * (1 - grown) * tightness_penalty(radii)
        return loss, (margins.detach() >= 0).all(1).float().mean().item()
