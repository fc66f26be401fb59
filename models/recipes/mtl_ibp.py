"""Mixtures of the interval and the adversarial loss (MTL-IBP and Exp-IBP: De Palma et al. 2024)."""

from dataclasses import dataclass

import torch.nn.functional as F

from .attack import pgd_perturb
from .intervals import ibp_margins, tightness_penalty
from .loop import Growing


@dataclass
class MtlIbp(Growing):
    """``alpha * interval + (1 - alpha) * adversarial``; with ``exponential``
    ``interval^alpha * adversarial^(1 - alpha)``."""

    alpha: float = 0.1
    exponential: bool = False
    steps: int = 4

    def robust(self, network, x, labels, eps, grown, weight):
        attacked = pgd_perturb(network, x, labels, eps, self.steps, 2.5 * eps / self.steps).detach()
        adversarial = F.cross_entropy(network(attacked), labels)
        margins, radii = ibp_margins(network, x, labels, eps)
        interval = F.cross_entropy(-margins, labels)
        if self.exponential:
            robust = interval.clamp_min(1e-9) ** self.alpha * adversarial.clamp_min(1e-9) ** (1 - self.alpha)
        else:
            robust = self.alpha * interval + (1 - self.alpha) * adversarial
        loss = weight * robust
        if grown < 1:
            loss = loss + self.tightness * (1 - grown) * tightness_penalty(radii)
        return loss, (margins.detach() >= 0).all(1).float().mean().item()
