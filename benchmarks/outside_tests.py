"""A peer's own tests as a source of models: what they hand to it to be traced, `outside_job.judged` gets.

The tests run by pytest in a process of their own (this file is its plug-in), in which the peer's name stands for a
module whose functions take the model and its inputs. A test that takes too long or kills the process costs itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

FILES = ("test_toy_models.py", "test_real_world_models.py")


def tested(
    folder: Path, done: Collection[str], only: str, timeout: float, memory_gb: float
) -> Iterator[dict[str, Any]]:
    """A record for each test that hands over a model, as they are done."""
    if not (folder / FILES[0]).exists():
        raise SystemExit(f"{folder} has no {FILES[0]}: give the tests of a checkout")
    done = set(done)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "records.jsonl"
        while True:
            out.write_text("")
            process = _start(folder, out, done, only, timeout, memory_gb)
            with out.open(encoding="utf-8") as file:
                begun = ""
                while True:
                    ended = process.poll() is not None
                    for line in file:
                        record = json.loads(line)
                        if "begun" in record:
                            begun = record["begun"]
                        else:
                            begun = ""
                            done.add(record["ref"])
                            yield record
                    if ended:
                        break
                    time.sleep(0.2)
            if not begun:
                return
            done.add(begun)
            failed = {"class": "undecided", "reason": f"its process ended with {process.returncode}"}
            yield {"ref": begun, "models": {begun: failed}, "seconds": 0.0}


def _start(
    folder: Path, out: Path, done: Collection[str], only: str, timeout: float, memory_gb: float
) -> subprocess.Popen[bytes]:
    left = out.with_name("done.json")
    left.write_text(json.dumps(sorted(done)))
    env = dict(os.environ, OUTSIDE_OUT=str(out), OUTSIDE_DONE=str(left), OUTSIDE_ONLY=only)
    env |= {"OUTSIDE_TIMEOUT": str(timeout), "OUTSIDE_MEMORY": str(memory_gb), "PYTHONDONTWRITEBYTECODE": "1"}
    env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), env.get("PYTHONPATH", "")])
    line = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "outside_tests",
        "-p",
        "no:cacheprovider",
    ]
    line += ["-p", "no:randomly", "-W", "ignore", "-c", os.devnull, f"--rootdir={folder}"]
    return subprocess.Popen(
        [*line, *(str(folder / f) for f in FILES)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


# From here on: inside pytest.

if "OUTSIDE_OUT" in os.environ and "pytest" in sys.modules:
    import pytest

    _models: list[dict[str, Any]] = []
    _drawn: list[tuple[Any, Any]] = []  # what a test had drawn

    class _TooLong(BaseException):
        pass

    def _judge(model: Any, args: Any = (), input_kwargs: Any = None, *_: Any, **__: Any) -> bool:
        import copy

        from outside_job import judged

        given = tuple(args) if isinstance(args, list | tuple) else (args,)
        given = tuple(x[:2] if getattr(x, "ndim", 0) == 4 else x for x in given)  # two images of six are as telling

        def make() -> Any:
            return copy.deepcopy(model), copy.deepcopy(given), copy.deepcopy(dict(input_kwargs or {}))

        _models.append(judged(make))
        return True

    def _show(*args: Any, **kwargs: Any) -> None:
        _drawn.append((args, kwargs))

    def _not_ours(*_: Any, **__: Any) -> None:
        pytest.skip("asks the peer's own trace")

    class _Quiet:
        """Something of the peer's own that its conftest sets back: whatever is done to it does nothing."""

        def __getattr__(self, name: str) -> _Quiet:
            return self

        def __call__(self, *_: Any, **__: Any) -> _Quiet:
            return self

    class _Peer(types.ModuleType):
        """Any name of the peer's that a test imports: what traces a model judges it, the rest is not ours."""

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            if name.startswith("_"):
                return _Quiet()
            if name.startswith("validate"):
                return _judge
            return _show if name.startswith("show") else _not_ours

    for _name in ("torchlens", "torchlens.io", "torchlens.validation", "torchlens.visualization"):
        sys.modules[_name] = _Peer(_name)
        sys.modules[_name].__path__ = []
    _state: Any = types.ModuleType("torchlens._state")
    _state._function_call_counts, _state._function_call_models = {}, {}
    sys.modules["torchlens._state"] = sys.modules["torchlens"]._state = _state  # type: ignore[attr-defined]

    def pytest_configure(config: Any) -> None:
        import torch
        from outside_job import prepare

        prepare(float(os.environ["OUTSIDE_MEMORY"]))
        torch.set_num_threads(1)
        for mark in ("slow", "heavy", "rare", "smoke"):
            config.addinivalue_line("markers", mark)

    def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
        done = set(json.loads(Path(os.environ["OUTSIDE_DONE"]).read_text()))
        only = os.environ["OUTSIDE_ONLY"]
        items[:] = [i for i in items if i.name not in done and only in i.name]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(item: Any) -> Any:
        _models.clear()
        _drawn.clear()
        _write({"begun": item.name})
        begun = time.perf_counter()

        def late(*_: Any) -> None:
            raise _TooLong

        signal.signal(signal.SIGALRM, late)
        signal.alarm(int(float(os.environ["OUTSIDE_TIMEOUT"])))
        raised = ""
        try:
            result = yield
            if not _models and _drawn:  # it only looks at a picture
                _judge(*_drawn[0][0], **_drawn[0][1])
        except _TooLong:
            raised, result = "it took too long", True
        finally:
            signal.alarm(0)
            raised = raised or getattr(item, "outside_raised", "")
            models = {f"{item.name}#{k}" if k else item.name: m for k, m in enumerate(_models)}
            if not models:
                models[item.name] = {"class": "undecided" if "long" in raised else "model", "reason": raised[:300]}
            _write({"ref": item.name, "models": models, "seconds": round(time.perf_counter() - begun, 2)})
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(item: Any, call: Any) -> Any:
        report = yield
        if call.excinfo is not None:
            error = call.excinfo.value
            text = "it took too long" if isinstance(error, _TooLong) else " ".join(str(error).split())
            item.outside_raised = f"{call.excinfo.typename}: {text}"
        return report

    def _write(record: dict[str, Any]) -> None:
        with open(os.environ["OUTSIDE_OUT"], "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
