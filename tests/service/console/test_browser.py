"""The console in a real Chromium: no error, nothing from elsewhere, usable by keyboard, at 400 px, light and dark.

`make test-system` runs it with Debian's `chromium`. `CONSOLE_SHOTS` names a folder for screenshots.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

playwright = pytest.importorskip("playwright.sync_api")
PAGES = ("/", "/console/policies", "/console/draft", "/console/blocks?pack=lettering&with=lettering", "/console/now")
HOSTILE = '<img src=x onerror="document.title=1"> a star with a sign that says "idiot"'


@pytest.fixture
def url(serve: Callable[..., Any]) -> Iterator[str]:
    """A real HTTP server of the app on a tiny host."""
    import uvicorn

    app = serve().app
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    place = shutil.which("chromium")
    if place is None:
        pytest.skip("no `chromium` is installed")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=place, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def watched(browser: Any, url: str, **options: Any) -> tuple[Any, list[str]]:
    """A page, and what went wrong on it: console messages, exceptions, and requests to other hosts."""
    page = browser.new_page(**options)
    wrong: list[str] = []
    page.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: wrong.append(f"exception: {e}"))
    away = ("data:", "blob:", f"{url}/")
    page.on("request", lambda r: None if r.url.startswith(away) else wrong.append(f"off host: {r.url}"))
    return page, wrong


def shot(page: Any, name: str) -> None:
    if folder := os.environ.get("CONSOLE_SHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_page_is_whole_accessible_and_not_wider_than_the_screen(
    browser: Any, url: str, width: int, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page, wrong = watched(browser, url, viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    for path in PAGES:
        page.goto(url + path)
        if path == "/":
            draw(page, 'a red star with a sign that says "idiot"')
        found = Axe().run(page).response["violations"]
        serious = [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]
        assert not serious, (path, serious)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        shot(page, f"{path.split('?')[0].strip('/').replace('/', '-') or 'playground'}-{width}-{scheme}")
    assert not wrong


def draw(page: Any, prompt: str) -> None:
    page.fill("#prompt", prompt)
    page.click("#ask button")
    page.wait_for_selector("#above:not([hidden])", timeout=60_000)


def test_nothing_breaks_the_content_security_policy_and_hostile_prompts_stay_text(browser: Any, url: str) -> None:
    page, wrong = watched(browser, url)
    page.goto(url)
    draw(page, HOSTILE)
    assert page.locator("#explained mark").first.text_content() == "idiot"
    assert page.locator("#explained img").count() == 0
    assert page.title().startswith("Playground")
    for path in PAGES:
        page.goto(url + path)
    assert not wrong


def test_a_policy_is_mended_tried_compared_and_exported_by_keyboard_alone(browser: Any, url: str) -> None:
    page, wrong = watched(browser, url)
    page.goto(f"{url}/console/draft")
    page.wait_for_selector("#fields button")
    own = page.input_value("#text")
    page.fill("#text", own.replace("disclose: reason", "disclos: reason"))

    def press(name: str) -> None:
        button = page.get_by_role("button", name=name)
        button.focus()
        page.keyboard.press("Enter")

    press("Check")
    page.wait_for_selector("#checked button")
    assert "disclose" in page.inner_text("#checked")
    assert page.locator("#gutter .at").count() == 1
    page.locator("#checked button").first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "text"
    line = int(page.inner_text("#where").split()[1].rstrip(","))
    assert page.input_value("#text").split("\n")[line - 1].strip() == "disclos: reason"
    page.fill("#text", own.replace("[forbidden]", "[forbidden, zebra]"))
    press("Check")
    page.wait_for_selector("#checked .good")
    page.fill("#prompts", "a zebra\na lake")
    press("Explain under the draft")
    page.wait_for_selector("#tried .v-block")
    press("Compare with what is in use")
    page.wait_for_selector("#diffed li")
    press("Replay: in use against draft")
    page.wait_for_selector("#tried table")
    with page.expect_download() as waiting:
        press("Export")
    assert "zebra" in Path(waiting.value.path()).read_text()
    shot(page, "tour")
    assert not wrong


def test_tab_walks_from_the_skip_link_through_every_field_of_the_playground(browser: Any, url: str) -> None:
    page, _ = watched(browser, url)
    page.goto(url)
    seen = []
    for _ in range(14):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert seen[0] == "Skip to the page"
    order = [seen.index(name) for name in ("Policies", "prompt", "seed", "size", "steps", "compare", "Draw")]
    assert order == sorted(order)
