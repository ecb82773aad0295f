"""What limits an adversary without running one: bits, frame sizes, and how much the edge half stretches or drops.

None of these is a privacy number. Bits bound the information of a deterministic wire but are vacuous for most
reconstructions; a small Lipschitz constant protects nothing by itself; the null-space bound rests on assumptions
that are named beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.errors import AttackError
from toolkit.wire import WireFormat, write_frame

Values = npt.NDArray[np.float64]
Network = Callable[[Tensor], Tensor]
NO_MODEL = "0" * 64  # a hash has one length, so that whose it is does not matter here
ASSUMPTIONS = (
    "pictures are Gaussian at the reduced resolution; the float edge half before its quantizer; its mean Gram"
    " matrix over the pictures given; nothing but the codes is known"
)


def size_entropy_bits(sizes: Sequence[int]) -> float:
    """Bits a frame that its length alone can tell: the entropy of the observed lengths; 0 for fixed-length frames.

    Raises:
        AttackError: no frames.
    """
    if not len(sizes):
        raise AttackError("no frame sizes were given")
    counts = np.unique(np.asarray(sizes), return_counts=True)[1] / len(sizes)
    return float((counts * np.log2(1 / counts)).sum())


def frame_lengths(codes: npt.NDArray[np.int8], fmt: WireFormat, compress: Literal["none", "zstd"]) -> list[int]:
    """Bytes of the frame of each picture's codes ``(N, C, h, w)``."""
    return [len(write_frame(np.asarray(one), fmt, NO_MODEL, 0, compress)) for one in codes]


def largest_stretch(network: Network, pictures: Tensor, iterations: int = 30, seed: int = 0) -> Values:
    """Local Lipschitz constants (L2): the Jacobian's largest singular value at each picture, by power iteration.

    Only products with the Jacobian and its transpose are formed. From below: more iterations can only raise it.

    Args:
        network: differentiable, ``(N, 3, H, W)`` to features; pictures of a batch must not influence one another.
        pictures: where.
        iterations: of the power method.
        seed: of the start.
    """
    random = torch.Generator().manual_seed(seed)
    direction = _unit(torch.randn(pictures.shape, generator=random))
    size = torch.zeros(len(pictures))
    for _ in range(iterations):
        image = torch.func.jvp(network, (pictures,), (direction,))[1]
        size = image.flatten(1).norm(dim=1)
        direction = _unit(_pull_back(network, pictures, image))
    return size.double().numpy()


def singular_values(network: Network, picture: Tensor, rank: int, seed: int = 0, rounds: int = 4) -> Values:
    """The ``rank`` largest singular values of the Jacobian at one picture ``(1, 3, H, W)``, descending.

    Randomized subspace iteration (Halko, Martinsson, Tropp 2011) with Jacobian-vector products alone.

    Raises:
        AttackError: more values than the picture has numbers.
    """
    if not 0 < rank <= picture.numel():
        raise AttackError(f"a picture of {picture.numel()} numbers has no {rank} singular values")
    random = torch.Generator().manual_seed(seed)
    width = min(picture.numel(), rank + 8)
    basis = torch.linalg.qr(torch.randn(picture.numel(), width, generator=random))[0]
    for _ in range(rounds):
        images = [torch.func.jvp(network, (picture,), (v.view_as(picture),))[1] for v in basis.T]
        basis = torch.linalg.qr(torch.stack([_pull_back(network, picture, u).flatten() for u in images], 1))[0]
    images = [torch.func.jvp(network, (picture,), (v.view_as(picture),))[1].flatten() for v in basis.T]
    return torch.linalg.svdvals(torch.stack(images, 1))[:rank].double().numpy()


