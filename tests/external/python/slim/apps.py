"""Applications over slim-bindings, as their users write them. Each has a service, and so a connection, of its own."""

import asyncio
import datetime
import itertools
import os

import pytest
import slim_bindings as slim

SECRET = "the-tests-share-this-secret-of-more-than-32-bytes"
DEADLINE = datetime.timedelta(seconds=20)  # generous: a test must fail by what it sees, not by a slow machine
RETRY = datetime.timedelta(seconds=1)
RETRIES = 20

slim.initialize_with_configs(
    slim.new_runtime_config(),
    slim.new_tracing_config_with(os.environ.get("SLIM_LOG", "error"), False, False, []),
    [slim.new_service_config()],
)


def run(steps):
    """Runs the coroutine of a test."""
    return asyncio.run(steps)


def session_config(kind, *, mls=False, reliable=True, metadata=None):
    """A session as asked for."""
    return slim.SessionConfig(
        session_type=kind,
        max_retries=RETRIES if reliable else None,
        interval=RETRY if reliable else None,
        metadata=metadata or {},
        mls_settings=slim.MlsSettings(header_integrity_validation_percent=100, max_seen_control_message_ids_size=None)
        if mls
        else None,
    )


class Connection:
    """A process's connection to the gateway: a service of the bindings."""

    _numbers = itertools.count(1)

    def __init__(self, config, service=None):
        name = f"test-{os.getpid()}-{next(self._numbers)}"
        self.service = slim.Service.new_with_config(name, service) if service else slim.Service(name)
        self.id = self.service.connect(config)
        self._apps = []  # the bindings end an application that nobody holds

    def app(self, name):
        """An application on this connection, reachable under `name`."""
        self._apps.append(App(self, name))
        return self._apps[-1]

    def close(self):
        """Leaves the gateway."""
        self.service.disconnect(self.id)
        self.service.shutdown()


class App:
    """An application with its sessions."""

    def __init__(self, connection, name):
        self.app = connection.service.create_app_with_secret(name, SECRET)
        self.app.subscribe(self.app.name(), connection.id)
        self.name = name

    async def call(self, name, **options):
        """A point-to-point session with whoever has `name`."""
        config = session_config(slim.SessionType.POINT_TO_POINT, **options)
        return Session(await self.app.create_session_and_wait_async(config, name))

    async def group(self, channel, **options):
        """A group session on `channel`, with this application as its moderator."""
        config = session_config(slim.SessionType.GROUP, **options)
        return Session(await self.app.create_session_and_wait_async(config, channel))

    async def answer(self):
        """The session that somebody opens with this application."""
        return Session(await self.app.listen_for_session_async(DEADLINE))

    async def hang_up(self, session):
        """Ends a session."""
        await self.app.delete_session_and_wait_async(session.session)


class Session:
    """One end of a session."""

    def __init__(self, session):
        self.session = session

    async def say(self, payload, metadata=None):
        """Publishes; returns when the bindings know that it was delivered, where the session is reliable."""
        await self.session.publish_and_wait_async(payload, "test", metadata)

    async def hear(self):
        """The next message."""
        return await self.session.get_message_async(DEADLINE)

    async def reply(self, message, payload):
        """Publishes to the sender of `message` alone."""
        await self.session.publish_to_and_wait_async(message.context, payload, "test", None)

    async def expect(self, payload):
        """The next message, which must be this one."""
        message = await self.hear()
        assert message.payload == payload, f"{message.payload!r} and not {payload!r}"
        return message

    async def invite(self, app):
        """Invites an application into the group; returns its end of the session."""
        answered = asyncio.create_task(app.answer())
        await self.session.invite_and_wait_async(app.name)
        return await answered

    async def participants(self):
        """Who is in the group, with their status."""
        listed = await self.session.participants_list_async()
        return {str(info.name.components()[2]): info.status for info in listed}


class Stage:
    """One test's applications on a gateway, under names that nobody else uses."""

    _numbers = itertools.count(1)

    def __init__(self, gateway):
        self.gateway = gateway
        self.namespace = f"p{os.getpid()}n{next(self._numbers)}"
        self._connections = []

    def name(self, kind):
        """A name of this test."""
        return slim.Name("acme", self.namespace, kind)

    def client_config(self):
        """How to connect to the gateway."""
        return slim.new_insecure_client_config(f"http://{self.gateway.address}")

    def connect(self, config=None, service=None):
        """A connection, ended with the test; `service` says how the process is configured."""
        connection = Connection(config or self.client_config(), service)
        self._connections.append(connection)
        return connection

    def app(self, kind, config=None):
        """An application on a connection of its own."""
        return self.connect(config).app(self.name(kind))

    def close(self):
        """Ends all connections."""
        for connection in self._connections:
            connection.close()


async def talk(stage, config=None):
    """Two applications connect as `config` says and exchange a message in a session with MLS."""
    alice, bob = stage.app("alice", config), stage.app("bob", config)
    call = await alice.call(bob.name, mls=True)
    answer = await bob.answer()
    await call.say(b"hello")
    await answer.expect(b"hello")


def changed(stage, **fields):
    """The client's configuration with other values."""
    config = stage.client_config()
    for name, value in fields.items():
        setattr(config, name, value)
    return config


def refused(stage, config):
    """A connection as `config` says fails. The bindings would try for ever if they were not told when to give up."""
    once = slim.FixedIntervalBackoff(interval=datetime.timedelta(milliseconds=50), max_attempts=1)
    config.backoff = slim.BackoffConfig.FIXED_INTERVAL(once)
    with pytest.raises(slim.SlimError):
        stage.connect(config)
