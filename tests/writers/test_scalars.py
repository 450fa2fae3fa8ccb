"""Names and figures for trackers."""

from __future__ import annotations

import math
from typing import Any

from skipgrad.core.run import LayerRow, SkipRow
from skipgrad.writers.scalars import LAYER_FIGURES, SKIP_FIGURES, scalars


def test_names_say_kind_figure_and_owner(rows: Any) -> None:
    found = scalars([r for r in rows.skips if r.step == 1], rows.layers[:1], rows.losses[:1])
    assert found["skip.skip_norm/layer1.0"] == 1.1
    assert found["skip.branch_norm/the model itself"] == 1e-60
    assert found["skip.finite/broken"] == 0.0
    assert math.isnan(found["skip.skip_norm/broken"])
    assert found["layer.update_norm/fc"] == 0.01
    assert (found["loss"], found["seconds"]) == (2.5, 0.1)


def test_of_several_backwards_the_last_counts(rows: Any) -> None:
    found = scalars([r for r in rows.skips if r.step == 0], [], [])
    assert found["skip.skip_norm/layer1.0"] == 1.1


def test_what_was_not_measured_has_no_name(rows: Any) -> None:
    found = scalars([], rows.layers[1:], [])
    assert "layer.update_norm/fc" not in found
    assert math.isnan(found["layer.weight_norm/fc"])


def test_every_field_is_a_figure_or_says_of_what() -> None:
    assert set(SkipRow.__dataclass_fields__) - set(SKIP_FIGURES) == {"step", "micro", "skip"}
    assert set(LayerRow.__dataclass_fields__) - set(LAYER_FIGURES) == {"step", "layer", "depth", "weights", "dtype"}
