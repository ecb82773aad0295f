"""Bundles: reproducible, complete, refused when damaged or misplaced; engines verified, kept and rolled back."""

import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from targets.errors import BundleError, CatalogueError, DetectionError, DeviceBuildError
from targets.jetson.bundle import TestVector, write_bundle
from targets.jetson.device.build import build, check, engine_in_use, read_state, rollback
from targets.jetson.device.bundle import file_sha256, verify
from targets.jetson.device.profile import percentile, profile
from targets.jetson.device.trtexec import build_command, explain_failure, profile_command
from tests.unit.engines.test_bundled import bundle as packed

from .fake_device import calls, fake_root, set_mode, spec


@pytest.fixture
def bundle(tmp_path):
    return unpack(tmp_path)


def unpack(tmp_path, **changes):
    archive = tmp_path / "demo.tar.gz"
    write_bundle(spec(tmp_path / "networks", **changes), archive)
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "device", filter="data")
    return tmp_path / "device" / "demo"


@pytest.fixture
def device(tmp_path):
    return fake_root(tmp_path / "root")


def test_the_same_content_gives_the_same_archive(tmp_path):
    first = write_bundle(spec(tmp_path / "n"), tmp_path / "one.tar.gz")
    second = write_bundle(spec(tmp_path / "n"), tmp_path / "two.tar.gz")
    assert first == second == file_sha256(tmp_path / "two.tar.gz")


def test_every_file_is_listed_and_sha256sum_agrees(bundle):
    manifest = verify(bundle)
    found = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert found == {*manifest.files, "manifest.json", "SHA256SUMS"}
    assert {"model/edge.a.onnx", "model/calibration.cache", "device/build.py", "build.sh"} <= found
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=bundle, check=True)


