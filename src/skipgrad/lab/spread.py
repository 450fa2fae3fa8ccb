"""Jobs side by side: on processes of this machine, or on a Ray cluster. A worker that dies costs its job alone."""

from __future__ import annotations

import multiprocessing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from skipgrad.core.errors import BadInput
from skipgrad.core.extras import wanted

Key = TypeVar("Key")

AGAIN = 3  # how often a job is begun anew when its worker dies


class Spread(ABC):
    """Runs jobs side by side and hands back each result as soon as it is there."""

    @abstractmethod
    def run(self, work: Callable[[Any], Any], jobs: Mapping[Key, Any]) -> Iterator[tuple[Key, Any]]:
        """Yields (key, result) in the order in which they finish; raises what a job raises."""


class Processes(Spread):
    """Processes of this machine, with one torch thread each.

    Args:
        workers: how many at once.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise BadInput("spreading jobs", where="workers", received=str(workers), todo="give at least 1")
        self.workers = workers

    def run(self, work: Callable[[Any], Any], jobs: Mapping[Key, Any]) -> Iterator[tuple[Key, Any]]:
        left = dict(jobs)
        context = multiprocessing.get_context("spawn")
        for attempt in range(AGAIN):
            try:
                with ProcessPoolExecutor(
                    self.workers, context, initializer=torch.set_num_threads, initargs=(1,)
                ) as pool:
                    futures = {pool.submit(work, job): key for key, job in left.items()}
                    for future in as_completed(futures):
                        key = futures[future]
                        result = future.result()
                        del left[key]
                        yield key, result
                return
            except BrokenProcessPool:
                if attempt + 1 == AGAIN:
                    raise BadInput(
                        "spreading jobs over processes",
                        received=f"a worker that died {AGAIN} times, with {len(left)} jobs left (out of memory?)",
                        todo="the finished ones are kept: run the same command with fewer --workers",
                    ) from None


class Ray(Spread):
    """A Ray cluster.

    Args:
        address: of the cluster; ``"local"`` starts one here.

    Raises:
        MissingExtra: Ray is not installed.
        BadInput: no cluster answers at the address.
    """

    def __init__(self, address: str) -> None:
        with wanted("ray", "spreading jobs over a Ray cluster"):
            import ray
        self.ray = ray
        self.address = address

    def run(self, work: Callable[[Any], Any], jobs: Mapping[Key, Any]) -> Iterator[tuple[Key, Any]]:
        ray = self.ray
        mine = not ray.is_initialized()
        if mine:
            try:
                ray.init(address=self.address, log_to_driver=False, include_dashboard=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise BadInput(
                    "reaching a Ray cluster",
                    where=self.address,
                    received=str(error).splitlines()[0],
                    todo="start one (`ray start --head`), or pass --ray local",
                ) from error
        try:
            remote = ray.remote(max_retries=AGAIN)(work)
            pending = {remote.remote(job): key for key, job in jobs.items()}
            while pending:
                ready, _ = ray.wait(list(pending), num_returns=1)
                yield pending.pop(ready[0]), ray.get(ready[0])
        finally:
            if mine:
                ray.shutdown()
