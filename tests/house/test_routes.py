"""Whatever answers on a port names the permission it needs, or stands here by name as open to everybody."""

from __future__ import annotations

from k2k.app import OPERATIONS
from k2k.live.door import PATH
from k2k.ops.permissions import Permission
from k2k.web import assets
from k2k.web.routes import PREFIX
from tests.support import ROOT, Node

HEALTH = {f"{prefix}/health{which}" for prefix in ("", PREFIX) for which in ("", "/live", "/ready")}
DOCUMENTS = ("/docs", "/docs/errors", f"{PREFIX}/openapi.json", f"{PREFIX}/asyncapi.json")
PUBLIC = {
    *(("GET", path + slash) for path in HEALTH for slash in ("", "/")),  # for balancers, which sign in nowhere
    *(("GET", path + slash) for path in DOCUMENTS for slash in ("", "/")),
    *(("GET", path) for path in assets.find(ROOT / "node_modules").files),
    ("GET", PATH),  # the socket signs in by its connect command
    ("GET", "/media/images/{name}"),
    ("GET", "/media/documents/{name}"),  # a signature says who may, here and below
    ("PUT", "/media/incoming/{name}"),
}
"""What is no operation and open to everybody. Only what tells nothing about anybody may stand here."""


def bound(node: Node) -> set[tuple[str, str]]:
    """Method and path of every route of a built process. Where GET is answered, HEAD may be."""
    routes = node.process.app.router.routes()
    found = {(route.method, getattr(route.resource, "canonical", "")) for route in routes}
    return {(method, path) for method, path in found if method != "HEAD" or ("GET", path) not in found}


def declared() -> set[tuple[str, str]]:
    return {(one.method, PREFIX + one.path + slash) for one in OPERATIONS for slash in ("", "/")}


async def test_a_route_is_an_operation_or_said_to_be_public(node: Node) -> None:
    unknown = bound(node) - declared() - PUBLIC
    assert not unknown, (
        f"{sorted(unknown)}: make it an operation, which names its permission, or, if everybody may, add it to PUBLIC"
    )


async def test_what_is_said_to_be_public_is_there(node: Node) -> None:
    gone = PUBLIC - bound(node)
    assert not gone, f"take these out of PUBLIC: {sorted(gone)}"


async def test_an_operation_answers_with_and_without_a_trailing_slash(node: Node) -> None:
    missing = declared() - bound(node)
    assert not missing, f"bind these too: {sorted(missing)}"


def test_every_operation_names_a_permission_and_no_two_are_the_same() -> None:
    assert all(isinstance(operation.may, Permission) for operation in OPERATIONS)
    addresses = [(operation.method, operation.path) for operation in OPERATIONS]
    assert len(set(addresses)) == len(addresses)
    rpcs = [operation.rpc for operation in OPERATIONS if operation.rpc]
    assert len(set(rpcs)) == len(rpcs)
