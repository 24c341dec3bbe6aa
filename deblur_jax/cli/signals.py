"""Signals that stop a command: what is open is put away first, and the exit code says whether to try again."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM, where it stops as Ctrl-C does."""


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """SIGTERM raises `Terminated` in here, for what the same command goes on with afterwards.

    Not everywhere: Python's handlers wait while XLA compiles, and what leaves nothing half done may end at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def sent_again() -> Iterator[None]:
    """What stops us in a callback, such as JAX's of the garbage collector, is reported and forgotten by Python."""
    before = sys.unraisablehook

    def heard(lost: Any) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            sign = signal.SIGTERM if issubclass(lost.exc_type, Terminated) else signal.SIGINT
            # Sent from here, or while the thread is still being started, it would be lost here.
            started = threading.Event()
            threading.Thread(target=again, args=(started, threading.main_thread().ident, sign), daemon=True).start()
            started.set()
        else:
            before(lost)

    def again(started: threading.Event, thread: int, sign: signal.Signals) -> None:
        started.wait()
        time.sleep(0.01)
        signal.pthread_kill(thread, sign)

    sys.unraisablehook = heard
    try:
        yield
    finally:
        sys.unraisablehook = before
