"""Options that several verbs read the same way."""

from __future__ import annotations

import pytest

from skipgrad.cli._options import input_shape, model_args
from skipgrad.core.errors import BadInput


@pytest.mark.parametrize(
    ("pairs", "args"),
    [
        (None, {}),
        ([], {}),
        (["depth=20"], {"depth": 20}),
        (["norm=group"], {"norm": "group"}),
        (["norm='group'"], {"norm": "group"}),
        (["drop_path_rate=0.1", "pretrained=False"], {"drop_path_rate": 0.1, "pretrained": False}),
        (["layers=[2, 2]"], {"layers": [2, 2]}),
        (["weights=None"], {"weights": None}),
        (["scale=-1"], {"scale": -1}),
        (["note=a=b"], {"note": "a=b"}),
        (["empty="], {"empty": ""}),
        (["num-classes=3"], {"num_classes": 3}),
    ],
)
def test_model_args(pairs: list[str] | None, args: dict[str, object]) -> None:
    assert model_args(pairs) == args


@pytest.mark.parametrize("pair", ["depth", "=3", "3=depth", "a b=1", ""])
def test_malformed_model_arg_shows_what_came(pair: str) -> None:
    with pytest.raises(BadInput) as caught:
        model_args([pair])
    assert repr(pair) in str(caught.value)
    assert "--model-arg num_classes=10" in str(caught.value)


def test_model_arg_given_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="'depth' twice: 20 and '56'"):
        model_args(["depth=20", "depth=56"])


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (None, None),
        ("1,3,224,224", (1, 3, 224, 224)),
        ("1, 3, 224, 224", (1, 3, 224, 224)),
        ("(1,3)", (1, 3)),
        ("[1, 3]", (1, 3)),
        ("1x3x32x32", (1, 3, 32, 32)),
        ("7", (7,)),
        ("7,", (7,)),
    ],
)
def test_input_shape(text: str | None, shape: tuple[int, ...] | None) -> None:
    assert input_shape(text) == shape


@pytest.mark.parametrize("text", ["", "1,a", "1,,3", "1,0,3", "1,-3", "1.5,3", "()"])
def test_malformed_input_shape_shows_what_came(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        input_shape(text)
    assert repr(text) in str(caught.value)
    assert "--input 1,3,224,224" in str(caught.value)
