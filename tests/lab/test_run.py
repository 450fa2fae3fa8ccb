"""The runner: finished seeds are kept and not repeated, results of others are not mixed in, seeds run side by side."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from skipgrad import __version__
from skipgrad.core import BadInput, OutputError, UnknownName
from skipgrad.lab import CLAIMS, Processes, Store, Subject, run_claim, run_together
from skipgrad.lab.claim import Claim, Effect, Figure, Setting, Values
from skipgrad.lab.picture import dots

RAN: list[int] = []


def one_seed(setting: Setting) -> Values:
    RAN.append(setting.seed)
    setting.say("half way")
    return {"x": float(setting.seed)}


TOY = Claim(
    "X1", "Toy", "It is so.", "nowhere", "x ≥ 0", "x < 0", "nothing", one_seed, lambda v: v["x"] >= 0,
    lambda figures: f"x of {len(figures)}.", lambda figures: dots(figures, ["x"], "x"), effect="x",
    not_on_model="it is a toy",
)  # fmt: skip


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Claim:
    RAN.clear()
    assert "X1" not in CLAIMS
    monkeypatch.setitem(CLAIMS._entries, "X1", TOY)
    return TOY


def test_finished_seeds_are_not_run_again(toy: Claim, tmp_path: Path) -> None:
    store = Store(tmp_path, __version__)
    run_claim("X1", seeds=[0, 1], store=store)
    told = []
    verdict = run_claim("X1", seeds=[0, 1, 2], store=store, tell=told.append)
    assert RAN == [0, 1, 2]
    assert verdict.state == "reproduced"
    assert [f.values["x"] for f in verdict.figures] == [0, 1, 2]
    assert (told[0].done, told[0].total, told[-1].done) == (2, 3, 3)
    assert store.verdict(toy).state == "reproduced"


def test_a_kill_in_between_loses_nothing_that_was_finished(
    toy: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(setting: Setting) -> Values:
        if setting.seed == 1:
            raise KeyboardInterrupt
        return one_seed(setting)

    store = Store(tmp_path, __version__)
    monkeypatch.setitem(CLAIMS._entries, "X1", replace(TOY, one_seed=killed))
    with pytest.raises(KeyboardInterrupt):
        run_claim("X1", store=store)
    monkeypatch.setitem(CLAIMS._entries, "X1", TOY)
    run_claim("X1", store=store)
    assert RAN == [0, 1, 2]


def test_quick_other_versions_and_other_protocols_are_not_mixed(
    toy: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, __version__)
    run_claim("X1", seeds=[0], store=store, quick=True)
    run_claim("X1", seeds=[0], store=store)
    assert RAN == [0, 0]
    newer = replace(TOY, protocol=2)
    monkeypatch.setitem(CLAIMS._entries, "X1", newer)
    run_claim("X1", seeds=[0], store=store)
    assert RAN == [0, 0, 0]
    assert [r.protocol for r in store.others(newer)] == [1, 1]
    assert len(Store(tmp_path, "9.9").others(newer)) == 3


def test_figures_that_are_not_finite_come_back(toy: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    infinite = replace(TOY, one_seed=lambda s: {"x": float("inf")})
    monkeypatch.setitem(CLAIMS._entries, "X1", infinite)
    store = Store(tmp_path, __version__)
    run_claim("X1", seeds=[0], store=store)
    (path,) = tmp_path.rglob("*.json")
    json.loads(path.read_text("utf-8"), parse_constant=lambda c: pytest.fail(f"{c} is not strict JSON"))
    assert store.read(infinite)[0].values == {"x": float("inf")}


def test_a_file_that_is_no_result_is_named(toy: Claim, tmp_path: Path) -> None:
    (tmp_path / "x1").mkdir()
    (tmp_path / "x1" / "broken.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match=r"broken\.json"):
        run_claim("X1", store=Store(tmp_path, __version__))


def test_a_result_that_cannot_be_written_leaves_the_earlier_ones(
    toy: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, __version__)
    run_claim("X1", seeds=[0], store=store)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match="No space left"):
        run_claim("X1", seeds=[0, 1], store=store)
    assert list(store.read(toy)) == [0]


@pytest.mark.slow
def test_seeds_side_by_side_give_what_seeds_in_turn_give(tmp_path: Path) -> None:
    apart = run_claim("D18", seeds=[0, 1], spread=Processes(2))
    together = run_claim("D18", seeds=[0, 1])
    for a, b in zip(apart.figures, together.figures, strict=True):
        assert a.values == pytest.approx(b.values, abs=1e-9)


@pytest.mark.slow
def test_several_claims_side_by_side_are_kept_and_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, told = Store(tmp_path, __version__), []
    run_claim("D18", seeds=[0], store=store)
    run_together(["D18", "a1"], Processes(2), store, seeds=[0, 1], tell=lambda p: told.append((p.done, p.total)))
    assert told == [(2, 4), (3, 4), (4, 4)]
    monkeypatch.setattr("skipgrad.lab.run.work", lambda job: pytest.fail(f"{job} is run again"))
    for name in ("D18", "A1"):
        assert run_claim(name, seeds=[0, 1], store=store).state == "reproduced"
    with pytest.raises(UnknownName):
        run_together(["D18", "D99"], Processes(2), store)


@pytest.mark.slow
def test_on_a_ray_cluster_of_this_machine() -> None:
    ray = pytest.importorskip("ray")
    from skipgrad.lab import Ray

    verdict = run_claim("D18", seeds=[0, 1], spread=Ray("local"))
    assert verdict.state == "reproduced"
    assert not ray.is_initialized()


@pytest.mark.parametrize("name", ["D4", "D15", "D16", "D19"])
def test_it_can_be_asked_of_a_model_of_ones_own(name: str) -> None:
    subject = Subject("skipgrad:resnet8", "digits", {"norm": "batch"}, batch_size=16)
    verdict = run_claim(name, quick=True, seeds=[0], subject=subject)
    assert verdict.model == "skipgrad:resnet8 norm=batch on digits"
    assert verdict.state == "measured"
    assert verdict.figures[0].values
    assert verdict.reason.endswith(".")


def test_a_claim_that_does_not_fit_a_model_says_why() -> None:
    with pytest.raises(BadInput, match="without its skips") as caught:
        run_claim("D1", subject=Subject("skipgrad:resnet8", "digits", {}))
    assert "D3" in caught.value.todo


def test_mistakes_are_answered() -> None:
    with pytest.raises(UnknownName, match="D1"):
        run_claim("D91")
    with pytest.raises(BadInput, match="scale"):
        run_claim("D18", scale="huge")  # type: ignore[arg-type]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="a file"):
        Store(tmp_path / "file", __version__)


def test_the_interval_of_an_effect_is_students() -> None:
    figures = [Figure(i, True, {"x": v}) for i, v in enumerate((1.0, 2.0, 3.0))]
    effect = Effect.of("x", figures)
    assert effect.mean == 2
    assert (effect.low, effect.high) == pytest.approx((2 - 4.30 / 3**0.5, 2 + 4.30 / 3**0.5))
    assert Effect.of("x", figures[:1]) == Effect("x", 1.0, 1.0, 1.0)
    assert Effect.of("x", [Figure(0, None, {"x": float("nan")}), *figures]).high == float("inf")
