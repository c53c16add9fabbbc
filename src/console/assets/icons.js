// Icons: strokes on a 24 by 24 grid, drawn for this console.

import { s } from "./dom.js";

const PATHS = {
  chat: "M4 5h16v11H10l-5 4v-4H4z M8 9h8 M8 12.500h5",
  overview: "M4 13h4l2.500-7 4 12 2.500-5h3",
  messages: "M4 6h16 M4 12h16 M4 18h10",
  sessions: "M9 11a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7z M3 20c0-4 2.500-6 6-6s6 2 6 6 M16 4.500a3.500 3.500 0 0 1 0 6 M18 14.500c2 .8 3 2.700 3 5.500",
  channels: "M9 3v5 M15 3v5 M6 8h12v4a6 6 0 0 1-12 0z M12 18v3",
  approvals: "M12 3l7 3v5c0 5-3 8-7 10-4-2-7-5-7-10V6z M9 12l2.200 2.200L15.500 10",
  pairings: "M14 9a4 4 0 1 1-8 0 4 4 0 0 1 8 0z M3 20c0-3.500 3-6 7-6 M17 14v6 M14 17h6",
  outbox: "M21 3L10 14 M21 3l-7 18-4-7-7-4z",
  jobs: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z M12 7v5l3.500 2",
  agents: "M6 8h12v10H6z M12 8V4 M9.500 12v2 M14.500 12v2 M3 12v3 M21 12v3",
  config: "M4 7h9 M17 7h3 M4 17h3 M11 17h9 M13 5h4v4h-4z M7 15h4v4H7z",
  logs: "M5 4h14v16H5z M8 8h8 M8 12h8 M8 16h5",
  audit: "M10.500 17a6.500 6.500 0 1 0 0-13 6.500 6.500 0 0 0 0 13z M15.500 15.500L21 21",
  menu: "M4 7h16 M4 12h16 M4 17h16",
  theme: "M12 3a9 9 0 1 0 0 18z M12 3a9 9 0 0 1 0 18",
  leave: "M14 4h5v16h-5 M10 8l-4 4 4 4 M6 12h9",
  send: "M12 20V5 M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M8 8h11v12H8z M5 16V4h11",
  back: "M11 6l-6 6 6 6 M5 12h14",
};

/** The icon of that name; the text beside it says what it means. */
export function icon(name) {
  return s("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" }, s("path", { d: PATHS[name] ?? "" }));
}

/** The mark of the gateway. */
export const mark = () => s("svg", { viewBox: "0 0 32 32", class: "mark", "aria-hidden": "true" },
  s("path", { d: "M8 26V14a8 8 0 0 1 16 0v12 M8 20h5 M24 20h-5" }), s("circle", { cx: 16, cy: 20, r: 2 }));
