/* Multiple choice: alone, then with a model that is often wrong; the right answer at the end. */

import { Refusal, persist, say } from "../hark.js";
import { chat } from "./chat.js";
import { clock } from "./clock.js";
import { button, h, letter } from "./dom.js";
import { scale } from "./scale.js";

const CONFIDENCES = [25, 42, 60, 80, 100];

export function show(desk) {
  const { task, next_steps: due } = desk.view;
  if (!due.length) return reveal(desk);
  if (!task.question) return opening(desk);
  const assisted = isAssisted(desk.view);
  const answer = answerPane(desk);
  const title = assisted ? "Now with the assistant" : "Answer alone";
  const text = assisted
    ? "Ask it about anything; it does not know the question unless you tell it. It is often wrong: have it argue for and against, and check what it says."
    : "Answer by yourself, as well as you can.";
  const time = desk.view.deadline === null ? null : clock(desk, () => timeIsOver(desk, answer));
  desk.stage.append(
    h("section", { class: "card brief" }, h("div", { class: "row spread" }, h("h2", {}, title), time), h("p", {}, text)),
    task.passage ? h("section", { class: "card passage", tabindex: "0", "aria-label": "Passage" }, h("h2", {}, "Passage"), h("div", { class: "text" }, task.passage)) : "",
    h("div", { class: assisted ? "split" : "" }, assisted ? chat(desk) : null, answer.box));
  return null;
}

const isAssisted = ({ task, answered }) =>
  task.phases[answered.filter((step) => step.kind === "qa_answer").length] === "assisted";

/** A timed question is not sent before its clock runs. */
function opening(desk) {
  const { seconds, phases } = desk.view.task;
  const minutes = seconds >= 90 ? `${Math.round(seconds / 60)} minutes` : `${Math.round(seconds)} seconds`;
  const assisted = isAssisted(desk.view);
  const begin = async () => {
    try {
      await persist("POST", `/assignments/${desk.assignment}/open`);
      await desk.refresh();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      say(error.message, { problem: true });
    }
  };
  desk.keys.bind(["Enter"], "begin", begin);
  desk.stage.append(h("section", { class: "card brief" },
    h("h2", {}, assisted && phases.length > 1 ? "Now with the assistant" : "A timed question"),
    h("p", {}, `You have ${minutes} from when you begin. What you have chosen by then is sent by itself.`),
    h("div", { class: "actions" }, button("Begin", begin, { class: "main", "data-first": true }))));
}

function answerPane(desk) {
  const { task, answered } = desk.view;
  const phase = answered.filter((step) => step.kind === "qa_answer").length;
  const draft = desk.draft({}, `phase ${phase}`);
  const go = button("Send answer", () => send(), { class: "main" });
  const ready = () => { go.disabled = draft.values.choice === undefined || draft.values.confidence === undefined; };
  const choice = scale({
    name: "choice", legend: task.question, tone: "stacked", value: draft.values.choice,
    options: task.options.map((text, value) => ({ value, key: letter(value), text })),
    onChoose: (value) => { draft.put({ choice: value }); ready(); },
  });
  const confidence = scale({
    name: "confidence", legend: "How sure are you?", value: draft.values.confidence,
    options: CONFIDENCES.map((value, place) => ({ value, key: String(place + 1), text: `${value} %` })),
    onChoose: (value) => { draft.put({ confidence: value }); ready(); },
  });
  const send = () => !go.disabled && desk.send("qa_answer", { choice: draft.values.choice, confidence: draft.values.confidence });
  const letters = task.options.map((_, place) => letter(place).toLowerCase());
  desk.keys.bind(letters, "choose an option", choice.choose, { shown: [`${letters[0]}–${letters.at(-1)}`] });
  desk.keys.bind(["1", "2", "3", "4", "5"], "how sure you are", confidence.choose, { shown: ["1–5"] });
  desk.keys.bind(["Enter"], "send the answer", send);
  ready();
  const box = h("section", { class: "card", "aria-label": "Your answer" }, choice.box, confidence.box, h("div", { class: "actions" }, go));
  return { box, draft, send };
}

/** Send what there is, whole or not: after the deadline the server takes it as it stands. */
function timeIsOver(desk, { draft }) {
  say("Time is over. What you had chosen is being sent.", { lasting: true });
  const { choice = null, confidence = null } = draft.values;
  desk.sendAtDeadline("qa_answer", { choice, confidence }, draft);
}

function reveal(desk) {
  const { task, answered } = desk.view;
  const given = answered.filter((step) => step.kind === "qa_answer").map((step) => step.answer);
  const rows = given.map((answer, phase) => h("tr", {},
    h("th", { scope: "row" }, task.phases[phase] === "alone" ? "Alone" : "With the assistant"),
    h("td", {}, answer.choice === null ? "no answer in time" : `${letter(answer.choice)}: ${task.options[answer.choice]}`),
    h("td", {}, answer.confidence === null ? "" : `${answer.confidence} %`),
    h("td", { class: answer.choice === task.answer ? "good" : "problem" }, answer.choice === task.answer ? "✓ right" : "✗ wrong")));
  const go = () => desk.next();
  desk.keys.bind(["Enter"], "next", go);
  desk.stage.append(h("section", { class: "card" }, h("h2", {}, "The right answer"),
    h("p", { class: "text" }, task.question),
    h("p", {}, h("strong", {}, `${letter(task.answer)}: ${task.options[task.answer]}`)),
    h("table", {}, h("thead", {}, h("tr", {}, ...["", "Your answer", "Sure", ""].map((name) => (name ? h("th", { scope: "col" }, name) : h("td", {}))))), h("tbody", {}, ...rows)),
    h("div", { class: "actions" }, button("Next", go, { class: "main", "data-first": true }))));
}
