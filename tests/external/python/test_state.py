"""State spaces: one order for each space, whoever asks, on whichever core; durable ones outlive the process."""

import os
import random
import threading
import time

import pytest

from harness.gateway import ONE_CORE, TWO_CORES
from harness import state, wait
from harness.agent import Agent, connect
from harness.protocol import pb
from harness.scene import Scene

KILLS = int(os.environ.get("RINGGATE_TEST_STATE_KILLS", 20))


def several(scene, service, count):
    """Agents on connections of their own, which the kernel spreads over the cores."""
    return [scene.agent(service, str(instance)) for instance in range(count)]


def test_what_one_agent_puts_others_get(scene):
    agents = several(scene, "worker", 6)
    space = scene.topic("notes")
    assert not state.get(agents[0], space, "k").exists
    revision = state.put_acked(agents[0], space, "k", b"v", expect=0)
    for agent in agents:
        value = state.get(agent, space, "k")
        assert (value.exists, value.value, value.revision, value.source) == (True, b"v", revision, agents[0].name)
    agents[1].expect_error(state.put(agents[1], space, "k", b"w", expect=0), pb.CODE_CONFLICT)
    assert state.put_acked(agents[2], space, "k", b"w", expect=revision) == revision + 1
    assert agents[3].expect_ack(state.delete(agents[3], space, "k")).revision == revision + 2
    agents[4].expect_error(state.delete(agents[4], space, "k"), pb.CODE_NOT_FOUND)


def test_what_breaks_a_rule_is_refused_with_what_to_do(scene):
    agent = scene.agent("worker")
    space = scene.topic("notes")
    agent.expect_error(state.put(agent, "a/*", "k", b""), pb.CODE_INVALID_ARGUMENT)
    agent.expect_error(state.put(agent, space, "", b""), pb.CODE_INVALID_ARGUMENT)
    agent.expect_error(state.put(agent, space, "k", bytes((1 << 20) + 1)), pb.CODE_INVALID_ARGUMENT)
    assert state.get(agent, space, "k").revision == 0


def test_a_watch_is_a_snapshot_then_changes_of_its_prefix(scene):
    writer, watcher = scene.agent("writer"), scene.agent("watcher")
    space = scene.topic("notes")
    for key in ("a/1", "b/1", "a/2"):
        last = state.put_acked(writer, space, key, b"v")
    watch = state.watch(watcher, space, "a/")
    assert state.snapshot(watcher, watch) == ({"a/1": b"v", "a/2": b"v"}, last)
    state.put_acked(writer, space, "b/2", b"w")
    state.put_acked(writer, space, "a/1", b"w")
    writer.expect_ack(state.delete(writer, space, "a/2"))
    first, second = state.event(watcher, watch), state.event(watcher, watch)
    assert (first.key, first.value, first.revision, first.source) == ("a/1", b"w", last + 2, writer.name)
    assert first.change == pb.STATE_CHANGE_PUT and first.time_unix_nanos > 0
    assert (second.key, second.revision, second.change) == ("a/2", last + 3, pb.STATE_CHANGE_DELETE)
    watcher.send(state_unwatch=pb.StateUnwatch(id=watch))
    watcher.expect_ack(watch)


def test_a_value_is_over_in_time(scene):
    writer, watcher = scene.agent("writer"), scene.agent("watcher")
    space = scene.topic("notes")
    watch = state.watch(watcher, space)
    state.snapshot(watcher, watch)
    revision = state.put_acked(writer, space, "k", b"v", ttl_ms=50)
    assert state.event(watcher, watch).revision == revision
    gone = state.event(watcher, watch)
    assert (gone.change, gone.revision, gone.source) == (pb.STATE_CHANGE_DELETE, revision + 1, "")
    assert not state.get(writer, space, "k").exists


def test_a_watch_goes_on_from_a_revision_and_says_when_that_is_gone(start_scene):
    scene = start_scene(cores=ONE_CORE, settings={"limits.state_history_max": 8})
    writer, watcher = scene.agent("writer"), scene.agent("watcher")
    space = scene.topic("notes")
    revisions = [state.put_acked(writer, space, "k", str(n).encode()) for n in range(6)]
    watch = state.watch(watcher, space, since=revisions[3])
    assert [state.event(watcher, watch).value for _ in range(3)] == [b"3", b"4", b"5"]
    for n in range(6, 20):
        state.put_acked(writer, space, "k", str(n).encode())
    for since in (revisions[3], revisions[0] + 1000):
        watcher.send(state_watch=pb.StateWatch(id=7, space=space, from_revision=since))
        watcher.expect_error(7, pb.CODE_COMPACTED)


