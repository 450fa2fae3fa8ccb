"""Threads are chosen by what steps take: on a machine that is faked, and with real steps."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from skipgrad.core import BadInput, Recipe
from skipgrad.instrument import threads as module
from skipgrad.instrument.threads import MOST_ROUNDS, PATIENCE, Threads
from skipgrad.race import race
from skipgrad.train import settle, train_trial
from train.toy import Toy

REAL_MEETING = module.meeting


def meets(number: int, clock: Any = None) -> float:
    torch.set_num_threads(number)
    return 1e-5


@pytest.fixture(autouse=True)
def before(monkeypatch: pytest.MonkeyPatch) -> Any:
    """No limit from outside, and torch's number as it was, whatever happens."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(module, "meeting", meets)  # so many of them on a clock that stands still take long
    was = torch.get_num_threads()
    yield
    torch.set_num_threads(was)


class Machine:
    """A clock, and steps whose time depends on torch's threads."""

    def __init__(self, takes: Callable[[int, int], float]) -> None:
        self.now, self.takes, self.steps, self.spent = 0.0, takes, 0, []

    def clock(self) -> float:
        return self.now

    def run(self, threads: Threads, steps: int, **given: Any) -> list[int]:
        """A trial; returns the numbers of threads its steps had."""
        used = []
        for number in range(steps):
            with threads.step(number, **given):
                count = torch.get_num_threads()
                took = self.takes(count, self.steps)
                self.now += took
                self.spent.append(took)
            used.append(count)
            self.steps += 1
            self.now += 7.0  # whatever is between two steps does not count
        return used


def made(takes: Callable[[int, int], float], wanted: Any = "auto", allowed: int = 2) -> tuple[Machine, Threads]:
    machine = Machine(takes)
    return machine, Threads(wanted, allowed=allowed, clock=machine.clock)


def test_slow_steps_with_two_threads_leave_one() -> None:
    machine, threads = made(lambda count, step: 0.008 if count == 1 else 0.010)
    with threads:
        used = machine.run(threads, 60)
        assert threads.settled
    assert threads.chosen == 1
    assert set(used[:2]) == {1}  # warming up
    assert used.count(2) == 1 + MOST_ROUNDS
    assert set(used[2 + 2 * (1 + MOST_ROUNDS) :]) == {1}
    assert threads.meta() == {
        "chosen": 1,
        "allowed": 2,
        "how": "auto: 1 thread 8.0 ms a step, 2 threads 10.0 ms",
        "changes": [],
    }


def test_fast_steps_with_all_threads_are_taken() -> None:
    machine, threads = made(lambda count, step: 0.1 / count, allowed=4)
    with threads:
        used = machine.run(threads, 60)
    assert (threads.chosen, set(used)) == (4, {1, 4})
    assert used[-30:] == [4] * 30
    assert threads.how == "auto: 1 thread 100.0 ms a step, 4 threads 25.0 ms"


def test_a_small_gain_is_not_worth_another_thread() -> None:
    machine, threads = made(lambda count, step: 0.1 if count == 1 else 0.095)
    with threads:
        machine.run(threads, 60)
    assert threads.chosen == 1


def test_a_first_step_that_no_start_of_threads_explains_is_the_last() -> None:
    machine, threads = made(lambda count, step: 0.02 if count == 1 else 4.0)
    with threads:
        used = machine.run(threads, 60)
    assert (threads.chosen, used.count(2)) == (1, 1)


@pytest.mark.parametrize(("step", "wait", "tried"), [(0.02, 4e-3, False), (0.02, 9e-5, True), (20.0, 4e-3, True)])
def test_threads_that_wait_for_each_other_at_an_op_are_not_tried_on_a_step(
    monkeypatch: pytest.MonkeyPatch, step: float, wait: float, tried: bool
) -> None:
    def meeting(number: int, clock: Any) -> float:
        torch.set_num_threads(number)
        return wait

    monkeypatch.setattr(module, "meeting", meeting)
    machine, threads = made(lambda count, _: step / count)
    with threads:
        used = machine.run(threads, 60)
    assert (2 in used, threads.chosen) == (tried, 1 + tried)
    if not tried:
        assert threads.how == "auto: 1 thread 20.0 ms a step, 2 threads wait 4.0 ms at every op"
        assert threads.settled
        assert threads.changes == []


