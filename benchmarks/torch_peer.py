"""Bi-Real ResNet-20 and the filter of two moving averages in PyTorch, to compare speeds with.

The same network as ``larq_filter.models.birealnet20`` layer by layer, and the same rule; nothing
but benchmarks/benchmark.py needs it, and no other file imports torch.
"""

import torch
import torch.nn.functional as F
from torch import nn

STAGES, CONVOLUTIONS = 3, 6


class ApproxSign(torch.autograd.Function):
    """``sign(x)`` with sign(0) = 1; its gradient is ``2 - 2|x|`` inside [-1, 1], 0 outside."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (2 - 2 * x.abs()).clamp_min(0)


class Block(nn.Module):
    """``PReLU(shortcut(x) + BN(conv(sign(x), w)))``, the shortcut without parameters."""

    def __init__(self, inputs: int, filters: int, strides: int):
        super().__init__()
        signs = torch.where(torch.randn(filters, inputs, 3, 3) < 0, -1.0, 1.0)
        self.kernel = nn.Parameter(signs)
        self.norm = nn.BatchNorm2d(filters, momentum=0.1)  # Keras: 0.9
        self.prelu = nn.PReLU(filters, init=0.25)
        self.strides, self.missing = strides, filters - inputs

    def forward(self, x):
        shortcut, signs = x, ApproxSign.apply(x)
        if self.strides > 1:
            shortcut = F.avg_pool2d(x, self.strides)
            before = self.missing // 2
            shortcut = F.pad(shortcut, (0, 0, 0, 0, before, self.missing - before))
            signs = F.pad(signs, (0, 1, 0, 1))  # as Keras pads even sizes: below and right only
        y = F.conv2d(signs, self.kernel, stride=self.strides, padding=int(self.strides == 1))
        return self.prelu(shortcut + self.norm(y))


class BiRealNet20(nn.Module):
    """The network up to the logits."""

    def __init__(self, num_classes: int = 10, width: int = 16):
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width, momentum=0.1)
        self.prelu = nn.PReLU(width, init=0.25)
        blocks, channels = [], width
        for stage in range(STAGES):
            for convolution in range(CONVOLUTIONS):
                strides = 2 if stage and not convolution else 1
                blocks.append(Block(channels, width * 2**stage, strides))
                channels = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.last_norm = nn.BatchNorm1d(channels, momentum=0.1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images):
        x = self.prelu(self.norm(self.first(images)))
        x = self.blocks(x).mean((2, 3))
        return self.classifier(self.last_norm(x))

    def kernels(self) -> list:
        return [block.kernel for block in self.blocks]

    @torch.no_grad()
    def copy_weights(self, model) -> None:
        """Takes the weights of the Keras network, binary kernels as their signs."""
        by_class = {}
        for layer in model.layers:
            by_class.setdefault(type(layer).__name__, []).append(layer.get_weights())
        (first,) = by_class["Conv2D"]
        self.first.weight.copy_(_kernel(first[0]))
        for kernel, (own,) in zip(self.kernels(), by_class["QuantConv2D"], strict=True):
            kernel.copy_(torch.where(_kernel(own) >= 0, 1.0, -1.0))
        norms = [self.norm, *(block.norm for block in self.blocks), self.last_norm]
        for norm, own in zip(norms, by_class["BatchNormalization"], strict=True):
            parts = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            for part, value in zip(parts, own, strict=True):
                part.copy_(torch.from_numpy(value))
        prelus = [self.prelu, *(block.prelu for block in self.blocks)]
        for prelu, (slope,) in zip(prelus, by_class["PReLU"], strict=True):
            prelu.weight.copy_(torch.from_numpy(slope.ravel()))
        ((weight, bias),) = by_class["Dense"]
        self.classifier.weight.copy_(torch.from_numpy(weight.T))
        self.classifier.bias.copy_(torch.from_numpy(bias))


def _kernel(array):
    """A Keras kernel (height, width, inputs, outputs) as torch has it."""
    return torch.from_numpy(array.transpose(3, 2, 0, 1).copy())


class TwoEMAs:
    """``m += gamma (g - m);  h += alpha (m - h);  w = -w where w h > 0`` for each kernel."""

    def __init__(self, kernels, alpha: float = 1e-2, gamma: float = 0.1):
        self.kernels, self.alpha, self.gamma = kernels, alpha, gamma
        self.signal = [torch.zeros_like(kernel) for kernel in kernels]
        self.memory = [torch.zeros_like(kernel) for kernel in kernels]

    @torch.no_grad()
    def step(self):
        for w, m, h in zip(self.kernels, self.signal, self.memory, strict=True):
            m.lerp_(w.grad, self.gamma)
            h.lerp_(m, self.alpha)
            w.copy_(torch.where(w * h > 0, -w, w))


def training_step(model, images, labels, channels_last: bool, threads: int):
    """One training step of ``model``'s weights in PyTorch, on one constant batch.

    Args:
        model: the Keras network that the weights come from.
        images: NumPy array (batch, height, width, 3).
        labels: NumPy array of integers (batch,).
        channels_last: memory format of images and network; False is torch's default.
        threads: PyTorch computes with.

    Returns:
        A function without arguments that returns the loss.
    """
    torch.set_num_threads(threads)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = BiRealNet20(model.output_shape[-1], model.layers[1].filters)
    network.copy_weights(model)
    network = network.to(memory_format=layout).train()
    images = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(memory_format=layout)
    labels = torch.from_numpy(labels).long()
    binary = {id(kernel) for kernel in network.kernels()}
    real = [each for each in network.parameters() if id(each) not in binary]
    adam, filtered = torch.optim.Adam(real, lr=1e-2, eps=1e-7), TwoEMAs(network.kernels())

    def step():
        network.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        adam.step()
        filtered.step()
        return loss.item()

    return step
