// A form from a JSON Schema: what stands in a document, field by field.
//
// Invariant: it writes into the draft alone. A secret is shown as set or not, never as itself. What the schema has no field for is
// left as it is.

import { h, plain, swap } from "./dom.js";
import { t } from "./i18n.js";
import { at, isObject, pathOf, put, same } from "./json.js";
import { inline } from "./markdown.js";

const FIRST = ["type", "enabled", "provider", "model", "systemPrompt", "baseUrl", "apiKey", "token", "secret", "url", "replyUrl", "homeserver", "userId", "accessToken", "appToken", "botToken", "username", "password", "mode", "listen", "name", "role", "id", "cron", "every", "agent", "prompt", "message", "channel", "user", "tool", "action", "default", "rules", "level", "path", "maxRequests", "command"];
const LONG = ["systemPrompt", "prompt", "message", "about"];

const types = (schema) => [schema.type ?? []].flat();
const isSecret = (schema) => schema.$ref?.endsWith("/secret") || (schema.anyOf ?? []).some((s) => s.$ref?.endsWith("/secret"));
const isMap = (schema) => isObject(schema.additionalProperties);
const isDeep = (schema) => Boolean(schema.properties) || isMap(schema) || Boolean(schema.oneOf) || isObject(schema.items?.properties) || isMap(schema.items ?? {});

/** A field's frame: label, input, what it means, its problem. */
function field(keys, label, schema, input, more) {
  const path = pathOf(keys);
  const id = "f" + path;
  input.id = id;
  const notes = [schema.description, schema.minimum !== undefined && schema.maximum !== undefined ? t("{low} to {high}", { low: schema.minimum, high: schema.maximum }) : null,
    schema.default !== null && schema.default !== undefined && !isDeep(schema) && JSON.stringify(schema.default).length < 60 && schema.default !== "" ? t("default: {value}", { value: JSON.stringify(schema.default) }) : null];
  input.setAttribute("aria-describedby", `${id}-about ${id}-problem`);
  const about = h("p", { class: "dim", id: `${id}-about` }, inline(notes.filter(Boolean).join(" · ")));
  const problem = h("p", { class: "problem", id: `${id}-problem` });
  const isCheck = input.type === "checkbox";
  return h("div", { class: isCheck ? "field check" : "field", "data-path": path }, isCheck ? [input, h("label", { for: id }, plain(label))] : [h("label", { for: id }, plain(label)), input], more, about, problem);
}

/** Draws the schema's part at `keys`. `touch(whole)` is told of changes; `whole` where the form has to be drawn anew. */
export function form(schema, document, keys, label, touch) {
  const value = at(document, keys);
  const write = (v, whole) => (put(document, keys, v), touch(whole));
  const known = value === undefined ? schema.default : value;
  const nullable = types(schema).includes("null") || (schema.enum ?? []).includes(null) || (schema.anyOf ?? []).some((s) => s.type === "null");

  if (isSecret(schema)) return secret(schema, known, keys, label, write);
  if (schema.enum) {
    const options = schema.enum.map((v) => h("option", { value: JSON.stringify(v) }, v === null ? t("not set") : plain(v)));
    const select = h("select", { on: { change: () => write(JSON.parse(select.value)) } }, known === undefined ? h("option", { value: "null" }, t("choose…")) : null, options);
    if (known !== undefined) select.value = JSON.stringify(known);
    return field(keys, label, schema, select);
  }
  if (schema.oneOf) return variant(schema, document, keys, label, touch);
  if (schema.properties) return section(schema, document, keys, label, touch);
  if (isMap(schema)) return map(schema, document, keys, label, touch);
  if (types(schema).includes("array")) return isDeep(schema) ? list(schema, document, keys, label, touch) : lines(schema, known, keys, label, write, nullable);
  if (types(schema).includes("boolean")) {
    const box = h("input", { type: "checkbox", checked: known === true, on: { change: () => write(box.checked) } });
    return field(keys, label, schema, box);
  }
  if (types(schema).includes("integer")) {
    const input = h("input", { type: "number", min: schema.minimum, max: schema.maximum, step: "1", value: known ?? "", placeholder: nullable ? t("not set") : "", on: { input: () => write(input.value === "" ? (nullable ? null : undefined) : Number(input.value)) } });
    return field(keys, label, schema, input);
  }
  if (types(schema).includes("string")) {
    const name = keys.at(-1);
    const input = h(LONG.includes(name) ? "textarea" : "input", { value: known ?? "", rows: "4", spellcheck: LONG.includes(name) ? "true" : "false", autocomplete: "off", placeholder: nullable ? t("not set") : "", on: { input: () => write(input.value === "" && nullable ? null : input.value) } });
    return field(keys, label, schema, input);
  }
  const raw = h("textarea", { rows: "4", spellcheck: "false", value: known === undefined ? "" : JSON.stringify(known, null, 2), on: { change: () => {
    try {
      write(raw.value.trim() === "" ? undefined : JSON.parse(raw.value));
      raw.setCustomValidity("");
    } catch {
      raw.setCustomValidity(t("This is no JSON."));
      raw.reportValidity();
    }
  } } });
  return field(keys, label, schema, raw);
}

