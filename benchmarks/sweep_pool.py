"""Workers that examine models one at a time: local processes, or actors of a Ray cluster.

A worker that dies or hangs costs one model.
"""

from __future__ import annotations

import importlib
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any, Protocol

import sweep_job


class Worker(Protocol):
    """Takes one job at a time."""

    def start(self, ref: str) -> None:
        """Begins a job."""

    def poll(self) -> dict[str, Any] | None:
        """Its record; None while it runs.

        Raises:
            WorkerDied: there will be none.
        """
        ...

    def end(self) -> None:
        """Ends the worker, whatever it does."""


class WorkerDied(Exception):
    """A worker ended in the middle of a job."""


def _serve(pipe: Any, memory_gb: float, job: str) -> None:
    todo = importlib.import_module(job)
    todo.prepare(memory_gb)
    pipe.send(None)  # ready: the time-out of a job does not count the imports
    while (ref := pipe.recv()) is not None:
        pipe.send(todo.examine(ref))


class LocalWorker:
    """A process of this machine, started anew (spawned), so that it shares nothing with the others."""

    def __init__(self, memory_gb: float, job: str = "sweep_job") -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, memory_gb, job), daemon=True)
        self.process.start()
        theirs.close()
        self._receive()

    def _receive(self) -> Any:
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join(10)
            raise WorkerDied(f"the worker died (exit code {self.process.exitcode})") from None

    def start(self, ref: str) -> None:
        """Begins a job."""
        self.pipe.send(ref)

    def poll(self) -> dict[str, Any] | None:
        """Its record; None while it runs."""
        return self._receive() if wait([self.pipe], 0.02) else None

    def end(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


class RayWorker:
    """An actor of a Ray cluster, on one core of it."""

    def __init__(self, memory_gb: float, job: str = "sweep_job") -> None:
        import ray

        assert job == "sweep_job", "a cluster runs find alone"

        self.ray = ray
        self.actor = ray.remote(num_cpus=1, max_restarts=0)(sweep_job.Examiner).remote(memory_gb)
        self._get(self.actor.ready.remote())
        self.pending: Any = None

    def _get(self, reference: Any) -> Any:
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayActorError as error:
            raise WorkerDied(f"the worker died ({' '.join(str(error).split())[:200]})") from None

    def start(self, ref: str) -> None:
        """Begins a job."""
        self.pending = self.actor.examine.remote(ref)

    def poll(self) -> dict[str, Any] | None:
        """Its record; None while it runs."""
        done, _ = self.ray.wait([self.pending], timeout=0.02)
        return self._get(done[0]) if done else None

    def end(self) -> None:
        """Ends the actor."""
        self.ray.kill(self.actor)


def workers_of(spec: str) -> tuple[type[LocalWorker] | type[RayWorker], int]:
    """The kind and number of workers that ``--workers`` names: a number, ``ray`` or ``ray://host:port``."""
    if spec.isdigit() and int(spec) > 0:
        return LocalWorker, int(spec)
    if spec != "ray" and not spec.startswith("ray://"):
        raise SystemExit(f"--workers {spec!r}: give a number of local processes, ray, or ray://HOST:PORT")
    try:
        import ray
    except ModuleNotFoundError:
        raise SystemExit(f"--workers {spec}: Ray is not installed; pip install 'skipgrad[ray]'") from None
    import machine

    if not ray.is_initialized():
        ray.init(None if spec == "ray" else spec, log_to_driver=False, logging_level="error")
    for module in (sweep_job, machine):  # a cluster has skipgrad installed, not this folder
        ray.cloudpickle.register_pickle_by_value(module)
    return RayWorker, int(ray.cluster_resources().get("CPU", 1))


def examined(
    refs: Sequence[str], spec: str, timeout: float, memory_gb: float, job: str = "sweep_job"
) -> Iterator[dict[str, Any]]:
    """The records of models, as they are done; a death or a time-out is one too.

    ``job`` is a module with `prepare` and `examine`.
    """
    kind, count = workers_of(spec)
    left = list(reversed(refs))
    free: list[Worker] = []
    busy: dict[Worker, tuple[str, float]] = {}
    try:
        while left or busy:
            while left and len(busy) < count:
                worker = free.pop() if free else kind(memory_gb, job)
                ref = left.pop()
                worker.start(ref)
                busy[worker] = ref, time.monotonic()
            for worker, (ref, begun) in list(busy.items()):
                try:
                    record = worker.poll()
                    if record is None and time.monotonic() - begun < timeout:
                        continue
                    if record is None:
                        raise WorkerDied(f"took longer than {timeout:g} s")
                    if record.pop("worn", False):  # it has too little memory left for the models to come
                        worker.end()
                    else:
                        free.append(worker)
                except WorkerDied as error:
                    worker.end()
                    record = {"ref": ref, "ok": False, "reason": str(error), "find_s": time.monotonic() - begun}
                del busy[worker]
                yield record
    finally:
        for worker in (*free, *busy):
            worker.end()
