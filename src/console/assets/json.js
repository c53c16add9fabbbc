// JSON documents: paths as the gateway writes them, what differs, and where a path stands in a text.
//
// Invariant: a patch (RFC 7396) laid over what it was made from gives what was wanted. Pure; a text that is no JSON is never repaired.

export const clone = (value) => (value === undefined ? undefined : JSON.parse(JSON.stringify(value)));
export const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
export const same = (a, b) => JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));

function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.keys(value).sort().map((k) => [k, sorted(value[k])]));
}

/** The path of keys, as problems name it: `$.a[0]["b c"]`. */
export const pathOf = (keys) => keys.reduce((path, key) => (typeof key === "number" ? `${path}[${key}]` : /^[A-Za-z0-9_$-]{1,64}$/.test(key) ? `${path}.${key}` : `${path}[${JSON.stringify(key)}]`), "$");

/** The value at those keys. */
export const at = (document, keys) => keys.reduce((value, key) => (value === null || value === undefined ? undefined : value[key]), document);

/** Puts a value there, with the objects above it; `undefined` takes it away. */
export function put(document, keys, value) {
  let into = document;
  for (const key of keys.slice(0, -1)) into = isObject(into[key]) || Array.isArray(into[key]) ? into[key] : (into[key] = {});
  const last = keys.at(-1);
  if (value !== undefined) into[last] = value;
  else if (Array.isArray(into)) into.splice(last, 1);
  else delete into[last];
}

/** The merge patch from `old` to `now`; undefined where nothing differs. */
export function diff(old, now) {
  if (!isObject(old) || !isObject(now)) return same(old, now) ? undefined : now;
  const patch = {};
  for (const key of Object.keys(old)) if (!(key in now)) patch[key] = null;
  for (const [key, value] of Object.entries(now)) {
    const change = key in old ? diff(old[key], value) : value;
    if (change !== undefined) patch[key] = change;
  }
  return Object.keys(patch).length > 0 ? patch : undefined;
}

/** `patch` laid over `document`. */
export function merged(document, patch) {
  if (!isObject(patch)) return patch;
  const out = isObject(document) ? { ...document } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete out[key];
    else out[key] = merged(out[key], value);
  }
  return out;
}

/** Where the value of `path`, or of the nearest above it, stands in a JSON text: its offset. */
export function locate(text, path) {
  let pos = 0;
  let best = [0, 0]; // length of the path found, offset
  const blank = () => {
    while (pos < text.length && " \t\r\n".includes(text[pos])) pos++;
  };
  const string = () => {
    const from = pos++;
    while (pos < text.length && text[pos] !== '"') pos += text[pos] === "\\" ? 2 : 1;
    pos++;
    return JSON.parse(text.slice(from, pos));
  };
  const see = (keys, offset) => {
    const here = pathOf(keys);
    const isOnTheWay = path === here || path.startsWith(here + ".") || path.startsWith(here + "[");
    if (isOnTheWay && here.length > best[0]) best = [here.length, offset];
    return isOnTheWay;
  };
  const value = (keys, offset) => {
    see(keys, offset);
    blank();
    const c = text[pos];
    if (c === '"') return void string();
    if (c !== "{" && c !== "[") {
      while (pos < text.length && !",]} \t\r\n".includes(text[pos])) pos++;
      return;
    }
    pos++;
    for (let i = 0; ; i++) {
      blank();
      if (pos >= text.length || text[pos] === "}" || text[pos] === "]") return void pos++;
      const from = pos;
      let key = i;
      if (c === "{") {
        key = string();
        blank();
        pos++;
      }
      value([...keys, key], from);
      blank();
      if (text[pos] === ",") pos++;
    }
  };
  try {
    value([], 0);
  } catch {
    // what was found so far will do
  }
  return best[1];
}
