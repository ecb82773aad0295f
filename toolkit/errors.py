"""Errors a user can act on: one line, a short code that the documentation explains, no traceback."""

from __future__ import annotations


class PatrolError(Exception):
    """Base of every error that the command line prints as one line (exit code 2)."""

    code = "PE000"


class SettingsError(PatrolError):
    """A configuration file or an option is wrong."""

    code = "PE100"


class DataError(PatrolError):
    """Pictures, labels or splits cannot be used."""

    code = "PE200"


class ModelError(PatrolError):
    """A network, a cut, a checkpoint or a plan cannot be used."""

    code = "PE300"


class TrainingError(PatrolError):
    """Training cannot go on (loss is NaN, budget cannot be met)."""

    code = "PE400"


class ArtifactError(PatrolError):
    """A file of a run is missing, changed, truncated or belongs to another run."""

    code = "PE500"


class EngineError(PatrolError):
    """An engine cannot be built, loaded or run here."""

    code = "PE600"


class WireError(PatrolError):
    """Codes or a frame do not fit the wire format."""

    code = "PE700"


class AttackError(PatrolError):
    """An attack cannot be run or its result cannot be trusted."""

    code = "PE800"


class MissingExtraError(PatrolError):
    """An optional library is absent; the message names the extra to install."""

    code = "PE900"
