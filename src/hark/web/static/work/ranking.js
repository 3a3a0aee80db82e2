/* K responses: first each by itself (quality and flags), then all in order, ties allowed. */

import { button, field, h, letter } from "./dom.js";
import { order } from "./order.js";
import { bindDigits, numbers, scale } from "./scale.js";
import { prompt, wordsFor } from "./texts.js";

const QUALITY = { 1: "worst", 4: "middling", 7: "best" };
const FLAG_KEYS = "abcdefghijklmnopqrs";

export function show(desk) {
  const { candidates, task } = desk.view;
  const draft = desk.draft({ likert: {}, flags: {}, ranking: [], notes: "" });
  for (const { id } of candidates) {
    draft.values.flags[id] ??= Object.fromEntries(task.flags.map((flag) => [flag, false]));
  }
  const state = { desk, draft, at: 0, bench: h("div", {}) };
  desk.stage.append(prompt(task.prompt), state.bench);
  const rated = candidates.every(({ id }) => draft.values.likert[id]);
  if (rated && draft.values.ranking.length) rank(state);
  else rate(state, Math.max(0, candidates.findIndex(({ id }) => !draft.values.likert[id])));
}

/** Screen 1: one response at a time. */
function rate(state, at, { focus = false } = {}) {
  const { desk, draft, bench } = state;
  const { candidates, task } = desk.view;
  state.at = at;
  const { id, text } = candidates[at];
  const go = (to) => rate(state, (to + candidates.length) % candidates.length, { focus: true });
  const tabs = h("div", { class: "steps", role: "group", "aria-label": "Responses" }, ...candidates.map((one, place) =>
    button([letter(place), draft.values.likert[one.id] ? h("span", { class: "tick" }, " ✓", h("span", { class: "unseen" }, " rated")) : ""], () => go(place),
      { "aria-current": place === at ? "step" : null, "aria-label": null })));
  const quality = scale({
    name: `likert-${id}`, legend: "Overall quality", options: numbers(1, 7, QUALITY), value: draft.values.likert[id],
    onChoose: (value) => {
      draft.put({ likert: { ...draft.values.likert, [id]: value } });
      onward.textContent = next() === null ? "Now rank them" : `On to response ${letter(next())}`;
      onward.disabled = false;
    },
  });
  const next = () => {
    const left = candidates.findIndex((one) => !draft.values.likert[one.id]);
    return left < 0 ? null : left;
  };
  const onward = button("Rate it to go on", () => (next() === null ? rank(state) : go(next())), { class: "main" });
  onward.disabled = !draft.values.likert[id];
  if (!onward.disabled) onward.textContent = next() === null ? "Now rank them" : `On to response ${letter(next())}`;
  const flags = h("fieldset", { class: "flags" }, h("legend", {}, "This response…"),
    ...task.flags.map((flag, place) => flagBox(draft, id, flag, FLAG_KEYS[place])));
  bench.replaceChildren(
    h("div", { class: "row spread" }, h("h2", {}, `Response ${letter(at)} of ${letter(candidates.length - 1)}`), tabs),
    h("div", { class: "split" },
      h("article", { class: "response", "aria-label": `Response ${letter(at)}` }, h("div", { class: "text" }, text)),
      h("section", { class: "card", "aria-label": "Your rating" }, quality.box, flags, h("div", { class: "actions" }, onward))));
  if (focus) quality.box.querySelector("input:checked, input").focus({ preventScroll: true });
  bindRating(state, { quality, onward, go, flags });
}

function flagBox(draft, id, flag, key) {
  const box = h("input", { type: "checkbox", change: () => {
    draft.values.flags[id][flag] = box.checked;
    draft.save();
  } });
  box.checked = draft.values.flags[id][flag];
  return h("label", { class: "choice", "data-flag": flag }, box, key ? h("kbd", { "aria-hidden": "true" }, key.toUpperCase()) : null, h("span", {}, wordsFor(flag)));
}

function bindRating({ desk, at }, { quality, onward, go, flags }) {
  desk.keys.reset();
  bindDigits(desk.keys, ["1", "2", "3", "4", "5", "6", "7"], "overall quality", quality);
  const boxes = Array.from(flags.querySelectorAll("input"));
  const keys = FLAG_KEYS.slice(0, boxes.length).split("");
  desk.keys.bind(keys, "set or clear a flag", (place) => boxes[place]?.click(), { shown: [`${keys[0]}–${keys.at(-1)}`] });
  desk.keys.bind(["ArrowRight", "ArrowDown"], "next response", () => go(at + 1));
  desk.keys.bind(["ArrowLeft", "ArrowUp"], "response before", () => go(at - 1));
  desk.keys.bind(["Enter", "Ctrl+Enter"], "go on", () => !onward.disabled && onward.click());
  desk.frame.bindKeys();
}

/** Screen 2: all in order. It begins with the order of the ratings, equal ones tied. */
function rank(state) {
  const { desk, draft, bench } = state;
  const { candidates } = desk.view;
  if (!draft.values.ranking.length) draft.put({ ranking: byRating(candidates, draft.values.likert) });
  const notes = field(draft, "notes", "Notes (optional)", { rows: 2 });
  const send = () => {
    const { likert, flags, ranking, notes: said } = draft.values;
    desk.send("ranking", { likert, flags, ranking, notes: said ?? "" });
  };
  const list = order({
    groups: draft.values.ranking,
    cardOf: (id) => {
      const place = candidates.findIndex((one) => one.id === id);
      return { title: `Response ${letter(place)}`, detail: `rated ${draft.values.likert[id]} of 7`, text: candidates[place].text };
    },
    onChange: (groups) => draft.put({ ranking: groups }),
  });
  bench.replaceChildren(
    h("div", { class: "row spread" }, h("h2", { tabindex: "-1" }, "Rank all from best to worst"),
      button("Back to the ratings", () => rate(state, 0, { focus: true }), { class: "small" })),
    h("p", { class: "hint" }, "They stand in the order of your ratings; equal ratings are ties. Drag a response, or use its buttons or the keyboard. Part ties wherever you can tell a difference."),
    list.box,
    h("section", { class: "card" }, notes.box, h("div", { class: "actions" }, button("Send ranking", send, { class: "main" }))));
  desk.keys.reset();
  list.bind(desk.keys);
  desk.keys.bind(["Enter", "Ctrl+Enter"], "send", send);
  desk.frame.bindKeys();
  list.focus();
}

function byRating(candidates, likert) {
  const ratings = Array.from(new Set(candidates.map(({ id }) => likert[id]))).sort((a, b) => b - a);
  return ratings.map((rating) => candidates.filter(({ id }) => likert[id] === rating).map(({ id }) => id));
}
