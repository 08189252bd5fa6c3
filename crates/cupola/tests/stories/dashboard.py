"""Drives the dashboard with Debian's Chromium: python dashboard.py PART PARAMETERS, where the parameters are JSON."""

import json
import os
import re
import subprocess
import sys

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

part, parameters = sys.argv[1], json.loads(sys.argv[2])
HOST, APP = parameters["host"], parameters["app"]
# One bound for everything that the page shows later.
BOUND = 60_000
# A time of a station. On a busy machine it takes seconds.
TIME = re.compile(r"\d (ms|s)$")
expect.set_options(timeout=BOUND)
problems = []


def context(browser, **options):
    options = {"viewport": {"width": 1440, "height": 900}, "ignore_https_errors": True} | options
    made = browser.new_context(**options)
    made.set_default_timeout(BOUND)
    return made


def reported(message):
    """Keeps an error of the console. The browser ends all requests when this machine gets a link for a container; the page connects again."""
    if "ERR_NETWORK_CHANGED" not in message.text:
        problems.append(message.text)


def sign_in(made):
    """Opens the dashboard, and enters name and password on the UAA's page."""
    page = made.new_page()
    page.on("console", lambda message: reported(message) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(parameters["url"])
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    accessible(page, "the page for signing in")
    page.get_by_label("User name").fill(parameters["user"])
    page.get_by_label("Password").fill(parameters["password"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("html[data-ready]")
    return page


def accessible(page, what):
    """Checks the page with axe."""
    found = Axe().run(page).response["violations"]
    serious = [v for v in found if v["impact"] in ("serious", "critical")]
    assert not serious, f"{what}: {json.dumps(serious, indent=1)[:3000]}"


def picture(page, name, **options):
    """Writes a screenshot for the documentation, if somebody asked for it."""
    if parameters.get("images"):
        os.makedirs(parameters["images"], exist_ok=True)
        page.screenshot(path=os.path.join(parameters["images"], f"{name}.png"), **options)


def row(page, name):
    return page.locator(".changes li", has=page.get_by_role("button", name=name, exact=True)).first


def push(browser):
    page = sign_in(context(browser))
    environment = os.environ | {"CF_HOME": parameters["home"]}
    pushing = subprocess.Popen(
        parameters["command"], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    # The train runs while the push is on its way.
    page.wait_for_selector(".train", state="attached")
    output = pushing.communicate(timeout=120)[0]
    assert pushing.returncode == 0, output
    expect(row(page, APP).locator(".result.live")).to_contain_text(re.compile(r"live on \d+/\d+ routers after .+ m?s"))
    row(page, APP).get_by_role("button", name=APP, exact=True).click()
    for station in ["bbs", "auctioneer", "cell", "container", "envoy", "dnat", "route-emitter", "nats", "router"]:
        expect(page.locator(f"[data-station={station}] .stop.one.passed")).to_have_count(1)
        expect(page.locator(f"[data-station={station}] .when")).to_contain_text(TIME)
    steps = page.locator("#focus .steps tbody tr")
    assert steps.count() >= 9, steps.all_inner_texts()
    expect(page.locator("#focus")).to_contain_text("admin: audit.app")
    page.get_by_role("button", name="Replay slowly").click()
    page.wait_for_selector(".train", state="attached")
    accessible(page, "a change in the picture")
    picture(page, "picture-light")
    page.emulate_media(color_scheme="dark")
    accessible(page, "the picture in dark colours")
    picture(page, "picture-dark")
    modules(page)
    tables(page)
    phone(browser, page)


def modules(page):
    """Checks the pure functions of the page's modules in the browser itself."""
    for expression, wanted in [
        ("(await import('/assets/format.js')).ms(0.4213)", "0.42 ms"),
        ("(await import('/assets/format.js')).ms(4123)", "4.1 s"),
        ("(await import('/assets/format.js')).ago(89)", "89 s ago"),
        ("(await import('/assets/table.js')).visible(0, 440, 10000)", {"first": 0, "last": 16}),
        ("(await import('/assets/table.js')).visible(440000, 440, 10000)", {"first": 9994, "last": 10000}),
        ("(await import('/assets/stations.js')).stationOf('iptables')", "dnat"),
        ("(await import('/assets/stations.js')).stationOf('nothing')", None),
        (
            "[...(await import('/assets/stations.js')).explained({guilty: 1, hops: [{component: 'bbs', verdict: 'right'},"
            " {component: 'iptables', verdict: 'wrong'}, {component: 'router', verdict: 'right'}]})].map(([id, s]) => [id, s.closed, s.behind])",
            [["bbs", False, False], ["dnat", True, False], ["router", False, True]],
        ),
        (
            "(await import('/assets/stations.js')).bar({steps: [{station: 'bbs', after_ms: 0}, {station: 'nats', after_ms: 3},"
            " {station: 'router', after_ms: 4}]}).map((p) => [p.station, p.share])",
            [["nats", 0.75], ["router", 0.25]],
        ),
        ("(await import('/assets/history.js')).density([0, 1, 1, 9], 0, 10, 2)", [1, 1 / 3]),
        ("(await import('/assets/commands.js')).ofRoute({uri: \"a'b.test\", apps: [], endpoints: []})[0][1]", "cupola why 'a'\\''b.test'"),
        (
            "Math.round((await import('/assets/route.js')).preciseOffset(Date.parse('2026-11-30T10:00:00.005Z'), '2026-11-30T10:00:00.002500000Z') * 10)",
            25,
        ),
    ]:
        found = page.evaluate(f"async () => ({expression})")
        assert found == wanted, f"{expression}: {found!r}, not {wanted!r}"


def tables(page):
    """Looks at the tables, with ten thousand routes, by the keyboard."""
    page.emulate_media(color_scheme="light")
    for name in ["Routes", "Instances", "Cells", "Routers"]:
        page.get_by_role("link", name=name, exact=True).click()
        expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
        page.wait_for_selector(".grid-body .grid-row")
        accessible(page, f"the page {name}")
    page.get_by_role("link", name="Routes", exact=True).click()
    page.get_by_label("Filter").fill(HOST)
    expect(page.locator(".grid-body .grid-row").first).to_contain_text(HOST)
    expect(page.locator(".grid-body .grid-row").first).to_contain_text("live")
    page.locator(".grid-body .grid-row").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".commands")).to_contain_text(f"cupola why {HOST}")
    page.get_by_role("link", name="History", exact=True).click()
    expect(page.locator("#page .steps")).to_contain_text(HOST)
    accessible(page, "the history")
    # Ten thousand routes, which the server would send in pages.
    def many(route):
        asked = dict(pair.split("=") for pair in route.request.url.split("?")[1].split("&"))
        offset, limit = int(asked["offset"]), int(asked["limit"])
        rows = [
            {"uri": f"app-{n:05}.test", "state": "live", "reason": "", "apps": [], "wanted": 1, "running": 1, "generation": n, "routers": 1,
             "routers_known": 1, "endpoints": [], "component": ""}
            for n in range(offset, min(offset + limit, 10_000))
        ]
        route.fulfill(json={"total": 10_000, "offset": offset, "rows": rows})

    page.route("**/api/v1/routes?*", many)
    page.get_by_role("link", name="Routes", exact=True).click()
    expect(page.locator(".page-head")).to_contain_text("10,000 rows")
    page.locator(".grid-body .grid-row").first.focus()
    page.keyboard.press("End")
    expect(page.locator(".grid-row:focus")).to_contain_text("app-09999.test")
    page.keyboard.press("Home")
    expect(page.locator(".grid-row:focus")).to_contain_text("app-00000.test")
    count = page.locator(".grid-body .grid-row").count()
    assert count < 100, f"{count} rows are in the document"
    page.unroute("**/api/v1/routes?*")
    page.keyboard.press("/")
    page.keyboard.type(APP)
    expect(page.get_by_role("option").first).to_contain_text(HOST)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=HOST)).to_be_visible()


