/* The dialogue of an oversight question: one assistant, and a button that makes it forget. */

import { button, field, h } from "./dom.js";
import { awaitReplies } from "./replies.js";
import { transcript } from "./texts.js";

export function chat(desk) {
  const { messages, waits_for_models: waits } = desk.view;
  const log = h("div", { class: "log", tabindex: "0", role: "log", "aria-label": "Dialogue with the assistant" },
    transcript(messages, { mine: true, mark: markOf(desk.view) }) ?? h("p", { class: "hint" }, "Nothing said yet."));
  const box = h("section", { class: "card chat", "aria-label": "Assistant" }, h("h2", {}, "Assistant"), log);
  const due = desk.view.next_steps;
  if (waits) box.append(waiting(desk));
  else if (!due.includes("message")) box.append(h("p", { class: "hint" }, "You have used all your turns with the assistant: answer now."));
  else box.append(...composer(desk, messages.length > 0));
  requestAnimationFrame(() => { log.scrollTop = log.scrollHeight; });
  return box;
}

/** Where the model's memory begins: after the turns before the last reset. */
function markOf({ answered }) {
  const last = answered.findLastIndex((step) => step.kind === "reset");
  if (last < 0) return null;
  const said = answered.slice(0, last).filter((step) => step.kind === "message").length;
  return { at: 2 * said, text: "The assistant has forgotten what is above." };
}

function composer(desk, begun) {
  const draft = desk.sideDraft("message");
  const { box, control } = field(draft, "text", "Ask the assistant", { rows: 3, attributes: { "data-first": true } });
  const { answered, task } = desk.view;
  const turn = answered.filter((step) => step.kind === "message").length + 1;
  const count = task.maximum_turns ? h("span", { class: "hint" }, `Turn ${turn} of up to ${task.maximum_turns}`) : null;
  const send = () => control.value.trim() && desk.send("message", { text: control.value }, { draft, goesOn: true });
  const reset = () => desk.send("reset", {}, { draft: desk.sideDraft("reset"), goesOn: true });
  desk.keys.bind(["Ctrl+Enter"], "send the message", send);
  if (begun) desk.keys.bind(["Ctrl+Shift+Enter"], "make it forget", reset);
  return [box, h("div", { class: "actions" }, count, begun && button("Make it forget", reset), button("Send", send, { class: "main" }))];
}

function waiting(desk) {
  const text = h("div", { class: "text" });
  const note = h("p", { class: "hint", role: "status" }, "The assistant is writing…");
  awaitReplies(desk, {
    delta: (_place, more) => text.append(more),
    clear: () => text.replaceChildren(),
    waits: (reason) => { note.className = "hint"; note.textContent = `Please wait: ${reason}. This page goes on by itself.`; },
    failed: (reason) => { note.className = "problem"; note.textContent = `It failed${reason && ` (${reason})`}. It tries again.`; },
  });
  return h("div", { "data-waiting": true }, h("div", { class: "turn assistant" }, h("p", { class: "who" }, "Assistant"), text), note);
}
