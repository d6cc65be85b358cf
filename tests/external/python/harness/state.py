"""State spaces over an `Agent`: what is said and awaited."""

import itertools

from harness.protocol import pb

_ids = itertools.count(1 << 20)


def put(agent, space, key, value, *, expect=None, ttl_ms=0):
    """Says StatePut; returns its id."""
    id = next(_ids)
    agent.send(
        state_put=pb.StatePut(id=id, space=space, key=key, value=value, expect_revision=expect, ttl_ms=ttl_ms)
    )
    return id


def put_acked(agent, space, key, value, **options):
    """Puts and returns the revision."""
    return agent.expect_ack(put(agent, space, key, value, **options)).revision


def delete(agent, space, key, *, expect=None):
    """Says StateDelete; returns its id."""
    id = next(_ids)
    agent.send(state_delete=pb.StateDelete(id=id, space=space, key=key, expect_revision=expect))
    return id


def get(agent, space, key):
    """What a key holds: the StateValue."""
    id = next(_ids)
    agent.send(state_get=pb.StateGet(id=id, space=space, key=key))
    return agent.expect("state_value", id=id)


def watch(agent, space, prefix="", *, since=None):
    """Says StateWatch, awaits its Ack, and returns its id."""
    id = next(_ids)
    agent.send(state_watch=pb.StateWatch(id=id, space=space, prefix=prefix, from_revision=since))
    agent.expect_ack(id)
    return id


def event(agent, watch):
    """The next event of a watch."""
    return agent.expect("state_event", id=watch)


def snapshot(agent, watch):
    """What a watch begins with, as a dict, and its revision."""
    found = {}
    while True:
        next_event = event(agent, watch)
        if next_event.change == pb.STATE_CHANGE_SNAPSHOT_END:
            return found, next_event.revision
        found[next_event.key] = next_event.value
