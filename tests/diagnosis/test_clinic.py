"""The quick part of the clinic: sick nets get their disease's name, healthy and cured ones no warning."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
from clinic.treat import Record, treat
from clinic.wards import HEALTHY, SICK

QUICK = [case for case in SICK if case.fast]
WELL = [case for case in HEALTHY if case.fast]


def treated(case: Any) -> Record:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own, of configurations that small
        record = treat(case)
    print(record)
    return record


# A word without the brackets and stops around it; a check's code; parts of our nets whose names have no number.
WORD = re.compile(r"([(\"]*)(.*?)([)\".,:;]*)")
CODE = re.compile(r"SG\d{3}")
PARTS = frozenset(("root", "stem", "head", "module", "modules"))
LIST = re.compile(r"#(?:,? (?:and )?#(?: more)?)+")


def masked(sentence: str) -> str:
    """A sentence without its figures and names, which differ from processor to processor."""
    words = [WORD.fullmatch(word).groups() for word in sentence.split()]  # type: ignore[union-attr]
    plain = [
        before + ("#" if (re.search(r"\d", core) and not CODE.fullmatch(core)) or core in PARTS else core) + after
        for before, core, after in words
    ]
    return LIST.sub("#", " ".join(plain))


def test_figures_and_names_are_masked() -> None:
    said = "In 3 of 17 layers (experts.0.2.1, experts.2.3.1 and 12 more) 1.5e-08× of it, 2,300 (SG001), to 4 %."
    assert masked(said) == "In # of # layers (#) # of it, # (SG001), to # %."


def sentences(record: Record, *codes: str) -> dict[str, str]:
    """What is said of a net by these checks; each says what to do, or that nothing needs doing."""
    for f in record.findings:
        assert f.prescription
        assert not f.prescription.rstrip().endswith((",", ":", ";"))
        if f.state == "found" and f.severity == "info" and f.code not in ("SG001", "SG003", "SG005", "SG008", "SG013"):
            assert "nothing needs doing" in f.prescription
    return {f.code: masked(f"{f.severity}: {f.prescription}") for f in record.findings if f.code in codes}


# Who changes a sentence sees it in the snapshots, and writes them anew: ``pytest tests/diagnosis --snapshot-update``.
@pytest.mark.parametrize("case", QUICK, ids=lambda c: c.name)
def test_the_disease_of_a_sick_net_is_named(case: Any, snapshot: Any) -> None:
    record = treated(case)
    named = [code for code in case.disease if code in record.alarms]
    assert named
    assert sentences(record, named[0]) == snapshot


@pytest.mark.parametrize("case", [c.cured for c in QUICK], ids=lambda c: c.name)
def test_its_cured_twin_learns_without_an_alarm(case: Any) -> None:
    record = treated(case)
    assert record.learned
    assert record.alarms == ()


@pytest.mark.parametrize("case", WELL, ids=lambda c: c.name)
def test_a_healthy_net_learns_without_an_alarm(case: Any, snapshot: Any) -> None:
    record = treated(case)
    assert record.learned
    assert record.alarms == ()
    assert sentences(record, "SG001", "SG002", "SG003", "SG010", "SG012", "SG013") == snapshot


def test_names_are_unique_and_every_disease_has_a_case() -> None:
    names = [c.name for c in (*SICK, *HEALTHY)]
    assert len(set(names)) == len(names)
    assert all(c.cured is not None and not c.cured.disease for c in SICK)
    told = {code for c in SICK for code in c.disease}
    # SG008 and SG011 describe; what they see in a net that does not learn is SG012's, and named by others.
    assert told >= {f"SG{i:03d}" for i in (1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 13)}
