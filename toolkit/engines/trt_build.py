"""One builder for TensorRT 8.5 to 11 and TensorRT-RTX."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.engines import trt_library
from toolkit.engines.base import TensorSpec
from toolkit.engines.cuda_driver import DriverBinding
from toolkit.engines.driver import require_device
from toolkit.engines.emulation import GreenContext, plan_emulation
from toolkit.engines.errors import EngineBuildError, ModelRefusedError
from toolkit.engines.settings import BuildSettings
from toolkit.engines.timing_cache import TimingCache
from toolkit.engines.trt_config import add_profile, configure, network_flags, typing_of
from toolkit.engines.trt_inspect import inspect_plan
from toolkit.variants import EngineKind, Form

logger = logging.getLogger(__name__)
WIRE = "wire"


@dataclass
class Plan:
    """What the builder made.

    Attributes:
        data: the serialized engine.
        version: of the library.
        typing: ``strong`` or ``weak``.
        wire_output: ``codes``, ``float``, or None when there is no output called wire.
        ignored: settings that this TensorRT does not have.
        warnings: of the builder.
        layers: what the engine runs, the values of the inspector's JSON; None when the library did not say.
        peak_mib: peak of TensorRT's own allocators while building, (host, GPU); None when it did not say.
        workspace_mb: TensorRT's limit of scratch memory.
        emulated: see :class:`toolkit.engines.emulation.Emulation`; None when it was built for the GPU as it is.
    """

    data: bytes
    version: str
    typing: str
    wire_output: str | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ignored: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    layers: dict[str, Any] | None = None
    peak_mib: tuple[int, int] | None = None
    workspace_mb: int | None = None
    emulated: dict[str, Any] | None = None


def build_plan(model: bytes, settings: BuildSettings) -> Plan:
    """Parse and build.

    Args:
        model: an ONNX file's bytes, with one dynamic dimension at most, the first one of an input.
        settings: ``settings.engine`` is ``tensorrt`` or ``tensorrt_rtx``.

    Raises:
        MissingExtraError: the library is not installed.
        NoDeviceError: ``tensorrt`` needs a GPU to build; ``tensorrt_rtx`` does not.
        EngineBuildError: the parser refuses the model, or the builder fails; says where and why.
    """
    if settings.emulate is not None:
        return _build_emulated(settings.emulate, model, settings)
    trt = trt_library.load(settings.engine)
    if settings.engine == "tensorrt":
        require_device("to build a TensorRT engine")
        if settings.workspace_mb is None:
            settings = settings.model_copy(update={"workspace_mb": fitting_workspace_mb()})
    if settings.wire_output == "auto":
        try:
            return _build(trt, model, settings, "codes")
        except ModelRefusedError:
            raise  # the output's type is not what the parser stumbled over
        except EngineBuildError as error:
            if settings.wire_step is None:
                raise
            logger.warning("INT8 wire output refused, building the float form: %s", error)
            return _build(trt, model, settings, "float")
    return _build(trt, model, settings, settings.wire_output)


def _build_emulated(name: str, model: bytes, settings: BuildSettings) -> Plan:
    """Build inside the partition, or the tactics are tuned for the whole GPU."""
    emulation = plan_emulation(name, require_device(f"to emulate {name}"))
    limit = emulation.workspace_mb
    changes = {
        "emulate": None,
        "workspace_mb": min(settings.workspace_mb or limit, limit),
        "max_batch": min(settings.max_batch, emulation.max_batch),
        "typical_batch": min(settings.typical_batch, emulation.max_batch),
    }
    logger.info("%s", emulation.label)
    with GreenContext(0, emulation.sms):
        plan = build_plan(model, settings.model_copy(update=changes))
    plan.emulated = emulation.to_dict()
    return plan


def fitting_workspace_mb(device: int = 0) -> int:
    """Half of the GPU's free memory, in MiB: TensorRT's own choice is all of it, which kills builds on a Jetson.

    Raises:
        NoDeviceError: no driver or GPU.
    """
    binding = DriverBinding(device)
    try:
        return max(binding.memory_info()[0] >> 21, 16)
    finally:
        binding.close()


def form_for(engine: EngineKind) -> Form:
    """The INT8 form that the installed library takes: ``a`` weakly typed, ``b`` strongly typed, else ``cpu``.

    Raises:
        MissingExtraError: the library is not installed.
    """
    if engine == "onnxruntime":
        return "cpu"
    flags = trt_library.load(engine).NetworkDefinitionCreationFlag
    return "b" if hasattr(flags, "STRONGLY_TYPED") else "a"


def _build(trt: ModuleType, model: bytes, settings: BuildSettings, wire_output: str) -> Plan:
    log = trt_library.new_log(trt)
    builder = trt.Builder(log.handle)
    ignored: list[str] = []
    typing = typing_of(trt, settings)
    network = builder.create_network(network_flags(trt, typing))
    parser = trt.OnnxParser(network, log.handle)
    if not parser.parse(model):
        raise ModelRefusedError(f"TensorRT {trt.__version__} refuses the model: {_parser_errors(parser, log)}")
    if wire_output == "codes" and typing == "weak":
        _ask_for_codes(trt, network)
    # TensorRT reads a constant's array when it builds, so it is held until then.
    held = _append_dequantize(trt, network, settings) if wire_output == "float" else None
    config = builder.create_builder_config()
    configure(trt, builder, network, config, settings, typing, ignored)
    add_profile(builder, network, config, settings)
    with TimingCache(settings.timing_cache) as timings:
        timings.load_into(config, ignored)
        serialized = builder.build_serialized_network(network, config)
        if serialized is None:
            raise EngineBuildError(f"TensorRT {trt.__version__} cannot build the engine: {_advice(log.reason())}")
        timings.store_from(config)
    del held
    inputs, outputs = _specs(network, settings)
    has_wire = any(spec.name == WIRE for spec in outputs)
    data = bytes(serialized)
    # TensorRT-RTX builds where no engine can be opened, and says in its log what an inspector would.
    layers = inspect_plan(trt, data, log) if settings.engine == "tensorrt" else log.layers
    return Plan(
        data,
        str(trt.__version__),
        typing,
        wire_output if has_wire else None,
        inputs,
        outputs,
        ignored,
        list(log.warnings),
        layers,
        log.peak_mib,
        settings.workspace_mb,
    )


def _parser_errors(parser: Any, log: Any) -> str:
    texts = []
    for index in range(min(parser.num_errors, 3)):
        error = parser.get_error(index)
        where = f"node {error.node()}"
        if hasattr(error, "node_name"):
            name, operator = error.node_name(), error.node_operator()
            where = f"node {name} ({operator})" if name else where
        texts.append(f"{where}: {error.desc().strip()}")
    return "; ".join(texts) or log.reason()


def _append_dequantize(trt: ModuleType, network: Any, settings: BuildSettings) -> NDArray[np.float32]:
    """Turn the INT8 output ``wire`` into floats (codes x step) of the same name; the host rounds.

    Returns the constant, which must outlive the build.
    """
    if settings.wire_step is None:
        raise EngineBuildError("the float form of the wire needs wire_step")
    for index in range(network.num_outputs):
        codes = network.get_output(index)
        if codes.name == WIRE:
            network.unmark_output(codes)
            codes.name = "wire.codes"
            step = np.array(settings.wire_step, dtype=np.float32)
            scale = network.add_constant(trt.Dims(), trt.Weights(step)).get_output(0)
            restored = _dequantize(trt, network, codes, scale).get_output(0)
            restored.name = WIRE
            network.mark_output(restored)
            return step
    raise EngineBuildError("the model has no output called wire; wire_output is for edge halves")


def _ask_for_codes(trt: ModuleType, network: Any) -> None:
    """A weakly typed network gives every output as floats unless it is told otherwise."""
    for index in range(network.num_outputs):
        codes = network.get_output(index)
        if codes.name == WIRE and codes.dtype != trt.DataType.INT8:
            codes.dtype = trt.DataType.INT8


def _dequantize(trt: ModuleType, network: Any, codes: Any, scale: Any) -> Any:
    try:
        return network.add_dequantize(codes, scale, trt.DataType.FLOAT)
    except TypeError:  # TensorRT 8 has no output type here
        return network.add_dequantize(codes, scale)


def _specs(network: Any, settings: BuildSettings) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    specs = [_spec(tensor, settings) for tensor in (*inputs, *outputs)]
    return tuple(specs[: len(inputs)]), tuple(specs[len(inputs) :])


def _spec(tensor: Any, settings: BuildSettings) -> TensorSpec:
    shape = tuple(int(side) for side in tensor.shape)
    largest = (settings.max_batch, *shape[1:]) if shape and shape[0] == -1 else None
    return TensorSpec(str(tensor.name), trt_library.dtype_name(tensor.dtype), shape, largest)


def _advice(reason: str) -> str:
    lowered = reason.lower()
    if "out of memory" in lowered or "outofmemory" in lowered or "insufficient memory" in lowered:
        return f"{reason} (out of memory: lower workspace_mb, close other programs, or lower max_batch)"
    if "libnvinfer_lean" in lowered:
        return f"{reason} (version compatible plans need TensorRT's lean runtime; install it, or portability none)"
    if "tactic" in lowered and "could not find any implementation" in lowered:
        return f"{reason} (no tactic is left: allow more tactic sources or a larger workspace)"
    return reason
