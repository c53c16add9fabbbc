// The gateway's HTTP API, and the token.
//
// Invariant: asks the page's own origin alone. The token leaves in the Authorization header only; it is kept for this tab.

import { t } from "./i18n.js";

const KEY = "gatelet.token";
let memory = null; // where the tab's storage is switched off

export const token = {
  get() {
    try {
      return sessionStorage.getItem(KEY) ?? memory;
    } catch {
      return memory;
    }
  },
  set(value) {
    memory = value;
    try {
      if (value === null) sessionStorage.removeItem(KEY);
      else sessionStorage.setItem(KEY, value);
    } catch {
      // for this page only, then
    }
  },
};

/** Takes a token out of the address (`#token=…`) and out of the history. */
export function takeToken() {
  const given = /^#token=([^&]+)/.exec(location.hash);
  if (!given) return false;
  try {
    token.set(decodeURIComponent(given[1]));
  } catch {
    token.set(given[1]);
  }
  history.replaceState(null, "", location.pathname + "#/");
  return true;
}

/** What went wrong: the gateway's own words, or that it can't be reached (status 0). */
export class Fault extends Error {
  constructor(status, body, wait) {
    super(body?.message ?? (status ? t("The gateway answered {status}.", { status }) : t("The gateway can't be reached.")));
    this.status = status;
    this.errors = body?.errors ?? [];
    this.wait = wait;
  }
}

/** Told of a 401 to any call: the token is no longer good. */
export const signedOut = new EventTarget();

/** One call; gives `{status, body, etag}`. */
export async function call(method, path, { body, etag, bearer } = {}) {
  const headers = {};
  const credential = bearer ?? token.get();
  if (credential) headers.Authorization = `Bearer ${credential}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (etag) headers["If-Match"] = etag;
  let answer, text;
  try {
    answer = await fetch(path, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store", credentials: "omit",
      redirect: "error", signal: AbortSignal.timeout(30000),
    });
    text = await answer.text();
  } catch {
    throw new Fault(0);
  }
  let read = null;
  try {
    read = text ? JSON.parse(text) : null;
  } catch {
    // an answer of somebody in between
  }
  if (answer.status === 401 && bearer === undefined) signedOut.dispatchEvent(new Event("out"));
  // /ready answers 503 with a body that is worth reading.
  if (!answer.ok && !(path === "/ready" && read?.status)) throw new Fault(answer.status, read?.message ? read : null, Number(answer.headers.get("Retry-After")) || 0);
  return { status: answer.status, body: read, etag: answer.headers.get("ETag") };
}

export const get = async (path) => (await call("GET", path)).body;
export const post = async (path, body) => (await call("POST", path, { body })).body;
export const remove = (path) => call("DELETE", path);

/** One segment of a path. */
export const seg = encodeURIComponent;
