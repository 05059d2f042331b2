// How soon things are on the screen: node bench.mjs, with BERTH_SITE, BERTH_LINK and BERTH_APP as in site.mjs, and
//   BERTH_URL    the app's own address: the sample `flask`
// It says `push` when it is ready for one, and reads the moment at which git ended (ms since 1970) from its input.
import http from "node:http";
import readline from "node:readline";
import { chromium } from "playwright-core";

const [site, link, app, url] = ["BERTH_SITE", "BERTH_LINK", "BERTH_APP", "BERTH_URL"].map((name) => process.env[name]);
const LINES = 40;
const middle = (all) => [...all].sort((a, b) => a - b);
const told = (what, all) => {
  const sorted = middle(all);
  console.log(`${what.padEnd(36)} median ${Math.round(sorted[sorted.length >> 1])} ms, worst ${Math.round(sorted.at(-1))} ms`);
};

/** The app writes a line for each entry. */
function write(text) {
  const to = new URL(url);
  const body = `text=${text}`;
  const headers = { host: to.host, "content-type": "application/x-www-form-urlencoded", "content-length": body.length };
  return new Promise((resolve, reject) => {
    const ask = http.request({ host: "127.0.0.1", port: to.port, method: "POST", path: "/entries", headers }, (answer) => {
      answer.resume();
      answer.on("end", resolve);
    });
    ask.on("error", reject);
    ask.end(body);
  });
}

const browser = await chromium.launch({
  executablePath: process.env.BERTH_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});
try {
  const page = await (await browser.newContext()).newPage();
  await page.goto(link);
  await page.click("main form button");
  await page.goto(`${site}/apps/${app}`);
  // When a text stood on the page for the first time, by the page's own clock, which is this machine's.
  await page.evaluate(() => {
    window.seen = new Map();
    window.waited = [];
    const look = () => {
      const text = document.querySelector("main").innerText;
      window.waited.filter((word) => text.includes(word)).forEach((word) => window.seen.has(word) || window.seen.set(word, Date.now()));
    };
    new MutationObserver(look).observe(document.querySelector("main"), { subtree: true, childList: true, characterData: true });
  });
  const seen = async (word) => {
    await page.waitForFunction((word) => window.seen.has(word), word, { timeout: 60_000, polling: 20 });
    return page.evaluate((word) => window.seen.get(word), word);
  };
  const times = [];
  for (let n = 0; n < LINES; n++) {
    const word = `entry ${n + 1} was written`;
    await page.evaluate((word) => window.waited.push(word), word);
    const asked = Date.now();
    await write(`line${n}`);
    times.push((await seen(word)) - asked);
  }
  told("a log line, request to screen", times.slice(1));

  const input = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const live = [];
  for (let n = 2; n < 5; n++) {
    const word = `v${n} serves`;
    await page.evaluate((word) => window.waited.push(word), word);
    console.log("push");
    const ended = Number((await input.next()).value);
    live.push((await seen(word)) - ended);
  }
  told("push done to live on screen", live);
} finally {
  await browser.close();
}
// Its input stays open.
process.exit(0);
