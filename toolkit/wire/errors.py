"""Named reasons why a frame is refused; all are :class:`toolkit.errors.WireError`."""

from __future__ import annotations

from toolkit.errors import WireError


class FrameTruncatedError(WireError):
    """Fewer bytes than the header announces."""

    code = "PE701"


class FrameMagicError(WireError):
    """The bytes are not a PATROL Edge frame."""

    code = "PE702"


class FrameVersionError(WireError):
    """A frame of another version."""

    code = "PE703"


class FrameModelError(WireError):
    """A frame made by another model's edge half."""

    code = "PE704"


class FrameFormatError(WireError):
    """Shape, bits, step or lengths differ from what both sides agreed on."""

    code = "PE705"


class FrameChecksumError(WireError):
    """The bytes changed on the way."""

    code = "PE706"
