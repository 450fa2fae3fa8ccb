"""`skipgrad lab`: lists the claims, runs the ones named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from skipgrad.lab import CLAIMS, Claim, Figure, Progress, Verdict

CLAIM = Claim("D1", "Deeper is worse", "More layers, more error.", "20 % by 1", "on every seed", lambda *_: None)  # type: ignore[arg-type, return-value]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replaces the experiments by one that notes what was asked."""
    seen: list[Any] = []
    assert len(CLAIMS)  # filled before it is replaced

    def run_claim(id: str, *, quick: bool, tell: Any, threads: Any) -> Verdict:
        seen.append((id, quick))
        tell(Progress(id, 1, 1, "done"))
        figures = (Figure(0, True, {"gap": 0.25}), Figure(1, None, {"gap": float("nan")}))
        return Verdict(id, "reproduced", "It was 0.25.", "on every seed", "two nets", figures, quick, 2.0)

    monkeypatch.setattr("skipgrad.lab.run_claim", run_claim)
    monkeypatch.setattr(CLAIMS, "_entries", {"D1": CLAIM})
    return seen


def test_lists_the_claims(cli: Any, ran: list[Any]) -> None:
    done = cli("lab")
    assert (done.status, done.err, ran) == (0, "", [])
    assert "D1     Deeper is worse: More layers, more error." in done.out


def test_lists_them_as_json(cli: Any, ran: list[Any]) -> None:
    (told,) = json.loads(cli("lab", "--json").out)["claims"]
    assert (told["id"], told["statement"], told["duration"]) == ("D1", "More layers, more error.", "seconds")


def test_runs_what_is_named(cli: Any, ran: list[Any], snapshot: SnapshotAssertion) -> None:
    done = cli("lab", "d1", "--quick")
    assert (done.status, ran) == (0, [("D1", True)])
    assert done.err == "skipgrad: claim D1 1/1: done\n"
    assert done.out == snapshot


def test_bad_threads(cli: Any, ran: list[Any]) -> None:
    done = cli("lab", "D1", "--threads", "many")
    assert (done.status, done.out, ran) == (1, "", [])
    assert "'many'" in done.err


def test_verdicts_as_json(cli: Any, ran: list[Any]) -> None:
    (told,) = json.loads(cli("lab", "D1", "--json").out)["verdicts"]
    assert (told["claim"], told["state"]) == ("D1", "reproduced")
    assert told["figures"][1] == {"seed": 1, "holds": None, "values": {"gap": None}}


def test_unknown_claim_before_any_experiment(cli: Any, ran: list[Any]) -> None:
    done = cli("lab", "D1", "D99")
    assert (done.status, done.out, ran) == (1, "", [])
    assert "no claim of that name" in done.err


def test_every_real_claim_can_be_listed(cli: Any) -> None:
    out = cli("lab").out
    assert all(name in out for name in CLAIMS)
