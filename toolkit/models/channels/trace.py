"""Runs a network once and follows every channel through every operator.

Each tensor carries, beside its values, a tensor of labels (which channel an element belongs to) and one of levels
(whether the element is the same for every input, and at every position). Operators that only move data are applied
to the labels themselves, so concatenation, splitting, shuffling and flattening need no rules of their own. An
operator that is not known freezes the channels it reads: they are never removed, and the reason has its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from toolkit.models.channels.labels import EVEN, VARYING, Labels, Numbers, along, level, line_of, nothing, spread
from toolkit.models.channels.records import Known, Trace, Use

CUT = "@cut"
SIZED = (nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)
"""Modules that compare what arrives with a size that they were made with."""


class _Functions(TorchFunctionMode):
    """Remembers that a split came from ``chunk``, which the operator below no longer says."""

    def __init__(self) -> None:
        super().__init__()
        self.name = ""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        previous, self.name = self.name, getattr(func, "__name__", "")
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.name = previous


class Tracer(TorchDispatchMode):
    """Sees every operator and hands it to its rule."""

    def __init__(self, net: nn.Module, labels: Labels, seen: Mapping[str, Known]) -> None:
        from toolkit.models.channels.call import Call
        from toolkit.models.channels.rules import apply_rule

        super().__init__()
        self._call, self._apply = Call, apply_rule
        self.net = net
        self._seen = seen
        self.trace = Trace(labels)
        self.functions = _Functions()
        self.stack: list[str] = [""]
        self.in_edge = True
        self.batch = 1
        self._paths = {id(module): path for path, module in net.named_modules()}
        self._names = {id(t): n for n, t in [*net.named_parameters(), *net.named_buffers()]}

    @property
    def module(self) -> str:
        """Path of the innermost module that is running."""
        return self.stack[-1]

    def where(self, what: str) -> str:
        """``what``, with the module it happened in: the text of a reason."""
        return f"{what} in {self.module}" if self.module else what

    def look(self, tensor: Tensor) -> Known:
        """What is known of a tensor; parameters get their labels at first sight."""
        found = self.trace.known.get(id(tensor))
        if found is not None:
            return found
        name = self._names.get(id(tensor), "")
        planes: tuple[Tensor, ...] = ()
        if name in self._seen:
            planes = self._seen[name].labels
            self.trace.labels.count += sum(len(line.vector) for line in map(line_of, planes) if line is not None)
        elif name:
            sized = [dim for dim, size in enumerate(tensor.shape) if size > 1]
            dims = sized[:2] if tensor.dim() > 2 and tensor.shape[0] > 1 else sized
            planes = tuple(spread(self.trace.labels.new(tensor.shape[d]), tensor.shape, d) for d in dims)
        known = Known(tensor, planes or (nothing(tensor.shape),), level(EVEN, tensor.shape), name)
        if name:
            self.trace.parameters[name] = known
            if self.in_edge:
                self.trace.edge_parameters.add(name)
        self.trace.known[id(tensor)] = known
        return known

    def parameter_labels(self, known: Known, dim: int) -> Tensor:
        """Labels along dimension ``dim`` of a parameter; zeros where the dimension has size 1."""
        shape = known.tensor.shape
        for plane in known.labels:
            line = line_of(plane)
            if line is not None and line.dim == dim and shape[dim] > 1:
                return line.vector
            if line is None and plane.stride(dim) != 0 and shape[dim] > 1:
                return along(plane, dim)
        return torch.zeros(shape[dim], dtype=torch.int64)

    def learn(self, tensor: Tensor, labels: Sequence[Tensor], const: Tensor, origin: str = "") -> None:
        """Note what is known of an operator's output."""
        self.trace.known[id(tensor)] = Known(tensor, tuple(labels), const, origin)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        inputs = _arguments(args, given)
        known = [self.look(t) for t in inputs]
        out = func(*args, **given)
        outputs = list(flat_tensors(out))
        kind = self._apply(self._call(self, func, args, given, known, outputs))
        use = Use(kind, self.module, tuple(id(t) for t in outputs))
        for tensor in inputs:
            self.trace.uses.setdefault(id(tensor), []).append(use)
        for tensor in outputs:
            parents = self.trace.parents.setdefault(id(tensor), set())
            parents.update(id(t) for t in inputs if t is not tensor)
        return out

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow which module is running, what it was given and what it gave."""
        with ExitStack() as stack:
            stack.callback(register_module_forward_pre_hook(self._enter).remove)
            stack.callback(register_module_forward_hook(self._leave, always_call=True).remove)
            stack.enter_context(self.functions)
            stack.enter_context(self)
            yield

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        path = self._paths.get(id(module), self.module)
        self.stack.append(path)
        if args and isinstance(args[0], Tensor):
            self.trace.module_inputs[path] = id(args[0])
        if isinstance(module, SIZED):
            for tensor in (value for value in args if isinstance(value, Tensor)):
                for plane in self.look(tensor).labels:
                    self.trace.labels.freeze(plane, self.where(f"{type(module).__name__} has fixed sizes,"))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        path = self.stack.pop()
        if isinstance(output, Tensor):
            self.trace.module_outputs[path] = self.look(output)
            self.trace.owners.setdefault(id(output), path)


def _arguments(args: Sequence[Any], given: Mapping[str, Any]) -> list[Tensor]:
    """Tensors among an operator's arguments, also in lists."""
    found: list[Tensor] = []
    for value in (*args, *given.values()):
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += [item for item in value if isinstance(item, Tensor)]
    return found


def flat_tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists, dictionaries and dataclasses, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from flat_tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from flat_tensors(item)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from flat_tensors(getattr(value, name))


def run_trace(net: nn.Module, example: Tensor, before: Trace | None = None) -> Trace:
    """Trace a network in evaluation mode, on the example's device and without gradients.

    A network with ``edge`` and ``heads`` (a ReidNet) is traced through both, so that the cut is marked and the
    neck and the training classifier are seen; any other through ``forward``. Modes are restored.

    Args:
        net: no masks attached.
        example: its input, for instance ``(1, 3, 128, 128)``.
        before: of the same network with other weights. The coupling is known from it, so that only constants are
            asked for, and the labels are the same.
    """
    modes = [(module, module.training) for module in net.modules()]
    tracer = Tracer(net.eval(), *((Labels(), {}) if before is None else (Numbers(), before.parameters)))
    tracer.batch = example.shape[0]
    try:
        with torch.no_grad(), tracer.watching():
            tracer.learn(example, [nothing(example.shape)],
                         level(VARYING, example.shape))  # fmt: skip
            outputs = _run(tracer, net, example)
    finally:
        for module, training in modes:
            module.training = training
    for tensor in outputs:
        for plane in tracer.look(tensor).labels:
            tracer.trace.labels.freeze(plane, "network output")
    tracer.trace.outputs = outputs
    return tracer.trace


def _run(tracer: Tracer, net: Any, example: Tensor) -> list[Tensor]:
    if not (hasattr(net, "edge") and hasattr(net, "heads")):
        return list(flat_tensors(net(example)))
    feature = net.edge(example)
    labels = tracer.look(feature).labels[0]
    tracer.trace.cut = along(labels, 1).numpy().copy()
    tracer.in_edge = False
    return list(flat_tensors(net.heads(feature)))
