// What Lighthouse says of each kind of page, as on a phone: node lighthouse.mjs, with
//   BERTH_SITE   the site's URL
//   BERTH_LINK   a one-time link of a user who has an app
//   BERTH_APP    that app's name
//   BERTH_OPERATOR  a one-time link of an operator
//   BERTH_CHROMIUM  the browser (default /usr/bin/chromium)
// Performance depends on the machine and is only told; whoever cannot use a page, or what its console says, is a failure.
import lighthouse from "lighthouse";
import { chromium } from "playwright-core";

const [site, link, app, operatorLink] = ["BERTH_SITE", "BERTH_LINK", "BERTH_APP", "BERTH_OPERATOR"].map((name) => process.env[name]);
const month = new Date().toISOString().slice(0, 7);
const GOALS = { performance: 95, accessibility: 100, "best-practices": 100, seo: 100 };
const pages = [
  ["/", "nobody"],
  ["/signup", "nobody"],
  ["/signin", "nobody"],
  ["/reset", "nobody"],
  ["/apps", "user"],
  ["/apps/new", "user"],
  [`/apps/${app}`, "user"],
  [`/apps/${app}/deploys`, "user"],
  [`/apps/${app}/deploys/1`, "user"],
  [`/apps/${app}/logs`, "user"],
  [`/apps/${app}/usage?range=1h`, "user"],
  [`/apps/${app}/usage?range=30d`, "user"],
  [`/apps/${app}/config`, "user"],
  ["/billing", "user"],
  [`/billing/why/${month}?app=${app}&meter=memory`, "user"],
  ["/account", "user"],
  ["/account/activity", "user"],
  ["/operator/servers", "operator"],
  ["/operator/customers", "operator"],
  ["/operator/decisions", "operator"],
  ["/operator/mail", "operator"],
  ["/operator/prices", "operator"],
];

const port = 9222 + (process.pid % 20_000);
const browser = await chromium.launch({
  executablePath: process.env.BERTH_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", `--remote-debugging-port=${port}`],
});
let failed = 0;
try {
  const cookies = { nobody: "" };
  for (const [as, once] of [["user", link], ["operator", operatorLink]]) {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(once);
    await page.click("main form button");
    await page.waitForURL((url) => !url.pathname.startsWith("/signin"));
    cookies[as] = (await context.cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
    await context.close();
  }
  console.log(`${"page, of 100".padEnd(44)} ${Object.keys(GOALS).map((name) => name.padStart(14)).join(" ")}`);
  for (const [path, as] of pages) {
    const extraHeaders = cookies[as] ? { Cookie: cookies[as] } : {};
    // A page that lives holds its stream open: waiting for silence ends at this.
    const flags = { port, extraHeaders, maxWaitForLoad: 10_000, logLevel: "error", onlyCategories: Object.keys(GOALS) };
    const { lhr } = await lighthouse(site + path, flags);
    const landed = new URL(lhr.finalDisplayedUrl);
    const wrong = [];
    if (landed.pathname + landed.search !== path) wrong.push(`it led to ${landed.pathname}`);
    if (lhr.runtimeError) wrong.push(lhr.runtimeError.message);
    const scores = Object.entries(GOALS).map(([name, goal]) => {
      const category = lhr.categories[name];
      const score = Math.round((category.score ?? 0) * 100);
      const missed = category.auditRefs
        .map(({ id, weight }) => ({ weight, ...lhr.audits[id] }))
        .filter((audit) => audit.weight > 0 && audit.score !== null && audit.score < 0.9);
      for (const audit of score < goal ? missed : []) {
        const told = `${name}: ${audit.id}${audit.displayValue ? ` (${audit.displayValue})` : ""}`;
        const items = (audit.details?.items ?? []).slice(0, 3);
        const where = items.map((item) => item.node?.selector ?? item.description ?? item.url ?? item.reason ?? "").filter(Boolean);
        wrong.push([told, ...where].join("\n      "));
        // A console that says something is a failure, whatever else its category counts.
        if (name === "accessibility" || audit.id === "errors-in-console") failed += 1;
      }
      return score;
    });
    console.log(`${path.padEnd(44)} ${scores.map((score) => String(score).padStart(14)).join(" ")}`);
    wrong.forEach((said) => console.log(`    ${said}`));
  }
} finally {
  await browser.close();
}
console.log(`goals: ${Object.entries(GOALS).map(([name, goal]) => `${name} ${goal}`).join(", ")}; ${failed} failures`);
process.exit(failed ? 1 : 0);
