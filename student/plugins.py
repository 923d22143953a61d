"""The user's own code, named on the command line as ``package.module:function``."""

import importlib
import os
import re
import sys
from typing import Any

from irvis.runtime.errors import IrvisError, ModelError, one_line

FORM = re.compile(r"(?P<module>[\w.]+):(?P<function>\w+)")


def call_function(name: str, *arguments: Any) -> Any:
    """Call the function ``name``, given as FORM, and return its result; the current folder is on the import path.

    Raises ModelError, naming the function, for any exception in it; its own IrvisErrors pass through unchanged.
    """
    module, _, function = name.partition(":")
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        return getattr(importlib.import_module(module), function)(*arguments)
    except IrvisError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code; a script may read the command line and exit
        raise ModelError(f"{name} cannot be called from {folder}: {type(error).__name__}: {one_line(error)}") from error
    finally:
        sys.path.remove(folder)
