// Pairings: unknown senders who wait to be let in.
//
// Invariant: how a sender calls itself decides nothing and is shown as such; the code is what the sender was told.

import { post, seg } from "./api.js";
import { exact, h, notice, swap, when } from "./dom.js";
import { t } from "./i18n.js";
import { onEvents } from "./live.js";
import { button, empty, facts, head, paged } from "./parts.js";

export function open(place) {
  const decide = (p, decision) => async () => {
    await post(`/api/pairings/${seg(p.code)}`, { decision });
    notice(decision === "approve" ? t("Let in") : t("Turned away"));
    list.refresh();
  };
  const list = paged({
    path: () => "/api/pairings",
    name: "pairings",
    label: t("Pairings"),
    row: (p) => h("li", { class: "card", "data-id": p.code }, h("h2", { class: "code" }, exact(p.code)),
      facts([[t("Calls itself"), exact(p.name)], [t("Channel"), exact(p.channel)], [t("Id there"), h("code", {}, exact(p.userId))], [t("Asked"), when(p.createdMs)], [t("Good until"), when(p.expiresMs)]]),
      h("div", { class: "actions" }, button(t("Let in"), "primary", decide(p, "approve")), button(t("Turn away"), "danger", decide(p, "reject")))),
    nothing: () => empty("pairings", t("Nobody waits"), t("Who writes for the first time on a channel with pairing is told a code, and waits here. Compare the code with what the person tells you, then let them in.")),
  });
  swap(place, head(t("Pairings"), t("Unknown senders who wait to be let in.")), list.node);
  return onEvents(["pairing."], list.refresh);
}
