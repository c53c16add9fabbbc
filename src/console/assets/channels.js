// Channels: the places where people write, and how each one is.
//
// Invariant: the state shown is the gateway's own; reconnecting loses nothing.

import { Fault, get, post, seg } from "./api.js";
import { h, notice, number, plain, swap, when } from "./dom.js";
import { t } from "./i18n.js";
import { onEvents } from "./live.js";
import { button, facts, head, skeleton, state, trouble } from "./parts.js";

export function open(place, { me }) {
  const body = h("div", { class: "cards", role: "list" }, skeleton());
  swap(place, head(t("Channels"), t("Where people write, and where answers go."), me.role === "admin" && h("a", { class: "button primary", href: "#/config/channels" }, t("Add a channel"))), body);

  function card(c) {
    const own = ["websocket", "webhook"].includes(c.type);
    return h("article", { class: "card channel", role: "listitem", "data-id": c.name }, h("header", {}, h("h2", {}, plain(c.name)), h("span", { class: "kind" }, plain(c.type)), state(c.state)),
      c.lastError && h("p", { class: "problem" }, plain(c.lastError)),
      facts([[t("Since"), when(c.sinceMs)], [t("Received"), number(c.received)], [t("Sent"), number(c.sent)], [t("Failed"), c.failed ? number(c.failed) : null],
        [t("Last received"), c.lastReceivedMs ? when(c.lastReceivedMs) : null], [t("Last sent"), c.lastSentMs ? when(c.lastSentMs) : null], [t("Reconnected"), c.reconnects ? number(c.reconnects) : null]]),
      !own && h("div", { class: "actions" }, button(t("Reconnect"), "", async () => (await post(`/api/channels/${seg(c.name)}/reconnect`), notice(t("The connection is opened anew.")), setTimeout(show, 600)))));
  }

  let shown = "";
  async function show() {
    try {
      const { channels } = await get("/api/channels");
      const text = JSON.stringify(channels);
      if (text === shown) return;
      const at = document.activeElement?.closest?.("[data-id]")?.dataset.id;
      swap(body, channels.map(card));
      if (at) body.querySelector(`[data-id="${CSS.escape(at)}"] button`)?.focus();
      shown = text;
    } catch (e) {
      if (!(e instanceof Fault)) throw e;
      swap(body, trouble(e, show));
    }
  }
  show();
  const timer = setInterval(() => document.hidden || show(), 10000);
  const off = onEvents(["channel.", "config."], show);
  return () => (clearInterval(timer), off());
}
