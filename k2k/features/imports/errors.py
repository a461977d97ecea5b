"""What can go wrong with a whole import. What is wrong with single rows is told by the import itself."""

from k2k.core.errors import Conflict, Invalid, NotFound


class ImportNotFound(NotFound):
    """There is no such import, or it is another person's."""

    code = "import-not-found"
    number = 2000
    title = "Import not found"


class UnknownFormat(Invalid):
    """Neither the content type nor the name of the file says that it is CSV (`.csv`) or JSON lines (`.jsonl`)."""

    code = "unknown-format"
    number = 2001
    title = "Send CSV or JSON lines, and say which by content type or name"


class UnusableFile(Invalid):
    """The beginning of the file shows that none of it can be read: not text, or a header with unknown columns.

    The problems name each column. Nothing was imported.
    """

    code = "unusable-file"
    number = 2002
    title = "The file cannot be read"


class TooManyImports(Conflict):
    """Some of your imports are under way. Wait for one to end, or cancel it."""

    code = "too-many-imports"
    number = 2003
    title = "Too many of your imports are under way"


class ImportEnded(Conflict):
    """It has ended already: there is nothing to cancel, and what it has written stays."""

    code = "import-ended"
    number = 2004
    title = "The import has ended already"
