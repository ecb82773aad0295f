"""How a build is set up: typing, precision, tactics, DLA, portability, weights, shapes."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from toolkit.engines.driver import driver_problem
from toolkit.engines.errors import EngineBuildError
from toolkit.engines.settings import EXTERNAL_TACTICS, BuildSettings


def typing_of(trt: ModuleType, settings: BuildSettings) -> str:
    flags = trt.NetworkDefinitionCreationFlag
    can_strong = hasattr(flags, "STRONGLY_TYPED")
    can_weak = hasattr(trt.BuilderFlag, "FP16")
    if settings.typing == "strong" and not can_strong:
        raise EngineBuildError(f"TensorRT {trt.__version__} has no strong typing; use typing auto and form a")
    if settings.typing == "weak" and not can_weak:
        raise EngineBuildError(f"TensorRT {trt.__version__} builds only strongly typed networks; use form b")
    if settings.typing != "auto":
        return settings.typing
    return "strong" if can_strong else "weak"


def network_flags(trt: ModuleType, typing: str) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    value = 0
    # Required up to 9, without effect in 10, gone in 11.
    if hasattr(flags, "EXPLICIT_BATCH"):
        value |= 1 << int(flags.EXPLICIT_BATCH)
    if typing == "strong" and hasattr(flags, "STRONGLY_TYPED"):
        value |= 1 << int(flags.STRONGLY_TYPED)
    return value


def configure(
    trt: ModuleType,
    builder: Any,
    network: Any,
    config: Any,
    settings: BuildSettings,
    typing: str,
    ignored: list[str],
) -> None:
    flags = trt.BuilderFlag
    if typing == "weak":
        _weak_precision(trt, builder, network, config, settings)
    if not settings.tf32 and hasattr(flags, "TF32"):
        config.clear_flag(flags.TF32)
    if settings.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mb << 20)
    if settings.optimization_level is not None:
        if hasattr(config, "builder_optimization_level"):
            config.builder_optimization_level = settings.optimization_level
        else:
            ignored.append("optimization_level")
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _tactics(trt, config, settings, ignored)
    _dla(trt, builder, config, settings)
    _portability(trt, config, settings)
    _weights(trt, config, settings)


def _weak_precision(trt: ModuleType, builder: Any, network: Any, config: Any, settings: BuildSettings) -> None:
    flags = trt.BuilderFlag
    if settings.precision in ("fp16", "int8") and hasattr(flags, "FP16"):
        config.set_flag(flags.FP16)
    # The wire of a float network is quantized too, and TensorRT 8 takes no QuantizeLinear without the flag. It
    # opens no other layer to INT8: with Q/DQ in a network, precision follows them.
    if not hasattr(flags, "INT8"):
        return
    if settings.precision == "int8" or _quantizes(network):
        if settings.precision == "int8" and not getattr(builder, "platform_has_fast_int8", True):
            raise EngineBuildError("this GPU has no INT8 arithmetic; build fp16")
        config.set_flag(flags.INT8)


def _quantizes(network: Any) -> bool:
    """Whether there is a QuantizeLinear in it."""
    return any(network.get_layer(index).type.name == "QUANTIZE" for index in range(network.num_layers))


def _tactics(trt: ModuleType, config: Any, settings: BuildSettings, ignored: list[str]) -> None:
    if settings.tactics == "default":
        return
    known = set(trt.TacticSource.__members__)
    if settings.tactics == "no_external":
        wanted = known - set(EXTERNAL_TACTICS)
    else:
        wanted = set(settings.tactics) & known
        ignored.extend(f"tactics {name}" for name in sorted(set(settings.tactics) - known))
        if not wanted:
            raise EngineBuildError(f"tactic sources are {sorted(known)}, none of {sorted(settings.tactics)}")
    mask = 0
    for name in wanted:
        mask |= 1 << int(trt.TacticSource.__members__[name])
    if not config.set_tactic_sources(mask):
        raise EngineBuildError(f"TensorRT {trt.__version__} does not build with tactics {sorted(wanted)} alone")


def _dla(trt: ModuleType, builder: Any, config: Any, settings: BuildSettings) -> None:
    if settings.dla_core is None:
        return
    if settings.dla_core >= builder.num_DLA_cores:
        raise EngineBuildError(
            f"no DLA core {settings.dla_core}, there are {builder.num_DLA_cores}; leave dla_core out"
        )
    if settings.precision == "fp32":
        raise EngineBuildError("a DLA computes in fp16 or int8 alone; set the precision, or leave dla_core out")
    if settings.precision == "int8":
        raise EngineBuildError(
            "a DLA takes calibration scales and no Q/DQ nodes: build fp16 here, or int8 with trtexec and the "
            "bundle's calibration.cache"
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = settings.dla_core
    if settings.gpu_fallback:
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _portability(trt: ModuleType, config: Any, settings: BuildSettings) -> None:
    if settings.portability == "none":
        return
    if Path("/etc/nv_tegra_release").exists():
        raise EngineBuildError(
            "JetPack does not support version or hardware compatible plans, and they lose tactics: build on each "
            "device, with portability none"
        )
    if settings.portability == "version" and hasattr(trt.BuilderFlag, "VERSION_COMPATIBLE"):
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    elif settings.portability == "hardware" and hasattr(trt, "HardwareCompatibilityLevel"):
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    else:
        raise EngineBuildError(f"TensorRT {trt.__version__} has no {settings.portability} compatible plans")


def _weights(trt: ModuleType, config: Any, settings: BuildSettings) -> None:
    flags = trt.BuilderFlag
    if settings.weights != "inside" and settings.engine == "tensorrt_rtx" and driver_problem():
        raise EngineBuildError("TensorRT-RTX builds refittable and stripped plans only where there is a GPU")
    if settings.weights == "refittable":
        config.set_flag(flags.REFIT)
    elif settings.weights == "stripped":
        if not hasattr(flags, "STRIP_PLAN"):
            raise EngineBuildError(
                f"TensorRT {trt.__version__} cannot leave weights out of a plan; it came with 10"
            )
        config.set_flag(flags.STRIP_PLAN)


def add_profile(builder: Any, network: Any, config: Any, settings: BuildSettings) -> None:
    profile = builder.create_optimization_profile()
    dynamic = False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 not in shape:
            continue
        if -1 in shape[1:]:
            raise EngineBuildError(f"{tensor.name} is {shape}: only the batch may be dynamic; export fixed sizes")
        dynamic = True
        if settings.dla_core is not None:  # a DLA runs one shape
            profile.set_shape(tensor.name, *[(settings.max_batch, *shape[1:])] * 3)
            continue
        low, best, high = ((batch, *shape[1:]) for batch in (1, settings.typical_batch, settings.max_batch))
        profile.set_shape(tensor.name, low, best, high)
    if dynamic:
        config.add_optimization_profile(profile)
