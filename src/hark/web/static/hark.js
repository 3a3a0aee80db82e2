/* Talking with the server, and telling people how it went.
 *
 * `call` asks once. `persist` asks until there is an answer, for what must not be lost: each time
 * with the same body under the same Idempotency-Key, so that the server keeps it once.
 */

const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";

export const person = meta("person");
export const version = meta("version");

const LONGEST_WAIT_SECONDS = 15;
const TRIES_OF_A_DEFECT = 4;

/** The server said no, and why. */
export class Refusal extends Error {
  constructor(status, message, retrySeconds = null) {
    super(message);
    this.status = status;
    this.retrySeconds = retrySeconds;
  }
}

export function headers({ key, json } = {}) {
  const made = { "X-CSRF-Token": meta("csrf-token"), Accept: "application/json" };
  if (json) made["Content-Type"] = "application/json";
  if (key) made["Idempotency-Key"] = key;
  return made;
}

/** One request below /api/v1. Returns the JSON, or {because} where there is none. */
export async function call(method, path, { body, key } = {}) {
  const json = body !== undefined;
  const response = await fetch(`/api/v1${path}`, {
    method,
    headers: headers({ key, json }),
    body: json ? JSON.stringify(body) : undefined,
    cache: "no-store",
  });
  if (response.status === 204) return { because: response.headers.get("X-Because") };
  if (response.ok) return response.json();
  throw await refusal(response);
}

export async function refusal(response) {
  const answer = await response.json().catch(() => null);
  const message = answer?.error?.message ?? `the server answered ${response.status}`;
  const seconds = Number(response.headers.get("Retry-After")) || null;
  return new Refusal(response.status, message, seconds);
}

/** Ask again, ever more slowly, while nobody answers or the server is busy. */
export async function persist(method, path, options = {}) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      const answer = await call(method, path, options);
      if (attempt) say("The server is back.");
      return answer;
    } catch (error) {
      if (!passes(error, attempt)) throw error;
      const growing = Math.min(LONGEST_WAIT_SECONDS, 0.5 * 2 ** attempt);
      const seconds = error.retrySeconds ?? growing * (0.75 + Math.random() / 2);
      const what = error instanceof Refusal ? "The server is busy." : "The server cannot be reached.";
      say(`${what} What you typed is kept here; trying again.`, { lasting: true });
      await pause(seconds);
    }
  }
}

function passes(error, attempt) {
  if (!(error instanceof Refusal)) return error instanceof TypeError;
  if (error.status === 500) return attempt < TRIES_OF_A_DEFECT;
  return [429, 502, 503, 504].includes(error.status);
}

/** Wait, but no longer than until the network is there again. */
export function pause(seconds) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      window.removeEventListener("online", done);
      resolve();
    };
    const timer = setTimeout(done, seconds * 1000);
    window.addEventListener("online", done);
  });
}

export function newKey() {
  // Not crypto.randomUUID: browsers have it under https and on localhost only.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

let fading = null;

/** A line at the bottom of the page, which screen readers read out. */
export function say(text, { problem = false, lasting = false } = {}) {
  const line = document.getElementById(problem ? "problem" : "status");
  clearTimeout(fading);
  document.getElementById(problem ? "status" : "problem").textContent = "";
  line.textContent = text;
  if (!lasting && !problem) fading = setTimeout(() => { line.textContent = ""; }, 6000);
}

export function unsay() {
  for (const name of ["status", "problem"]) document.getElementById(name).textContent = "";
}
