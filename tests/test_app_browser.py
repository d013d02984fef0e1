"""The search page in a real browser: upload, draw, filter, click through, with the keyboard alone, on a phone.

The browser is Chromium or Chrome as installed on this machine; none is downloaded. Where there is none, these tests are
skipped, unless BROWSER_TESTS=required, as `.ci/run` sets it.
"""

import io
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from helpers.app import as_pixels, build_page, sample_queries, serve
from helpers.data import load

REQUIRED = os.environ.get("BROWSER_TESTS") == "required"
PLACES = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)  # fmt: skip
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
BROWSER = next(filter(None, map(shutil.which, PLACES)), None)

if not REQUIRED:
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: uv sync --group dev"
    )
    if BROWSER is None:
        pytest.skip("neither Chromium nor Chrome is installed", allow_module_level=True)

DATA = load("fashion_mnist")


@pytest.fixture(scope="module")
def address():
    """The page as the course serves it, with a small gallery, and without a network, so that it starts at once."""
    from helpers.app import SearchEngine

    images, labels = DATA.x_train[:2000], DATA.y_train[:2000]
    engine = SearchEngine(images, labels, DATA.class_names)
    engine.add("every second pixel", as_pixels(images[:, ::2, ::2]), lambda x: as_pixels(x[:, ::2, ::2]))
    engine.add("raw pixels", as_pixels(images), as_pixels)
    page = build_page(engine, *sample_queries(DATA))
    yield serve(page, prevent_thread_lock=True, inline=False)
    page.close(verbose=False)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from playwright.sync_api import sync_playwright

    assert BROWSER, "BROWSER_TESTS=required, but neither Chromium nor Chrome is installed"
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"), executable_path=BROWSER, headless=True, args=FLAGS,
            viewport={"width": 1200, "height": 900},
        )  # fmt: skip
        context.set_default_timeout(15_000)
        yield context
        context.close()


@pytest.fixture
def page(browser, address):
    page = browser.new_page()
    elsewhere, errors = [], []
    page.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or elsewhere.append(r.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.get_by_role("heading", name="Search with a picture").wait_for()
    yield page
    page.close()
    assert elsewhere == []  # the page needs nothing from anywhere else
    assert errors == []


def message(page, text):
    """Wait until the page says so."""
    page.locator("#message", has_text=re.compile(text)).wait_for()


def answers(page):
    """[(class, distance)] as a screen reader hears them."""
    page.locator("#answers button").nth(9).wait_for()
    names = [b.get_attribute("aria-label") for b in page.locator("#answers button").all()]
    found = [re.fullmatch(r"Answer \d+: (.+), distance ([\d.,]+)\. Search on from it\.", n) for n in names]
    return [(f[1], float(f[2].replace(",", ""))) for f in found]


def photo_of(image):
    """A test picture as a stranger's photograph: dark on light, off the centre."""
    large = Image.fromarray(255 - image[..., 0]).resize((300, 300))
    paper = Image.new("RGB", (700, 500), "white")
    paper.paste(large.convert("RGB"), (350, 60))
    buffer = io.BytesIO()
    paper.save(buffer, "JPEG")
    return buffer.getvalue()


def upload(page, content, name="photo.jpg"):
    remove = page.get_by_role("button", name=re.compile("remove|clear", re.I))
    if remove.count():
        remove.first.click()
        message(page, "Give a picture")
    page.locator("input[type=file]").first.set_input_files(
        {"name": name, "mimeType": "image/png", "buffer": content}
    )


def test_upload_filter_choose_and_click_through(page):
    boot = int(np.flatnonzero(DATA.y_test == 9)[0])
    upload(page, photo_of(DATA.x_test[boot]))
    message(page, "Searched with your picture")
    found = answers(page)
    assert len(found) == 10 and [d for _, d in found] == sorted(d for _, d in found)
    assert sum(name == "Ankle boot" for name, _ in found) >= 6
    assert page.locator("#steps figure").count() == 5

    page.get_by_role("checkbox", name="Sandal").check()
    message(page, "among Sandal")
    assert {name for name, _ in answers(page)} == {"Sandal"}
    page.get_by_role("checkbox", name="Bag").check()
    message(page, "among Sandal, Bag")
    assert {name for name, _ in answers(page)} <= {"Sandal", "Bag"}
    page.get_by_role("checkbox", name="Sandal").uncheck()
    page.get_by_role("checkbox", name="Bag").uncheck()
    message(page, "by raw pixels:")
    assert answers(page) == found

    page.get_by_role("radio", name="every second pixel").check()
    message(page, "by every second pixel")
    assert answers(page)[0][1] < found[0][1]

    clicked = page.locator("#answers button img").nth(4).get_attribute("src")
    page.locator("#answers button").nth(4).click()
    message(page, "Searched on from an answer")
    page.wait_for_function("src => document.querySelector('#steps img').src === src", arg=clicked)
    assert clicked not in [
        img.get_attribute("src") for img in page.locator("#answers img").all()
    ]  # not itself


def test_draw_with_the_mouse(page):
    page.get_by_role("tab", name="Draw").click()
    search = page.get_by_role("button", name="Search with the drawing")
    search.click()
    message(page, "The drawing is empty")
    box = page.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + 90, box["y"] + 30)
    page.mouse.down()
    for x, y in [(90, 250), (140, 60), (190, 250), (190, 40), (90, 40), (110, 120), (140, 30), (170, 200)]:
        page.mouse.move(box["x"] + x, box["y"] + y, steps=6)
    page.mouse.up()
    search.click()
    message(page, "Searched with your drawing")
    assert "Trouser" in [name for name, _ in answers(page)]
    page.get_by_role("button", name="Clear").click()
    search.click()
    message(page, "The drawing is empty")


