// The WebSocket: opened, authenticated, opened again when it is lost.
//
// Invariant: it connects to the page's own host alone, and the token is its first frame, never a part of its address. It fails by
// trying again, ever more slowly, and by saying so.

import { token } from "./api.js";

const PAUSE_MS = 500;
const PAUSE_MS_MAX = 20000;
const SILENCE_MS = 25000;

class Live extends EventTarget {
  state = "off"; // off, connecting, open, waiting, refused
  retryAt = 0;
  #socket = null;
  #failures = 0;
  #timer = 0;
  #heard = 0;

  constructor() {
    super();
    window.addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => document.hidden || this.now());
    setInterval(() => this.#listen(), 5000);
  }

  start() {
    this.stop();
    this.#failures = 0;
    this.#open();
  }

  stop() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.#become("off");
  }

  /** Tries at once where it waits. */
  now() {
    if (this.state === "waiting") this.#open();
  }

  /** Sends a frame; false where there is no connection. */
  send(frame) {
    if (this.state !== "open") return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  #become(state) {
    if (this.state === state && state !== "waiting") return;
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }

  #open() {
    clearTimeout(this.#timer);
    this.#become("connecting");
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = (this.#socket = new WebSocket(`${scheme}//${location.host}/ws`, ["gatelet.v1"]));
    const patience = setTimeout(() => socket.close(), 15000);
    socket.onopen = () => token.get() && socket.send(JSON.stringify({ type: "auth", token: token.get() }));
    socket.onmessage = (event) => {
      if (socket !== this.#socket) return;
      this.#heard = Date.now();
      let frame;
      try {
        frame = JSON.parse(event.data);
      } catch {
        return;
      }
      if (frame.type === "ready") {
        clearTimeout(patience);
        this.#failures = 0;
        this.#become("open");
      }
      this.dispatchEvent(new CustomEvent("frame", { detail: frame }));
    };
    socket.onclose = (event) => {
      clearTimeout(patience);
      if (socket === this.#socket) this.#lost(event.code);
    };
  }

  #lost(code) {
    this.#socket = null;
    if (code === 4401) return this.#become("refused");
    const pause = Math.min(PAUSE_MS * 2 ** this.#failures++, PAUSE_MS_MAX) * (0.75 + Math.random() / 2);
    this.retryAt = Date.now() + pause;
    this.#timer = setTimeout(() => this.#open(), pause);
    this.#become("waiting");
  }

  /** A network that went away without a word is found by asking; browsers don't tell of pings. */
  async #listen() {
    const socket = this.#socket;
    if (this.state !== "open" || document.hidden || Date.now() - this.#heard < SILENCE_MS) return;
    this.#heard = Date.now();
    try {
      await fetch("/health", { cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(8000) });
    } catch {
      if (socket === this.#socket && socket) {
        socket.onclose = null;
        socket.close();
        this.#lost(1006);
      }
    }
  }
}

export const live = new Live();

/** Calls `handler` with each frame of these types, until the function it gives is called. */
export function onFrames(types, handler) {
  const listener = (event) => types.includes(event.detail.type) && handler(event.detail);
  live.addEventListener("frame", listener);
  return () => live.removeEventListener("frame", listener);
}

/** Calls `refresh` soon after events whose names begin so, many at once as one; and whenever the connection is back. */
export function onEvents(prefixes, refresh, types = ["event"]) {
  let timer = 0;
  const soon = () => {
    if (!timer) timer = setTimeout(() => ((timer = 0), document.hidden || refresh()), 400);
  };
  const off = onFrames([...types, "ready"], (frame) => {
    if (frame.type !== "event" || prefixes.some((p) => frame.event.startsWith(p))) soon();
  });
  return () => (clearTimeout(timer), off());
}
