// Approvals: calls that wait for a person, with their exact arguments.
//
// Invariant: what is shown is the question as the gateway wrote it, in which nothing hides; where no one decides, nothing runs.

import { post, seg } from "./api.js";
import { exact, h, swap, when } from "./dom.js";
import { t } from "./i18n.js";
import { onEvents, onFrames } from "./live.js";
import { attempt, button, choices, empty, facts, head, paged, state } from "./parts.js";

/** What is asked. */
export function question(own) {
  const [, ...lines] = own.question.split("\n");
  return [
    h("h2", {}, h("code", {}, exact(own.tool)), " ", h("span", { class: "dim" }, t("wants to run")), " ", own.state === "pending" ? null : state(own.state)),
    lines.length > 0 ? h("pre", { class: "exact", tabindex: "0", role: "region", "aria-label": t("Exact arguments") }, exact(lines.join("\n"))) : h("p", { class: "dim" }, t("without arguments")),
    facts([[t("Agent"), exact(own.agent)], [t("User"), exact(own.userId)], [t("Channel"), exact(own.channel)],
      own.state === "pending" ? [t("Becomes a no"), when(own.expiresMs)] : [t("Decided by"), own.decidedBy && h("span", {}, exact(own.decidedBy), " · ", when(own.decidedMs))]]),
  ];
}

/** The buttons of a question that waits. */
export function decisions(own) {
  if (own.state !== "pending" || own.mayDecide === false) return null;
  const row = h("div", { class: "actions" });
  const decide = (decision) => attempt(async () => {
    await post(`/api/approvals/${seg(own.id)}`, { decision });
    swap(row, h("span", { class: "dim", role: "status" }, t("Decided")));
  }, row);
  const one = (decision, label, kind, title) => h("button", { type: "button", class: kind, title, on: { click: () => decide(decision) } }, label);
  return swap(row, one("allow", t("Allow once"), "primary"), one("deny", t("Deny"), "danger"),
    one("always", t("Always allow exactly this"), "", t("Makes a rule for this tool with exactly these arguments, for this user, agent and channel.")));
}

export function open(place) {
  let which = "pending";
  const list = paged({
    path: () => `/api/approvals?state=${which}`,
    name: "approvals",
    label: t("Approvals"),
    row: (a) => h("li", { class: "card question", "data-id": a.id }, question(a), decisions(a), h("p", {}, h("a", { href: `#/messages/${a.messageId}` }, t("The message that led to it")))),
    nothing: () => (which === "pending"
      ? empty("approvals", t("Nothing waits for you"), t("When an agent wants to call a tool whose policy is “ask”, its exact call appears here, and in the chat of who asked."), h("a", { href: "#/agents", class: "button" }, t("Agents and tools")))
      : empty("approvals", t("Nothing was asked yet"), t("Decisions stay in this list and in the audit trail."))),
  });
  swap(place, head(t("Approvals"), t("Calls of tools that run only if a person says so."),
    choices(t("Which"), [["pending", t("Waiting")], ["all", t("All")]], which, (v) => ((which = v), list.restart()))), list.node);
  const offs = [onEvents(["approval."], list.refresh), onFrames(["approval"], () => setTimeout(list.refresh, 100))];
  return () => offs.forEach((off) => off());
}
