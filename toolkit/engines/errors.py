"""Named reasons why an engine is not built, not opened or not run; all are ``EngineError``."""

from __future__ import annotations

from toolkit.errors import EngineError


class EngineBuildError(EngineError):
    """The library refused the network or could not build it."""

    code = "PE601"


class EngineMismatchError(EngineError):
    """The engine file is not what its sidecar says, or was built for another library, GPU or model."""

    code = "PE602"


class ModelRefusedError(EngineBuildError):
    """The library's parser does not take the model."""

    code = "PE605"


class EngineInputError(EngineError):
    """An input has another name, shape or type than the engine takes, is not contiguous, or holds NaN."""

    code = "PE603"


class NoDeviceError(EngineError):
    """There is no usable GPU or driver here."""

    code = "PE604"
