"""What the operator sees: metrics to the message, pages, taps, conversations, security events, OpenTelemetry."""

import http.client
import json
import subprocess

import pytest

from harness import wait
from harness.observe import Collector, Lines, Metrics, get_json, lines, scrape
from harness.paths import CLI, PERF
from harness.protocol import pb

RECEIVED = "ringgate_messages_received_total"
QUEUED = "ringgate_messages_queued_total"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
EVERY = {"observe.sample_one_in": 1}


def in_conversation(id):
    """Headers of a message that belongs to a conversation."""
    return {"conversation-id": id}


def core_of(gateway, agent):
    """The core that has an agent."""
    for listed in get_json(gateway, "/agentz?limit=1000")["agents"]:
        if listed["name"] == agent.name:
            return listed["core"]
    raise AssertionError(f"{agent.name} is not there")


# --- metrics ------------------------------------------------------------------------------------------------------------


def test_metrics_agree_with_the_clients_to_the_message(scene):
    publisher, readers = scene.agent("publisher"), [scene.agent("reader", str(n)) for n in range(3)]
    for reader in readers:
        reader.subscribe(scene.topic("news"))
    before = scrape(scene.gateway)
    for number in range(200):
        publisher.publish(scene.topic("news"), b"x" * number)
    for number in range(50):
        publisher.publish(scene.topic("unheard"), b"x")
    publisher.round_trip()
    for reader in readers:
        for _ in range(200):
            reader.expect_next("notify")
    ids = [publisher.request(b"?", agent=readers[0].name) for _ in range(40)]
    for _ in ids:
        readers[0].respond(readers[0].expect_next("forward"), b"!")
    for _ in ids:
        publisher.expect("deliver")
    publisher.expect_error(publisher.request(b"?", agent=scene.name("nobody")), pb.CODE_NO_RESPONDER)
    after = scrape(scene.gateway)

    def grown(name, **labels):
        return after.grown(before, name, **labels)

    # The round trip is a publish with an Ack.
    assert grown(RECEIVED, kind="publish") == 251
    assert grown(RECEIVED, kind="request") == 41
    assert grown(RECEIVED, kind="response") == 40
    assert grown(RECEIVED) == 251 + 41 + 40
    assert grown("ringgate_published_total", dialect="agp.v1") == 251
    assert grown(QUEUED, kind="notify") == 600
    assert grown(QUEUED, kind="forward") == 40
    assert grown(QUEUED, kind="deliver") == 40
    assert grown(QUEUED, kind="error") == grown("ringgate_errors_total") == 1
    assert grown(QUEUED, kind="ack") == 1
    assert grown(QUEUED) == 600 + 40 + 40 + 1 + 1
    assert grown("ringgate_dropped_total") == 0


