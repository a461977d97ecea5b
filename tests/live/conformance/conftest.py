"""The apps that the scenarios are told with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest

from k2k.core.settings import Settings
from tests.live.conformance.app import App
from tests.live.conformance.javascript_app import JavaScriptApp
from tests.live.conformance.python_app import PythonApp
from tests.live.conformance.relay import Relay
from tests.support import Node


async def _python(*, protobuf: bool) -> App:
    return PythonApp(protobuf=protobuf)


SDKS: Mapping[str, Callable[..., Awaitable[App]]] = {"javascript": JavaScriptApp.start, "python": _python}
ENCODINGS: Mapping[str, bool] = {"json": False, "protobuf": True}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lacks(sdk, what): this SDK cannot do what the scenario tells of")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every scenario with every SDK in both encodings, but for an SDK that `lacks` what it tells of."""
    if "start_app" in metafunc.fixturenames:
        lacking = {mark.kwargs["sdk"] for mark in metafunc.definition.iter_markers("lacks")}
        metafunc.parametrize(
            "start_app",
            [
                pytest.param(
                    (start, protobuf),
                    id=f"{sdk}-{encoding}",
                    marks=[pytest.mark.needs("npm packages")] if sdk == "javascript" else [],
                )
                for sdk, start in SDKS.items()
                for encoding, protobuf in ENCODINGS.items()
                if sdk not in lacking
            ],
            indirect=True,
        )


@pytest.fixture
async def start_app(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], Awaitable[App]]]:
    """Starts apps of one SDK, which end with the test."""
    start, protobuf = request.param
    apps: list[App] = []

    async def started() -> App:
        apps.append(await start(protobuf=protobuf))
        return apps[-1]

    yield started
    for app in apps:
        await app.close()


@pytest.fixture
async def app(start_app: Callable[[], Awaitable[App]]) -> App:
    return await start_app()


@pytest.fixture(scope="session")
async def other_node(settings: Settings) -> AsyncIterator[Node]:
    """A second serving process, which the apps may find when they come back."""
    other = await Node.start(settings)
    yield other
    await other.stop()


@pytest.fixture
async def relay(node: Node) -> AsyncIterator[Relay]:
    """A network that leads to `node`."""
    async with Relay.running(node) as relay:
        yield relay
