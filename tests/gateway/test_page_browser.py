"""The gateway's page in a real browser: thumbs that work, nothing executed, keyboard, narrow, light and dark."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]
HOSTILE = '<script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'">'


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    return page


def ask(page, url, first="ann", second="ben", prompt="an animal"):
    page.goto(f"{url}/playground")
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("One person").fill(first)
    page.get_by_label("Another").fill(second)
    page.get_by_role("button", name="Ask").click()
    page.wait_for_selector(".pick")


def picks(page):
    return page.locator(".pick").all_inner_texts()


def test_the_same_prompt_for_two_people_an_edit_and_the_pick_changes(serve, page):
    gateway = serve()
    ask(page, gateway.url)
    assert picks(page) == ["ann-word here", "ben-word here"]
    column = page.locator("section").filter(has=page.get_by_role("heading", name="ann"))
    column.get_by_text("edit", exact=True).click()
    column.get_by_label("What ann would have written").fill("blue fish")
    column.get_by_role("button", name="Keep the edit").click()
    page.wait_for_selector("text=another pick than before")
    assert picks(page) == ["blue fish", "ben-word here"]
    page.get_by_role("link", name="People and answers").click()
    page.wait_for_selector("text=wrote: blue fish")
    page.get_by_role("button", name="ben likes the shown answer").first.click()
    page.wait_for_selector("text=thumb: yes")
    assert page.problems == []


def test_a_candidate_that_is_a_script_is_text(serve, page):
    from support.gateways import writes

    gateway = serve(writes(HOSTILE, "plain"))
    ask(page, gateway.url, first=HOSTILE, prompt=HOSTILE)
    assert any(HOSTILE in text for text in page.locator("td .text").all_inner_texts())
    for path in ("/", f"/?like={HOSTILE}"):
        page.goto(gateway.url + path)
        assert "owned" not in page.title()
        assert page.locator("main img, main script").count() == 0
    assert page.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_and_readable_in_both_colours(serve, browser, scheme):
    gateway = serve()
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    ask(page, gateway.url)
    for path in (None, "/", "/?user=ann"):
        if path:
            page.goto(gateway.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        background, ink = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        light = [sum(int(part) for part in one[4:-1].split(",")) / 765 for one in (background, ink)]
        assert (light[0] > light[1]) == (scheme == "light")
        assert abs(light[0] - light[1]) > 0.6


def test_by_keyboard_alone(serve, page):
    gateway = serve()
    page.goto(f"{gateway.url}/playground")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.get_by_label("Prompt", exact=True).focus()
    page.keyboard.type("an animal")
    for text in ("ann", "ben"):
        while page.evaluate("document.activeElement.id") not in {"ann": "first", "ben": "second"}[text]:
            page.keyboard.press("Tab")
        page.keyboard.press("Control+A")
        page.keyboard.type(text)
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    page.wait_for_selector(".pick")
    assert picks(page) == ["ann-word here", "ben-word here"]
    names = page.locator("button, input:not([type=hidden]), textarea, summary, a").evaluate_all(
        "all => all.map(one => one.textContent || one.labels?.[0]?.textContent || one.ariaLabel || '')"
    )
    assert all(name.strip() for name in names)


def test_removal_asks_first(serve, page):
    gateway = serve()
    gateway.ask("ann")
    page.goto(f"{gateway.url}/?user=ann")
    page.get_by_text("Remove this person").click()
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Remove for good").click()
    assert gateway.http.get("/v1/users/ann").json()["answers"] == 1
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove for good").click()
    page.wait_for_selector("text=Removed 1 answers")
    assert gateway.http.get("/v1/users/ann").json()["answers"] == 0
