"""Rooms on Django Channels and its Redis pub/sub layer, as one would write them today.

Measured against, never shipped.
"""

import json
import os

import jwt
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings

settings.configure(
    DEBUG=False,
    ALLOWED_HOSTS=["127.0.0.1"],
    SECRET_KEY=os.environ["SECRET"],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [os.environ["REDIS_URL"]]},
        }
    },
)

import django  # noqa: E402 -- its settings stand first

django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402 -- only after setup()
from django.http import HttpRequest, HttpResponse  # noqa: E402 -- only after setup()
from django.urls import path  # noqa: E402 -- only after setup()


class Rooms(AsyncWebsocketConsumer):
    groups: list[str]

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        wish = json.loads(text_data or "")
        try:
            claims = jwt.decode(
                wish["token"], os.environ["SECRET"], algorithms=["HS256"], options={"verify_aud": False}
            )
        except jwt.PyJWTError:
            await self.close(1008)
            return
        # Names of groups may not hold a colon.
        self.groups = [name.replace(":", ".") for name in (f"user:{claims['sub']}", *wish["rooms"])]
        for name in self.groups:
            await get_channel_layer().group_add(name, self.channel_name)
        await self.send('{"ready":true}')

    async def event(self, event: dict[str, str]) -> None:
        await self.send(event["text"])


def health(_: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


urlpatterns = [path("health", health)]
settings.ROOT_URLCONF = __name__
app = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": URLRouter([path("ws", Rooms.as_asgi())])})
