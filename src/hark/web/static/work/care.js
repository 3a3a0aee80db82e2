/* Care for labelers: time to pause, and nothing upsetting before one asks to see it. */

import { person } from "../hark.js";
import { button, h } from "./dom.js";

const NAME = `hark care ${person}`;
const TICK_MS = 5000;
const PAUSE_MS = 10 * 60e3;
const SENSITIVE_IN_A_ROW = 20;

const read = () => {
  try {
    return JSON.parse(localStorage.getItem(NAME)) ?? {};
  } catch {
    return {};
  }
};
const write = (changes) => localStorage.setItem(NAME, JSON.stringify({ ...read(), ...changes }));

/** Milliseconds of work since the last pause of ten minutes, counted while the page is in front. */
export class Worktime {
  constructor(minutes) {
    this.limit = minutes === null ? Infinity : minutes * 60e3;
    const { last = 0 } = read();
    if (Date.now() - last > PAUSE_MS) this.paused();
    setInterval(() => this.tick(), TICK_MS);
  }

  tick() {
    if (document.visibilityState !== "visible") return;
    const { last = Date.now(), worked = 0 } = read();
    const since = Date.now() - last;
    if (since > PAUSE_MS) this.paused();
    else write({ last: Date.now(), worked: worked + since });
  }

  paused() {
    write({ last: Date.now(), worked: 0, sensitive: 0 });
  }

  itemDone(sensitive) {
    this.tick();
    write({ sensitive: sensitive ? (read().sensitive ?? 0) + 1 : 0 });
  }

  /** Why a pause would be good now, if it would. */
  reason() {
    const { worked = 0, sensitive = 0 } = read();
    if (sensitive >= SENSITIVE_IN_A_ROW) return `That was ${sensitive} difficult items in a row.`;
    const minutes = Math.round(worked / 60e3);
    return worked >= this.limit ? `You have worked for ${minutes} minutes without a pause.` : null;
  }
}

/** A warning in front of a sensitive item. The labeler draws it aside, and may draw it back. */
export function veil(desk, stage) {
  const categories = Object.entries(desk.view.categories);
  if (!categories.length) return null;
  const name = `hark shown ${desk.correction?.event_id ?? desk.assignment}`;
  const shown = () => sessionStorage.getItem(name) === "yes";
  const warnings = categories.map(([category, warning]) =>
    h("p", {}, h("strong", {}, category.replaceAll("_", " ")), warning ? `: ${warning}` : ""));
  const show = button("Show it", () => turn(true), { class: "main" });
  const warning = h("section", { class: "card warning", "aria-label": "Content warning" },
    h("h2", {}, "This may be upsetting"), ...warnings,
    h("p", {}, "It stays hidden until you ask for it. You need not do it: “Too upsetting, skip” asks for no reason and costs you nothing."),
    h("div", { class: "row" }, show, h("kbd", { "aria-hidden": "true" }, "V")));
  const turn = (open) => {
    sessionStorage.setItem(name, open ? "yes" : "no");
    stage.classList.toggle("veiled", !open);
    stage.inert = !open;
    warning.hidden = open;
    desk.stageShown(open);
  };
  stage.classList.toggle("veiled", !shown());
  stage.inert = !shown();
  warning.hidden = shown();
  return { box: warning, turn: () => turn(stage.inert) };
}
