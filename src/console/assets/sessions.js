// Sessions: who speaks with which agent, and the transcripts.
//
// Invariant: erasing is asked about first, and says what it takes. A user sees its own alone; the gateway holds it so.

import { Fault, get, remove, seg } from "./api.js";
import { brief, confirmed, h, notice, number, plain, swap, when } from "./dom.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";
import { onEvents } from "./live.js";
import { markdown } from "./markdown.js";
import { button, empty, facts, head, paged, skeleton, trouble } from "./parts.js";

const LONG = 8000;

const entry = (e) => h("li", { class: `said ${e.role}` }, h("div", { class: "text" },
  e.role === "assistant" && e.text.length <= LONG ? markdown(e.text) : h("p", { class: "as-is", dir: "auto" }, plain(e.text.length > LONG ? e.text.slice(0, LONG) + "…" : e.text))),
h("footer", {}, when(e.atMs), e.messageId && h("a", { href: `#/messages/${e.messageId}` }, t("Timeline"))));

function session(one) {
  return h("details", { class: "card session", open: true }, h("summary", {}, h("strong", {}, plain(one.agent)), " ", t("by"), " ", plain(one.channel), one.conversationId && ` · ${brief(one.conversationId, 40)}`),
    facts([[t("Turns"), number(one.turns)], [t("Tokens"), `${number(one.tokensIn)} / ${number(one.tokensOut)}`], [t("Model"), one.model], [t("Began"), when(one.createdMs)], [t("Last used"), when(one.updatedMs)]]),
    (one.transcript ?? []).length > 0 ? h("ol", { class: "log transcript" }, one.transcript.map(entry)) : h("p", { class: "dim" }, t("Nothing was answered in it yet.")));
}

function ofUser(place, user, me) {
  const body = h("div", {}, skeleton());
  const erase = button(t("Erase"), "danger", async () => {
    if (!(await confirmed(t("Erase these sessions?"), t("All sessions of {user} end, and their transcripts are erased for good. What is on its way to be delivered is still delivered.", { user }), t("Erase")))) return;
    await remove(`/api/sessions/${seg(user)}`);
    notice(t("Erased"));
    if (me.role === "user") show();
    else location.hash = "#/sessions";
  });
  swap(place, head(plain(user), t("All sessions of this user, with their transcripts."), me.role !== "user" && h("a", { class: "button", href: "#/sessions" }, icon("back"), t("All sessions")), erase), body);
  let shown = "";
  async function show() {
    try {
      const { sessions } = await get(`/api/sessions/${seg(user)}?limit=20`);
      const text = JSON.stringify(sessions);
      if (text !== shown) swap(body, sessions.map(session));
      shown = text;
      erase.hidden = false;
    } catch (e) {
      if (!(e instanceof Fault)) throw e;
      erase.hidden = true;
      shown = "";
      swap(body, e.status === 404 ? empty("sessions", t("No session"), t("There is none for this user, or it was erased."), h("a", { class: "button", href: "#/chat" }, t("Open the chat"))) : trouble(e, show));
    }
  }
  show();
  return onEvents(["turn.answered"], show, ["event", "message"]);
}

export function open(place, { path: [user], me }) {
  if (user || me.role === "user") return ofUser(place, user ?? me.userId, me);
  const list = paged({
    path: () => "/api/sessions",
    name: "sessions",
    label: t("Sessions"),
    row: (s) => h("li", { "data-id": s.id }, h("a", { class: "row", href: `#/sessions/${seg(s.userId)}` }, h("strong", {}, brief(s.userId, 60)),
      h("span", { class: "what dim" }, brief(s.agent, 40), " ", t("by"), " ", brief(s.channel, 40)), h("span", { class: "who dim" }, s.turns === 1 ? t("1 turn") : t("{n} turns", { n: number(s.turns) })), when(s.updatedMs))),
    nothing: () => empty("sessions", t("No session yet"), t("A session begins with a user's first message, and keeps what was said."), h("a", { class: "button", href: "#/chat" }, t("Open the chat"))),
  });
  swap(place, head(t("Sessions"), t("Conversations, the latest used first.")), list.node);
  return onEvents(["turn.answered"], list.refresh);
}
