"""The groups of variants that overhead.py times: what shares a process, and what is compared with what.

Peers that put functions of their own in the place of torch's (torchlens), extend modules (cockpit) or start a service
(wandb) have a process to themselves, lest the others pay for them; every group has a plain step, and the same again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from overhead_peers import CockpitEconomy, CockpitNorms, TorchlensTrace, TorchlensWatch, WandbLog, WandbWatch
from overhead_variants import (
    Adapted,
    Hooks,
    HooksAdapted,
    Ledger,
    Ledger10,
    LedgerBudget,
    LedgerSkips,
    Variant,
    without_inplace,
)
from torch import nn


@dataclass(frozen=True)
class Entry:
    """A variant in its group.

    Attributes:
        make: its class.
        baseline: the variant its steps are compared with.
        goal: the ratio it is not to exceed, None where there is none.
    """

    make: type[Variant]
    baseline: str = "plain"
    goal: float | None = None


@dataclass(frozen=True)
class Group:
    """Variants that share a process.

    Attributes:
        variants: by the name the table gives them.
        module: what the peer is imported as, None where there is none.
        packages: whose versions belong to the result.
        steps: in one round, of each variant. Ten where one in ten is measured, that a round may hold its share of them.
        compiled: whether the models are.
        together: whether the steps of a round are taken and timed at once. A watch with a budget times its own steps:
            those of others between them would be counted as its own.
    """

    variants: dict[str, Entry]
    module: str | None = None
    packages: tuple[str, ...] = ()
    steps: int = 1
    compiled: bool = False
    together: bool = False


_PLAIN = {"plain": Entry(Variant), "plain again": Entry(Variant)}
GROUPS: dict[str, Group] = {
    "ledger": Group(
        {
            **_PLAIN,
            "ledger, every step": Entry(Ledger, goal=1.03),
            "ledger, every 10th": Entry(Ledger10, goal=1.005),
            "ledger, skips only": Entry(LedgerSkips, goal=1.03),
        },
        steps=10,
    ),
    "compiled": Group(
        {
            **_PLAIN,
            "ledger, every step": Entry(Ledger, goal=1.01),
            "ledger, every 10th": Entry(Ledger10, goal=1.005),
        },
        steps=10,
        compiled=True,
    ),
    "budget": Group(
        {**_PLAIN, "ledger, by default": Entry(LedgerBudget, goal=1.01)},
        steps=50,
        together=True,
    ),
    "budget-compiled": Group(
        {**_PLAIN, "ledger, by default": Entry(LedgerBudget, goal=1.01)},
        steps=50,
        compiled=True,
        together=True,
    ),
    "hooks": Group(
        {
            **_PLAIN,
            "module hooks": Entry(Hooks),
            "plain, not in place": Entry(Adapted),
            "hooks, not in place": Entry(HooksAdapted, baseline="plain, not in place"),
        }
    ),
    "torchlens-watch": Group(
        {**_PLAIN, "torchlens watch": Entry(TorchlensWatch)}, "torchlens", packages=("torchlens",)
    ),
    "torchlens-trace": Group(
        {**_PLAIN, "torchlens trace": Entry(TorchlensTrace)}, "torchlens", packages=("torchlens",)
    ),
    "wandb": Group(
        {**_PLAIN, "wandb.log alone": Entry(WandbLog), "wandb.watch": Entry(WandbWatch)}, "wandb", packages=("wandb",)
    ),
    "cockpit": Group(
        {**_PLAIN, "cockpit, norms": Entry(CockpitNorms), "cockpit, economy": Entry(CockpitEconomy)},
        "cockpit",
        packages=("cockpit-for-pytorch", "backpack-for-pytorch"),
    ),
}


def applies(entry: Entry, model: Callable[[], nn.Module]) -> bool:
    """Whether a variant is one of its own on this model: one without in-place ops needs no rewriting."""
    return not issubclass(entry.make, Adapted | HooksAdapted) or without_inplace(model())
