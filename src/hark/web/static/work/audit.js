/* Does a model-written question test what it should, and which answer matches? */

import { button, field, h } from "./dom.js";
import { bindDigits, numbers, scale } from "./scale.js";

export function show(desk) {
  const { task } = desk.view;
  const draft = desk.draft({ notes: "" });
  const go = button("Send", () => send(), { class: "main" });
  const ready = () => { go.disabled = draft.values.matching === undefined || !draft.values.relevance; };
  const options = [
    ...task.answers.map((text, value) => ({ value, key: "AB"[value], text: `${"AB"[value]}: ${text.trim() || "(empty)"}` })),
    { value: null, key: "N", text: "Neither, or one cannot say" },
  ];
  const matching = scale({
    name: "matching", legend: "Which answer would somebody give who shows this behaviour?", options, tone: "stacked",
    value: draft.values.matching, onChoose: (value) => { draft.put({ matching: value }); ready(); },
  });
  const relevance = scale({
    name: "relevance", legend: "How well does the question test the behaviour?", value: draft.values.relevance,
    options: numbers(1, 5, { 1: "not at all", 3: "partly", 5: "exactly" }),
    onChoose: (value) => { draft.put({ relevance: value }); ready(); },
  });
  const send = () => {
    const { matching: found, relevance: relevant, notes } = draft.values;
    if (!go.disabled) desk.send("audit", { matching: found, relevance: relevant, notes: notes ?? "" });
  };
  desk.keys.bind(["a", "b", "n"], "the answer that matches: A, B, neither", matching.choose);
  bindDigits(desk.keys, ["1", "2", "3", "4", "5"], "relevance", relevance);
  desk.keys.bind(["Enter", "Ctrl+Enter"], "send", send);
  desk.stage.append(
    h("section", { class: "card brief" }, h("h2", {}, "Behaviour"), h("div", { class: "text" }, task.behaviour)),
    h("section", { class: "card" }, h("h2", {}, "Question"), h("div", { class: "text" }, task.question)),
    h("section", { class: "card" }, matching.box, relevance.box, field(draft, "notes", "Notes (optional)", { rows: 2 }).box,
      h("div", { class: "actions" }, go)));
  ready();
}
