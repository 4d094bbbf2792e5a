"""Being asked to stop: Ctrl-C, and the SIGTERM by which Slurm, clouds and `kill` end a job."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Literal, TypeAlias

from ._processes import is_first

Asked: TypeAlias = Literal["interrupted", "terminated"]

_WORDS: dict[signal.Signals, Asked] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_log = logging.getLogger("jaxrnn.training")


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], Asked | None]]:
    """What the first SIGINT or SIGTERM asks for; a second one does what it did before.

    Each stays ignored where it is so, as SIGINT in what a shell script starts with `&`. Signals reach the main thread
    alone.
    """
    asked: list[Asked] = []
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            taken = [signum for signum in _WORDS if signal.getsignal(signum) is not signal.SIG_IGN]
            before = {signum: signal.getsignal(signum) for signum in taken}

            def restore() -> None:
                for signum, handler in before.items():
                    signal.signal(signum, handler)

            def handle(signum: int, frame: FrameType | None) -> None:
                del frame
                asked.append(_WORDS[signal.Signals(signum)])
                restore()

            stack.callback(restore)
            for signum in taken:
                signal.signal(signum, handle)
            if signal.SIGINT not in taken and is_first():
                _log.warning("Ctrl-C is ignored, as in the background: `kill %d` ends the training", os.getpid())
        yield lambda: asked[0] if asked else None
