/* Two summaries: what each seems to say, then the post and a grade on nine points. Or one summary
 * beside its post, rated on axes. */

import { button, h, letter } from "./dom.js";
import { bindDigits, numbers, scale } from "./scale.js";
import { markChosen, responses, wordsFor } from "./texts.js";

const WORDS = ["definitely", "very likely", "likely", "slightly", "can’t tell", "slightly", "likely", "very likely", "definitely"];

/* In the sense of 2009.01325, appendix C. */
const MEANINGS = {
  coverage: "How much of what matters in the post is in the summary? What is left out counts, what is said well does not.",
  accuracy: "Does the summary say only what the post says? A wrong or invented statement counts, a missing one does not.",
  coherence: "Read by itself, is the summary clear and easy to follow? Compare it with nothing.",
  overall: "All in all, how well does the summary stand for the post to somebody who cannot read it?",
};

export function show(desk) {
  if (desk.view.task.asks === "axes") rate(desk);
  else if (desk.view.next_steps.includes("notes")) notes(desk);
  else compare(desk);
}

function notes(desk) {
  const { candidates } = desk.view;
  const draft = desk.draft({ notes: {} });
  const columns = responses(candidates, { what: "Summary", below: ({ id }, place) => {
    const control = h("textarea", { id: `note-${id}`, rows: 4, "data-first": place === 0, input: () => {
      draft.values.notes[id] = control.value;
      draft.save();
    } });
    control.value = draft.values.notes[id] ?? "";
    return h("div", { class: "field" }, h("label", { for: control.id }, `What does summary ${letter(place)} tell you?`), control);
  } });
  const send = () => {
    const missing = candidates.findIndex(({ id }) => !draft.values.notes[id]?.trim());
    if (missing >= 0) return document.getElementById(`note-${candidates[missing].id}`).focus();
    return desk.send("notes", { notes: draft.values.notes });
  };
  desk.keys.bind(["Ctrl+Enter"], "show the post", send);
  desk.stage.append(
    h("section", { class: "card brief" }, h("h2", {}, "Before you see the post"),
      h("p", {}, "Read both summaries and write down what you take the story to be, from each by itself. The post comes next.")),
    columns, h("div", { class: "actions" }, button("Show the post", send, { class: "main" })));
}

function compare(desk) {
  const { candidates, task, answered } = desk.view;
  const draft = desk.draft();
  const earlier = answered.find((step) => step.kind === "notes")?.answer.notes ?? {};
  const columns = responses(candidates, {
    what: "Summary", chosen: (one) => one.id === draft.values.chosen,
    below: ({ id }) => earlier[id] && h("p", { class: "hint" }, h("strong", {}, "Your note: "), earlier[id]),
  });
  const go = button("Send", () => send(), { class: "main", disabled: draft.values.strength === undefined });
  const grade = gradeOf(draft, candidates, (id) => { markChosen(columns, id); go.disabled = false; });
  const send = () => {
    const { chosen, strength } = draft.values;
    if (strength !== undefined) desk.send("summary", { chosen, strength });
  };
  bindDigits(desk.keys, ["1", "2", "3", "4", "5", "6", "7", "8", "9"], "comparison", grade);
  desk.keys.bind(["Enter", "Ctrl+Enter"], "send", send);
  desk.stage.append(post(task), columns, h("section", { class: "card dock" }, grade.box, h("div", { class: "actions" }, go)));
}

function rate(desk) {
  const { candidates, task } = desk.view;
  const draft = desk.draft({ ratings: {} });
  const go = button("Send", () => send(), { class: "main" });
  const left = h("span", { class: "hint", role: "status" });
  const ready = () => {
    const lacking = task.axes.filter((axis) => !draft.values.ratings[axis]).map(wordsFor);
    go.disabled = lacking.length > 0;
    left.textContent = lacking.length ? `Still to do: ${lacking.join(", ")}` : "";
  };
  const scales = task.axes.map((axis) => scale({
    name: axis, legend: wordsFor(axis), options: numbers(1, 7), value: draft.values.ratings[axis],
    onChoose: (value) => {
      draft.put({ ratings: { ...draft.values.ratings, [axis]: value } });
      ready();
    },
  }));
  const send = () => go.disabled || desk.send("axes", { ratings: draft.values.ratings });
  bindDigits(desk.keys, ["1", "2", "3", "4", "5", "6", "7"], "rate on the axis that has the focus, or on the first", scales[0]);
  desk.keys.bind(["Enter", "Ctrl+Enter"], "send", send);
  const explained = task.axes.map((axis, place) => h("div", {}, scales[place].box, MEANINGS[axis] ? h("p", { class: "hint" }, MEANINGS[axis]) : null));
  scales[0].box.querySelector("input").dataset.first = "true";
  desk.stage.append(post(task), responses(candidates, { what: "Summary" }),
    h("section", { class: "card", "aria-label": "Ratings" }, ...explained, h("div", { class: "actions" }, left, go)));
  ready();
}

const post = (task) => h("section", { class: "card", "aria-label": "The post" },
  h("h2", {}, task.title || "The post"), task.community && h("p", { class: "hint" }, task.community),
  h("div", { class: "text" }, task.post));

function gradeOf(draft, candidates, onChange) {
  const options = WORDS.map((text, place) => ({
    value: place, key: String(place + 1), text,
    before: place === 4 ? "" : letter(place < 4 ? 0 : 1), tone: place < 4 ? "left" : place > 4 ? "right" : "",
  }));
  const { chosen, strength } = draft.values;
  const side = chosen === candidates[0].id ? -1 : 1;
  return scale({
    name: "grade", legend: "Which summary is better?", options, value: strength === undefined ? null : 4 + side * strength,
    ends: ["← A is better", "B is better →"],
    onChoose: (place) => {
      const better = place === 4 ? null : candidates[place < 4 ? 0 : 1].id;
      draft.put({ chosen: better, strength: Math.abs(place - 4) });
      onChange(better);
    },
  });
}
