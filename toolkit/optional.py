"""Heavy or optional libraries, imported where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

from toolkit.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import ``module`` or say which extra brings it.

    Raises:
        MissingExtraError: the module cannot be imported; the message has the pip command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} is not usable here ({error}); install it with: pip install 'patrol-edge[{extra}]'"
        ) from error
