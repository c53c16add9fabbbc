// Agents and tools: who answers, by which provider, what may be called, and the rules that were learned.
//
// Invariant: shows, and takes learned rules back; everything else is the configuration's.

import { Fault, get, remove, seg } from "./api.js";
import { confirmed, exact, h, number, plain, swap, when } from "./dom.js";
import { t } from "./i18n.js";
import { onEvents } from "./live.js";
import { button, facts, head, skeleton, state, trouble } from "./parts.js";

const DAYS = 14;

function agent(a) {
  return h("article", { class: "card agent" }, h("header", {}, h("h3", {}, plain(a.name)), a.enabled ? state(a.state) : state("stopped")), a.lastError && h("p", { class: "problem" }, plain(a.lastError)),
    facts([[t("Provider"), a.provider === "builtin" ? t("none: it repeats what it hears") : a.provider], [t("Model"), a.provider === "builtin" ? null : a.model], [t("Turns"), number(a.turns)], [t("Failed"), a.failures ? number(a.failures) : null], [t("Since"), a.sinceMs ? when(a.sinceMs) : null]]));
}

const provider = (p) => h("li", { class: "row" }, h("strong", {}, plain(p.name)), h("span", { class: "what dim" }, p.failures ? t("{n} failures in a row", { n: p.failures }) : ""), state(p.state));

const server = (s) => h("li", { class: "row" }, h("strong", {}, plain(s.name)), h("span", { class: "what dim" }, plain(s.transport), s.protocolVersion ? ` · ${s.protocolVersion}` : "", " · ", t("{n} tools", { n: s.tools }), s.lastError && h("span", { class: "problem" }, " ", plain(s.lastError))), state(s.state));

function tool(x) {
  return h("li", {}, h("details", {}, h("summary", { class: "row" }, h("code", {}, plain(x.name)), h("span", { class: "what dim", dir: "auto" }, plain(x.description)), state(x.policy)),
    facts([[t("From"), x.source], [t("Repeatable without harm"), x.idempotent ? t("yes") : t("no")], [t("Can do harm"), x.dangerous ? t("yes") : t("no")]]),
    (x.rules ?? []).length > 0 && h("pre", { class: "exact" }, exact(JSON.stringify(x.rules, null, 2))),
    h("h4", {}, t("Arguments")), h("pre", { class: "exact", tabindex: "0", role: "region", "aria-label": t("Arguments") }, exact(JSON.stringify(x.schema, null, 2)))));
}

/** Tokens by day, as bars. */
function usage(list) {
  const today = Math.floor(Date.now() / 86400000);
  const days = Array.from({ length: DAYS }, (_, i) => {
    const of = list.filter((u) => u.day === today - DAYS + 1 + i);
    return { date: new Date((today - DAYS + 1 + i) * 86400000), tokens: of.reduce((n, u) => n + u.tokensIn + u.tokensOut, 0) };
  });
  const most = Math.max(1, ...days.map((d) => d.tokens));
  return h("ol", { class: "bars", "aria-label": t("Tokens a day") }, days.map(({ date, tokens }) => {
    const bar = h("i", { "aria-hidden": "true" });
    bar.style.height = `${Math.max(2, (tokens / most) * 100)}%`;
    return h("li", { title: `${date.toLocaleDateString()}: ${number(tokens)}` }, bar, h("span", { class: "off-screen" }, `${date.toLocaleDateString()}: ${number(tokens)}`), h("small", { "aria-hidden": "true" }, date.getUTCDate()));
  }));
}

export function open(place, { me }) {
  const body = h("div", { class: "stack" }, skeleton());
  swap(place, head(t("Agents and tools"), t("Who answers, and what may be called on whose word."), me.role === "admin" && h("a", { class: "button", href: "#/config/agents" }, t("Change agents")), me.role === "admin" && h("a", { class: "button", href: "#/config/tools" }, t("Change policy"))), body);
  const section = (title, about, ...content) => h("section", {}, h("h2", {}, title), about && h("p", { class: "dim" }, about), content);

  function rule(r) {
    const forget = button(t("Forget"), "danger", async () => {
      if (await confirmed(t("Forget this rule?"), t("Calls like this one are asked about again."), t("Forget"))) {
        await remove(`/api/tools/rules/${seg(r.id)}`);
        show();
      }
    });
    return h("li", { class: "card" }, h("h3", {}, h("code", {}, exact(r.tool))), h("pre", { class: "exact", tabindex: "0", role: "region", "aria-label": t("Exact arguments") }, exact(JSON.stringify(r.arguments, null, 2))),
      facts([[t("Agent"), exact(r.agent)], [t("User"), exact(r.userId)], [t("Channel"), exact(r.channel)], [t("Made by"), exact(r.by)], [t("Made"), when(r.createdMs)]]), h("div", { class: "actions" }, forget));
  }

  async function show() {
    try {
      const [all, tools, used] = await Promise.all([get("/api/agents"), get("/api/tools"), get(`/api/usage?days=${DAYS}`)]);
      swap(body,
        section(t("Agents"), null, h("div", { class: "cards" }, all.agents.map(agent))),
        section(t("Tokens a day"), null, usage(used.usage)),
        section(t("Providers"), null, all.providers.length ? h("ul", { class: "rows" }, all.providers.map(provider)) : h("p", { class: "call" }, t("None is configured. A model server on this machine is found by itself."), " ", me.role === "admin" && h("a", { href: "#/config/providers" }, t("Add a provider")))),
        all.mcp.length > 0 && section(t("MCP servers"), null, h("ul", { class: "rows" }, all.mcp.map(server))),
        section(t("Tools"), h("span", {}, t("What no rule names:"), " ", state(tools.default)), h("ul", { class: "rows" }, tools.tools.map(tool))),
        section(t("Learned rules"), t("Made by “always allow exactly this”."), tools.rules.length ? h("ul", { class: "rows plain" }, tools.rules.map(rule)) : h("p", { class: "dim" }, t("None yet."))));
    } catch (e) {
      if (!(e instanceof Fault)) throw e;
      swap(body, trouble(e, show));
    }
  }
  show();
  return onEvents(["config.", "approval.decided"], () => body.contains(document.activeElement) || body.querySelector("details[open]") || show());
}
