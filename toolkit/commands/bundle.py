"""``patrol-edge bundle`` and ``patrol-edge deploy``: a run's edge half as an archive, and onto devices."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from targets.jetson.bundle import BundleSpec, TestVector, manifest_of, write_bundle
from targets.jetson.catalogue import find_module
from targets.jetson.explain import explain
from targets.jetson.remote import Deployed, DeployOptions, Host, deploy_all
from toolkit.errors import ArtifactError, SettingsError
from toolkit.preprocess import to_input
from toolkit.runs import RunFolder
from toolkit.wire import NOISE, standard_normal

FAILED = 1
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def bundle(
    run: Annotated[Path, typer.Argument(help="A finished run's folder, such as runs/demo.")],
    out: Annotated[Path, typer.Argument(help="The archive to write, such as demo.tar.gz.")],
    device: Annotated[list[str] | None, typer.Option(help="Module it may be built on; repeatable.")] = None,
    precision: Annotated[str, typer.Option(help="int8 or fp16.")] = "int8",
    vectors: Annotated[int, typer.Option(min=1, help="Test vectors to verify the engine with.")] = 4,
    limits: Annotated[Path | None, typer.Option(help="A limits file to carry along.")] = None,
) -> None:
    """Pack a run's edge half for a Jetson: networks, test vectors, build script, hashes."""
    keys = tuple(find_module(name).key for name in device or ())
    slow = [key for key in keys if not explain(find_module(key)).runs_int8]
    if precision not in ("int8", "fp16"):
        raise SettingsError(f"precision {precision} is none of int8, fp16")
    if precision == "int8" and slow:
        raise SettingsError(f"{slow[0]} has no fast INT8; pack with --precision fp16")
    spec = bundle_spec(RunFolder.read(run), keys, precision, vectors, limits)
    digest = write_bundle(spec, out)
    typer.echo(f"{out} ({out.stat().st_size / 2**20:.1f} MiB, sha256 {digest})")


def bundle_spec(
    run: RunFolder, modules: tuple[str, ...], precision: str, vectors: int, limits: Path | None = None
) -> BundleSpec:
    """What a bundle of a finished run holds; test vectors are its calibration pictures.

    Raises:
        ArtifactError: the run lacks a stage.
    """
    from toolkit.stages.sent import sent_network

    final = json.loads(run.path("export", "networks.json").read_text(encoding="utf-8"))["final"]
    noise = run.manifest.settings.get("wire", {}).get("noise", 0.0)
    forms = ("a", "b") if precision == "int8" else ("float",)
    networks = {form: sent_network(run, final, form, noise) for form in forms}
    cache = run.path("quantize", "calibration.cache") if precision == "int8" else None
    texts = {
        "preprocess.json": run.path("data", "preprocess.json").read_text(encoding="utf-8"),
        "wire.json": run.path("export", final, "wire.json").read_text(encoding="utf-8"),
    }
    if limits is not None:
        texts["limits.json"] = limits.read_text(encoding="utf-8")
    return BundleSpec(
        name=run.manifest.name,
        networks=networks,
        vectors=_vectors(run, networks[forms[0]], vectors),
        modules=modules,
        precision=precision,
        texts=texts,
        calibration_cache=cache,
    )


def _vectors(run: RunFolder, network: Path, count: int) -> tuple[TestVector, ...]:
    """Pictures of the calibration split, noise where the network reads it, and ONNX Runtime's codes for them."""
    from toolkit.engines.ort import open_session
    from toolkit.engines.settings import RunSettings

    rows = json.loads(run.path("data", "index.json").read_text(encoding="utf-8"))["rows"]["calibration"]
    if len(rows) < count:
        raise ArtifactError(f"the run has {len(rows)} calibration pictures; ask for fewer vectors than {count}")
    pictures = np.load(run.path("data", "pictures.npy"), mmap_mode="r", allow_pickle=False)
    session: Any = open_session(network.read_bytes(), RunSettings())
    shape = next((tuple(item.shape[1:]) for item in session.get_inputs() if item.name == NOISE), None)
    random = np.random.default_rng(len(rows))  # of the test vectors alone; a device draws its own
    found = []
    for row in rows[:: max(1, len(rows) // count)][:count]:
        picture = to_input(np.asarray(pictures[[row]])).astype(np.float32)
        noise = None if shape is None else standard_normal((1, *shape), random)
        (codes,) = session.run(["wire"], {"picture": picture, **({} if noise is None else {NOISE: noise})})
        found.append(TestVector(picture, codes.astype(np.int8), noise))
    return tuple(found)


def deploy(
    hosts: Annotated[list[str], typer.Argument(help="Devices: user@host or user@host:port.")],
    archive: Annotated[Path, typer.Argument(help="A bundle written by: patrol-edge bundle.")],
    identity: Annotated[Path | None, typer.Option("-i", "--identity", help="Key file for ssh.")] = None,
    option: Annotated[list[str] | None, typer.Option("-o", help="An option of ssh, as in ssh -o.")] = None,
    seconds: Annotated[int, typer.Option(min=0, help="How long to profile; 0 does not.")] = 5,
    system: Annotated[str, typer.Option(help="Root of the device's file system.")] = "/",
    folder: Annotated[str, typer.Option(help="On the device, below the home folder.")] = ".patrol-edge",
    save: Annotated[
        Path | None, typer.Option(help="Folder for one record per device; report.measured shows it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a bundle to devices over ssh, build, verify and profile its engine there, fetch the metrics."""
    ssh = (*(("-i", str(identity)) if identity else ()), *(word for one in option or () for word in ("-o", one)))
    options = DeployOptions(folder, ssh, system, profile_seconds=seconds)
    found = deploy_all([Host.parse(host) for host in hosts], archive, options)
    if save is not None:
        save_records(found, archive, save)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=1))
    else:
        Console().print(_results(found))
    if any(one.error for one in found):
        raise typer.Exit(FAILED)


def save_records(found: list[Deployed], archive: Path, folder: Path) -> list[Path]:
    """Write what was measured on every device, with the hash of the network that its engine was built from.

    Raises:
        BundleError: the archive has no manifest.
    """
    content = manifest_of(archive)
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    for one in found:
        if one.error or not one.metrics:
            continue
        form = one.build["form"]
        network = {"form": form, "sha256": content["files"][content["networks"][form]]["sha256"]}
        record = {"schema": 1, "network": network, "precision": content["precision"]}
        path = folder / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', one.host)}.json"
        body = {**record, "build": one.build, "metrics": one.metrics}
        path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        written.append(path)
    return written


def _results(found: list[Deployed]) -> Table:
    table = Table(title="Deployed")
    for column in ("device", "engine", "codes equal", "p50 ms", "p99 ms", "W", "error"):
        table.add_column(column, overflow="fold")
    for one in found:
        latency = one.metrics.get("latency_ms", {})
        cells = [
            f"{one.build['form']}, {'built' if one.build['rebuilt'] else 'kept'}" if one.build else "-",
            f"{one.build['equal']:.4f}" if one.build else "-",
            *(f"{latency[name]:.3f}" if name in latency else "-" for name in ("p50", "p99")),
            f"{one.metrics['power_w']:.1f}" if "power_w" in one.metrics else "-",
        ]
        table.add_row(one.host, *cells, escape(one.error))
    return table
