"""The page at / in a real browser and on a real installation: normal operation, outages, and accessibility."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hitcounter_devstack import ElasticsearchServer, RedisServer

from tests.integration.api.asking import track
from tests.support.browser import Browser, Screen, Tab
from tests.support.proxy import FaultyWire
from tests.support.stack import Api, Stack, wait_until

CONTRAST_AT_LEAST = 4.5
"""WCAG 2.2, level AA, for text."""
SCREENS = {
    "desktop": Screen(),
    "dark": Screen(is_dark=True),
    "phone": Screen(390, 844, 2.0, is_phone=True),
    "dark phone": Screen(320, 640, 2.0, is_dark=True, is_phone=True),
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


def look_up(tab: Tab, id_: str) -> None:
    tab.write("#id", id_)
    tab.press_enter()
    tab.wait_for(f"document.querySelector('#answer-id').textContent === {json.dumps(id_)}")


def wait_for_text(tab: Tab, selector: str, text: str, timeout_seconds: float = 15.0) -> None:
    tab.wait_for(f"document.querySelector({json.dumps(selector)}).innerText === {json.dumps(text)}", timeout_seconds)


# ── normal operation ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_hit_shows_within_3_seconds_of_its_post_and_nobody_else_is_asked(browser: Browser, api: Api) -> None:
    tab = browser.open(api.url)
    wait_for_text(tab, "#state-words", "live")
    look_up(tab, "page/1")
    wait_for_text(tab, window("5 minutes ago"), "0")
    accepted = int(tab.text("#accepted").replace(",", ""))
    posted = time.monotonic()
    assert track(api, "page/1").status == 204
    for reference in ("5 minutes ago", "3 days ago"):
        wait_for_text(tab, window(reference), "1", 3.0 - (time.monotonic() - posted))
    wait_for_text(tab, "#accepted", f"{accepted + 1:,}", 3.0 - (time.monotonic() - posted))
    tab.wait_for("document.querySelector('#bars').lastElementChild.height.baseVal.value > 0")
    assert tab.text("#accepted-spoken") == f"{accepted + 1:,}"
    assert tab.text("#verdict") == "✓ balanced"
    assert tab.complaints == []
    assert {url for url in tab.requests if not url.startswith((f"{api.url}/", "data:"))} == set()


@pytest.mark.parametrize(
    "id_", ["a/b?c=d&e#f", "100 %", "🙂", "<img src=x onerror=document.title='run'>", " ", "é\u0301"]
)
def test_any_id_can_be_looked_up_and_linked_to_and_is_never_markup(browser: Browser, api: Api, id_: str) -> None:
    assert track(api, id_).status == 204
    wait_until(lambda: api.counts(id_), lambda counts: counts["1 hour ago"] == 1)
    tab = browser.open(f"{api.url}/#id={quote(id_, safe='')}")
    wait_for_text(tab, window("1 hour ago"), "1")
    assert tab.evaluate("document.querySelector('#answer-id').textContent") == id_
    assert tab.evaluate("document.title") == "hitcounter"
    assert tab.complaints == []


@pytest.mark.parametrize("id_", ["..", "x" * 513], ids=["dots", "too long"])
def test_an_id_that_cannot_be_asked_for_is_explained(browser: Browser, api: Api, id_: str) -> None:
    tab = browser.open(api.url)
    look_up(tab, id_)
    tab.wait_for("!document.querySelector('#trouble').hidden")
    assert len(tab.text("#trouble")) > 20
    assert tab.text(window("1 hour ago")) == UNKNOWN


def test_the_chart_shows_the_last_hour_or_the_last_3_days(browser: Browser, api: Api) -> None:
    tab = browser.open(f"{api.url}/#id=warm")
    tab.wait_for("document.querySelectorAll('#bars rect').length === 60")
    tab.evaluate("document.querySelector('[name=step][value=hour]').click()")
    tab.wait_for("document.querySelectorAll('#bars rect').length === 72")
    assert tab.text("#chart-words") == "The last 3 days: 1 hits, at most 1 an hour"


# ── outages ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_called_zero_while_redis_is_away(
    browser: Browser, redis_server: RedisServer, tmp_path: Path
) -> None:
    with FaultyWire(redis_server.url) as wire, Stack(wire.url, "http://127.0.0.1:1", tmp_path) as stack:
        api = stack.api(PAGE)
        assert track(api).status == 204
        tab = browser.open(api.url)
        wait_for_text(tab, "#accepted", "1")
        wait_for_text(tab, "#state-words", "no indexer has counted yet")
        wire.refuse()
        tab.wait_for("document.querySelector('#state').dataset.mood === 'away'")
        assert "queue of hits is not available" in tab.text("#state-words")
        assert [tab.text(f"#{number}") for number in ("rate", "backlog", "fresh")] == [UNKNOWN] * 3
        assert tab.text("#accepted-words") == "hits accepted when last seen"
        wire.heal()
        wait_for_text(tab, "#backlog", "1")
        assert tab.text("#accepted-words") == "hit accepted"


def test_last_known_counts_are_marked_and_unknown_ones_missing_while_elasticsearch_is_away(
    browser: Browser, redis_server: RedisServer, elasticsearch_server: ElasticsearchServer, tmp_path: Path
) -> None:
    with FaultyWire(elasticsearch_server.url) as wire, Stack(redis_server.url, wire.url, tmp_path) as stack:
        stack.indexer()
        api = stack.api(PAGE)
        assert track(api, "known").status == 204
        tab = browser.open(f"{api.url}/#id=known")
        wait_for_text(tab, window("1 hour ago"), "1")
        wire.refuse()
        tab.wait_for("document.querySelector('#trouble').innerText.includes('last known counts')")
        assert tab.text(window("1 hour ago")) == "1"
        look_up(tab, "never asked")
        tab.wait_for("document.querySelector('#trouble').innerText.includes('not available')")
        assert tab.text(window("1 hour ago")) == UNKNOWN


def test_an_api_that_is_gone_is_said_to_be_gone(browser: Browser, redis_server: RedisServer, tmp_path: Path) -> None:
    with Stack(redis_server.url, "http://127.0.0.1:1", tmp_path) as stack:
        api = stack.api(PAGE)
        tab = browser.open(api.url)
        wait_for_text(tab, "#accepted", "0")
        api.service.kill()
        wait_for_text(tab, "#state-words", "The API does not answer.")
        assert tab.text("#rate") == UNKNOWN


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
def test_text_stands_out_and_nothing_sticks_out(browser: Browser, api: Api, screen: Screen) -> None:
    tab = browser.open(f"{api.url}/#id=warm", screen)
    wait_for_text(tab, window("1 hour ago"), "1")
    assert tab.evaluate(WEAK_TEXT.replace("AT_LEAST", str(CONTRAST_AT_LEAST))) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= screen.width


def test_everything_has_a_name_that_can_be_read_out(browser: Browser, api: Api) -> None:
    tab = browser.open(f"{api.url}/#id=warm")
    wait_for_text(tab, window("1 hour ago"), "1")
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    named = {
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
        and node["role"]["value"] in {"textbox", "searchbox", "button", "radio", "link", "image", "heading"}
    }
    assert {("textbox", "Look up an id"), ("button", "Look up"), ("radio", "last hour"), ("heading", "Ledger")} <= named
    assert not {role for role, name in named if not name.strip()}
    assert tab.evaluate("document.querySelectorAll('[role=status]').length") == 2


@pytest.mark.parametrize("screen", SCREENS.values(), ids=SCREENS)
def test_the_reference_is_readable_and_asks_nobody_else(browser: Browser, api: Api, screen: Screen) -> None:
    tab = browser.open(f"{api.url}/docs", screen)
    tab.wait_for("document.querySelector('h1') !== null")
    assert tab.evaluate("getComputedStyle(document.querySelector('section')).borderTopWidth") == "1px", "has its style"
    assert tab.evaluate(WEAK_TEXT.replace("AT_LEAST", str(CONTRAST_AT_LEAST))) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= screen.width
    assert tab.complaints == []
    assert {url for url in tab.requests if not url.startswith("data:")} == {f"{api.url}/docs"}
