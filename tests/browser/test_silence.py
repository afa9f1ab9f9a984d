"""What the other tests rely on: whatever a page says or asks for is noticed. The page itself does neither."""

from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.conftest import Open
from tests.browser.driving import Driven
from tests.browser.made import Made
from tests.support import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NOISY = """<!doctype html><img src="http://127.0.0.1:65000/picture.png"><link rel="stylesheet" href="style.css">
<script>
console.warn("a warning");
fetch("http://127.0.0.1:65000/fetched").catch(() => 0);
setTimeout(() => { alert("a dialog"); window.open("about:blank"); throw Error("an error"); });
</script>"""


def test_a_noisy_page_is_heard(browser: "Browser", tmp_path: Path) -> None:
    file = tmp_path / "noisy.html"
    file.write_text(NOISY)
    context = browser.new_context(offline=True)
    page = Driven(context.new_page(), file.as_uri())
    page.open(scripts=False)

    def all_heard() -> bool:
        page.page.wait_for_timeout(20)
        told = " ".join(page.heard)
        return all(word in told for word in ("a warning", "a dialog", "an error", "window: about:blank"))

    wait_until(all_heard, 10, "all that it says")
    for name in ("picture.png", "style.css", "fetched"):
        assert [url for url in page.foreign if url.endswith(name)], name
    context.close()


def test_the_page_asks_for_nothing_but_itself(opened: Open, sample: Made) -> None:
    page = opened(sample)
    for key in ("Tab", "Enter", "PageDown", "End"):
        page.page.keyboard.press(key)
    page.page.click("#theme")

    assert page.requests == [sample.url]
    assert page.heard == []


def test_what_would_run_in_the_page_is_refused(browser: "Browser", sample: Made) -> None:
    """The policy in its head holds even where all escaping has failed."""
    context = browser.new_context(offline=True)
    page = Driven(context.new_page(), sample.url)
    page.open()
    refused = page.page.evaluate("""async () => {
        const refused = [];
        addEventListener('securitypolicyviolation', event => refused.push(event.effectiveDirective));
        await fetch('http://127.0.0.1:65000/').catch(() => 0);
        const image = new Image();
        image.src = 'http://127.0.0.1:65000/x.png';
        image.setAttribute('onerror', 'window.hostile = 1');
        const script = document.createElement('script');
        script.textContent = 'window.hostile = 1';
        document.body.append(image, script);
        await new Promise(done => setTimeout(done, 300));
        return [[...new Set(refused)].sort(), window.hostile ?? 'nothing'];
    }""")

    assert refused == [["connect-src", "img-src", "script-src-attr", "script-src-elem"], "nothing"]
    context.close()
