"""Python files and modules that a user names: imported for what `@register_model` does in them.

A failure on import is told as one, with the plugin's own file and line; it never becomes "unknown model".
Classes that a plugin writes for the Pixano server, and registers there, are found as well.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

from pixano_vlm.errors import PixanoVLMError, PluginError
from pixano_vlm.nearest import nearest_path

__all__ = ["load_plugin"]


def load_plugin(spec: str, flag: str = "--plugin") -> ModuleType:
    """Imports the Python file or module that `spec` names; a second call with the same one does nothing.

    Args:
        spec: A file that ends with .py, or a module.
        flag: Who asks for it, for messages.

    Raises:
        PluginError: When it does not exist, or raises on import; the message names the file and the line.
        DuplicateModelError: When it registers a name that is taken.
    """
    is_file = spec.endswith(".py") or "/" in spec
    module = _load_file(Path(spec).expanduser(), flag) if is_file else _load_module(spec, flag)
    if "pixano_inference.models" in sys.modules:
        importlib.import_module("pixano_vlm.engines.pixano.adopted").adopt_registered()
    return module


def _load_module(spec: str, flag: str) -> ModuleType:
    try:
        return importlib.import_module(spec)
    except ModuleNotFoundError as error:
        if error.name is not None and (spec == error.name or spec.startswith(f"{error.name}.")):
            raise PluginError(
                f"there is no module {spec!r} for {flag}.",
                hint=f"Install the package that has it, or name a file: {flag} path/to/file.py.",
            ) from error
        raise _failed(spec, error) from error
    except PixanoVLMError:
        raise
    # A plugin is someone else's code: it may raise anything on import, SystemExit included.
    except (Exception, SystemExit) as error:
        raise _failed(spec, error) from error


def _load_file(file: Path, flag: str) -> ModuleType:
    if not file.is_file():
        raise PluginError(f"there is no file {file} for {flag}.", hint=nearest_path(file))
    # Two plugins may share a file name: their text keeps their classes apart. It also becomes part of a
    # model's fingerprint, so that a run is not resumed with answers that other code gave.
    name = f"pixano_vlm_plugin_{file.stem}_{blake2b(file.read_bytes(), digest_size=8).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, PixanoVLMError) or not isinstance(error, Exception | SystemExit):
            raise
        raise _failed(str(file), error) from error
    return module


def _failed(spec: str, error: BaseException) -> PluginError:
    hint = "--traceback shows where it came from."
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == "pixano_inference":
        hint = "It was written for the Pixano server. Run: pip install 'pixano-vlm[pixano]'."
    return PluginError(
        f"{spec} cannot be imported: {_place(spec, error)}{type(error).__name__}: {_text(error)}.",
        hint=hint,
    )


def _text(error: BaseException) -> str:
    # A SyntaxError's own text repeats the file and line that stand before it here.
    return error.msg if isinstance(error, SyntaxError) else str(error)


def _place(spec: str, error: BaseException) -> str:
    """`file:line: ` of the failure: in the plugin's own file where the trace passes through it."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}:{error.lineno}: "
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    frames = [f for f in frames if f.filename != __file__]
    own = [f for f in frames if Path(f.filename).name == Path(spec).name]
    chosen = (own or frames)[-1:]
    return "".join(f"{frame.filename}:{frame.lineno}: " for frame in chosen)
