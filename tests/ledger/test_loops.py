"""The loops people write: each is measured rightly or said, and its weights are those of the loop without a watch."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import skipgrad as sg
from skipgrad.core import BadInput


class Block(nn.Module):
    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.f = nn.Linear(width, width)
        self.act = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.f(x))


def net(seed: int = 0, out: int = 3) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 6), Block(), Block(), nn.Linear(6, out))


def batch(seed: int) -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(seed)
    return torch.randn(5, 6, generator=made), torch.randint(0, 3, (5,), generator=made)


Watched = Callable[[nn.Module, Any], Any]
Loop = Callable[[nn.Module, Watched], list[nn.Module]]


def gan(model: nn.Module, watched: Watched) -> list[nn.Module]:
    """The generator's pass goes through the discriminator, whose gradients of it are cleared."""
    torch.manual_seed(3)
    generator = nn.Linear(4, 6)
    opt_d, opt_g = torch.optim.SGD(model.parameters(), 0.1), torch.optim.SGD(generator.parameters(), 0.1)
    with watched(model, opt_d):
        for seed in range(3):
            z = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
            opt_d.zero_grad()
            (model(batch(seed)[0]).square().mean() - model(generator(z).detach()).mean()).backward()
            opt_d.step()
            opt_g.zero_grad()
            model(generator(z)).mean().backward()
            opt_g.step()
    return [model, generator]


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimization, as it is usually written: two halves around an optimizer of its own."""

    def __init__(self, params: Any, rho: float = 0.05) -> None:
        super().__init__(params, {"rho": rho})
        self.base_optimizer = torch.optim.SGD(self.param_groups, lr=0.1)

    @torch.no_grad()
    def first_step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["old"] = p.clone()
                p.add_(p.grad, alpha=group["rho"])
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(self.state[p]["old"])
        self.base_optimizer.step()
        self.zero_grad()


def sam(model: nn.Module, watched: Watched) -> list[nn.Module]:
    optimizer = SAM(model.parameters())
    with watched(model, optimizer):
        for seed in range(3):
            x, y = batch(seed)
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.first_step()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.second_step()
    return [model]


def maml(model: nn.Module, watched: Watched) -> list[nn.Module]:
    """The inner step is differentiated, too; the inner model is called through ``functional_call``."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watched(model, optimizer):
        for seed in range(3):
            x, y = batch(seed)
            weights = dict(model.named_parameters())
            inner = nn.functional.cross_entropy(torch.func.functional_call(model, weights, (x,)), y)
            slopes = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
            moved = {n: w - 0.1 * g for (n, w), g in zip(weights.items(), slopes, strict=True)}
            optimizer.zero_grad()
            nn.functional.cross_entropy(torch.func.functional_call(model, moved, (x,)), y).backward()
            optimizer.step()
    return [model]


def r1(model: nn.Module, watched: Watched) -> list[nn.Module]:
    """A gradient penalty in every second step."""
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    with watched(model, optimizer):
        for seed in range(4):
            x, y = batch(seed)
            x.requires_grad_(seed % 2 == 1)
            out = model(x)
            loss = nn.functional.cross_entropy(out, y)
            if seed % 2:
                (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
                loss = loss + slope.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return [model]


def lbfgs(model: nn.Module, watched: Watched) -> list[nn.Module]:
    optimizer = torch.optim.LBFGS(model.parameters(), 0.1, max_iter=2)
    x, y = batch(0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    with watched(model, optimizer):
        for _ in range(3):
            optimizer.step(closure)
    return [model]


def distillation(model: nn.Module, watched: Watched) -> list[nn.Module]:
    teacher = net(1).eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watched(model, optimizer):
        for seed in range(3):
            x, _ = batch(seed)
            with torch.no_grad():
                told = teacher(x).softmax(1)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), told).backward()
            optimizer.step()
    return [model]


