/* Keyboard shortcuts: bound by the page that is shown, listed on it, and off while one is typing. */

import { h } from "./work/dom.js";

const OFF = "hark shortcuts off";
const FIELDS = "textarea, select, input:not([type=radio], [type=checkbox])";

export class Keys {
  constructor() {
    this.bound = new Map();
    this.listed = new Map();
    this.frozen = () => false;
    document.addEventListener("keydown", (event) => this.pressed(event));
  }

  /** Forget the shortcuts of the step before. */
  reset() {
    this.bound.clear();
    this.listed = new Map();
  }

  /** combos: such as "1", "Enter", "Ctrl+Enter", "Alt+ArrowUp"; shown: how they are listed;
   *  always: also while the task is hidden or being sent. */
  bind(combos, what, act, { shown = combos, always = false } = {}) {
    combos.forEach((combo, place) => this.bound.set(combo, { act: () => act(place), always }));
    if (what) this.listed.set(what, shown);
  }

  pressed(event) {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const combo = nameOf(event);
    const found = this.bound.get(combo);
    if (!found || !isOurs(event, combo) || (this.frozen() && !found.always)) return;
    event.preventDefault();
    if (!event.repeat || combo.includes("Arrow")) found.act();
  }

  /** The list, for the page. */
  list() {
    return h("ul", { class: "keys" }, ...Array.from(this.listed, ([what, shown]) =>
      h("li", {}, ...shown.flatMap((key, n) => [n ? " " : "", h("kbd", {}, pretty(key))]), ` ${what}`)));
  }
}

/** Without Ctrl or Alt, a key belongs to the field one types in, or to the control it operates. */
function isOurs(event, combo) {
  const at = event.target;
  if (combo.startsWith("Ctrl+") || combo === "Escape") return true;
  if (at.matches(FIELDS)) return false;
  if (combo === "Enter") return !at.matches("button, a, summary");
  if (combo.startsWith("Arrow") && at.matches("input")) return false;
  const plain = combo.length === 1;
  return !plain || combo === "?" || !shortcutsAreOff();
}

function nameOf(event) {
  const letter = event.key.length === 1;
  const capital = letter && event.key.toLowerCase() !== event.key.toUpperCase();
  const shift = event.shiftKey && (!letter || capital) ? "Shift+" : "";
  const key = capital ? event.key.toLowerCase() : event.key;
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.altKey ? "Alt+" : ""}${shift}${key}`;
}

function pretty(combo) {
  const names = { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc" };
  return combo.split("+").map((part) => names[part] ?? (part.length === 1 || part[1] === "–" ? part.toUpperCase() : part)).join("+");
}

export function shortcutsAreOff() {
  return localStorage.getItem(OFF) === "yes";
}

/** People who dictate, or whose hands are unsteady, may want single keys to do nothing. */
export function turnShortcuts(off) {
  if (off) localStorage.setItem(OFF, "yes");
  else localStorage.removeItem(OFF);
}
