// Configuration: the running document as a form and as a text, checked by the gateway before it is saved.
//
// Invariant: nothing is saved that was not shown: what applies at once and what needs a restart come first. What somebody else changed
// meanwhile is never overwritten: our changes are laid over it and shown again. The draft outlives a look at another view.

import { Fault, call, get } from "./api.js";
import { confirmed, dialog, h, notice, plain, swap } from "./dom.js";
import { fieldOf, form, showProblems } from "./form.js";
import { t } from "./i18n.js";
import { at, clone, diff, locate, merged, put, same } from "./json.js";
import { onEvents } from "./live.js";
import { inline } from "./markdown.js";
import { attempt, choices, head, skeleton, tell, trouble } from "./parts.js";

let schema = null;
let base = null; // {document, etag}
let draft = null;
let text = null; // as it is being written, where it is no JSON yet
let mode = "form";

const changed = () => base !== null && (text !== null || !same(base.document, draft));

async function load() {
  schema ??= await get("/api/config/schema");
  const { body, etag } = await call("GET", "/api/config");
  base = { document: body, etag };
  draft = clone(body);
  text = null;
}

/** What is to be sent. What is built in only as long as nothing is written beside it is written out with it. */
function patch() {
  const all = diff(base.document, draft);
  if (all?.agents) all.agents = { ...draft.agents, ...all.agents };
  if (all?.tools) Object.assign(all.tools, { default: draft.tools?.default, rules: draft.tools?.rules });
  return all;
}

window.addEventListener("beforeunload", (event) => changed() && event.preventDefault());

