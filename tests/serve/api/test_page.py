"""The page at `/` in a real Chromium, spoken to through its DevTools pipe."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest

from serve.config import AccessSettings, Settings
from serve.engine.request import FinishReason

WAIT_SECONDS = 20.0
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
ON_3_AND_4 = """
import os, sys
inner, outer = (os.dup(os.dup(int(each))) for each in sys.argv[1:3])
os.dup2(inner, 3), os.dup2(outer, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""Where Chromium expects its pipes; a shell takes no file numbers above 9."""


class Browser:
    """Headless Chromium with one page; messages end with a zero byte on two inherited pipes."""

    def __init__(self, program: str, profile) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        flags = [*FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", ON_3_AND_4, str(theirs_in), str(theirs_out), program, *flags],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number = 0
        self._rest = b""
        self.problems: list[str] = []

    def start(self) -> None:
        targets = self.command("Target.getTargets")["targetInfos"]
        target = next(each["targetId"] for each in targets if each["type"] == "page")
        attached = self.command("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.page(f"{domain}.enable")

    def page(self, method: str, **params):
        return self.command(method, session=self._session, **params)

    def command(self, method: str, *, session: str | None = None, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._note(answer)

    def _read(self) -> dict:
        while b"\0" not in self._rest:
            assert select.select([self._in], [], [], WAIT_SECONDS)[0], "Chromium does not answer"
            got = os.read(self._in, 1 << 16)
            assert got, "Chromium has gone"
            self._rest += got
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event: dict) -> None:
        """Keep what a reader of the console would see: exceptions and refused loads."""
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(event["params"]["exceptionDetails"]))
        entry = event.get("params", {}).get("entry", {})
        if entry.get("level") == "error":
            self.problems.append(entry["text"])

    def run(self, script: str):
        """Return the value of an expression, awaited where it is a promise."""
        found = self.page(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str):
        """Wait in the page until an expression is true, and return its value."""
        value = self.run(
            "new Promise((resolve) => { const began = performance.now(); const look = () => {"
            f"const value = ({condition}); if (value || performance.now() - began > "
            f"{WAIT_SECONDS * 500}) resolve(value); else setTimeout(look, 10); }}; look(); }})"
        )
        assert value, f"never true: {condition}\n{self.run('document.body.innerText')}"
        return value

    def open(self, url: str) -> None:
        self.problems.clear()
        self.page("Page.navigate", url=url)
        self.wait(f"location.href.startsWith({url!r}) && document.readyState === 'complete'")

    def fill(self, field: str, text: str) -> None:
        self.run(f"document.getElementById({field!r}).value = {json.dumps(text)}")

    def click(self, button: str) -> None:
        self.run(f"document.getElementById({button!r}).click()")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._in)
        os.close(self._out)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium here")
    profile = tmp_path_factory.mktemp("profile")
    browser = Browser(program, profile)
    try:
        browser.start()
        yield browser
    finally:
        browser.close()
    deadline = time.monotonic() + 5
    while profile.exists() and time.monotonic() < deadline:
        shutil.rmtree(profile, ignore_errors=True)  # its children may still be dying


@pytest.fixture
def page(chromium, live):
    chromium.open(f"http://127.0.0.1:{live.port}/")
    chromium.wait("at('status').textContent === 'connected'")
    return chromium


def test_the_page_is_one_file_that_may_load_nothing_else(live):
    response = live.http.get("/")
    assert response.headers["content-type"].startswith("text/html")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in response.text
    assert "https://" not in response.text
    assert live.http.head("/").status_code == 200


def test_the_page_is_open_without_a_key_but_not_to_foreign_names(serving):
    live = serving(api_keys=["sesame"])
    assert live.http.get("/").status_code == 200
    assert live.http.get("/v1/models").status_code == 401
    assert live.http.get("/", headers={"Host": "evil.example"}).status_code == 403


def test_answers_stream_into_the_page_and_the_next_turn_knows_them(page, live):
    live.engine.script.pieces = ["See:\n```py", "thon\nx = 1\n", "```\nDone"]
    page.fill("message", "first?")
    page.click("send")
    page.wait("at('chat-note').textContent.includes('first token after')")
    assert page.run("at('turns').querySelector('pre').textContent") == "x = 1\n"
    assert "Done" in page.run("at('turns').innerText")
    page.fill("message", "second?")
    page.click("send")
    page.wait("turns.length === 4")
    prompt = live.engine.detokenize(live.engine.requests[-1].prompt_token_ids)
    assert "[user]first?" in prompt
    assert "[assistant]See:" in prompt
    assert prompt.endswith("[user]second?\n[assistant]")
    assert page.problems == []


def test_what_a_model_writes_is_text_never_markup(page, live):
    live.engine.script.pieces = ["<img src=x onerror=alert(1)>", "<script>bad()</script>"]
    page.fill("message", "?")
    page.click("send")
    page.wait("turns.length === 2")
    assert page.run("at('turns').querySelectorAll('img, script').length") == 0
    assert "<img src=x" in page.run("at('turns').innerText")


def test_stop_cancels_in_the_engine_and_keeps_what_came(page, live):
    live.engine.script.hang = True
    page.fill("message", "go on")
    page.click("send")
    page.wait("at('turns').innerText.includes('Hello')")
    live.engine.wait_for_running(1)
    page.click("stop")
    live.engine.wait_for_running(0)
    page.wait("turns.length === 2 && at('chat-note').textContent === 'stopped'")
    assert not page.run("at('send').disabled")


def test_a_failed_answer_is_said_and_the_question_is_not_lost(page, live):
    live.engine.script.pieces = []
    live.engine.script.reason, live.engine.script.error = FinishReason.ERROR, "out of luck"
    page.fill("message", "dear question")
    page.click("send")
    page.wait("at('chat-note').classList.contains('bad')")
    assert page.run("at('message').value") == "dear question"
    assert page.run("turns.length") == 0


def test_the_gap_at_the_cursor_is_filled_and_can_be_taken_back(page, live):
    live.engine.script.pieces = ["a +", " b"]
    page.fill("code", "return \nend")
    page.run("at('code').setSelectionRange(7, 7)")
    page.click("fill")
    page.wait("at('fim-note').textContent.includes('tok/s') && !at('fill').disabled")
    assert page.run("at('code').value") == "return a + b\nend"
    assert page.run("getSelection().toString() || at('code').value.slice(7, 12)") == "a + b"
    prompt = live.engine.detokenize(live.engine.requests[-1].prompt_token_ids)
    assert prompt == "<s><pre>return <suf>\nend<mid>"
    page.click("undo")
    assert page.run("at('code').value") == "return \nend"


def test_model_slots_and_load_are_shown(page):
    assert page.run("at('model').value") == "tiny-q4_0"
    assert "2,000 tokens here" in page.run("at('facts').innerText")
    assert "Nothing was measured" in page.run("at('unmeasured').textContent")
    assert page.wait("at('slots').rows.length") == 1
    assert page.run("[...at('slots').rows[0].cells].map((each) => each.textContent)")[1] == "decode"
    assert "0 running, 0 waiting" in page.run("at('load').textContent")


def test_every_figure_that_the_page_reads_is_published(live):
    names = re.findall(r'counter\(page, "(\w+)"\)', live.http.get("/").text)
    published = live.http.get("/metrics").text
    assert len(names) == 3
    assert [name for name in names if f"\n{name} " not in published] == []


def test_measurements_beside_the_file_become_a_table(chromium, serving, tmp_path):
    path = tmp_path / "tiny-q4_0.gguf"
    figures = {"file_bytes": 2_000_000, "perplexity": 3.25, "decode_tokens_per_second": 87.6}
    machine = {"id": "m", "cpu": "Slow & Old", "num_cores": 2}
    entry = {"file": path.name, "file_sha256": "0", "machine": machine, "figures": figures}
    (tmp_path / "measurements.json").write_text(
        json.dumps({"schema_version": 1, "measurements": [entry]})
    )
    live = serving(path=str(path))
    chromium.open(f"http://127.0.0.1:{live.port}/")
    chromium.wait("at('measured').tBodies[0].rows.length === 1")
    cells = chromium.run("[...at('measured').tBodies[0].rows[0].cells].map((c) => c.textContent)")
    assert cells == ["tiny-q4_0.gguf", "2", "-", "3.25", "-", "-", "87.6", "Slow & Old, 2 cores"]


def test_a_key_is_asked_for_until_it_is_right(chromium, serving):
    live = serving(Settings(access=AccessSettings()), api_keys=["sesame"])
    chromium.open(f"http://127.0.0.1:{live.port}/")
    for key in ("wrong", "sesame"):
        chromium.wait("at('key-dialog').open && !at('key').value")
        chromium.fill("key", key)
        chromium.run("at('key-form').requestSubmit()")
    chromium.wait("at('status').textContent === 'connected'")
    chromium.fill("message", "hello")
    chromium.click("send")
    chromium.wait("turns.length === 2")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_can_be_read_and_a_phone_needs_no_sideways_scrolling(page, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.page("Emulation.setEmulatedMedia", features=[feature])
    page.page(
        "Emulation.setDeviceMetricsOverride",
        width=360,
        height=700,
        deviceScaleFactor=1,
        mobile=True,
    )
    assert page.run("document.documentElement.scrollWidth") <= 360
    ratios = page.run(CONTRASTS)
    page.page("Emulation.clearDeviceMetricsOverride")
    assert len(ratios) > 10
    assert min(ratios) >= 4.5


def test_everything_that_can_be_used_has_a_name(page):
    tree = page.page("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "textbox", "combobox", "spinbutton", "log", "region"}
    usable = [node for node in tree if node.get("role", {}).get("value") in roles]
    assert len(usable) > 10
    assert [node for node in usable if not node.get("name", {}).get("value")] == []


CONTRASTS = """(() => {
  const channel = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map((v) => channel(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (node) => { for (; node; node = node.parentElement) {
    const c = getComputedStyle(node).backgroundColor;
    if (!c.startsWith("rgba(0, 0, 0, 0")) return c; } return "rgb(255,255,255)"; };
  return [...document.querySelectorAll("h1,h2,label,button:not(:disabled),p,dt,dd,th,td,textarea")]
    .filter((node) => node.offsetParent && (node.textContent || node.value))
    .map((node) => [light(getComputedStyle(node).color), light(behind(node))])
    .map(([a, b]) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
})()"""
