// Markdown as DOM nodes: what agents write, shown safely.
//
// Invariant: never markup, only nodes made here. A link leads to http, https or mail, or it is text; pictures are links, since loading
// one tells a stranger's server that this was read. Time is linear in the text's length; nesting is bounded.

import { copy, h, plain } from "./dom.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";

const DEPTH_MAX = 6;
const LINK = /!?\[([^\[\]\n]{0,400})\]\(\s{0,4}<?([^\s()<>]{1,2000}(?:\([^\s()<>]{0,200}\)[^\s()<>]{0,2000})?)>?(?:\s+"[^"\n]{0,200}")?\s{0,4}\)/y;
const BARE = /https?:\/\/[^\s<>"'`\])}]{1,2000}/y;
const MARKS = [["**", "strong"], ["__", "strong"], ["~~", "del"], ["*", "em"], ["_", "em"]];

/** Whether a link may lead there; the address as the browser reads it, or null. */
export function safeAddress(address) {
  try {
    const url = new URL(address);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

function link(label, address, source) {
  const href = safeAddress(address);
  if (!href) return plain(source);
  return h("a", { href, target: "_blank", rel: "noopener noreferrer nofollow", title: href }, label);
}

/** A line's worth of text with its emphasis, code and links. */
export function inline(text, depth = 0) {
  const out = [];
  const ends = new Map(); // mark -> where its next end is: nothing of it stands before
  let from = 0;
  let at = 0;
  const flush = (to) => to > from && out.push(plain(text.slice(from, to)));
  const put = (node, end) => (flush(at), out.push(node), (at = from = end));
  while (at < text.length) {
    const c = text[at];
    if (c === "\\" && /[\\`*_{}[\]()#+\-.!~|>]/.test(text[at + 1] ?? "")) {
      put(text[at + 1], at + 2);
    } else if (c === "`") {
      const ticks = /`+/y;
      ticks.lastIndex = at;
      const fence = ticks.exec(text)[0];
      const end = ends.has(fence) ? -1 : text.indexOf(fence, at + fence.length);
      if (end < 0) {
        ends.set(fence, text.length);
        at += fence.length;
      } else put(h("code", {}, plain(text.slice(at + fence.length, end).trim())), end + fence.length);
    } else if (c === "[" || (c === "!" && text[at + 1] === "[")) {
      LINK.lastIndex = at;
      const found = LINK.exec(text);
      if (found) {
        const label = found[1] ? inline(found[1], DEPTH_MAX) : plain(found[2]);
        put(link(label, found[2], found[0]), at + found[0].length);
      } else at++;
    } else if (c === "h" && (at === 0 || /[^\w]/.test(text[at - 1]))) {
      BARE.lastIndex = at;
      const found = BARE.exec(text)?.[0].replace(/[.,;:!?]+$/, "");
      if (found) put(link(plain(found), found, found), at + found.length);
      else at++;
    } else if ((c === "*" || c === "_" || c === "~") && depth < DEPTH_MAX) {
      const [mark, tag] = MARKS.find(([m]) => text.startsWith(m, at)) ?? [];
      const end = mark ? closing(text, mark, at, ends) : -1;
      if (end > 0) put(h(tag, {}, inline(text.slice(at + mark.length, end), depth + 1)), end + mark.length);
      else at += mark?.length ?? 1;
    } else at++;
  }
  flush(at);
  return out;
}

/** Where the mark that was opened at `at` ends, or -1. What was searched once in vain is not searched again. */
function closing(text, mark, at, ends) {
  const inside = at + mark.length;
  // `a * b` and snake_case are no emphasis.
  if (/\s/.test(text[inside] ?? " ") || (mark[0] === "_" && /\w/.test(text[at - 1] ?? ""))) return -1;
  let end = Math.max(inside + 1, ends.get(mark) ?? 0);
  while (end < text.length) {
    end = text.indexOf(mark, end);
    if (end < 0) break;
    const doubled = mark.length === 1 && (text[end + 1] === mark || text[end - 1] === mark);
    if (!doubled && !/\s/.test(text[end - 1])) {
      ends.set(mark, end);
      return end;
    }
    end++;
  }
  ends.set(mark, text.length);
  return -1;
}

const broken = (lines) => lines.flatMap((line, i) => (i > 0 ? [h("br"), ...inline(line)] : inline(line)));

function codeBlock(lines, language) {
  const text = lines.join("\n");
  return h("figure", { class: "code" },
    h("figcaption", {}, h("span", {}, plain(language.slice(0, 40))),
      h("button", { type: "button", class: "quiet", on: { click: () => copy(text) } }, icon("copy"), t("Copy"))),
    h("pre", { tabindex: "0", role: "region", "aria-label": t("Code") }, h("code", {}, plain(text))));
}

const RULE = /^\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?$/;
const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((c) => c.trim());

function table(head, aligns, body) {
  const cell = (tag, text, i) => h(tag, { class: aligns[i], ...(tag === "th" ? { scope: "col" } : {}) }, inline(text));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("Table") }, h("table", {},
    h("thead", {}, h("tr", {}, head.map((c, i) => cell("th", c, i)))),
    h("tbody", {}, body.map((row) => h("tr", {}, head.map((_, i) => cell("td", row[i] ?? "", i)))))));
}

const ITEM = /^(\s{0,12})([-*+]|\d{1,9}[.)])\s+(.*)$/;

function list(lines, at, depth) {
  const [, indent, sign] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(sign);
  const items = [];
  while (at < lines.length) {
    const found = ITEM.exec(lines[at]);
    if (!found || found[1].length < indent.length || (found[1].length <= indent.length + 1 && /\d/.test(found[2]) !== ordered)) break;
    const own = [found[3]];
    at++;
    while (at < lines.length && (/^\s*$/.test(lines[at]) ? /^\s{2,}\S/.test(lines[at + 1] ?? "") : new RegExp(`^\\s{${indent.length + 2},}`).test(lines[at]))) {
      own.push(lines[at].slice(indent.length + 2));
      at++;
    }
    items.push(h("li", {}, blocks(own, depth + 1, true)));
    while (/^\s*$/.test(lines[at] ?? "x") && ITEM.test(lines[at + 1] ?? "")) at++;
  }
  const start = ordered ? parseInt(sign, 10) : 1;
  return [h(ordered ? "ol" : "ul", start !== 1 ? { start } : {}, items), at];
}

function blocks(lines, depth, tight) {
  const out = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    const fence = /^\s{0,3}(`{3,}|~{3,})\s*([^`]*)$/.exec(line);
    const title = /^\s{0,3}(#{1,6})\s(.*)$/.exec(line);
    if (/^\s*$/.test(line)) at++;
    else if (fence) {
      const body = [];
      at++;
      while (at < lines.length && !lines[at].trim().startsWith(fence[1])) body.push(lines[at++]);
      at++;
      out.push(codeBlock(body, fence[2].trim()));
    } else if (title) {
      out.push(h(`h${Math.min(title[1].length + 1, 6)}`, {}, inline(title[2].trim())));
      at++;
    } else if (/^\s{0,3}([-*_])(\s*\1){2,}\s*$/.test(line)) {
      out.push(h("hr"));
      at++;
    } else if (/^\s{0,3}>/.test(line) && depth < DEPTH_MAX) {
      const own = [];
      while (at < lines.length && /^\s{0,3}>/.test(lines[at])) own.push(lines[at++].replace(/^\s{0,3}> ?/, ""));
      out.push(h("blockquote", {}, blocks(own, depth + 1)));
    } else if (ITEM.test(line) && depth < DEPTH_MAX) {
      const [node, end] = list(lines, at, depth);
      out.push(node);
      at = end;
    } else if (line.includes("|") && RULE.test((lines[at + 1] ?? "").trim())) {
      const aligns = cells(lines[at + 1]).map((c) => (c.endsWith(":") ? (c.startsWith(":") ? "mid" : "right") : null));
      const body = [];
      at += 2;
      while (at < lines.length && lines[at].includes("|")) body.push(cells(lines[at++]));
      out.push(table(cells(line), aligns, body));
    } else {
      const own = [];
      do own.push(lines[at++]);
      while (at < lines.length && !/^\s*$|^\s{0,3}(#{1,6}\s|>|`{3}|~{3})/.test(lines[at]) && !ITEM.test(lines[at]));
      const said = broken(own.map((l) => l.trim()));
      out.push(tight && out.length === 0 ? h("span", {}, said) : h("p", { dir: "auto" }, said));
    }
  }
  return out;
}

/** A text in Markdown, as nodes. */
export const markdown = (text) => blocks(String(text).replace(/\r\n?/g, "\n").split("\n"), 0);
