"""Agents over agp-bindings, as their users write them: one interface to both generations of the bindings."""

import asyncio
import contextlib
import datetime
import itertools
import os

import agp_bindings as agp

IS_FIRST = hasattr(agp, "GatewayConfig")  # 0.2.4; else 0.3.5
TIMEOUT = datetime.timedelta(seconds=2)
RETRIES = 10
DEADLINE_S = 20


def run(steps):
    """Runs the coroutine of a test."""
    return asyncio.run(asyncio.wait_for(steps, 80))


class Agent:
    """One agent with its connection."""

    def __init__(self, gateway, namespace, kind):
        self.gateway = gateway
        self.address = ("acme", namespace, kind)

    @property
    def id(self):
        """The instance."""
        return self.gateway.id() if IS_FIRST else self.gateway.get_agent_id()

    async def subscribe(self, name):
        """Wants messages to `name`. The bindings cannot tell when it has taken effect."""
        await self.gateway.subscribe(*name)

    # --- sessions ---------------------------------------------------------------------------------------------------

    async def fire_and_forget(self):
        """A session of messages that nobody acknowledges."""
        if IS_FIRST:
            return await self.gateway.create_ff_session(agp.PyFireAndForgetConfiguration())
        return await self.gateway.create_session(agp.PySessionConfiguration.FireAndForget())

    async def reliable(self, sticky=False):
        """A session of messages that are repeated until they are acknowledged (0.3.5). Sticky: all to the same instance."""
        return await self.gateway.create_session(
            agp.PySessionConfiguration.FireAndForget(timeout=TIMEOUT, max_retries=RETRIES, sticky=sticky)
        )

    async def request_reply(self):
        """A session of questions."""
        if IS_FIRST:
            milliseconds = int(TIMEOUT.total_seconds() * 1000)
            config = agp.PyRequestResponseConfiguration(max_retries=RETRIES, timeout=milliseconds)
            return await self.gateway.create_rr_session(config)
        return await self.gateway.create_session(agp.PySessionConfiguration.RequestResponse(timeout=TIMEOUT))

    async def streaming(self, direction, topic=None):
        """A session of a stream: as sender, receiver, or both on a topic."""
        topic = agp.PyAgentType(*topic) if topic else None
        if IS_FIRST:
            config = agp.PyStreamingConfiguration(direction, topic, max_retries=RETRIES, timeout=TIMEOUT)
            return await self.gateway.create_streaming_session(config)
        config = agp.PySessionConfiguration.Streaming(direction, topic=topic, max_retries=RETRIES, timeout=TIMEOUT)
        return await self.gateway.create_session(config)

    # --- messages ---------------------------------------------------------------------------------------------------

    async def say(self, session, payload, to, instance=None):
        """Publishes."""
        await self.gateway.set_route(*to, instance)
        await self.gateway.publish(session, payload, *to, instance)

    async def ask(self, session, payload, to):
        """Publishes and waits for the answer."""
        await self.gateway.set_route(*to)
        _, answer = await bounded(self.gateway.request_reply(session, payload, *to), "an answer")
        return answer

    async def reply(self, session, payload):
        """Publishes to the one who wrote last in `session`."""
        await self.gateway.publish_to(session, payload)

    async def met(self):
        """The session that somebody opened by writing."""
        session, _ = await bounded(self.gateway.receive(), "a session")
        return session

    async def hear(self, session):
        """(the session with its sender, the payload) of the next message."""
        return await bounded(self.gateway.receive(session=session.id), "a message")


def bounded(steps, what):
    """Waits no longer than a test may."""

    async def wait():
        try:
            return await asyncio.wait_for(steps, DEADLINE_S)
        except TimeoutError:
            raise AssertionError(f"no {what} within {DEADLINE_S} s") from None

    return wait()


class Stage:
    """One test's agents on a gateway, under names that nobody else uses."""

    _numbers = itertools.count(1)

    def __init__(self, gateway):
        self.gateway = gateway
        self.namespace = f"p{os.getpid()}n{next(self._numbers)}"

    def name(self, kind):
        """A name of this test."""
        return ("acme", self.namespace, kind)

    @contextlib.asynccontextmanager
    async def agent(self, kind, instance=None, **connection):
        """A connected agent, as long as the context lasts."""
        gateway = await agp.Gateway.new(*self.name(kind), instance)
        endpoint = f"http://{self.gateway.address}"
        if IS_FIRST:
            gateway.configure(agp.GatewayConfig(endpoint=endpoint, insecure=True, **connection))
            await gateway.connect()
        else:
            await gateway.connect({"endpoint": endpoint, "tls": {"insecure": True}, **connection})
        async with gateway:
            yield Agent(gateway, self.namespace, kind)
        if IS_FIRST:
            await gateway.disconnect()
        else:
            await gateway.disconnect(endpoint)

    @contextlib.asynccontextmanager
    async def agents(self, *kinds):
        """Several of them. All of their own subscriptions are in effect."""
        async with contextlib.AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self.agent(kind)) for kind in kinds]

    async def subscribed(self, count):
        """Waits until the gateway knows this many subscriptions: the bindings do not tell."""
        await asyncio.to_thread(self.gateway.wait_for_stats, agp2025_subscriptions=count)
