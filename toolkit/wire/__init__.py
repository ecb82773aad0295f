"""What travels between edge and cloud: fixed-step codes, bit packing, frames.

Imports numpy only; :func:`quantize_ste` and its neighbours need torch when they are called.
"""

from toolkit.wire.codes import WireFormat, bounds, choose_step, decode, encode, entropy_bits
from toolkit.wire.errors import (
    FrameChecksumError,
    FrameFormatError,
    FrameMagicError,
    FrameModelError,
    FrameTruncatedError,
    FrameVersionError,
)
from toolkit.wire.frame import Frame, frame_size, read_frame, write_frame
from toolkit.wire.packing import pack, packed_size, unpack
from toolkit.wire.private_noise import NOISE, standard_normal
from toolkit.wire.tensors import decode_tensor, encode_tensor, quantize_ste

__all__ = [
    "NOISE",
    "Frame",
    "FrameChecksumError",
    "FrameFormatError",
    "FrameMagicError",
    "FrameModelError",
    "FrameTruncatedError",
    "FrameVersionError",
    "WireFormat",
    "bounds",
    "choose_step",
    "decode",
    "decode_tensor",
    "encode",
    "encode_tensor",
    "entropy_bits",
    "frame_size",
    "pack",
    "packed_size",
    "quantize_ste",
    "read_frame",
    "standard_normal",
    "unpack",
    "write_frame",
]
