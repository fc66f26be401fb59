"""Cross-entropy on clean or on Gaussian-noisy images."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .loop import Recipe


@dataclass
class Plain(Recipe):
    """Of logits times ``gain``, that of the label less ``margin`` first; with ``sigma`` under noise."""

    sigma: float | None = None
    gain: float = 1.0
    margin: float = 0.0

    def inputs(self, network, x, labels, t):
        """What the network is trained on."""
        return x if self.sigma is None else x + self.sigma * torch.randn_like(x)

    def loss(self, network, x, labels, t):
        logits = network(self.inputs(network, x, labels, t))
        logits = self.gain * (logits - self.margin * F.one_hot(labels, logits.shape[1]))
        return F.cross_entropy(logits, labels), {}