def damage_changed(bundle):
    path = bundle / "model/edge.a.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def damage_manifest(bundle):
    content = json.loads((bundle / "manifest.json").read_text())
    content["files"]["../../etc/passwd"] = {"sha256": "0", "bytes": 1}
    (bundle / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize(("damage", "message"), [
    (damage_changed, r"model/edge\.a\.onnx was changed"),
    (lambda b: (b / "vectors/wire_1.bin").unlink(), r"vectors/wire_1\.bin is missing"),
    (lambda b: (b / "wire.json").write_text("{}{}"), r"wire\.json has 4 bytes where 2"),
    (lambda b: (b / "device/evil.py").write_text(""), r"device/evil\.py does not belong"),
    (lambda b: (b / "manifest.json").unlink(), r"manifest\.json is missing"),
    (lambda b: (b / "manifest.json").write_text("{"), r"manifest\.json is damaged"),
    (damage_manifest, "no file of a bundle"),
])  # fmt: skip
def test_a_damaged_bundle_is_refused_by_name(bundle, damage, message):
    damage(bundle)
    with pytest.raises(BundleError, match=message):
        verify(bundle)


def test_another_device_old_tensorrt_no_trtexec_and_no_memory_each_say_so(bundle, tmp_path):
    with pytest.raises(BundleError, match="made for orin-nano-8gb and this is orin-nx-16gb"):
        check(bundle, fake_root(tmp_path / "nx", module="p3767-0000"))
    with pytest.raises(DeviceBuildError, match=r"TensorRT is 8\.4\.1 and this bundle needs 8\.5"):
        check(bundle, fake_root(tmp_path / "old", tensorrt="8.4.1"))
    bare = fake_root(tmp_path / "bare")
    (bare / "usr/src/tensorrt/bin/trtexec").unlink()
    with pytest.raises(DeviceBuildError, match="trtexec is missing; install it with"):
        check(bundle, bare)
    (bare / "var/lib/dpkg/status").unlink()
    with pytest.raises(DeviceBuildError, match="TensorRT is not installed"):
        check(bundle, bare)
    full = fake_root(tmp_path / "full")
    meminfo = (full / "proc/meminfo").read_text()
    (full / "proc/meminfo").write_text(meminfo.replace("4096000", "512000"))
    with pytest.raises(
        DeviceBuildError, match=r"500 MiB are free, 1 MiB of swap .* building needs 1200; close the"
    ):
        check(bundle, full)
    with pytest.raises(DetectionError, match="not a Jetson"):
        check(bundle, tmp_path / "nothing")


@pytest.mark.parametrize(("tensorrt", "form", "flag"), [
    ("8.5.2", "a", "--int8"), ("8.6.2", "a", "--int8"), ("10.3.0", "b", "--stronglyTyped"),
])  # fmt: skip
def test_the_form_follows_tensorrt(bundle, tmp_path, tensorrt, form, flag):
    root = fake_root(tmp_path / "r", tensorrt=tensorrt)
    assert build(bundle, root).form == form
    assert f"edge.{form}.onnx" in calls(root)[0] and flag in calls(root)[0]


def test_build_verifies_and_is_not_repeated(bundle, device):
    first = build(bundle, device)
    assert first.rebuilt and first.equal == 1.0 and first.within_one == 1.0
    assert "--minShapes=picture:1x3x8x8" in calls(device)[0] and len(calls(device)) == 3
    again = build(bundle, device)
    assert not again.rebuilt and again.key == first.key and len(calls(device)) == 3
    assert engine_in_use(bundle).is_file()


def test_an_upgrade_or_another_mode_rebuilds_and_can_be_rolled_back(bundle, device):
    first = build(bundle, device)
    (device / "var/lib/nvpmodel/status").write_text("pmode:0001 fmode:quiet\n")
    second = build(bundle, device)
    assert second.rebuilt and second.key != first.key
    assert read_state(bundle) == {"current": second.key, "previous": first.key}
    assert rollback(bundle) == first.key and engine_in_use(bundle).parent.name == first.key


def test_wrong_codes_keep_the_engine_in_use(bundle, device):
    first = build(bundle, device)
    set_mode(device, "wrong")
    with pytest.raises(DeviceBuildError, match=r"0\.0000 are equal .* the engine in use was kept"):
        build(bundle, device, force="yes")
    assert read_state(bundle)["current"] == first.key and engine_in_use(bundle).is_file()
    assert not list((bundle / "engines").glob("*.partial"))


@pytest.mark.parametrize(("mode", "message"), [
    ("oom", "out of memory while building; close"), ("unnamed", "no output named wire"),
])  # fmt: skip
def test_trtexec_failures_say_what_to_do(bundle, device, mode, message):
    set_mode(device, mode)
    with pytest.raises(DeviceBuildError, match=message):
        build(bundle, device)
    with pytest.raises(DeviceBuildError, match=r"run \./build\.sh"):
        engine_in_use(bundle)


def test_a_changed_engine_is_refused_and_built_again(bundle, device):
    built = build(bundle, device)
    engine_in_use(bundle).write_text("changed")
    with pytest.raises(DeviceBuildError, match="was changed"):
        engine_in_use(bundle)
    assert build(bundle, device).rebuilt and read_state(bundle)["current"] == built.key
    with pytest.raises(DeviceBuildError, match="no previous engine"):
        rollback(bundle)


def test_profile_measures_latency_and_power(bundle, device):
    build(bundle, device)
    found = profile(bundle, device, seconds=1)
    assert found["latency_ms"]["p50"] == pytest.approx(1.49) and found["n"] == 100
    assert found["provenance"] == "measured" and json.loads((bundle / "engines/metrics.json").read_text())
    assert "--useCudaGraph" in calls(device)[-1]


def test_percentiles_are_trtexecs():
    times = [float(i) for i in range(100)]
    assert [percentile(times, p) for p in (50, 90, 99)] == [49, 89, 98]
    assert percentile([3.0], 99) == 3.0


@pytest.mark.parametrize(("version", "has", "lacks"), [
    ((8, 5, 2), "--buildOnly", "--skipInference"), ((8, 6, 2), "--skipInference", "--buildOnly"),
    ((11, 4, 1), "--skipInference", "--stronglyTyped"),
])  # fmt: skip
def test_flags_follow_the_version(bundle, version, has, lacks):
    manifest = verify(bundle)
    command = build_command("trtexec", manifest, "b", bundle / "x", bundle / "y", version)
    assert has in command and lacks not in command
    timing = profile_command("trtexec", manifest, bundle / "e", bundle / "t", 3, version)
    assert ("--useCudaGraph" in timing) == (version[0] < 11)


@pytest.mark.parametrize(("log", "code", "words"), [
    ("Version tag does not match", 1, "another TensorRT"), ("", -9, "killed"), ("some error\n", 3, "some error"),
    ("expecting compute 6.1 got 7.5", 1, "another GPU"),
])  # fmt: skip
def test_known_failures_are_explained(tmp_path, log, code, words):
    (tmp_path / "log").write_text(log)
    assert words in explain_failure(tmp_path / "log", code)


def test_bundles_that_cannot_work_are_not_written(tmp_path):
    out, made = tmp_path / "x.tar.gz", tmp_path / "n"
    odd = TestVector(np.zeros((1, 3, 4, 4), np.float32), np.zeros((1, 4, 2, 2), np.int8))
    with pytest.raises(BundleError, match="at least one test vector"):
        write_bundle(spec(made, vectors=()), out)
    with pytest.raises(BundleError, match="not none"):
        write_bundle(spec(made, networks={}), out)
    with pytest.raises(BundleError, match="differ in shape"):
        write_bundle(spec(made, vectors=(odd, *spec(made).vectors)), out)
    with pytest.raises(BundleError, match="has the texts"):
        write_bundle(spec(made, texts={"notes.txt": ""}), out)
    with pytest.raises(CatalogueError):
        write_bundle(spec(made, modules=("orin-micro",)), out)
    assert not out.exists()


def test_build_sh_runs_under_the_systems_python(bundle, device):
    done = subprocess.run([bundle / "build.sh", "--system", device], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["rebuilt"] and done.stderr == ""
    damage_changed(bundle)
    command = [bundle / "build.sh", "check", "--system", device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error PT300: model/edge.a.onnx was changed")


PACKAGE = """#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/package_calls.txt"
if [ -e "$here/broken" ]; then echo "error PE600: TensorRT is not installed" >&2; exit 2; fi
echo "an engine" > "$4"
echo '{"path": "'$4'", "form": "b", "equal": 0.99, "within_one": 1.0}'
"""


def install_package(root):
    place = root / "usr/local/bin"
    place.mkdir(parents=True)
    command = place / "patrol-edge"
    command.write_text(PACKAGE)
    command.chmod(0o755)
    return place


def test_the_package_builds_for_newer_tensorrt_and_trtexec_steps_in(bundle, tmp_path):
    root = fake_root(tmp_path / "root", tensorrt="10.3.0")
    place = install_package(root)
    built = build(bundle, root)
    assert (built.form, built.equal, calls(root)) == ("b", 0.99, [])
    assert (place / "package_calls.txt").read_text().startswith(f"engine {bundle} --out ")
    side = json.loads((bundle / "engines" / built.key / "engine.json").read_text())
    assert side["builder"] == "patrol-edge" and "package_failed" not in side
    (place / "broken").touch()
    again = build(bundle, root, "force")
    side = json.loads((bundle / "engines" / again.key / "engine.json").read_text())
    assert side["builder"] == "trtexec" and again.equal == 1.0
    assert side["package_failed"].endswith("error PE600: TensorRT is not installed")
    (root / "usr/src/tensorrt/bin/trtexec").unlink()
    with pytest.raises(DeviceBuildError, match="patrol-edge engine failed: error PE600"):
        build(bundle, root, "force")
    assert engine_in_use(bundle).is_file()


def test_jetpack_5_is_built_by_trtexec_even_beside_the_package(bundle, device):
    place = install_package(device)
    assert build(bundle, device).form == "a"
    assert not (place / "package_calls.txt").exists() and calls(device)


def test_what_a_killed_build_left_is_removed_and_two_at_once_are_refused(bundle, device):
    left = bundle / "engines/0123456789abcdef.77.partial"
    left.mkdir(parents=True)
    (left / "edge.engine").write_text("half of one")
    set_mode(device, "slow")
    command = [bundle / "build.sh", "--system", device]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not calls(device):
        time.sleep(0.05)
    with pytest.raises(DeviceBuildError, match=rf"process {first.pid}\); wait for it, or end it with: kill"):
        build(bundle, device)
    assert not left.exists()
    set_mode(device, "right")
    said, _ = first.communicate(timeout=60)
    assert json.loads(said)["rebuilt"] and not build(bundle, device).rebuilt


REAL_PACKAGE = """#!/bin/sh
# The package itself, with ONNX Runtime where a Jetson has TensorRT.
cd {root}
case "$1" in engine) set -- "$@" --engine onnxruntime;; esac
exec {python} -m toolkit.cli "$@"
"""


def test_without_trtexec_the_package_builds_and_times(tmp_path):
    """The real command of the package, in place of TensorRT its ONNX Runtime."""
    bundle, root = packed(tmp_path), fake_root(tmp_path / "root", tensorrt="10.3.0")
    (root / "usr/src/tensorrt/bin/trtexec").unlink()
    with pytest.raises(DeviceBuildError, match="trtexec is missing; install it with"):
        check(bundle, root)
    command = install_package(root) / "patrol-edge"
    command.write_text(REAL_PACKAGE.format(root=Path(__file__).parents[3], python=sys.executable))
    built = build(bundle, root)
    assert built.equal == 1.0 and engine_in_use(bundle).is_file()
    found = profile(bundle, root, seconds=1)
    assert found["protocol"].startswith("patrol-edge, CPU") and found["n"] > 100
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"] < 1000
    assert found["power_w"] == pytest.approx(5.0) or "power_note" in found
    command.unlink()
    with pytest.raises(DeviceBuildError, match="neither trtexec nor patrol-edge is here to time"):
        profile(bundle, root, seconds=1)


@pytest.mark.parametrize(("script", "message"), [
    ("echo 'error PE601: changed' >&2; exit 2", "engine-times failed: error PE601: changed"),
    ("echo nonsense", "engine-times printed no JSON object"), ("echo '[]'", "engine-times printed no JSON object"),
    ("echo '{}'", "engine-times gave no times"),
    ("echo '{\"times_ms\": [], \"protocol\": \"x\", \"ended\": 1}'", "engine-times timed no inference"),
])  # fmt: skip
def test_what_the_package_says_wrong_while_timing(bundle, tmp_path, script, message):
    root = fake_root(tmp_path / "root", tensorrt="10.3.0")
    build(bundle, root)
    (root / "usr/src/tensorrt/bin/trtexec").unlink()
    (install_package(root) / "patrol-edge").write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(DeviceBuildError, match=message):
        profile(bundle, root, seconds=1)
    assert not (bundle / "engines/metrics.json").exists()