def accumulation(model: nn.Module, watched: Watched) -> list[nn.Module]:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watched(model, optimizer):
        for seed in range(6):
            x, y = batch(seed)
            (nn.functional.cross_entropy(model(x), y) / 2).backward()
            if seed % 2:
                optimizer.step()
                optimizer.zero_grad()
    return [model]


def two_optimizers(model: nn.Module, watched: Watched) -> list[nn.Module]:
    """Matrices by one, biases by the other, after the same backward."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    biases = [p for p in model.parameters() if p.dim() < 2]
    both = [torch.optim.SGD(matrices, 0.1), torch.optim.Adam(biases, 0.01)]
    with watched(model, both):
        for seed in range(3):
            x, y = batch(seed)
            for optimizer in both:
                optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            for optimizer in both:
                optimizer.step()
    return [model]


def only_some_weights(model: nn.Module, watched: Watched) -> list[nn.Module]:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watched(model, optimizer):
        for seed in range(3):
            x, y = batch(seed)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward(inputs=list(model[0].parameters()))  # type: ignore[index]
            optimizer.step()
    return [model]


def by_hand(model: nn.Module, watched: Watched) -> list[nn.Module]:
    """Gradients asked for and put in their place: not taken for a backward of the training, and said."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watched(model, optimizer):
        for seed in range(3):
            x, y = batch(seed)
            params = list(model.parameters())
            for p, g in zip(params, torch.autograd.grad(nn.functional.cross_entropy(model(x), y), params), strict=True):
                p.grad = g
            optimizer.step()
    return [model]


class Lookahead:
    """No torch optimizer itself, and without torch's hooks."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.slow = [p.detach().clone() for g in optimizer.param_groups for p in g["params"]]
        self.count = 0

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    @torch.no_grad()
    def step(self) -> None:
        self.optimizer.step()
        self.count += 1
        if self.count % 2 == 0:
            fast = (p for g in self.optimizer.param_groups for p in g["params"])
            for slow, p in zip(self.slow, fast, strict=True):
                p.copy_(slow.lerp_(p, 0.5))


def lookahead(model: nn.Module, watched: Watched) -> list[nn.Module]:
    optimizer = Lookahead(torch.optim.SGD(model.parameters(), 0.1))
    with watched(model, optimizer):
        for seed in range(3):
            x, y = batch(seed)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return [model]


def broken_off(model: nn.Module, watched: Watched) -> list[nn.Module]:
    """An error deep in a backward, which the loop survives."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def raises(_: Tensor) -> None:
        raise ZeroDivisionError

    with watched(model, optimizer):
        for seed in range(3):
            x, y = batch(seed)
            optimizer.zero_grad()
            if seed == 1:
                model[0].register_forward_hook(lambda _m, _a, out: out.register_hook(raises) and None)  # type: ignore[index]
                with contextlib.suppress(ZeroDivisionError):
                    nn.functional.cross_entropy(model(x), y).backward()
                model[0]._forward_hooks.clear()  # type: ignore[index]
                continue
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return [model]


def full_hooks(model: nn.Module, watched: Watched) -> list[nn.Module]:
    """Backward hooks of the user's, one of which changes what flows."""
    handles = [
        model[1].f.register_full_backward_hook(lambda _m, gin, _out: tuple(g * 2 for g in gin)),  # type: ignore[index,union-attr]
        model[2].register_full_backward_hook(lambda *_: None),  # type: ignore[index]
        nn.modules.module.register_module_full_backward_hook(lambda *_: None),
    ]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watched(model, optimizer):
        for seed in range(3):
            x, y = batch(seed)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    for handle in handles:
        handle.remove()
    return [model]


