// Small charts in SVG: one line over time.
//
// Invariant: what is drawn is said in words, too (the picture's label), and never by colour alone. It draws what it is given.

import { clockTime, h, s, swap } from "./dom.js";
import { t } from "./i18n.js";

const WIDTH = 300;
const HEIGHT = 72;

/** A chart under its title. Its `draw(points)` takes [[ms, value]], oldest first, values that may be null. */
export function chart(title, show, { least = 1 } = {}) {
  const now = h("strong", {}, "–");
  const note = h("span", { class: "dim" });
  const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title });
  const from = h("span");
  const to = h("span");
  const node = h("section", { class: "card chart" }, h("h2", {}, title), h("p", { class: "now" }, now, note), svg,
    h("div", { class: "axis", "aria-hidden": "true" }, from, to));
  let drawn = [];
  svg.addEventListener("pointermove", (event) => {
    if (drawn.length === 0) return;
    const at = (event.offsetX / svg.clientWidth) * WIDTH;
    const [, ms, value] = drawn.reduce((a, b) => (Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a));
    note.textContent = `${show(value)} · ${clockTime(ms)}`;
  });
  svg.addEventListener("pointerleave", () => (note.textContent = ""));
  const draw = (points) => {
    const known = points.filter(([, value]) => value !== null);
    if (known.length === 0) return;
    const values = known.map(([, value]) => value);
    const top = Math.max(least, ...values) * 1.15;
    const [first, last] = [points[0][0], Math.max(points.at(-1)[0], points[0][0] + 1)];
    drawn = known.map(([ms, value]) => [((ms - first) / (last - first)) * WIDTH, ms, value]);
    const place = ([x, , value]) => `${x.toFixed(1)} ${(HEIGHT - 2 - (value / top) * (HEIGHT - 8)).toFixed(1)}`;
    const line = "M" + drawn.map(place).join("L");
    swap(svg,
      [0.33, 0.66].map((y) => s("path", { class: "grid", d: `M0 ${(HEIGHT * y).toFixed(1)}H${WIDTH}` })),
      drawn.length > 1 && s("path", { class: "area", d: `${line}L${drawn.at(-1)[0].toFixed(1)} ${HEIGHT}L${drawn[0][0].toFixed(1)} ${HEIGHT}Z` }),
      drawn.length > 1 && s("path", { class: "line", d: line }));
    now.textContent = show(values.at(-1));
    [from.textContent, to.textContent] = [clockTime(first), clockTime(last)];
    svg.setAttribute("aria-label", t("{title}: now {now}, at least {low}, at most {high}, since {from}", {
      title, now: show(values.at(-1)), low: show(Math.min(...values)), high: show(Math.max(...values)), from: clockTime(first),
    }));
  };
  return { node, draw };
}
