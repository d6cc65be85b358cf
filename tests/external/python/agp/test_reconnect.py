"""The gateway goes away and comes back on the same port: agents go on without doing anything."""

import asyncio

import agp_bindings as agp
import pytest
from agents import Stage, run

from harness.gateway import core_lists, free_port


@pytest.mark.parametrize("cores", core_lists(), ids=lambda cores: f"{len(cores.split(','))}core")
@pytest.mark.parametrize("how", ["orderly", "killed"])
def test_agents_come_back_with_their_subscriptions(start_gateway, cores, how):
    settings = {"listen": f"127.0.0.1:{free_port()}"}

    def start():
        gateway = start_gateway(cores=cores, settings=settings)
        gateway.port = int(settings["listen"].rsplit(":", 1)[1])
        return gateway

    def restart():
        if how == "orderly":
            stage.gateway.terminate()
            assert stage.gateway.wait_for_exit() == 0
        else:
            stage.gateway.kill()
        return start()

    async def steps():
        async with stage.agents("alice", "bob") as (alice, bob):
            topic = stage.name("feed")
            await bob.subscribe(topic)
            await stage.subscribed(3)
            asking = await alice.request_reply()
            feeding = await alice.streaming(agp.PySessionDirection.SENDER)
            stage.gateway = await asyncio.to_thread(restart)
            await stage.subscribed(3)

            async def serve():
                theirs = await bob.met()
                theirs, question = await bob.hear(theirs)
                await bob.reply(theirs, b"answer to " + question)

            serving = asyncio.create_task(serve())
            assert await alice.ask(asking, b"question", bob.address) == b"answer to question"
            await serving
            await alice.say(feeding, b"news", topic)
            theirs = await bob.met()
            assert (await bob.hear(theirs))[1] == b"news"

    stage = Stage(start())
    run(steps())