def test_with_the_keyboard_alone(page):
    def tab_until(selector):
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"Tab never reaches {selector}")

    tab_until("[role=tab] + [role=tab]")  # Draw
    page.keyboard.press("Enter")
    page.locator("canvas").wait_for()
    tab_until("canvas")
    page.keyboard.press("Space")
    for key in ["ArrowUp"] * 9 + ["ArrowRight"] * 5 + ["ArrowDown"] * 18:
        page.keyboard.press(key)
    tab_until("button.search")
    page.keyboard.press("Enter")
    message(page, "Searched with your drawing")
    answers(page)
    tab_until("input[type=radio]")
    page.keyboard.press("Space")
    message(page, "by every second pixel")
    tab_until("#answers button")
    page.keyboard.press("Enter")
    message(page, "Searched on from an answer")
    page.wait_for_function("document.activeElement.closest('#answers') !== null")  # and the focus is not lost


def test_bad_input_gets_a_sentence_and_the_page_goes_on(page):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    square = Image.new("L", (90, 90), 250)
    square.paste(20, (30, 30, 60, 60))
    glass = Image.merge("LA", (square, square.point(lambda grey: 255 - grey)))  # the paper is transparent
    for name, content, said in (
        ("text.png", b"I am no picture", "not a picture that can be read"),
        ("bomb.png", photo_bytes(Image.new("1", (13_000, 13_000), 1)), "169 million pixels"),
        ("large.png", photo_bytes(square.resize((8700, 5800))), "Searched with your picture"),
        (
            "moving.gif",
            photo_bytes(square, "GIF", save_all=True, append_images=[Image.new("L", (90, 90))]),
            "first frame",
        ),
        ("glass.png", photo_bytes(glass), "Transparent parts are filled with white"),
        ("dot.png", photo_bytes(np.zeros((1, 1), np.uint8)), "one even surface"),
        ("cut.png", photo_bytes(noise)[:-900], "damaged"),
        ("photo.png", photo_of(DATA.x_test[0]), "Searched with your picture"),
    ):
        upload(page, content, name)
        message(page, said)
        answered = page.locator("#message", has_text="nearest pictures").count()
        assert (page.locator("#answers button").count() > 0) == answered