# loop, the steps that have rows, a part of each note
LOOPS: dict[str, tuple[Loop, list[int], list[str]]] = {
    "gan": (gan, [0, 1, 2, 3, 4, 5], ["cleared before the optimizer stepped"] * 2),
    "sam": (sam, [0, 1, 2, 3, 4, 5], ["cleared before the optimizer stepped"] * 3),
    "maml": (maml, [0, 1, 2], []),
    "r1": (r1, [0, 1, 2, 3], []),
    "lbfgs": (lbfgs, [0, 1, 2], []),
    "distillation": (distillation, [0, 1, 2], []),
    "accumulation": (accumulation, [0, 1, 2], []),
    "two optimizers": (two_optimizers, [0, 1, 2], []),
    "only some weights": (only_some_weights, [0, 1, 2], []),
    "by hand": (by_hand, [], ["torch.autograd.grad only"]),
    "lookahead": (lookahead, [0, 1, 2], []),
    "broken off": (broken_off, [0, 1], ["broken off by an error"]),
    "full hooks": (full_hooks, [0, 1, 2], []),
}


def unwatched(_model: nn.Module, _optimizer: Any) -> Any:
    return contextlib.nullcontext()


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("name", LOOPS)
def test_a_loop(name: str) -> None:
    loop, steps, notes = LOOPS[name]
    ledgers: list[sg.Ledger] = []

    def watched(model: nn.Module, optimizer: Any) -> Any:
        ledgers.append(sg.watch(model, optimizer=optimizer, budget=None))
        return ledgers[-1]

    mine, plain = loop(net(), watched), loop(net(), unwatched)
    for a, b in zip(mine, plain, strict=True):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.equal(p, q)
    (ledger,) = ledgers
    assert sorted({r.step for r in ledger.rows()}) == steps
    assert len(ledger.notes) == len(notes), ledger.notes
    assert all(part in note for part, note in zip(notes, ledger.notes, strict=True)), ledger.notes
    assert {r.skip for r in ledger.rows()} <= {"1", "2"}
    assert ledger.account.adds_up


def test_figures_are_those_with_the_hooks_in_place() -> None:
    model = net().double()
    handle = model[1].f.register_full_backward_hook(lambda _m, gin, _out: tuple(g * 2 for g in gin))
    x = batch(0)[0].double()
    with sg.watch(model) as ledger:
        model(x).square().sum().backward()
    first = ledger.rows()[0]
    stem = model[0](x)
    s, b = stem * 1, stem * 1
    y = s + torch.tanh(model[1].f(b))
    grads = torch.autograd.grad(model[3](model[2](y)).square().sum(), (s, b))
    handle.remove()
    assert (first.skip_norm, first.branch_norm) == pytest.approx([g.norm().item() for g in grads], rel=1e-10)


def test_something_without_an_optimizer_in_it_is_refused_before_anything_is_touched() -> None:
    model = net()
    with pytest.raises(BadInput, match=r"no torch.optim.Optimizer in it"):
        sg.watch(model, optimizer=object())
    assert "_compiled_call_impl" not in model.__dict__


def test_a_step_that_raises_is_no_end_of_the_counting() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def raises() -> Tensor:
        raise ZeroDivisionError

    with sg.watch(model, optimizer=optimizer) as ledger:
        for seed in range(4):
            x, y = batch(seed)
            if seed == 1:
                with pytest.raises(ZeroDivisionError):
                    optimizer.step(raises)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert sorted({r.step for r in ledger.rows()}) == [0, 1, 2, 3]


def test_a_loss_told_after_the_step_is_the_loss_of_that_step() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with sg.watch(model, optimizer=optimizer) as ledger:
        for seed in range(3):
            x, y = batch(seed)
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ledger.loss(loss.item())
    assert [p.step for p in ledger.measurements().losses] == [0, 1, 2]


def test_lightnings_manual_optimization() -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.net = net()

        def training_step(self, given: Any, _index: int) -> None:
            x, y = given
            optimizer = self.optimizers()
            for _ in range(2):
                optimizer.zero_grad()
                self.manual_backward(nn.functional.cross_entropy(self.net(x), y))
                optimizer.step()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    module = Module()
    watches: list[Any] = []

    class Watch(lightning.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            watches.append(sg.watch(module.net, optimizer=trainer.optimizers[0]).__enter__())

        def on_train_end(self, *_: Any) -> None:
            watches[0].close()

    loader = torch.utils.data.DataLoader([(batch(s)[0][0], batch(s)[1][0]) for s in range(4)], batch_size=2)
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Watch()],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, loader)
    assert [r.step for r in watches[0].rows() if r.skip == "1"] == [0, 1, 2, 3]


