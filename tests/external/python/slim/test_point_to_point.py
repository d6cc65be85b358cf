"""Sessions of two applications: reliable and not, encrypted with MLS and not."""

import asyncio
import datetime

import pytest
import slim_bindings as slim
from apps import run

MESSAGES = 30
both_ways = pytest.mark.parametrize("reliable", [True, False], ids=["reliable", "unreliable"])
with_and_without_mls = pytest.mark.parametrize("mls", [True, False], ids=["mls", "plain"])


@both_ways
@with_and_without_mls
def test_messages_arrive_whole_and_in_order_in_both_directions(stage, reliable, mls):
    async def steps():
        alice, bob = stage.app("alice"), stage.app("bob")
        call = await alice.call(bob.name, reliable=reliable, mls=mls, metadata={"topic": "weather"})
        answer = await bob.answer()
        assert answer.session.metadata()["topic"] == "weather"
        for number in range(MESSAGES):
            await call.say(b"ping %d" % number, {"number": str(number)})
            await answer.say(b"pong %d" % number)
        for number in range(MESSAGES):
            message = await answer.expect(b"ping %d" % number)
            assert message.context.metadata["number"] == str(number)
            assert message.context.payload_type == "test"
            await call.expect(b"pong %d" % number)
        await alice.hang_up(call)

    run(steps())


@with_and_without_mls
def test_a_request_is_answered_over_the_session_it_came_on(stage, mls):
    async def steps():
        asker, answerer = stage.app("asker"), stage.app("answerer")
        call = await asker.call(answerer.name, mls=mls)
        answer = await answerer.answer()

        async def serve():
            for _ in range(MESSAGES):
                question = await answer.hear()
                await answer.reply(question, b"answer to " + question.payload)

        serving = asyncio.create_task(serve())
        for number in range(MESSAGES):
            await call.say(b"question %d" % number)
            await call.expect(b"answer to question %d" % number)
        await serving

    run(steps())


@pytest.mark.parametrize("kib", [15, 17, 1000, 3900])
def test_large_messages_arrive_whole(stage, kib):
    async def steps():
        alice, bob = stage.app("alice"), stage.app("bob")
        call = await alice.call(bob.name)
        answer = await bob.answer()
        payload = bytes(index % 251 for index in range(1024)) * kib
        await call.say(payload)
        assert (await answer.hear()).payload == payload

    run(steps())


def test_what_arrives_is_acknowledged_at_once(stage):
    """The bindings run with Nagle's algorithm on: they wait for the acknowledgement before they send more."""

    async def steps():
        before = stage.gateway.stats()["quickacks"]
        alice, bob = stage.app("alice"), stage.app("bob")
        call = await alice.call(bob.name)
        await call.say(b"hello")
        await (await bob.answer()).expect(b"hello")
        stats = stage.gateway.stats()
        if stats["quickacks_missing"]:
            pytest.skip("this kernel sets no options of sockets through a ring: Linux 6.7 does")
        assert stats["quickacks"] > before

    run(steps())


def test_many_sessions_at_once_do_not_mix(stage):
    async def steps():
        alice, bob = stage.app("alice"), stage.app("bob")
        calls = {}
        for _ in range(8):
            call = await alice.call(bob.name)
            calls[call.session.session_id()] = (call, await bob.answer())
        for number in range(5):
            for id, (call, _) in calls.items():
                await call.say(b"%d of %d" % (number, id))
        for number in range(5):
            for call, answer in calls.values():
                assert answer.session.session_id() in calls
                await answer.expect(b"%d of %d" % (number, answer.session.session_id()))

    run(steps())


def test_sessions_are_shared_out_over_the_instances_of_a_name(stage):
    async def steps():
        asker = stage.app("asker")
        workers = [stage.app("worker") for _ in range(2)]
        assert workers[0].app.id() != workers[1].app.id()
        reached = set()
        for _ in range(4):
            call = await asker.call(workers[0].name)
            answers = {asyncio.create_task(worker.answer()): worker for worker in workers}
            done, pending = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            reached.update(answers[task].app.id() for task in done)
            for task in pending:
                task.cancel()
            await call.say(b"to one of them")
        assert len(reached) == 2

    run(steps())


def test_a_session_with_nobody_fails_and_the_connection_goes_on(stage):
    async def steps():
        alice, bob = stage.app("alice"), stage.app("bob")
        config = slim.SessionConfig(
            session_type=slim.SessionType.POINT_TO_POINT,
            max_retries=1,
            interval=datetime.timedelta(milliseconds=200),
            metadata={},
            mls_settings=None,
        )
        with pytest.raises(slim.SlimError):
            await alice.app.create_session_and_wait_async(config, stage.name("nobody"))
        call = await alice.call(bob.name)
        answer = await bob.answer()
        await call.say(b"still here")
        await answer.expect(b"still here")

    run(steps())
