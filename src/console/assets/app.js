// The console's frame: signing in, the views and the ways between them, the connection's state.
//
// Invariant: without a principal nothing but the sign-in is shown; a view that the principal's role may not use is not offered. The
// server decides what is allowed, whatever is shown here. It connects to nothing but the page's own host.

import { Fault, call, get, signedOut, takeToken, token } from "./api.js";
import { dialog, h, swap } from "./dom.js";
import { T, language, setLanguage, t } from "./i18n.js";
import { icon, mark } from "./icons.js";
import { live, onEvents } from "./live.js";
import { choices, skeleton, tell } from "./parts.js";
import { talk } from "./talk.js";

const RANKS = { user: 0, operator: 1, admin: 2 };
const VIEWS = [
  ["chat", T("Chat"), "user", () => import("./chat.js")],
  ["overview", T("Overview"), "operator", () => import("./overview.js")],
  ["messages", T("Messages"), "operator", () => import("./messages.js")],
  ["sessions", T("Sessions"), "user", () => import("./sessions.js")],
  ["channels", T("Channels"), "operator", () => import("./channels.js")],
  ["approvals", T("Approvals"), "operator", () => import("./approvals.js")],
  ["pairings", T("Pairings"), "operator", () => import("./pairings.js")],
  ["outbox", T("Outbox"), "operator", () => import("./outbox.js")],
  ["jobs", T("Jobs"), "admin", () => import("./jobs.js")],
  ["agents", T("Agents and tools"), "operator", () => import("./agents.js")],
  ["config", T("Configuration"), "admin", () => import("./config.js")],
  ["logs", T("Logs"), "admin", () => import("./logs.js")],
  ["audit", T("Audit"), "admin", () => import("./logs.js")],
];
const GROUPS = [
  [T("Talk"), ["chat", "sessions"]],
  [T("Watch"), ["overview", "messages", "channels", "outbox"]],
  [T("Decide"), ["approvals", "pairings"]],
  [T("Set up"), ["agents", "jobs", "config"]],
  [T("Look back"), ["logs", "audit"]],
];
const THEME = "gatelet.theme";

const app = document.getElementById("app");
let me = null;
let close = null;
let shown = null;
let stopCounting = null;

const may = (view) => RANKS[me.role] >= RANKS[view[2]];
const main = () => document.getElementById("main");

