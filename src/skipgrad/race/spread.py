"""Jobs side by side: on processes of this machine, or on a Ray cluster. A worker that dies costs its job alone."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
import threading
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any, TypeVar

import torch

from skipgrad.core.errors import BadInput
from skipgrad.core.extras import wanted

Key = TypeVar("Key", bound=Hashable)

AGAIN = 3  # how often a job is begun when its worker dies each time
ANSWERS = 10.0  # seconds within which a cluster takes a connection


class Spread(ABC):
    """Runs jobs side by side and hands back each result as soon as it is there.

    ``with spread:`` keeps the workers from one `run` to the next, and ends them.
    """

    @abstractmethod
    def open(self) -> None:
        """Gets the workers; does nothing when they are there."""

    @abstractmethod
    def close(self) -> None:
        """Ends the workers, and what they are at."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many jobs run at once."""

    @abstractmethod
    def _run(
        self, work: Callable[[Any], Any], jobs: Mapping[Key, Any], group: Callable[[Key], Hashable] | None
    ) -> Iterator[tuple[Key, Any]]:
        """`run`, between `open` and `close`."""

    def run(
        self,
        work: Callable[[Any], Any],
        jobs: Mapping[Key, Any],
        *,
        group: Callable[[Key], Hashable] | None = None,
    ) -> Iterator[tuple[Key, Any]]:
        """Yields (key, result) in the order in which they finish; raises what a job raises.

        Args:
            work: a function of a module, which workers import.
            jobs: what it is called with, each once; again when its worker died.
            group: jobs whose keys give the same run on one machine, where there are several.

        Raises:
            BadInput: a job's worker died `AGAIN` times.
        """
        mine = not self._opened
        self.open()
        try:
            yield from self._run(work, jobs, group)
        finally:
            if mine:
                self.close()

    _opened = False

    def __enter__(self) -> Spread:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Processes(Spread):
    """Processes of this machine, with one torch thread each.

    Args:
        workers: how many at once.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise BadInput("spreading jobs", where="workers", received=str(workers), todo="give at least 1")
        self.workers = workers
        self._idle: list[_Worker] = []
        self._all: list[_Worker] = []

    @property
    def slots(self) -> int:
        return self.workers

    def open(self) -> None:
        self._opened = True

    def close(self) -> None:
        for worker in self._all:
            worker.end()
        self._idle, self._all, self._opened = [], [], False

    def _run(
        self, work: Callable[[Any], Any], jobs: Mapping[Key, Any], group: Callable[[Key], Hashable] | None
    ) -> Iterator[tuple[Key, Any]]:
        left = deque(jobs)
        begun: Counter[Key] = Counter()
        busy: dict[Future[Any], tuple[Key, _Worker]] = {}
        try:
            while left or busy:
                while left and len(busy) < self.workers:
                    key, worker = left.popleft(), self._worker()
                    begun[key] += 1
                    busy[worker.submit(work, jobs[key])] = key, worker
                for future in wait(busy, return_when=FIRST_COMPLETED).done:
                    key, worker = busy.pop(future)
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        worker.end()
                        self._all.remove(worker)
                        if begun[key] == AGAIN:
                            raise _died(len(left) + len(busy) + 1, "fewer --workers") from None
                        left.appendleft(key)
                        continue
                    self._idle.append(worker)
                    yield key, result
        finally:
            for _, worker in busy.values():  # left in the middle: nobody waits for these
                worker.end()
                self._all.remove(worker)

    def _worker(self) -> _Worker:
        if not self._idle:
            self._all.append(_Worker())
            return self._all[-1]
        return self._idle.pop()


class _Worker:
    """One process. A pool of its own, as a pool that loses a process loses what its others are at, too."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, initializer=_begin)
        self._pid = self._pool.submit(os.getpid)

    def submit(self, work: Callable[[Any], Any], job: Any) -> Future[Any]:
        return self._pool.submit(work, job)

    def end(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._pid.done() and not self._pid.cancelled() and self._pid.exception() is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid.result(), signal.SIGTERM)
        self._pool.shutdown(wait=True)


