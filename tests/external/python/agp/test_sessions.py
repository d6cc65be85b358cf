"""Every kind of session that the bindings have."""

import asyncio
import contextlib

import agp_bindings as agp
import pytest
from agents import IS_FIRST, run

MESSAGES = 30
since_0_3 = pytest.mark.skipif(IS_FIRST, reason="agp-bindings 0.2.4 has no such session")


def test_fire_and_forget_arrives_and_is_answered(stage):
    async def steps():
        async with stage.agents("alice", "bob") as (alice, bob):
            await stage.subscribed(2)
            session = await alice.fire_and_forget()
            await alice.say(session, b"0", bob.address)
            theirs = await bob.met()
            for number in range(MESSAGES):
                theirs, payload = await bob.hear(theirs)
                assert payload == b"%d" % number
                await bob.reply(theirs, b"re %d" % number)
                assert (await alice.hear(session))[1] == b"re %d" % number
                await alice.say(session, b"%d" % (number + 1), bob.address)

    run(steps())


def test_a_message_to_an_instance_reaches_that_one_only(stage):
    async def steps():
        async with stage.agent("alice") as alice, stage.agent("bob", 7) as seven, stage.agent("bob", 8) as eight:
            await stage.subscribed(3)
            session = await alice.fire_and_forget()
            for instance, bob in ((7, seven), (8, eight)):
                await alice.say(session, b"to %d" % instance, bob.address, instance)
                theirs = await bob.met()
                assert (await bob.hear(theirs))[1] == b"to %d" % instance

    run(steps())


def test_messages_to_a_type_reach_one_instance_each_and_all_of_them_in_time(stage):
    async def steps():
        async with stage.agent("alice") as alice, stage.agent("bob", 7) as seven, stage.agent("bob", 8) as eight:
            await stage.subscribed(3)
            session = await alice.fire_and_forget()
            for number in range(MESSAGES):
                await alice.say(session, b"%d" % number, seven.address)
            heard = []

            async def listen(bob):
                theirs = await bob.met()
                while True:
                    heard.append((bob.id, (await bob.hear(theirs))[1]))

            listening = [asyncio.create_task(listen(bob)) for bob in (seven, eight)]
            while len(heard) < MESSAGES:
                await asyncio.sleep(0)
            for task in listening:
                task.cancel()
            assert sorted(int(payload) for _, payload in heard) == list(range(MESSAGES))
            assert {id for id, _ in heard} == {7, 8}

    run(steps())


@since_0_3
@pytest.mark.parametrize("sticky", [False, True], ids=["reliable", "sticky"])
def test_reliable_messages_are_acknowledged_and_arrive_once(stage, sticky):
    async def steps():
        async with stage.agents("alice", "bob") as (alice, bob):
            await stage.subscribed(2)
            session = await alice.reliable(sticky)
            for number in range(MESSAGES):
                await alice.say(session, b"%d" % number, bob.address)
            theirs = await bob.met()
            heard = [int((await bob.hear(theirs))[1]) for _ in range(MESSAGES)]
            assert sorted(heard) == list(range(MESSAGES))
            await bob.reply(theirs, b"thanks")
            assert (await alice.hear(session))[1] == b"thanks"

    run(steps())


@since_0_3
def test_sticky_messages_all_reach_the_instance_that_was_found(stage):
    async def steps():
        async with stage.agent("alice") as alice, stage.agent("bob", 7) as seven, stage.agent("bob", 8) as eight:
            await stage.subscribed(3)
            session = await alice.reliable(sticky=True)
            for number in range(MESSAGES):
                await alice.say(session, b"%d" % number, seven.address)
            meetings = {asyncio.create_task(bob.met()): bob for bob in (seven, eight)}
            done, pending = await asyncio.wait(meetings, return_when=asyncio.FIRST_COMPLETED)
            (met,) = done
            bob, theirs = meetings[met], met.result()
            heard = [int((await bob.hear(theirs))[1]) for _ in range(MESSAGES)]
            assert sorted(heard) == list(range(MESSAGES))
            for task in pending:
                task.cancel()

    run(steps())


def test_a_request_is_answered(stage):
    async def steps():
        async with stage.agents("asker", "answerer") as (asker, answerer):
            await stage.subscribed(2)

            async def serve():
                theirs = await answerer.met()
                for _ in range(MESSAGES):
                    theirs, question = await answerer.hear(theirs)
                    await answerer.reply(theirs, b"answer to " + question)

            serving = asyncio.create_task(serve())
            session = await asker.request_reply()
            for number in range(MESSAGES):
                answer = await asker.ask(session, b"question %d" % number, answerer.address)
                assert answer == b"answer to question %d" % number
            await serving

    run(steps())


def test_a_stream_reaches_every_receiver_whole_and_in_order(stage):
    async def steps():
        async with stage.agents("producer", "ann", "ben", "cleo") as (producer, *receivers):
            topic = stage.name("feed")
            for receiver in receivers:
                await receiver.subscribe(topic)
            await stage.subscribed(4 + len(receivers))
            session = await producer.streaming(agp.PySessionDirection.SENDER)
            for number in range(MESSAGES):
                await producer.say(session, b"%d" % number, topic)

            async def listen(receiver):
                theirs = await receiver.met()
                return [(await receiver.hear(theirs))[1] for _ in range(MESSAGES)]

            for heard in await asyncio.gather(*(listen(receiver) for receiver in receivers)):
                assert heard == [b"%d" % number for number in range(MESSAGES)]

    run(steps())


def test_on_a_topic_everybody_hears_everybody(stage):
    async def steps():
        async with stage.agents("ann", "ben", "cleo") as agents:
            topic = stage.name("topic")
            sessions = {}
            for agent in agents:
                sessions[agent] = await agent.streaming(agp.PySessionDirection.BIDIRECTIONAL, topic)
                await agent.subscribe(topic)
            await stage.subscribed(2 * len(agents))
            for speaker in agents:
                for number in range(5):
                    payload = b"%d of %d" % (number, speaker.id)
                    await speaker.say(sessions[speaker], payload, topic)
                    for agent in agents:
                        if agent is not speaker:
                            assert (await agent.hear(sessions[agent]))[1] == payload

    run(steps())


def test_large_messages_arrive_whole(stage):
    async def steps():
        async with stage.agents("alice", "bob") as (alice, bob):
            await stage.subscribed(2)
            session = await alice.fire_and_forget()
            for kib in (15, 17, 1000, 3900):
                payload = bytes(index % 251 for index in range(1024)) * kib
                await alice.say(session, payload, bob.address)
                if kib == 15:
                    theirs = await bob.met()
                assert (await bob.hear(theirs))[1] == payload

    run(steps())


def test_who_leaves_is_forgotten(stage):
    async def steps():
        async with contextlib.AsyncExitStack() as stack:
            for kind in ("ann", "ben"):
                agent = await stack.enter_async_context(stage.agent(kind))
                await agent.subscribe(stage.name("feed"))
            await stage.subscribed(4)
        await stage.subscribed(0)

    run(steps())
