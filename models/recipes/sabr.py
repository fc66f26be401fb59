"""Small boxes around attacked images (SABR: Müller, Eckert, Fischer, Vechev 2023)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .attack import pgd_perturb
from .intervals import box_margins, tightness_penalty
from .loop import Growing


@dataclass
class Sabr(Growing):
    """Interval bounds of a box of radius ``lam * eps`` inside the box of ``eps``, its centre as near to an
    attacked image as it fits; ``lam`` 1 is training with intervals of the whole box."""

    lam: float = 0.4
    steps: int = 4

    def robust(self, network, x, labels, eps, grown, weight):
        small = self.lam * eps
        centre = x
        if self.lam < 1:
            attacked = pgd_perturb(network, x, labels, eps, self.steps, 2.5 * eps / self.steps).detach()
            centre = torch.min(torch.max(attacked, x - (eps - small)), x + (eps - small))
        lower, upper = (centre - small).clamp(0, 1), (centre + small).clamp(0, 1)
        margins, radii = box_margins(network, 0.5 * (lower + upper), 0.5 * (upper - lower), labels)
        loss = weight * F.cross_entropy(-margins, labels)
        if grown < 1:
            loss = loss + self.tightness * (1 - grown) * tightness_penalty(radii)
        return loss, (margins.detach() >= 0).all(1).float().mean().item()
