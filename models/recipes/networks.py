"""The architectures of the shipped networks and of the study."""

import torch
import torch.nn as nn
import torch.nn.functional as F

CNN = (
    "conv 16 4x4 stride 2 pad 1, relu, conv 32 4x4 stride 2 pad 1, relu, flatten, "
    "linear 1568-100, relu, linear 100-10"
)
MLP = "flatten, linear 784-256, relu, linear 256-128, relu, linear 128-10"
RESIDUAL = (
    "flatten, rescaled linear 784-256, 3 layers x - 2 W T^-1 relu(W'x + b) of 256 units, "
    "linear 256-10 with rows of length 1; the rescaling is in the file as nodes"
)
MAXMIN = (
    "flatten, rescaled linear 784-256, maximum and minimum of neighbours, twice rescaled linear 256-256 and "
    "maximum and minimum of neighbours, linear 256-10 with rows of length 1; the rescaling is in the file as nodes"
)
RESNET = (
    "ResNet-20 for 32x32 images: normalisation, conv 16, 3 stages of 3 residual blocks with widths "
    "16/32/64, batch norm kept as nodes, 1x1 projections between stages, global average pool, linear 64-10"
)


def mnist_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def mnist_mlp():
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


class Rescaled(nn.Linear):
    """A linear layer with outputs or inputs divided by roots of row sums of |W W^T| or |W^T W|,
    whichever is smaller to write: its spectral norm is at most 1 (Prach and Lampert 2022)."""

    def forward(self, x):
        if self.in_features <= self.out_features:
            scale = (self.weight.t() @ self.weight).abs().sum(1).rsqrt()
            return F.linear(x * scale, self.weight, self.bias)
        scale = (self.weight @ self.weight.t()).abs().sum(1).rsqrt()
        return F.linear(x, self.weight * scale.unsqueeze(1), self.bias)


class Directions(nn.Linear):
    """A linear layer with rows of length 1."""

    def forward(self, x):
        return F.linear(x, self.weight / self.weight.norm(dim=1, keepdim=True), self.bias)


class Residual(nn.Module):
    """x - 2 W T^-1 relu(W^T x + b) with T_i = sum_j |W^T W|_ij q_j / q_i (Araujo et al. 2023), which has
    the Lipschitz constant 1."""

    def __init__(self, width, units):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(units, width))
        self.bias = nn.Parameter(torch.zeros(units))
        self.logarithm = nn.Parameter(torch.zeros(units))
        nn.init.xavier_normal_(self.weight)

    def forward(self, x):
        q = self.logarithm.exp()
        sums = ((self.weight @ self.weight.t()).abs() * q).sum(1) / q
        return x - 2 * F.linear(F.relu(F.linear(x, self.weight, self.bias)) / sums, self.weight.t())


class MaxMin(nn.Module):
    """Every pair of neighbours, sorted (Anil, Lucas and Grosse 2019)."""

    def forward(self, x):
        first, second = x.view(x.shape[0], -1, 2).split(1, 2)
        return torch.cat([torch.maximum(first, second), torch.minimum(first, second)], 2).flatten(1)


def mnist_residual():
    layers = [Residual(256, 256) for _ in range(3)]
    return nn.Sequential(nn.Flatten(), Rescaled(784, 256), *layers, Directions(256, 10))


def mnist_maxmin():
    return nn.Sequential(
        nn.Flatten(),
        Rescaled(784, 256),
        MaxMin(),
        Rescaled(256, 256),
        MaxMin(),
        Rescaled(256, 256),
        MaxMin(),
        Directions(256, 10),
    )


class Normalise(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x):
        return (x - self.mean) / self.std


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm; a 1x1 projection where the shape changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x):
        branch = F.relu(self.norm1(self.conv1(x)))
        branch = self.norm2(self.conv2(branch))
        return F.relu(branch + (x if self.shortcut is None else self.shortcut(x)))


def cifar_resnet20():
    layers = [
        Normalise([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
    ]
    width = 16
    for outputs, stride in ((16, 1), (32, 2), (64, 2)):
        for block in range(3):
            layers.append(ResidualBlock(width, outputs, stride if block == 0 else 1))
            width = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def study_cnn(depth=3, width=1):
    """A network of ``depth`` layers like the paper's CNN3 (depth 3) with ``width`` times the channels."""
    few, many = 16 * width, 32 * width
    convolutions = [nn.Conv2d(1, few, 5, stride=2, padding=2), nn.ReLU()]
    for _ in range(depth - 3):
        convolutions += [nn.Conv2d(few, few, 3, padding=1), nn.ReLU()]
    features = few * 14 * 14
    if depth > 2:
        convolutions += [nn.Conv2d(few, many, 4, stride=2, padding=1), nn.ReLU()]
        features = many * 7 * 7
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(features, 10))


def pull_back(layer, rows, shape):
    """Linear functions ``n x r x ...`` of a layer's output as functions ``n x r x shape`` of its input."""
    count, functions = rows.shape[:2]
    if isinstance(layer, nn.Linear):
        return (rows.flatten(2) @ layer.weight).view(count, functions, *shape)
    if isinstance(layer, nn.Flatten):
        return rows.view(count, functions, *shape)
    if not isinstance(layer, nn.Conv2d):
        raise TypeError(f"no rule for {layer}")
    out, kernel, stride, pad = rows.shape[3:], layer.kernel_size, layer.stride, layer.padding
    rest = [n - ((m - 1) * s - 2 * p + k) for n, m, k, s, p in zip(shape[1:], out, kernel, stride, pad)]
    flat = F.conv_transpose2d(rows.flatten(0, 1), layer.weight, None, stride, pad, output_padding=rest)
    return flat.view(count, functions, *shape)
