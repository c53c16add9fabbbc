// Overview: how the gateway is, as pictures first, and what to do next.
//
// Invariant: figures are differences between what the gateway counted at two looks; what was counted before is not guessed at.

import { get } from "./api.js";
import { chart } from "./charts.js";
import { bytes, h, number, plain, span, swap } from "./dom.js";
import { T, t } from "./i18n.js";
import { icon } from "./icons.js";
import { onEvents } from "./live.js";
import { facts, head, skeleton, trouble } from "./parts.js";

const LOOK_MS = 4000;
const KEPT_MS = 15 * 60 * 1000;
const looks = []; // [{at, m}], for as long as the page is open

const short = (n) => (n < 10000 ? number(n) : n < 1e6 ? `${number(Math.round(n / 100) / 10)}k` : `${number(Math.round(n / 1e5) / 10)}M`);
const sum = (family, key) => Object.values(family).reduce((n, one) => n + (one[key] ?? 0), 0);
const accepted = (m) => sum(m.messages.byChannel, "accepted");

function keep(m) {
  const last = looks.at(-1)?.m;
  if (last && last.startedMs !== m.startedMs) looks.length = 0; // another process counts from nothing
  looks.push({ at: Date.now(), m });
  while (looks[0].at < Date.now() - KEPT_MS) looks.shift();
}

/** For each look but the first, what `value` makes of it and the one before. */
const steps = (value) => looks.slice(1).map((now, i) => [now.at, value(now.m, looks[i].m, (now.at - looks[i].at) / 1000)]);

/** Mean ms of what ended between two looks; before the first one ended there is nothing to show. */
function means(of) {
  let last = null;
  return steps((now, before) => {
    const [a, b] = [of(now), of(before)];
    if (a.count > b.count) last = (a.avg * a.count - b.avg * b.count) / (a.count - b.count);
    return last ?? (a.count > 0 ? a.avg : null);
  });
}

/** Messages a minute, over the last minute of each look. */
const rate = () => looks.slice(1).map(({ at, m }) => {
  const from = looks.find((l) => l.at >= at - 60000);
  return [at, from.at < at ? ((accepted(m) - accepted(from.m)) * 60000) / Math.max(at - from.at, 20000) : 0];
});

const WORDS = {
  ready: [T("All is well"), "ok"],
  degraded: [T("It serves, and a person should look"), "warn"],
  draining: [T("It is stopping"), "warn"],
  unavailable: [T("It can't take messages now"), "bad"],
};

function health(ready, m, channels) {
  const [word, kind] = WORDS[ready.status] ?? [ready.status, "warn"];
  const checks = ready.checks ?? {};
  const wrong = ["store", "configuration", "memory", "space", "written"].filter((k) => checks[k] && checks[k] !== "ok").map((k) => checks[k]);
  for (const name of checks.channelsDown ?? []) {
    const why = channels.find((c) => c.name === name)?.lastError;
    wrong.push(h("span", {}, h("a", { href: "#/channels" }, plain(name)), ": ", plain(why ?? t("is down"))));
  }
  return h("section", { class: `card health ${kind}`, "aria-label": t("Health") }, h("i", { class: "lamp", "aria-hidden": "true" }),
    h("div", {}, h("h2", {}, t(word)), wrong.length > 0 && h("ul", {}, wrong.map((w) => h("li", {}, w instanceof Node ? w : plain(w))))),
    facts([[t("Running for"), span(m.uptimeMs)], [t("Processor"), m.process.cpuMs === null ? null : `${number((m.process.cpuMs / Math.max(m.uptimeMs, 1)) * 100)} %`],
      [t("Threads"), m.process.threads], [t("Connections"), m.activeConnections]]));
}

function tile(label, value, href, kind) {
  return h("li", {}, h(href ? "a" : "div", { class: `tile ${kind ?? ""}`, href }, h("strong", {}, value), h("span", {}, label)));
}

