"""Several processes train one network (torchrun): each takes a share of every batch's identities.

Gradients of network, masks and decoders are averaged, weighted by the share, so that all processes hold the same
weights after every step. Batches and their augmentation are those of one process; what differs is batch
normalization and the mining of triplets, which see one share at a time, so the result is the same within noise.
Rank 0 writes the states and the log; the folder must be one that all processes see.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from toolkit.device import started_together
from toolkit.errors import SettingsError
from toolkit.patrol.data import Batch

logger = logging.getLogger(__name__)
T = TypeVar("T")
PATIENCE = datetime.timedelta(days=1)
_STORES: list[dist.Store] = []


def join(backend: str | None = None) -> None:
    """Join the group that torchrun made; nothing when this process was started alone or has joined already.

    A process may wait a day for the others, which read the data meanwhile; one that ended is noticed at once.

    Args:
        backend: ``gloo`` or ``nccl``; None takes nccl where there is a GPU.
    """
    if dist.is_initialized() or not started_together():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    kind = backend or ("nccl" if torch.cuda.is_available() else "gloo")
    store, number, count = next(dist.rendezvous("env://"))
    _STORES[:] = [store]
    group = dist.PrefixStore("training", store)
    dist.init_process_group(kind, store=group, rank=number, world_size=count, timeout=PATIENCE)
    logger.debug("process %d of %d", rank() + 1, size())


def leave() -> None:
    """End the group; from now on this process is alone."""
    if dist.is_initialized():
        dist.destroy_process_group()


def first_to_fail() -> bool:
    """Whether no other process of the group has failed before this one, so that one message is enough."""
    if not _STORES:
        return True
    mine = os.environ.get("RANK", "0")
    try:
        return bool(_STORES[0].compare_set("patrol-edge/failed", "", mine).decode() == mine)
    except (RuntimeError, ValueError):  # the store went with the process that held it
        return mine == "0"


def from_first(value: T) -> T:
    """Rank 0's value, in every process; alone the value itself."""
    if size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """Rank 0 goes through before the others begin: what it makes, they find."""
    if rank():
        barrier()
        yield
    else:
        yield
        barrier()


def size() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def barrier() -> None:
    """Wait for all processes."""
    if size() > 1:
        dist.barrier()


def share_of(batch: Batch) -> Batch:
    """The rows of this process: every size-th identity of the batch.

    Raises:
        SettingsError: fewer than two identities a process, which leaves triplets without negatives.
    """
    if size() == 1:
        return batch
    identities = batch.labels.unique()
    if len(identities) < 2 * size():
        raise SettingsError(
            f"a batch of {len(identities)} identities is too small for {size()} processes; set train.identities "
            f"to at least {2 * size()} or start fewer"
        )
    mine = torch.isin(batch.labels, identities[rank() :: size()])
    rows = mine.nonzero().flatten()
    weight = len(rows) * size() / len(batch.labels)
    return Batch(
        batch.pictures[rows], batch.labels[rows], batch.indices[rows.numpy()], batch.epoch, batch.step, weight
    )


def average_gradients(parameters: Iterable[nn.Parameter], weight: float) -> None:
    """Mean over all processes of the gradients, each times its weight; one message for all of them."""
    if size() == 1:
        return
    average([parameter.grad for parameter in parameters if parameter.grad is not None], weight)


def average(tensors: Sequence[Tensor], weight: float) -> None:
    """Mean over all processes, each times its weight, written into the tensors; one message for all of them."""
    if size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors]) * (weight / size())
    dist.all_reduce(flat)
    _write_back(flat, tensors)


@torch.no_grad()
def average_buffers(module: nn.Module) -> None:
    """Mean over all processes of the running statistics."""
    buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    if size() == 1 or not buffers:
        return
    flat = torch.cat([buffer.flatten() for buffer in buffers]) / size()
    dist.all_reduce(flat)
    _write_back(flat, buffers)


def everywhere(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in every process."""
    if size() == 1:
        return flag
    value = torch.tensor(float(flag), device=device)
    dist.all_reduce(value, dist.ReduceOp.MIN)
    return bool(value > 0)


@torch.no_grad()
def _write_back(flat: Tensor, targets: Sequence[Tensor]) -> None:
    start = 0
    for target in targets:
        target.copy_(flat[start : start + target.numel()].view_as(target))
        start += target.numel()
