"""`skipgrad train --remedy`: the edit is part of the training, and of what must be the same to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

WORDS = ("train", "skipgrad:resnet8", "--data", "digits", "--recipe", "digits-small", "--epochs", "1")


def test_the_edit_is_trained_and_saved(cli: Any, tmp_path: Path) -> None:
    words = (*WORDS, "--out", str(tmp_path / "run"), "--remedy", "rezero", "--remedy-arg", "start=0.5")
    done = cli(*words)
    assert done.status == 0, done.err
    weights = load_file(tmp_path / "run" / "last.safetensors")
    alphas = [w for name, w in weights.items() if name.endswith("skipgrad_rezero.0.alpha")]
    assert len(alphas) == 3
    assert all(abs(float(a) - 0.5) > 1e-6 for a in alphas)


@pytest.mark.slow
def test_going_on_without_it_or_with_another_is_refused(cli: Any, tmp_path: Path) -> None:
    words = (*WORDS, "--out", str(tmp_path / "run"))
    assert cli(*words, "--remedy", "rezero").status == 0
    for other in ((), ("--remedy", "layerscale"), ("--remedy", "rezero", "--remedy-arg", "start=1.0")):
        done = cli(*words, *other)
        assert (done.status, done.out) == (1, "")
        assert "rezero" in done.err


def test_mistakes_are_answered_before_anything_is_trained(cli: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for wrong, told in (
        (("--remedy", "rezer"), "rezero"),
        (("--remedy", "rezero", "--remedy-arg", "begin=1"), "start"),
        (("--remedy-arg", "start=1"), "name the remedy"),
        (("--remedy", "rezero", "--remedy-arg", "start"), "reading --remedy-arg"),
        (("--remedy", "deepnorm"), "no norm follows its add"),
    ):
        done = cli(*WORDS, "--out", str(out), *wrong)
        assert (done.status, done.out) == (1, ""), wrong
        assert told in done.err
    assert not (out / "last.safetensors").exists()
