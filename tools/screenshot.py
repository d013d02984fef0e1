"""Draw pic/search_app.png: the search page in a real browser, after a photograph was uploaded.

    uv run python tools/screenshot.py            then execute lesson 12, which shows the picture

Needs Chromium or Chrome, as `tests/test_app_browser.py` does. With --phone FILE a narrow screenshot is written, too.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from playwright.sync_api import sync_playwright  # noqa: E402
from test_app_browser import BROWSER, DATA, FLAGS, answers, message, photo_of, upload  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--phone", type=Path, help="write a screenshot of a narrow window here")
    chosen = parser.parse_args()
    command = [sys.executable, "-u", "-m", "helpers.app"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        address = next(filter(None, (re.search(r"http://\S+", line) for line in server.stdout)))[0]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
            page = browser.new_page(viewport={"width": 1100, "height": 800})
            page.goto(address)
            upload(page, photo_of(DATA.x_test[18]), "bag.jpg")
            message(page, "Searched with your picture")
            answers(page)
            page.wait_for_timeout(500)
            page.screenshot(path=ROOT / "pic/search_app.png")
            if chosen.phone:
                page.set_viewport_size({"width": 390, "height": 844})
                page.wait_for_timeout(500)
                page.screenshot(path=chosen.phone, full_page=True)
            browser.close()
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
