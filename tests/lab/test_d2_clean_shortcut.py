import pytest

from skipgrad.lab import run_claim
from skipgrad.lab.claims import d2_clean_shortcut as d2


@pytest.mark.parametrize("scale", [1.0, 0.7, 0.5])
def test_the_product_of_the_shortcuts_is_the_power_of_the_scale(scale):
    assert d2.shortcut_product(scale, seed=1, blocks=6) == pytest.approx(scale**6, rel=1e-12)


def test_the_criterion():
    rising = {1.0: 0.05, 0.9: 0.1, 0.7: 0.7, 0.5: 1.6}
    right, wrong = dict.fromkeys(rising, 1e-9), {**dict.fromkeys(rising, 1e-9), 0.7: 1e-5}
    assert d2.judge(d2.values_of(right, rising))
    assert not d2.judge(d2.values_of(wrong, rising))
    assert not d2.judge(d2.values_of(right, {**rising, 0.9: 0.04}))


@pytest.mark.slow
def test_the_quick_experiment_reproduces_it():
    verdict = run_claim("D2", quick=True, seeds=[0])
    assert verdict.state == "reproduced"
    assert verdict.figures[0].values["error of λⁿ"] < 1e-9
