"""Reads Temporal's web pages with a real browser, as an operator would: frames included, and with patience."""

import re
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from selenium import webdriver
from selenium.common.exceptions import (
    JavascriptException,
    NoSuchFrameException,
    StaleElementReferenceException,
)
from selenium.common.exceptions import TimeoutException as WaitExpired
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",
    "--window-size=1600,1200",
)
PATIENCES_S = (7.0, 15.0, 30.0, 60.0)
"""How long each visit of a page may take: at first a page is soon visited again, and a busy host has time at last."""
POLL_S = 0.2
# The pages draw themselves again whenever news arrives.
REDRAWN = (JavascriptException, NoSuchFrameException, StaleElementReferenceException)
# Quotes are typeset.
PLAIN_QUOTES = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
# What is displayed, in one round trip.
TEXT = "return document.body.innerText"
TABLES = """
const cells = (row) => Array.from(row.cells, (cell) => cell.innerText);
return Array.from(document.querySelectorAll("table"), (table) => Array.from(table.rows, cells));
"""

Found = TypeVar("Found")


class Browser:
    """One window, and the folder its screenshots go to."""

    def __init__(self, driver: webdriver.Chrome, screenshots: Path) -> None:
        self._driver = driver
        self._screenshots = screenshots

    def read(self, url: str, *wanted: str | re.Pattern[str], shot: str) -> str:
        """Return the text of a page as soon as all that is wanted can be read on it; keep a picture of it."""

        def look() -> str | None:
            text = self._text()
            found = all(word in text if isinstance(word, str) else word.search(text) for word in wanted)
            return text if found else None

        return self._see(url, look, f"page with {wanted}", shot)

    def read_table(self, url: str, *wanted: str, shot: str) -> list[list[str]]:
        """Return the cells, row by row, of the first table with all cells that are wanted, in whatever frame it is."""

        def look() -> list[list[str]] | None:
            tables = (rows for _ in self._frames() for rows in self._tables())
            return next((rows for rows in tables if set(wanted) <= {cell for row in rows for cell in row}), None)

        return self._see(url, look, f"table with {wanted}", shot)

    def find_link(self, url: str, part: str, shot: str) -> str:
        """Return the address of the first link on a page that has ``part`` in it."""

        def look() -> str | None:
            links = self._driver.find_elements(By.CSS_SELECTOR, f"a[href*='{part}']")
            return links[0].get_attribute("href") if links else None

        return self._see(url, look, f"link with {part}", shot)

    def _see(self, url: str, look: Callable[[], Found | None], what: str, shot: str) -> Found:
        """Visit the page, unless it is open, until ``look`` returns something; visit it again every few seconds."""
        for visit, patience_s in enumerate(PATIENCES_S):
            if self._driver.current_url != url or visit > 0:
                self._driver.get(url)
            try:
                found = WebDriverWait(self._driver, patience_s, POLL_S, REDRAWN).until(lambda _: look())
            except WaitExpired:
                continue
            finally:
                self._driver.switch_to.default_content()
                assert self._driver.save_screenshot(str(self._screenshots / f"{shot}.png"))
            assert found is not None, "what is falsy is waited for"
            return found
        raise AssertionError(f"no {what} at {url}, see {shot}.png in {self._screenshots}:\n{self._text()}")

    def _text(self) -> str:
        shown = [str(self._driver.execute_script(TEXT)) for _ in self._frames()]
        return "\n".join(shown).translate(PLAIN_QUOTES)

    def _tables(self) -> list[list[list[str]]]:
        found: list[list[list[str]]] = self._driver.execute_script(TABLES)
        return [[[" ".join(cell.split()) for cell in row] for row in rows] for rows in found]

    def _frames(self) -> Iterator[None]:
        """Enter the page itself and then each of its frames."""
        self._driver.switch_to.default_content()
        yield
        for frame in self._driver.find_elements(By.TAG_NAME, "iframe"):
            self._driver.switch_to.frame(frame)
            yield
            self._driver.switch_to.default_content()


class Pages:
    """Addresses of Temporal's web pages."""

    def __init__(self, ui: str, namespace: str) -> None:
        self.workflows = f"{ui}/namespaces/{namespace}/workflows"

    def of_run(self, workflow_id: str, run_id: str, tab: str) -> str:
        """Return a page of a run: timeline, user-metadata, search-attributes, pending-activities, relationships."""
        return f"{self.workflows}/{urllib.parse.quote(workflow_id, safe='')}/{run_id}/{tab}"


@contextmanager
def window(chromium: Path, chromedriver: Path, home: Path) -> Iterator[webdriver.Chrome]:
    """Open a browser that knows nothing of the user: profile and everything else is below ``home``."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(chromium)
    for flag in (*FLAGS, f"--user-data-dir={home / 'profile'}"):
        options.add_argument(flag)
    # The driver's path is given, so that none is looked for.
    service = webdriver.ChromeService(str(chromedriver), env={"HOME": str(home), "PATH": "/usr/bin:/bin"})
    driver = webdriver.Chrome(options, service)
    try:
        yield driver
    finally:
        driver.quit()
