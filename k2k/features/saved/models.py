"""What is answered about keeping a listing."""

from __future__ import annotations

from k2k.ops.validation import Answer


class Saved(Answer):
    message: str
    saved: bool
    save_count: int