function secret(schema, known, keys, label, write) {
  const way = isObject(known) ? (known.env !== undefined ? "env" : "file") : known === "***" ? "kept" : known ? "text" : "none";
  const options = [["none", t("not set")], ...(known === "***" ? [["kept", t("set; leave it as it is")]] : []), ["text", t("this text")], ["env", t("from the environment variable")], ["file", t("from the file")]];
  const select = h("select", {}, options.map(([v, l]) => h("option", { value: v }, l)));
  select.value = way;
  const input = h("input", { autocomplete: "off", spellcheck: "false", "aria-label": t("{name}: its value", { name: label }) });
  if (isObject(known)) input.value = known.env ?? known.file ?? "";
  else if (way === "text") input.value = known;
  const sync = () => {
    input.hidden = ["none", "kept"].includes(select.value);
    input.type = select.value === "text" ? "password" : "text";
    input.placeholder = { text: t("the secret itself"), env: "TOKEN", file: "/run/credentials/token" }[select.value] ?? "";
  };
  const say = () => write({ none: null, kept: "***", text: input.value, env: { env: input.value }, file: { file: input.value } }[select.value]);
  select.addEventListener("change", () => ((input.value = ""), sync(), say(), input.hidden || input.focus()));
  input.addEventListener("input", say);
  sync();
  return field(keys, label, schema, select, input);
}

function lines(schema, known, keys, label, write, nullable) {
  const number = types(schema.items ?? {}).includes("integer");
  const area = h("textarea", { rows: String(Math.min(8, Math.max(2, (known ?? []).length + 1))), spellcheck: "false", value: (known ?? []).join("\n"), placeholder: known === null ? t("not set") : "", on: { input: () => {
    const texts = area.value.split("\n").map((l) => l.trim()).filter(Boolean);
    write(texts.length === 0 && nullable ? null : number ? texts.map(Number) : texts);
  } } });
  return field(keys, label, { ...schema, description: `${schema.description ?? ""} ${t("One a line.")}` }, area);
}

/** The fields of an object: those that matter or were changed, then the others. */
function fields(properties, required, document, keys, touch) {
  const value = at(document, keys) ?? {};
  const names = Object.keys(properties).filter((n) => n !== "$schema" && properties[n].const === undefined);
  const isFirst = (n) => required.includes(n) || (FIRST.includes(n) && !isDeep(properties[n])) || (value[n] !== undefined && !same(value[n], properties[n].default ?? (isDeep(properties[n]) ? value[n] : null)));
  const order = (n) => (FIRST.indexOf(n) < 0 ? 99 : FIRST.indexOf(n));
  const flat = names.filter((n) => !isDeep(properties[n]));
  // Where nothing stands out, nothing is put aside either.
  const all = flat.length <= 4 || !flat.some(isFirst);
  const first = flat.filter((n) => all || isFirst(n)).sort((a, b) => order(a) - order(b));
  const more = flat.filter((n) => !first.includes(n));
  const deep = names.filter((n) => isDeep(properties[n]));
  const draw = (n) => form(properties[n], document, [...keys, n], n, touch);
  return [first.length > 0 && h("div", { class: "fields" }, first.map(draw)),
    more.length > 0 && h("details", { class: "more", "data-key": pathOf(keys) }, h("summary", {}, t("{n} more settings", { n: more.length })), h("div", { class: "fields" }, more.map(draw))),
    deep.map(draw)];
}

function section(schema, document, keys, label, touch) {
  const inside = fields(schema.properties, schema.required ?? [], document, keys, touch);
  if (keys.length <= 1) return h("div", { "data-path": pathOf(keys) }, inside);
  return h("details", { class: "card part", "data-path": pathOf(keys), "data-key": `${pathOf(keys)}.` }, h("summary", {}, h("strong", {}, plain(label)), " ", h("span", { class: "dim" }, inline(schema.description ?? ""))), h("p", { class: "problem" }), inside);
}

function variant(schema, document, keys, label, touch) {
  const value = at(document, keys) ?? {};
  const one = schema.oneOf.find((o) => o.properties.type.const === value.type) ?? schema.oneOf[0];
  const type = h("select", { on: { change: () => (put(document, keys, { type: type.value }), touch(true)) } }, schema.oneOf.map((o) => h("option", { value: o.properties.type.const }, o.properties.type.const)));
  type.value = one.properties.type.const;
  return h("div", { class: "variant", "data-path": pathOf(keys) }, h("p", { class: "problem" }), field([...keys, "type"], "type", { description: one.description }, type), fields(one.properties, one.required ?? [], document, keys, touch));
}

