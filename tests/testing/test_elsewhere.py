"""What the laws find in rules as other code bases have them: their error, and nothing else."""

import pytest
from testing.elsewhere import FOUND, RULES, examine, row
from testing.test_our_rules import PAGE


@pytest.mark.parametrize("name", RULES)
def test_the_error_is_found_and_nothing_else(name):
    report = examine(name)
    assert report.broken == FOUND[name]
    assert row(name, report) in PAGE.read_text().splitlines()
