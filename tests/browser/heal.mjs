// A connection that is lost, and heals by itself: what was written meanwhile is sent once, what was said meanwhile arrives.

import { ask, check, open, run, signIn, tokens } from "./browser.mjs";

await run(async (browser) => {
  const page = await open(browser);
  page.allow(/ERR_CONNECTION_REFUSED|WebSocket connection|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|status of 503/);
  await signIn(page, tokens.admin);
  await page.fill("#say", "before");
  await page.keyboard.press("Enter");
  await page.waitForSelector("text=echo: before");
  await ask("kill");
  await page.waitForSelector("#link:has-text('The connection is lost')");
  await page.fill("#say", "meanwhile");
  await page.keyboard.press("Enter");
  await page.waitForSelector("text=waits for the connection");
  await ask("start");
  await page.waitForSelector("text=echo: meanwhile", { timeout: 40000 });
  await page.waitForFunction(() => document.getElementById("link").innerText === "");
  check((await page.locator(".said.assistant:has-text('echo: meanwhile')").count()) === 1, "it is shown once");
  check((await ask("times meanwhile")) === "1", "it was handled once");
  // A token that is taken away ends the session; nothing goes on in its name.
  page.allow(/status of 401/);
  await ask("revoke");
  await page.waitForSelector("#token", { timeout: 20000 });
  check((await page.evaluate(() => sessionStorage.length)) === 0, "the token is forgotten");
});