function kept(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function theme(choice) {
  document.documentElement.dataset.theme = choice;
  try {
    localStorage.setItem(THEME, choice);
  } catch {
    // for this page only, then
  }
}

function languages() {
  return choices(t("Language"), [["en", "English"], ["zh", "中文"]], language(), (chosen) => {
    setLanguage(chosen);
    document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
    if (me) frame();
    else signIn();
    document.querySelector(".tools .choices [aria-pressed=true], .gate .choices [aria-pressed=true]")?.focus();
  });
}

function signIn(problem) {
  leaveView();
  me = null;
  live.stop();
  stopCounting?.();
  document.title = "gatelet";
  const input = h("input", { id: "token", type: "password", autocomplete: "current-password", required: true, spellcheck: "false", "aria-describedby": "token-help token-problem" });
  const wrong = h("p", { id: "token-problem", class: "problem", role: "alert" }, problem);
  const enter = h("button", { type: "submit", class: "primary" }, t("Sign in"));
  const form = h("form", { on: { submit: async (event) => {
    event.preventDefault();
    const given = input.value.trim();
    if (!/^[\x21-\x7e]+$/.test(given)) return void (wrong.textContent = t("A token has letters, digits and signs only."));
    enter.setAttribute("aria-busy", "true");
    try {
      await call("GET", "/api/me", { bearer: given });
      token.set(given);
      await begin();
    } catch (e) {
      if (!(e instanceof Fault)) throw e;
      wrong.textContent = e.status === 401 ? t("This token is not the right one.") : e.message;
      input.select();
    } finally {
      enter.removeAttribute("aria-busy");
    }
  } } }, h("label", { for: "token" }, t("Token")), input, wrong, enter,
    h("p", { id: "token-help", class: "dim" }, t("The link that the gateway printed at its first start signs you in by itself. The token is also in the file “token” of the data directory, and this shows it:"), " ", h("code", {}, "gatelet token")));
  swap(app, h("main", { class: "gate" }, mark(), h("h1", {}, "gatelet"), form, languages()));
  input.focus();
}

function sidebar() {
  const item = ([name, title]) => h("li", {}, h("a", { href: `#/${name}`, "data-view": name }, icon(name), h("span", {}, t(title)),
    h("b", { class: "count", "data-count": name, hidden: true })));
  const groups = GROUPS.map(([title, names]) => [title, VIEWS.filter((v) => names.includes(v[0]) && may(v))]).filter(([, v]) => v.length > 0);
  return h("aside", { id: "side" }, h("a", { class: "brand", href: "#/" }, mark(), h("span", {}, "gatelet")),
    h("nav", { "aria-label": t("Views") }, groups.map(([title, views]) => [h("h2", {}, t(title)), h("ul", {}, views.map(item))])),
    h("div", { class: "tools" }, languages(),
      choices(t("Colours"), [["auto", t("Auto")], ["light", t("Light")], ["dark", t("Dark")]], kept(THEME) ?? "auto", theme),
      h("p", { class: "who dim" }, h("span", { title: `${me.userId} · ${me.role} · gatelet ${me.version}` }, me.userId === me.role ? me.role : `${me.userId} · ${me.role}`, h("br"), me.version),
        token.get() && h("button", { type: "button", class: "quiet", on: { click: leave } }, icon("leave"), t("Sign out")))));
}

async function leave() {
  const sure = await dialog(t("Sign out"), h("p", {}, t("The token is forgotten in this tab. Nothing else changes.")), [[null, t("Cancel"), ""], [true, t("Sign out"), "primary"]]);
  if (!sure) return;
  token.set(null);
  location.hash = "#/";
  signIn();
}

function frame() {
  const menu = h("button", { type: "button", class: "menu quiet", "aria-expanded": "false", "aria-controls": "side", on: { click: () => openMenu(!document.body.classList.contains("menu-open")) } },
    icon("menu"), h("span", {}, t("Menu")));
  leaveView();
  swap(app, h("a", { class: "skip", href: "#main", on: { click: (e) => (e.preventDefault(), main().focus()) } }, t("Skip to the content")),
    h("div", { id: "link", role: "status", "aria-live": "polite" }),
    h("div", { class: "frame" }, h("header", { class: "top" }, menu, h("span", { class: "brand" }, mark(), "gatelet")),
      sidebar(), h("div", { class: "veil", on: { click: () => openMenu(false) } }),
      h("main", { id: "main", tabindex: "-1" }, skeleton())));
  linkState();
  counts();
  route();
}

function openMenu(open) {
  document.body.classList.toggle("menu-open", open);
  document.querySelector(".menu")?.setAttribute("aria-expanded", String(open));
  if (open) document.querySelector("#side a[data-view]")?.focus();
}

function leaveView() {
  close?.();
  close = null;
  shown = null;
}

/** Shows the view that the address names. */
async function route() {
  if (takeToken()) return void begin();
  if (!me) return;
  const [name, ...path] = location.hash.replace(/^#\/?/, "").split("/").map(decode);
  const home = VIEWS.find((v) => v[0] === "chat");
  const view = VIEWS.find((v) => v[0] === name && may(v)) ?? home;
  openMenu(false);
  for (const a of document.querySelectorAll("#side a[data-view]")) {
    if (a.dataset.view === view[0]) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  document.title = `${t(view[1])} · gatelet`;
  const again = shown === view[0];
  leaveView();
  shown = view[0];
  const place = h("div", { class: `view view-${view[0]}` });
  if (!again) swap(main(), skeleton());
  let module;
  try {
    module = await view[3]();
  } catch {
    return unreachable(() => location.reload()); // stopped, or of another version by now
  }
  if (shown !== view[0] || !me) return;
  const kept = again ? main().scrollTop : 0;
  swap(main(), place);
  close = module.open(place, { me, path, name: view[0], counts }) ?? null;
  main().scrollTop = kept;
  if (!again && document.activeElement?.closest("#side, .top")) main().focus({ preventScroll: true });
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** What waits for a person, beside the views' names. */
async function counts() {
  stopCounting?.();
  const put = (name, n) => {
    const node = document.querySelector(`[data-count="${name}"]`);
    if (node) swap(node, n > 99 ? "99+" : n, h("span", { class: "off-screen" }, ` ${t("waiting")}`)).hidden = n === 0;
  };
  const unseen = () => put("chat", talk.unseen);
  talk.addEventListener("unseen", unseen);
  unseen();
  const refresh = async () => {
    if (!me || RANKS[me.role] < RANKS.operator) return;
    try {
      put("approvals", (await get("/api/approvals?limit=100")).approvals.length);
      put("pairings", (await get("/api/pairings?limit=100")).pairings.length);
      put("outbox", (await get("/api/outbox?state=dead&limit=100")).outbox.length);
    } catch {
      // the next event brings them
    }
  };
  const off = onEvents(["approval.", "pairing.", "delivery.dead", "config."], refresh, ["event", "approval"]);
  stopCounting = () => (off(), talk.removeEventListener("unseen", unseen));
  refresh();
}

/** Says whether what is shown is live. */
function linkState() {
  const bar = document.getElementById("link");
  if (!bar) return;
  if (live.state === "open" || live.state === "off" || (live.state === "connecting" && !live.retryAt)) return void swap(bar);
  if (bar.firstChild && live.state === "connecting") return;
  swap(bar, h("p", {}, h("i", { class: "spin", "aria-hidden": "true" }), t("The connection is lost. It is tried again by itself."),
    h("button", { type: "button", class: "quiet", on: { click: () => live.now() } }, t("Now"))));
}

function unreachable(again) {
  const place = me ? main() : app;
  swap(place, h(me ? "div" : "main", { class: "gate" }, mark(), h("h1", {}, t("The gateway can't be reached.")),
    h("p", {}, t("It may be starting, or this machine has no way to it.")), h("button", { type: "button", class: "primary", on: { click: again } }, t("Try again"))));
}

/** Finds out who this is, and opens the console or the sign-in. */
async function begin() {
  try {
    me = await get("/api/me");
  } catch (e) {
    if (!(e instanceof Fault)) throw e;
    const had = token.get() !== null;
    if (e.status === 401) return (token.set(null), signIn(had ? t("This token is not the right one.") : null));
    if (e.status === 429) return signIn(e.message);
    setTimeout(() => me || app.querySelector("form") || begin(), 3000);
    return unreachable(begin);
  }
  live.retryAt = 0;
  frame();
  live.start();
  talk.begin(me.userId).catch(tell);
}

document.documentElement.dataset.theme = kept(THEME) ?? "auto";
document.documentElement.lang = language() === "zh" ? "zh-CN" : "en";
window.addEventListener("hashchange", route);
live.addEventListener("state", (event) => {
  linkState();
  if (event.detail === "refused") get("/api/me").then(() => live.start(), () => {});
});
signedOut.addEventListener("out", () => {
  const had = token.get() !== null;
  token.set(null);
  if (me) signIn(had ? t("The token is no longer good. Sign in again.") : null);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.body.classList.contains("menu-open")) {
    openMenu(false);
    document.querySelector(".menu")?.focus();
  }
});
takeToken();
begin();