export function open(place, { path: [section, type] }) {
  const body = h("div", {}, skeleton());
  const bar = h("div", { class: "save-bar", role: "group", "aria-label": t("Changes") });
  const sum = h("div", { class: "problems", role: "alert" });
  const modes = choices(t("View as"), [["form", t("Form")], ["text", t("Text")]], mode, async (chosen) => {
    if (chosen === "form" && text !== null && !read()) return place.querySelector(".choices button[aria-pressed=false]")?.click();
    mode = chosen;
    swap(sum);
    draw();
  });
  swap(place, head(t("Configuration"), t("The running configuration; secrets are shown as ***. Every change is checked before it is saved."), modes), sum, body, bar);
  let problems = [];
  let area = null;

  /** The text into the draft; says where it is no JSON. */
  function read() {
    if (text === null) return true;
    try {
      const parsed = JSON.parse(text);
      if (parsed === null || typeof parsed !== "object" || Array.isArray(parsed)) throw new SyntaxError(t("The document is an object: { … }"));
      draft = parsed;
      text = null;
      return true;
    } catch (e) {
      const found = /position (\d+)/.exec(e.message);
      summary([{ path: "$", message: e.message, offset: found ? Number(found[1]) : 0 }]);
      return false;
    }
  }

  function sections() {
    const names = Object.keys(schema.properties).filter((n) => n !== "$schema");
    if (!names.includes(section)) section = names[0];
    return h("nav", { class: "tabs", "aria-label": t("Sections") }, names.map((n) => h("a", { href: `#/config/${n}`, "aria-current": n === section ? "page" : null, on: { click: (e) => (e.preventDefault(), turn(n)) } }, n,
      problems.some((p) => p.path === `$.${n}` || p.path.startsWith(`$.${n}.`) || p.path.startsWith(`$.${n}[`)) && h("b", { class: "count" }, "!"))));
  }

  function turn(to) {
    section = to;
    history.replaceState(null, "", `#/config/${to}`);
    draw();
    body.querySelector(".tabs [aria-current]")?.focus();
  }

  function draw(focus) {
    const open = new Set([...body.querySelectorAll("details[open]")].map((d) => d.dataset.key));
    if (mode === "text") drawText();
    else {
      const part = schema.properties[section] ?? null;
      const nav = sections();
      const of = part ?? schema.properties[section];
      const content = form(of, draft, [section], section, (whole, path) => (whole ? draw(path) : foot()));
      swap(body, h("div", { class: "config" }, nav, h("form", { class: "config-form", "aria-label": section, on: { submit: (e) => (e.preventDefault(), review()) } }, h("h2", {}, section), h("p", { class: "dim" }, inline(of.description ?? "")), content, h("button", { type: "submit", hidden: true }))));
      for (const d of body.querySelectorAll("details")) if (open.has(d.dataset.key)) d.open = true;
      showProblems(body, problems);
      if (focus) show(focus);
    }
    foot();
  }

  function drawText() {
    area = h("textarea", { class: "source", spellcheck: "false", "aria-label": t("Configuration as JSON"), "aria-describedby": "place", wrap: "off", value: text ?? JSON.stringify(draft, null, 2), on: { input: () => ((text = area.value), foot()), keyup: where, click: where } });
    const spot = h("p", { id: "place", class: "dim" });
    function where() {
      const before = area.value.slice(0, area.selectionStart);
      spot.textContent = t("Line {n}", { n: before.split("\n").length });
    }
    swap(body, area, spot);
    where();
  }

  /** Opens and focuses the field of a path, or its place in the text. */
  function show(path, offset) {
    if (mode === "text") {
      const from = offset ?? locate(area.value, path);
      area.focus();
      area.setSelectionRange(from, Math.max(from + 1, area.value.indexOf("\n", from)));
      area.scrollTop = Math.max(0, (area.value.slice(0, from).split("\n").length - 6) * (area.scrollHeight / area.value.split("\n").length));
      return;
    }
    const top = /^\$\.([A-Za-z]+)/.exec(path)?.[1];
    if (top && top !== section && schema.properties[top]) turn(top);
    const node = fieldOf(body, path);
    for (let up = node; up && up !== body; up = up.parentElement) if (up instanceof HTMLDetailsElement) up.open = true;
    node?.querySelector("input:not([hidden]), select, textarea, summary, button")?.focus();
    node?.scrollIntoView({ block: "center" });
  }

  function summary(found) {
    problems = found;
    const line = (p) => {
      const offset = mode === "text" ? (p.offset ?? locate(area.value, p.path)) : null;
      const at = offset === null ? "" : ` (${t("Line {n}", { n: area.value.slice(0, offset).split("\n").length })})`;
      return h("li", {}, h("button", { type: "button", class: "link", on: { click: () => show(p.path, p.offset) } }, h("code", {}, plain(p.path)), at), ": ", plain(p.message));
    };
    swap(sum, found.length > 0 && [h("h2", {}, found.length === 1 ? t("One problem. Nothing was saved.") : t("{n} problems. Nothing was saved.", { n: found.length })), h("ul", {}, found.map(line))]);
    if (found.length > 0) sum.scrollIntoView({ block: "nearest" });
  }

  function refused(e) {
    if (!(e instanceof Fault)) throw e;
    if (e.errors.length === 0) return tell(e);
    summary(e.errors);
    if (mode === "form") draw();
  }

  async function review() {
    if (!read()) return;
    const change = patch();
    if (change === undefined) return notice(t("Nothing was changed."));
    let plan;
    try {
      plan = (await call("PATCH", "/api/config?dryRun=true", { body: change, etag: base.etag })).body;
    } catch (e) {
      if (e.status === 412) return rebase(change);
      return refused(e);
    }
    summary([]);
    if (mode === "form") draw();
    if (plan.applied.length + plan.restartRequired.length === 0) return notice(t("This changes nothing of what runs."));
    const list = (title, about, paths, kind) => paths.length > 0 && h("section", { class: `plan ${kind}` }, h("h3", {}, title), h("p", { class: "dim" }, about), h("ul", {}, paths.map((p) => h("li", {}, h("code", {}, plain(p))))));
    const sure = await dialog(t("Save these changes?"), [list(t("At once"), t("These apply as soon as they are saved."), plan.applied, "ok"), list(t("After a restart"), t("These are saved, and count from the gateway's next start."), plan.restartRequired, "warn")], [[null, t("Back"), ""], [true, t("Save"), "primary"]]);
    if (!sure) return;
    try {
      const done = (await call("PATCH", "/api/config", { body: change, etag: base.etag })).body;
      await load();
      draw();
      notice(done.restartRequired.length > 0 ? t("Saved. Some of it counts from the next start.") : t("Saved. It applies now."));
    } catch (e) {
      if (e.status === 412) return rebase(change);
      refused(e);
    }
  }

  async function rebase(change) {
    await load();
    draft = merged(base.document, change);
    draw();
    notice(t("Somebody changed the configuration meanwhile. Your changes are laid over it now: look at them again."), true);
  }

  function foot() {
    const dirty = changed();
    bar.classList.toggle("dirty", dirty);
    if (bar.childElementCount > 0 && bar.dataset.dirty === String(dirty)) return;
    bar.dataset.dirty = String(dirty);
    const save = h("button", { type: "button", class: "primary", disabled: !dirty, on: { click: () => attempt(review, save) } }, t("Review and save"));
    const drop = h("button", { type: "button", disabled: !dirty, on: { click: async () => {
      if (!(await confirmed(t("Drop your changes?"), t("The form shows what runs again."), t("Drop")))) return;
      [draft, text] = [clone(base.document), null];
      summary([]);
      draw();
    } } }, t("Drop changes"));
    swap(bar, h("span", { class: "dim", role: "status" }, dirty ? t("Not saved yet") : t("No changes")), drop, save);
  }

  async function start(fresh) {
    try {
      if (base === null || (fresh && !changed())) await load();
      // A link that adds a provider or a channel of a type.
      const variants = schema.properties[section]?.additionalProperties?.oneOf ?? [];
      if (type && variants.some((v) => v.properties.type.const === type)) {
        mode = "form";
        if (at(draft, [section, type]) === undefined) put(draft, [section, type], { type });
        history.replaceState(null, "", `#/config/${section}`);
        return draw(`$.${section}.${type}`);
      }
      draw();
    } catch (e) {
      if (!(e instanceof Fault)) throw e;
      swap(body, trouble(e, start));
    }
  }
  start(true);
  return onEvents(["config.changed"], () => changed() || body.contains(document.activeElement) || load().then(() => draw(), () => {}));
}