# -- libraries that have their own way with gradients ----------------------------------------------
def test_captum_explains_a_watched_model() -> None:
    attr = pytest.importorskip("captum.attr")
    model = net()
    x, _ = batch(0)

    def explained(m: nn.Module) -> list[Tensor]:
        return [
            attr.LayerGradCam(m, m[1]).attribute(x, target=0),  # type: ignore[index]
            attr.LayerConductance(m, m[1]).attribute(x, target=0, n_steps=3),  # type: ignore[index]
            attr.DeepLift(m).attribute(x, target=0),
        ]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = explained(copy.deepcopy(model))
        with sg.watch(model) as ledger:
            model(x).sum().backward()
            model.eval()
            mine = explained(model)
            model.train()
            model(x).sum().backward()
    for a, b in zip(mine, plain, strict=True):
        assert torch.equal(a, b)
    assert len([r for r in ledger.rows() if r.skip == "1"]) >= 2


def test_opacus_trains_a_watched_model() -> None:
    opacus = pytest.importorskip("opacus")

    def trained(watched: bool) -> tuple[list[Tensor], Any]:
        torch.manual_seed(0)
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        x, y = batch(0)
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=5)
        private, optimizer, loader = opacus.PrivacyEngine().make_private(
            module=model, optimizer=optimizer, data_loader=loader, noise_multiplier=0.0, max_grad_norm=1.0,
            poisson_sampling=False,
        )  # fmt: skip
        ledger = sg.watch(private, optimizer=optimizer) if watched else contextlib.nullcontext()
        with ledger:
            for _ in range(3):
                for bx, by in loader:
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(private(bx), by).backward()
                    optimizer.step()
        return [p.detach() for p in model.parameters()], ledger

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (plain, _), (mine, ledger) = trained(False), trained(True)
    assert all(torch.equal(a, b) for a, b in zip(plain, mine, strict=True))
    assert sorted({r.step for r in ledger.rows()}) == [0, 1, 2]


def test_backpack_extends_a_watched_model() -> None:
    backpack = pytest.importorskip("backpack")
    from backpack.extensions import BatchGrad

    def trained(watched: bool) -> tuple[list[Tensor], Any]:
        model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
        torch.manual_seed(0)
        for p in model.parameters():
            nn.init.normal_(p)
        whole = Around(model)
        backpack.extend(model)
        lossf = nn.CrossEntropyLoss()
        x, y = batch(0)
        ledger = sg.watch(whole) if watched else contextlib.nullcontext()
        with ledger, backpack.backpack(BatchGrad()):
            lossf(whole(x), y).backward()
        return [p.grad_batch for p in model.parameters()], ledger

    class Around(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.stem, self.inner, self.back = nn.Linear(6, 6), inner, nn.Linear(3, 6)
            for p in (*self.stem.parameters(), *self.back.parameters()):
                nn.init.constant_(p, 0.1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return x + self.back(self.inner(x))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (plain, _), (mine, ledger) = trained(False), trained(True)
    assert all(torch.equal(a, b) for a, b in zip(plain, mine, strict=True))
    assert [r.skip for r in ledger.rows()] == ["root"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_peft_adapters_are_measured() -> None:
    peft = pytest.importorskip("peft")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.body = net()

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)

    model = peft.get_peft_model(Net(), peft.LoraConfig(target_modules=["f"], r=2))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    x, y = batch(0)
    with sg.watch(model, optimizer=optimizer) as ledger:
        for _ in range(2):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    names = {r.skip for r in ledger.rows()}
    assert any(n.endswith("body.2") for n in names)
    assert ledger.account.adds_up
