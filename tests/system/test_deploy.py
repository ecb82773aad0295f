"""Deployment over a real sshd on loopback, to devices whose file systems are recorded."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from targets.errors import DeployError
from targets.jetson.bundle import write_bundle
from targets.jetson.remote import DeployOptions, Host, deploy, deploy_all
from tests.unit.targets.fake_device import calls, fake_root, set_mode, spec

pytestmark = pytest.mark.system
ROOT = Path(__file__).resolve().parents[2]
SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A running sshd with keys of its own: (port, options of ssh)."""
    if not shutil.which(SSHD):
        pytest.fail("sshd is missing; install it with: apt-get install openssh-server")
    root = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / name], check=True)
    shutil.copy(root / "user.pub", root / "authorized_keys")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (root / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {root}/host\nAuthorizedKeysFile {root}/authorized_keys\n"
        f"PidFile {root}/pid\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
    )
    public = (root / "host.pub").read_text().split()
    (root / "known").write_text(f"[127.0.0.1]:{port} {public[0]} {public[1]}\n")
    if getpass.getuser() == "root":
        subprocess.run(["mkdir", "-p", "/run/sshd"], check=True)
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", root / "config"], stderr=subprocess.DEVNULL)
    options = ("-i", str(root / "user"), "-o", f"UserKnownHostsFile={root}/known", "-o", "IdentitiesOnly=yes")
    wait_for(port)
    yield port, options
    process.terminate()
    process.wait()


def wait_for(port):
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("sshd did not start")


@pytest.fixture
def target(server, tmp_path):
    """(host, options, folder on the device, root of its file system, archive)."""
    port, ssh = server
    root = fake_root(tmp_path / "root")
    options = DeployOptions(str(tmp_path / "home"), ssh, str(root), attempts=2, profile_seconds=1)
    archive = tmp_path / "demo.tar.gz"
    write_bundle(spec(tmp_path / "networks"), archive)
    return Host(f"{getpass.getuser()}@127.0.0.1", port), options, tmp_path / "home", root, archive


def test_a_bundle_is_built_and_profiled_and_sent_once(target):
    host, options, home, _, archive = target
    first = deploy(host, archive, options)
    assert first.build["rebuilt"] and first.build["equal"] == 1.0 and first.uploaded == archive.stat().st_size
    assert first.metrics["provenance"] == "measured" and first.metrics["device"]["module"] == "orin-nano-8gb"
    assert (home / "current").resolve().name == next(p.name for p in home.iterdir() if len(p.name) == 16)
    again = deploy(host, archive, options)
    assert not again.build["rebuilt"] and again.uploaded == 0


def test_a_dropped_upload_goes_on(target):
    host, options, home, _, archive = target
    deploy(host, archive, options)
    folder = (home / "current").resolve()
    whole = archive.read_bytes()
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "bundle.partial").write_bytes(whole[:1000])
    assert deploy(host, archive, options).uploaded == len(whole) - 1000


@pytest.mark.parametrize("left", [b"something else entirely", b"x" * 10_000_000])
def test_a_wrong_partial_upload_is_replaced(target, left):
    host, options, home, _, archive = target
    deploy(host, archive, options)
    folder = (home / "current").resolve()
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "bundle.partial").write_bytes(left)
    (folder / "bundle.unpacking").mkdir()
    assert deploy(host, archive, options).uploaded == archive.stat().st_size
    assert not (folder / "bundle.unpacking").exists()


def test_a_killed_deploy_leaves_the_engine_in_use(target, tmp_path):
    host, options, home, root, archive = target
    before = deploy(host, archive, options)
    set_mode(root, "wrong")
    other = tmp_path / "other.tar.gz"
    write_bundle(spec(tmp_path / "networks", name="other"), other)
    with pytest.raises(DeployError, match=r"PT400: the engine's codes differ"):
        deploy(host, other, options)
    set_mode(root, "right")
    assert deploy(host, archive, options).build["key"] == before.build["key"]
    assert deploy(host, other, options).build["rebuilt"]
    assert (home / "previous").resolve() != (home / "current").resolve()


SLOW_LINK = """
import os, select, socket, sys, time
link = socket.create_connection((sys.argv[1], int(sys.argv[2])))
while True:
    ready, _, _ = select.select([0, link], [], [])
    if link in ready:
        data = link.recv(65536)
        if not data:
            break
        os.write(1, data)
    if 0 in ready:
        data = os.read(0, 65536)
        if not data:
            break
        link.sendall(data)
        time.sleep(len(data) / 1e6)
"""


