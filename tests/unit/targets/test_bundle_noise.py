"""A bundle whose network has a second input, private noise: built, verified and timed with both."""

import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from targets.errors import BundleError
from targets.jetson.bundle import write_bundle
from targets.jetson.device.build import build
from targets.jetson.device.bundle import verify
from targets.jetson.device.profile import profile

from .fake_device import calls, fake_root, spec


def noisy_spec(folder):
    plain = spec(folder)
    random = np.random.default_rng(1)
    vectors = tuple(
        replace(one, noise=random.standard_normal(one.codes.shape, np.float32)) for one in plain.vectors
    )
    return replace(plain, vectors=vectors)


@pytest.fixture
def bundle(tmp_path):
    write_bundle(noisy_spec(tmp_path / "networks"), tmp_path / "demo.tar.gz")
    with tarfile.open(tmp_path / "demo.tar.gz") as opened:
        opened.extractall(tmp_path / "device", filter="data")
    return tmp_path / "device" / "demo"


def test_the_manifest_lists_both_inputs_and_a_file_for_each(bundle, tmp_path):
    manifest = verify(bundle)
    assert [(port.name, port.shape) for port in manifest.inputs] == [
        ("picture", (1, 3, 8, 8)),
        ("noise", (1, 4, 2, 2)),
    ]
    given = noisy_spec(tmp_path / "networks").vectors
    for vector, expected in zip(manifest.vectors, given, strict=True):
        assert np.array_equal(np.fromfile(bundle / vector.noise, "<f4"), expected.noise.ravel())


def test_trtexec_is_given_shapes_and_values_of_both_inputs(bundle, tmp_path):
    root = fake_root(tmp_path / "root")
    made = build(bundle, root)
    assert made.rebuilt and made.equal == 1.0
    profile(bundle, root, seconds=1)
    built, first, _, timed = calls(root)
    for kind in ("min", "opt", "max"):
        assert f"--{kind}Shapes=picture:1x3x8x8,noise:1x4x2x2" in built
    assert "--shapes=picture:1x3x8x8,noise:1x4x2x2" in first and "--shapes=picture:1x3x8x8,noise:1x4x2x2" in timed
    files = f"picture:{bundle}/vectors/input_0.bin,noise:{bundle}/vectors/noise_0.bin"
    assert f"--loadInputs={files}" in first


def test_a_bundle_without_noise_is_what_it_was(tmp_path):
    write_bundle(spec(tmp_path / "networks"), tmp_path / "demo.tar.gz")
    with tarfile.open(tmp_path / "demo.tar.gz") as opened:
        opened.extractall(tmp_path, filter="data")
    content = json.loads((tmp_path / "demo" / "manifest.json").read_text())
    assert "noise" not in content and set(content["vectors"][0]) == {"input", "expected"}
    assert [port.name for port in verify(tmp_path / "demo").inputs] == ["picture"]


def test_vectors_that_differ_in_noise_are_refused(tmp_path):
    given = noisy_spec(tmp_path / "networks")
    first, second = given.vectors
    for wrong in (replace(second, noise=None), replace(second, noise=np.zeros((1, 4, 3, 3), np.float32))):
        with pytest.raises(BundleError, match="or in having noise"):
            write_bundle(replace(given, vectors=(first, wrong)), tmp_path / "x.tar.gz")
    with pytest.raises(BundleError, match="float32 pictures"):
        double = replace(first, noise=first.noise.astype(np.float64))
        write_bundle(replace(given, vectors=(double, second)), tmp_path / "x.tar.gz")


def test_a_manifest_without_a_vectors_noise_is_damaged(bundle):
    content = json.loads((bundle / "manifest.json").read_text())
    del content["vectors"][1]["noise"]
    (bundle / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match="is damaged"):
        verify(bundle)
