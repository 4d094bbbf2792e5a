"""Compiled kernels on a CPU: whether they run, and how to keep them out.

>>> import jaxrnn as jr
>>> with jr.native.disabled():
...     jr.native.info().is_ready
False
"""

from ._scan.native.library import Info as Info
from ._scan.native.library import disabled as disabled
from ._scan.native.library import info as info

__all__ = ["Info", "disabled", "info"]
