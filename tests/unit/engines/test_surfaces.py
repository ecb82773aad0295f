"""The backend uses no name that a supported TensorRT lacks, unless it asks first."""

import json
from pathlib import Path

import pytest

import toolkit.engines
from tests.unit.engines.surface_check import TOGETHER, Use, has, uses

SURFACES = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "surfaces").glob("*.json"))
}
SOURCES = [
    Path(toolkit.engines.__file__).parent / name
    for name in (
        "trt_build.py",
        "trt_config.py",
        "trt_run.py",
        "trt_refit.py",
        "trt_library.py",
        "timing_cache.py",
        "trt_inspect.py",
    )
]
USES = [use for source in SOURCES for use in uses(source)]


def test_the_versions_that_matter_are_recorded():
    generations = {name.removeprefix("tensorrt-").rpartition(".")[0] for name in SURFACES if "rtx" not in name}
    for wanted in ("8.5", "8.6", "10.3", "10.13", "10.16", "11.4"):
        assert any(generation.startswith(wanted) for generation in generations), wanted


@pytest.mark.parametrize("version", sorted(SURFACES))
def test_every_name_exists_or_is_asked_for(version):
    assert len([use for use in USES if not use.guarded]) > 40
    missing = [
        f"{use.owner or 'trt'}.{use.name} ({use.place})"
        for use in USES
        if not use.guarded and not has(SURFACES[version], use)
    ]
    assert missing == []


def test_the_check_sees_what_changed_between_versions():
    gone = Use("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH", False, "")
    new = Use("IBuilderConfig", "builder_optimization_level", False, "")
    assert has(SURFACES["tensorrt-10.3.0"], gone)
    assert not has(SURFACES["tensorrt-11.4.0.106"], gone)
    assert has(SURFACES["tensorrt-8.6.0"], new)
    assert not has(SURFACES["tensorrt-8.5.3.1"], new)
    assert {use.name for use in USES if use.guarded} >= {"EXPLICIT_BATCH", "builder_optimization_level", "FP16"}


@pytest.mark.parametrize("version", sorted(SURFACES))
def test_arguments_of_calls_are_the_ones_the_backend_gives(version):
    classes = SURFACES[version]["classes"]
    shapes = {
        ("IExecutionContext", "execute_async_v3"): ["stream_handle"],
        ("IExecutionContext", "set_input_shape"): ["name", "shape"],
        ("IExecutionContext", "set_tensor_address"): ["name", "memory"],
        ("ICudaEngine", "get_tensor_profile_shape"): ["name", "profile_index"],
        ("IBuilderConfig", "set_memory_pool_limit"): ["pool", "pool_size"],
        ("IBuilderConfig", "set_timing_cache"): ["cache", "ignore_mismatch"],
        ("IOptimizationProfile", "set_shape"): ["input", "min", "opt", "max"],
        ("Builder", "build_serialized_network"): ["network", "config"],
        ("Runtime", "deserialize_cuda_engine"): ["serialized_engine"],
        ("EngineInspector", "get_engine_information"): ["format"],
        ("IProfiler", "report_layer_time"): ["layer_name", "ms"],
        ("OnnxParserRefitter", "refit_from_bytes"): ["model"],
    }
    for (owner, method), wanted in shapes.items():
        if owner not in classes and not version.startswith(("tensorrt-10", "tensorrt-11", "tensorrt_rtx")):
            continue  # refitting from ONNX came with 10
        overloads = classes[owner]["attributes"][method].split(" | ")
        arguments = [_arguments(overload) for overload in overloads]
        assert any(found[: len(wanted)] == wanted for found in arguments), (method, arguments)


def test_names_that_came_together_did():
    owners = {"node_operator": "ParserError", "node_name": "ParserError", "refit_cuda_engine": "Refitter"}
    owners["hardware_compatibility_level"] = "IBuilderConfig"
    for version, surface in SURFACES.items():
        for name, sign in TOGETHER.items():
            if name == "refit_cuda_engine" and version.startswith("tensorrt-8"):
                assert sign not in surface["names"]  # the class is older, what reads ONNX files is not
                continue
            asked = Use(owners.get(sign, ""), sign, False, "")
            assert has(surface, Use(owners[name], name, False, "")) == has(surface, asked)


def _arguments(signature: str) -> list[str]:
    inside = signature.partition("(")[2].rpartition(") ->")[0]
    names, depth, current = [], 0, ""
    for character in inside + ",":
        depth += (character in "[(") - (character in "])")
        if character == "," and depth == 0:
            names.append(current.partition(":")[0].strip())
            current = ""
        else:
            current += character
    return names[1:]
