"""End-to-end encryption by its requirements (MLS.md section 3, by their numbers): agents of the SDK as processes, through real gateways."""

import base64
import contextlib
import json
import os
import secrets
from pathlib import Path

import pytest

from harness import wait
from harness.agent import Agent, connect
from harness.gateway import Gateway
from harness.member import Member, Refused
from harness.mls import seal
from harness.protocol import pb
from harness.proxy import Proxy
from harness.up import Up

MARKERS = 1000
# A thousand in scripts/soak.
ROTATIONS = int(os.environ.get("RINGGATE_ROTATIONS", "100"))
ALICE, BOB, CAROL = (f"acme/demo/{who}/1" for who in ("alice", "bob", "carol"))


@pytest.fixture
def up(tmp_path):
    """Both processes, from nothing."""
    up = Up(tmp_path)
    up.start()
    yield up
    assert up.stop() == 0, up.output()


@pytest.fixture
def join(up):
    """Brings members on, and ends them."""
    with contextlib.ExitStack() as running:

        def join(name, *, port=up.port, control_port=up.control_port, **options):
            member = Member(
                name,
                url=f"https://127.0.0.1:{port}",
                control=f"https://127.0.0.1:{control_port}",
                ca=up.folder / ".ringgate" / "control" / "ca.pem",
                token=up.said("join-token", "create", name).strip(),
                **options,
            )
            running.callback(member.close)
            return member

        yield join


def group_of(first, *others, padding=256):
    """A group that `first` makes, once everybody is in it."""
    group = first.do("create", padding=padding)["group"]
    first.do("invite", group=group, names=[other.name for other in others])
    names = [member.name for member in (first, *others)]
    for other in others:
        other.event("joined", group=group)
    for member in (first, *others):
        member.do("wait", group=group, members=names)
    return group


def make_markers():
    """Payloads that nothing has by chance."""
    return [f"marker-{secrets.token_hex(16)}" for _ in range(MARKERS)]


def shapes_of(marker):
    """What a marker looks like: as it is, and in base64 however it is aligned."""
    yield marker
    for before, skipped in enumerate((0, 2, 3)):
        # Without the digits that hold bits of what stands before and behind.
        encoded = base64.b64encode(b"\0" * before + marker)
        yield encoded[skipped : len(encoded) - 4]


def found(markers, haystacks):
    """Which of the markers are in any of these bytes, in any shape. All have one length and begin alike, so one search finds all."""
    known = {shape: marker for marker in markers for shape in shapes_of(marker.encode())}
    seen = set()
    for head in {(shape[:7], len(shape)) for shape in known}:
        for text in haystacks:
            at = text.find(head[0])
            while at >= 0:
                seen.add(known.get(bytes(text[at : at + head[1]])))
                at = text.find(head[0], at + 1)
    return [marker for marker in markers if marker in seen]


def test_the_search_finds_what_is_there():
    marker, other, _ = make_markers()[:3]
    for before in range(4):
        encoded = base64.b64encode(b"x" * before + marker.encode() + b"tail")
        assert found([marker, other], [b"...", encoded]) == [marker]
    assert found([marker, other], [b"marker-" + marker.encode() + other.encode()]) == [marker, other]
    assert found([marker], [marker.encode()[1:], other.encode()]) == []


