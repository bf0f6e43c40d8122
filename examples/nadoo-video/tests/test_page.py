"""The page, in a real browser: skipped where there is none and none can be installed."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if (
        path is None
        and os.environ.get("CI")
        and hasattr(os, "geteuid")
        and os.geteuid() == 0
        and shutil.which("apt-get")
    ):
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", "chromium"], check=False)
        path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no chromium here: apt install chromium")
    with playwright.sync_playwright() as started:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        with started.chromium.launch(executable_path=path, args=quiet) as running:
            yield running


@pytest.fixture(scope="module")
def address(generated):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "nadoo_video.command", "serve", "--model", str(generated), "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            assert server.poll() is None, server.stderr.read()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def page(browser, address):
    page = browser.new_page(viewport={"width": 1360, "height": 860})
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
    page.goto(address)
    page.wait_for_selector("body[data-ready=yes]")
    yield page
    page.close()


def test_a_plan_is_simulated_and_shown(page):
    page.select_option("#variants", "2")
    page.fill("#seconds", "3")
    page.click("#run")
    page.wait_for_selector("#films[data-done=yes]", timeout=120_000)
    page.wait_for_function("document.querySelector('#scrub').max === '11'")
    page.evaluate("document.querySelector('#scrub').value = 0; document.querySelector('#scrub').oninput()")
    assert page.locator(".film").count() == 2
    pixels = "[...document.querySelectorAll('.film canvas')].map(c => c.toDataURL())"
    first = page.evaluate(pixels)
    # Pictures that were shown to the model are the same on both sides.
    assert first[0] == first[1]
    page.evaluate("document.querySelector('#scrub').value = 11; document.querySelector('#scrub').oninput()")
    last = page.evaluate(pixels)
    assert last[0] != first[0] and last[0] != last[1]
    if folder := os.environ.get("NADOO_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / "page.png"))
    assert page.wrong == []


def test_the_slider_moves_the_memory(page):
    page.wait_for_function("document.querySelectorAll('.block').length >= 8")
    page.evaluate("const s = document.querySelector('#share'); s.value = 60; s.onchange()")
    page.wait_for_function("document.querySelector('#share-value').textContent.startsWith('60 %')")
    assert page.inner_text("#message") == ""
    page.evaluate("const s = document.querySelector('#share'); s.min = 1; s.value = 1; s.onchange()")
    page.wait_for_function("document.querySelector('#message').textContent.includes('least')")


def test_plans_are_edited_and_errors_told(page):
    steps = page.locator("#steps li")
    before = steps.count()
    page.click("#add button:has-text('slew')")
    page.click("#site", position={"x": 200, "y": 100})
    assert steps.count() == before + 2
    page.locator("#steps li button").last.click()
    assert steps.count() == before + 1
    page.locator("#steps li input").last.fill("99")
    page.locator("#steps li input").last.press("Tab")
    page.click("#run")
    page.wait_for_function("document.querySelector('#message').textContent.includes('got 99')")
    assert page.wrong == []
