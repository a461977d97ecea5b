"""What an app shows, and the position in the stream of events that keeps it up to date: both of one moment.

The law of every operation here: the state, and the events after its position, make the state of later.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from k2k.core.errors import Denied
from k2k.core.ids import AgencyId, agency_channel, user_channel
from k2k.features.agents import service as agents
from k2k.features.agents.errors import AgencyNotFound
from k2k.features.chat import service as chat
from k2k.features.chat.models import Conversation
from k2k.features.leads import service as leads
from k2k.features.leads.models import Lead
from k2k.infra.streams import Streams
from k2k.ops.call import Call
from k2k.ops.channels import StreamPosition
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Routes
from k2k.ops.validation import Answer, Input

routes = Routes("state")


class StateQuery(Input):
    limit: Annotated[int, Field(ge=1, le=100)] = 50


class MyState(Answer):
    """`leads` are those offered to me or claimed by me; `position` is that of my own channel."""

    position: StreamPosition
    conversations: tuple[Conversation, ...]
    leads: tuple[Lead, ...]


class DeskPath(Input):
    agency_id: AgencyId


class Desk(Answer):
    """The agency's leads, newest first; `position` is that of the agency's channel."""

    position: StreamPosition
    leads: tuple[Lead, ...]


@routes.get("/me/state", may=Permission.own_account, rpc="me.state")
async def my_state(call: Call, query: StateQuery) -> Json[MyState]:
    """My conversations and leads, and where in my channel's events they stand."""
    streams, channel = call.use(Streams), user_channel(call.user.id)
    async with call.snapshot() as reader:
        position = await streams.position(reader, channel)
        conversations = await chat.list_conversations(reader, call.user.id, query.limit)
        desk = await leads.list_leads(reader, call.user.id, query.limit)
    told = StreamPosition.of(position).model_dump_json().encode()
    return Json(b'{"position":%s,"conversations":%s,"leads":%s}' % (told, conversations, desk))


@routes.get("/agencies/{agency_id}/desk", may=Permission.be_agent, rpc="agency.desk", raises=(AgencyNotFound,))
async def agency_desk(call: Call, path: DeskPath, query: StateQuery) -> Json[Desk]:
    """The leads of an agency, for its owner and managers, and where in the agency's events they stand."""
    streams, channel = call.use(Streams), agency_channel(path.agency_id)
    if not await agents.manages(call.db, call.user.id, path.agency_id):
        await agents.get_agency(call.db, path.agency_id)
        raise Denied
    async with call.snapshot() as reader:
        position = await streams.position(reader, channel)
        desk = await leads.list_agency_leads(reader, path.agency_id, call.user.id, query.limit)
    return Json(b'{"position":%s,"leads":%s}' % (StreamPosition.of(position).model_dump_json().encode(), desk))
