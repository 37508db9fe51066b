"""The page at / in a real browser and on a real installation: normal operation, outages, and accessibility."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer
from playwright.sync_api import Page, expect

from tests.integration.api.asking import track
from tests.integration.page.conftest import OpenTab
from tests.support.proxy import FaultyWire
from tests.support.stack import Api, Stack, wait_until

CONTRAST_AT_LEAST = 4.5
"""WCAG 2.2, level AA, for text."""
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True}
SMALL_PHONE = {**PHONE, "viewport": {"width": 320, "height": 640}}
SCREENS: dict[str, dict[str, Any]] = {
    "desktop": {},
    "dark": {"color_scheme": "dark"},
    "phone": PHONE,
    "dark phone": {**SMALL_PHONE, "color_scheme": "dark"},
}
ROLES = {"textbox", "searchbox", "button", "radio", "link", "image", "heading"}
UNKNOWN = "\N{EN DASH}"
PAGE = {"HITCOUNTER_HTTP__PAGE": "true"}


@pytest.fixture(scope="module")
def api(
    redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    with Stack(redis_server.url, elasticsearch_server.url, tmp_path_factory.mktemp("page")) as stack:
        stack.indexer()
        api = stack.api(PAGE)
        assert track(api, "warm").status == 204  # makes the indices, so that nobody waits for them later
        wait_until(lambda: api.counts("warm"), lambda counts: counts["1 hour ago"] == 1)
        yield api


def window(reference: str) -> str:
    return f'[data-window="{reference}"]'


def width_of(page: Page) -> int:
    """Return the width of the screen; `innerWidth` grows on a phone with what sticks out."""
    assert page.viewport_size is not None
    return page.viewport_size["width"]


def look_up(page: Page, id_: str) -> None:
    page.fill("#id", id_)
    page.press("#id", "Enter")
    expect(page.locator("#answer-id")).to_have_js_property("textContent", id_)


def wait_for_text(page: Page, selector: str, text: str) -> None:
    expect(page.locator(selector)).to_have_text(text, use_inner_text=True)


# ── normal operation ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_hit_shows_without_a_reload_and_nobody_else_is_asked(visit: OpenTab, api: Api) -> None:
    tab = visit(api.url)
    page = tab.page
    wait_for_text(page, "#state-words", "live")
    look_up(page, "page/1")
    wait_for_text(page, window("5 minutes ago"), "0")
    accepted = int(page.inner_text("#accepted").replace(",", ""))
    assert track(api, "page/1").status == 204
    for reference in ("5 minutes ago", "3 days ago"):
        wait_for_text(page, window(reference), "1")
    wait_for_text(page, "#accepted", f"{accepted + 1:,}")
    expect(page.locator('#bars rect:last-child:not([height="0"])')).to_be_attached()
    assert page.inner_text("#accepted-spoken") == f"{accepted + 1:,}"
    assert page.inner_text("#verdict") == "✓ balanced"
    assert tab.complaints == []
    assert {url for url in tab.requests if not url.startswith((f"{api.url}/", "data:"))} == set()


@pytest.mark.parametrize(
    "id_", ["a/b?c=d&e#f", "100 %", "🙂", "<img src=x onerror=document.title='run'>", " ", "é\u0301"]
)
def test_any_id_can_be_looked_up_and_linked_to_and_is_never_markup(visit: OpenTab, api: Api, id_: str) -> None:
    assert track(api, id_).status == 204
    wait_until(lambda: api.counts(id_), lambda counts: counts["1 hour ago"] == 1)
    tab = visit(f"{api.url}/#id={quote(id_, safe='')}")
    page = tab.page
    wait_for_text(page, window("1 hour ago"), "1")
    assert page.text_content("#answer-id") == id_
    assert page.title() == "hitcounter"
    assert tab.complaints == []


@pytest.mark.parametrize("id_", ["..", "x" * 513], ids=["dots", "too long"])
def test_an_id_that_cannot_be_asked_for_is_explained(visit: OpenTab, api: Api, id_: str) -> None:
    page = visit(api.url).page
    look_up(page, id_)
    expect(page.locator("#trouble")).to_be_visible()
    assert len(page.inner_text("#trouble")) > 20
    assert page.inner_text(window("1 hour ago")) == UNKNOWN


def test_the_chart_shows_the_last_hour_or_the_last_3_days(visit: OpenTab, api: Api) -> None:
    page = visit(f"{api.url}/#id=warm").page
    expect(page.locator("#bars rect")).to_have_count(60)
    page.locator("[name=step][value=hour]").check(force=True)
    expect(page.locator("#bars rect")).to_have_count(72)
    assert page.inner_text("#chart-words") == "The last 3 days: 1 hits, at most 1 an hour"


# ── outages ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_called_zero_while_redis_is_away(visit: OpenTab, redis_server: RedisServer, tmp_path: Path) -> None:
    with FaultyWire(redis_server.url) as wire, Stack(wire.url, "http://127.0.0.1:1", tmp_path) as stack:
        api = stack.api(PAGE)
        assert track(api).status == 204
        page = visit(api.url).page
        wait_for_text(page, "#accepted", "1")
        wait_for_text(page, "#state-words", "no indexer has counted yet")
        wire.refuse()
        expect(page.locator("#state")).to_have_attribute("data-mood", "away")
        assert "queue of hits is not available" in page.inner_text("#state-words")
        assert [page.inner_text(f"#{number}") for number in ("rate", "backlog", "fresh")] == [UNKNOWN] * 3
        assert page.inner_text("#accepted-words") == "hits accepted when last seen"
        wire.heal()
        wait_for_text(page, "#backlog", "1")
        assert page.inner_text("#accepted-words") == "hit accepted"


def test_last_known_counts_are_marked_and_unknown_ones_missing_while_elasticsearch_is_away(
    visit: OpenTab, redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, tmp_path: Path
) -> None:
    with FaultyWire(elasticsearch_server.url) as wire, Stack(redis_server.url, wire.url, tmp_path) as stack:
        stack.indexer()
        api = stack.api(PAGE)
        assert track(api, "known").status == 204
        page = visit(f"{api.url}/#id=known").page
        wait_for_text(page, window("1 hour ago"), "1")
        wire.refuse()
        expect(page.locator("#trouble")).to_contain_text("last known counts", use_inner_text=True)
        assert page.inner_text(window("1 hour ago")) == "1"
        look_up(page, "never asked")
        expect(page.locator("#trouble")).to_contain_text("not available", use_inner_text=True)
        assert page.inner_text(window("1 hour ago")) == UNKNOWN


def test_an_api_that_is_gone_is_said_to_be_gone(visit: OpenTab, redis_server: RedisServer, tmp_path: Path) -> None:
    with Stack(redis_server.url, "http://127.0.0.1:1", tmp_path) as stack:
        api = stack.api(PAGE)
        page = visit(api.url).page
        wait_for_text(page, "#accepted", "0")
        api.service.kill()
        wait_for_text(page, "#state-words", "The API does not answer.")
        assert page.inner_text("#rate") == UNKNOWN


# ── for everybody's eyes ─────────────────────────────────────────────────────────────────────────────────────────────

WEAK_TEXT = """
(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (channel) => (channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = channels(colour).map((channel) => linear(channel / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if ((channels(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const weak = [];
  for (const element of document.querySelectorAll("body *:not(script, style, svg *, .reels *)")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!hasText || !element.checkVisibility()) continue;
    const [one, other] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < AT_LEAST) weak.push(`${element.id || element.tagName}: ${contrast.toFixed(2)}`);
  }
  return weak;
})()
"""


@pytest.mark.parametrize("screen", SCREENS.values(), ids=SCREENS)
def test_text_stands_out_and_nothing_sticks_out(visit: OpenTab, api: Api, screen: dict[str, Any]) -> None:
    page = visit(f"{api.url}/#id=warm", screen).page
    wait_for_text(page, window("1 hour ago"), "1")
    assert page.evaluate(WEAK_TEXT.replace("AT_LEAST", str(CONTRAST_AT_LEAST))) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width_of(page)


def test_everything_has_a_name_that_can_be_read_out(visit: OpenTab, api: Api) -> None:
    page = visit(f"{api.url}/#id=warm").page
    wait_for_text(page, window("1 hour ago"), "1")
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    named = {
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in ROLES
    }
    assert {("textbox", "Look up an id"), ("button", "Look up"), ("radio", "last hour"), ("heading", "Ledger")} <= named
    assert not {role for role, name in named if not name.strip()}
    assert page.locator("[role=status]").count() == 2


@pytest.mark.parametrize("screen", SCREENS.values(), ids=SCREENS)
def test_the_reference_is_readable_and_asks_nobody_else(visit: OpenTab, api: Api, screen: dict[str, Any]) -> None:
    tab = visit(f"{api.url}/docs", screen)
    page = tab.page
    assert page.evaluate("getComputedStyle(document.querySelector('section')).borderTopWidth") == "1px", "has its style"
    assert page.evaluate(WEAK_TEXT.replace("AT_LEAST", str(CONTRAST_AT_LEAST))) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width_of(page)
    assert tab.complaints == []
    assert {url for url in tab.requests if not url.startswith("data:")} == {f"{api.url}/docs"}
