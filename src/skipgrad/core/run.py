"""The records of a run: what was measured, tried and found. Plain data, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from skipgrad.core.account import Account
from skipgrad.core.changes import ChangeRow
from skipgrad.core.graph import SkipGraph
from skipgrad.core.spectrum import PathRow

Severity = Literal["info", "warning", "error"]
State = Literal["found", "passed", "not applicable", "skipped"]
CureState = Literal["helped", "no change", "worse", "refused"]

SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")


@dataclass(frozen=True)
class SkipRow:
    """What one skip carried in one backward. Norms are L2 norms over the whole batch tensor.

    Attributes:
        step: the optimizer's step when the watch knows the optimizer, else the number of the backward.
        micro: number of the backward inside the step (gradient accumulation).
        skip: the skip's name.
        skip_norm: ‖S‖, S the part of dL/dx that came through the shortcut.
        branch_norm: ‖B‖, B the part that came through the branch.
        total_norm: ‖S+B‖.
        out_norm: ‖dL/dy‖, y what the merge returns.
        cosine: cos(S, B); 0 where one of them is zero.
        gain: ‖S+B‖ / ‖dL/dy‖.
        x_rms: root mean square of x in the forward; NaN where it could not be read.
        branch_rms: root mean square of F(x), the branch's operand at the merge; NaN where it could not be read, as F(x)
            exists only inside a call (``baddbmm``).
        residual: |‖S+B‖² − ‖S‖² − ‖B‖² − 2⟨S,B⟩| / (‖S‖² + ‖B‖²), the measurement's own error.
        finite: False when S, B or dL/dy held an infinity or a NaN.
    """

    step: int
    micro: int
    skip: str
    skip_norm: float
    branch_norm: float
    total_norm: float
    out_norm: float
    cosine: float
    gain: float
    x_rms: float
    branch_rms: float
    residual: float
    finite: bool = True


@dataclass(frozen=True)
class SourceRow:
    """What one source carried at one concatenation of several in one backward; `SkipRow` has all of them together.

    Attributes:
        step: as in `SkipRow`.
        micro: as in `SkipRow`.
        skip: the skip's name.
        source: the layer whose result it is, norms, activations and pooling in between left out; the path of the module
            where several values met to make it; ``"input"`` for what the model was given.
        number: its place among the skip's sources in order of execution, from 0.
        width: its size along the dimension that is concatenated (channels); 0 where that is not known.
        skip_norm: ‖Sᵢ‖, the part of S on this source.
        branch_norm: ‖Bᵢ‖, the part of B on this source.
        total_norm: ‖Sᵢ+Bᵢ‖.
        cosine: cos(Sᵢ, Bᵢ); 0 where one of them is zero.
        share: ‖Sᵢ+Bᵢ‖² / ‖S+B‖²; the shares of a skip's sources add up to 1. NaN where that is zero or not finite.
        finite: False when Sᵢ or Bᵢ held an infinity or a NaN.
    """

    step: int
    micro: int
    skip: str
    source: str
    number: int
    width: int
    skip_norm: float
    branch_norm: float
    total_norm: float
    cosine: float
    share: float
    finite: bool = True


@dataclass(frozen=True)
class LayerRow:
    """What one weighted layer saw in one optimizer step.

    Attributes:
        step: as in `SkipRow`.
        layer: path of the module that owns the weight.
        depth: its position in the order of execution, from 0.
        out_grad_norm: ‖dL/dz‖, z what the layer returns (root of the sum of squares over several calls).
        weight_norm: ‖W‖ before the step.
        weight_grad_norm: ‖dL/dW‖ as the optimizer saw it; None when there was no gradient.
        update_norm: ‖ΔW‖ of the optimizer's real step; None when the watch was given no optimizer. Of a weight with
            more than 32,768 elements this and the shares below are read from 16,384 of them, evenly spread.
        stalled: share of weights whose gradient is not zero and which the step left unchanged: the update
            was below half a unit in the last place. None without an optimizer.
        zero_grad: share of weights whose gradient is exactly zero (it underflowed, or nothing reached it).
        weights: how many weights the layer has.
        dtype: the weight's dtype, e.g. ``"float32"``.
        finite: False when dL/dz or dL/dW held an infinity or a NaN.
    """

    step: int
    layer: str
    depth: int
    out_grad_norm: float
    weight_norm: float
    weight_grad_norm: float | None
    update_norm: float | None
    stalled: float | None
    zero_grad: float | None = None
    weights: int = 0
    dtype: str = "float32"
    finite: bool = True


@dataclass(frozen=True)
class LossPoint:
    """The training loss of one step of one trial; `seconds` of training (measuring included) so far."""

    trial: int
    step: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class Trial:
    """One training run under the budget that all trials of a run share.

    Attributes:
        id: number, unique in the run.
        remedy: name of the remedy under trial; None for the patient.
        rate: learning rate.
        seed: seed of weights and of the order of the data.
        steps: steps asked for.
        measured: whether a ledger was on (it changes no bit, but takes time).
        state: ``"done"``, ``"running"``, ``"diverged"`` (a loss that is not finite ended it) or ``"interrupted"``.
    """

    id: int
    remedy: str | None
    rate: float
    seed: int
    steps: int
    measured: bool = False
    state: str = "running"


@dataclass(frozen=True)
class Finding:
    """A diagnosis.

    Attributes:
        code: stable code, ``"SG001"``.
        title: a few words.
        severity: of the finding, when found.
        state: ``"found"``, ``"passed"``, ``"not applicable"`` (the check does not apply to this model or
            data) or ``"skipped"`` (it applies, but what it needs was not measured).
        where: names of skips or layers concerned.
        evidence: numbers (and short texts) it rests on, with the threshold.
        prescription: what to do, in one or two sentences; the reason when not applicable or skipped.
        remedies: names of the remedies it prescribes, the most promising first.
        coverage: what was measured of what ran, as far as it is known: ``steps`` of ``steps_run``, ``skips`` of
            ``skips_run``, ``layers`` of ``layers_run``.
    """

    code: str
    title: str
    severity: Severity
    state: State
    where: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    prescription: str = ""
    remedies: tuple[str, ...] = ()
    coverage: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cure:
    """What a remedy did to the patient under equal budgets.

    Attributes:
        remedy: its name.
        state: ``"helped"``, ``"no change"``, ``"worse"`` or ``"refused"``.
        reason: one sentence with the figures that decided.
        final_loss: median over seeds, at the cure's best rate (mean of the last tenth of the steps).
        patient_final_loss: the same of the patient at its best rate.
        steps_ratio: steps to the patient's best loss, cured / patient, median over seeds; None when the
            cured net never reaches it, and where the patient does not train, as any loss is as good as its best then.
        seconds_ratio: the same in seconds of training.
        steps_spread: smallest and largest steps ratio over the seeds.
        seconds_spread: the same for seconds.
        best_loss: the cure's best smoothed loss, median over seeds.
        patient_best_loss: the patient's.
        rate: the cure's best rate of the grid.
        patient_rate: the patient's.
        seeds: how many seeds were compared.
        lines: Python to paste that applies the cure.
        patient_trains: whether the patient's loss fell, by more than its noise, on at least half of the seeds.
        patient_first_loss: the patient's first smoothed loss, median over seeds.
    """

    remedy: str
    state: CureState
    reason: str
    final_loss: float | None = None
    patient_final_loss: float | None = None
    steps_ratio: float | None = None
    seconds_ratio: float | None = None
    steps_spread: tuple[float, float] | None = None
    seconds_spread: tuple[float, float] | None = None
    best_loss: float | None = None
    patient_best_loss: float | None = None
    rate: float | None = None
    patient_rate: float | None = None
    seeds: int = 0
    lines: str = ""
    patient_trains: bool = True
    patient_first_loss: float | None = None


@dataclass(frozen=True)
class Thinned:
    """Which steps are given of a trial too long to give all: evenly spaced ones, and always the first and the last.

    Of a step that is left out and was not finite, one row of skips and one of layers is given.

    Attributes:
        steps: how many were measured.
        every: every so many of them are given.
        dense: of how many a trial is given whole; a run file keeps so many without a gap.
    """

    steps: int
    every: int
    dense: int


@dataclass(frozen=True)
class Run:
    """Everything a run file holds.

    Attributes:
        meta: what was run: ``model``, ``data``, ``fit``, ``command``, ``seed``, ``versions``, ``state``
            (``"running"``, ``"done"``, ``"interrupted"``, ``"failed"``) and whatever the writer added.
        graph: the patient's skips; None when the run ended before they were found.
        trials: in order of their start.
        losses: of all trials.
        skip_rows: by trial id.
        layer_rows: by trial id.
        findings: of the patient, in order of code.
        cures: in the order they were tried.
        graphs: skips of cured models, by trial id, where they differ from the patient's.
        notes: what was not understood or left out.
        thinned: by trial id, those of which not all steps are given.
        path: the file it was read from.
        paths: the gradient by path length, by trial id.
        changes: what steps changed of the branches, by trial id.
    """

    meta: dict[str, Any]
    graph: SkipGraph | None = None
    trials: tuple[Trial, ...] = ()
    losses: tuple[LossPoint, ...] = ()
    skip_rows: dict[int, tuple[SkipRow, ...]] = field(default_factory=dict)
    layer_rows: dict[int, tuple[LayerRow, ...]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    cures: tuple[Cure, ...] = ()
    graphs: dict[int, SkipGraph] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    thinned: dict[int, Thinned] = field(default_factory=dict)
    path: str = ""
    paths: dict[int, tuple[PathRow, ...]] = field(default_factory=dict)
    changes: dict[int, tuple[ChangeRow, ...]] = field(default_factory=dict)

    def patient(self) -> Trial | None:
        """The patient's measured trial, else its first one; None when no trial of it was recorded."""
        own = [t for t in self.trials if t.remedy is None]
        return next((t for t in own if t.measured), own[0] if own else None)

    def patient_id(self) -> int:
        """Number of the `patient`, else of the first trial that has a record or rows; 0 when there is none."""
        patient = self.patient()
        if patient is not None:
            return patient.id
        return self.trials[0].id if self.trials else min([*self.skip_rows, *self.layer_rows], default=0)

    def measurements(self, trial: int | None = None) -> Measurements:
        """What the ledger of one trial recorded; of the patient's measured trial when none is named."""
        if trial is None:
            trial = self.patient_id()
        graph = self.graphs.get(trial, self.graph) or SkipGraph(())
        losses = tuple(p for p in self.losses if p.trial == trial)
        skips, layers = self.skip_rows.get(trial, ()), self.layer_rows.get(trial, ())
        account = self.account if trial == self.patient_id() else None
        paths, chance = self.paths.get(trial, ()), self.meta.get("chance")
        known = float(chance) if isinstance(chance, (int, float)) else None
        changes = self.changes.get(trial, ())
        return Measurements(graph, skips, layers, losses, self.notes, paths, account, known, changes)

    @property
    def account(self) -> Account | None:
        """What became of the patient's forwards; None in a run that did not end, or of an earlier version."""
        record = self.meta.get("account")
        return Account.from_dict(record) if record else None

    def path_records(self) -> list[dict[str, Any]]:
        """The gradient by path length as plain data, a record for each trial and step it was asked for at."""
        return [{"trial": trial, **row.to_dict()} for trial, rows in self.paths.items() for row in rows]


