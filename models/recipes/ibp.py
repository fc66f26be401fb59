"""Training with interval bounds (Gowal et al. 2018, Shi et al. 2021)."""

from dataclasses import dataclass

import torch.nn.functional as F

from .intervals import ibp_margins, tightness_penalty
from .loop import Growing


@dataclass
class Ibp(Growing):
    """Cross-entropy of the worst-case margins of the whole box."""

    def robust(self, network, x, labels, eps, grown, weight):
        margins, radii = ibp_margins(network, x, labels, eps)
        loss = weight * F.cross_entropy(-margins, labels)
        if grown < 1:
            loss = loss + self.tightness * (1 - grown) * tightness_penalty(radii)
        return loss, (margins.detach() >= 0).all(1).float().mean().item()
