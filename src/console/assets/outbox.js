// Outbox: what is to be sent, what was, and the dead letters.
//
// Invariant: dropping is asked about first. A retry keeps the delivery's id, so a receiver that remembers ids sees it once.

import { post, remove, seg } from "./api.js";
import { brief, confirmed, h, notice, number, plain, swap, when } from "./dom.js";
import { t } from "./i18n.js";
import { onEvents } from "./live.js";
import { button, choices, empty, head, paged, state } from "./parts.js";

export function open(place, { path: [given] }) {
  let which = ["pending", "sent", "unknown", "all"].includes(given) ? given : "dead";
  const retry = (d) => async () => {
    await post(`/api/outbox/${seg(d.id)}/retry`);
    notice(t("It is tried again."));
    setTimeout(list.refresh, 300);
  };
  const drop = (d) => async () => {
    if (!(await confirmed(t("Drop this delivery?"), t("It will never reach {user}. The transcript keeps its text.", { user: d.userId }), t("Drop")))) return;
    await remove(`/api/outbox/${seg(d.id)}`);
    list.refresh();
  };
  const row = (d) => h("li", { class: "card delivery", "data-id": d.id },
    h("header", {}, state(d.state), h("span", { class: "who" }, t("to"), " ", h("strong", {}, brief(d.userId, 60)), " ", t("by"), " ", brief(d.channel, 40)), when(d.sentMs ?? d.createdMs)),
    h("p", { dir: "auto", class: "quote" }, brief(d.message, 300)),
    d.lastError && h("p", { class: "problem" }, plain(d.lastError)),
    h("footer", {}, h("span", { class: "dim" }, d.attempts === 1 ? t("1 try") : t("{n} tries", { n: number(d.attempts) }), d.nextAttemptMs && d.state === "pending" ? [" · ", t("next"), " ", when(d.nextAttemptMs)] : null,
      d.inReplyTo && [" · ", h("a", { href: `#/messages/${d.inReplyTo}` }, t("Timeline"))]),
      h("div", { class: "actions" }, ["dead", "unknown"].includes(d.state) && button(t("Retry"), "primary", retry(d)), d.state !== "sending" && button(d.state === "sent" ? t("Remove") : t("Drop"), "danger", drop(d)))));
  const NOTHING = {
    dead: () => empty("outbox", t("No dead letters"), t("What can't be delivered after all tries waits here, to be retried or dropped. Nothing is lost silently.")),
    unknown: () => empty("outbox", t("Nothing is uncertain"), t("A delivery that was cut off while it was sent, on a channel set to “hold”, waits here for your decision.")),
  };
  const list = paged({
    path: () => (which === "all" ? "/api/outbox" : `/api/outbox?state=${which}`),
    name: "outbox",
    label: t("Outbox"),
    row,
    nothing: () => (NOTHING[which] ?? (() => empty("outbox", t("None of these"), t("Answers pass through here on their way to a channel."))))(),
  });
  const states = [["dead", t("Dead letters")], ["unknown", t("Uncertain")], ["pending", t("To be sent")], ["sent", t("Sent")], ["all", t("All")]];
  swap(place, head(t("Outbox"), t("What is to be sent, and what could not be."), choices(t("State"), states, which, (v) => ((which = v), list.restart()))), list.node);
  return onEvents(["delivery.", "turn.answered"], list.refresh);
}