def phone(browser, signed_in):
    """Looks at the picture on a phone, where the lines run from top to bottom."""
    state = signed_in.context.storage_state()
    made = context(browser, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, storage_state=state)
    page = made.new_page()
    page.goto(parameters["url"])
    page.wait_for_selector("html[data-ready]")
    row(page, APP).get_by_role("button", name=APP, exact=True).click()
    first, last = (page.locator(f"[data-station={id}] .name").bounding_box() for id in ("bbs", "router"))
    assert first["y"] + 200 < last["y"] and abs(first["x"] - last["x"]) < 5, (first, last)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390, f"the page is {width} pixels wide"
    accessible(page, "the picture on a phone")
    picture(page, "phone")


def broken(browser):
    page = sign_in(context(browser))
    page.goto(f"{parameters['url']}#/route/{HOST}")
    page.wait_for_selector("[data-station=dnat].closed")
    expect(page.locator("[data-station=dnat] .reason")).to_contain_text("192.0.2.1")
    expect(page.locator("[data-station=router]")).to_have_class(re.compile("behind"))
    page.locator("[data-station=dnat] button.why").click()
    expect(page.locator("#focus .steps tr.fault")).to_contain_text("iptables DNAT")
    accessible(page, "a broken route")
    picture(page, "broken-light")
    page.emulate_media(color_scheme="dark")
    accessible(page, "a broken route in dark colours")
    picture(page, "broken-dark")


def repaired(browser):
    page = sign_in(context(browser))
    page.goto(f"{parameters['url']}#/route/{HOST}")
    # The rule was removed a moment ago, and connections may remember it.
    deadline = BOUND // 1000
    for _ in range(deadline):
        page.get_by_role("button", name="Why", exact=True).first.click()
        try:
            expect(page.locator("#focus")).to_contain_text("The route is right.", timeout=1000)
            break
        except AssertionError:
            continue
    expect(page.locator(".stations .closed")).to_have_count(0)
    page.get_by_role("button", name="Follow a request").click()
    expect(page.locator(".request tbody tr").first).to_contain_text("200")
    expect(page.locator("[data-station=client] .when.two")).to_contain_text(TIME)
    expect(page.locator("[data-station=dnat] .stop.two.passed")).to_have_count(1)
    picture(page, "request-light")
    page.get_by_label("Learn mode").check()
    expect(page.locator(".learned")).to_have_count(12)
    accessible(page, "a followed request, and learn mode")


def developer(browser):
    page = sign_in(context(browser))
    expect(page.locator("#sentence")).to_contain_text("No route yet")
    expect(page.locator("#changes")).not_to_contain_text(HOST)
    expect(page.get_by_role("link", name="Cells", exact=True)).to_be_hidden()
    expect(page.get_by_role("link", name="History", exact=True)).to_be_hidden()
    page.get_by_role("link", name="Routes", exact=True).click()
    expect(page.locator(".page-head")).to_contain_text("0 rows")
    status = page.evaluate("fetch('/api/v1/cells').then((response) => response.status)")
    assert status == 403, status
    # The browser reports the refusal that the script asked for.
    problems[:] = [problem for problem in problems if "403" not in problem]
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    accessible(page, "the page after signing out")


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
        executable_path="/usr/bin/chromium",
        # All names of the foundation are on this machine. Chromium's sandbox refuses root.
        args=["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * 127.0.0.1"],
    )
    {"push": push, "broken": broken, "repaired": repaired, "developer": developer}[part](browser)
    browser.close()
assert not problems, f"the browser's console has errors: {problems}"
print("ok")
