"""A minute of what soak.py does for an hour: all kinds of clients at once, and what must hold all the time and afterwards."""
import os

import pytest
import soak
from serverlib import KIND

pytestmark = [pytest.mark.native, pytest.mark.memory]


@pytest.mark.timeout(900)
@pytest.mark.skipif(KIND != "odmoe", reason="needs odmoe")
def test_a_minute_of_all_kinds_of_clients():
    report = soak.run(60, cap=soak.can_cap(), requests=200)
    assert not report["problems"], "\n".join(report["problems"])
