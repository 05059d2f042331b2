// A newcomer's first ten minutes, by what the pages say: node newcomer.mjs, with
//   BERTH_SITE   the site's URL
//   BERTH_KEY    their SSH key's public half
//   BERTH_URL    what their app's address will be
//   BERTH_SHOTS  where pictures go (without it, none are taken)
//   BERTH_CHROMIUM  the browser (default /usr/bin/chromium)
// It asks by lines on its output, and goes on when its input answers with one: `run WORDS` (what the page
// says to type, done in the folder with their code), `visit` (the app is asked for).
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import readline from "node:readline";
import { chromium } from "playwright-core";

const site = process.env.BERTH_SITE.replace(/\/$/, "");
const shots = process.env.BERTH_SHOTS;
const APP = "harbour-book";
const input = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const ask = async (line) => {
  console.log(line);
  return (await input.next()).value;
};

const browser = await chromium.launch({
  executablePath: process.env.BERTH_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});
try {
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 900 } })).newPage();
  page.setDefaultTimeout(20_000);
  const said = [];
  page.on("pageerror", (error) => said.push(error.message));
  page.on("console", (message) => said.push(`${message.text()} ${message.location().url}`));
  let step = 0;
  const shot = async (name) => {
    step += 1;
    if (!shots) return;
    mkdirSync(shots, { recursive: true });
    await page.screenshot({ path: `${shots}/newcomer-${step}-${name}.png`, fullPage: true });
  };

  await page.goto(site);
  await shot("landing");
  await page.getByRole("link", { name: "Create an account" }).first().click();
  await page.getByLabel("Name", { exact: true }).fill("Noor Newcomer");
  await page.getByLabel("E-mail", { exact: true }).fill("noor@localhost");
  await page.getByLabel("Password", { exact: true }).fill("four unrelated words");
  await page.locator("main").getByRole("button", { name: "Create account" }).click();
  await page.waitForLoadState();
  await shot("signed-up");
  if (page.url().includes("/signin")) {
    await page.getByLabel("E-mail", { exact: true }).fill("noor@localhost");
    await page.getByLabel("Password", { exact: true }).fill("four unrelated words");
    await page.locator("main").getByRole("button", { name: "Sign in" }).click();
    await page.waitForLoadState();
  }
  // What they see next leads to the first push.
  await page.getByRole("link", { name: "Apps", exact: true }).click();
  await page.getByRole("heading", { name: "Your first app, in three steps" }).waitFor();
  await shot("three-steps");
  await page.getByLabel("Public key").fill(process.env.BERTH_KEY);
  await page.getByRole("button", { name: "Add key" }).click();
  await page.getByLabel("Name", { exact: true }).fill(APP);
  await page.getByRole("button", { name: "Create app" }).click();
  await page.waitForURL(`${site}/apps/${APP}`);
  await shot("to-be-pushed");
  const lines = (await page.locator("pre.cmd").first().innerText()).split("\n").map((line) => line.trim()).filter(Boolean);
  assert.deepEqual(lines.map((line) => line.split(" ")[0]), ["git", "git"], `the page says what to type: ${lines}`);

  // The page is not loaded again: it shows the build, and then that it is up.
  const up = page.locator("main > header.head .state.running");
  for (const line of lines) assert.equal(await ask(`run ${line}`), "done", line);
  await up.waitFor();
  await shot("live");
  const address = await page.locator("main").getByRole("link", { name: new RegExp(APP) }).first().getAttribute("href");
  assert.equal(address.replace(/\/$/, ""), process.env.BERTH_URL);
  assert.equal(await ask("visit"), "200");

  // What it costs, and why.
  await page.reload();
  await page.locator("main").getByRole("link", { name: /why/ }).first().click();
  await page.waitForURL(/\/billing\/why/);
  await shot("why");
  await page.locator("header.top").getByRole("link", { name: /used in/ }).click();
  await page.waitForURL(`${site}/billing`);
  // Figures are a few seconds old at most.
  const listed = page.locator("main").getByRole("link", { name: APP });
  for (const deadline = Date.now() + 20_000; (await listed.count()) === 0; await page.reload()) assert.ok(Date.now() < deadline);
  await shot("billing");
  assert.deepEqual(said, [], "the browser had something to say");
  console.log("1 passed, 0 failed, 0 skipped");
} catch (error) {
  console.log(`not ok - a newcomer walks from sign-up over the first push to its cost\n${error.stack}`);
  console.log("0 passed, 1 failed, 0 skipped");
} finally {
  await browser.close();
}
process.exit(0);
