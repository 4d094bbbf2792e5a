"""The way to `plots`, taken when a picture is asked for: matplotlib may not be installed."""

from types import ModuleType


def drawing() -> ModuleType:
    """The module `plots`."""
    try:
        from . import plots
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ImportError("plot needs matplotlib: pip install 'jaxrnn[plot]'") from error
    return plots
