// Messages: what came in, by state, and each one's life.
//
// Invariant: a timeline is what the store recorded, in that order; nothing is drawn that did not happen.

import { Fault, get, post, seg } from "./api.js";
import { brief, clockTime, h, plain, span, swap, when } from "./dom.js";
import { T, t } from "./i18n.js";
import { icon } from "./icons.js";
import { onEvents } from "./live.js";
import { button, choices, empty, facts, head, paged, skeleton, state, trouble } from "./parts.js";

const EVENTS = {
  accepted: [T("Received, and on disk"), "ok"], started: [T("Its turn began"), "busy"], retried: [T("The turn is tried again"), "warn"],
  interrupted: [T("Cut short; goes on at the next start"), "warn"], stopped: [T("Asked to stop"), "warn"], tools_asked: [T("The model asks for tools"), "busy"],
  tool_called: [T("A tool runs"), "busy"], tool_result: [T("The tool's result"), "ok"], waiting_approval: [T("Waits for a person's decision"), "warn"],
  answered: [T("Answered"), "ok"], failed: [T("Failed"), "bad"], cancelled: [T("Withdrawn"), "off"], delivery_sent: [T("Sent, and confirmed"), "ok"],
  delivery_failed: [T("A try to send it failed"), "warn"], delivery_dead: [T("Could not be sent: a dead letter"), "bad"],
  delivery_unknown: [T("Cut off while it was sent"), "warn"], collected: [T("Answered together with others"), "ok"],
};

function timeline(message) {
  let before = null;
  const entry = (e) => {
    const [words, kind] = EVENTS[e.event] ?? [null, "off"];
    const after = before !== null && e.atMs - before >= 1 ? `+${span(e.atMs - before)}` : "";
    before = e.atMs;
    return h("li", { class: kind }, h("i", { "aria-hidden": "true" }), h("div", {}, h("strong", {}, words ? t(words) : plain(e.event)),
      e.detail && h("p", {}, plain(e.detail))), h("span", { class: "dim", title: new Date(e.atMs).toLocaleString() }, clockTime(e.atMs), h("br"), after));
  };
  const waits = (d) => ["pending", "sending"].includes(d.state) && h("li", { class: "busy" }, h("i", { "aria-hidden": "true" }),
    h("div", {}, h("strong", {}, t("To be sent")), h("p", {}, plain(d.lastError ?? (d.channel === "websocket" ? t("until the receiver confirms it") : d.channel)))), h("span"));
  return h("ol", { class: "timeline", "aria-label": t("Timeline") }, message.timeline.map(entry), message.deliveries.map(waits));
}

const text = (label, said) => said && h("section", {}, h("h3", {}, label), h("p", { class: "as-is quote", dir: "auto" }, plain(said.length > 4000 ? said.slice(0, 4000) + "…" : said)));

function life(message, again) {
  return h("article", { class: "card detail" },
    h("header", {}, h("a", { class: "button quiet back", href: "#/messages" }, icon("back"), t("All messages")), h("h2", { tabindex: "-1" }, state(message.state)),
      message.state === "failed" && button(t("Retry"), "primary", async () => (await post(`/api/messages/${seg(message.id)}/retry`), again()))),
    message.error && h("p", { class: "problem" }, plain(message.error)),
    facts([[t("User"), message.userId], [t("Channel"), message.channel], [t("Conversation"), message.conversationId], [t("Agent"), message.agent],
      [t("Received"), when(message.receivedMs)], [t("Tries"), message.attempts > 1 ? message.attempts : null], [t("Id"), h("code", {}, message.id)],
      [t("Session"), h("a", { href: `#/sessions/${seg(message.userId)}` }, message.userId)]]),
    timeline(message), text(t("Message"), message.message), text(t("Reply"), message.reply));
}

export function open(place, { path: [id] }) {
  let which = "";
  const list = paged({
    path: () => (which ? `/api/messages?state=${which}` : "/api/messages"),
    name: "messages",
    label: t("Messages"),
    row: (m) => h("li", { "data-id": m.id, class: m.id === id ? "chosen" : "" }, h("a", { class: "row", href: `#/messages/${m.id}`, "aria-current": m.id === id ? "true" : null },
      state(m.state), h("span", { class: "what" }, h("span", { dir: "auto" }, brief(m.message)), m.error && h("span", { class: "problem" }, brief(m.error))),
      h("span", { class: "who dim" }, brief(m.userId, 40), " · ", brief(m.channel, 30)), when(m.receivedMs))),
    nothing: () => empty("messages", which ? t("None of these") : t("No message yet"), which ? t("Another state may have what you look for.")
      : t("Say something in the chat, or send one to the webhook “default”: each message appears here with its whole life."), h("a", { class: "button", href: "#/chat" }, t("Open the chat"))),
  });
  const detail = h("div", { class: "side-detail" });
  const states = [["", t("All")], ["queued", t("queued")], ["running", t("running")], ["waiting_approval", t("waits for approval")], ["answered", t("answered")], ["failed", t("failed")], ["cancelled", t("cancelled")]];
  swap(place, head(t("Messages"), t("What came in, and what became of it."), choices(t("State"), states, which, (v) => ((which = v), list.restart()))),
    h("div", { class: id ? "split with-detail" : "split" }, list.node, id && detail));
  let first = true;
  async function show() {
    if (!id) return;
    try {
      swap(detail, life(await get(`/api/messages/${seg(id)}`), () => (show(), list.refresh())));
      if (first && !window.matchMedia("(min-width: 70rem)").matches) detail.querySelector("h2").focus();
      first = false;
    } catch (e) {
      if (!(e instanceof Fault)) throw e;
      swap(detail, trouble(e, show));
    }
  }
  if (id) swap(detail, skeleton());
  show();
  return onEvents(["turn.", "delivery."], () => (list.refresh(), show()), ["event", "accepted", "message"]);
}
