// Jobs: scheduled turns and messages.
//
// Invariant: jobs of the configuration are changed there alone, and say so. What the gateway refuses is shown at its field.

import { Fault, call, get, post, remove, seg } from "./api.js";
import { brief, confirmed, h, notice, plain, span, swap, when } from "./dom.js";
import { t } from "./i18n.js";
import { button, empty, facts, head, skeleton, state, tell, trouble } from "./parts.js";

const schedule = (j) => (j.cron ? `${j.cron}${j.timezone ? ` · ${j.timezone}` : ""}` : j.every ? t("every {time}", { time: span(j.every) }) : t("once, {time}", { time: new Date(j.at).toLocaleString() }));

export function open(place) {
  const body = h("div", {}, skeleton());
  const form = h("div");
  const add = h("button", { type: "button", class: "primary", "aria-expanded": "false", on: { click: () => edit() } }, t("Add a job"));
  swap(place, head(t("Jobs"), t("Turns and messages that happen by the clock."), add), form, body);

  async function edit() {
    add.setAttribute("aria-expanded", "true");
    const agents = await get("/api/agents").then((a) => a.agents.map((x) => x.name), () => []);
    const { channels } = await get("/api/channels").catch(() => ({ channels: [] }));
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    const problems = h("div", { role: "alert" });
    const field = (name, label, input, note) => {
      input.id = `job-${name}`;
      input.dataset.name = name;
      return h("div", { class: "field", "data-field": name }, h("label", { for: input.id }, label), input, note && h("p", { class: "dim" }, note), h("p", { class: "problem", "data-problem": name }));
    };
    const select = (options) => h("select", {}, options.map(([v, l]) => h("option", { value: v }, l)));
    const how = select([["cron", t("by a cron line")], ["every", t("again and again")], ["at", t("once")]]);
    const what = select([["turn", t("ask an agent")], ["message", t("send a text")]]);
    const fields = {
      cron: field("cron", t("Cron line"), h("input", { value: "0 8 * * *", spellcheck: "false" }), t("minute, hour, day, month, weekday")),
      timezone: field("timezone", t("Time zone"), h("input", { value: zone })),
      every: field("every", t("Every (minutes)"), h("input", { type: "number", min: "1", value: "60" })),
      at: field("at", t("At"), h("input", { type: "datetime-local" })),
      agent: field("agent", t("Agent"), select(agents.map((n) => [n, n]))),
      prompt: field("prompt", t("What it is asked"), h("textarea", { rows: "3" })),
      message: field("message", t("Text"), h("textarea", { rows: "3" })),
      userId: field("userId", t("For the user"), h("input", { autocomplete: "off" })),
      channel: field("channel", t("By the channel"), select([["", t("where the user was last seen")], ...channels.map((c) => [c.name, c.name])])),
    };
    const value = (name) => fields[name].querySelector("input, textarea, select").value.trim();
    const sync = () => {
      for (const name of ["cron", "timezone"]) fields[name].hidden = how.value !== "cron";
      fields.every.hidden = how.value !== "every";
      fields.at.hidden = how.value !== "at";
      for (const name of ["agent", "prompt"]) fields[name].hidden = what.value !== "turn";
      fields.message.hidden = what.value !== "message";
    };
    how.addEventListener("change", sync);
    what.addEventListener("change", sync);
    const save = h("button", { type: "submit", class: "primary" }, t("Save"));
    const shut = () => (swap(form), add.setAttribute("aria-expanded", "false"), add.focus());
    swap(form, h("form", { class: "card form", "aria-label": t("Add a job"), on: { submit: async (event) => {
      event.preventDefault();
      const job = { userId: value("userId") };
      if (value("channel")) job.channel = value("channel");
      if (how.value === "cron") Object.assign(job, { cron: value("cron") }, value("timezone") ? { timezone: value("timezone") } : {});
      if (how.value === "every") job.every = Math.round(Number(value("every")) * 60000);
      if (how.value === "at") job.at = value("at") ? new Date(value("at")).toISOString() : null;
      Object.assign(job, what.value === "turn" ? { agent: value("agent"), prompt: value("prompt") } : { message: value("message") });
      save.setAttribute("aria-busy", "true");
      for (const p of form.querySelectorAll("[data-problem]")) p.textContent = "";
      swap(problems);
      try {
        await post("/api/jobs", job);
        shut();
        show();
      } catch (e) {
        if (!(e instanceof Fault)) throw e;
        const lost = e.errors.filter((p) => {
          const at = form.querySelector(`[data-problem="${CSS.escape(p.path.slice(2))}"]`);
          if (at) at.textContent = p.message;
          return !at;
        });
        swap(problems, (e.errors.length ? lost.map((p) => p.message) : [e.message]).map((m) => h("p", { class: "problem" }, plain(m))));
      } finally {
        save.removeAttribute("aria-busy");
      }
    } } }, h("div", { class: "fields" }, h("div", { class: "field" }, h("label", { for: "job-how" }, t("When")), how), fields.cron, fields.timezone, fields.every, fields.at,
      h("div", { class: "field" }, h("label", { for: "job-what" }, t("What")), what), fields.agent, fields.prompt, fields.message, fields.userId, fields.channel),
    problems, h("div", { class: "actions" }, save, h("button", { type: "button", on: { click: shut } }, t("Cancel")))));
    [how.id, what.id] = ["job-how", "job-what"];
    sync();
    how.focus();
  }

  function card(j) {
    const runs = h("div", { class: "runs" });
    const past = h("details", { on: { toggle: async () => {
      if (!past.open) return;
      try {
        const list = (await get(`/api/jobs/${seg(j.id)}/runs?limit=20`)).runs;
        swap(runs, list.length ? h("ul", { class: "rows" }, list.map((r) => h("li", { class: "row" }, state(r.outcome), h("span", { class: "what dim" }, /^msg_/.test(r.detail) ? h("a", { href: `#/messages/${r.detail}` }, t("Timeline")) : plain(r.detail)), when(r.atMs)))) : h("p", { class: "dim" }, t("It has not run yet.")));
      } catch (e) {
        tell(e);
      }
    } } }, h("summary", {}, t("Runs")), runs);
    return h("article", { class: "card job", role: "listitem", "data-id": j.id }, h("header", {}, h("h2", {}, plain(j.id)), j.enabled ? null : state("stopped"), h("code", {}, plain(schedule(j)))),
      h("p", { class: "quote", dir: "auto" }, brief(j.prompt ?? j.message, 300)),
      facts([[t("Next"), j.nextMs ? when(j.nextMs) : t("never")], [t("Agent"), j.agent], [t("User"), j.userId], [t("Channel"), j.channel], [t("Made by"), j.by === "config" ? t("the configuration") : j.by]]),
      past, h("div", { class: "actions" }, button(t("Run now"), "", async () => (await post(`/api/jobs/${seg(j.id)}/run`), notice(t("It runs.")), (past.open = false), setTimeout(() => (past.open = true), 300))),
        j.by === "config" ? h("a", { class: "button quiet", href: "#/config/jobs" }, t("Change it in the configuration"))
          : [button(j.enabled ? t("Pause") : t("Resume"), "", async () => (await call("PUT", `/api/jobs/${seg(j.id)}`, { body: { ...j, enabled: !j.enabled } }), show())),
            button(t("Remove"), "danger", async () => (await confirmed(t("Remove this job?"), j.id, t("Remove"))) && (await remove(`/api/jobs/${seg(j.id)}`), show()))]));
  }

  async function show() {
    try {
      const { jobs } = await get("/api/jobs");
      swap(body, jobs.length ? h("div", { class: "cards", role: "list" }, jobs.map(card)) : empty("jobs", t("No job yet"), t("A job asks an agent something at a set time, or sends a text: a morning report, a reminder. What was missed while the gateway was down can be made up for.")));
    } catch (e) {
      if (!(e instanceof Fault)) throw e;
      swap(body, trouble(e, show));
    }
  }
  show();
}
