"""Groups: a moderator with invited members, encrypted with MLS, kept alive by heartbeats."""

import asyncio

import pytest
import slim_bindings as slim
from apps import run

from harness import wait
from harness.gateway import core_lists

MEMBERS = ["ann", "ben", "cleo", "dan"]
HEARTBEATS = 3  # of each member, one in ten seconds: that many missed ones make it offline
HEARTBEATS_DEADLINE_S = 60


async def assemble(stage, members, **options):
    """(moderator's application, its session, sessions of the members by name) of a group."""
    moderator = stage.app("moderator")
    session = await moderator.group(stage.name("channel"), **options)
    joined = {name: await session.invite(stage.app(name)) for name in members}
    return moderator, session, joined


async def all_hear(sessions, payload):
    """Each of `sessions` gets `payload` next."""
    await asyncio.gather(*(session.expect(payload) for session in sessions))


@pytest.mark.parametrize("mls", [True, False], ids=["mls", "plain"])
def test_five_talk_and_everybody_hears_everybody(stage, mls):
    async def steps():
        _, session, members = await assemble(stage, MEMBERS, mls=mls)
        everybody = {"moderator": session, **members}
        assert set(await session.participants()) == set(everybody)
        for speaker, voice in everybody.items():
            for number in range(5):
                payload = f"{speaker} says {number}".encode()
                await voice.say(payload)
                await all_hear([other for name, other in everybody.items() if name != speaker], payload)

    run(steps())


def test_one_is_spoken_to_alone(stage):
    async def steps():
        _, session, members = await assemble(stage, MEMBERS, mls=True)
        await session.say(b"who answers?")
        question = await members["ann"].hear()
        await members["ann"].reply(question, b"only to the moderator")
        await session.expect(b"only to the moderator")
        # What the others hear next is what was said next to all.
        await session.say(b"to all")
        await all_hear([members[name] for name in ("ben", "cleo", "dan")], b"who answers?")
        await all_hear(members.values(), b"to all")

    run(steps())


def test_who_is_removed_or_leaves_hears_no_more_and_the_rest_goes_on(stage):
    async def steps():
        moderator, session, members = await assemble(stage, [], mls=True)
        apps = {name: stage.app(name) for name in MEMBERS}
        for name, app in apps.items():
            members[name] = await session.invite(app)
        await session.say(b"all here")
        await all_hear(members.values(), b"all here")

        await session.session.remove_and_wait_async(apps["ann"].name)
        await session.say(b"without ann")
        await all_hear([members[name] for name in ("ben", "cleo", "dan")], b"without ann")
        with pytest.raises(slim.SlimError):
            await members["ann"].hear()

        await apps["ben"].hang_up(members["ben"])
        with pytest.raises(slim.SlimError, match="participant disconnected.*/ben/"):
            await session.hear()
        assert set(await session.participants()) == {"moderator", "cleo", "dan"}
        await members["cleo"].say(b"without ben")
        await all_hear([session, members["dan"]], b"without ben")

        await moderator.hang_up(session)
        for name in ("cleo", "dan"):
            with pytest.raises(slim.SlimError):
                await members[name].hear()

    run(steps())


def test_heartbeats_keep_a_quiet_group_together(start_stage):
    # They take their time, so one core and two take it together.
    async def steps(stage):
        _, session, members = await assemble(stage, MEMBERS, mls=True)
        everybody = [session, *members.values()]
        delivered = stage.gateway.stats()["slim_delivered"]
        beats = HEARTBEATS * len(everybody) * (len(everybody) - 1)
        await asyncio.to_thread(
            wait.until,
            lambda: stage.gateway.stats()["slim_delivered"] >= delivered + beats,
            f"{beats} deliveries of heartbeats",
            HEARTBEATS_DEADLINE_S,
        )
        for one in everybody:
            statuses = await one.participants()
            assert set(statuses.values()) == {slim.ParticipantStatus.ONLINE}, statuses
        await session.say(b"still together")
        await all_hear(members.values(), b"still together")

    async def all_steps():
        await asyncio.gather(*(steps(stage) for stage in stages))

    stages = [start_stage(cores=cores) for cores in core_lists()]
    run(all_steps())


def test_two_applications_on_one_connection_join_the_same_group(stage):
    async def steps():
        moderator = stage.app("moderator")
        session = await moderator.group(stage.name("channel"), mls=True)
        home = stage.connect()
        twins = [home.app(stage.name(name)) for name in ("castor", "pollux")]
        ends = [await session.invite(twin) for twin in twins]
        for number in range(5):
            await session.say(b"%d to both" % number)
            await all_hear(ends, b"%d to both" % number)
        await ends[0].say(b"to the twin and the moderator")
        await all_hear([session, ends[1]], b"to the twin and the moderator")
        # One of them leaves; its connection goes on to carry the other's messages.
        await twins[0].hang_up(ends[0])
        with pytest.raises(slim.SlimError, match="participant disconnected.*/castor/"):
            await session.hear()
        await session.say(b"to pollux")
        await ends[1].expect(b"to pollux")

    run(steps())


def test_two_applications_in_one_process_talk_to_each_other_and_to_others(stage):
    async def steps():
        home = stage.connect()
        one, two = home.app(stage.name("one")), home.app(stage.name("two"))
        far = stage.app("far")
        for target in (two, far):
            call = await one.call(target.name, mls=True)
            answer = await target.answer()
            await call.say(b"hello")
            await answer.expect(b"hello")
        for target in (one, two):
            call = await far.call(target.name, mls=True)
            answer = await target.answer()
            await call.say(b"hello back")
            await answer.expect(b"hello back")

    run(steps())


def test_processes_with_the_same_configuration_are_not_taken_for_one(stage):
    """A node id that people write into a configuration is copied with it."""

    async def steps():
        same = slim.new_service_config_with("my-node", None, slim.new_dataplane_config())
        moderator, *others = (stage.connect(service=same).app(stage.name(name)) for name in ("moderator", "ann", "ben"))
        session = await moderator.group(stage.name("channel"), mls=True)
        members = [await session.invite(app) for app in others]
        await session.say(b"to all")
        await all_hear(members, b"to all")
        await members[0].say(b"to the others")
        await all_hear([session, members[1]], b"to the others")

    run(steps())
