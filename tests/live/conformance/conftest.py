"""The apps that the scenarios are told with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest

from tests.live.conformance.app import App
from tests.live.conformance.javascript_app import JavaScript
from tests.live.conformance.python_app import PythonApp
from tests.live.conformance.relay import Relay
from tests.support import Node

SDKS = ("javascript", "python")
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
                    (sdk, protobuf),
                    id=f"{sdk}-{encoding}",
                    marks=[pytest.mark.needs("npm packages")] if sdk == "javascript" else [],
                )
                for sdk in SDKS
                for encoding, protobuf in ENCODINGS.items()
                if sdk not in lacking
            ],
            indirect=True,
        )


@pytest.fixture(scope="session")
async def javascript() -> AsyncIterator[JavaScript]:
    """Where the apps with the JavaScript SDK run."""
    javascript = JavaScript()
    yield javascript
    await javascript.close()


@pytest.fixture
async def start_app(
    request: pytest.FixtureRequest, javascript: JavaScript
) -> AsyncIterator[Callable[[], Awaitable[App]]]:
    """Starts apps of one SDK, which end with the test."""
    sdk, protobuf = request.param
    apps: list[App] = []

    async def started() -> App:
        app = await javascript.app(protobuf=protobuf) if sdk == "javascript" else PythonApp(protobuf=protobuf)
        apps.append(app)
        return app

    yield started
    for app in apps:
        await app.close()


@pytest.fixture
async def app(start_app: Callable[[], Awaitable[App]]) -> App:
    return await start_app()


@pytest.fixture
async def relay(node: Node) -> AsyncIterator[Relay]:
    """A network that leads to `node`."""
    async with Relay.running(node) as relay:
        yield relay