def load(gateway, work, *arguments):
    """What the load generator says of its own of a run that it measures from the first message on."""
    command = [PERF, work, "--connect", gateway.address, "--warmup", "0", "--duration", "30", "--json"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert result["lost"] == result["misordered"] == 0
    return result


def test_metrics_agree_with_the_load_generator_to_the_message(gateway):
    before = scrape(gateway)
    told = load(gateway, "fanout", "--subscribers", "5", "--window", "64", "--messages-max", "30000")
    after = scrape(gateway)
    assert told["sent"] >= 30_000
    assert after.grown(before, "ringgate_published_total", dialect="agp.v1") == told["sent"]
    assert after.grown(before, RECEIVED, kind="publish") == told["sent"]
    assert after.grown(before, QUEUED, kind="notify") == 5 * told["sent"]
    assert after.grown(before, "ringgate_dropped_total") == 0
    told = load(gateway, "request", "--responders", "3", "--window", "16", "--messages-max", "10000")
    last = scrape(gateway)
    assert told["sent"] >= 10_000
    for kind in ("request", "response"):
        assert last.grown(after, RECEIVED, kind=kind) == told["sent"], kind
    for kind in ("forward", "deliver"):
        assert last.grown(after, QUEUED, kind=kind) == told["sent"], kind


def test_drops_are_counted_by_reason_and_agree_with_the_gap(scene):
    publisher, reader = scene.agent("publisher"), scene.stalled("reader")
    reader.subscribe(scene.topic("flood"), policy=pb.DELIVERY_POLICY_DROP_NEWEST, queue_bytes=65536)
    before = scrape(scene.gateway)
    reader.stop_reading()
    for _ in range(400):
        publisher.publish(scene.topic("flood"), b"x" * 8192)
    publisher.round_trip()
    after = scrape(scene.gateway)
    dropped = after.grown(before, "ringgate_dropped_total", reason="drop_newest")
    assert dropped > 0
    assert after.grown(before, "ringgate_dropped_total") == dropped
    assert after.grown(before, QUEUED, kind="notify") == 400 - dropped
    slow = get_json(scene.gateway, "/connz?limit=1")["connections"]
    assert slow[0]["name"] == reader.name and slow[0]["dropped"] == dropped
    wait.until(lambda: scrape(scene.gateway).grown(before, "ringgate_credit_stalls_total") > 0, "the window is used up")
    reader.read_on()
    received = told = 0
    while received + told < 400:
        message = reader.next()
        received += message.WhichOneof("body") == "notify"
        told += message.gap.dropped if message.WhichOneof("body") == "gap" else 0
    assert (received, told) == (400 - dropped, dropped)


def test_every_hop_is_timed(start_scene):
    scene = start_scene(settings=EVERY)
    alice, bob = scene.agent("alice"), scene.agent("bob")
    bob.subscribe(scene.topic("t"))
    alice.publish(scene.topic("t"), b"x")
    bob.expect_next("notify")
    alice.request(b"?", agent=bob.name)
    bob.respond(bob.expect_next("forward"), b"!")
    alice.expect_next("deliver")
    metrics = scrape(scene.gateway)
    for kind in ("publish", "request", "response"):
        for hop in ("receive_route", "route_queue", "queue_wire"):
            labels = {"hop": hop, "kind": kind, "dialect": "agp.v1"}
            assert metrics.total("ringgate_hop_seconds_count", **labels) == 1, labels
            assert metrics.total("ringgate_hop_seconds_bucket", le="+Inf", **labels) == 1, labels
    hops = {(hop["hop"], hop["kind"]): hop for hop in get_json(scene.gateway, "/corez")["hops"]}
    assert 0 < hops["queue_wire", "publish"]["p99_nanos"] < 1e9


@pytest.mark.two_cores
def test_the_way_between_cores_is_timed_and_told(start_scene):
    scene = start_scene(cores="0,1", settings=EVERY)
    alice = scene.agent("alice")
    for number in range(64):
        bob = scene.agent("bob", str(number))
        if core_of(scene.gateway, bob) != core_of(scene.gateway, alice):
            break
    else:
        raise AssertionError("all 64 connections came to one core")
    alice.request(b"?", agent=bob.name, headers=in_conversation("far"))
    bob.respond(bob.expect_next("forward"), b"!")
    alice.expect_next("deliver")
    seen = wait.until(lambda: get_json(scene.gateway, "/conversation?id=far"), "the conversation")
    stages = [(event["kind"], event["stage"], event["core"]) for event in seen["events"]]
    near, far = core_of(scene.gateway, alice), core_of(scene.gateway, bob)
    assert ("request", "received", near) in stages and ("request", "crossed", far) in stages
    assert ("request", "written", far) in stages and ("response", "crossed", near) in stages
    assert scrape(scene.gateway).total("ringgate_hop_seconds_count", hop="cross_core", kind="request") == 1


def test_time_of_a_core_adds_up(one_core):
    before, after = scrape(one_core), None
    wait.until(lambda: scrape(one_core).grown(before, "ringgate_core_seconds_total") > 0.2, "time passes")
    after = scrape(one_core)
    assert after.total("ringgate_core_seconds_total", state="park") > 0, "an idle core sleeps"


def test_both_formats_and_every_count_is_declared(scene):
    connection = http.client.HTTPConnection("127.0.0.1", scene.gateway.http_port, timeout=5)
    connection.request("GET", "/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0"})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    assert response.headers["content-type"].startswith("application/openmetrics-text") and text.endswith("# EOF\n")
    types = {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE")}
    for name, labels, value in Metrics(text).samples:
        family = next((of for of in (name, name.removesuffix("_total"), name.rsplit("_", 1)[0]) if of in types), None)
        assert family, name
        assert (types[family] == "counter") == name.endswith("_total"), name
        assert value >= 0
        assert set(labels) <= {"core", "kind", "dialect", "reason", "state", "result", "side", "hop", "le"}, labels
    undeclared = json.loads(scene.gateway.get("/stats")[1])["undeclared"]
    assert undeclared == [], f"declare these in dataplane/src/observe/catalogue.rs: {undeclared}"


def test_observation_can_be_switched_off(start_scene):
    scene = start_scene(settings={**EVERY, "observe.enabled": "false"})
    alice = scene.agent("alice")
    alice.publish(scene.topic("t"), b"x", **in_conversation("c"))
    alice.round_trip()
    metrics = scrape(scene.gateway)
    assert metrics.total(RECEIVED, kind="publish") == 2, "counting goes on"
    assert metrics.total("ringgate_hop_seconds_count") == 0
    assert get_json(scene.gateway, "/conversations")["conversations"] == []


# --- pages --------------------------------------------------------------------------------------------------------------


def test_pages_are_bounded_and_in_order(scene):
    agents = [scene.agent("bot", str(n), capabilities=["dance"]) for n in range(5)]
    for agent in agents:
        agent.subscribe(scene.topic("a/*"), group="g" if agent is agents[0] else "")
    for number in range(3):
        for _ in range(number + 1):
            agents[0].publish(scene.topic(f"a/{number}"), b"x")
    agents[0].round_trip()
    get = lambda path: get_json(scene.gateway, path)  # noqa: E731
    names = [agent.name for agent in agents]
    first = get(f"/agentz?limit=3&after={scene.service('bot')}")
    assert [agent["name"] for agent in first["agents"]] == names[:3] and first["next"] == names[2]
    assert first["agents"][0]["capabilities"] == ["dance"]
    rest = get(f"/agentz?limit=3&after={first['next']}")["agents"]
    assert [agent["name"] for agent in rest][:2] == names[3:]
    assert len(get("/connz?limit=2")["connections"]) == 2
    assert len(get("/connz?limit=100&offset=4")["connections"]) == 1
    patterns = {(one["agent"], one["pattern"], one["group"], one["policy"]) for one in get("/subz")["subscriptions"]}
    assert (names[0], scene.topic("a/*"), "g", "drop_oldest") in patterns
    topics = {one["topic"]: one for one in get("/topicz")["topics"]}
    assert [topics[scene.topic(f"a/{number}")]["published"] for number in range(3)] == [1, 2, 3]
    assert topics[scene.topic("a/0")]["subscribers"] == 5, "four, and a group"


def test_nobody_else_may_have_this_machine_ask(one_core):
    connection = http.client.HTTPConnection("127.0.0.1", one_core.http_port, timeout=5)
    connection.request("GET", "/corez", headers={"host": "evil.example"})
    response = connection.getresponse()
    response.read()
    connection.close()
    assert response.status == 421


# --- taps and conversations -----------------------------------------------------------------------------------------------


def test_a_tap_of_one_conversation_shows_each_hop(scene):
    alice, bob = scene.agent("alice"), scene.agent("bob")
    bob.subscribe(scene.topic("t"))
    with lines(scene.gateway, "/tap?conversation=c-1") as tap:
        assert tap.next()["stage"] == "open"
        alice.publish(scene.topic("t"), b"not wanted", **in_conversation("c-2"))
        alice.publish(scene.topic("t"), b"wanted", **in_conversation("c-1"))
        events = tap.until(lambda event: event["stage"] == "written")
    assert len({event["message"] for event in events}) == 1
    stages = [event["stage"] for event in events]
    assert [stage for stage in stages if stage != "crossed"] == ["received", "queued", "written"]
    received, written = events[0], events[-1]
    assert (received["source"], received["about"], received["kind"]) == (alice.name, scene.topic("t"), "publish")
    assert received["bytes"] > len(b"wanted") and received["conversation"] == "c-1"
    assert written["receiver"] == bob.name
    times = [event["time_unix_nanos"] for event in events]
    assert times == sorted(times)
    assert "wanted" not in json.dumps(events).replace("not wanted", ""), "payload is never told"


def test_taps_filter_by_agent_and_topic_and_tell_drops(scene):
    alice, bob = scene.agent("alice"), scene.stalled("bob")
    bob.subscribe(scene.topic("t"), policy=pb.DELIVERY_POLICY_DROP_OLDEST, queue_bytes=65536)
    bob.stop_reading()
    with lines(scene.gateway, f"/tap?agent={bob.name}&topic={scene.topic('t')}") as tap:
        tap.next()
        for _ in range(200):
            alice.publish(scene.topic("other"), b"x")
            alice.publish(scene.topic("t"), b"x" * 8192)
        events = tap.until(lambda event: event["stage"] == "dropped")
    assert {event["receiver"] for event in events} == {bob.name}, "what alice sends to others is not told"
    assert events[-1]["reason"] == "drop_oldest" and events[-1]["messages"] >= 1
    bob.read_on()


def test_taps_are_bounded(one_core):
    taps = [Lines(one_core, "/tap") for _ in range(8)]
    assert one_core.get("/tap")[0] == 429
    for tap in taps:
        tap.close()
    wait.until(lambda: get_json(one_core, "/corez")["taps"] == [], "taps end with their clients")


def test_what_is_not_followed_is_told(start_scene):
    scene = start_scene(settings={"observe.followed_per_second_max": 10})
    alice = scene.agent("alice")
    with lines(scene.gateway, "/tap") as tap:
        tap.next()
        for _ in range(200):
            alice.publish(scene.topic("t"), b"x")
        alice.round_trip()
        left_out = 0
        while left_out < 100:
            line = tap.next()
            left_out += line["messages"] if line["stage"] == "left_out" else 0
    assert scrape(scene.gateway).total("ringgate_flow_messages_skipped_total") >= left_out


def test_a_conversation_over_all_patterns(scene):
    id = f"c-{scene.namespace}"
    alice, bob, carol = scene.agent("alice"), scene.agent("bob"), scene.agent("carol")
    carol.subscribe(scene.topic("report"))
    alice.request(b"?", agent=bob.name, headers=in_conversation(id))
    bob.respond(bob.expect_next("forward"), b"!")  # says nothing of the conversation, and belongs to it
    alice.expect_next("deliver")
    target = pb.Target(agent=carol.name)
    alice.send(introduce=pb.Introduce(id=900, target=target, headers=in_conversation(id)))
    carol.send(accept=pb.Accept(introduction=carol.expect_next("introduce").introduction))
    alice.expect_next("connected")
    carol.expect_next("connected")
    opened = pb.StreamOpen(stream=901, target=pb.Target(agent=bob.name), credit_bytes=1000, headers=in_conversation(id))
    alice.send(stream_open=opened)
    stream = bob.expect_next("stream_open").stream
    bob.send(stream_credit=pb.StreamCredit(stream=stream, bytes=1000))
    alice.expect_next("stream_credit")
    alice.send(chunk=pb.Chunk(stream=901, sequence=1, payload=b"piece"))
    bob.expect_next("chunk")
    alice.send(stream_close=pb.StreamClose(stream=901))
    bob.expect_next("stream_close")
    bob.publish(scene.topic("report"), b"done", **in_conversation(id))
    carol.expect_next("notify")
    lost = alice.request(b"?", agent=bob.name, timeout_ms=50, headers=in_conversation(id))
    alice.expect_error(lost, pb.CODE_DEADLINE_EXCEEDED)

    seen = {}

    def complete():
        seen.update(get_json(scene.gateway, f"/conversation?id={id}"))
        return seen["troubles"] == 1

    wait.until(complete, lambda: seen)
    wanted = {"request": 2, "response": 1, "introduce": 1, "accept": 1, "stream_open": 1, "stream_credit": 1, "chunk": 1}
    assert seen["messages"] == {**wanted, "stream_close": 1, "publish": 1}
    assert set(seen["agents"]) == {alice.name, bob.name, carol.name}
    request, response = (
        next(event for event in seen["events"] if event["kind"] == kind) for kind in ("request", "response")
    )
    assert response["follows"] == request["message"] and response["about"] == alice.name
    refused = next(event for event in seen["events"] if event["stage"] == "refused")
    assert (refused["kind"], refused["code"], refused["receiver"]) == ("request", "DeadlineExceeded", alice.name)
    listed = get_json(scene.gateway, "/conversations?limit=1000")["conversations"]
    assert any(one["conversation"] == id for one in listed)


def test_a_trace_is_a_conversation_too(scene):
    alice = scene.agent("alice")
    alice.publish(scene.topic("t"), b"x", traceparent=TRACEPARENT)
    alice.publish(scene.topic("t"), b"x", traceparent="rubbish")
    alice.round_trip()
    seen = wait.until(lambda: get_json(scene.gateway, f"/conversation?id={TRACE}"), "the trace")
    assert {event["traceparent"] for event in seen["events"]} == {TRACEPARENT}
    assert scene.gateway.get("/conversation?id=nothing-of-the-kind")[0] == 404


# --- the command line -----------------------------------------------------------------------------------------------------


def ringgate(gateway, *arguments):
    """What a command prints."""
    command = [CLI, *arguments, "--http", f"127.0.0.1:{gateway.http_port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_commands_show_what_flows(scene):
    id = f"cli-{scene.namespace}"
    alice, bob = scene.agent("alice"), scene.agent("bob")
    bob.subscribe(scene.topic("t"))
    alice.request(b"?", agent=bob.name, headers=in_conversation(id))
    bob.respond(bob.expect_next("forward"), b"!")
    alice.expect_next("deliver")
    alice.publish(scene.topic("t"), b"x", **in_conversation(id))
    bob.expect_next("notify")
    timeline = ringgate(scene.gateway, "conversation", id)
    assert f"{alice.name} → {bob.name}" in timeline and "goes on with" in timeline, timeline
    assert id in ringgate(scene.gateway, "conversations", "--limit", "100")
    assert scene.topic("t") in ringgate(scene.gateway, "topics", "--limit", "1000")
    top = ringgate(scene.gateway, "top", "--times", "1", "--every", "0.2")
    assert "CORE" in top and "SLOWEST READERS" in top and scene.topic("t")[-8:] in top, top
    tap = [CLI, "tap", "--http", f"127.0.0.1:{scene.gateway.http_port}", "--topic", scene.topic("t"), "--events", "2"]
    process = subprocess.Popen(tap, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    assert "tap open" in process.stdout.readline()
    alice.publish(scene.topic("t"), b"x")
    said, _ = process.communicate(timeout=30)
    assert f"{alice.name} → {scene.topic('t')}" in said and process.returncode == 0, said


# --- OpenTelemetry --------------------------------------------------------------------------------------------------------


def test_metrics_and_traces_reach_a_collector(start_scene):
    collector = Collector()
    settings = {"observe.otlp_endpoint": collector.endpoint, "observe.otlp_interval_ms": 200}
    scene = start_scene(settings={**EVERY, **settings})
    alice, bob = scene.agent("alice"), scene.agent("bob")
    alice.request(b"?", agent=bob.name, headers={"traceparent": TRACEPARENT})
    bob.respond(bob.expect_next("forward"), b"!")
    alice.expect_next("deliver")
    spans = wait.until(lambda: len(collector.spans()) >= 2 and collector.spans(), "two spans")
    request, response = sorted(spans, key=lambda span: int(span["startTimeUnixNano"]))
    assert request["traceId"] == response["traceId"] == TRACE and request["parentSpanId"] == "00f067aa0ba902b7"
    assert request["spanId"] != response["spanId"] and len(request["spanId"]) == 16
    assert request["name"] == f"request {bob.name}"
    assert [event["name"] for event in request["events"]] == ["received", "queued", "written"]
    assert int(request["startTimeUnixNano"]) <= int(request["endTimeUnixNano"]) <= int(response["endTimeUnixNano"])
    received = collector.metric("ringgate_messages_received")
    assert received["sum"]["isMonotonic"] and received["sum"]["aggregationTemporality"] == 2
    kinds = {}
    for point in received["sum"]["dataPoints"]:
        labels = {pair["key"]: pair["value"]["stringValue"] for pair in point["attributes"]}
        kinds[labels["kind"]] = int(point["asInt"])
    assert (kinds["request"], kinds["response"]) == (1, 1)
    hops = collector.metric("ringgate_hop_seconds")["histogram"]["dataPoints"]
    for point in hops:
        assert sum(map(int, point["bucketCounts"])) == int(point["count"])
        assert len(point["bucketCounts"]) == len(point["explicitBounds"]) + 1
    collector.close()


def test_a_collector_that_is_not_there_harms_nobody(start_scene):
    settings = {"observe.otlp_endpoint": "http://127.0.0.1:1", "observe.otlp_interval_ms": 50}
    scene = start_scene(settings=settings)
    wait.until(lambda: "nothing was exported" in scene.gateway.output(), "it is said once")
    scene.agent("alice").round_trip()
    assert scene.gateway.output().count("nothing was exported") == 1