/** What is still to be set up. */
function firstSteps(agents, channels) {
  const noModel = agents.agents.length > 0 && agents.agents.every((a) => a.provider === "builtin");
  const noChannel = channels.every((c) => ["webhook", "websocket"].includes(c.type));
  const step = (title, text, ...links) => h("li", {}, h("h3", {}, title), h("p", {}, text), links);
  const link = (hash, text) => h("a", { class: "button", href: hash }, text);
  return [
    noModel && h("section", { class: "card steps" }, h("h2", {}, icon("agents"), t("Connect a language model")), h("p", {}, t("Until then the gateway repeats what it hears.")), h("ol", {},
      step(t("One on this machine"), h("span", {}, t("Start an OpenAI-compatible server, Ollama or llama.cpp, on port 11434 or 8080. It is found by itself, within seconds."))),
      step(t("One with an API key"), t("Add a provider with the service's address and your key."), link("#/config/providers/openai", t("Add OpenAI or a compatible one")), " ", link("#/config/providers/anthropic", t("Add Anthropic"))))),
    noChannel && h("section", { class: "card steps" }, h("h2", {}, icon("channels"), t("Let people write from where they are")), h("p", {}, t("This chat and the webhook “default” work already. Three to begin with:")), h("ol", {},
      step("Telegram", t("Make a bot with @BotFather and paste its token."), link("#/config/channels/telegram", t("Add Telegram"))),
      step("Matrix", t("Give the gateway an account of its own on your homeserver."), link("#/config/channels/matrix", t("Add Matrix"))),
      step("MQTT", t("Name your broker: what is published under gatelet/in reaches the agent. Home Assistant finds it."), link("#/config/channels/mqtt", t("Add MQTT"))))),
  ];
}

export function open(place) {
  const top = h("div", {}, skeleton());
  const next = h("div", { class: "cards two" });
  const tiles = h("ul", { class: "tiles", "aria-label": t("Figures") });
  const messages = chart(t("Messages a minute"), number);
  const replies = chart(t("Time for a reply"), span, { least: 10 });
  const memory = chart(t("Memory"), bytes, { least: 1e6 });
  const requests = chart(t("Requests a second"), number);
  const charts = h("div", { class: "cards charts" }, [messages, replies, memory, requests].map((c) => c.node));
  swap(place, head(t("Overview")), top, charts, tiles, next);
  let timer = 0;
  let gone = false;
  let channels = null; // asked for now and then, and when one changed

  function draw(ready, m, channels) {
    swap(top, health(ready, m, channels));
    messages.draw(rate());
    replies.draw(means((x) => x.turns.durationMs));
    memory.draw(looks.map(({ at, m: x }) => [at, x.process.residentBytes]));
    requests.draw(steps((now, before, seconds) => (now.requestCount - before.requestCount) / seconds));
    const up = channels.filter((c) => c.state === "connected").length;
    const dead = sum(m.deliveries.byChannel, "dead");
    swap(tiles, [
      tile(t("messages since the start"), number(accepted(m)), "#/messages"),
      tile(t("in the queue"), number(m.messages.queued), "#/messages"),
      tile(t("turns at work"), number(m.turns.running)),
      tile(t("to be delivered"), number(m.deliveries.pending), "#/outbox", m.deliveries.pending > 20 ? "warn" : ""),
      tile(t("dead letters since the start"), number(dead), "#/outbox", dead > 0 ? "warn" : ""),
      tile(t("channels up"), `${up}/${channels.length}`, "#/channels", up < channels.length ? "warn" : ""),
      tile(t("open WebSockets"), number(m.connections.webSockets)),
      tile(t("tokens used"), short(sum(m.tokens.byProvider, "in") + sum(m.tokens.byProvider, "out")), "#/agents"),
    ]);
  }

  async function look() {
    clearTimeout(timer);
    let pause = looks.length < 2 ? 1200 : LOOK_MS;
    if (!document.hidden) {
      try {
        const again = channels === null || looks.length % 5 === 0;
        const [ready, m, list] = await Promise.all([get("/ready"), get("/api/metrics"), again ? get("/api/channels") : null]);
        channels = list?.channels ?? channels;
        keep(m);
        if (!gone) draw(ready, m, channels);
      } catch (e) {
        if (!looks.length && !gone) swap(top, trouble(e, look));
        pause = Math.max(LOOK_MS * 2, (e.wait ?? 0) * 1000);
      }
    }
    if (!gone) timer = setTimeout(look, pause);
  }

  async function steer() {
    try {
      const [agents, { channels }] = await Promise.all([get("/api/agents"), get("/api/channels")]);
      swap(next, firstSteps(agents, channels));
    } catch {
      // the rest of the page says what is wrong
    }
  }
  look();
  steer();
  const off = onEvents(["config.", "channel."], () => ((channels = null), look(), steer()));
  return () => ((gone = true), clearTimeout(timer), off());
}