@dataclass(frozen=True)
class Measurements:
    """What diagnosis works on: a graph and the rows of one training run.

    Attributes:
        graph: the skips.
        skips: ledger rows.
        layers: layer rows.
        losses: may be empty (a loss is not the ledger's to see).
        notes: what could not be measured.
        paths: the gradient by path length, in order of steps; empty unless somebody asked for it.
        account: what became of every forward; None where nobody knows (a run file of an earlier version).
        chance: the loss of the best answer that is always the same (the entropy of the classes, the variance of the
            targets); None where nobody worked it out.
        changes: what steps changed of the branches, in order of steps; empty unless somebody asked for it.
    """

    graph: SkipGraph
    skips: tuple[SkipRow, ...] = ()
    layers: tuple[LayerRow, ...] = ()
    losses: tuple[LossPoint, ...] = ()
    notes: tuple[str, ...] = ()
    paths: tuple[PathRow, ...] = ()
    account: Account | None = None
    chance: float | None = None
    changes: tuple[ChangeRow, ...] = ()

    def steps(self) -> list[int]:
        """The steps measured, ascending."""
        return sorted({r.step for r in self.skips} | {r.step for r in self.layers})

    def at(self, step: int) -> Measurements:
        """The rows of one step."""
        return replace(
            self,
            skips=tuple(r for r in self.skips if r.step == step),
            layers=tuple(r for r in self.layers if r.step == step),
            paths=tuple(r for r in self.paths if r.step == step),
            changes=tuple(r for r in self.changes if r.step == step),
        )
