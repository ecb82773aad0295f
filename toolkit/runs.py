"""The run folder: what was made, from what, by which code, and whether it is still what was made.

``runs/<name>/manifest.json`` records every finished stage with the sha256 of its artifacts and of what it
was made from. A stage works in ``<stage>.partial`` and is renamed when it is done, so that nothing half-written
ever carries a stage's name; a killed stage finds its partial folder again when its key is unchanged.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toolkit.errors import ArtifactError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
KEY_FILE = ".key"
CHECKPOINTS = "checkpoints"


class Artifact(BaseModel):
    """One file of a finished stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sha256: str
    size: int


class StageRecord(BaseModel):
    """What a finished stage left behind."""

    model_config = ConfigDict(extra="forbid")
    key: str
    code_version: int
    inputs: dict[str, str]
    artifacts: dict[str, Artifact]
    seconds: float
    summary: dict[str, Any] = Field(default_factory=dict)

    def digest(self) -> str:
        """One hash over all artifacts, which the stages that follow depend on."""
        return text_sha256(json.dumps({name: item.sha256 for name, item in sorted(self.artifacts.items())}))


class Manifest(BaseModel):
    """``manifest.json``."""

    model_config = ConfigDict(extra="forbid")
    schema_version: int = SCHEMA_VERSION
    name: str
    created: str
    settings: dict[str, Any]
    environment: dict[str, Any]
    stages: dict[str, StageRecord] = Field(default_factory=dict)


