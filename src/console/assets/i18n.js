// Words in English and Chinese. The English text is its own key.
//
// Invariant: the choice is the browser's unless the person made one; it holds for the whole page, which is drawn anew.

import { chinese } from "./zh.js";

const KEY = "gatelet.language";
const LANGUAGES = ["en", "zh"];

const kept = () => {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage is switched off: the browser's language then
  }
};

const first = () => (navigator.languages ?? [navigator.language]).map((l) => l.slice(0, 2).toLowerCase()).find((l) => LANGUAGES.includes(l));
let now = LANGUAGES.includes(kept()) ? kept() : (first() ?? "en");

export const language = () => now;
export const locale = () => (now === "zh" ? "zh-CN" : navigator.language?.startsWith("en") ? navigator.language : "en-GB");

export function setLanguage(language) {
  now = language;
  try {
    localStorage.setItem(KEY, language);
  } catch {
    // for this page only, then
  }
}

/** A text in the person's language; `{name}` stands for a value. */
export function t(text, values) {
  const said = now === "zh" ? (chinese[text] ?? text) : text;
  return values ? said.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all) : said;
}

/** Marks a text that is translated where it is shown. */
export const T = (text) => text;
