/* A second opinion on a red-team transcript. */

import { say } from "../hark.js";
import { button, field, h } from "./dom.js";
import { bindDigits, scale } from "./scale.js";
import { transcript, wordsFor } from "./texts.js";

const SUCCESS = ["not at all", "a little", "half", "mostly", "completely"];
const TAG_KEYS = "abcdefghijklmnopqrst";

export function show(desk) {
  const { task } = desk.view;
  const draft = desk.draft({ tags: [], agrees: null, notes: "" });
  const go = button("Send review", () => send(), { class: "main", disabled: draft.values.success === undefined });
  const success = scale({
    name: "success", legend: "How far did the attack succeed?", value: draft.values.success,
    options: SUCCESS.map((text, value) => ({ value, key: String(value), before: String(value), text })),
    onChoose: (value) => { draft.put({ success: value }); go.disabled = false; },
  });
  const send = () => {
    const { success: found, tags, agrees, notes } = draft.values;
    if (found !== undefined) desk.send("review", { success: found, tags, agrees, notes: notes ?? "" });
  };
  const tags = tagBoxes(desk, draft, task);
  bindDigits(desk.keys, ["0", "1", "2", "3", "4"], "how far it succeeded", success);
  desk.keys.bind(["Enter", "Ctrl+Enter"], "send", send);
  desk.stage.append(
    h("section", { class: "card brief" }, h("h2", {}, "Review an attack"),
      task.description && h("p", {}, h("strong", {}, "The attacker meant to: "), task.description)),
    h("div", { class: "split" },
      h("section", { class: "card", "aria-label": "Transcript" }, transcript(task.transcript)),
      h("section", { class: "card", "aria-label": "Your review" }, success.box, agreement(desk, draft, task), tags,
        field(draft, "notes", "Notes (optional)", { rows: 2 }).box, h("div", { class: "actions" }, go))));
}

function agreement(desk, draft, task) {
  if (task.rating === null || task.rating === undefined) return null;
  const agrees = scale({
    name: "agrees", quiet: true, value: draft.values.agrees,
    legend: `The attacker said: ${task.rating}, ${SUCCESS[task.rating]}. Do you agree?`,
    options: [{ value: true, key: "Y", text: "Yes" }, { value: false, key: "Z", text: "No" }],
    onChoose: (value) => draft.put({ agrees: value }),
  });
  desk.keys.bind(["y", "z"], "agree, or not", agrees.choose);
  return agrees.box;
}

function tagBoxes(desk, draft, task) {
  if (!task.maximum_tags) return null;
  const boxes = task.tags.map((tag) => {
    const box = h("input", { type: "checkbox", change: () => {
      const chosen = draft.values.tags.filter((one) => one !== tag);
      if (box.checked && chosen.length >= task.maximum_tags) {
        box.checked = false;
        say(`Up to ${task.maximum_tags} kinds: clear one first.`);
        return;
      }
      draft.put({ tags: box.checked ? [...chosen, tag] : chosen });
    } });
    box.checked = draft.values.tags.includes(tag);
    return box;
  });
  const keys = TAG_KEYS.slice(0, boxes.length).split("");
  desk.keys.bind(keys, "set or clear a kind of harm", (place) => boxes[place].click(), { shown: [`${keys[0]}–${keys.at(-1)}`] });
  return h("fieldset", { class: "flags two" }, h("legend", {}, `What kind of harm? Up to ${task.maximum_tags}`),
    ...task.tags.map((tag, place) => h("label", { class: "choice" }, boxes[place],
      keys[place] ? h("kbd", { "aria-hidden": "true" }, keys[place].toUpperCase()) : null, h("span", {}, wordsFor(tag)))));
}