@pytest.mark.parametrize("history", [100_000, 16], ids=["kept", "compacted"])
def test_a_slow_watcher_is_never_silently_behind(start_scene, history):
    settings = {
        "limits.state_history_max": history,
        "limits.state_history_bytes_max": 1 << 30,
        "limits.queue_bytes_default": 1 << 16,
    }
    scene = start_scene(cores=TWO_CORES if len(os.sched_getaffinity(0)) > 1 else ONE_CORE, settings=settings)
    writer, watcher = scene.agent("writer"), scene.stalled("watcher")
    space = scene.topic("notes")
    watch = state.watch(watcher, space)
    watcher.expect("state_event", id=watch, change=pb.STATE_CHANGE_SNAPSHOT_END)
    watcher.stop_reading()
    payload = bytes(2000)
    ids = [state.put(writer, space, f"k{n % 5}", n.to_bytes(4, "big") + payload) for n in range(3000)]
    last = [writer.expect_ack(id).revision for id in ids][-1]
    watcher.read_on()
    seen, gaps, revision = {}, 0, 0
    while revision < last:
        message = watcher.next()
        kind = message.WhichOneof("body")
        if kind == "gap":
            assert message.gap.subscription == watch and message.gap.dropped > 0
            gaps += 1
            revision = 0
        elif kind == "state_event":
            event = message.state_event
            if event.change == pb.STATE_CHANGE_PUT:
                seen[event.key] = int.from_bytes(event.value[:4], "big")
            if gaps == 0:
                assert revision == 0 or event.revision == revision + 1, "a change is missing and no Gap says so"
            revision = max(revision, event.revision)
    assert (gaps > 0) == (history == 16)
    assert seen == {f"k{n % 5}": n for n in range(2995, 3000)}
    # It is live again.
    state.put_acked(writer, space, "k0", b"live")
    assert wait.until(lambda: state.event(watcher, watch).value == b"live", "the live change")


def test_counting_with_compare_and_set_loses_nothing(scene):
    """Writers on all cores count in one key; the history must be one order that agrees with real time."""
    space, each = scene.topic("count"), 60
    writers = several(scene, "writer", 4)
    state.put_acked(writers[0], space, "n", b"0")
    history, failures = [], []

    def work(agent):
        try:
            done = 0
            while done < each:
                value = state.get(agent, space, "n")
                began = time.monotonic()
                id = state.put(agent, space, "n", str(int(value.value) + 1).encode(), expect=value.revision)
                answer = agent._take(
                    lambda m: id in (m.ack.id, m.error.id), f"an answer on {id}", wait.DEADLINE_S
                )
                if answer.WhichOneof("body") == "ack":
                    history.append((answer.ack.revision, began, time.monotonic()))
                    done += 1
                else:
                    assert answer.error.code == pb.CODE_CONFLICT, answer
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(agent,)) for agent in writers]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures, failures
    assert int(state.get(writers[0], space, "n").value) == each * len(writers)
    history.sort()
    latest_begin = 0
    for revision, began, ended in history:
        assert ended >= latest_begin, f"revision {revision} comes behind one that began after it had ended"
        latest_begin = max(latest_begin, began)
    assert len({revision for revision, *_ in history}) == each * len(writers)


# --- durable spaces ------------------------------------------------------------------------------------------------


@pytest.fixture(params=[ONE_CORE, pytest.param(TWO_CORES, marks=pytest.mark.two_cores)], ids=["1core", "2cores"])
def durable(request, start_gateway, tmp_path):
    """Starts gateways, one after the other, on one folder of durable spaces."""

    def start(**more):
        settings = {"state.durable": "[kept/**]", "state.directory": tmp_path / "spaces", "state.segment_bytes": 1 << 20}
        return start_gateway(cores=request.param, settings={**settings, **more})

    start.directory = tmp_path / "spaces"
    return start


def logs(directory):
    """The log's files, oldest first."""
    return sorted(directory.glob("*.log"))


def test_durable_spaces_outlive_a_kill_and_others_do_not(durable):
    gateway = durable()
    scene = Scene(gateway)
    agent = scene.agent("writer")
    revisions = {key: state.put_acked(agent, "kept/notes", key, key.encode()) for key in ("a", "b", "c")}
    agent.expect_ack(state.delete(agent, "kept/notes", "b"))
    state.put_acked(agent, "other/notes", "a", b"a")
    gateway.kill()
    for _ in range(3):
        gateway = durable()
        scene = Scene(gateway)
        agent = scene.agent("writer")
        for key in ("a", "c"):
            value = state.get(agent, "kept/notes", key)
            assert (value.value, value.revision, value.source) == (key.encode(), revisions[key], value.source)
        assert not state.get(agent, "kept/notes", "b").exists
        assert not state.get(agent, "other/notes", "a").exists
        assert state.put_acked(agent, "kept/notes", "d", b"d") > revisions["c"] + 1
        scene.close()
        gateway.kill()


def started(durable):
    """A gateway; none where the locked memory of the one killed before is not free yet: the kernel does that later."""
    try:
        return durable()
    except AssertionError as error:
        if "lockable memory" in str(error):
            return None
        raise