def memory_of(process_name, parent):
    """What a child of a process has in its memory, one piece for each mapping."""
    for task in Path(f"/proc/{parent}/task").iterdir():
        for child in (task / "children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip().startswith(process_name):
                return read_memory(int(child))
    raise AssertionError(f"{parent} has no child {process_name}")


def read_memory(pid):
    """All that a process may write to."""
    pieces = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights = line.split()[:2]
            begin, end = (int(part, 16) for part in place.split("-"))
            if rights.startswith("rw"):
                with contextlib.suppress(OSError, ValueError, OverflowError):
                    memory.seek(begin)
                    pieces.append(memory.read(end - begin))
    return pieces


@pytest.mark.timeout(300)
def test_t6_a_whole_session_says_none_of_its_payloads_to_who_looks_on(up, join):
    data, control = Proxy(up.port, keep=True), Proxy(up.control_port, keep=True)
    ports = {"port": int(data.address.split(":")[1]), "control_port": int(control.address.split(":")[1])}
    alice, bob = join(ALICE, **ports), join(BOB, **ports)
    group = group_of(alice, bob)
    bob.do("subscribe", pattern="t/**")
    markers = make_markers()
    published, asked = markers[: MARKERS // 2], markers[MARKERS // 2 :]
    for number, marker in enumerate(published):
        alice.do("publish", group=group, topic=f"t/{number % 7}", text=marker)
    for marker in asked:
        assert alice.do("request", group=group, agent=BOB, text=marker)["text"] == f"re: {marker}"
    for marker in published:
        bob.event("message", text=marker)
    # Who looks on sees no payload; neither do the files and the memory of those in between, who see more.
    captured = [bytes(way) for way in (*data.kept, *control.kept)]
    assert len(captured) >= 8 and sum(map(len, captured)) > MARKERS * 1024, "all of it went through"
    assert found(markers, captured) == []
    files = [path.read_bytes() for path in (up.folder / ".ringgate").rglob("*") if path.is_file()]
    assert found(markers, files) == []
    try:
        memory = memory_of("ringgate-datapl", up.process.pid)
    except PermissionError:
        pytest.skip("this machine lets nobody read the memory of another process; what was captured is clean")
    topics = [b"t/%d" % number for number in range(7)]
    assert any(topic in piece for piece in memory for topic in topics), "this is the memory that the messages went through"
    assert found(markers, memory) == []


def test_t6_the_same_search_finds_what_is_said_in_the_clear():
    gateway = Gateway()
    try:
        proxy = Proxy(gateway.port, keep=True)
        alice, bob = (Agent(connect(proxy.address), name, owns_channel=True) for name in (ALICE, BOB))
        bob.subscribe("t/**")
        markers = make_markers()
        for marker in markers:
            alice.publish("t/x", marker.encode())
        for marker in markers:
            assert bob.expect_next("notify").payload == marker.encode()
        assert found(markers, [bytes(way) for way in proxy.kept]) == markers
        with contextlib.suppress(PermissionError):
            assert found(markers, read_memory(gateway.process.pid)) != [], "its memory holds some of what it passed on"
        alice.close()
        bob.close()
    finally:
        gateway.kill()


def test_t7_what_only_looks_like_a_ciphertext_passes_the_gateway_and_nobody_reads_it(up, join):
    alice, bob = join(ALICE), join(BOB)
    group = group_of(alice, bob)
    for member in (alice, bob):
        member.do("subscribe", pattern="t/**")
    mallory = up.join(up.enroll("acme/demo/mallory/1", "mallory"), "acme/demo/mallory/1")
    epoch = alice.do("info", group=group)["epoch"]
    lie = b"this is plaintext where a ciphertext should be"
    forged = seal(lie, group=bytes.fromhex(group), epoch=epoch)
    assert lie in forged
    # The gateway cannot tell ciphertext from noise.
    mallory.send(publish=pb.Publish(topic="t/x", payload=forged, id=1))
    assert mallory.expect_ack(1).receivers == 2
    for member in (alice, bob):
        refused = member.event("unreadable", topic="t/x")
        assert refused["source"] == mallory.name and lie.decode() not in json.dumps(refused)
    # The same from a member, who could have encrypted it, and a ciphertext that somebody else has made.
    alice.do("publish", group=group, topic="t/x", text="in order")
    assert bob.event("message")["text"] == "in order"
    mallory.close()


def test_t17_a_removed_member_reads_nothing_more_and_says_nothing_more(join):
    alice, bob, carol = join(ALICE), join(BOB), join(CAROL)
    group = group_of(alice, bob, carol)
    for member in (bob, carol):
        member.do("subscribe", pattern="t/**")
    alice.do("publish", group=group, topic="t/x", text="all three")
    for member in (bob, carol):
        assert member.event("message")["text"] == "all three"
    alice.do("remove", group=group, name=CAROL)
    carol.do("out", group=group)
    bob.do("wait", group=group, members=[ALICE, BOB])
    alice.do("publish", group=group, topic="t/x", text="without carol")
    assert bob.event("message")["text"] == "without carol"
    carol.event("unreadable", topic="t/x")
    with pytest.raises(Refused):
        carol.do("publish", group=group, topic="t/x", text="still here?")


def test_messages_that_say_nothing_look_like_those_that_do(up, join):
    alice, bob = join(ALICE), join(BOB)
    group = group_of(alice, bob)
    bob.do("subscribe", pattern="t/**")
    onlooker = up.join(up.enroll("acme/demo/onlooker/1", "onlooker"), "acme/demo/onlooker/1")
    onlooker.subscribe("t/**")
    lengths = set()
    for number in range(20):
        if number % 2:
            alice.do("publish", group=group, topic="t/x", text="x" * (number * 8))
        else:
            alice.do("cover", group=group, topic="t/x")
        lengths.add(len(onlooker.expect_next("notify").payload))
    assert len(lengths) == 1, "all are of one length"
    heard = [bob.event("message")["text"] for _ in range(10)]
    assert heard == ["x" * (number * 8) for number in range(1, 20, 2)]
    assert [event for event in bob.unread if event.get("event")] == []
    onlooker.close()


@pytest.mark.timeout(900)
def test_t22_a_thousand_rotations_do_not_interrupt_who_talks(join):
    alice, bob = join(ALICE), join(BOB)
    group = group_of(alice, bob)
    bob.do("subscribe", pattern="t/**")
    epoch = bob.do("info", group=group)["epoch"]
    alice.do("talk", group=group, topic="t/x")
    # Each has another certificate, for another key, and its leaf in the group is of it before the next.
    alice.do("renew", group=group, times=ROTATIONS, deadline_s=800)
    said = alice.do("quiet")["said"]
    assert said > 0
    for number in range(said):
        assert bob.event("message")["text"] == str(number)
    assert [event for event in bob.unread if event.get("event")] == [], "nothing was lost, and nothing could not be read"
    wait.until(lambda: bob.do("info", group=group)["epoch"] >= epoch + ROTATIONS, "bob has followed")
    alice.do("publish", group=group, topic="t/x", text="after all that")
    assert bob.event("message") == {
        "event": "message",
        "topic": "t/x",
        "sender": ALICE,
        "text": "after all that",
    }
