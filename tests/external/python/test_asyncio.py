"""Every pattern once more over grpcio's asyncio API."""

import asyncio
import itertools

import grpc
import pytest

from harness.agent import CHANNEL_OPTIONS
from harness.protocol import AgentGatewayStub, pb
from harness.scene import Scene


class AioAgent:
    """One `Open` stream; reads only when something is expected."""

    _ids = itertools.count(1)

    def __init__(self, channel, name):
        self.name = name
        self.call = AgentGatewayStub(channel).Open()

    async def register(self, **fields):
        """The first message and its answer."""
        await self.send(register=pb.Register(name=self.name, **fields))
        await self.expect("registered")
        return self

    async def send(self, **body):
        """One message."""
        await self.call.write(pb.AgentMessage(**body))

    async def expect(self, kind):
        """The next message, which must be of this kind."""
        message = await asyncio.wait_for(self.call.read(), 10)
        assert message is not grpc.aio.EOF, f"{self.name}: the stream ended before {kind}: {await self.call.code()}"
        assert message.WhichOneof("body") == kind, f"{self.name}: {kind} expected: {message}"
        return getattr(message, kind)

    async def subscribe(self, pattern, **fields):
        """Subscribes and awaits the Ack."""
        id = next(self._ids)
        await self.send(subscribe=pb.Subscribe(id=id, pattern=pattern, **fields))
        assert (await self.expect("ack")).id == id
        return id

    async def close(self):
        """An orderly end."""
        await self.call.done_writing()
        while await self.call.read() is not grpc.aio.EOF:
            pass
        assert await self.call.code() == grpc.StatusCode.OK


async def publish_subscribe(alice, bob, scene):
    """Two topics, headers, order, Ack."""
    await bob.subscribe(scene.topic("*/news"))
    for number in range(500):
        await alice.send(publish=pb.Publish(topic=scene.topic(f"{number % 2}/news"), payload=number.to_bytes(2, "big")))
    for number in range(500):
        notify = await bob.expect("notify")
        assert (int.from_bytes(notify.payload, "big"), notify.sequence) == (number, number + 1)
        assert notify.source == alice.name
    await alice.send(publish=pb.Publish(topic=scene.topic("x/news"), id=9))
    assert (await alice.expect("ack")).receivers == 1
    await bob.expect("notify")


async def request_response(alice, bob, scene):
    """By name and by capability; a deadline; nobody."""
    for target in (pb.Target(agent=bob.name), pb.Target(capability=f"math-{scene.namespace}")):
        await alice.send(request=pb.Request(id=1, target=target, payload=b"6*7"))
        forward = await bob.expect("forward")
        await bob.send(response=pb.Response(request=forward.request, payload=b"42"))
        assert (await alice.expect("deliver")).payload == b"42"
    await alice.send(request=pb.Request(id=2, target=pb.Target(agent=bob.name), timeout_ms=50))
    forward = await bob.expect("forward")
    assert (await alice.expect("error")).code == pb.CODE_DEADLINE_EXCEEDED
    assert (await bob.expect("cancel")).request == forward.request
    await alice.send(request=pb.Request(id=3, target=pb.Target(agent=scene.name("nobody"))))
    assert (await alice.expect("error")).code == pb.CODE_NO_RESPONDER


async def streams(alice, bob, scene):
    """Chunks both ways, then the close."""
    await alice.send(stream_open=pb.StreamOpen(stream=1, target=pb.Target(agent=bob.name), credit_bytes=1000))
    theirs = (await bob.expect("stream_open")).stream
    await bob.send(stream_credit=pb.StreamCredit(stream=theirs, bytes=1000))
    assert (await alice.expect("stream_credit")).bytes == 1000
    for number in range(10):
        await alice.send(chunk=pb.Chunk(stream=1, sequence=number, payload=b"a" * 100))
        await bob.send(chunk=pb.Chunk(stream=theirs, sequence=number, payload=b"b" * 100))
    for number in range(10):
        assert (await bob.expect("chunk")).sequence == (await alice.expect("chunk")).sequence == number
    await bob.send(stream_close=pb.StreamClose(stream=theirs))
    assert (await alice.expect("stream_close")).stream == 1


async def introduction(alice, bob, scene):
    """A channel, and a message over it."""
    await alice.send(introduce=pb.Introduce(id=4, target=pb.Target(agent=bob.name), payload=b"hello"))
    heard = await bob.expect("introduce")
    await bob.send(accept=pb.Accept(introduction=heard.introduction, payload=b"welcome"))
    connected = await alice.expect("connected")
    assert (await bob.expect("connected")).channel == connected.channel
    await bob.send(request=pb.Request(id=5, target=pb.Target(channel=connected.channel), payload=b"psst"))
    assert (await alice.expect("forward")).payload == b"psst"


@pytest.mark.parametrize("pattern", [publish_subscribe, request_response, streams, introduction])
def test_pattern(gateway, pattern):
    async def run():
        scene = Scene(gateway)
        async with (
            grpc.aio.insecure_channel(gateway.address, options=CHANNEL_OPTIONS) as first,
            grpc.aio.insecure_channel(gateway.address, options=CHANNEL_OPTIONS) as second,
        ):
            alice = await AioAgent(first, scene.name("alice")).register()
            bob = await AioAgent(second, scene.name("bob")).register(capabilities=[f"math-{scene.namespace}"])
            await pattern(alice, bob, scene)
            await alice.close()
            bob.call.cancel()

    asyncio.run(run())


def test_cancelled_task_cancels_the_call(gateway):
    async def run():
        scene = Scene(gateway)
        async with grpc.aio.insecure_channel(gateway.address, options=CHANNEL_OPTIONS) as channel:
            alice = await AioAgent(channel, scene.name("alice")).register()
            await alice.subscribe(scene.topic("**"))
            reading = asyncio.create_task(alice.call.read())
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert alice.call.cancelled()
            gateway.wait_for_no_residue()

    asyncio.run(run())


def test_hundred_agents_talk_in_a_ring(gateway):
    """Each asks the next; all at once."""

    async def run(count=100):
        scene = Scene(gateway)
        async with grpc.aio.insecure_channel(gateway.address, options=CHANNEL_OPTIONS) as channel:
            agents = [AioAgent(channel, scene.name("ring", str(number))) for number in range(count)]
            await asyncio.gather(*(agent.register() for agent in agents))

            async def turn(number):
                agent = agents[number]
                target = pb.Target(agent=agents[(number + 1) % count].name)
                await agent.send(request=pb.Request(id=1, target=target, payload=str(number).encode()))
                answer = None
                asked = False
                while answer is None or not asked:
                    message = await asyncio.wait_for(agent.call.read(), 10)
                    if message.WhichOneof("body") == "forward":
                        forward = message.forward
                        assert int(forward.payload) == (number - 1) % count
                        await agent.send(response=pb.Response(request=forward.request, payload=forward.payload))
                        asked = True
                    else:
                        answer = message.deliver
                assert int(answer.payload) == number

            await asyncio.gather(*(turn(number) for number in range(count)))
            await asyncio.gather(*(agent.close() for agent in agents))

    asyncio.run(run())
