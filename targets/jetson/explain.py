"""What a Jetson module can run, in words and in fields: precisions, DLA, TensorRT, the form of network."""

from __future__ import annotations

from dataclasses import dataclass

from targets.jetson.catalogue import Module, Release, releases_for

FAST_INT8_SINCE = (7, 2)
STRONGLY_TYPED_SINCE = (10,)


@dataclass(frozen=True)
class Explanation:
    """What one module can run.

    Attributes:
        precisions: those with fast arithmetic on the GPU, slowest first.
        runs_int8: whether an INT8 engine makes sense.
        int8, dla, tensorrt: a sentence each.
        newest: the newest JetPack with the TensorRT it brings.
        forms: the network form (``a`` or ``b``) that each TensorRT of this module takes, by its version.
        python: versions that its JetPacks bring.
        notes: what else to know.
    """

    key: str
    precisions: tuple[str, ...]
    runs_int8: bool
    int8: str
    has_dla: bool
    dla: str
    tensorrt: str
    newest: Release
    forms: dict[str, str]
    python: tuple[str, ...]
    notes: tuple[str, ...]


def explain(module: Module) -> Explanation:
    """Say what a module can run."""
    runs = releases_for(module)
    with_l4t = [release for release in runs if release.l4t]
    newest = with_l4t[-1]
    int8 = module.compute_capability >= FAST_INT8_SINCE
    dla = int(module.value("dla_cores"))
    return Explanation(
        key=module.key,
        precisions=_precisions(module),
        runs_int8=int8,
        int8=_int8(module, int8),
        has_dla=dla > 0,
        dla=_dla(module, dla),
        tensorrt=_tensorrt(module, runs),
        newest=newest,
        forms={r.tensorrt: "b" if r.tensorrt_version >= STRONGLY_TYPED_SINCE else "a" for r in runs},
        python=tuple(dict.fromkeys(release.python for release in runs)),
        notes=_notes(module, newest),
    )


def _precisions(module: Module) -> tuple[str, ...]:
    capability = module.compute_capability
    extra: tuple[str, ...] = ()
    if capability >= FAST_INT8_SINCE:
        extra = ("int8",)
    if capability >= (8, 0):
        extra = ("tf32", "bf16", "int8")
    if capability >= (10, 0):
        extra = ("tf32", "bf16", "int8", "fp8", "fp4")
    return ("fp32", "fp16", *extra)


def _int8(module: Module, int8: bool) -> str:
    if not int8:
        return (
            f"no: compute capability {_dotted(module)} has no fast INT8 arithmetic; use fp16, and INT8 "
            "only to make the wire smaller"
        )
    if "int8_dense_tops" not in module.figures:
        return "yes, but its INT8 rate is not published: measure FP16 and INT8 on the device"
    dense = module.value("int8_dense_tops")
    fp16 = module.value("fp16_dense_tflops")
    return (
        f"yes: {dense:g} TOPS dense on the GPU against {fp16:g} TFLOPS in FP16; a network pruned by "
        "channels is dense, so figures for sparse weights do not hold for it"
    )


def _dla(module: Module, cores: int) -> str:
    if not cores:
        return "no DLA"
    mhz = f" at {module.value('dla_mhz'):g} MHz" if "dla_mhz" in module.figures else ""
    return (
        f"{cores} DLA core{'s' if cores > 1 else ''}{mhz}: INT8 from a calibration cache (not from Q/DQ), fixed "
        "shapes, up to TensorRT 10.7 on JetPack 6"
    )


def _tensorrt(module: Module, runs: tuple[Release, ...]) -> str:
    stock = [release for release in runs if release.l4t]
    versions = list(dict.fromkeys(".".join(release.tensorrt.split(".")[:2]) for release in stock))
    text = f"{versions[0]} to {versions[-1]} with its JetPacks ({stock[0].jetpack} to {stock[-1].jetpack})"
    optional = [release for release in runs if not release.l4t]
    if optional:
        text += f"; {optional[-1].tensorrt} can be installed"
    if module.compute_capability < (7, 5):
        text += "; none newer, because its compute capability ends there"
    return text


def _notes(module: Module, newest: Release) -> tuple[str, ...]:
    notes = [note for note in (module.note, newest.note) if note]
    gated = [mode.label for mode in module.modes if mode.sms < module.value("sms")]
    if gated:
        notes.append(
            f"modes that switch SMs off: {', '.join(gated)}; an engine built in one is not the best in another"
        )
    if len({mode.configuration for mode in module.modes}) > 1:
        notes.append("modes called super: need a configuration flashed for them; unqualified names mean standard")
    return tuple(notes)


def _dotted(module: Module) -> str:
    return ".".join(str(part) for part in module.compute_capability)
