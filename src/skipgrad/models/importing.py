"""``package.module:callable`` and ``file.py:callable``: the user's own code."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from skipgrad.core import BadInput, SkipgradError, UnknownName, nearest
from skipgrad.instrument.faults import shorten


def import_callable(ref: str, noun: str, error: type[SkipgradError], prefixes: tuple[str, ...]) -> Callable[..., Any]:
    """The callable a reference names.

    Args:
        ref: ``package.module:callable`` or ``path/to/file.py:callable``.
        noun: ``"model"`` or ``"data"``, for messages.
        error: what to raise when the import itself raises.
        prefixes: the prefixes that are no modules (``torchvision`` …), for the nearest-name hint.

    Raises:
        UnknownName: no such file, module or callable.
        BadInput: it names something that cannot be called.
        SkipgradError: of the given kind, when importing raises.
    """
    doing = f"resolving the {noun} {ref!r}"
    place, _, name = ref.rpartition(":")
    is_file = place.endswith(".py")
    module = (
        _import_file(Path(place).expanduser(), doing, error)
        if is_file
        else _import_module(place, doing, error, prefixes)
    )
    thing: Any = module
    for part in name.split("."):
        if not hasattr(thing, part):
            own = [n for n in dir(thing) if not n.startswith("_") and callable(getattr(thing, n, None))]
            raise UnknownName(doing, where=place, received=f"no {name!r} in it", todo=nearest(part, own))
        thing = getattr(thing, part)
    if not callable(thing) or type(thing).__module__.startswith("torch.nn"):
        raise BadInput(
            doing, where=place, received=f"{name} is a {type(thing).__name__}", todo="name a function or class"
        )
    return thing


def _import_file(path: Path, doing: str, error: type[SkipgradError]) -> ModuleType:
    if not path.is_file():
        raise UnknownName(
            doing, where=str(path), received="no such file", todo=f"check the path; it is read from {Path.cwd()}"
        )
    path = path.resolve()
    name = f"skipgrad_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up by name
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as raised:
        del sys.modules[name]
        raise error(
            doing,
            where=_line(raised, str(path)),
            received=f"{type(raised).__name__}: {shorten(str(raised))}",
            todo="make the file importable: python " + str(path),
        ) from raised
    finally:
        if str(path.parent) in sys.path:
            sys.path.remove(str(path.parent))
    return module


def _import_module(place: str, doing: str, error: type[SkipgradError], prefixes: tuple[str, ...]) -> ModuleType:
    # A console script has its own folder on the path, not the one it was called in.
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as raised:
        # The module itself is missing, or one that it imports: two different mistakes.
        if raised.name is not None and (place == raised.name or place.startswith(raised.name + ".")):
            raise UnknownName(
                doing,
                received=f"no library or module {place!r}",
                todo=nearest(place, prefixes)
                + "; your own code is written package.module:callable or file.py:callable",
            ) from raised
        raise error(
            doing,
            where=place,
            received=f"{type(raised).__name__}: {shorten(str(raised))}",
            todo="install what is missing",
        ) from raised
    except (Exception, SystemExit) as raised:
        raise error(
            doing,
            where=place,
            received=f"{type(raised).__name__}: {shorten(str(raised))}",
            todo=f"make it importable: python -c 'import {place}'",
        ) from raised
    finally:
        if here in sys.path:
            sys.path.remove(here)


def _line(raised: BaseException, path: str) -> str:
    """``file, line n`` of the deepest line in the user's file that raised."""
    trace, line = raised.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return path if line is None else f"{path}, line {line}"
