import pytest

from skipgrad.core import BadInput, UnknownName
from skipgrad.lab import CLAIMS, Figure, run_claim
from skipgrad.lab.claim import Claim, state_of


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ([True, True, True], "reproduced"),
        ([True, False, True], "not reproduced"),
        ([True, None, True], "not resolvable at this scale"),
        ([None, False], "not reproduced"),
        ([], "not resolvable at this scale"),
    ],
)
def test_a_verdict_is_given_seed_by_seed(answers, state):
    assert state_of([Figure(i, a) for i, a in enumerate(answers)]) == state


@pytest.mark.parametrize("name", CLAIMS.built_in)
def test_a_claim_states_what_it_asks_and_has_a_page(name, request):
    claim: Claim = CLAIMS.get(name)
    assert claim.id == name
    assert claim.title
    assert claim.statement.endswith(".")
    assert claim.criterion
    assert claim.anchor
    page = request.config.rootpath / "docs" / "lab" / f"{name.lower()}.md"
    assert claim.title in page.read_text(encoding="utf-8")


def test_an_unknown_claim_or_an_empty_list_of_seeds_is_refused():
    with pytest.raises(UnknownName, match="D9"):
        run_claim("A9")
    with pytest.raises(BadInput, match="seed"):
        run_claim("A1", seeds=[])
    with pytest.raises(BadInput, match="seed"):
        run_claim("A1", seeds=[1, 1])