def _begin() -> None:
    """A worker begins: one thread, Ctrl-C is its parent's business, and it ends when its parent does."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class Ray(Spread):
    """A Ray cluster.

    Args:
        address: of the cluster; ``"local"`` starts one here.
        workers: how many jobs at once at most, and the CPUs of a local one; as many as there are CPUs when None.

    Raises:
        MissingExtra: Ray is not installed.
        BadInput: no cluster answers at the address (when it is opened).
    """

    def __init__(self, address: str, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise BadInput("spreading jobs", where="workers", received=str(workers), todo="give at least 1")
        with wanted("ray", "spreading jobs over a Ray cluster"):
            import ray
        self.ray: Any = ray
        self.address, self.workers = address, workers
        self._mine = False

    @property
    def slots(self) -> int:
        there = max(1, int(self.ray.cluster_resources().get("CPU", 1))) if self._opened else 1
        return there if self.workers is None else min(there, self.workers)

    def open(self) -> None:
        if self._opened:
            return
        self._mine = not self.ray.is_initialized()
        if self._mine:
            self._knock()
            more: dict[str, Any] = (
                {"num_cpus": self.workers} if self.address == "local" and self.workers is not None else {}
            )
            try:
                self.ray.init(address=self.address, log_to_driver=False, include_dashboard=False, **more)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise self._not_there(error) from error
        self._opened = True

    def _knock(self) -> None:
        """Asks whether anybody is at the address: Ray itself tries for ten minutes before it says that nobody is."""
        found = re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+)\]?:(\d{1,5})", self.address)
        if found is None:
            return
        try:
            socket.create_connection((found[1], int(found[2])), timeout=ANSWERS).close()
        except (OSError, OverflowError) as error:
            raise self._not_there(error) from error

    def _not_there(self, error: Exception) -> BadInput:
        return BadInput(
            "reaching a Ray cluster",
            where=self.address,
            received=(str(error).splitlines() or [type(error).__name__])[0],
            todo="start one (`ray start --head`), or pass --ray local",
        )

    def close(self) -> None:
        if self._opened and self._mine:
            self.ray.shutdown()
        self._opened = False

    def _run(
        self, work: Callable[[Any], Any], jobs: Mapping[Key, Any], group: Callable[[Key], Hashable] | None
    ) -> Iterator[tuple[Key, Any]]:
        ray = self.ray
        remote = ray.remote(max_retries=AGAIN - 1)(work)
        places = self._places(list(jobs), group)
        left = deque(jobs)
        pending: dict[Any, Key] = {}
        try:
            while left or pending:
                while left and len(pending) < self.slots:
                    key = left.popleft()
                    pending[remote.options(**places.get(key, {})).remote(jobs[key])] = key
                ready, _ = ray.wait(list(pending), num_returns=1)
                key = pending.pop(ready[0])
                yield key, self._result(ready[0], len(left) + len(pending) + 1)
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)

    def _result(self, reference: Any, left: int) -> Any:
        errors = self.ray.exceptions
        try:
            return self.ray.get(reference)
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError):
            raise _died(left, "workers with more memory") from None
        except errors.RayTaskError as error:
            cause = getattr(error, "cause", None)
            raise (cause if isinstance(cause, Exception) else error) from None

    def _places(self, keys: list[Key], group: Callable[[Key], Hashable] | None) -> dict[Key, dict[str, Any]]:
        """The machine of each job: groups go round the machines. Where there is one, nothing needs to be said."""
        nodes = [n["NodeID"] for n in self.ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
        if group is None or len(nodes) < 2:
            return {}
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        groups = {g: i for i, g in enumerate(dict.fromkeys(map(group, keys)))}
        return {
            key: {
                "scheduling_strategy": NodeAffinitySchedulingStrategy(nodes[groups[group(key)] % len(nodes)], soft=True)
            }
            for key in keys
        }


def spread_of(workers: int, ray: str | None) -> Spread | None:
    """What ``--workers`` and ``--ray`` ask for; None for this process.

    Raises:
        MissingExtra: Ray is not installed.
    """
    if ray is not None:
        return Ray(ray, workers if workers > 1 else None)
    return Processes(workers) if workers > 1 else None


def _died(left: int, advice: str) -> BadInput:
    return BadInput(
        "spreading jobs over workers",
        received=f"a job whose worker died {AGAIN} times, with {left} jobs left (out of memory?)",
        todo=f"the finished ones are kept: run the same command with {advice}",
    )
