// Elements, dialogs, notices and times: what every view is built from.
//
// Invariant: texts become text nodes, never markup. What hides or reorders text (controls, bidi overrides) is made visible.

import { t, locale } from "./i18n.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

function set(node, props) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (name === "value" || name === "checked") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  return node;
}

/** An HTML element: attributes (`on` holds listeners), then children. */
export const h = (tag, props, ...children) => fill(set(document.createElement(tag), props), children);

/** An SVG element. */
export const s = (tag, props, ...children) => fill(set(document.createElementNS(SVG, tag), props), children);

/** Puts new children in the place of the old ones. */
export const swap = (node, ...children) => (node.replaceChildren(), fill(node, children));

// Controls but line ends and tabs, and what reorders the text around it.
const SLY = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;
// What shows nothing, or looks like a space, besides: for what a person decides on.
const HIDDEN = /[\u0000-\u0009\u000b-\u001f\u007f-\u00a0\p{Cf}\p{Zl}\p{Zp}\p{Co}\u034f\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200a\u202f\u205f\u2800\u3000\u3164\ufe00-\ufe0f\uffa0\u{e0100}-\u{e01ef}]/gu;
const escaped = (c) => "\\u{" + c.codePointAt(0).toString(16) + "}";

/** A text as it may be shown among others. */
export const plain = (text) => String(text ?? "").replace(SLY, escaped);

/** A text of which every character is seen. */
export const exact = (text) => String(text ?? "").replace(HIDDEN, escaped);

/** At most `max` characters of it, in one line. */
export function brief(text, max = 160) {
  const line = plain(String(text ?? "").slice(0, max * 4)).replace(/\s+/g, " ").trim();
  return line.length > max ? line.slice(0, max - 1) + "…" : line;
}

const clock = new Intl.DateTimeFormat(locale(), { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const whole = new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "medium", hour12: false });
const relative = new Intl.RelativeTimeFormat(locale(), { numeric: "auto", style: "short" });

export const clockTime = (ms) => clock.format(ms);

function ago(ms) {
  const seconds = (ms - Date.now()) / 1000;
  const [size, unit] = [[86400, "day"], [3600, "hour"], [60, "minute"]].find(([n]) => Math.abs(seconds) >= n) ?? [1, "second"];
  if (unit === "second" && Math.abs(seconds) < 10) return t("just now");
  return relative.format(Math.trunc(seconds / size), unit);
}

/** A point in time, told from now; the clock's time in its title. */
export function when(ms) {
  if (!ms) return h("span", { class: "dim" }, "–");
  return h("time", { datetime: new Date(ms).toISOString(), title: whole.format(ms), "data-ms": ms }, ago(ms));
}

setInterval(() => {
  if (document.hidden) return;
  for (const node of document.querySelectorAll("time[data-ms]")) node.textContent = ago(Number(node.dataset.ms));
}, 15000);

/** A duration in ms, as people say it. */
export function span(ms) {
  if (ms < 1000) return `${ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return t("{n} days", { n: Math.floor(s / 86400) });
}

/** A number of bytes. */
export const bytes = (n) => (n < 1e6 ? `${(n / 1e3).toFixed(0)} kB` : `${(n / 1e6).toFixed(n < 1e8 ? 1 : 0)} MB`);

export const number = (n) => new Intl.NumberFormat(locale(), { maximumFractionDigits: 1, notation: n >= 1e5 ? "compact" : "standard" }).format(n);

/** Tells something for a few seconds; a fault stays until it is closed. */
export function notice(text, bad = false) {
  let region = document.getElementById("notices");
  if (!region) document.body.append((region = h("div", { id: "notices", role: "status", "aria-live": "polite" })));
  const node = h("div", { class: bad ? "notice bad" : "notice" }, h("p", {}, plain(text)),
    h("button", { class: "quiet", type: "button", "aria-label": t("Close"), on: { click: () => node.remove() } }, "×"));
  while (region.children.length > 3) region.firstChild.remove();
  region.append(node);
  setTimeout(() => node.remove(), bad ? 15000 : 4000);
}

/** A dialog; gives what the button that closed it stands for, or null. `buttons`: [[value, label, class]]. */
export function dialog(title, content, buttons) {
  return new Promise((resolve) => {
    const back = document.activeElement;
    const close = (value) => {
      box.close();
      box.remove();
      if (back instanceof HTMLElement && back.isConnected) back.focus();
      resolve(value);
    };
    const choice = ([value, label, kind]) => h("button", { type: "button", class: kind, on: { click: () => close(value) } }, label);
    const box = h("dialog", { "aria-labelledby": "dialog-title", on: { cancel: (e) => (e.preventDefault(), close(null)) } },
      h("h2", { id: "dialog-title" }, title), h("div", { class: "dialog-body" }, content),
      h("div", { class: "actions end" }, buttons.map(choice)));
    document.body.append(box);
    box.showModal();
  });
}

/** Asks before what can't be undone. */
export const confirmed = async (title, text, action) =>
  (await dialog(title, h("p", {}, text), [[null, t("Cancel"), ""], [true, action, "danger"]])) === true;

/** Puts a text on the clipboard, also where the page isn't served securely. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "off-screen", value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  notice(t("Copied"));
}
