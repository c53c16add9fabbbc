// Every view, small and large, light and dark, in both languages: nothing is too wide, nothing is unreadable to a screen reader.

import fs from "node:fs";
import path from "node:path";
import { ask, audit, check, go, open, run, signIn, tokens } from "./browser.mjs";

const VIEWS = ["chat", "sessions", "overview", "messages", "channels", "outbox", "approvals", "pairings", "agents", "jobs", "config", "logs", "audit"];
const LOOKS = [
  { width: 1280, scheme: "light", language: "en-GB" },
  { width: 360, height: 740, scheme: "dark", language: "zh-CN" },
  { width: 2560, height: 1440, scheme: "dark", language: "en-GB" },
];

async function tooWide(page) {
  return page.evaluate(() => {
    const main = document.getElementById("main");
    return document.documentElement.scrollWidth > innerWidth || main.scrollWidth > main.clientWidth;
  });
}

async function tour(browser, look) {
  const page = await open(browser, look);
  const where = `${look.width} ${look.scheme} ${look.language}`;
  await signIn(page, tokens.admin);
  for (const view of VIEWS) {
    await go(page, view);
    await audit(page, `${view}, ${where}`);
    check(!(await tooWide(page)), `${view}, ${where}: wider than the window`);
    check((await page.locator("#main h1").count()) === 1, `${view}, ${where}: one heading`);
    const words = await page.locator("h1").innerText();
    check(/[\u4e00-\u9fff]/.test(words) === (look.language === "zh-CN"), `${view}, ${where}: its language`);
    const folder = process.env.GATELET_SCREENSHOTS;
    if (folder) {
      fs.mkdirSync(folder, { recursive: true });
      await page.waitForTimeout(view === "overview" ? 3000 : 200);
      await page.screenshot({ path: path.join(folder, `${view}-${look.width}-${look.scheme}-${look.language}.png`) });
    }
  }
  await go(page, "messages");
  await page.locator(".view-messages a.row").first().click();
  await page.waitForSelector(".timeline");
  await audit(page, `a message, ${where}`);
  check(!(await tooWide(page)), `a message, ${where}: wider than the window`);
  await page.context().close();
}

/** With the keyboard alone: past the navigation, through the views, without a trap. */
async function keyboard(browser) {
  const page = await open(browser);
  await signIn(page, tokens.admin, "messages");
  await page.reload();
  await page.waitForSelector("#main .view-messages");
  await page.keyboard.press("Tab");
  check((await page.evaluate(() => document.activeElement.className)) === "skip", "the first stop leads past the navigation");
  await page.keyboard.press("Enter");
  check((await page.evaluate(() => document.activeElement.id)) === "main", "it leads to the content");
  await page.keyboard.press("Tab");
  check(await page.evaluate(() => document.activeElement.closest("#main") !== null), "the next stop is in the content");
  const seen = new Set();
  for (let i = 0; i < 120; i++) {
    await page.keyboard.press("Tab");
    seen.add(await page.evaluate(() => document.activeElement.dataset?.view ?? ""));
  }
  check(VIEWS.every((v) => seen.has(v)), "every view can be reached, and nothing holds the focus");
  // The language is changed where one stands, and kept.
  await page.click("#side button:has-text('中文')");
  await page.waitForSelector("h1:has-text('消息')");
  check((await page.evaluate(() => document.documentElement.lang)) === "zh-CN", "the page says its language");
  await page.reload();
  await page.waitForSelector("h1:has-text('消息')");
  await page.click("#side button:has-text('深色')");
  const dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.click("#side button:has-text('浅色')");
  check(dark !== (await page.evaluate(() => getComputedStyle(document.body).backgroundColor)), "light and dark differ");
}

/** What a new gateway shows: the next step. */
async function first(browser) {
  const page = await open(browser);
  await signIn(page, tokens.admin, "overview");
  await page.waitForSelector("text=Connect a language model");
  await page.waitForSelector("text=Let people write from where they are");
  await audit(page, "the first steps");
  await page.click("a:has-text('Add Telegram')");
  await page.waitForSelector(".view-config .entry:has-text('telegram')");
  await page.waitForSelector("text=Not saved yet");
  await audit(page, "a channel that is added");
}

await run(async (browser) => {
  if ((await ask("kind")) === "new") return first(browser);
  await keyboard(browser);
  for (const look of LOOKS) await tour(browser, look);
});
