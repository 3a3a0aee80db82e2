/* How dialogues and responses look, whatever the task. */

import { h, letter } from "./dom.js";

const WHO = { user: "You", assistant: "Assistant", system: "Given beforehand" };

/** mine: whether the labeler wrote the turns of the user. */
export function transcript(messages, { mine = false, mark = null } = {}) {
  if (!messages.length) return null;
  const turns = messages.map((message, place) => [
    mark?.at === place ? h("li", { class: "mark" }, mark.text) : null,
    h("li", { class: `turn ${message.role}` },
      h("p", { class: "who" }, mine || message.role !== "user" ? WHO[message.role] : "User"),
      h("div", { class: "text" }, message.content)),
  ]);
  const last = mark?.at === messages.length ? h("li", { class: "mark" }, mark.text) : null;
  return h("ol", { class: "transcript", "aria-label": "Dialogue" }, ...turns.flat(), last);
}

/** Two or more responses side by side; `below(candidate, place)` adds to each. */
export function responses(candidates, { what = "Response", tone = "", below = () => null, chosen = () => false } = {}) {
  return h("div", { class: `columns ${tone}` }, ...candidates.map((candidate, place) =>
    h("article", { class: `response ${chosen(candidate) ? "chosen" : ""}`, "data-id": candidate.id ?? "", "aria-label": `${what} ${letter(place)}` },
      h("h3", {}, `${what} `, h("span", { class: "badge" }, letter(place))),
      h("div", { class: "text" }, candidate.text),
      below(candidate, place))));
}

/** Show which response is chosen, without drawing the page again. */
export function markChosen(box, id) {
  for (const response of box.querySelectorAll(".response")) {
    response.classList.toggle("chosen", response.dataset.id === id);
  }
}

export const prompt = (turns, title = "Prompt") =>
  h("section", { class: "card prompt", "aria-label": title }, h("h2", {}, title), transcript(turns));

const WORDS = {
  fails_instruction: "Fails to follow the instruction or task",
  inappropriate_for_assistant: "Inappropriate for an assistant",
  hallucination: "Hallucination",
  satisfies_constraint: "Satisfies the constraint in the instruction",
  sexual_content: "Sexual content",
  violent_content: "Violent content",
  encourages_violence: "Encourages violence, abuse or self-harm, or fails to discourage it",
  denigrates_protected_class: "Denigrates a protected class",
  harmful_advice: "Gives harmful advice",
  expresses_opinion: "Expresses an opinion",
  expresses_moral_judgement: "Expresses a moral judgement",
};

/** The name of a flag, a tag or an axis, for people. */
export const wordsFor = (name) => WORDS[name] ?? (name.charAt(0).toUpperCase() + name.slice(1)).replaceAll("_", " ");
