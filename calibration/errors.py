"""Errors of calibration: one line, what to do next, a short code."""

from __future__ import annotations


class CalibrationError(Exception):
    """Base of every error that calibration raises on purpose."""

    code = "PC000"


class SettingsError(CalibrationError):
    """An option of calibration is wrong."""

    code = "PC100"


class PictureError(CalibrationError):
    """The pictures cannot stand for what the network will see."""

    code = "PC200"


class NoisePictureError(PictureError):
    """The pictures are random numbers."""

    code = "PC201"


class ConstantPictureError(PictureError):
    """The pictures show nothing."""

    code = "PC202"


class DuplicatePictureError(PictureError):
    """The same picture is there more than once."""

    code = "PC203"


class ModelFileError(CalibrationError):
    """The ONNX file is missing, truncated, too large or not ONNX."""

    code = "PC300"


class UnsupportedOperatorError(CalibrationError):
    """The graph holds an operator that cannot be carried through quantization."""

    code = "PC310"


class DynamicShapeError(CalibrationError):
    """A dimension other than the batch is not fixed."""

    code = "PC311"


class WireEndError(CalibrationError):
    """The graph does not end in the wire's QuantizeLinear."""

    code = "PC312"


class ActivationError(CalibrationError):
    """Activations are NaN or infinite."""

    code = "PC400"


class HalfRangeError(CalibrationError):
    """A value does not fit into FP16."""

    code = "PC410"


class CacheMismatchError(CalibrationError):
    """A calibration cache belongs to another model, picture list, preprocessing or method."""

    code = "PC500"
