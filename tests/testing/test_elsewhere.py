"""What the laws find in rules as other code bases have them: their error, and nothing else."""

from functools import cache

import pytest
from strategies import drawn_as_shown
from testing.elsewhere import FOUND, RULES, examine, row
from testing.test_our_rules import PAGE

examined = cache(examine)


@pytest.mark.parametrize("name", RULES)
def test_the_error_is_found_and_nothing_else(name):
    assert examined(name).broken == FOUND[name]


@drawn_as_shown
@pytest.mark.parametrize("name", RULES)
def test_the_page_has_what_is_found(name):
    assert row(name, examined(name)) in PAGE.read_text().splitlines()