def test_a_meeting_is_short_and_measured() -> None:
    assert 0 < REAL_MEETING(1) < module.SPENT
    assert torch.get_num_threads() == 1
    ticks = iter(range(100))
    assert REAL_MEETING(1, lambda: next(ticks)) == 1  # one is enough when it takes so long


def test_long_steps_are_decided_by_few() -> None:
    machine, threads = made(lambda count, step: 3.0 if count == 1 else 2.0)
    with threads:
        used = machine.run(threads, 20)
    assert threads.chosen == 2
    assert used.index(2) == 3
    assert set(used[3 + 2 * 3 :]) == {2}


@pytest.mark.parametrize("faster", [1, 2])
def test_a_clear_difference_of_long_steps_is_decided_by_two_of_each(faster: int) -> None:
    machine, threads = made(lambda count, step: 0.2 if count == faster else 0.4)
    with threads:
        used = machine.run(threads, 20)
    assert threads.chosen == faster
    assert used[: 2 + 2 + 3] == [1, 1, 1, 2, 2, 1, 2]  # warming up, then in turns; the first with two is thrown away
    assert set(used[7:]) == {faster}


def test_one_slow_step_is_not_clear() -> None:
    machine, threads = made(lambda count, step: 0.7 if step == 4 else 0.2)
    with threads:
        machine.run(threads, 20)
    assert threads.chosen == 1
    assert threads.how == "auto: 1 thread 200.0 ms a step, 2 threads 200.0 ms"


def test_the_first_step_with_a_number_does_not_count() -> None:
    met: set[int] = set()

    def takes(count: int, step: int) -> float:
        first = count not in met
        met.add(count)
        return 9.0 if step < 2 else 0.55 if first else 0.1 / count

    machine, threads = made(takes)
    with threads:
        machine.run(threads, 40)
    assert threads.chosen == 2


def test_outliers_do_not_decide() -> None:
    dice = random.Random(0)
    machine, threads = made(lambda count, step: (0.06 if count == 2 else 0.1) * (3.9 if dice.random() < 0.2 else 1))
    with threads:
        machine.run(threads, 40)
    assert threads.chosen == 2


def test_a_slowdown_is_measured_again_and_changes_the_choice() -> None:
    machine, threads = made(lambda count, step: 0.06 if count == 2 and step < 100 else 2.0 if count == 2 else 0.1)
    with threads:
        used = machine.run(threads, 200)
    assert used[60:100] == [2] * 40
    assert set(used[110:]) == {1}
    assert sum(t > 1 for t in machine.spent) <= 4  # it does not wait for a whole window of such steps
    (change,) = threads.meta()["changes"]
    assert change["to"] == threads.chosen == 1
    assert 100 < change["step"] < 110
    assert change["why"] == "1 thread 100.0 ms a step, 2 threads 2.00 s"
    assert threads.how == "auto: 1 thread 100.0 ms a step, 2 threads 60.0 ms"


def test_a_mild_slowdown_waits_for_a_window() -> None:
    machine, threads = made(lambda count, step: 0.1 if count == 1 else 0.06 if step < 100 else 0.15)
    with threads:
        used = machine.run(threads, 200)
    assert threads.chosen == 1
    assert 100 + 5 < used.index(1, 60) <= 100 + 11


def test_when_the_machine_is_quiet_again_it_looks_again() -> None:
    machine, threads = made(lambda count, step: 0.5 if step < 100 else 0.2 / count)
    with threads:
        used = machine.run(threads, 300)
    assert (used[90], threads.chosen) == (1, 2)
    assert [c["to"] for c in threads.changes] == [2]


