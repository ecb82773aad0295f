"""Make an exported graph plain and repeatable: names, versions, shared biases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import onnx

from toolkit.errors import ModelError
from toolkit.export.settings import IR_VERSION, OPSET

PRODUCER = "patrol-edge"


def tidy(model: onnx.ModelProto, modules: Iterable[str] = ()) -> onnx.ModelProto:
    """A copy without exporter marks, in which nodes carry the names of the modules they come from.

    The exporter shares equal initializers through Identity nodes, which quantizers and TensorRT 8's parser
    do not look through: they become initializers of their own. Node names become ``<module>/<OpType>``,
    e.g. ``backbone.layer1.0.conv1/Conv``; initializers and tensors follow their node.

    Args:
        model: as ``torch.onnx.export(dynamo=False)`` wrote it.
        modules: full names of the network's modules.

    Raises:
        ModelError: the exporter wrote another opset than was asked for.
    """
    check_opset(model)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _inline_identities(result.graph)
    _rename(result.graph, tuple(modules))
    plain(result)
    return result


def plain(model: onnx.ModelProto) -> None:
    """Remove what differs between exporter versions and runs, in place."""
    used = {node.domain for node in model.graph.node} | {""}
    imports = [entry for entry in model.opset_import if (entry.domain or "") in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.doc_string = PRODUCER, "", ""
    del model.metadata_props[:]
    model.graph.name = PRODUCER
    for node in model.graph.node:
        node.doc_string = ""
        if "metadata_props" in node.DESCRIPTOR.fields_by_name:
            del node.metadata_props[:]


def check_opset(model: onnx.ModelProto) -> None:
    """Refuse a model of another opset than the one that was asked for."""
    found = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if found != [OPSET]:
        raise ModelError(f"the exporter wrote opset {found}, asked for {OPSET}; use the pinned torch version")


def to_bytes(model: onnx.ModelProto) -> bytes:
    """The model's bytes, the same for the same model."""
    return model.SerializeToString(deterministic=True)


def _inline_identities(graph: onnx.GraphProto) -> None:
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        source = initializers.get(node.input[0]) if node.op_type == "Identity" else None
        if source is None:
            kept.append(node)
            continue
        copy = onnx.TensorProto()
        copy.CopyFrom(source)
        copy.name = node.output[0]
        initializers[copy.name] = copy
        graph.initializer.append(copy)
    del graph.node[:]
    graph.node.extend(kept)
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    used = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(used)


def module_of(scope: str, modules: tuple[str, ...]) -> str:
    """The module that an exporter's node name stands for.

    ``/layer2/layer2.0/conv1/Conv`` with a module ``backbone.layer2.0.conv1`` gives that name. The exporter
    leaves out modules whose ``forward`` was not called (a backbone run block by block), so the module with the
    fewest names in front is meant; a scope that fits no module, or several, is returned with dots.
    """
    parts: list[str] = []
    for part in scope.strip("/").split("/")[:-1]:
        if parts and part.startswith(parts[-1] + "."):
            parts.pop()
        parts.append(part)
    name = ".".join(parts)
    fitting = [module for module in modules if name and (module == name or module.endswith("." + name))]
    depth = min((module.count(".") for module in fitting), default=0)
    nearest = [module for module in fitting if module.count(".") == depth]
    return nearest[0] if len(nearest) == 1 else name


def _rename(graph: onnx.GraphProto, modules: tuple[str, ...]) -> None:
    fixed = {value.name for value in (*graph.input, *graph.output)}
    initializers = {tensor.name for tensor in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    new: dict[str, str] = {}
    taken: set[str] = set(fixed)
    for node in graph.node:
        node.name = _free(f"{module_of(node.name, modules)}/{node.op_type}".lstrip("/"), taken)
        for position, name in enumerate(node.input):
            if name in initializers and readers[name] == 1 and name not in new:
                new[name] = _free(_initializer_name(node, position, name), taken)
        for position, name in enumerate(node.output):
            if name not in fixed:
                new[name] = _free(f"{node.name}:{position}", taken)
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    del graph.value_info[:]


def _initializer_name(node: onnx.NodeProto, position: int, name: str) -> str:
    module = node.name.rsplit("/", 1)[0]
    if node.op_type in ("Conv", "Gemm", "ConvTranspose") and position in (1, 2):
        return f"{module}.{'weight' if position == 1 else 'bias'}"
    return name if not name.startswith("onnx::") else f"{node.name}.{position}"


def _free(name: str, taken: set[str]) -> str:
    candidate, number = name, 1
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate)
    return candidate
