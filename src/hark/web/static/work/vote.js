/* Which of two is better, or neither. */

import { button, h, letter } from "./dom.js";
import { scale } from "./scale.js";
import { markChosen, prompt, responses } from "./texts.js";

export function show(desk) {
  const { candidates, task } = desk.view;
  const draft = desk.draft();
  const columns = responses(candidates, { chosen: (one) => one.id === draft.values.chosen });
  const options = [
    ...candidates.map((one, place) => ({ value: place, key: letter(place), text: `${letter(place)} is better`, answer: { chosen: one.id, both_bad: false } })),
    { value: 2, key: "T", text: "Tie", answer: { chosen: null, both_bad: false } },
    { value: 3, key: "X", text: "Both are bad", answer: { chosen: null, both_bad: true } },
  ];
  const before = options.find(({ answer }) => answer.chosen === draft.values.chosen && answer.both_bad === draft.values.both_bad);
  const go = button("Send vote", () => send(), { class: "main", disabled: !before });
  const vote = scale({
    name: "vote", legend: "Which response is better?", options, value: before?.value ?? null,
    onChoose: (place) => {
      draft.put(options[place].answer);
      markChosen(columns, options[place].answer.chosen);
      go.disabled = false;
    },
  });
  const send = () => {
    const { chosen, both_bad } = draft.values;
    if (chosen !== undefined) desk.send("vote", { chosen, both_bad });
  };
  desk.keys.bind(["a", "b", "t", "x"], "A, B, tie, both bad", vote.choose);
  desk.keys.bind(["Enter", "Ctrl+Enter"], "send", send);
  desk.stage.append(prompt(task.prompt), columns,
    h("section", { class: "card dock" }, vote.box, h("div", { class: "actions" }, go)));
}
