"""Carries a bundle to a device over the system's ssh, builds and profiles there, and fetches what was measured.

Host keys are checked and no password is ever asked for or stored. A dropped upload goes on where it stopped; what
a killed deployment leaves behind is complete or ends in ``.partial``, and is taken up or replaced by the next.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shlex
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from targets.errors import DeployError

logger = logging.getLogger(__name__)
UNREACHABLE = 255
CONNECT_SECONDS = 10
SHORT_SECONDS = 60
BUILD_SECONDS = 5 * 3600
CHUNK = 1 << 20
LONGEST_WAIT = 10
REFUSALS = (
    ("Host key verification failed", "its host key is not known or has changed; check it with: ssh {host}"),
    ("Permission denied", "it accepts no key of yours; install one with: ssh-copy-id {host}"),
    ("Could not resolve", "its name cannot be resolved"),
    ("Connection refused", "nothing listens there; is it on and is sshd running?"),
    ("timed out", "it does not answer; is it on and in this network?"),
    ("No route to host", "there is no route to it"),
)


@dataclass(frozen=True)
class Host:
    """``user@host`` or ``user@host:port``."""

    name: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Host:
        """Read it.

        Raises:
            DeployError: it is not of this form.
        """
        match = re.fullmatch(r"((?:[\w.-]+@)?[A-Za-z0-9][\w.-]*)(?::(\d{1,5}))?", text)
        if match is None:
            raise DeployError(f"{text!r} is no device; write user@host or user@host:port")
        return cls(match[1], int(match[2]) if match[2] else None)

    def __str__(self) -> str:
        return self.name if self.port is None else f"{self.name}:{self.port}"


@dataclass(frozen=True)
class DeployOptions:
    """How to deploy.

    Attributes:
        folder: on the device, below the user's home.
        ssh: further options of ssh, such as ``-i KEY``.
        system: root of the device's file system, where that is not ``/``.
        attempts: tries of an upload whose link drops.
        profile_seconds: how long to profile; 0 does not.
    """

    folder: str = ".patrol-edge"
    ssh: tuple[str, ...] = ()
    system: str = "/"
    attempts: int = 5
    profile_seconds: int = 5


@dataclass(frozen=True)
class Deployed:
    """The outcome for one device.

    Attributes:
        error: what went wrong, in one line; empty when nothing did.
        build: what build.sh said; ``metrics`` what was measured.
        uploaded: bytes sent this time.
    """

    host: str
    error: str = ""
    build: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    uploaded: int = 0


def deploy_all(hosts: Sequence[Host], archive: Path, options: DeployOptions) -> list[Deployed]:
    """Deploy to several devices at once; a failure on one does not stop the others."""

    def one(host: Host) -> Deployed:
        try:
            return deploy(host, archive, options)
        except DeployError as error:
            return Deployed(str(host), error=str(error))

    with ThreadPoolExecutor(max_workers=max(1, len(hosts))) as pool:
        return list(pool.map(one, hosts))


def deploy(host: Host, archive: Path, options: DeployOptions) -> Deployed:
    """Upload, unpack, build, verify and profile on one device.

    Raises:
        DeployError: the archive is absent, the device is out of reach, or a step on it failed.
    """
    if not archive.is_file():
        raise DeployError(f"there is no bundle {archive}; write one with: patrol-edge bundle")
    digest = _sha256(archive, archive.stat().st_size)
    remote = _Remote(host, options, f"{options.folder}/{digest[:16]}")
    sent = remote.upload(archive, digest)
    remote.unpack()
    build = remote.tool("build", BUILD_SECONDS)
    remote.take_into_use()
    metrics = {}
    if options.profile_seconds:
        metrics = remote.tool("profile", BUILD_SECONDS, "--seconds", str(options.profile_seconds))
    return Deployed(str(host), build=build, metrics=metrics, uploaded=sent)


class _Remote:
    """One device and the bundle's folder on it."""

    def __init__(self, host: Host, options: DeployOptions, folder: str) -> None:
        self.host, self.options, self.folder = host, options, folder
        self.command = [
            "ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
            "-o", f"ConnectTimeout={CONNECT_SECONDS}", "-o", "ServerAliveInterval=5",
            "-o", "ServerAliveCountMax=3",
            *(["-p", str(host.port)] if host.port else []), *options.ssh, "--", host.name,
        ]  # fmt: skip

    def run(self, script: str, seconds: int = SHORT_SECONDS) -> str:
        """Standard output of a shell script on the device."""
        try:
            done = subprocess.run(
                [*self.command, script],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeployError(f"{self.host}: no end after {seconds} s; is the device hanging?") from error
        said = done.stderr.decode("utf-8", "replace")
        if done.returncode == UNREACHABLE:
            raise DeployError(f"{self.host}: {self._refusal(said)}")
        if done.returncode != 0:
            lines = [line for line in said.splitlines() if line.strip()]
            reason = lines[-1].strip() if lines else f"code {done.returncode}"
            raise DeployError(f"{self.host}: {reason.removeprefix('error ')}")
        return done.stdout.decode("utf-8", "replace")

    def _refusal(self, said: str) -> str:
        for pattern, advice in REFUSALS:
            if pattern in said:
                return advice.format(host=self.host.name)
        lines = [line for line in said.splitlines() if line.strip()]
        return (
            f"the link dropped: {lines[-1].strip() if lines else 'no message'}; the same command goes on from here"
        )

    def upload(self, archive: Path, digest: str) -> int:
        """Send what is not there yet; returns the bytes sent. A link that drops is tried again."""
        size, sent = archive.stat().st_size, 0
        there = self._there(archive, size)
        for attempt in range(1, self.options.attempts + 1):
            if there is None:
                break
            logger.info("%s: %d of %d bytes are there", self.host, there, size)
            sent += self._append(archive, there)
            try:
                self._finish(digest)
                break
            except DeployError:
                if attempt == self.options.attempts:
                    raise
            there = self._again(archive, size, attempt)
        return sent

    def _again(self, archive: Path, size: int, attempt: int) -> int | None:
        """What is there once the device answers again; the last attempt says why it does not."""
        while True:
            time.sleep(min(2**attempt, LONGEST_WAIT))
            try:
                return self._there(archive, size)
            except DeployError:
                attempt += 1
                if attempt > self.options.attempts:
                    raise

    def _there(self, archive: Path, size: int) -> int | None:
        """Bytes of the archive that are on the device and right; None when all of it is finished."""
        quoted = shlex.quote(self.folder)
        found = self.run(
            f"mkdir -p {quoted} && cd {quoted} && if [ -f bundle.tar.gz ]; then echo done; "
            "elif [ -f bundle.partial ]; then stat -c %s bundle.partial; sha256sum < bundle.partial; "
            "else echo 0; fi"
        ).split()
        if found[0] == "done":
            return None
        count = int(found[0])
        if not count:
            return 0
        if count > size or _sha256(archive, count) != found[1]:
            self.run(f"rm -f {quoted}/bundle.partial")
            return 0
        return count

    def _append(self, archive: Path, start: int) -> int:
        """Send the archive from an offset on; a dropped link is noticed by the hash, not here."""
        script = f"cat >> {shlex.quote(self.folder)}/bundle.partial"
        sent = 0
        with (
            archive.open("rb") as source,
            subprocess.Popen([*self.command, script], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process,
        ):
            source.seek(start)
            assert process.stdin is not None
            try:
                for chunk in iter(lambda: source.read(CHUNK), b""):
                    process.stdin.write(chunk)
                    sent += len(chunk)
                process.stdin.close()
            except BrokenPipeError:
                logger.warning("%s: the link dropped while sending", self.host)
            process.wait()
        return sent

    def _finish(self, digest: str) -> None:
        self.run(
            f"cd {shlex.quote(self.folder)} && echo '{digest}  bundle.partial' | sha256sum --check --status "
            "&& mv bundle.partial bundle.tar.gz || { echo 'the upload is not complete' >&2; exit 3; }"
        )

    def unpack(self) -> None:
        """Unpack beside and rename, so that a bundle folder is always whole."""
        self.run(
            f"cd {shlex.quote(self.folder)} && if [ ! -d bundle ]; then rm -rf bundle.unpacking && "
            "mkdir bundle.unpacking && tar -xzf bundle.tar.gz -C bundle.unpacking --strip-components=1 && "
            "mv bundle.unpacking bundle; fi",
            SHORT_SECONDS * 5,
        )

    def tool(self, action: str, seconds: int, *arguments: str) -> dict[str, Any]:
        """What ``build.sh ACTION`` printed."""
        words = ["./build.sh", action, "--system", self.options.system, *arguments]
        said = self.run(f"cd {shlex.quote(self.folder)}/bundle && {shlex.join(words)}", seconds)
        try:
            content: dict[str, Any] = json.loads(said)
        except ValueError as error:
            raise DeployError(f"{self.host}: build.sh {action} printed no JSON: {said[:100]!r}") from error
        return content

    def take_into_use(self) -> None:
        """Point ``current`` at this bundle and ``previous`` at the one before."""
        parent, name = shlex.quote(self.options.folder), shlex.quote(Path(self.folder).name)
        self.run(
            f'cd {parent} && before=$(readlink current || true) && if [ "$before" != {name} ]; then '
            f'if [ -n "$before" ]; then ln -sfn "$before" previous; fi; ln -sfn {name} current; fi'
        )


def _sha256(path: Path, count: int) -> str:
    """Hash of the first ``count`` bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while count > 0 and (chunk := source.read(min(CHUNK, count))):
            digest.update(chunk)
            count -= len(chunk)
    return digest.hexdigest()
