"""The networks and their training step as a PyTorch project would write them: the peers of `bench.train`."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from flax.traverse_util import flatten_dict
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

from deblur_jax.models.multiscale import MultiScaleConfig
from deblur_jax.models.nano import NanoConfig


def _conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2)


class _Residual(nn.Module):
    def __init__(self, width: int, size: int):
        super().__init__()
        self.conv1, self.conv2 = _conv(width, width, size), _conv(width, width, size)

    def forward(self, x):
        return x + self.conv2(F.relu(self.conv1(x)))


class MultiScale(nn.Module):
    """As `models.multiscale`, of configs that pass pictures, have a global residual and no Sobel input."""

    def __init__(self, config: MultiScaleConfig):
        super().__init__()
        assert config.passes == "picture"
        assert config.global_residual
        assert not config.sobel_input
        self.config = c = config
        for s in range(c.scales):
            width = c.widths[s]
            # All but the coarsest see what came up from the scale below, too.
            self.add_module(f"scale{s}_head", _conv(3 if s == c.scales - 1 else 6, width, c.kernel_size))
            for b in range(c.blocks[s]):
                self.add_module(f"scale{s}_block{b}", _Residual(width, c.kernel_size))
            self.add_module(f"scale{s}_tail", _conv(width, 3, c.kernel_size))
            if s > 0:
                self.add_module(f"scale{s}_up", _conv(3, 12, 5))

    def forward(self, blurred):
        c, estimates, passed = self.config, [], None
        for s in reversed(range(c.scales)):
            picture = F.avg_pool2d(blurred, 2**s) if s else blurred
            x = picture - 0.5
            x = self.get_submodule(f"scale{s}_head")(x if passed is None else torch.cat([x, passed.float()], 1))
            for b in range(c.blocks[s]):
                x = self.get_submodule(f"scale{s}_block{b}")(x)
            estimate = self.get_submodule(f"scale{s}_tail")(x).float() + picture
            estimates.insert(0, estimate)
            if s > 0:
                passed = F.pixel_shuffle(self.get_submodule(f"scale{s}_up")(estimate - 0.5), 2)
        return estimates


class _RepConv(nn.Module):
    """As `models.layers.RepConv`: the branches are summed to one kernel before the picture is touched."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, 3, 3))
        self.point = nn.Parameter(torch.zeros(outputs, inputs, 1, 1))
        self.expand = nn.Parameter(torch.zeros(2 * inputs, inputs, 1, 1))
        self.squeeze = nn.Parameter(torch.zeros(outputs, 2 * inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):
            kernel = self.weight + torch.einsum("mc,omkl->ockl", self.expand[:, :, 0, 0], self.squeeze)
            centre = self.point
            if centre.shape[0] == centre.shape[1]:
                centre = centre + torch.eye(len(centre), device=centre.device)[:, :, None, None]
            kernel = kernel + F.pad(centre, (1, 1, 1, 1))
        return F.conv2d(x, kernel, self.bias, padding=1)


class Nano(nn.Module):
    """As `models.nano`, with branches or merged."""

    def __init__(self, config: NanoConfig):
        super().__init__()
        self.config = c = config
        packed, kind = 3 * c.unshuffle**2, _RepConv if config.branches else _conv
        self.head, self.tail = kind(packed, c.widths[0]), _conv(c.widths[0], packed)
        for level, (down, up) in enumerate(zip(c.down_blocks, c.up_blocks, strict=True)):
            width, below = c.widths[level : level + 2]
            self.add_module(f"down{level}_out", _conv(width, below, stride=2))
            self.add_module(f"up{level}_in", _conv(below, 4 * width, 1))
            for name, blocks in ((f"down{level}", down), (f"up{level}", up)):
                for b in range(blocks):
                    self.add_module(f"{name}_block{b}", kind(width, width))
        for b in range(c.middle_blocks):
            self.add_module(f"middle_block{b}", kind(c.widths[-1], c.widths[-1]))

    def forward(self, blurred):
        c, skips = self.config, []
        x = self.head(F.pixel_unshuffle(blurred - 0.5, c.unshuffle))
        for level, blocks in enumerate(c.down_blocks):
            x = self._stack(f"down{level}", blocks, x)
            skips.append(F.relu(x))
            x = self.get_submodule(f"down{level}_out")(skips[level])
        x = self._stack("middle", c.middle_blocks, x)
        for level, blocks in reversed(list(enumerate(c.up_blocks))):
            x = self.get_submodule(f"up{level}_in")(F.relu(x))
            x = self._stack(f"up{level}", blocks, F.pixel_shuffle(x, 2) + skips[level])
        return [blurred + F.pixel_shuffle(self.tail(x).float(), c.unshuffle)]

    def _stack(self, name, blocks, x):
        for b in range(blocks):
            x = self.get_submodule(f"{name}_block{b}")(F.relu(x))
        return x


WRITTEN = MultiScaleConfig | NanoConfig  # the networks that are written here


def build(config: MultiScaleConfig | NanoConfig, params: Mapping, device: str) -> Any:
    """The network of a config with our parameters, in channels_last."""
    network: Any
    if isinstance(config, MultiScaleConfig):
        network, packed = MultiScale(config), 1
        shuffled = {f"scale{s}_up": 2 for s in range(1, config.scales)}
    else:
        network, packed = Nano(config), config.unshuffle
        shuffled = {"tail": packed, **{f"up{level}_in": 2 for level in range(len(config.up_blocks))}}
    state = {}
    for path, value in flatten_dict(dict(params), sep="/").items():
        layer, kind = path.rsplit("/", 1)
        value = np.asarray(value, np.float32)
        if value.ndim == 4:
            value = value.transpose(3, 2, 0, 1)
        # A pixel shuffle's channels are (row, column, channel) with us, (channel, row, column) with PyTorch.
        if factor := shuffled.get(layer):
            value = np.moveaxis(value.reshape(factor, factor, -1, *value.shape[1:]), 2, 0).reshape(value.shape)
        if layer == "head" and kind in ("kernel", "point", "expand"):
            # A square head has an identity branch: ours passes our order of channels, theirs would pass theirs.
            square = kind == "point" and packed**2 * 3 == len(value)
            same = np.eye(len(value))[:, :, None, None] if square else 0
            parts = (value + same).reshape(len(value), packed, packed, -1, *value.shape[2:])
            value = (np.moveaxis(parts, 3, 1).reshape(value.shape) - same).astype(np.float32)
        name = f"{layer.replace('/', '.')}.{'weight' if kind == 'kernel' else kind}"
        state[name] = torch.from_numpy(np.array(value))
    network.load_state_dict(state)  # every name and shape, or it raises
    return network.to(device, memory_format=torch.channels_last)


def objective(network: Callable, blur: torch.Tensor, sharp: torch.Tensor, ssim_weight: float) -> torch.Tensor:
    """As `losses.objective`: L1 and SSIM over all scales."""
    estimates = network(blur)
    total: Any = 0.0
    for s, estimate in enumerate(estimates):
        target = F.avg_pool2d(sharp, 2**s) if s else sharp
        with torch.autocast(blur.device.type, enabled=False):
            total = total + F.l1_loss(estimate, target) + ssim_weight * (1.0 - _ssim(estimate, target))
    return total / len(estimates)


def _ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The window's means as two banded matrix products, as ours."""
    rows, columns = (_band(size, a.device) for size in a.shape[2:])

    def means(z):
        return rows @ z @ columns.T

    mean_a, mean_b = means(a), means(b)
    # The exact variances are not negative; rounded ones may be.
    var_a, var_b = (means(a * a) - mean_a**2).clamp_min(0), (means(b * b) - mean_b**2).clamp_min(0)
    covariance = means(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return (top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean()


def _band(size: int, device: torch.device) -> torch.Tensor:
    taps = [math.exp(-0.5 * (offset / 1.5) ** 2) for offset in range(-5, 6)]
    distance = torch.arange(size, device=device)[None] - torch.arange(size - 10, device=device)[:, None]
    inside = (distance >= 0) & (distance <= 10)
    weights = torch.exp(-0.5 * ((distance - 5) / 1.5) ** 2) / sum(taps)
    return torch.where(inside, weights, 0.0)


class Step:
    """Forward, backward, clipping, AdamW and the mean of the weights, of uint8 pictures `(b h w 3)`."""

    def __init__(self, network: nn.Module, batch: Mapping[str, np.ndarray], config: Any, *, half: bool, compiled: bool):
        self._network, self._half, self._config = network, half, config
        self._device = next(network.parameters()).device
        self._objective = torch.compile(objective) if compiled else objective
        # NHWC in memory seen as NCHW is channels_last.
        self._batch = [torch.from_numpy(batch[n]).to(self._device).permute(0, 3, 1, 2) for n in ("blur", "sharp")]
        self._parameters = list(network.parameters())
        self._mean = [p.detach().clone() for p in self._parameters]
        o = config.optim
        groups = [
            {"params": [p for p in self._parameters if p.ndim > 1], "weight_decay": o.weight_decay},
            {"params": [p for p in self._parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._optimiser = torch.optim.AdamW(groups, lr=o.lr, betas=tuple(o.betas), fused=True)

    def __call__(self) -> None:
        blur, sharp = (x.float() / 255.0 for x in self._batch)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            loss = self._objective(self._network, blur, sharp, self._config.loss.ssim)
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, self._config.optim.clip)
        self._optimiser.step()
        torch._foreach_lerp_(self._mean, self._parameters, 1.0 - self._config.ema)  # pyright: ignore
        if self._device.type == "cuda":
            torch.cuda.synchronize()
