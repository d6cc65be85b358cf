"""The gateway goes away and comes back on the same port: sessions go on without anybody doing anything."""

import asyncio

import pytest
from apps import run

from harness.gateway import core_lists, free_port


class Place:
    """A port on which gateways come and go."""

    def __init__(self, start_gateway, cores):
        self._start = start_gateway
        self._cores = cores
        self.port = free_port()

    def start(self):
        """A gateway in this place."""
        gateway = self._start(cores=self._cores, settings={"listen": f"127.0.0.1:{self.port}"})
        gateway.port = self.port
        return gateway

    def restart(self, gateway, how):
        """Another gateway in the place of `gateway`, which is ended."""
        if how == "orderly":
            gateway.terminate()
            assert gateway.wait_for_exit() == 0
        else:
            gateway.kill()
        return self.start()


@pytest.fixture(params=core_lists(), ids=lambda cores: f"{len(cores.split(','))}core")
def place(request, start_gateway):
    """A place for gateways."""
    return Place(start_gateway, request.param)


async def back(stage, subscriptions):
    """Waits until all applications have come back, by themselves. (What they say before, their bindings drop.)"""
    await asyncio.to_thread(stage.gateway.wait_for_stats, slim_subscriptions=subscriptions)


@pytest.mark.parametrize("how", ["orderly", "killed"])
def test_sessions_go_on_after_a_restart(place, make_stage, how):
    async def steps():
        alice, bob = stage.app("alice"), stage.app("bob")
        call = await alice.call(bob.name, mls=True)
        answer = await bob.answer()
        moderator = stage.app("moderator")
        group = await moderator.group(stage.name("channel"), mls=True)
        members = [await group.invite(stage.app(name)) for name in ("ann", "ben")]
        await call.say(b"before")
        await answer.expect(b"before")
        subscriptions = stage.gateway.stats()["slim_subscriptions"]
        stage.gateway = await asyncio.to_thread(place.restart, stage.gateway, how)
        await back(stage, subscriptions)
        for number in range(5):
            await call.say(b"after %d" % number)
            await answer.expect(b"after %d" % number)
            await answer.say(b"back %d" % number)
            await call.expect(b"back %d" % number)
            await group.say(b"group %d" % number)
            for member in members:
                await member.expect(b"group %d" % number)

    stage = make_stage(place.start())
    run(steps())


def test_new_sessions_are_opened_after_a_restart(place, make_stage):
    async def steps():
        alice, bob = stage.app("alice"), stage.app("bob")
        stage.gateway = await asyncio.to_thread(place.restart, stage.gateway, "orderly")
        await back(stage, 2)
        call = await alice.call(bob.name)
        answer = await bob.answer()
        await call.say(b"hello")
        await answer.expect(b"hello")

    stage = make_stage(place.start())
    run(steps())
