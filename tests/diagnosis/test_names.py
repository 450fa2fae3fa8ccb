import pytest

from skipgrad.diagnosis._names import some


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([], ""),
        ([""], "the model itself"),
        (["a", "b"], "a, b"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
        ([f"blocks.{i}.mlp" for i in range(20, 32)], "blocks.20–31.mlp"),
        (["24", "28", "22"], "module 24, module 28, module 22"),
        (["24", "22", "23"], "modules 22–24"),
        (["b.3", "b.1", "b.2", "c"], "b.1–3, c"),
        (["b.1", "b.2"], "b.1, b.2"),
        ([f"l.{i}" for i in (0, 1, 2, 5, 6, 7, 9)], "l.0–2, l.5–7, l.9"),
        (["root#2", "root#3", "root#4"], "root#2–4"),
        (["x", "y", "z", "w.0", "w.1", "w.2"], "x, y, z and 3 more"),
        (["a", "a", "a"], "a"),
    ],
)
def test_some(names, told):
    assert some(names) == told
