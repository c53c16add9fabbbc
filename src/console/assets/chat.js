// Chat: the conversation as it is shown, with answers while they are written and questions where they are asked.
//
// Invariant: a long text is shown in part until it is asked for. What the reader looks at stays where it is: new text scrolls only who is
// at the end already.

import { get } from "./api.js";
import { decisions, question } from "./approvals.js";
import { copy, h, plain, swap, when } from "./dom.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";
import { live, onEvents } from "./live.js";
import { markdown } from "./markdown.js";
import { skeleton } from "./parts.js";
import { talk } from "./talk.js";

const LONG = 16000;
const DRAW_MS = 60;
const FRAMES_MAX = 250 * 1024;

let agent = "";

export function open(place, { me }) {
  const log = h("div", { class: "log", role: "log", "aria-label": t("Conversation"), "aria-live": "polite", tabindex: "0" });
  const box = h("textarea", { id: "say", rows: "1", "aria-label": t("Message"), placeholder: t("Write a message"), value: talk.draft, on: { input: () => (fit(), (talk.draft = box.value)), keydown: key } });
  const send = h("button", { type: "submit", class: "primary round", "aria-label": t("Send") }, icon("send"));
  const stop = h("button", { type: "button", class: "round", "aria-label": t("Stop the answer"), hidden: true, on: { click: () => (talk.stop(), box.focus()) } }, icon("stop"));
  const pick = h("select", { "aria-label": t("Agent"), hidden: true, on: { change: () => (agent = pick.value) } });
  const hint = h("p", { class: "dim keys" }, t("Enter sends, Shift and Enter begin a new line."));
  swap(place, h("h1", { class: "off-screen", tabindex: "-1" }, t("Chat")), log, h("form", { class: "composer", on: { submit: submit } },
    h("div", { class: "box" }, box, h("div", { class: "row" }, pick, hint, stop, send))));

  const drawn = new Map(); // entry -> {node, text}
  let timer = 0;
  let pace = DRAW_MS;

  function key(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
      event.preventDefault();
      submit(event);
    }
  }

  function fit() {
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight, window.innerHeight * 0.4)}px`;
  }

  function submit(event) {
    event.preventDefault();
    const text = box.value.trim();
    if (!text) return box.focus();
    if (new TextEncoder().encode(text).length > FRAMES_MAX) return void (hint.textContent = t("This is too long for one message."));
    talk.draft = box.value = "";
    fit();
    talk.say(text, agent || undefined);
    log.scrollTop = log.scrollHeight;
    box.focus();
  }

  function body(entry) {
    const all = entry.text;
    const long = all.length > LONG && !entry.open;
    const text = long ? all.slice(0, LONG) : all;
    // Of a long text that is still being written the end is what is read.
    const said = entry.role === "user" || (entry.streaming && all.length > LONG) ? h("p", { class: "as-is", dir: "auto" }, plain(entry.streaming ? all.slice(-LONG) : text)) : markdown(text);
    return [said, long && !entry.streaming && h("button", { type: "button", on: { click: () => ((entry.open = true), draw()) } },
      t("Show all of it ({n} characters)", { n: all.length }))];
  }

  function foot(entry) {
    if (entry.role === "assistant") return entry.streaming ? null : [when(entry.at), h("button", { type: "button", class: "quiet", on: { click: () => copy(entry.text) } }, icon("copy"), t("Copy"))];
    if (entry.state === "failed") return [h("span", { class: "problem" }, plain(entry.error ?? t("failed"))), h("button", { type: "button", class: "quiet", on: { click: () => talk.again(Object.assign(entry, { id: entry.id + "r" })) } }, t("Send again"))];
    const words = { sending: live.state === "open" ? t("sending") : t("waits for the connection"), accepted: t("received"), stopped: t("stopped") };
    return [words[entry.state] && h("span", {}, words[entry.state]), " ", when(entry.at)];
  }

  function bubble(entry) {
    if (entry.role === "question") {
      const own = entry.approval;
      return h("article", { class: "said question", "aria-label": t("Approval") }, question(own), decisions(own));
    }
    const who = entry.role === "user" ? t("You") : t("Agent");
    return h("article", { class: `said ${entry.role}`, "aria-label": who, "aria-busy": entry.streaming ? "true" : null },
      h("div", { class: "text" }, body(entry)), h("footer", {}, foot(entry)));
  }

  const stamp = (e) => [e.text, e.state, e.streaming, e.open, e.error, e.approval?.state, e.approval?.mayDecide, e.state === "sending" && live.state].join("\u0001");

  function draw() {
    const began = performance.now();
    redraw();
    // A slow machine draws less often, so that it keeps reading what comes.
    pace = Math.min(1500, Math.max(DRAW_MS, (performance.now() - began) * 4));
  }

  function redraw() {
    timer = 0;
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    const entries = talk.entries;
    if (entries.length === 0) {
      drawn.clear();
      swap(log, talk.loaded ? welcome() : skeleton());
    } else {
      for (const node of [...log.children]) if (![...drawn.values()].some((d) => d.node === node)) node.remove();
      for (const [entry, { node }] of drawn) if (!entries.includes(entry)) (node.remove(), drawn.delete(entry));
      entries.forEach((entry, i) => {
        const mark = stamp(entry);
        let made = drawn.get(entry);
        if (made?.mark !== mark) {
          const node = bubble(entry);
          made?.node.replaceWith(node);
          made = { node, mark };
          drawn.set(entry, made);
        }
        if (log.children[i] !== made.node) log.insertBefore(made.node, log.children[i] ?? null);
      });
    }
    thinking();
    stop.hidden = !talk.busy;
    if (atEnd) log.scrollTop = log.scrollHeight;
    look();
  }

  function thinking() {
    log.querySelector(".thinking")?.remove();
    const last = talk.entries.at(-1);
    if (last?.role === "user" && last.state === "accepted") log.append(h("p", { class: "thinking" }, h("i"), h("i"), h("i"), h("span", { class: "off-screen" }, t("The agent is at work"))));
  }

  function look() {
    if (document.hidden) return;
    talk.entries.filter((e) => e.deliveryId && !e.seen).forEach((e) => talk.saw(e));
  }

  const soon = () => {
    if (!timer) timer = setTimeout(draw, pace);
  };
  let offline = null; // set where no model answers

  function welcome() {
    return h("div", { class: "empty" }, icon("chat"), h("h2", {}, t("Say something")), h("p", {}, t("What you write here is on disk before it is answered. It survives a restart of the gateway, and of this page.")), offline);
  }

  async function who() {
    const { data } = await get("/v1/models");
    const names = data.map((m) => m.id.replace(/^gatelet\/?/, "")).filter(Boolean);
    swap(pick, [["", t("Agent of the binding")], ...names.map((n) => [n, n])].map(([v, label]) => h("option", { value: v }, plain(label))));
    pick.value = names.includes(agent) ? agent : "";
    pick.hidden = names.length < 2;
    if (me.role === "user") return;
    const { agents } = await get("/api/agents");
    offline = agents.some((a) => a.enabled && a.provider === "builtin") ? h("p", { class: "call" }, t("No language model is connected yet: the gateway can only repeat what it hears."), " ", h("a", { href: "#/overview" }, t("How to connect one"))) : null;
    if (offline) draw();
  }

  talk.addEventListener("change", soon);
  live.addEventListener("state", soon);
  document.addEventListener("visibilitychange", look);
  const off = onEvents(["config."], () => who().catch(() => {}));
  who().catch(() => {}); // the default will do
  draw();
  log.scrollTop = log.scrollHeight;
  fit();
  if (window.matchMedia("(min-width: 60rem)").matches) box.focus();
  return () => {
    clearTimeout(timer);
    off();
    talk.removeEventListener("change", soon);
    live.removeEventListener("state", soon);
    document.removeEventListener("visibilitychange", look);
  };
}
