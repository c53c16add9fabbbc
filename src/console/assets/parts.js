// Parts that several views share: heads, states, empty places, paged lists, calls that may fail.
//
// Invariant: a list holds one page of rows at a time, however many there are. What fails is said in the gateway's own words.

import { Fault, get } from "./api.js";
import { h, notice, plain, swap } from "./dom.js";
import { T, t } from "./i18n.js";
import { icon } from "./icons.js";

const STATES = {
  ok: ["connected", "answered", "sent", "ready", "ok", "allowed", "ran", "closed", "allow"],
  busy: ["queued", "running", "pending", "sending", "connecting", "half_open", "halfOpen"],
  warn: ["waiting_approval", "degraded", "unknown", "ask", "expired", "skipped", "draining"],
  bad: ["failed", "dead", "misconfigured", "failing", "open", "unavailable", "deny", "denied"],
};
const NAMES = {
  connected: T("connected"), answered: T("answered"), sent: T("sent"), ready: T("ready"), ok: T("ok"), allowed: T("allowed"),
  ran: T("ran"), closed: T("ok"), allow: T("allow"), queued: T("queued"), running: T("running"), pending: T("pending"),
  sending: T("sending"), connecting: T("connecting"), waiting_approval: T("waits for approval"), degraded: T("degraded"),
  unknown: T("unknown"), ask: T("ask"), expired: T("expired"), skipped: T("skipped"), draining: T("draining"), failed: T("failed"),
  dead: T("dead letter"), misconfigured: T("misconfigured"), failing: T("failing"), open: T("not asked for now"),
  unavailable: T("unavailable"), deny: T("deny"), denied: T("denied"), cancelled: T("cancelled"), stopped: T("stopped"),
  half_open: T("tried again"), halfOpen: T("tried again"),
};

/** A state in a word, with a dot whose shape and colour say the same. */
export function state(name) {
  const kind = Object.keys(STATES).find((k) => STATES[k].includes(name)) ?? "off";
  return h("span", { class: `state ${kind}` }, h("i", { "aria-hidden": "true" }), NAMES[name] ? t(NAMES[name]) : plain(name));
}

/** The head of a view. */
export const head = (title, about, ...actions) => h("header", { class: "view-head" },
  h("div", {}, h("h1", { tabindex: "-1" }, title), about && h("p", { class: "about" }, about)),
  actions.length > 0 && h("div", { class: "actions" }, actions));

/** Nothing there: what it is for, and the next step. */
export const empty = (name, title, text, ...more) => h("div", { class: "empty" }, icon(name), h("h2", {}, title), h("p", {}, text), more);

/** A button that works: shows that it does, and says what failed. */
export function button(label, kind, work) {
  const node = h("button", { type: "button", class: kind, on: { click: () => attempt(work, node) } }, label);
  return node;
}

/** Runs `work` with `node` shown as busy; gives whether it went well. */
export async function attempt(work, node) {
  if (node?.getAttribute("aria-busy") === "true") return false;
  node?.setAttribute("aria-busy", "true");
  try {
    await work();
    return true;
  } catch (e) {
    tell(e);
    return false;
  } finally {
    node?.removeAttribute("aria-busy");
  }
}

/** Says what failed. */
export function tell(e) {
  if (!(e instanceof Fault)) throw e;
  if (e.status === 401) return; // the page asks for a token by itself
  const more = e.errors.map((p) => `${p.path}: ${p.message}`).join("; ");
  notice(more ? `${e.message}: ${more}` : e.message, true);
}

/** A row of choices, one of which holds. `choices`: [[value, label]]. */
export function choices(label, options, value, choose) {
  const group = h("div", { class: "choices", role: "group", "aria-label": label });
  const draw = () => swap(group, options.map(([v, text]) => h("button", {
    type: "button", "aria-pressed": String(v === value), on: { click: () => {
      value = v;
      draw();
      group.querySelector('[aria-pressed="true"]')?.focus();
      choose(v);
    } },
  }, text)));
  draw();
  return group;
}

/** A list that comes in pages. `path()` is asked for, `name` is the list's key, `row` draws one, `nothing` draws none. */
export function paged({ path, name, row, nothing, label, limit = 50 }) {
  const rows = h("ul", { class: "rows", "aria-label": label });
  const place = h("div", { "aria-busy": "true" }, skeleton());
  const older = h("button", { type: "button", on: { click: () => turn(() => cursors.push(next)) } }, t("Older"));
  const newer = h("button", { type: "button", on: { click: () => turn(() => cursors.pop()) } }, t("Newer"));
  const count = h("span", { class: "dim", role: "status" });
  const feet = h("nav", { class: "pager", "aria-label": t("Pages") }, newer, count, older);
  let cursors = [];
  let next = null;
  let asked = 0;
  let shown = "";
  const turn = async (how) => {
    how();
    await load(true);
    place.scrollIntoView({ block: "nearest" });
  };
  async function load(fresh) {
    const mine = ++asked;
    const [base, query] = path().split("?");
    const search = new URLSearchParams(query ?? "");
    search.set("limit", limit);
    if (cursors.length > 0) search.set("cursor", cursors.at(-1));
    if (fresh) place.setAttribute("aria-busy", "true");
    try {
      const body = await get(`${base}?${search}`);
      if (mine !== asked) return;
      next = body.next;
      const text = JSON.stringify(body[name]);
      if (fresh || text !== shown) draw(body[name]);
      shown = text;
    } catch (e) {
      if (mine !== asked) return;
      if (!(e instanceof Fault)) throw e;
      if (e.status !== 404) swap(place, trouble(e, () => load(true)));
      else draw([]);
      shown = "";
    } finally {
      if (mine === asked) place.removeAttribute("aria-busy");
    }
  }
  function draw(items) {
    const at = document.activeElement?.closest?.("[data-id]")?.dataset.id;
    if (items.length === 0 && cursors.length === 0) return void swap(place, nothing());
    swap(rows, items.map(row));
    const many = next !== null || cursors.length > 0;
    [older.disabled, newer.disabled] = [next === null, cursors.length === 0];
    count.textContent = t("Page {n}", { n: cursors.length + 1 });
    swap(place, rows, many && feet);
    if (at) rows.querySelector(`[data-id="${CSS.escape(at)}"] a, [data-id="${CSS.escape(at)}"] button`)?.focus();
  }
  load(true);
  return {
    node: place,
    refresh: () => load(false),
    restart: () => ((cursors = []), load(true)),
  };
}

/** What stands where something is still to come. */
export const skeleton = () => h("div", { class: "skeleton", role: "status" }, h("span", { class: "off-screen" }, t("Loading…")), h("i"), h("i"), h("i"));

/** What stands where something could not be had. */
export const trouble = (e, again) => h("div", { class: "empty" }, h("h2", {}, t("This could not be loaded")), h("p", {}, plain(e.message)),
  button(t("Try again"), "", again));

/** Names and values. */
export const facts = (pairs) => h("dl", { class: "facts" }, pairs.filter(([, v]) => v !== null && v !== undefined && v !== "")
  .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value instanceof Node ? value : plain(value)))));