def test_kill_9_while_writing_loses_nothing_that_was_acknowledged(durable):
    """RINGGATE_TEST_STATE_KILLS rounds: writers write until the process is killed; all that was acknowledged is there."""
    acknowledged, value = {}, 0
    chance = random.Random(7)
    for round in range(KILLS):
        print(f"round {round}")  # shown where a test fails, and by -s
        gateway = wait.until(lambda: started(durable), "the kernel has freed the rings of those that were killed")
        agents = [
            Agent(connect(gateway.address), f"acme/kill/writer/{n}", owns_channel=True) for n in range(3)
        ]
        for (space, key), (least, revision) in acknowledged.items():
            found = state.get(agents[0], space, key)
            assert found.exists, f"round {round}: {space} {key} is gone"
            assert int(found.value) >= least and found.revision >= revision, f"round {round}: {found} after {least}"
        writes = {}
        for n in range(150):
            value += 1
            agent, where = agents[n % 3], (f"kept/{n % 4}", f"k{n % 3}")
            writes[state.put(agent, *where, str(value).encode().rjust(chance.randrange(8, 3000), b"0"))] = (where, value)
        wanted = chance.randrange(1, len(writes))
        deadline = time.monotonic() + wait.DEADLINE_S
        while sum(len(agent.unread()) for agent in agents) < wanted:
            assert gateway.is_alive(), f"round {round}: the gateway ended:\n{gateway.output()[-4000:]}"
            unread = [len(agent.unread()) for agent in agents]
            assert time.monotonic() < deadline, f"round {round}: no more acknowledgements than {unread}; {gateway.output()[-4000:]}"
        gateway.process.kill()
        gateway.wait_for_exit()
        for agent in agents:
            agent.wait_for_end()
            for message in agent.unread():
                assert message.WhichOneof("body") == "ack", message
                where, written = writes[message.ack.id]
                if message.ack.revision > acknowledged.get(where, (0, 0))[1]:
                    acknowledged[where] = (written, message.ack.revision)
            agent.call.cancel()
            agent._channel.close()


def test_the_log_is_written_anew_and_old_files_go(durable):
    gateway = durable(**{"limits.state_log_bytes_max": 1 << 20})
    scene = Scene(gateway)
    agent = scene.agent("writer")
    payload = bytes(20_000)
    ids = [state.put(agent, "kept/notes", f"k{n % 3}", payload + str(n).encode()) for n in range(600)]
    [agent.expect_ack(id) for id in ids]
    wait.until(
        lambda: len(logs(durable.directory)) <= 8, lambda: f"few files are left; there are {logs(durable.directory)}"
    )
    gateway.kill()
    scene = Scene(durable())
    agent = scene.agent("reader")
    assert [state.get(agent, "kept/notes", f"k{n}").value[20_000:] for n in range(3)] == [b"597", b"598", b"599"]


def test_a_torn_end_is_left_out(durable):
    gateway = durable()
    scene = Scene(gateway)
    agent = scene.agent("writer")
    for n in range(5):
        state.put_acked(agent, "kept/notes", f"k{n}", b"v")
    gateway.kill()
    for path in logs(durable.directory):
        data = bytearray(path.read_bytes())
        used = len(data.rstrip(b"\0"))
        end = -(-used // 4096) * 4096
        data[end : end + 100] = os.urandom(100)
        path.write_bytes(data)
    scene = Scene(durable())
    agent = scene.agent("reader")
    assert all(state.get(agent, "kept/notes", f"k{n}").exists for n in range(5))


def test_a_flipped_bit_in_what_was_acknowledged_is_refused_with_the_file(durable):
    gateway = durable()
    scene = Scene(gateway)
    agent = scene.agent("writer")
    for n in range(5):
        state.put_acked(agent, "kept/notes", f"k{n}", b"precious")
    gateway.kill()
    hit = next(path for path in logs(durable.directory) if b"precious" in path.read_bytes())
    data = bytearray(hit.read_bytes())
    data[data.index(b"precious")] ^= 1
    hit.write_bytes(data)
    with pytest.raises(AssertionError, match=f"{hit.name} is damaged"):
        durable()


def test_a_full_disk_refuses_durable_changes_and_harms_nothing_else(durable):
    """A file that is to be larger than any disk cannot be made, as on a full one."""
    gateway = durable(**{"state.segment_bytes": 1 << 40})
    scene = Scene(gateway)
    agent = scene.agent("writer")
    for _ in range(3):
        error = agent.expect_error(state.put(agent, "kept/notes", "k", b"v"), pb.CODE_UNAVAILABLE)
        assert error.retryable
        assert not state.get(agent, "kept/notes", "k").exists
    state.put_acked(agent, "other/notes", "k", b"v")
    scene.close()
    gateway.kill()
    # There is room again.
    scene = Scene(durable())
    state.put_acked(scene.agent("writer"), "kept/notes", "k", b"v")


def test_one_process_has_the_folder(durable):
    durable()
    with pytest.raises(AssertionError, match="another process uses"):
        durable()
