"""The OpenAPI document: an outside validator takes it, it says what the operations are, and answers are held to it."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from openapi_spec_validator import validate
from pydantic import BaseModel, create_model

from k2k.app import OPERATIONS
from k2k.ops.call import Call
from k2k.ops.permissions import Permission
from k2k.ops.registry import Operation, Routes
from k2k.web import health, openapi
from k2k.web.schemas import Schemas
from tests import contract
from tests.contract import DOCUMENT
from tests.support import Api, People


class ThingQuery(BaseModel):
    tag: list[str] = []
    city: str | None = None
    limit: int = 10


class Thing(BaseModel):
    id: UUID


def declared(name: str) -> dict[str, Any]:
    """What the document says of the operation of this name."""
    (found,) = (
        operation
        for path in DOCUMENT["paths"].values()
        for operation in path.values()
        if operation["operationId"] == name
    )
    return found  # type: ignore[no-any-return]


def codes(name: str, status: int) -> list[str]:
    """The error codes that the document names for a status of an operation."""
    response = declared(name)["responses"][str(status)]["$ref"].removeprefix("#/components/responses/")
    _, narrower = DOCUMENT["components"]["schemas"][f"{response}Problem"]["allOf"]
    return narrower["properties"]["code"]["enum"]  # type: ignore[no-any-return]


def test_an_outside_validator_takes_it() -> None:
    validate(DOCUMENT)


def test_every_operation_stands_there_with_its_method_and_nothing_else_does() -> None:
    told = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert told == {(operation.method, operation.path) for operation in OPERATIONS} | {
        ("GET", probe.path) for probe in health.PROBES
    }


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_operation_is_described(operation: Operation) -> None:
    told = declared(operation.name)
    assert told["summary"]
    assert told["x-permission"] == operation.may
    assert told.get("x-rpc") == operation.rpc
    assert ("requestBody" in told) == ("body" in operation.models or operation.files is not None)
    fields = [name for part in ("path", "query") if part in operation.models for name in operation.wire_names(part)]
    parameters = [one["name"] for one in told.get("parameters", []) if one["in"] in ("path", "query")]
    assert parameters == fields
    assert told["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"] if tag["description"]}


def test_clients_methods_need_names_of_their_own() -> None:
    with pytest.raises(ValueError, match="get_lead"):
        openapi.document([*OPERATIONS, next(one for one in OPERATIONS if one.name == "get_lead")])


def test_names_of_components_are_those_of_the_classes() -> None:
    assert {"Property", "PropertyDraft", "LeadStatus", "ProblemDocument"} <= DOCUMENT["components"]["schemas"].keys()
    assert [name for name in DOCUMENT["components"]["schemas"] if not name.isalnum()] == []


def test_models_of_the_same_name_are_kept_apart() -> None:
    other = create_model("Thing", name=(str, ...))
    schemas = Schemas([(("a", "body"), "validation", Thing), (("b", "body"), "validation", other)])
    assert [name for name, _, _ in schemas.fields(("a", "body"))] == ["id"]
    assert [name for name, _, _ in schemas.fields(("b", "body"))] == ["name"]
    assert len(schemas.components(schemas.of(("a", "body")), schemas.of(("b", "body")))) == 2


async def list_things(call: Call, query: ThingQuery) -> list[Thing]:
    """The things. All of them."""
    raise NotImplementedError


def test_a_parameter_that_may_be_repeated_says_how_and_none_may_be_null() -> None:
    routes = Routes("things")
    routes.get("/things", may=Permission.read_market)(list_things)
    made = openapi.document(routes.operations)
    validate(made)
    told = made["paths"]["/things"]["get"]
    assert (told["operationId"], told["summary"]) == ("list_things", "The things")
    tag, city, limit = told["parameters"]
    assert (tag["style"], tag["explode"], tag["schema"]["items"]) == ("form", True, {"type": "string"})
    assert (city["required"], city["schema"]) == (False, {"type": "string"})
    assert limit["schema"] == {"type": "integer", "default": 10}


def test_who_must_prove_themselves_is_said() -> None:
    assert declared("login")["security"] == []
    assert {} in declared("list_properties")["security"]
    assert {} not in declared("get_me")["security"]
    assert declared("get_me")["security"] == [{"bearer": []}, {"password": []}]
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert schemes["password"]["flows"]["password"]["tokenUrl"] == "/api/v1/auth/login"
    assert schemes["bearer"]["scheme"] == "bearer"


def test_the_sign_in_also_takes_the_form() -> None:
    content = declared("login")["requestBody"]["content"]
    assert content.keys() == {"application/json", "application/x-www-form-urlencoded"}


def test_a_refusal_names_every_code_with_its_title() -> None:
    assert codes("claim_lead", 409) == ["lead-taken"]
    assert codes("claim_lead", 503) == ["unavailable", "outcome-unknown"]
    assert codes("list_leads", 503) == ["unavailable"]
    assert codes("send_message", 422) == ["invalid", "idempotency-mismatch"]
    assert codes("send_message", 400) == ["malformed-json", "bad-request"]
    assert codes("get_property", 401) == ["unauthenticated", "token-expired"]
    assert "401" not in declared("register")["responses"]
    described = DOCUMENT["components"]["responses"]["UnavailableOrOutcomeUnknown"]
    assert "`unavailable`: The service is briefly unavailable" in described["description"]
    assert described["headers"].keys() >= {"Retry-After"}


def test_what_is_sent_is_closed_and_answers_may_grow() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["PropertyDraft"]["additionalProperties"] is False
    assert "additionalProperties" not in schemas["Property"]
    assert "token_type" in schemas["TokenPair"]["required"]
    assert schemas["Property"]["properties"]["created_at"]["format"] == "date-time"
    assert schemas["LeadStatus"]["enum"] == ["open", "claimed", "closed"]
    assert "default" not in schemas["PropertyChange"]["properties"]["title"]


# The test client itself: what the document does not promise must not pass.


def answer(method: str, path: str, status: int, body: Any, **headers: str) -> contract.Answer:
    type_ = "application/json" if status < 400 else "application/problem+json"
    return contract.Answer(method, path, status, type_, headers, json.dumps(body).encode())


def problem(code: str, status: int) -> dict[str, Any]:
    return {"type": "/", "title": "", "status": status, "detail": "", "code": code, "request_id": ""}


@pytest.mark.parametrize(
    "wrong",
    [
        answer("POST", f"/leads/{uuid4()}/claim", 409, problem("own-listing", 409)),
        answer("POST", f"/leads/{uuid4()}/claim", 409, problem("lead-taken", 404)),
        answer("POST", f"/leads/{uuid4()}/claim", 418, problem("lead-taken", 418)),
        answer("POST", f"/leads/{uuid4()}/claim", 409, {"code": "lead-taken"}),
        answer("POST", f"/leads/{uuid4()}/claim", 201, {}),
        answer("GET", "/nowhere", 404, problem("lead-not-found", 404)),
        answer("GET", "/properties", 200, []),
        answer("GET", "/chat/conversations", 200, [], Link="</>"),
        answer("GET", "/chat/conversations", 200, [{"id": "x"}]),
    ],
)
def test_an_answer_that_is_not_declared_fails_the_test_it_came_in(wrong: contract.Answer) -> None:
    with pytest.raises(AssertionError):
        contract.check_answer(wrong)


def test_a_refusal_of_an_rpc_that_is_not_declared_fails_too() -> None:
    taken = {"code": 1401, "message": json.dumps(problem("lead-taken", 409))}
    contract.check_refusal("lead.claim", taken)
    for rpc, error in (("lead.get", taken), ("lead.claim", taken | {"code": 1402})):
        with pytest.raises(AssertionError):
            contract.check_refusal(rpc, error)


async def test_a_story_through_the_form_is_as_declared(api: Api, people: People) -> None:
    person = await people.buyer()
    signed_in = await api.post("/auth/login", data={"username": person.email, "password": "correct horse battery"})
    assert (signed_in.status, signed_in.headers["Cache-Control"]) == (200, "no-store")
