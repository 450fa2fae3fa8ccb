"""`skipgrad lab`: lists the claims, runs the ones named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from skipgrad.lab import CLAIMS, Claim, Figure, Progress, Verdict
from skipgrad.lab.picture import dots

CLAIM = Claim(
    "D1", "Deeper is worse", "More layers, more error.", "20 % by 1", "on every seed", "no gap", "two nets",
    lambda _setting: {"gap": 0.25}, lambda values: values["gap"] > 0, lambda _figures: "It was 0.25.",
    lambda figures: dots(figures, ["gap"], "gap"), not_on_model="it has nets of its own",
)  # fmt: skip


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Replaces the experiments by one that notes what was asked."""
    seen: list[Any] = []
    assert len(CLAIMS)  # filled before it is replaced
    monkeypatch.chdir(tmp_path)

    def run_claim(id: str, *, quick: bool, tell: Any, **_: Any) -> Verdict:
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
    assert "last verdict" in done.out


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


def test_results_accumulate_in_a_folder_and_the_list_shows_them(
    cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert len(CLAIMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(CLAIMS, "_entries", {"D1": CLAIM})
    assert cli("lab", "D1").status == 0
    assert len(list((tmp_path / "skipgrad-lab" / "d1").glob("*.json"))) == 3
    assert "reproduced" in cli("lab").out
    (told,) = json.loads(cli("lab", "--json").out)["claims"]
    assert told["verdict"] == "reproduced"


def test_writes_a_gallery(cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert len(CLAIMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(CLAIMS, "_entries", {"D1": CLAIM})
    done = cli("lab", "D1", "--gallery", "site")
    assert done.status == 0
    index = (tmp_path / "site" / "index.html").read_text("utf-8")
    assert "Deeper is worse" in index
    assert "reproduced" in index
    page = (tmp_path / "site" / "d1.html").read_text("utf-8")
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "")


def test_one_of_model_and_data_is_not_enough(cli: Any, ran: list[Any]) -> None:
    done = cli("lab", "D1", "--model", "skipgrad:resnet8")
    assert (done.status, done.out, ran) == (1, "", [])
    assert "give both, or neither" in done.err


def test_apps_are_run_by_one_word_and_are_not_among_all(
    cli: Any, ran: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    apps = {id: replace(CLAIM, id=id, topic="application") for id in ("APP-X", "APP-Y")}
    monkeypatch.setattr(CLAIMS, "_entries", {"D1": CLAIM, **apps})
    for words, ids in (
        (["apps"], ["APP-X", "APP-Y"]),
        (["--all"], ["D1"]),
        (["Apps", "d1", "app-x"], ["APP-X", "APP-Y", "D1"]),
        (["--all", "app-y"], ["D1", "APP-Y"]),
    ):
        ran.clear()
        assert cli("lab", *words).status == 0
        assert [id for id, _ in ran] == ids
    listed = cli("lab").out
    assert listed.index("D1 ") < listed.index("APP-X")
