"""A real browser: the interactive docs page, and the live SDK in a page behind the browser's own Origin header."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from k2k.core.settings import Settings
from k2k.live.door import PATH
from k2k.web import assets
from tests import programs
from tests.support import PASSWORD, Node, People

pytestmark = pytest.mark.needs("chromium", "npm packages")

PATIENCE = 30
"""Seconds a page may take on a busy machine to draw what is expected of it."""
OPEN_SOCKET = """url => new Promise(resolve => {
    const socket = new WebSocket(url);
    socket.onopen = () => { resolve("open"); socket.close(); };
    socket.onerror = () => resolve("refused");
})"""
CONNECT_SDK = """async ([url, token]) => {
    const client = new Centrifuge(url, {token});
    window.heard = new Promise(resolve => client.on("publication", ({data}) => resolve(data)));
    client.connect();
    await client.ready(5000);
    return client.state;
}"""


@dataclass
class Tab:
    """A page of a browser without a past, with what it asked for and complained about."""

    page: Page
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", lambda socket: self.asked.append(socket.url.replace("ws://", "http://")))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)

    def _console(self, line: ConsoleMessage) -> None:
        if line.type == "error":
            self.complaints.append(line.text)


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        expect.set_options(timeout=PATIENCE * 1000)
        browser = await playwright.chromium.launch(executable_path=programs.chromium(), headless=True)
        yield browser
        await browser.close()


@pytest.fixture
async def tab(browser: Browser) -> AsyncIterator[Tab]:
    context = await browser.new_context(viewport={"width": 390, "height": 844})
    context.set_default_timeout(PATIENCE * 1000)
    tab = Tab(await context.new_page())
    tab.watch()
    yield tab
    await context.close()


@pytest.fixture
async def foreign() -> AsyncIterator[str]:
    """The origin of somebody else's page."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>elsewhere</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


async def open_docs(node: Node, tab: Tab) -> Page:
    await tab.page.goto(node.api.base + "/docs")
    await tab.page.wait_for_selector(".opblock")
    return tab.page


async def test_the_page_draws_every_operation_with_nothing_from_elsewhere(node: Node, tab: Tab) -> None:
    page = await open_docs(node, tab)
    await expect(page).to_have_title("Key2Key API")
    document = (await node.api.get("/openapi.json")).json
    operations = sum(len(methods) for methods in document["paths"].values())
    await expect(page.locator(".opblock")).to_have_count(operations)
    strangers = [url for url in tab.asked if not url.startswith((node.api.base + "/", "data:"))]
    assert (strangers, tab.complaints) == ([], [])
    assert len(tab.asked) > 5


async def test_somebody_signs_in_on_the_page_and_asks_who_they_are(node: Node, people: People, tab: Tab) -> None:
    person, page = await people.buyer(), await open_docs(node, tab)
    await page.click(".scheme-container .btn.authorize")
    form = page.locator(".auth-container", has=page.locator("#oauth_username"))
    await form.locator("#oauth_username").fill(person.email)
    await form.locator("#oauth_password").fill(PASSWORD)
    await form.locator("button.authorize").click()
    await expect(page.locator(".auth-btn-wrapper", has_text="Logout")).to_have_count(1)
    await page.click(".close-modal")

    operation = page.locator(".opblock-get", has=page.locator('[data-path="/auth/me"]'))
    await operation.locator(".opblock-summary-control").click()
    await operation.locator(".try-out__btn").click()
    await operation.locator(".execute").click()
    answer = operation.locator(".live-responses-table .response")
    await expect(answer.locator(".response-col_status")).to_have_text("200")
    await expect(answer).to_contain_text(person.email)
    assert tab.complaints == []
    assert await page.evaluate("document.documentElement.scrollWidth") == 390, "the page is wider than the phone"

    assert await page.evaluate("localStorage.length + sessionStorage.length") == 0
    assert await page.context.cookies() == []
    await page.reload()
    await page.click(".scheme-container .btn.authorize")
    await expect(page.locator("#oauth_username")).to_be_visible()
    await expect(page.locator(".auth-btn-wrapper", has_text="Logout")).to_have_count(0)


async def test_a_page_hears_a_live_event_by_the_sdk_the_server_hands_out(node: Node, people: People, tab: Tab) -> None:
    agent, buyer, page = await people.agent(), await people.buyer(), tab.page
    await page.goto(node.api.base + "/docs")  # any page of the server's origin
    await page.add_script_tag(url=assets.find(node.settings.server.assets).path("centrifuge", "centrifuge.js"))
    url = node.api.base.replace("http", "ws") + PATH
    assert await page.evaluate(CONNECT_SDK, [url, agent.token]) == "connected"
    enquiry = await people.enquire(buyer, await people.listing(agent))
    event = await asyncio.wait_for(page.evaluate("window.heard"), 10)
    assert (event["type"], event["data"]["lead_id"]) == ("lead.offered", enquiry["lead_id"])


async def test_a_foreign_page_gets_no_socket(node: Node, foreign: str, tab: Tab) -> None:
    await tab.page.goto(foreign)
    assert await tab.page.evaluate(OPEN_SOCKET, node.api.base.replace("http", "ws") + PATH) == "refused"
    assert any("403" in complaint for complaint in tab.complaints), tab.complaints


async def test_a_page_of_an_origin_in_the_settings_gets_one(settings: Settings, foreign: str, tab: Tab) -> None:
    server = settings.server.model_copy(update={"origins": (foreign,)})
    node = await Node.start(settings.model_copy(update={"server": server}))
    try:
        await tab.page.goto(foreign)
        assert await tab.page.evaluate(OPEN_SOCKET, node.api.base.replace("http", "ws") + PATH) == "open"
    finally:
        await node.stop()