/** One entry of a map or list, in a frame of its own. */
function entry(title, kind, keys, content, drop, open) {
  return h("details", { class: "card part entry", "data-path": pathOf(keys), "data-key": pathOf(keys) + "#", open }, h("summary", {}, h("strong", {}, plain(title)), " ", h("span", { class: "dim" }, plain(kind ?? ""))), h("p", { class: "problem" }), content,
    h("div", { class: "actions" }, h("button", { type: "button", class: "danger", on: { click: drop } }, t("Remove {name}", { name: title }))));
}

function map(schema, document, keys, label, touch) {
  const of = schema.additionalProperties;
  const value = at(document, keys) ?? {};
  const scalar = !isDeep(of) && !isSecret(of);
  const rows = Object.keys(value).map((name) => {
    const own = [...keys, name];
    const drop = () => (put(document, own, undefined), touch(true));
    const content = of.properties && !of.oneOf ? fields(of.properties, of.required ?? [], document, own, touch) : form(of, document, own, name, touch);
    if (scalar) return h("div", { class: "pair" }, content, h("button", { type: "button", class: "danger", on: { click: drop } }, t("Remove {name}", { name })));
    return entry(name, value[name]?.type ?? value[name]?.model ?? "", own, content, drop, Object.keys(value).length === 1);
  });
  const name = h("input", { "aria-label": t("Name of the new entry in {name}", { name: label }), placeholder: t("name"), spellcheck: "false", autocomplete: "off" });
  const type = of.oneOf && h("select", { "aria-label": t("Type") }, of.oneOf.map((o) => h("option", { value: o.properties.type.const }, o.properties.type.const)));
  const add = (event) => {
    event.preventDefault();
    const key = name.value.trim() || type?.value;
    if (!key || key in (at(document, keys) ?? {})) return name.focus();
    put(document, [...keys, key], type ? { type: type.value } : isDeep(of) ? {} : isSecret(of) ? null : "");
    touch(true, pathOf([...keys, key]));
  };
  name.addEventListener("keydown", (e) => e.key === "Enter" && add(e));
  const body = [rows, h("div", { class: "add", role: "group", "aria-label": t("Add to {name}", { name: label }) }, type, name, h("button", { type: "button", on: { click: add } }, t("Add")))];
  return frame(schema, keys, label, body);
}

function list(schema, document, keys, label, touch) {
  const value = at(document, keys) ?? [];
  const rows = value.map((one, i) => {
    const own = [...keys, i];
    const title = one?.name ?? one?.id ?? one?.tool ?? one?.channel ?? `${i + 1}`;
    return entry(String(title), one?.role ?? one?.action ?? one?.agent ?? "", own, schema.items.properties ? fields(schema.items.properties, schema.items.required ?? [], document, own, touch) : form(schema.items, document, own, String(i + 1), touch),
      () => (put(document, own, undefined), touch(true)), value.length === 1);
  });
  const add = () => {
    put(document, keys, [...(at(document, keys) ?? []), {}]);
    touch(true, pathOf([...keys, value.length]));
  };
  return frame(schema, keys, label, [rows, h("div", { class: "add" }, h("button", { type: "button", on: { click: add } }, t("Add to {name}", { name: label })))]);
}

function frame(schema, keys, label, body) {
  if (keys.length <= 1) return h("div", { "data-path": pathOf(keys) }, h("p", { class: "problem" }), body);
  return h("fieldset", { class: "nest", "data-path": pathOf(keys) }, h("legend", {}, plain(label)), h("p", { class: "dim" }, inline(schema.description ?? "")), h("p", { class: "problem" }), body);
}

/** Shows problems at their fields; gives those that have none. */
export function showProblems(root, problems) {
  for (const node of root.querySelectorAll(".problem")) swap(node);
  for (const node of root.querySelectorAll("[aria-invalid]")) node.removeAttribute("aria-invalid");
  return problems.filter(({ path, message }) => {
    const node = fieldOf(root, path);
    const place = node?.querySelector(":scope > .problem");
    if (!place) return true;
    swap(place, plain(message));
    node.querySelector(":scope > input, :scope > select, :scope > textarea")?.setAttribute("aria-invalid", "true");
    for (let up = node; up && up !== root; up = up.parentElement) if (up instanceof HTMLDetailsElement) up.open = true;
    return false;
  });
}

/** The field of a path, or of the nearest above it. */
export function fieldOf(root, path) {
  let best = null;
  for (const node of root.querySelectorAll("[data-path]")) {
    const own = node.dataset.path;
    if ((path === own || path.startsWith(own + ".") || path.startsWith(own + "[")) && own.length > (best?.dataset.path.length ?? -1)) best = node;
  }
  return best;
}
