"""What happens to imports, for those whose they are."""

from typing import ClassVar

from k2k.core.ids import ImportId
from k2k.features.imports.models import ImportState
from k2k.infra.streams import Event


class ImportProgress(Event):
    """The import has come further: `rows` are read, `failed` of them were not taken. Once for each percent at most."""

    type: ClassVar[str] = "import.progress"
    to = ("user",)
    import_id: ImportId
    state: ImportState
    rows: int
    failed: int
    percent: int


class ImportFinished(Event):
    """The import has ended, one way or another: `state` says which. Its errors can be fetched."""

    type: ClassVar[str] = "import.finished"
    to = ("user",)
    import_id: ImportId
    state: ImportState
    rows: int
    failed: int
    percent: int
