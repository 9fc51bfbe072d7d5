"""The console in a real Chromium: no error, nothing from elsewhere, usable by keyboard, at 400 px, light and dark.

`make test-system` runs it with Debian's `chromium`. `CONSOLE_SHOTS` names a folder for screenshots.
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.system

playwright = pytest.importorskip("playwright.sync_api")
PAGES = ("/", "/console/policies", "/console/draft", "/console/blocks?pack=lettering&with=lettering")
PAGES += ("/console/reviews", "/console/now")
HELD = 'a red star with a sign that says "moron"'
HOSTILE = '<img src=x onerror="document.title=1"> a star with a sign that says "idiot"'


@pytest.fixture
def url(holding: Callable[..., Any]) -> Iterator[str]:
    """A real HTTP server of the app on a tiny host, whose rules steer, block and hold."""
    import uvicorn

    app = holding().app
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
    page, wrong = watched(browser, url, viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    for path in PAGES:
        page.goto(url + path)
        if path == "/":
            draw(page, 'a red star with a sign that says "idiot"')
        checked(page, width, f"{path.split('?')[0].strip('/').replace('/', '-') or 'playground'}-{width}-{scheme}")
    assert not wrong


def checked(page: Any, width: int, name: str) -> None:
    """The page has no serious finding and is not wider than the screen; it is shot under its name."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    serious = [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]
    assert not serious, (name, serious)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    shot(page, name)


def held(url: str, prompt: str) -> str:
    """The path at which the caller of a held request learns its outcome."""
    answer = httpx.post(f"{url}/v1/images/generations", json={"prompt": prompt, "seed": 5, "n": 2}, timeout=60)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_of_a_held_case_are_accessible_and_not_wider_than_the_screen(
    browser: Any, url: str, width: int, scheme: str
) -> None:
    page, wrong = watched(browser, url, viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    for prompt in (HELD, "an election poster with a zebra", HELD):
        held(url, prompt)
    page.goto(f"{url}/console/reviews?queue=signs")
    checked(page, width, f"reviews-{width}-{scheme}")
    page.click("a.main")
    page.get_by_role("button", name="Show picture 1 in clear").click()
    page.wait_for_selector(".clear:not([hidden])")
    checked(page, width, f"case-{width}-{scheme}")
    page.fill("#reason", "a sign")
    page.get_by_role("button", name="Release repaired").click()
    page.wait_for_selector("#outcome.good")
    checked(page, width, f"decided-{width}-{scheme}")
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


def test_a_held_request_is_looked_at_released_and_rejected_by_keyboard_alone(browser: Any, url: str) -> None:
    released, rejected = held(url, f"{HELD} {HOSTILE}"), held(url, HELD)
    page, wrong = watched(browser, url)
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url.removeprefix(url)) if "/pictures/" in r.url else None)

    def press(role: str, name: str) -> None:
        page.get_by_role(role, name=name, exact=True).focus()
        page.keyboard.press("Enter")

    def box(name: str) -> bytes:
        """What the picture of this name shows, as the browser drew it."""
        shown: bytes = page.get_by_role("img", name=name, exact=True).screenshot()
        return shown

    page.goto(f"{url}/console/reviews")
    assert asked == []
    press("link", "Open the oldest case")
    page.wait_for_url("**/review_*")
    page.wait_for_load_state("networkidle")
    page.wait_for_selector("[data-clear]:enabled")
    assert page.locator(".marked").text_content().strip() == f"{HELD} {HOSTILE}"
    assert page.title().startswith("Held case")
    assert len(asked) == 4, "two pictures, as drawn and repaired"
    assert not any("clear=true" in each for each in asked)
    blurred = box("repaired picture 2, blurred")
    press("button", "Show repaired picture 2 in clear")
    page.wait_for_selector(".clear:not([hidden])")
    assert asked[4:] == [f"/console{released.removeprefix('/v1')}/pictures/1?repaired=true&clear=true"]
    assert box("repaired picture 2") != blurred
    for state in ("detached", "attached"):
        page.keyboard.press("Enter")
        page.wait_for_selector("button[aria-pressed=true]", state=state)
    assert len(asked) == 5, "it is fetched once"

    press("button", "Release repaired")
    assert page.evaluate("document.activeElement.id") == "reason", "the reason is missing, and the browser says so"
    page.keyboard.type("it is satire")
    page.get_by_role("checkbox").focus()
    page.keyboard.press("Space")
    press("button", "Release repaired")
    page.wait_for_selector("#outcome.good")
    assert page.evaluate("document.activeElement.textContent") == "Next case"
    outcome = httpx.get(url + released).json()
    assert (outcome["status"], outcome["reason"]) == ("released", "it is satire")
    assert all(base64.b64decode(item["b64_json"]).startswith(b"\x89PNG") for item in outcome["answer"]["data"])
    assert outcome["answer"]["steering"]["how"] == "steered"

    page.keyboard.press("Enter")
    page.wait_for_selector("#reason")
    second = browser.new_page()
    second.goto(page.url)
    page.fill("#reason", "no")
    press("button", "Reject")
    page.wait_for_selector("#outcome.good")
    assert "No case waits." in page.inner_text("main")
    told = httpx.get(url + rejected).json()
    assert (told["status"], told["answer"], told["reason"]) == ("rejected", None, None)
    second.get_by_role("button", name="Show picture 1 in clear", exact=True).click()
    second.wait_for_selector("#state:not(:empty)")
    assert "rejected" in second.inner_text("#state")
    second.fill("#reason", "late")
    second.get_by_role("button", name="Reject", exact=True).click()
    second.wait_for_selector("#outcome.bad")
    assert second.inner_text("#outcome") == "the case is rejected already"
    assert not wrong
