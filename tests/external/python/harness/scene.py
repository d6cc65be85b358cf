"""One test's place on a shared gateway: names and topics nobody else uses, agents that are closed at its end."""

import itertools
import os

from harness.agent import NARROW, Agent, connect


class Scene:
    """A namespace of its own on `gateway`."""

    _numbers = itertools.count(1)

    def __init__(self, gateway):
        self.gateway = gateway
        self.namespace = f"p{os.getpid()}n{next(self._numbers)}"
        self._agents = []

    def service(self, service):
        """A service name of this scene."""
        return f"acme/{self.namespace}/{service}"

    def name(self, service, instance="1"):
        """An agent name of this scene."""
        return f"{self.service(service)}/{instance}"

    def topic(self, tail):
        """A topic or pattern of this scene."""
        return f"{self.namespace}/{tail}"

    def agent(self, service, instance="1", *, address=None, **fields):
        """A registered agent on a connection of its own, closed when the test ends."""
        return self.keep(Agent(self._channel(address), self.name(service, instance), owns_channel=True, **fields))

    def stalled(self, service, instance="1"):
        """A registered agent that is going to stop reading."""
        return self.keep(Agent(self._channel(None, NARROW), self.name(service, instance), owns_channel=True))

    def unregistered(self, **options):
        """A stream on which nothing has been said yet."""
        return self.keep(Agent(self._channel(None), owns_channel=True, **options))

    def _channel(self, address, options=()):
        return connect(address or self.gateway.address, options)

    def keep(self, agent):
        """Closes `agent` when the test ends."""
        self._agents.append(agent)
        return agent

    def close(self):
        """Ends all agents, orderly."""
        for agent in self._agents:
            agent.half_close()
        for agent in self._agents:
            agent.close()
