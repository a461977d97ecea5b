"""An app with the Python SDK."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from centrifuge import (
    Client,
    ClientEventHandler,
    StreamPosition,
    Subscription,
    SubscriptionEventHandler,
    UnauthorizedError,
)
from centrifuge.exceptions import ReplyError
from centrifuge.types import ClientInfo, Publication

from tests.live.conformance.app import App, Heard, Member, Past, Refused


class PythonApp(App):
    """With Protobuf the SDK takes and gives bytes, which carry JSON by convention."""

    def __init__(self, *, protobuf: bool) -> None:
        super().__init__()
        self._protobuf = protobuf
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        assert self._client is not None
        return self._client

    async def open(
        self, address: str, token: str = "", *, data: Any = None, tokens: Sequence[str] | None = None
    ) -> None:
        self._client = Client(
            address,
            events=_ClientEvents(self),
            token=token,
            get_token=self._bring_token(tokens) if tokens is not None else None,
            data=self._encoded(data) if data is not None else None,
            use_protobuf=self._protobuf,
            min_reconnect_delay=0.02,
            max_reconnect_delay=0.2,
            proxy=None,
        )

    def _bring_token(self, tokens: Sequence[str]) -> Callable[[], Awaitable[str]]:
        left = list(tokens)

        async def bring() -> str:
            self.note(Heard("token"))
            if not left:
                raise UnauthorizedError
            return left.pop(0)

        return bring

    async def connect(self) -> None:
        await self.client.connect()

    async def disconnect(self) -> None:
        await self.client.disconnect()

    async def subscribe(
        self, channel: str, *, joins: bool = False, states: Sequence[tuple[str, int]] | None = None
    ) -> None:
        subscription = self.client.new_subscription(
            channel,
            events=_SubscriptionEvents(self, channel),
            recoverable=True,
            positioned=True,
            join_leave=joins,
            get_state=self._bring_state(states) if states is not None else None,
            min_resubscribe_delay=0.02,
            max_resubscribe_delay=0.2,
        )
        await subscription.subscribe()

    def _bring_state(self, states: Sequence[tuple[str, int]]) -> Callable[[str], Awaitable[StreamPosition]]:
        left = list(states)

        async def bring(channel: str) -> StreamPosition:
            self.note(Heard("state", channel))
            epoch, offset = left.pop(0)
            return StreamPosition(offset=offset, epoch=epoch)

        return bring

    async def unsubscribe(self, channel: str) -> None:
        await self._subscription(channel).unsubscribe()

    async def subscribe_again(self, channel: str) -> None:
        await self._subscription(channel).subscribe()

    def _subscription(self, channel: str) -> Subscription:
        found = self.client.get_subscription(channel)
        assert found is not None
        return found

    async def rpc(self, method: str, data: Any) -> Any:
        return self.decoded((await self._answered(self.client.rpc(method, self._encoded(data)))).data)

    async def publish(self, channel: str, data: Any) -> None:
        await self._answered(self.client.publish(channel, self._encoded(data)))

    async def presence(self, channel: str) -> list[Member]:
        found = await self._answered(self.client.presence(channel))
        return [Member(one.user, one.client, self.decoded(one.conn_info)) for one in found.clients.values()]

    async def presence_stats(self, channel: str) -> tuple[int, int]:
        found = await self._answered(self.client.presence_stats(channel))
        return found.num_clients, found.num_users

    async def history(
        self, channel: str, *, limit: int = 0, since: tuple[str, int] | None = None, reverse: bool = False
    ) -> Past:
        position = StreamPosition(offset=since[1], epoch=since[0]) if since is not None else None
        found = await self._answered(self.client.history(channel, limit, position, reverse))
        return Past([one.offset for one in found.publications], found.epoch, found.offset)

    async def send(self, data: Any) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        await self.client.disconnect()

    def _encoded(self, data: Any) -> Any:
        return json.dumps(data).encode() if self._protobuf else data

    def decoded(self, data: Any) -> Any:
        return json.loads(data) if self._protobuf and data is not None else data

    async def _answered(self, order: Awaitable[Any]) -> Any:
        try:
            return await order
        except ReplyError as error:
            raise Refused(error.code, error.message, bool(error.temporary)) from error

    def published(self, channel: str, publication: Publication) -> None:
        user = publication.info.user if publication.info is not None else None
        data, offset = self.decoded(publication.data), publication.offset or None
        self.note(Heard("publication", channel, user=user, data=data, offset=offset))

    def moved(self, kind: str, channel: str, info: ClientInfo) -> None:
        self.note(Heard(kind, channel, client=info.client, user=info.user))

    def subscribed(self, ctx: Any) -> None:
        position = ctx.stream_position
        self.note(
            Heard(
                "subscribed",
                ctx.channel,
                offset=position.offset if position is not None else None,
                epoch=position.epoch if position is not None else None,
                was_recovering=ctx.was_recovering,
                recovered=ctx.recovered,
            )
        )

    def failed(self, channel: str | None, fault: Exception) -> None:
        self.note(Heard("error", channel, code=fault.code if isinstance(fault, ReplyError) else None))


class _ClientEvents(ClientEventHandler):
    """Everything about the connection and the subscriptions that the server made."""

    def __init__(self, app: PythonApp) -> None:
        self._app = app

    async def on_connecting(self, ctx: Any) -> None:
        self._app.note(Heard("connecting", code=ctx.code))

    async def on_connected(self, ctx: Any) -> None:
        self._app.note(Heard("connected", client=ctx.client))

    async def on_disconnected(self, ctx: Any) -> None:
        self._app.note(Heard("disconnected", code=ctx.code))

    async def on_error(self, ctx: Any) -> None:
        self._app.failed(None, ctx.error)

    async def on_subscribed(self, ctx: Any) -> None:
        self._app.subscribed(ctx)

    async def on_unsubscribed(self, ctx: Any) -> None:
        self._app.note(Heard("unsubscribed", ctx.channel))

    async def on_publication(self, ctx: Any) -> None:
        self._app.published(ctx.channel, ctx.pub)

    async def on_join(self, ctx: Any) -> None:
        self._app.moved("join", ctx.channel, ctx.info)

    async def on_leave(self, ctx: Any) -> None:
        self._app.moved("leave", ctx.channel, ctx.info)


class _SubscriptionEvents(SubscriptionEventHandler):
    """Everything about one subscription that the app made."""

    def __init__(self, app: PythonApp, channel: str) -> None:
        self._app = app
        self._channel = channel

    async def on_subscribing(self, ctx: Any) -> None:
        self._app.note(Heard("subscribing", self._channel, code=ctx.code))

    async def on_subscribed(self, ctx: Any) -> None:
        self._app.subscribed(ctx)

    async def on_unsubscribed(self, ctx: Any) -> None:
        self._app.note(Heard("unsubscribed", self._channel, code=ctx.code))

    async def on_publication(self, ctx: Any) -> None:
        self._app.published(self._channel, ctx.pub)

    async def on_join(self, ctx: Any) -> None:
        self._app.moved("join", self._channel, ctx.info)

    async def on_leave(self, ctx: Any) -> None:
        self._app.moved("leave", self._channel, ctx.info)

    async def on_error(self, ctx: Any) -> None:
        self._app.failed(self._channel, ctx.error)
