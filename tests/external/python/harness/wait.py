"""Waiting for what cannot announce itself (a counter in /stats, a process that is to end), with a bound."""

import os
import time

# Generous: a test must fail by what it sees, not by a slow machine. More still for one that is slower than slow.
DEADLINE_S = float(os.environ.get("RINGGATE_TEST_DEADLINE_S", 10))
STEP_S = 0.01


def until(condition, what, deadline_s=DEADLINE_S):
    """Asks `condition` until it answers something true, which is returned; fails naming `what` at the bound."""
    end = time.monotonic() + deadline_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            detail = what() if callable(what) else what
            raise AssertionError(f"not within {deadline_s:g} s: {detail}")
        time.sleep(STEP_S)
