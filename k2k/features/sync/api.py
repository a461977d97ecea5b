"""The doors to delivery: what a device says it has."""

from __future__ import annotations

from k2k.ops.registry import Routes

routes = Routes("sync")
