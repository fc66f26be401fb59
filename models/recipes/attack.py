"""Projected gradient descent (Madry et al. 2018)."""

import torch
import torch.nn.functional as F


def pgd_perturb(network, x, labels, eps, steps, step_size):
    """Projected gradient ascent on the cross-entropy from a uniform random start."""
    lower, upper = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    adversarial = torch.min(torch.max(x + torch.empty_like(x).uniform_(-eps, eps), lower), upper)
    for _ in range(steps):
        adversarial.requires_grad_(True)
        loss = F.cross_entropy(network(adversarial), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, adversarial)
        adversarial = adversarial.detach() + step_size * gradient.sign()
        adversarial = torch.min(torch.max(adversarial, lower), upper)
    return adversarial
