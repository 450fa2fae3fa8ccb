"""What a stranger finds at the root: one version, forms and jobs that call the make targets, no dead names."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from skipgrad import __version__

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#([^)\s]+))?\)")


def yaml_of(name: str) -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((ROOT / name).read_text("utf-8"))


def tracked() -> list[Path]:
    """Text files of the repository; where this is no clone, those of its folders."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0 and done.stdout:
        paths = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        folders = (ROOT / n for n in ("src", "docs", "tests", "benchmarks"))
        paths = [*ROOT.glob("*.md"), *(p for f in folders for p in f.rglob("*") if "generated" not in p.parts)]
    kinds = {".py", ".md", ".toml", ".yml", ".yaml", ".txt", ".sh", ".cff", ".tsv", ".ipynb", ".css", ".ambr", ""}
    return [p for p in paths if p.is_file() and p.suffix in kinds]


def test_no_text_names_a_file_outside_the_repository() -> None:
    names = [n + r"\.md" for n in ("BOOST", "PEERS", "CLAIMS", "DESIGN", "STYLE")]
    outside = re.compile("|".join([*names, "ZOO" + r"\.tsv", r"\.\./" + "shared", "proto" + "types"]))
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in tracked()
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1)
        if outside.search(line)
    ]
    assert found == []


def test_no_merge_is_left_half_done() -> None:
    marks = tuple(sign * 7 + " " for sign in "<>")
    texts = {path: (ROOT / path).read_bytes().decode("utf-8", "replace") for path in tracked()}
    left = [str(p) for p, text in texts.items() if any(line.startswith(marks) for line in text.splitlines())]
    assert left == []


def test_result_files_that_pages_name_are_there() -> None:
    missing = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for name in re.findall(r"benchmarks/results/[\w.-]+\.txt", path.read_text("utf-8")):
            if not (ROOT / name).is_file():
                missing.append(f"{path.relative_to(ROOT)}: {name}")
    assert missing == []


def slug(heading: str) -> str:
    """The anchor GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("name", ["README", "ARCHITECTURE", "CONTRIBUTING", "SECURITY"])
def test_links_of_the_files_at_the_root_lead_somewhere(name: str) -> None:
    dead = []
    for target, anchor in LINK.findall((ROOT / f"{name}.md").read_text("utf-8")):
        path = ROOT / target
        if not path.exists():
            dead.append(target)
        elif anchor and path.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
            if anchor not in map(slug, headings):
                dead.append(f"{target}#{anchor}")
    assert dead == []


def test_the_version_is_one_everywhere() -> None:
    cited = yaml_of("CITATION.cff")
    assert str(cited["version"]) == __version__
    changes = re.findall(r"^## \[([^\]]+)\](?: – (\S+))?$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert changes[0] == ("Unreleased", "")
    assert changes[1] == (__version__, str(cited["date-released"]))


def test_the_citation_has_what_its_format_wants() -> None:
    cited = yaml_of("CITATION.cff")
    assert cited["cff-version"] == "1.2.0"
    assert cited["message"]
    assert cited["title"]
    assert all(author.get("name") or author.get("family-names") for author in cited["authors"])
    assert cited["license"] == "Apache-2.0"


def test_hook_and_jobs_call_the_make_targets() -> None:
    (repo,) = yaml_of(".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local"
    assert [hook["entry"] for hook in repo["hooks"]] == ["make lint"]
    jobs = yaml_of(".github/workflows/ci.yml")["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert runs == ["make lint", "make test", "make test-slow", "make docs"]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {run.removeprefix("make ") for run in runs} <= set(targets)


def test_a_report_of_a_bug_asks_for_the_graph_and_the_versions() -> None:
    form = yaml_of(".github/ISSUE_TEMPLATE/bug.yml")
    asked = {field["id"]: field for field in form["body"]}
    assert "skipgrad find MODEL --json" in asked["graph"]["attributes"]["label"]
    assert "skipgrad --version" in asked["versions"]["attributes"]["value"]
    assert all(asked[k]["validations"]["required"] for k in ("what", "model", "graph", "versions"))
