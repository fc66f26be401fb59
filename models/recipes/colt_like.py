"""Adversarial training that keeps the loss nearly linear, without intervals (LLR: Qin et al. 2019).

As in COLT, what makes a network easy to certify is asked of it by attacks on a relaxation, not by boxes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .pgd import Pgd


@dataclass
class LocalLinearity(Pgd):
    """Cross-entropy on attacked images plus ``weight`` times the greatest error
    ``|loss(x + d) - loss(x) - d . grad loss(x)|`` that was found."""

    weight: float = 4.0

    def loss(self, network, x, labels, t):
        attacked = self.inputs(network, x, labels, t).detach()
        clean = x.clone().requires_grad_(True)
        at_clean = F.cross_entropy(network(clean), labels, reduction="none")
        (slope,) = torch.autograd.grad(at_clean.sum(), clean, create_graph=True)
        at_attacked = F.cross_entropy(network(attacked), labels, reduction="none")
        line = at_clean + ((attacked - x) * slope).flatten(1).sum(1)
        error = (at_attacked - line).abs().mean()
        return at_attacked.mean() + self.weight * error, {"nonlinearity": error.item()}
