// The conversation with the gateway, apart from how it is shown: what was said, what is on its way, what waits.
//
// Invariant: what was written is sent until it is `accepted`, under the same id, so that it counts once. A message is acknowledged
// when it was shown, not before; what comes twice is kept once.

import { get, seg } from "./api.js";
import { live, onFrames } from "./live.js";

const ENTRIES_MAX = 400;

class Talk extends EventTarget {
  entries = []; // {key, role, text, at, state, messageId, deliveryId, seen, error, agent, approval}
  draft = "";
  loaded = false;
  #user = null;

  /** Begins for that user, with what the transcripts hold. */
  async begin(user) {
    if (this.#user !== user) {
      this.#user = user;
      this.entries = [];
      this.loaded = false;
    }
    if (this.loaded) return;
    let sessions = [];
    try {
      sessions = (await get(`/api/sessions/${seg(user)}?limit=20`)).sessions;
    } catch (e) {
      if (e.status !== 404) throw e; // a user without sessions
    }
    this.loaded = true;
    const said = sessions.filter((s) => s.channel === "websocket").flatMap((s) => s.transcript ?? []);
    said.sort((a, b) => a.atMs - b.atMs);
    const known = new Set(this.entries.map((e) => e.role + e.messageId));
    const old = said.filter((e) => !known.has(e.role + e.messageId)).map((e) => ({
      key: e.role + e.messageId, role: e.role, text: e.text, at: e.atMs, state: "done", messageId: e.messageId, seen: true,
    }));
    this.entries = [...old.slice(-100), ...this.entries];
    this.#changed();
  }

  /** Whether an answer is on its way. */
  get busy() {
    return this.entries.some((e) => e.role === "user" && (e.state === "sending" || e.state === "accepted"));
  }

  /** Messages that nobody has seen yet. */
  get unseen() {
    return this.entries.filter((e) => e.role === "assistant" && e.deliveryId && !e.seen).length;
  }

  say(text, agent) {
    const id = "c" + Array.from(crypto.getRandomValues(new Uint8Array(9)), (b) => b.toString(16).padStart(2, "0")).join("");
    const entry = { key: id, id, role: "user", text, at: Date.now(), state: "sending", agent };
    this.#add(entry);
    this.#send(entry);
  }

  again(entry) {
    Object.assign(entry, { state: "sending", error: null, messageId: null });
    this.#send(entry);
    this.#changed(entry);
  }

  stop() {
    live.send({ type: "stop" });
    for (const e of this.entries) {
      if (e.role === "user" && e.state === "accepted") e.state = "stopped";
      if (e.streaming) e.streaming = false;
    }
    this.#changed();
  }

  /** It was shown. */
  saw(entry) {
    if (!entry.deliveryId || entry.seen) return;
    if (live.send({ type: "ack", messageId: entry.deliveryId })) entry.seen = true;
    this.dispatchEvent(new Event("unseen"));
  }

  #send(entry) {
    live.send({ type: "message", id: entry.id, message: entry.text, ...(entry.agent ? { agent: entry.agent } : {}) });
  }

  #add(entry) {
    this.entries.push(entry);
    if (this.entries.length > ENTRIES_MAX) this.entries.splice(0, this.entries.length - ENTRIES_MAX);
    this.#changed(entry);
  }

  #changed(entry) {
    this.dispatchEvent(new CustomEvent("change", { detail: entry ?? null }));
  }

  #asked(messageId) {
    return this.entries.find((e) => e.role === "user" && e.messageId === messageId);
  }

  #answer(messageId) {
    return this.entries.find((e) => e.role === "assistant" && e.messageId === messageId);
  }

  take(frame) {
    const handler = {
      ready: () => this.entries.filter((e) => e.role === "user" && e.state === "sending").forEach((e) => this.#send(e)),
      accepted: () => this.#accepted(frame),
      delta: () => this.#delta(frame),
      message: () => this.#message(frame),
      error: () => this.#failed(frame.id, frame.message),
      approval: () => this.#approval(frame),
      event: () => this.#event(frame),
    }[frame.type];
    handler?.();
  }

  #accepted({ id, messageId }) {
    const entry = this.entries.find((e) => e.id === id);
    if (!entry || entry.state !== "sending") return;
    Object.assign(entry, { messageId, state: this.#answer(messageId)?.deliveryId ? "done" : "accepted" });
    this.#changed(entry);
  }

  #delta({ messageId, text }) {
    let entry = this.#answer(messageId);
    if (entry?.deliveryId) return;
    if (entry) {
      entry.text += text;
      entry.streaming = true;
      return this.#changed(entry);
    }
    entry = { key: "assistant" + messageId, role: "assistant", text, at: Date.now(), messageId, streaming: true };
    this.#add(entry);
  }

  #message(frame) {
    const known = this.entries.find((e) => e.deliveryId === frame.deliveryId);
    if (known) {
      known.seen = false; // its receipt was lost
      return this.#changed(known);
    }
    const whole = { text: frame.message, deliveryId: frame.deliveryId, streaming: false, seen: false };
    const asked = frame.inReplyTo && this.#asked(frame.inReplyTo);
    if (asked) asked.state = "done";
    const entry = frame.inReplyTo && this.#answer(frame.inReplyTo);
    if (entry && !entry.deliveryId) {
      // From the transcript: its delivery had not been acknowledged.
      Object.assign(entry, whole);
      this.#changed(entry);
    } else {
      this.#add({ key: frame.deliveryId, role: "assistant", at: Date.now(), messageId: frame.inReplyTo ?? null, ...whole });
    }
    this.dispatchEvent(new Event("unseen"));
  }

  #failed(id, message) {
    const entry = id && this.entries.find((e) => e.id === id && e.state === "sending");
    if (entry) {
      Object.assign(entry, { state: "failed", error: message });
      this.#changed(entry);
    }
  }

  #approval(frame) {
    if (frame.channel !== "websocket" || frame.userId !== this.#user) return;
    const known = this.entries.find((e) => e.approval?.id === frame.id);
    if (known) {
      known.approval = frame;
      this.#changed(known);
    } else if (frame.state === "pending") {
      this.#add({ key: frame.id, role: "question", at: frame.createdMs, approval: frame });
    }
  }

  /** Operators are told more: a turn that begins anew says its words anew. */
  #event({ event, detail }) {
    const asked = detail?.messageId && this.#asked(detail.messageId);
    if (!asked) return;
    const entry = this.#answer(detail.messageId);
    if (event === "turn.started" && entry && !entry.deliveryId) {
      entry.text = "";
      this.#changed(entry);
    } else if (event === "turn.failed") {
      Object.assign(asked, { state: "failed", error: detail.reason });
      if (entry) entry.streaming = false;
      this.#changed(asked);
    } else if (event === "turn.cancelled" && asked.state === "accepted") {
      asked.state = "stopped";
      this.#changed(asked);
    }
  }
}

export const talk = new Talk();
onFrames(["ready", "accepted", "delta", "message", "error", "approval", "event"], (frame) => talk.take(frame));
