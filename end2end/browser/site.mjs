// The site in a real browser: node site.mjs, with
//   BERTH_SITE   the site's URL
//   BERTH_LINK   a one-time link of a user who has an app
//   BERTH_APP    that app's name
//   BERTH_BROKEN an app whose second deploy did not start
//   BERTH_OPERATOR  a one-time link of an operator
//   BERTH_SHOTS  where pictures go (without it, none are taken)
//   BERTH_CHROMIUM  the browser (default /usr/bin/chromium)
// It only looks and asks: it can run against any installation. Its last line counts.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const site = need("BERTH_SITE").replace(/\/$/, "");
const link = need("BERTH_LINK");
const app = need("BERTH_APP");
const broken = need("BERTH_BROKEN");
const operatorLink = need("BERTH_OPERATOR");
const shots = process.env.BERTH_SHOTS;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const wait = { timeout: 20_000 };
const month = new Date().toISOString().slice(0, 7);

function need(name) {
  const value = process.env[name];
  if (!value) {
    console.error(`${name} is not set`);
    process.exit(2);
  }
  return value;
}

const browser = await chromium.launch({
  executablePath: process.env.BERTH_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});
let [passed, failed] = [0, 0];

/** Everything that a page should never say. */
function listen(page, said) {
  page.on("pageerror", (error) => said.push(`error: ${error.message}`));
  page.on("console", (message) => {
    // An answer of 422 or 404 is meant where it is asked for; the browser reports it all the same.
    if (!/status of (422|404)/.test(message.text())) said.push(`${message.type()}: ${message.text()}`);
  });
}

