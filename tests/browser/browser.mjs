// What the console's scripts stand on: Chromium, a page that is watched, axe, and a line to the test that started them.
//
// Invariant: whatever a page does wrong is a failure, also where the script does not look: an error or warning in its console, a request to another
// host, a token in an address, a violation of the Content-Security-Policy. What a script provokes on purpose it names first (`allow`).

import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";
import { pathToFileURL } from "node:url";

const folder = process.env.GATELET_BROWSER;
const modules = path.join(folder, "node_modules");
const { chromium } = await import(pathToFileURL(path.join(modules, "playwright-core/index.mjs")));
const axeSource = fs.readFileSync(path.join(modules, "axe-core/axe.min.js"), "utf8");

export const url = process.env.GATELET_URL;
export const tokens = { admin: process.env.ADMIN, operator: process.env.OPERATOR, user: process.env.USER_TOKEN };
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

const input = readline.createInterface({ input: process.stdin });
const answers = input[Symbol.asyncIterator]();

/** Asks the test to do something with the gateway; gives its answer. */
export async function ask(what) {
  console.log(`ASK ${what}`);
  return (await answers.next()).value;
}

const problems = [];
export function check(holds, what) {
  if (!holds) throw new Error(what);
}

/** A watched page. */
export async function open(browser, { width = 1280, height = 860, scheme = "light", language = "en-GB" } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, locale: language, reducedMotion: "reduce" });
  // axe is put in by the browser itself, past the page's policy; everything else is the page's own.
  await context.addInitScript(() => document.addEventListener("securitypolicyviolation", (e) => console.error("CSP", e.violatedDirective, e.blockedURI, e.sample)));
  const page = await context.newPage();
  const allowed = [];
  page.allow = (...more) => allowed.push(...more);
  const wrong = (what) => allowed.some((a) => a.test(what)) || problems.push(what);
  const own = (address, kind) => {
    const to = new URL(address);
    if (!["data:", "blob:"].includes(to.protocol) && to.host !== new URL(url).host) wrong(`${kind} to ${address}`);
    if (Object.values(tokens).some((t) => address.includes(t) || address.includes(encodeURIComponent(t)))) wrong(`${kind}: a token in ${address}`);
  };
  page.on("console", (m) => ["error", "warning"].includes(m.type()) && wrong(`console: ${m.text()}`));
  page.on("pageerror", (e) => wrong(`error: ${e.stack}`));
  page.on("request", (r) => own(r.url(), "request"));
  page.on("websocket", (w) => own(w.url(), "WebSocket"));
  context.on("page", (p) => p !== page && wrong(`a window: ${p.url()}`));
  return page;
}

/** Serious findings of axe on what is shown now, in words. */
export async function audit(page, where) {
  if (!(await page.evaluate(() => Boolean(window.axe)))) await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  for (const v of violations.filter((x) => ["serious", "critical", "moderate"].includes(x.impact))) {
    problems.push(`${where}: ${v.impact}: ${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200)).join(" | ")}`);
  }
}

/** Signs in by the link and waits until the page is live. */
export async function signIn(page, token, view = "") {
  await page.goto(`${url}/#token=${encodeURIComponent(token)}`);
  await page.waitForSelector("#main .view");
  check(!page.url().includes(token), `the token stays in the address: ${page.url()}`);
  if (view) await go(page, view);
}

/** Opens a view by its link, as a person does, and waits until nothing of it is loading. */
export async function go(page, view) {
  await page.evaluate((v) => (location.hash = `#/${v}`), view);
  await page.waitForSelector(`#main .view-${view.split("/")[0]}`);
  await page.waitForFunction(() => !document.querySelector("#main .skeleton, #main [aria-busy=true]:not(article)"));
}

/** Runs a script with a browser; ends with what went wrong. */
export async function run(script) {
  const browser = await chromium.launch({ executablePath: path.join(folder, "chromium"), args: FLAGS });
  try {
    await script(browser);
  } catch (e) {
    problems.push(e.stack);
    const dir = process.env.GATELET_SCREENSHOTS;
    for (const context of dir ? browser.contexts() : []) for (const [i, page] of context.pages().entries()) await page.screenshot({ path: path.join(dir, `failed-${i}.png`) }).catch(() => {});
  } finally {
    await browser.close();
  }
  for (const problem of problems) console.error(problem);
  input.close();
  process.stdin.destroy();
  process.exitCode = problems.length > 0 ? 1 : 0; // its last words are still on their way
}
