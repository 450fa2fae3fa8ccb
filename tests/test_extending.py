"""Another package adds one of each kind by one file and one entry point, and skipgrad finds it everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from skipgrad.core.errors import UnknownName
from skipgrad.core.plugins import LeftOut, heads
from skipgrad.core.registry import Registry
from skipgrad.models import DATA, LIBRARIES
from skipgrad.writers import WRITERS

FILES = {
    "check": """
from skipgrad.diagnosis import Check
from skipgrad.diagnosis._check import found

CHECK = Check(
    "TOY1", "A toy lies about", "warning", "Toys on the floor are stepped on.",
    lambda measured: found("Put the toy away.", evidence={"toys": 1}, remedies=["toy-cure"]),
)
""",
    "remedy": """
from skipgrad.remedies.zero_init import ZeroInit

class ToyCure(ZeroInit):
    name, title = "toy-cure", "Start every branch at zero, from outside"

CURE = ToyCure()
""",
    "block": """
from torch import nn
from skipgrad.blocks import BlockEntry

BLOCK = BlockEntry(lambda: nn.Linear(4, 4), ((2, 4),), ((2, 4),))
""",
    "claim": """
from skipgrad.lab import Claim
from skipgrad.lab.picture import dots

def experiment(setting):
    return {"quick": float(setting.quick)}

CLAIM = Claim(
    id="TOY", title="Toys are claims", statement="A toy is a claim.", anchor="the toy box", criterion="that it is one",
    refutes="that it is none", setting="on a table", one_seed=experiment, judge=lambda values: True,
    sentence=lambda figures: "It is a toy.", picture=lambda figures: dots(figures, ["quick"], "toys"),
    not_on_model="a model is no toy",
)
""",
    "data": """
import torch
from skipgrad.models import DataEntry
from skipgrad.models.data.source import from_tensors

