"""The drawing module, which alone needs matplotlib."""

import importlib
from typing import Any


def pictures() -> Any:
    """The module `_pictures`, imported when it is needed."""
    try:
        return importlib.import_module("._pictures", __package__)
    except ModuleNotFoundError as error:
        raise ImportError("plot needs matplotlib: pip install 'jaxrnn[experiments]'") from error
