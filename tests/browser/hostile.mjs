// What agents and strangers write is shown, never obeyed: markup, links that run, pictures that tell, texts that hide or swell.

import { ask, audit, check, go, open, run, signIn, tokens, url } from "./browser.mjs";

await run(async (browser) => {
  const page = await open(browser);
  page.setDefaultTimeout(20000);
  await signIn(page, tokens.admin);
  // B1: an address that somebody else made up names no other gateway: whatever goes to another host is a failure (`open`).
  const elsewhere = encodeURIComponent("ws://127.0.0.1:9/ws");
  for (const name of ["gatewayUrl", "gateway", "url", "ws", "server", "host", "api"]) {
    const sockets = [];
    const note = (socket) => sockets.push(socket.url());
    page.on("websocket", note);
    await page.goto(`${url}/?${name}=${elsewhere}#/chat?${name}=${elsewhere}`);
    await page.waitForSelector("#main .view");
    for (let i = 0; i < 50 && sockets.length === 0; i++) await page.waitForTimeout(100);
    page.off("websocket", note);
    check(sockets.length > 0 && sockets.every((to) => to === `${url.replace("http", "ws")}/ws`), `?${name}=: it connects to ${sockets}`);
  }
  await go(page, "chat");
  const asks = Number(await ask("how many"));
  for (let i = 0; i < asks; i++) {
    await page.fill("#say", `hostile ${i}`);
    await page.keyboard.press("Enter");
    await page.waitForFunction((n) => document.querySelectorAll(".view-chat .said.assistant footer").length > n && !document.querySelector(".said[aria-busy=true]") && [...document.querySelectorAll(".view-chat .said.assistant footer button")].length > n, i, { timeout: 30000 });
  }
  const log = page.locator(".view-chat .log");
  for (const tag of ["img", "script", "iframe", "object", "form", "svg image", "style", "link", "video", "input", "base"]) {
    check((await log.locator(tag).count()) === 0, `an agent made a <${tag}>`);
  }
  const links = await log.locator("a").evaluateAll((all) => all.map((a) => [a.href, a.rel, a.target]));
  for (const [href, rel, target] of links) {
    check(/^(https?:|mailto:)/.test(href), `a link leads to ${href}`);
    check(rel.includes("noopener") && rel.includes("noreferrer") && target === "_blank", `a link tells where it came from: ${href}`);
  }
  check(links.some(([href]) => href === "https://example.org/fine"), "what is harmless is a link");
  const text = await log.innerText();
  check(text.includes("javascript:") && text.includes("<img src=x"), "what is refused is seen as it was written");
  check(!/[\u202a-\u202e\u2066-\u2069]/.test(text) && text.includes("\\u{202e}"), "what reorders text is seen");
  check((await page.evaluate(() => window.pwned)) === undefined, "an agent ran a script");
  // Large: shown in part, and whole when asked for; the page stays quick.
  await page.waitForSelector("text=Show all of it");
  const began = Date.now();
  await page.locator("button:has-text('Show all of it')").last().click();
  await page.waitForFunction(() => document.querySelector(".view-chat .log").innerText.length > 150000, null, { polling: 200 });
  check(Date.now() - began < 8000, `a long text takes ${Date.now() - began} ms`);
  for (const view of ["messages", "sessions", "approvals", "pairings", "outbox", "audit"]) {
    await go(page, view);
    check((await page.evaluate(() => window.pwned)) === undefined, `${view}: a script ran`);
    check((await page.locator("#main img, #main script, #main iframe").count()) === 0, `${view}: markup`);
  }
  await go(page, "messages");
  await audit(page, "hostile messages");
  // Many rows: a page at a time.
  await ask("many");
  await go(page, "sessions");
  await go(page, "messages");
  await page.waitForSelector(".pager");
  check((await page.locator(".view-messages .rows > li").count()) === 50, "one page of rows");
  const top = await page.locator(".view-messages .rows > li").first().innerText();
  await page.click("button:has-text('Older')");
  await page.waitForSelector("text=Page 2");
  check(top !== (await page.locator(".view-messages .rows > li").first().innerText()), "another page has other rows");
  await page.click("button:has-text('Newer')");
  await page.waitForSelector("text=Page 1");
});
