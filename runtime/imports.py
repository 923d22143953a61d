"""Importing what may be missing or broken."""

import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from irvis.runtime.errors import IrvisError, one_line


@contextmanager
def importing(mend: str) -> Iterator[None]:
    """Hold signals in the block, which imports, and say in one line which package is missing or broken.

    numpy and OpenCV turn a KeyboardInterrupt into an ImportError. ``mend`` says where a missing package comes from.
    Raises IrvisError, or the ImportError itself if what cannot be imported is a part of irvis.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    except ImportError as error:
        raise import_failure(error, mend) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def importing_for(program: str) -> Iterator[None]:
    """Do as ``importing`` at the head of a script, which a failure ends by one line; do nothing in another program."""
    if Path(sys.argv[0]).name != program:  # which says in its own way what is missing
        yield
        return
    try:
        with importing("it comes with `pip install -e .` or with JetPack"):
            yield
    except IrvisError as error:
        sys.exit(f"{program}: {error}")
    except KeyboardInterrupt:
        from irvis.runtime.cli import INTERRUPTED

        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def import_failure(error: ImportError, mend: str) -> IrvisError:
    """Return in one line which package is missing or broken; raises ``error`` itself if that is a part of irvis."""
    if (error.name or "").split(".")[0] == "irvis":
        raise error
    if isinstance(error, ModuleNotFoundError):
        return IrvisError(f"{error.name or error} is not installed: {mend}")
    # Such as an OpenCV that lacks libGL.so.1.
    return IrvisError(f"a package cannot be imported ({one_line(error)}); `irvis doctor` says which")
