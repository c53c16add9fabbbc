// Logs and the audit trail, live.
//
// Invariant: shows what the gateway keeps, newest first; it stands still while somebody reads further down or has paused it.

import { Fault, get } from "./api.js";
import { brief, clockTime, h, plain, swap, when } from "./dom.js";
import { t } from "./i18n.js";
import { onEvents } from "./live.js";
import { choices, empty, facts, head, paged, skeleton, trouble } from "./parts.js";

const LOOK_MS = 3000;

const field = (value) => (typeof value === "string" ? value : JSON.stringify(value));
const pairs = (object) => Object.entries(object ?? {}).map(([k, v]) => [k, brief(field(v), 2000)]);

function record(r) {
  const at = Date.parse(r.time);
  return h("li", { class: `log-line ${r.level}` }, h("details", {}, h("summary", {}, h("time", { datetime: r.time, title: new Date(at).toLocaleString() }, clockTime(at)), h("b", {}, plain(r.level)), h("span", {}, brief(r.message, 400))),
    facts([[t("Part"), r.target], ...pairs(r.fields)])));
}

function logs(place) {
  let level = "info";
  let word = "";
  let paused = false;
  let timer = 0;
  let gone = false;
  let shown = "";
  const list = h("ul", { class: "lines", "aria-label": t("Log records") });
  const body = h("div", {}, skeleton());
  const search = h("input", { type: "search", placeholder: t("Filter"), "aria-label": t("Filter"), on: { input: () => ((word = search.value.toLowerCase()), (shown = ""), look()) } });
  const pause = h("button", { type: "button", "aria-pressed": "false", on: { click: () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? t("Go on") : t("Pause");
    look();
  } } }, t("Pause"));
  const levels = [["error", t("Errors")], ["warn", t("Warnings")], ["info", t("All but details")], ["trace", t("All")]];
  swap(place, head(t("Logs"), t("The latest records of the gateway's memory, newest first."), search, choices(t("Level"), levels, level, (v) => ((level = v), (shown = ""), look())), pause), body);

  async function look() {
    clearTimeout(timer);
    let wait = LOOK_MS;
    const reading = list.querySelector("details[open]") && list.isConnected;
    if (!document.hidden && ((!paused && !reading) || shown === "")) {
      try {
        const all = (await get(`/api/logs?limit=500&level=${level}`)).logs;
        const told = level === "info" ? all.filter((r) => r.target !== "gatelet::request" || r.fields.status >= 400) : all;
        const records = word ? told.filter((r) => JSON.stringify(r).toLowerCase().includes(word)) : told;
        const text = JSON.stringify(records);
        if (text !== shown && !gone) {
          shown = text;
          swap(body, records.length ? swap(list, records.map(record)) : empty("logs", t("No such record"), t("Nothing of this kind was logged lately.")));
        }
      } catch (e) {
        if (!(e instanceof Fault)) throw e;
        if (shown === "" && !gone) swap(body, trouble(e, look));
        wait = Math.max(LOOK_MS * 3, e.wait * 1000);
      }
    }
    if (!gone) timer = setTimeout(look, wait);
  }
  look();
  return () => ((gone = true), clearTimeout(timer));
}

function audit(place) {
  const list = paged({
    path: () => "/api/audit",
    name: "audit",
    label: t("Audit"),
    row: (e) => h("li", { "data-id": String(e.atMs) + e.action }, h("details", {}, h("summary", { class: "row" }, h("code", {}, plain(e.action)), h("span", { class: "what dim" }, pairs(e.detail).filter(([k]) => !["digest", "question"].includes(k)).slice(0, 3).map(([, v]) => v).join(" · ")), h("span", { class: "who" }, brief(e.actor, 60)), when(e.atMs)), facts(pairs(e.detail)))),
    nothing: () => empty("audit", t("Nothing happened yet"), t("Tool calls, decisions, changes of the configuration and failed logins leave a trace here.")),
  });
  swap(place, head(t("Audit"), t("Who did what, and what was refused.")), list.node);
  const calm = () => list.node.querySelector("details[open]") || list.refresh();
  const timer = setInterval(() => document.hidden || calm(), 8000);
  const off = onEvents(["approval.", "config.", "pairing.", "turn."], calm);
  return () => (clearInterval(timer), off());
}

export const open = (place, { name }) => (name === "audit" ? audit(place) : logs(place));
