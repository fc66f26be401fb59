"""Adversarial training (Madry et al. 2018)."""

from dataclasses import dataclass

from .attack import pgd_perturb
from .plain import Plain


@dataclass
class Pgd(Plain):
    """Cross-entropy on attacked images; eps grows over the first epoch, since a full-size attack on fresh
    weights can stall."""

    eps: float = 0.1
    steps: int = 7

    def inputs(self, network, x, labels, t):
        now = self.eps * min(1.0, t)
        return pgd_perturb(network, x, labels, now, self.steps, 2.5 * now / self.steps)
