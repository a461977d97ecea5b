"""Imports: many listings out of a file, and into one."""

from __future__ import annotations

from collections.abc import AsyncIterator

from k2k.features.imports import export, service, store
from k2k.features.imports.errors import ImportEnded, ImportNotFound, TooManyImports, UnknownFormat, UnusableFile
from k2k.features.imports.models import ExportQuery, Format, Import, ImportPath, RowError, TemplateQuery
from k2k.infra.limits import Rate
from k2k.ops.call import Call
from k2k.ops.files import FileRules, Files
from k2k.ops.paging import PAGED, Page
from k2k.ops.permissions import Permission
from k2k.ops.registry import Json, Repeats, Reply, Routes, Streamed
from k2k.web.routes import PREFIX

routes = Routes("imports")

ONE_FILE = FileRules(most=1, bytes_each=100 * 1024 * 1024, seconds=600.0)
RATE = Rate(30, 3600)
CSV, JSON_LINES = Format.csv.media_type, Format.jsonl.media_type


@routes.post(
    "/imports",
    may=Permission.offer_listings,
    status=202,
    files=ONE_FILE,
    repeats=Repeats.freely,
    rate=RATE,
    raises=(UnknownFormat, UnusableFile, TooManyImports),
    headers=("Location",),
)
async def begin_import(call: Call, files: Files) -> Reply[Json[Import]]:
    """Offer many things at once: one file of CSV or JSON lines, whose rows are taken one by one.

    A row has the fields of what is offered alone, and a `kind`. Where it has a `reference`, the seller's own name for
    the listing, the next row of that name changes it, and one with the status `deleted` takes it away. A row that is
    wrong is told and stops nothing. The same file again within a day is the same import.
    """
    found = await service.receive(call.services.db, call.user.id, files)
    body = await service.get_import(call.db, found, call.user.id)
    return Reply(body, {"Location": f"{PREFIX}/imports/{found}"})


@routes.get("/imports", may=Permission.offer_listings, rpc="import.list", headers=PAGED)
async def list_imports(call: Call, query: Page) -> Reply[Json[list[Import]]]:
    """My imports, newest first."""
    found = await store.list_imports(call.db, call.user.id, query)
    return Reply(Json(found.body), query.headers(f"{PREFIX}/imports", found.total))


@routes.get("/imports/template", may=Permission.offer_listings, media=(CSV,))
async def import_template(call: Call, query: TemplateQuery) -> Streamed:
    """The columns of a kind as CSV, with one row to show what goes into them."""

    async def whole() -> AsyncIterator[bytes]:
        yield export.template(query.kind)

    return Streamed(CSV, f"{query.kind}.csv", whole())


@routes.get("/imports/{import_id}", may=Permission.offer_listings, rpc="import.get", raises=(ImportNotFound,))
async def get_import(call: Call, path: ImportPath) -> Json[Import]:
    """One of my imports, and how far it is."""
    return await service.get_import(call.db, path.import_id, call.user.id)


@routes.get(
    "/imports/{import_id}/errors",
    may=Permission.offer_listings,
    rpc="import.errors",
    raises=(ImportNotFound,),
    headers=PAGED,
)
async def list_import_errors(call: Call, path: ImportPath, query: Page) -> Reply[Json[list[RowError]]]:
    """What was wrong in the rows of one of my imports, in the order of the file: the first thousand."""
    total, body = await service.list_errors(call.db, path.import_id, call.user.id, query)
    return Reply(body, query.headers(f"{PREFIX}/imports/{path.import_id}/errors", total))


@routes.delete(
    "/imports/{import_id}",
    may=Permission.offer_listings,
    rpc="import.cancel",
    repeats=Repeats.freely,
    raises=(ImportNotFound, ImportEnded),
)
async def cancel_import(call: Call, path: ImportPath) -> Json[Import]:
    """Stop one of my imports where it is. What it has written stays; asked again nothing more happens."""
    async with call.transaction() as tx:
        return await service.cancel(tx, path.import_id, call.user.id)


@routes.get("/listings/export", may=Permission.offer_listings, rate=RATE, media=(CSV, JSON_LINES))
async def export_listings(call: Call, query: ExportQuery) -> Streamed:
    """All my listings as a file, and those of the agency I run, whatever their status; an import takes it as it is."""
    name = f"{query.kind or 'listings'}.{query.format}"
    return Streamed(query.format.media_type, name, export.exported(call.db, call.user.id, query))