def text_sha256(text: str) -> str:
    """Hex sha256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Write a text file under a temporary name and rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class RunFolder:
    """A run on disk. Only one process may hold it (``with run.locked():``)."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root = root
        self.manifest = manifest
        self._verified: set[Path] = set()

    @classmethod
    def open(cls, root: Path, *, name: str, settings: dict[str, Any], environment: dict[str, Any]) -> RunFolder:
        """Open a run, or begin it; its settings and environment are those of the latest call.

        Nothing is written before the run is locked.
        """
        if (root / MANIFEST).exists():
            run = cls.read(root)
            run.manifest.settings, run.manifest.environment = settings, environment
            return run
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return cls(root, Manifest(name=name, created=created, settings=settings, environment=environment))

    @classmethod
    def read(cls, root: Path) -> RunFolder:
        """Open an existing run.

        Raises:
            ArtifactError: there is no manifest, or it is not one of this version.
        """
        path = root / MANIFEST
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            version = body.get("schema_version")
            if version != SCHEMA_VERSION:
                raise ArtifactError(f"{path}: schema version {version!r}, this version reads {SCHEMA_VERSION}")
            return cls(root, Manifest.model_validate(body))
        except OSError as error:
            raise ArtifactError(f"{root} is not a run folder: {MANIFEST}: {error.strerror}") from error
        except (ValueError, AttributeError, ValidationError) as error:
            raise ArtifactError(
                f"{path} is damaged; restore it, or delete the folder {root} and run again"
            ) from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process.

        Raises:
            ArtifactError: another process works in it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ArtifactError(f"another process works in {self.root}; wait for it or stop it") from error
            if (self.root / MANIFEST).exists():
                # Another process may have finished stages since the manifest was read.
                self.manifest.stages = RunFolder.read(self.root).manifest.stages
            yield

    def save(self) -> None:
        """Write the manifest."""
        self.root.mkdir(parents=True, exist_ok=True)
        write_atomic(self.root / MANIFEST, json.dumps(self.manifest.model_dump(mode="json"), indent=1) + "\n")

    def existing_folder(self) -> Path:
        """The run's folder, or the nearest one above it that exists."""
        return next(folder for folder in (self.root, *self.root.resolve().parents) if folder.is_dir())

    def path(self, stage: str, *parts: str) -> Path:
        """A file of a finished stage, checked against its sha256 the first time it is asked for.

        Raises:
            ArtifactError: the stage is not finished, the file is no artifact of it, or it was changed.
        """
        name = "/".join(parts)
        record = self.manifest.stages.get(stage)
        if record is None:
            raise ArtifactError(f"stage {stage} of {self.root} is not finished; run it first")
        if name not in record.artifacts:
            raise ArtifactError(f"stage {stage} of {self.root} has no artifact {name}")
        self._verify(stage, name, record.artifacts[name])
        return self.root / stage / name

    def folder(self, stage: str, *parts: str) -> Path:
        """A folder of a finished stage; every artifact in it is checked."""
        record = self.manifest.stages.get(stage)
        prefix = "/".join(parts) + "/" if parts else ""
        names = [name for name in record.artifacts if name.startswith(prefix)] if record else []
        if not names:
            raise ArtifactError(
                f"stage {stage} of {self.root} has no folder {prefix or 'of its own'}; run it first"
            )
        for name in names:
            self.path(stage, *name.split("/"))
        return self.root.joinpath(stage, *parts)

    def has(self, stage: str, *parts: str) -> bool:
        """Whether a finished stage has that artifact, or anything in that folder."""
        record = self.manifest.stages.get(stage)
        name = "/".join(parts)
        return record is not None and any(key == name or key.startswith(name + "/") for key in record.artifacts)

    def is_done(self, stage: str, key: str) -> bool:
        """Whether the stage was finished under this key. Every artifact of it is checked.

        Raises:
            ArtifactError: a file of it is missing or was changed.
        """
        record = self.manifest.stages.get(stage)
        if record is None or record.key != key:
            return False
        for name, artifact in record.artifacts.items():
            self._verify(stage, name, artifact)
        return True

    def _verify(self, stage: str, name: str, artifact: Artifact) -> None:
        path = self.root / stage / name
        if path in self._verified:
            return
        advice = f"restore it, or delete the folder {self.root / stage} and run again"
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; {advice}")
        if path.stat().st_size != artifact.size:
            raise ArtifactError(f"{path} has {path.stat().st_size} bytes instead of {artifact.size}; {advice}")
        if file_sha256(path) != artifact.sha256:
            raise ArtifactError(f"{path} was changed after it was made (sha256 differs); {advice}")
        self._verified.add(path)

    def drop_missing(self) -> list[str]:
        """Forget finished stages whose folder was deleted, so that they are made again; their names."""
        gone = [stage for stage in self.manifest.stages if not (self.root / stage).exists()]
        for stage in gone:
            del self.manifest.stages[stage]
        return gone

    def begin(self, stage: str, key: str) -> Path:
        """The folder a stage works in: the one a killed process left under the same key, or a new one."""
        partial = self.root / f"{stage}.partial"
        if partial.exists() and _read_key(partial) != key:
            shutil.rmtree(partial)
        partial.mkdir(parents=True, exist_ok=True)
        write_atomic(partial / KEY_FILE, key)
        return partial

    def abandon(self, stage: str) -> None:
        """Remove the folder of a failed stage when nothing was written into it."""
        partial = self.root / f"{stage}.partial"
        if partial.is_dir() and all(path.name == KEY_FILE for path in partial.iterdir()):
            shutil.rmtree(partial)

    def finish(
        self,
        stage: str,
        key: str,
        *,
        code_version: int,
        inputs: Mapping[str, str],
        seconds: float,
        summary: dict[str, Any],
    ) -> StageRecord:
        """Turn the partial folder into the stage's folder and record its artifacts."""
        partial, final = self.root / f"{stage}.partial", self.root / stage
        shutil.rmtree(partial / CHECKPOINTS, ignore_errors=True)
        for left in partial.rglob(".*.tmp"):  # of a process that was killed while it wrote a file
            left.unlink()
        artifacts = {
            path.relative_to(partial).as_posix(): Artifact(sha256=file_sha256(path), size=path.stat().st_size)
            for path in sorted(partial.rglob("*"))
            if path.is_file() and path.name != KEY_FILE
        }
        self.manifest.stages.pop(stage, None)
        self.save()
        shutil.rmtree(final, ignore_errors=True)
        (partial / KEY_FILE).unlink(missing_ok=True)
        partial.rename(final)
        self._verified = {path for path in self._verified if final not in path.parents}
        record = StageRecord(
            key=key,
            code_version=code_version,
            inputs=dict(inputs),
            artifacts=artifacts,
            seconds=round(seconds, 3),
            summary=summary,
        )
        self.manifest.stages[stage] = record
        self.save()
        return record


def _read_key(folder: Path) -> str:
    try:
        return (folder / KEY_FILE).read_text(encoding="utf-8")
    except OSError:
        return ""


def list_runs(folder: Path) -> list[RunFolder]:
    """The runs below ``folder``, oldest first; folders without a readable manifest are left out."""
    runs = []
    for path in sorted(folder.glob(f"*/{MANIFEST}")):
        with contextlib.suppress(ArtifactError):
            runs.append(RunFolder.read(path.parent))
    return sorted(runs, key=lambda run: run.manifest.created)


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
