// A person's work in the console: signing in, a chat that streams, a tool that is approved, a dead letter that is retried, a configuration
// that is wrong and then right.

import { ask, audit, check, go, open, run, signIn, tokens, url } from "./browser.mjs";

const say = async (page, text) => {
  await page.fill("#say", text);
  await page.keyboard.press("Enter");
};
const last = (page, role) => page.locator(`.view-chat .said.${role}`).last();

async function signingIn(page) {
  page.allow(/status of 401/);
  await page.goto(url);
  await page.fill("#token", "wrong-token-0123456789");
  await page.keyboard.press("Enter");
  await page.waitForSelector("text=This token is not the right one.");
  await page.fill("#token", tokens.admin);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#main .view-chat");
  check((await page.evaluate(() => localStorage.length + document.cookie.length)) === 0, "the token is kept for more than the tab");
  await page.reload();
  await page.waitForSelector("#main .view-chat");
}

async function chat(page) {
  await say(page, "stream");
  const answer = last(page, "assistant");
  await answer.waitFor();
  const early = await answer.innerText();
  check(!early.includes("end"), `it was not streamed: ${early}`);
  await page.waitForSelector("text=the end");
  await page.waitForSelector(".view-chat .said.assistant footer button");
  check((await last(page, "assistant").locator("strong").innerText()) === "word", "Markdown");
  check(await last(page, "assistant").locator("figure.code button").isVisible(), "a code block has a button to copy it");
  await page.waitForFunction(() => !document.querySelector(".view-chat .said.user:last-of-type .problem"));
  check((await ask("unacknowledged")) === "0", "what was shown is acknowledged");
  await page.reload();
  await page.waitForSelector("text=the end");
  // Cut short by the person.
  await say(page, "endless");
  await page.waitForSelector("text=on and on");
  await page.click("[aria-label='Stop the answer']");
  await page.waitForSelector("text=stopped");
}

async function approve(page) {
  await say(page, 'CALL shell.run {"command":"mark","args":["a\u202eb"]}');
  await page.waitForSelector(".view-chat .said.question");
  const shown = await page.locator(".view-chat .said.question .exact").innerText();
  check(shown.includes("\\u{202e}") && !shown.includes("\u202e"), `what hides is shown: ${shown}`);
  await audit(page, "a question in the chat");
  await page.click(".view-chat .said.question button:has-text('Allow once')");
  await page.waitForSelector("text=done: ");
  check((await ask("runs")) === "1", "the tool ran once");
  // From the list, live: it appears by itself.
  await go(page, "approvals");
  await page.waitForSelector("text=Nothing waits for you");
  await ask("another question");
  await page.waitForSelector(".view-approvals .card.question");
  await page.waitForSelector("[data-count=approvals]:has-text('1')");
  await page.click(".view-approvals button:has-text('Deny')");
  await page.waitForSelector("text=Nothing waits for you");
  check((await ask("runs")) === "1", "what was denied did not run");
}

async function deadLetter(page) {
  await go(page, "outbox");
  await page.waitForSelector(".delivery:has-text('dead letter')");
  await ask("receiver up");
  await page.click(".delivery button:has-text('Retry')");
  await page.waitForSelector("text=No dead letters");
  await ask("received");
  await go(page, "messages");
  await page.click(".view-messages a.row:has-text('to the receiver')");
  await page.waitForSelector(".timeline li:has-text('Sent, and confirmed')");
  for (const step of ["Received, and on disk", "Its turn began", "Answered"]) check(await page.locator(`.timeline li:has-text("${step}")`).count(), step);
}

async function configuration(page) {
  page.allow(/status of 400/);
  await go(page, "config/agents");
  await page.click("summary:has-text('more settings')");
  const field = page.locator("[id='f$.agents.main.maxHistory']");
  await field.fill("999999999");
  await page.click("text=Review and save");
  await page.waitForSelector(".problems:has-text('$.agents.main.maxHistory')");
  check((await field.getAttribute("aria-invalid")) === "true", "the field says that it is wrong");
  check((await page.locator("[data-path='$.agents.main.maxHistory'] .problem").innerText()).length > 5, "the problem stands at its field");
  await audit(page, "a problem in the configuration");
  await field.fill("17");
  await page.click(".tabs a:has-text('gateway')");
  await page.waitForSelector("h2:has-text('gateway')");
  await page.click("summary:has-text('workers')");
  await page.locator("[id='f$.gateway.workers.turns']").fill("3");
  await page.click("text=Review and save");
  await page.waitForSelector("dialog .plan.ok li:has-text('agents.main.maxHistory')");
  await page.waitForSelector("dialog .plan.warn li:has-text('gateway.workers.turns')");
  await audit(page, "what a change comes to");
  check(!JSON.parse(await ask("configuration")).gateway.workers, "nothing is saved before it is agreed to");
  await page.click("dialog button.primary");
  await page.waitForSelector("text=Saved. Some of it counts from the next start.");
  const saved = JSON.parse(await ask("configuration"));
  check(saved.agents.main.maxHistory === 17 && saved.gateway.workers.turns === 3, JSON.stringify(saved));
  check(JSON.stringify(saved).includes("key-00000000000000000000"), "secrets stay as they are");
  // The same as a text.
  await page.click(".view-head button:has-text('Text')");
  const text = await page.inputValue("textarea.source");
  await page.fill("textarea.source", text.replace('"maxHistory": 17', '"maxHistory": 17,,'));
  await page.click("text=Review and save");
  await page.waitForSelector(".problems:has-text('Line')");
  await page.fill("textarea.source", text.replace('"maxHistory": 17', '"maxHistry": 18'));
  await page.click("text=Review and save");
  await page.waitForSelector(".problems:has-text('maxHistry')");
  await page.fill("textarea.source", text.replace('"maxHistory": 17', '"maxHistory": 18'));
  await page.click("text=Review and save");
  await page.click("dialog button.primary");
  await page.waitForSelector("text=Saved. It applies now.");
  // Somebody else was quicker.
  page.allow(/status of 412/);
  await page.click(".view-head button:has-text('Form')");
  await page.click(".tabs a:has-text('log')");
  await page.locator("[id='f$.log.level']").selectOption({ label: "debug" });
  await ask("another change");
  await page.click("text=Review and save");
  await page.waitForSelector("text=Somebody changed the configuration meanwhile.");
  await page.click("text=Review and save");
  await page.click("dialog button.primary");
  await page.waitForSelector("text=Saved. It applies now.");
  const both = JSON.parse(await ask("configuration"));
  check(both.log.level === "debug" && both.agents.main.maxHistory === 21, JSON.stringify(both));
}

await run(async (browser) => {
  const page = await open(browser);
  page.setDefaultTimeout(20000);
  await signingIn(page);
  await chat(page);
  await approve(page);
  await deadLetter(page);
  await configuration(page);
  // A user has its own alone.
  const other = await open(browser);
  await signIn(other, tokens.user);
  const views = await other.locator("#side a[data-view]").evaluateAll((all) => all.map((a) => a.dataset.view));
  check(views.join() === "chat,sessions", `a user is offered ${views}`);
});