@dataclass(frozen=True)
class NullSpaceBound:
    """A lower bound of any adversary's expected MSE, under ``assumptions``.

    Attributes:
        mse: mean squared error a number of the reduced picture, on pictures in [0, 1]; 0 where nothing is dropped.
        dropped: directions of the reduced picture that the edge half does not see.
        directions: all of them.
        variance: mean variance a number, what the mean picture leaves.
        assumptions: under which it holds.
    """

    mse: float
    dropped: int
    directions: int
    variance: float
    assumptions: str = ASSUMPTIONS


def null_space_bound(
    network: Network,
    pictures: Tensor,
    side: int,
    *,
    gram_pictures: int = 16,
    tolerance: float = 1e-4,
    chunk: int = 32,
) -> NullSpaceBound:
    """``(1/d) Tr((U' S U)^-1)``, U the null space of the Jacobian's mean Gram matrix, S the prior's precision.

    After Hwang, Li, Maeng, "Spectrum-Aware Bounds on Invertibility" (2026), sections 3 to 6, for a noise-free
    encoder: what lies in directions that it drops can only be guessed from the prior. The Gram matrix of a full
    picture cannot be formed, so pictures are reduced to ``side`` and enlarged again before the network.

    Args:
        network: differentiable edge half, ``(N, 3, H, W)`` in [0, 1] to features.
        pictures: of the attacker's own, ``(N, 3, H, W)``; the prior is theirs.
        gram_pictures: of these, so many (evenly) make the mean Gram matrix.
        side: of the reduced pictures; ``d = 3 * side^2``.
        tolerance: eigenvalues below this share of the largest count as dropped (1e-4 in the paper, where 1e-2
            violated the bound).
        chunk: directions a pass.

    Raises:
        AttackError: fewer pictures than two.
    """
    if len(pictures) < 2:
        raise AttackError("the prior needs at least two pictures")
    size = (int(pictures.shape[-2]), int(pictures.shape[-1]))
    small = F.adaptive_avg_pool2d(pictures, side)
    count = 3 * side * side
    gram = torch.zeros(count, count, dtype=torch.float64)
    chosen = small[torch.linspace(0, len(small) - 1, min(gram_pictures, len(small))).round().long()]
    for picture in chosen:
        columns = _columns(network, picture[None], size, count, chunk)
        gram += (columns @ columns.T).double()
    values, vectors = torch.linalg.eigh(gram / len(chosen))
    null = vectors[:, values <= tolerance * values[-1].clamp_min(1e-30)]
    flat = small.flatten(1).double()
    centred = flat - flat.mean(0)
    covariance = centred.T @ centred / (len(flat) - 1)
    variance = float(covariance.diagonal().mean())
    covariance += 1e-6 * max(variance, 1e-12) * torch.eye(count, dtype=torch.float64)
    if not null.shape[1]:
        return NullSpaceBound(0.0, 0, count, variance)
    inner = null.T @ torch.linalg.inv(covariance) @ null
    return NullSpaceBound(float(torch.linalg.inv(inner).trace()) / count, int(null.shape[1]), count, variance)


def _columns(network: Network, small: Tensor, size: tuple[int, int], count: int, chunk: int) -> Tensor:
    """The Jacobian's columns ``(d, features)`` at one reduced picture."""

    def through(x: Tensor) -> Tensor:
        return network(F.interpolate(x, size, mode="bilinear", align_corners=False))

    found = []
    for start in range(0, count, chunk):
        directions = torch.eye(count)[start : start + chunk].view(-1, *small.shape[1:])
        many = small.expand(len(directions), -1, -1, -1).contiguous()
        found.append(torch.func.jvp(through, (many,), (directions,))[1].flatten(1).detach())
    return torch.cat(found)


def _pull_back(network: Network, pictures: Tensor, image: Tensor) -> Tensor:
    back = torch.func.vjp(network, pictures)[1]
    found: Tensor = back(image)[0]
    return found


def _unit(x: Tensor) -> Tensor:
    return x / x.flatten(1).norm(dim=1).clamp_min(1e-30).view(-1, *[1] * (x.ndim - 1))
