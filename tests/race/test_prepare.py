import pytest
import torch

from repeatable import same_bits
from skipgrad.core import Recipe, RemedyRefused, UnknownName
from skipgrad.ledger import watch
from skipgrad.race import find_skips, measure_once, prepare_with, race, verdicts
from skipgrad.remedies import Remedy
from skipgrad.train import train_trial
from train.toy import Net, Scaled, Toy

SKIPS = ["blocks.0", "blocks.1"]


def state_of(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


class Halve(Remedy):
    """Notes what it is handed."""

    name, title, kind = "halve", "half of every branch", "model"

    def __init__(self, look=None):
        self.look, self.graphs = look, []

    def plan(self, graph, measured=None):
        raise NotImplementedError

    def treat(self, model, graph, *, measured=None, measure=None):
        self.graphs.append(graph)
        if self.look is not None:
            self.look(model, graph, measure)
        return Scaled(model, 0.5)


def test_a_remedy_gets_the_skips_and_a_way_to_measure_that_leaves_no_trace(monkeypatch):
    seen = {}

    def look(model, graph, measure):
        model.head.weight.grad = torch.ones_like(model.head.weight)
        before, grads, random = state_of(model), model.head.weight.grad, torch.get_rng_state()
        measured = measure(model)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert model.head.weight.grad is grads
        assert model.stem.weight.grad is None
        assert torch.equal(torch.get_rng_state(), random)
        seen.update(skips=[s.name for s in graph], rows=[r.skip for r in measured.skips])

    monkeypatch.setattr("skipgrad.race.prepare.remedy", {"halve": Halve(look)}.__getitem__)
    toy = Toy(lambda: Net(dropout=0.2, norm=True))
    model = toy.build()
    assert isinstance(prepare_with("halve", toy)(model), Scaled)
    assert seen == {"skips": SKIPS, "rows": SKIPS}


def test_the_skips_are_found_once(monkeypatch):
    halve = Halve()
    monkeypatch.setattr("skipgrad.race.prepare.remedy", {"halve": halve}.__getitem__)
    prepare = prepare_with("halve", Toy())
    for _ in range(3):
        prepare(Net())
    assert halve.graphs[0] is halve.graphs[1] is halve.graphs[2]
    given = find_skips(Net(), Toy())
    prepare_with("halve", Toy(), graph=given)(Net())
    assert halve.graphs[3] is given


def test_an_unknown_remedy_is_told_before_any_training():
    with pytest.raises(UnknownName, match="zero-init"):
        prepare_with("zero-int", Toy())


def test_measuring_agrees_with_the_gradients_of_the_batch():
    torch.manual_seed(0)
    model = Net().double()

    class Double(Toy):
        def batches(self, seed):
            for batch in super().batches(seed):
                yield type(batch)((batch.args[0].double(),), batch.target)

    toy = Double()
    measured = measure_once(model, find_skips(model, toy), toy)
    batch = next(toy.batches(0))
    outputs = []
    model.blocks[1].register_forward_hook(lambda m, i, o: outputs.append(o))
    loss = toy.loss(model(*batch.args), batch)
    (grad,) = torch.autograd.grad(loss, outputs)  # behind an identity, S is the gradient of the merge
    assert measured.skips[-1].skip_norm == pytest.approx(grad.norm().item(), rel=1e-9)


def test_a_fault_of_the_measuring_leaves_the_model_as_it_was():
    class Breaks(Net):
        def forward(self, x):
            self.norm(self.stem(x)).sum().backward()
            raise RemedyRefused("no")

    model = Breaks(norm=True).eval()
    before = state_of(model)
    with pytest.raises(RemedyRefused):
        measure_once(model, find_skips(Net(), Toy()), Toy())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m.training for m in model.modules())


def test_a_trial_is_measured_without_changing_a_bit():
    toy = Toy(lambda: Net(dropout=0.2, norm=True))
    ledgers = []

    def observe(model, optimizer):
        ledgers.append(watch(model, find_skips(model, toy), optimizer))
        return ledgers[0]

    settings = Recipe(steps=6, lr=0.05)

    def losses(watched):
        return [p.loss for p in train_trial(toy, settings, observe=observe if watched else None).losses]

    same_bits(toy.name, losses)
    assert [(r.step, r.skip) for r in ledgers[0].rows()] == [(i, s) for i in range(6) for s in SKIPS]


def test_the_step_that_diverged_is_in_the_ledger():
    ledgers = []

    def observe(model, optimizer):
        ledgers.append(watch(model, find_skips(model, Toy()), optimizer))
        return ledgers[0]

    result = train_trial(Toy(), Recipe(steps=200, lr=1e20), observe=observe)
    assert result.trial.state == "diverged"
    last = [r for r in ledgers[0].rows() if r.step == result.losses[-1].step]
    assert last
    assert not all(r.finite for r in last)


def test_a_loss_scaled_for_float16_is_scaled_back_in_the_ledger():
    norms = {}
    for precision in ("float32", "float16"):
        ledgers = []

        def observe(model, optimizer, ledgers=ledgers):
            ledgers.append(watch(model, None, optimizer))
            return ledgers[0]

        train_trial(Toy(), Recipe(steps=1, lr=0.01, precision=precision), observe=observe)
        norms[precision] = [r.skip_norm for r in ledgers[0].rows()]
    assert norms["float16"] == pytest.approx(norms["float32"], rel=0.02)


def test_the_real_remedies_race():
    toy = Toy(lambda: Net(blocks=4))
    names = ["zero-init", "skip-calibration", "gradient-scaling"]
    result = race(toy, Recipe(steps=20), {n: prepare_with(n, toy) for n in names}, rates=[0.05], seeds=[0, 1])
    assert set(result.cures) == set(names), result.dropped
    assert all(r.trial.state == "done" for trials in result.cures.values() for r in trials)
    assert all("model" in r.lines for trials in result.cures.values() for r in trials)
    assert [c.lines for c in verdicts(result)] == [result.best(n)[-1].lines for n in names]
    assert {r.lines for r in result.patient} == {""}


def test_a_remedy_without_a_skip_to_work_on_is_dropped():
    toy = Toy(lambda: Net(skip=False))
    result = race(toy, Recipe(steps=3), {"zero-init": prepare_with("zero-init", toy)}, rates=[0.05], seeds=[0])
    assert list(result.dropped) == ["zero-init"]
