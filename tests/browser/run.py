#!/usr/bin/env python3
"""The page of `igpt-engine serve` in a real browser: `cargo xtask test --browser`.

    python3 tests/browser/run.py --program target/debug/igpt-engine [--browser chromium] [--screenshots docs/images/serve]

Needs Python 3.9 and a Chromium (Debian: apt-get install chromium), and nothing else. With --screenshots it also trains the first model
that `igpt-engine sample` offers (a minute), probes it, and writes the pictures of the guide.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import png
from devtools import Browser, Tab

SMALL = ["--layers", "2", "--width", "16", "--heads", "2", "--resolution", "8", "--batch", "4", "--eval-images", "8"]


class Server:
    """`igpt-engine serve` on a free port."""

    def __init__(self, program, checkpoint, folder="."):
        command = [program, "serve", "--port", "0", "--json", "--checkpoint", checkpoint]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        self.process = subprocess.Popen(command, cwd=folder, **pipes)
        self.url = json.loads(self.process.stdout.readline())["url"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        assert self.process.wait(20) == 0, "SIGTERM should end it in good order"


class Place:
    """What all tests share: the program, the browser, a folder, and models."""

    def __init__(self, program, browser, folder):
        self.program, self.browser, self.folder = program, browser, folder
        self.photo = folder / "photo.png"
        self.photo.write_bytes(png.rgb(96, 80, lambda x, y: (2 * x, 3 * y, (x * y) % 256)))
        self.ar = self.train("ar", "--steps", "30", "--sample-every", "15", "--eval-every", "10")
        self.bert = self.train("bert", "--steps", "20", "--objective", "bert")

    def engine(self, *words, folder="."):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([self.program, *words], check=True, cwd=folder, **quiet)

    def train(self, name, *flags):
        run = str(self.folder / name)
        self.engine("train", *SMALL, "--lr", "0.01", *flags, "--out", run)
        return run


def status(tab):
    return tab.run("document.getElementById('status').textContent")


def wait_for(tab, text):
    tab.until(f"document.getElementById('status').textContent.includes({json.dumps(text)})")


def complaints(tab):
    """What the browser found wrong: errors of scripts, breaches of the policy, failed requests."""
    thrown = [event["exceptionDetails"]["text"] for event in tab.drain("Runtime.exceptionThrown")]
    return thrown + [event["entry"]["text"] for event in tab.drain("Log.entryAdded") if event["entry"]["level"] == "error"]


def completion(tab, index):
    """The colours of a completion, row after row."""
    script = """(() => {
      const canvas = document.querySelectorAll("#completions canvas")[%d];
      const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      return Array.from({length: data.length / 4}, (_, at) => Array.from(data.slice(4 * at, 4 * at + 3)));
    })()"""
    return tab.run(script % index)


def set_value(tab, name, value):
    tab.run(f"document.getElementById({json.dumps(name)}).value = {json.dumps(str(value))}")


def loads_nothing_from_elsewhere(place):
    with Server(place.program, place.ar) as server:
        tab = Tab(place.browser)
        tab.open(server.url)
        asked = [event["request"]["url"] for event in tab.drain("Network.requestWillBeSent")]
        assert len(asked) >= 8 and all(url.startswith(server.url) for url in asked), asked
        assert complaints(tab) == []
        # The policy is at work: what it forbids does not happen.
        tab.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.broken = 1'}))")
        assert tab.run("window.broken") is None
        assert any("Content Security Policy" in text for text in complaints(tab))
        curves = tab.run("document.querySelectorAll('aside svg').length")
        samples = tab.run("[...document.querySelectorAll('.samples img')].map((i) => i.getAttribute('src'))")
        assert curves == 3 and samples == ["samples/30.png", "samples/15.png"], (curves, samples)
        tab.close()


def a_picture_is_completed_as_sample_completes_it(place):
    with Server(place.program, place.ar) as server:
        tab = Tab(place.browser)
        tab.open(server.url)
        tab.choose("#file", place.photo)
        wait_for(tab, "photo.png: ready")
        assert tab.run("document.getElementById('edge-value').textContent") == "4 of 8"
        for name, value in [("count", 3), ("seed", 11), ("temperature", 0.9), ("top-k", 40)]:
            set_value(tab, name, value)
        tab.click("#draw")
        wait_for(tab, "Done: 3 completions")

        # The same by the command line.
        tokens, grid = place.folder / "tokens.npy", place.folder / "grid.png"
        options = ["--sample-seed", "11", "--temperature", "0.9", "--top-k", "40", "--completions", "3"]
        outputs = ["--out", str(grid), "--tokens-out", str(tokens)]
        place.engine("sample", "--checkpoint", place.ar, str(place.photo), *options, *outputs)
        # uint16, behind a header; a SHA-256 follows.
        data = tokens.read_bytes()
        start = 10 + int.from_bytes(data[8:10], "little")
        expected = [int.from_bytes(data[start + 2 * at : start + 2 * at + 2], "little") for at in range(3 * 64)]
        palette = tab.run("fetch('model.json').then((r) => r.json()).then((m) => m.palette)")
        for index in range(3):
            assert completion(tab, index) == [palette[token] for token in expected[64 * index : 64 * index + 64]], index
        assert complaints(tab) == []
        tab.close()


def the_edge_is_dragged_and_moved_by_keys(place):
    with Server(place.program, place.ar) as server:
        tab = Tab(place.browser)
        tab.open(server.url)
        tab.drop("#drop", place.photo)
        wait_for(tab, "photo.png: ready")
        kept = lambda: tab.run("document.getElementById('edge-value').textContent")
        tab.drag("#picture", (0.5, 0.5), (0.5, 0.25))
        assert kept() == "2 of 8", kept()
        tab.drag("#picture", (0.5, 0.25), (0.5, 0.99))
        assert kept() == "7 of 8", "something is left to draw"
        tab.run("document.getElementById('edge').focus()")
        tab.key("ArrowLeft")
        assert kept() == "6 of 8", kept()
        tab.run("document.getElementById('picture').focus()")
        tab.key("ArrowUp")
        assert kept() == "5 of 8", kept()
        label = tab.run("document.getElementById('picture').getAttribute('aria-label')")
        assert "40 pixels are kept" in label, label
        tab.close()


def everything_works_by_keyboard_and_has_a_name(place):
    with Server(place.program, place.ar) as server:
        tab = Tab(place.browser)
        tab.open(server.url)
        visited = []
        for _ in range(5):
            tab.key("Tab")
            visited.append(tab.run("document.activeElement.id || document.activeElement.className"))
        assert visited == ["skip", "file", "example", "nothing", "picture"], visited
        # A test image, and a drawing, without a mouse.
        tab.run("document.getElementById('example').focus()")
        tab.key("Enter")
        wait_for(tab, "Test image 0: ready")
        tab.run("document.getElementById('seed').focus()")
        tab.key("Enter")
        wait_for(tab, "Done: 4 completions")
        assert tab.run("document.getElementById('status').getAttribute('aria-live')") == "polite"

        # What a screen reader is told.
        nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
        controls = {"button", "textbox", "spinbutton", "slider", "link", "image", "img", "progressbar", "radio"}
        value = lambda node, key: node.get(key, {}).get("value", "")
        found = [node for node in nodes if value(node, "role") in controls and not node.get("ignored")]
        nameless = [node for node in found if not value(node, "name").strip()]
        assert len(found) > 20 and not nameless, nameless
        names = [value(node, "name") for node in found]
        assert "Completion 4 of 4" in names and any(name.startswith("Kept") for name in names), names
        tab.close()


def pixels_appear_one_by_one_and_a_drawing_can_be_stopped(place):
    size = ["--resolution", "32", "--layers", "8", "--width", "128", "--heads", "4", "--sample-every", "0", "--eval-every", "0"]
    large = place.train("large", "--steps", "1", *size)
    with Server(place.program, large) as server:
        tab = Tab(place.browser)
        tab.open(server.url)
        tab.run("window.seen = []; setInterval(() => window.seen.push(document.getElementById('progress').value), 5)")
        tab.click("#nothing")
        set_value(tab, "count", 8)
        tab.click("#draw")
        wait_for(tab, "Done: 8 completions")
        between = {value for value in tab.run("window.seen") if 0 < value < 1}
        assert len(between) > 10, between

        set_value(tab, "count", 16)
        tab.click("#draw")
        tab.until("document.getElementById('progress').value > 0")
        tab.click("#stop")
        wait_for(tab, "Stopped.")
        # The device is free again at once.
        set_value(tab, "count", 1)
        tab.click("#draw")
        wait_for(tab, "Done: 1 completion in")
        assert complaints(tab) == []
        tab.close()


def completions_are_downloaded(place):
    downloads = place.folder / "downloads"
    downloads.mkdir()
    place.browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
    with Server(place.program, place.ar) as server:
        tab = Tab(place.browser)
        tab.open(server.url)
        tab.click("#example")
        wait_for(tab, "ready")
        tab.click("#draw")
        wait_for(tab, "Done")
        tab.until("document.querySelectorAll('#completions a').length === 4")
        shown = completion(tab, 1)
        tab.click("#completions li:nth-child(2) a")
        tab.click("#save")
        one, sheet = downloads / "completion-2-seed-0.png", downloads / "completions-seed-0.png"
        end = time.monotonic() + 20
        while not (one.exists() and sheet.exists()):
            assert time.monotonic() < end, list(downloads.iterdir())
            time.sleep(0.05)
        width, height, pixels = png.pixels(one.read_bytes())
        assert (width, height, [list(pixel) for pixel in pixels]) == (8, 8, shown)
        assert png.size(sheet.read_bytes()) == (2 * 72 + 8, 2 * 72 + 8)
        assert complaints(tab) == []
        tab.close()


def what_is_wrong_is_said(place):
    text = place.folder / "notes.txt"
    text.write_text("no picture")
    with Server(place.program, place.ar) as server:
        tab = Tab(place.browser)
        tab.open(server.url)
        tab.choose("#file", text)
        wait_for(tab, "none of JPEG")
        assert tab.run("document.getElementById('status').classList.contains('problem')")
        # The browser itself finds fault with a number, and nothing is asked for.
        set_value(tab, "count", 99)
        tab.click("#draw")
        assert tab.run("document.getElementById('count').matches(':invalid')")
        assert tab.run("document.querySelectorAll('#completions li').length") == 0
        set_value(tab, "count", 1)
    # And a server that has gone.
    tab.click("#draw")
    wait_for(tab, "Is igpt-engine still running?")
    tab.close()


def any_mask_of_a_bert_model_is_filled(place):
    with Server(place.program, place.bert) as server:
        tab = Tab(place.browser)
        tab.open(server.url)
        hidden = lambda: int(tab.run("document.getElementById('hidden-count').textContent"))
        assert tab.run("getComputedStyle(document.getElementById('edge').parentElement).display") == "none"
        tab.click("#example")
        wait_for(tab, "ready")
        assert hidden() == 32
        tab.click("[data-mask=none]")
        assert hidden() == 0
        tab.click("#draw")
        wait_for(tab, "hides nothing")

        # By mouse a row, by keys two pixels more.
        tab.drag("#picture", (0.05, 0.05), (0.95, 0.05))
        assert hidden() == 8, hidden()
        tab.run("document.getElementById('picture').focus()")
        for key in ["ArrowDown", " ", "ArrowDown", " "]:
            tab.key(key)
        assert hidden() == 10, hidden()
        before = tab.run("fetch('example.json?0').then((r) => r.json()).then((e) => e.tokens)")
        palette = tab.run("fetch('model.json').then((r) => r.json()).then((m) => m.palette)")
        tab.click("#draw")
        wait_for(tab, "Done: 4 completions")
        painted = set(range(8)) | {15, 23}
        for index in range(4):
            drawn = completion(tab, index)
            assert all(drawn[at] == palette[before[at]] for at in range(64) if at not in painted), index
        assert complaints(tab)[1:] == [], "one refusal was asked for"
        tab.close()


CONTRAST = """(() => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => numbers(text).slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (e) => {
    const colour = getComputedStyle(e).backgroundColor;
    return numbers(colour)[3] === 0 && e.parentElement ? ground(e.parentElement) : colour;
  };
  const worst = {};
  for (const e of document.querySelectorAll("h1, h2, p, small, label, button, a, summary, figcaption, td, th, code, li, legend")) {
    if (e.disabled || !e.getClientRects().length) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) worst[`${e.tagName} ${e.textContent.slice(0, 40)}`] = contrast;
  }
  return worst;
})()"""


def dark_phone_and_still(place):
    """In both schemes text stands out (WCAG AA: 4.5 to 1), nothing is wider than a phone, and nothing moves for who wants that."""
    place.engine("probe", "--checkpoint", place.ar, "--images", "40", "--iterations", "5")
    with Server(place.program, place.ar) as server:
        tab = Tab(place.browser)
        grounds = []
        for scheme in ["light", "dark"]:
            tab.media(prefers_color_scheme=scheme)
            tab.open(server.url)
            grounds.append(tab.run("getComputedStyle(document.body).backgroundColor"))
            assert tab.run(CONTRAST) == {}, (scheme, tab.run(CONTRAST))
        assert grounds == ["rgb(255, 255, 255)", "rgb(20, 23, 26)"], grounds

        for width in [390, 320]:
            tab.size(width, 800, phone=True)
            tab.open(server.url)
            tab.click("#example")
            wait_for(tab, "ready")
            tab.click("#draw")
            wait_for(tab, "Done")
            wide = tab.run("document.documentElement.scrollWidth")
            assert wide <= width, f"{wide} pixels in a window of {width}"
            small = "[...document.querySelectorAll('button')].filter((b) => b.offsetHeight && b.offsetHeight < 40).length"
            assert tab.run(small) == 0, "a thumb needs room"

        moving = "getComputedStyle(document.getElementById('drop')).transitionDuration"
        tab.media(prefers_reduced_motion="no-preference")
        assert tab.run(moving) != "0s"
        tab.media(prefers_reduced_motion="reduce")
        assert tab.run(moving) == "0s"
        tab.close()


TESTS = [
    loads_nothing_from_elsewhere,
    a_picture_is_completed_as_sample_completes_it,
    the_edge_is_dragged_and_moved_by_keys,
    everything_works_by_keyboard_and_has_a_name,
    pixels_appear_one_by_one_and_a_drawing_can_be_stopped,
    completions_are_downloaded,
    what_is_wrong_is_said,
    any_mask_of_a_bert_model_is_filled,
    dark_phone_and_still,
]


def screenshots(place, out):
    """Desktop, phone and dark, of the first model that the program offers, drawn by this very run."""
    out.mkdir(parents=True, exist_ok=True)
    run = "runs/first"
    for words in [
        ["train", "--steps", "300", "--out", run],
        ["probe", "--checkpoint", run, "--untrained", "--raw-pixels"],
    ]:
        place.engine(*words, folder=place.folder)
    with Server(place.program, run, place.folder) as server:
        for name, width, height, phone, scheme, images in [
            ("desktop", 1400, 900, False, "light", 1),
            ("phone", 390, 1750, True, "light", 5),
            ("dark", 1400, 900, False, "dark", 3),
        ]:
            tab = Tab(place.browser)
            tab.size(width, height, phone)
            tab.media(prefers_color_scheme=scheme)
            tab.open(server.url)
            for number in range(images):
                tab.click("#example")
                wait_for(tab, f"Test image {number}: ready")
            set_value(tab, "count", 8)
            set_value(tab, "seed", 1)
            tab.click("#draw")
            wait_for(tab, "Done")
            tab.run("document.activeElement.blur(), window.scrollTo(0, 0)")
            (out / f"{name}.png").write_bytes(png.with_palette(tab.screenshot()))
            tab.close()
    total = sum((out / f"{name}.png").stat().st_size for name in ["desktop", "phone", "dark"])
    print(f"screenshots in {out}: {total} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="igpt-engine")
    parser.add_argument("--browser", default="chromium", help="a Chromium")
    parser.add_argument("--screenshots", type=pathlib.Path, help="write the guide's pictures into this folder, and test nothing")
    parser.add_argument("filter", nargs="*", help="only tests whose names contain one of these")
    arguments = parser.parse_args()

    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(arguments.browser, f"{folder}/profile")
        try:
            place = Place(str(pathlib.Path(arguments.program).resolve()), browser, pathlib.Path(folder))
            if arguments.screenshots:
                screenshots(place, arguments.screenshots)
                return 0
            chosen = [test for test in TESTS if not arguments.filter or any(word in test.__name__ for word in arguments.filter)]
            assert chosen, f"no test is called {arguments.filter}"
            for test in chosen:
                began = time.monotonic()
                try:
                    test(place)
                    print(f"test {test.__name__} ... ok ({time.monotonic() - began:.1f} s)", flush=True)
                except Exception as error:  # Each test is told of, also after one has failed.
                    failed += 1
                    print(f"test {test.__name__} ... FAILED: {type(error).__name__}: {error}", flush=True)
        finally:
            browser.close()
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