async function test(name, options, body) {
  const said = [];
  const { as: _as, signedIn: _in, ...seen } = options;
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...seen });
  context.setDefaultTimeout(wait.timeout);
  context.on("page", (page) => listen(page, said));
  try {
    const as = options.as ?? (options.signedIn === false ? "nobody" : "user");
    if (as !== "nobody") await context.addCookies(cookies[as]);
    await body(await context.newPage(), context);
    assert.deepEqual(said, [], "the browser had something to say");
    passed += 1;
    console.log(`ok - ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`not ok - ${name}\n${error.stack}`);
  } finally {
    await context.close();
  }
}

/** Asks the app for a page, as a visitor; by address, since not every resolver knows *.localhost. */
function visit(url) {
  const { hostname, port, pathname } = new URL(url);
  const local = hostname.endsWith("localhost");
  return new Promise((done, lost) => {
    const host = port ? `${hostname}:${port}` : hostname;
    const request = http.get({ host: local ? "127.0.0.1" : hostname, port, path: pathname, headers: { host } }, (answer) => {
      answer.resume().on("end", () => done(answer.statusCode));
    });
    request.setTimeout(wait.timeout, () => request.destroy(new Error("no answer")));
    request.on("error", lost);
  });
}

const cookies = { user: [], operator: [] };
let customer = "/operator/customers/1";
const still = { javaScriptEnabled: false };

await test("without scripting a link signs in by its button, once", { ...still, signedIn: false }, async (page, context) => {
  await page.goto(link);
  assert.equal((await context.cookies()).length, 0, "looking at the link spends nothing");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(/\/apps/);
  cookies.user = await context.cookies();
  assert.ok(cookies.user.length > 0 && cookies.user.every((cookie) => cookie.httpOnly && cookie.sameSite === "Lax"));
});

await test("without scripting the operator finds a customer and changes their limits", { ...still, signedIn: false }, async (page, context) => {
  await page.goto(operatorLink);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("link", { name: "Operator" }).click();
  await page.waitForURL(/\/operator\/servers/);
  cookies.operator = await context.cookies();
  await page.getByRole("link", { name: "Customers" }).click();
  await page.locator("tbody th a").last().click();
  await page.waitForURL(/\/operator\/customers\/\d+$/);
  customer = new URL(page.url()).pathname;
  const apps = page.getByLabel("Apps", { exact: true });
  await apps.fill("some");
  await page.getByRole("button", { name: "Set limits" }).click();
  assert.equal(await apps.inputValue(), "some");
  assert.equal(await apps.getAttribute("aria-invalid"), "true");
  await apps.fill("12");
  await page.getByRole("button", { name: "Set limits" }).click();
  await page.locator("#activity", { hasText: "apps 12" }).waitFor(wait);
});

await test("without scripting every page is whole", still, async (page) => {
  await page.goto(`${site}/apps`);
  await page.getByRole("link", { name: app, exact: true }).click();
  await page.waitForURL(`${site}/apps/${app}`);
  assert.equal(await page.locator("h1").innerText(), app);
  assert.equal(await page.locator('noscript meta[http-equiv="refresh"], meta[http-equiv="refresh"]').count(), 1);
  assert.equal(await page.locator(".copied button:visible").count(), 0, "no button that does nothing");
  await page.locator(".rail a").last().click();
  await page.waitForURL(/\/deploys\/\d+$/);
  assert.ok((await page.locator(".steps li").count()) > 0);
  // Where in the whole, and how long: lengths that come from data are no styles.
  const bar = page.locator(".steps li").first().locator("rect").last();
  assert.match(await bar.getAttribute("width"), /^\d+(\.\d+)?%$/);
  await page.locator(".steps p", { hasText: /^Python: web; an image of / }).waitFor(wait);
  await page.locator(".steps p", { hasText: /^web\.1 on \S+ after [\d.]+ s$/ }).waitFor(wait);
  assert.equal(await page.locator("p.hint i").count(), 1, "the key that it was pushed with");
});

await test("without scripting a failed deploy says why, what to change, and what serves", still, async (page) => {
  await page.goto(`${site}/apps/${broken}/deploys/2`);
  assert.match(await page.getByRole("alert").innerText(), /listens only on 127\.0\.0\.1.*[\s\S]*v1 kept serving/);
  const change = await page.getByLabel("Suggested change to Procfile").innerText();
  assert.match(change, /^- web: exec python3 -m http.server 8000 --bind 127\.0\.0\.1\n\+ web: exec python3 -m http.server \$PORT --bind 0\.0\.0\.0/);
  assert.match(await page.locator("aside .steps .broke").innerText(), /Start.*[\s\S]*0 of 1 answered; 3 s allowed/);
  const text = await page.request.get(site + (await page.getByRole("link", { name: "As text" }).getAttribute("href")));
  assert.match(text.headers()["content-type"], /^text\/plain/);
  assert.match(await text.text(), /^\d{4}-\d\d-\d\dT\S+Z build /);
  await page.getByRole("link", { name: "All of it" }).click();
  await page.waitForURL(/\/logs\?since=/);
});

await test("without scripting a wrong name comes back with what was typed", still, async (page) => {
  await page.goto(`${site}/apps/new`);
  await page.getByLabel("Name", { exact: true }).fill("Not A Name");
  await page.getByRole("button", { name: "Create app" }).click();
  assert.equal(await page.getByLabel("Name", { exact: true }).inputValue(), "Not A Name");
  assert.equal(await page.locator("#name").getAttribute("aria-invalid"), "true");
  assert.equal(await page.getByRole("alert").count(), 1);
});

const phone = { viewport: { width: 390, height: 900 } };
await test("without scripting a token is made, shown once, lets a program in and is revoked", { ...still, ...phone }, async (page, context) => {
  const name = `browser test ${Date.now()}`;
  await page.goto(`${site}/account`);
  await page.getByLabel("What the token is for").fill(name);
  await page.getByLabel("What it may do").selectOption("Look only");
  await page.getByRole("button", { name: "Make token" }).click();
  const token = (await page.locator("#tokens .notice code").innerText()).trim();
  assert.match(token, /^berth_[A-Za-z0-9]{40}$/);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.ok(wide <= 0, `the page is ${wide} px too wide`);
  const ask = async (path, options) => {
    const answer = await fetch(`${site}/api/v1${path}`, { headers: { authorization: `Bearer ${token}` }, ...options });
    return [answer.status, answer.status === 204 ? null : await answer.json()];
  };
  const [, account] = await ask("/account");
  assert.deepEqual([account.token.name, account.token.scope], [name, "read"]);
  assert.equal((await ask(`/apps/${app}`))[1].name, app);
  assert.equal((await ask(`/apps/${app}/stop`, { method: "POST" }))[0], 403, "it only looks");
  // A followed log comes at once, through the balancer.
  const stop = new AbortController();
  const log = await fetch(`${site}/api/v1/apps/${app}/logs?follow=true&limit=1`, {
    headers: { authorization: `Bearer ${token}` },
    signal: stop.signal,
  });
  const { value } = await log.body.getReader().read();
  assert.ok(JSON.parse(new TextDecoder().decode(value).split("\n")[0]).cursor > 0);
  stop.abort();
  // The browser's cookie is nothing here.
  assert.equal((await context.request.get(`${site}/api/v1/account`)).status(), 401);
  await page.goto(`${site}/account`);
  assert.ok(!(await page.content()).includes(token), "it is shown once");
  await page.getByRole("button", { name: `Revoke ${name}` }).click();
  await page.waitForURL(/\/account#tokens$/);
  assert.equal((await ask("/account"))[0], 401);
});

await test("a line that the app prints arrives without loading the page again", {}, async (page) => {
  await page.goto(`${site}/apps/${app}`);
  await page.waitForFunction(() => document.documentElement.dataset.live === "yes", null, wait);
  await page.locator("#log .state.running", { hasText: "live" }).waitFor(wait);
  await page.evaluate(() => (window.same = true));
  const lines = page.locator('pre[data-log="lines"] > span');
  const before = await lines.count();
  const url = await page.locator(".where a").getAttribute("href");
  // A log of 500 lines does not grow any more: its last line then changes.
  const last = before ? await lines.last().innerText() : "";
  const deadline = Date.now() + wait.timeout;
  for (;;) {
    await visit(url);
    await page.waitForTimeout(300);
    const now = await lines.count();
    if (now && (now > before || (await lines.last().innerText()) !== last)) break;
    assert.ok(Date.now() < deadline, "no line came");
  }
  assert.equal(await page.evaluate(() => window.same), true, "it is the same page");
});

await test("a log is searched without scripting, and a wrong time comes back as it was typed", still, async (page) => {
  await page.goto(`${site}/apps/${app}/logs`);
  await page.getByLabel("Text").fill("no line says this");
  await page.getByRole("button", { name: "Show" }).click();
  await page.getByText("No line matches.").waitFor(wait);
  assert.equal(await page.getByLabel("Text").inputValue(), "no line says this");
  const file = await page.request.get(`${site}/apps/${app}/logs/download`);
  assert.match(file.headers()["content-disposition"], /^attachment; filename="/);
  assert.match(await file.text(), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S+ /);
  await page.goto(`${site}/apps/${app}/logs?since=yesterday`);
  assert.equal(await page.locator("#since").inputValue(), "yesterday");
  assert.equal(await page.locator("#since").getAttribute("aria-invalid"), "true");
});

await test("who reads further up keeps their place, and follows again by a button", {}, async (page) => {
  await page.goto(`${site}/apps/${app}/logs`);
  await page.locator("#log .state.running", { hasText: "live" }).waitFor(wait);
  const url = await page.locator(".where a").getAttribute("href");
  const pre = page.locator("pre.log");
  const scrolls = () => pre.evaluate((e) => e.scrollHeight > e.clientHeight + 200);
  for (const deadline = Date.now() + wait.timeout; !(await scrolls()); assert.ok(Date.now() < deadline)) await visit(url);
  await pre.evaluate((e) => e.scrollTo(0, 0));
  await page.waitForTimeout(100);
  const button = page.getByRole("button", { name: /follow again/ });
  for (const deadline = Date.now() + wait.timeout; !(await button.isVisible()); assert.ok(Date.now() < deadline)) await visit(url);
  assert.equal(await pre.evaluate((e) => e.scrollTop), 0);
  await button.click();
  await button.waitFor({ state: "hidden", ...wait });
  assert.ok(await pre.evaluate((e) => e.scrollTop + e.clientHeight >= e.scrollHeight - 24));
});

await test("a page that is not looked at holds no stream, and goes on where it was", {}, async (page) => {
  const first = page.waitForRequest(/\/events\?after=/, wait);
  await page.goto(`${site}/apps/${app}`);
  await first;
  await page.locator("#log .state.running", { hasText: "live" }).waitFor(wait);
  const show = (state) =>
    page.evaluate((state) => {
      Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
      document.dispatchEvent(new Event("visibilitychange"));
    }, state);
  const ended = page.waitForEvent("requestfailed", { predicate: (r) => /\/events/.test(r.url()), ...wait });
  await show("hidden");
  await ended;
  const again = page.waitForRequest(/\/events\?after=\d+\.\d+\.\d+$/, wait);
  await show("visible");
  await again;
});

await test("a command is copied by its button", { permissions: ["clipboard-read", "clipboard-write"] }, async (page) => {
  await page.goto(`${site}/apps/new`);
  const button = page.getByRole("button", { name: "Copy" });
  await button.click();
  await page.getByRole("button", { name: "Copied" }).waitFor(wait);
  const text = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(text, /^git remote add berth ssh:\/\/\S+\ngit push berth main$/);
});

await test("a graph's value is read by the pointer and by the keys, and its table says the same", {}, async (page) => {
  await page.goto(`${site}/apps/${app}/usage`);
  // The first sample comes within half a minute of the first start; the page's stream brings it.
  const plot = page.locator(".plot").first();
  await plot.waitFor({ timeout: 60_000 });
  const rows = await page.locator("figure").first().locator("tbody tr").count();
  assert.ok(rows >= 60, "a row a minute");
  const reader = plot.getByRole("slider");
  // The page lives.
  await reader.waitFor(wait);
  const box = await plot.locator("svg").boundingBox();
  await page.mouse.move(box.x + box.width - 1, box.y + box.height / 2);
  // A graph that came with the stream just now is read a moment later.
  await reader.getByText(/^\d\d:\d\d · 2xx \S+ · 3xx /).waitFor(wait);
  const read = await reader.innerText();
  const time = await page.locator("figure").first().locator("tbody tr").last().locator("th").textContent();
  assert.equal(read.split(" ")[0], time);
  await page.mouse.move(5, 5);
  assert.equal(await reader.innerText(), "");
  await reader.focus();
  await page.keyboard.press("Home");
  assert.equal(await reader.getAttribute("aria-valuenow"), "0");
  await page.keyboard.press("ArrowRight");
  const second = await page.locator("figure").first().locator("tbody tr").nth(1).locator("th").textContent();
  assert.equal((await reader.innerText()).split(" ")[0], second);
});

await test("without scripting a graph's numbers are its table", still, async (page) => {
  await page.goto(`${site}/apps/${app}/usage?range=1d`);
  await page.getByRole("link", { name: "30 days" }).click();
  await page.waitForURL(/range=30d/);
  assert.equal(await page.getByRole("link", { name: "30 days" }).getAttribute("aria-current"), "page");
  await page.goto(`${site}/apps/${app}/usage`);
  assert.equal(await page.getByRole("slider").count(), 0, "nothing to stand on that does nothing");
  await page.locator("summary").first().click();
  assert.ok(await page.locator("figure tbody tr").first().isVisible());
});

await test("an amount leads to its arithmetic, and to the readings as a file", still, async (page, context) => {
  await page.goto(`${site}/apps/${app}`);
  const shown = await page.locator(".vitals .cost a").innerText();
  await page.locator(".vitals .cost a").click();
  await page.waitForURL(/\/billing\/why\//);
  assert.match(await page.locator("h1").innerText(), /^Why [€<]/);
  assert.match(shown, /^<?€\d/);
  await page.getByRole("link", { name: /Memory of/ }).first().click();
  await page.waitForURL(/meter=memory/);
  assert.match(await page.locator(".sheet.cost").innerText(), /GiB-hours × €\S+ = €\d+\.\d{6}/);
  const href = await page.getByRole("link", { name: "Readings, CSV" }).getAttribute("href");
  const file = await context.request.get(site + href);
  assert.match(file.headers()["content-type"], /text\/csv/);
  assert.match(await file.text(), /^app,hour,life,read,value_before,value,used,price,for_each\n/);
});

await test("a price that is none is said beside its field, and what was typed is kept", { ...still, as: "operator" }, async (page) => {
  await page.goto(`${site}/operator/prices`);
  const price = page.locator("#cpu-price");
  await price.fill("0,036");
  await page.locator("#memory-price").fill("0.0061");
  await page.getByRole("button", { name: "Decide on these prices" }).click();
  assert.equal(await price.inputValue(), "0,036");
  assert.equal(await price.getAttribute("aria-invalid"), "true");
  assert.equal(await page.locator("#memory-price").inputValue(), "0.0061");
});

const pages = [
  ["landing", "/", "nobody"],
  ["signup", "/signup", "nobody"],
  ["signin", "/signin", "nobody"],
  ["reset", "/reset", "nobody"],
  ["confirm", "/confirm/x", "nobody"],
  ["apps", "/apps", "user"],
  ["new", "/apps/new", "user"],
  ["account", "/account", "user"],
  ["activity", "/account/activity", "user"],
  ["app", `/apps/${app}`, "user"],
  ["usage", `/apps/${app}/usage`, "user"],
  ["usage-day", `/apps/${app}/usage?range=1d`, "user"],
  ["usage-month", `/apps/${app}/usage?range=30d`, "user"],
  ["app-activity", `/apps/${app}/activity`, "user"],
  ["config", `/apps/${app}/config`, "user"],
  ["deploy", `/apps/${app}/deploys/1`, "user"],
  ["failed", `/apps/${broken}/deploys/2`, "user"],
  ["deploys", `/apps/${app}/deploys`, "user"],
  ["logs", `/apps/${app}/logs`, "user"],
  ["logs-older", `/apps/${app}/logs?text=e&before=50`, "user"],
  ["leave", "/account/delete", "user"],
  ["billing", "/billing", "user"],
  ["billing-empty", "/billing?month=2020-02", "user"],
  ["why", `/billing/why/${month}`, "user"],
  ["why-app", `/billing/why/${month}?app=${app}`, "user"],
  ["why-meter", `/billing/why/${month}?app=${app}&meter=memory`, "user"],
  ["absent", "/apps/nobodys-app", "user"],
  ["servers", "/operator/servers", "operator"],
  ["customers", "/operator/customers", "operator"],
  ["customer", () => customer, "operator"],
  ["decisions", "/operator/decisions", "operator"],
  ["mail", "/operator/mail", "operator"],
  ["prices", "/operator/prices", "operator"],
];
if (shots) mkdirSync(shots, { recursive: true });
for (const colorScheme of ["light", "dark"]) {
  for (const width of [1280, 390]) {
    for (const as of ["nobody", "user", "operator"]) {
      const name = `pages of ${as} fit ${width} px, ${colorScheme}, and are clean`;
      await test(name, { colorScheme, viewport: { width, height: 900 }, as }, async (page) => {
        for (const [what, path] of pages.filter((page) => page[2] === as)) {
          const missing = what === "absent";
          const answer = await page.goto(site + (typeof path === "string" ? path : path()));
          assert.equal(answer.status(), missing ? 404 : 200, what);
          await page.evaluate(() => document.fonts.ready);
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
          assert.ok(wide <= 0, `${what} is ${wide} px too wide`);
          await page.evaluate(axe);
          const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
          const told = found.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target).join(", ")}`);
          assert.deepEqual(told, [], `${what}: accessibility`);
          if (shots) await page.screenshot({ path: `${shots}/${what}-${width}-${colorScheme}.png`, fullPage: true });
        }
      });
    }
  }
}

await browser.close();
console.log(`${passed} passed, ${failed} failed, 0 skipped`);
process.exit(failed ? 1 : 0);