def photo_bytes(image, kind="PNG", **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_pick_on_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("tab", name="Pick").click()
    page.get_by_role("button", name="Search with this picture: Trouser").first.click()
    message(page, "Searched with a picture of: Trouser")
    assert sum(name == "Trouser" for name, _ in answers(page)) >= 8
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing to scroll sideways for
    page.wait_for_function(
        "document.querySelector('#answers button').getBoundingClientRect().top < innerHeight"
    )


NAMELESS = """() => {
  const label = e => e.labels && e.labels.length ? e.labels[0].innerText : e.getAttribute('aria-labelledby');
  const named = e => (e.getAttribute('aria-label') || e.innerText || label(e) || e.title || '').trim();
  return [...document.querySelectorAll('button, input, canvas, select, textarea, a[href]')]
    .filter(e => e.offsetParent !== null && !named(e)).map(e => e.outerHTML.slice(0, 120));
}"""

# WCAG's contrast of a text with the nearest background that is painted behind it.
FAINT = """() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const linear = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const ground = e => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0.5) return c;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const e of document.querySelectorAll('body *')) {
    if (e.offsetParent === null || ![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(ground(e))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push(`${contrast.toFixed(1)} ${e.innerText.slice(0, 60)}`);
  }
  return faint;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_alternative_texts_language_and_contrast(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.reload()
    for tab in ("Upload", "Draw", "Pick"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate(NAMELESS) == []
    page.get_by_role("button", name="Search with this picture: Bag").first.click()
    answers(page)
    assert page.evaluate("[...document.images].filter(i => !i.alt).map(i => i.outerHTML.slice(0, 99))") == []
    for group in ("Search by", "Only among these classes"):
        assert page.get_by_role("group", name=group).count() == 1
    assert page.evaluate("document.documentElement.lang").startswith("en")
    assert page.locator("[role=status][aria-live=polite]", has_text="picture of: Bag").count() == 1
    assert page.evaluate("document.querySelectorAll('h1').length") == 1
    assert page.evaluate(FAINT) == []


def test_nothing_left_to_search_gets_a_sentence_and_the_page_goes_on(browser):
    """A class without pictures, and the only picture of its class: no answers, no traceback, and on with others."""
    from helpers.app import SearchEngine

    bag, trousers = np.flatnonzero(DATA.y_train == 8)[:1], np.flatnonzero(DATA.y_train == 1)[:12]
    chosen = np.concatenate([bag, trousers])
    engine = SearchEngine(DATA.x_train[chosen], DATA.y_train[chosen], DATA.class_names)
    engine.add("raw pixels", as_pixels(DATA.x_train[chosen]), as_pixels)
    served = build_page(engine, *sample_queries(DATA))
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        page.goto(serve(served, prevent_thread_lock=True, inline=False))
        page.get_by_role("tab", name="Pick").click()
        page.get_by_role("button", name="Search with this picture: Trouser").first.click()
        message(page, "The 10 nearest pictures")
        page.get_by_role("checkbox", name="Sandal").check()
        message(page, "There is nothing to show: no other picture among Sandal")
        assert page.locator("#answers button").count() == 0
        page.get_by_role("checkbox", name="Sandal").uncheck()
        page.get_by_role("checkbox", name="Bag").check()
        page.locator("#answers button", has_text="Bag").wait_for()
        page.locator("#answers button").click()
        message(page, "Searched on from an answer: Bag. There is nothing to show: no other picture among Bag")
        assert page.locator("#answers button").count() == 0
        page.get_by_role("checkbox", name="Bag").uncheck()
        message(page, "The 10 nearest pictures")
        assert len(answers(page)) == 10
        assert page.get_by_text("Error").count() == 0 and errors == []
    finally:
        page.close()
        served.close(verbose=False)
