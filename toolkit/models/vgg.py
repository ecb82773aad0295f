"""VGG-16 with BatchNorm (Simonyan and Zisserman 2015, arXiv:1409.1556), with torchvision's parameter names."""

from __future__ import annotations

from torch import Tensor, nn

from toolkit.models.backbone import Backbone, check_arguments, initialize, scaled

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Vgg16(Backbone):
    """A block is one convolution with its BatchNorm and ReLU, or one max-pooling.

    A block is named after torchvision's index of its last module, so that ``features.2`` is the output of
    torchvision's ``features[2]``, the first ReLU. ``stage1`` to ``stage5`` are aliases of the stages' last
    ReLU, before the pooling.

    Args:
        last_stride: 1 leaves out the last max-pooling.
        width: multiplies all channels.
    """

    def __init__(self, *, last_stride: int = 2, width: float = 1.0) -> None:
        check_arguments(last_stride, width)
        modules: list[nn.Module] = []
        spans: list[tuple[int, int]] = []
        strides: list[int] = []
        aliases: dict[str, str] = {}
        inputs = 3
        for stage, stage_channels in enumerate(STAGES):
            for channels in stage_channels:
                outputs = scaled(channels, width)
                start = len(modules)
                modules += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
                spans.append((start, len(modules)))
                strides.append(2**stage)
                inputs = outputs
            aliases[f"stage{stage + 1}"] = f"features.{len(modules) - 1}"
            if stage + 1 < len(STAGES) or last_stride == 2:
                modules.append(nn.MaxPool2d(2, 2))
                spans.append((len(modules) - 1, len(modules)))
                strides.append(2 ** (stage + 1))
        super().__init__([f"features.{end - 1}" for _, end in spans], strides, aliases)
        self._spans = tuple(spans)
        self.features = nn.Sequential(*modules)
        initialize(self)

    def run_block(self, index: int, x: Tensor) -> Tensor:
        for module in self.block_modules(index):
            x = module(x)
        return x

    def block_modules(self, index: int) -> tuple[nn.Module, ...]:
        start, end = self._spans[index]
        return tuple(self.features[index] for index in range(start, end))

    def nonnegative_at(self, block: str | int) -> bool:
        self.index_of(block)
        return True