def test_a_slowdown_that_hits_both_changes_nothing() -> None:
    machine, threads = made(lambda count, step: (0.1 if step < 100 else 0.5) / (1 if count == 1 else 1.05))
    with threads:
        used = machine.run(threads, 200)
    assert (threads.chosen, threads.changes) == (1, [])
    assert 0 < used[100:].count(2) <= MOST_ROUNDS


def test_it_does_not_flap() -> None:
    # Every 40 steps the other number becomes the faster one, three times over.
    machine, threads = made(lambda count, step: 0.1 if (step // 40) % 2 == (count == 1) else 0.3)
    with threads:
        machine.run(threads, 20_000)
    assert len(threads.changes) <= 10  # of 500 turns: it waits twice as long after each look
    noisy = random.Random(1)
    machine, threads = made(lambda count, step: 0.1 * noisy.lognormvariate(0, 0.3))
    with threads:
        used = machine.run(threads, 5_000)
    assert threads.changes == []
    assert set(used[2 * (2 + MOST_ROUNDS) :]) == {threads.chosen}


def test_after_a_fall_back_to_one_it_waits_before_it_tries_again() -> None:
    # Two threads are stuck whenever they are used for more than a few steps.
    machine, threads = made(lambda count, step: 0.1 if count == 1 else 0.05 if step % 50 < 25 else 3.0)
    with threads:
        machine.run(threads, 5_000)
    assert sum(t > 1 for t in machine.spent) < 60


def test_a_new_trial_begins_with_steps_that_do_not_count() -> None:
    machine, threads = made(lambda count, step: 9.0 if step % 40 < 2 else 0.1 * count)
    with threads:
        for _ in range(20):
            assert set(machine.run(threads, 40)[:2]) == {1}
    assert threads.changes == []


def test_a_trial_that_begins_while_both_are_timed_warms_up_with_the_number_in_use() -> None:
    machine, threads = made(lambda count, step: 0.1)
    with threads:
        assert machine.run(threads, 5)[-1] == 2
        machine.run(threads, 5)
        assert machine.run(threads, 2) == [1, 1]


def test_one_thread_that_is_slow_is_no_reason_to_hurry() -> None:
    machine, threads = made(lambda count, step: 0.01 * count if step < 30 else 5.0)
    with threads:
        used = machine.run(threads, 60)
    settled = 2 + 1 + 2 * MOST_ROUNDS
    assert used[settled : settled + PATIENCE] == [1] * PATIENCE
    assert 2 in used[settled + PATIENCE :]


def test_one_cpu_is_not_measured() -> None:
    machine, threads = made(lambda count, step: 0.1, allowed=1)
    with threads:
        assert set(machine.run(threads, 40)) == {1}
    assert threads.settled
    assert threads.how == "auto: this process may use one CPU"


@pytest.mark.parametrize(("text", "most"), [("1", 1), ("3", 3), ("3,2", 3), ("64", 8), ("many", 8), ("0", 8), ("", 8)])
def test_the_environments_number_is_a_limit(monkeypatch: pytest.MonkeyPatch, text: str, most: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    machine, threads = made(lambda count, step: 0.1 / count, allowed=8)
    with threads:
        machine.run(threads, 40)
    assert (threads.chosen, threads.allowed) == (most, 8)
    assert ("OMP_NUM_THREADS=1" in threads.how) == (most == 1)


def test_a_fixed_number_is_set_and_nothing_measured() -> None:
    machine, threads = made(lambda count, step: 0.1, wanted="3")
    assert threads.settled
    with threads:
        assert torch.get_num_threads() == 3
        assert machine.run(threads, 40) == [3] * 40
    assert threads.meta() == {"chosen": 3, "allowed": 2, "how": "fixed", "changes": []}


def test_none_leaves_the_callers_number_alone() -> None:
    torch.set_num_threads(2)
    machine, threads = made(lambda count, step: 0.1, wanted=None)
    with threads:
        assert set(machine.run(threads, 5)) == {2}
        assert threads.meta()["chosen"] == 2
    assert threads.settled


def test_compiled_code_keeps_its_number() -> None:
    machine, threads = made(lambda count, step: 0.1 / count)
    with threads:
        assert set(machine.run(threads, 40, fixed=True)) == {1}
        assert not threads.settled


@pytest.mark.parametrize("wanted", ["auto", 3, None])
def test_the_callers_number_is_put_back(wanted: Any) -> None:
    torch.set_num_threads(2)
    machine, threads = made(lambda count, step: 0.1, wanted)
    with pytest.raises(ZeroDivisionError), threads:  # noqa: PT012 – what is asked is that it is put back
        machine.run(threads, 3)
        with threads.step(3):
            raise ZeroDivisionError
    assert torch.get_num_threads() == 2
    with threads:
        machine.run(threads, 3)
    assert torch.get_num_threads() == 2


def test_a_step_that_raises_does_not_count() -> None:
    machine, threads = made(lambda count, step: 0.1 * count)
    with threads:
        for number in range(200):
            with pytest.raises(ValueError), threads.step(number):
                raise ValueError
        assert not threads.settled
        machine.run(threads, 40)
    assert threads.chosen == 1


def test_too_few_steps_leave_one_thread() -> None:
    machine, threads = made(lambda count, step: 0.1 / count)
    with threads:
        machine.run(threads, 3)
        threads.settle()
        assert threads.settled
        assert machine.run(threads, 100)[-1] == 1
    assert threads.how == "auto: too few steps to tell: 1 thread"
    machine, threads = made(lambda count, step: 0.1 / count)
    with threads:
        machine.run(threads, 7)  # one of each counted
        threads.settle()
    assert threads.chosen == 2


@pytest.mark.parametrize("wanted", ["0", "many", "-1", "1.5", "", "10000", 0, True, 1.5, "٣", "9" * 5000])
def test_a_number_that_is_none_is_refused(wanted: Any) -> None:
    with pytest.raises(BadInput, match="give auto, or a whole number from 1 to 1024"):
        Threads(wanted)


# With real trainings

SHORT = Recipe(steps=30)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "allowed_cpus", lambda: 2)


@pytest.mark.usefixtures("two")
def test_a_trial_takes_its_steps_with_both_and_a_fixed_number_gives_the_same_bits() -> None:
    torch.set_num_threads(1)
    with Threads("auto") as threads:
        chosen = train_trial(Toy(), SHORT, threads=threads)
        assert threads.how != "auto: not measured yet: 1 thread"  # it may be looking again
    assert torch.get_num_threads() == 1
    with Threads(1) as threads:
        fixed = train_trial(Toy(), SHORT, threads=threads)
    plain = train_trial(Toy(), SHORT)
    assert [p.loss for p in fixed.losses] == [p.loss for p in plain.losses]
    assert [p.loss for p in chosen.losses] == pytest.approx([p.loss for p in plain.losses], rel=1e-4)


@pytest.mark.usefixtures("two")
def test_a_race_chooses_before_its_first_trial() -> None:
    seen: list[bool] = []
    with Threads("auto") as threads:
        race(Toy(), SHORT, {}, rates=[0.1], seeds=[0], threads=threads, on_event=lambda e: seen.append(threads.settled))
    assert seen[0]  # its first trial starts; later it may look again


@pytest.mark.usefixtures("two")
def test_a_short_recipe_settles_within_its_own_steps() -> None:
    taken = []

    class Counted(Toy):
        def loss(self, output: Any, batch: Any) -> Any:
            taken.append(1)
            return super().loss(output, batch)

    with Threads("auto") as threads:
        settle(Counted(), Recipe(steps=3), threads)
        assert (threads.settled, threads.chosen, len(taken)) == (True, 1, 3)
        settle(Counted(), Recipe(steps=3), threads)
        settle(Counted(), Recipe(steps=3), None)
    assert len(taken) == 3