def load(ref):
    x = torch.randn(128, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return from_tensors(ref, "classification", x, torch.arange(128) % 10, classes=10, about="128 toys")

DATA = DataEntry(load, "toydata")
""",
    "library": """
import torch
from torch import nn
from skipgrad.models import Library, ModelSource

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
    def forward(self, x):
        return x + self.layer(x)

def resolve(ref, name, args):
    return ModelSource(ref, args, Net, lambda s, shape, device: ((torch.empty(shape or (2, 4), device=device),), {}))

LIBRARY = Library(resolve, "toylib:net")
""",
    "writer": """
from pathlib import Path
from skipgrad.writers import RowWriter, WriterEntry

class ToyWriter(RowWriter):
    def __init__(self, out):
        self.file = Path(out).with_suffix(".toy").open("w")
    def write(self, step, skips, layers, losses):
        print("step", step, len(skips), file=self.file)
    def close(self):
        self.file.close()

WRITER = WriterEntry(ToyWriter)
""",
}
POINTS = """
[skipgrad.checks]
TOY1 = toyskip.check:CHECK
[skipgrad.remedies]
toy-cure = toyskip.remedy:CURE
[skipgrad.blocks]
toy-block = toyskip.block:BLOCK
[skipgrad.claims]
TOY = toyskip.claim:CLAIM
[skipgrad.data]
toydata = toyskip.data:DATA
[skipgrad.models]
toylib = toyskip.library:LIBRARY
[skipgrad.writers]
toyfmt = toyskip.writer:WRITER
"""
BROKEN = """
[skipgrad.claims]
BAD = toybroken_is_not_here:CLAIM
D1 = toyskip.claim:CLAIM
TOY = toyskip.claim:CLAIM
ODD = toyskip.claim:experiment
OTHER = toyskip.claim:CLAIM
[skipgrad.data]
baddata = toybroken_is_not_here:DATA
digits = toyskip.data:DATA
"""


def package(site: Path, name: str, points: str) -> None:
    """What an installer leaves of a package beside its modules."""
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(points)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    (site / "toyskip").mkdir()
    for name, text in {"__init__": "", **FILES}.items():
        (site / "toyskip" / f"{name}.py").write_text(text)
    package(site, "toyskip", POINTS)
    return site


@pytest.fixture(scope="module")
def broken(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    other = tmp_path_factory.mktemp("broken")
    package(other, "zbroken", BROKEN)
    return other


def python(*words: str, on: tuple[Path, ...], status: int = 0) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*map(str, on), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def skipgrad(*words: str, on: tuple[Path, ...], status: int = 0) -> subprocess.CompletedProcess[str]:
    return python("-m", "skipgrad", *words, on=on, status=status)


@pytest.mark.slow
def test_a_check_a_remedy_data_and_a_writer_from_outside(site: Path, tmp_path: Path) -> None:
    on, out = (site,), tmp_path / "out"
    words = ["check", "skipgrad:resnet8", "--data", "toydata", "--steps", "6", "--out", str(out), "--json"]
    told = json.loads(skipgrad(*words, on=on).stdout)
    (finding,) = [f for f in told["findings"] if f["code"] == "TOY1"]
    assert (finding["state"], finding["prescription"]) == ("found", "Put the toy away.")
    assert [f["code"] for f in told["findings"]][-1] == "TOY1"
    assert "toy-cure" in [c["remedy"] for c in told["cures"]]  # prescribed by the finding, and raced
    text = skipgrad("report", str(out / "run.sqlite"), on=on).stdout
    assert "TOY1" in text
    assert "Put the toy away." in text
    skipgrad("export", str(out / "run.sqlite"), "--to", "toyfmt", "--out", str(tmp_path / "rows"), on=on)
    assert (tmp_path / "rows.toy").read_text().startswith("step 0 3\n")
    # A run that names what its reader has not is read all the same.
    assert "TOY1" in skipgrad("report", str(out / "run.sqlite"), on=()).stdout


@pytest.mark.slow
def test_a_remedy_from_outside_is_raced_and_offered(site: Path, tmp_path: Path) -> None:
    words = ["boost", "skipgrad:resnet8", "--data", "toydata", "--steps", "3", "--seeds", "1", "--trials", "1"]
    told = json.loads(
        skipgrad(*words, "--try", "toy-cure", "--json", "--out", str(tmp_path / "race"), on=(site,)).stdout
    )
    (cure,) = told["contestants"]
    assert (cure["name"], cure["state"] != "refused", cure["runs"]) == ("toy-cure", True, 1)
    wrong = skipgrad(*words, "--try", "toy-cue", on=(site,), status=1)
    assert "did you mean toy-cure?" in wrong.stderr


def test_the_order_is_ours_first(site: Path) -> None:
    code = (
        "from skipgrad.remedies import REMEDIES; from skipgrad.diagnosis import CHECKS, explain\n"
        "from skipgrad.blocks import BLOCKS\n"
        "print(*REMEDIES, *CHECKS); print(explain('TOY1')); print(BLOCKS.get('toy-block').make())\n"
        "print('TOY1' in CHECKS.built_in, len(CHECKS) - len(CHECKS.built_in), list(BLOCKS)[-1])"
    )
    names, explained, block, last = python("-c", code, on=(site,)).stdout.splitlines()
    assert names.startswith("zero-init skip-calibration add-skips gradient-scaling gradient-normalization ")
    assert " toy-cure SG001 " in names  # behind all of ours
    assert names.endswith("SG014 TOY1")
    assert explained == "Toys on the floor are stepped on."
    assert block.startswith("Linear")
    assert last == "False 1 toy-block"


def test_a_claim_from_outside_is_listed_and_tested(site: Path) -> None:
    assert "Toys are claims" in skipgrad("lab", on=(site,)).stdout
    done = skipgrad("lab", "toy", "--quick", "--out", str(site / "lab"), on=(site,))
    assert "It is a toy." in done.stdout
    assert done.stderr.splitlines()[-1] == "skipgrad: claim TOY 3/3: done"


@pytest.mark.slow
def test_a_library_from_outside_is_searched(site: Path) -> None:
    done = skipgrad("find", "toylib:net", "--json", on=(site,))
    assert [s["kind"] for s in json.loads(done.stdout)["skips"]] == ["add"]
    assert "toylib" in skipgrad("find", "toylb:net", on=(site,), status=1).stderr


@pytest.mark.parametrize(("verb", "name"), [("check", "toydata"), ("check", "toylib"), ("export", "toyfmt")])
def test_help_has_the_names(site: Path, verb: str, name: str) -> None:
    assert name in skipgrad(verb, "--help", on=(site,)).stdout


@pytest.mark.slow
def test_what_does_not_load_is_told_and_breaks_nothing(site: Path, broken: Path) -> None:
    on = (site, broken)
    told = skipgrad("lab", on=on)
    notes = [
        "the claim 'D1' of the package zbroken is left out: skipgrad has one of that name",
        "the claim 'TOY' of the package zbroken is left out: the package toyskip has one of that name",
        "the claim 'BAD' of the package zbroken is left out: toybroken_is_not_here:CLAIM raises ModuleNotFoundError: "
        "No module named 'toybroken_is_not_here'",
        "the claim 'ODD' of the package zbroken is left out: toyskip.claim:experiment is a function, not a Claim",
        "the claim 'OTHER' of the package zbroken is left out: its own id is 'TOY'",
    ]
    assert told.stderr.splitlines() == [f"skipgrad: {note}" for note in notes]
    assert all(note[:60] in told.stdout for note in notes)  # in the list as well
    assert "Deeper plain nets train worse" in told.stdout
    words = ["--data", "baddata", "--steps", "3"]
    wrong = skipgrad("check", "skipgrad:resnet8", *words, on=on, status=1)
    assert "the data 'baddata' of the package zbroken is left out" in wrong.stderr
    code = "from skipgrad.models import resolve_data; print(resolve_data('digits').about)"
    assert "1,797 handwritten digits" in python("-W", "ignore", "-c", code, on=on).stdout


@pytest.mark.parametrize("registry", [DATA, LIBRARIES], ids=["data", "libraries"])
def test_the_first_line_of_a_file_says_what_its_entry_says(registry: Registry) -> None:
    pytest.importorskip("sklearn")
    assert registry.built_in
    for name in registry.built_in:
        assert registry.get(name).example in registry.refs
        assert registry.about[name]


@pytest.mark.parametrize("name", [n for r in (DATA, LIBRARIES, WRITERS) for n in r.built_in])
def test_what_an_entry_needs_is_an_extra_of_ours(name: str) -> None:
    registry = next(r for r in (DATA, LIBRARIES, WRITERS) if name in r)
    if registry is WRITERS:
        pytest.importorskip({"csv": "polars", "parquet": "polars"}.get(name, name))
    entry = registry.get(name)
    wanted = metadata.metadata("skipgrad").get_all("Provides-Extra") or []
    assert entry.extra in ("", *wanted)
    assert bool(entry.extra) == bool(entry.package)


def test_a_file_without_such_a_line_is_no_entry() -> None:
    modules = {head.module for head in heads("skipgrad.models.data")}
    assert "skipgrad.models.data.own" not in modules
    assert "skipgrad.models.data.cifar" in modules


def test_an_entry_that_fails_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    point = metadata.EntryPoint("bad", "nowhere_to_be_found:X", "skipgrad.toys")
    monkeypatch.setattr("skipgrad.core.registry.points", lambda group: [point])
    registry: Registry[int] = Registry("toy", int, group="skipgrad.toys")
    with pytest.warns(LeftOut, match="the toy 'bad' of the package nowhere_to_be_found is left out"):
        assert list(registry) == []
    assert len(registry.notes) == 1
    with pytest.raises(UnknownName, match="is left out"):
        registry.get("bad")