def test_a_deploy_killed_while_sending_is_taken_up(target, tmp_path):
    host, options, home, _, _ = target
    archive = large(tmp_path)
    (tmp_path / "slow.py").write_text(SLOW_LINK)
    slow = ("-o", f"ProxyCommand={sys.executable} {tmp_path}/slow.py %h %p", *options.ssh)
    code = (
        "from pathlib import Path\nfrom targets.jetson.remote import *\n"
        f"deploy(Host({host.name!r}, {host.port}), Path({str(archive)!r}), "
        f"DeployOptions({options.folder!r}, {slow!r}, {options.system!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True)
    sent = wait_until(lambda: sum(path.stat().st_size for path in home.glob("*/bundle.partial")))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < sent < archive.stat().st_size and not (home / "current").exists()
    wait_until(
        lambda: not subprocess.run(["pgrep", "-f", f"cat >> {home}"], check=False, capture_output=True).stdout
    )
    found = deploy(host, archive, options)
    assert found.build["rebuilt"] and found.uploaded < archive.stat().st_size


DROPPING_LINK = """
import os, pathlib, select, socket, sys
link, mark, sent = socket.create_connection((sys.argv[1], int(sys.argv[2]))), pathlib.Path(sys.argv[3]), 0
while True:
    ready, _, _ = select.select([0, link], [], [])
    if link in ready:
        data = link.recv(65536)
        if not data:
            break
        os.write(1, data)
    if 0 in ready:
        data = os.read(0, 65536)
        if not data:
            break
        link.sendall(data)
        sent += len(data)
        drops = len(mark.read_text()) if mark.exists() else 0
        if sent > 2_000_000 and drops < 2:
            mark.write_text("x" * (drops + 1))
            os._exit(1)
"""


def large(tmp_path):
    """A bundle of 8 MB that does not compress."""
    networks = tmp_path / "networks"
    bundle = spec(networks)
    (networks / "edge.b.onnx").write_bytes(np.random.default_rng(1).bytes(8_000_000))
    write_bundle(bundle, tmp_path / "large.tar.gz")
    return tmp_path / "large.tar.gz"


def test_a_link_that_drops_while_sending_is_dialled_again(target, tmp_path):
    """The connection ends twice in the middle of the upload; one call of deploy goes on where it stopped."""
    host, options, home, _, _ = target
    archive, mark = large(tmp_path), tmp_path / "drops"
    (tmp_path / "dropping.py").write_text(DROPPING_LINK)
    link = ("-o", f"ProxyCommand={sys.executable} {tmp_path}/dropping.py %h %p {mark}", *options.ssh)
    patient = replace(options, ssh=link, attempts=4)
    found = deploy(host, archive, patient)
    assert mark.read_text() == "xx" and found.build["rebuilt"]
    assert archive.stat().st_size <= found.uploaded < 2 * archive.stat().st_size
    assert not list(home.glob("*/bundle.partial"))


def test_a_deploy_killed_while_building_leaves_the_device_resumable(target, tmp_path):
    host, options, home, root, archive = target
    set_mode(root, "slow")
    code = (
        "from pathlib import Path\nfrom targets.jetson.remote import *\n"
        f"deploy(Host({host.name!r}, {host.port}), Path({str(archive)!r}), "
        f"DeployOptions({options.folder!r}, {options.ssh!r}, {options.system!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True)
    wait_until(lambda: list(home.glob("*/bundle/engines/*.partial")) and calls(root))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(
        DeployError, match=r"another build .* is at work here \(process \d+\); wait for it, or end"
    ):
        deploy(host, archive, options)
    assert not list(home.glob("*/bundle/engines/current.json")) and not (home / "current").exists()
    (lock,) = home.glob("*/bundle/engines/build.lock")
    os.kill(int(lock.read_text()), signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{lock.read_text()}").exists())
    set_mode(root, "right")
    found = deploy(host, archive, options)
    assert found.build["rebuilt"] and found.uploaded == 0
    assert not list(home.glob("*/bundle/engines/*.partial"))


def wait_until(ask):
    for _ in range(600):
        if found := ask():
            return found
        time.sleep(0.1)
    pytest.fail("nothing happened for a minute")


def test_an_unknown_host_key_is_refused(target, tmp_path):
    host, options, _, root, archive = target
    (tmp_path / "empty").write_text("")
    strange = DeployOptions(options.folder, ("-o", f"UserKnownHostsFile={tmp_path}/empty", *options.ssh))
    with pytest.raises(DeployError, match="host key is not known or has changed"):
        deploy(host, archive, strange)
    assert not calls(root)


def test_several_devices_at_once_and_one_out_of_reach(target):
    host, options, _, _, archive = target
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    found = deploy_all([host, Host(host.name, closed)], archive, options)
    assert found[0].error == "" and "nothing listens there" in found[1].error
