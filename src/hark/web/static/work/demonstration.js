/* Write a response, or a request with its response, or mend a draft. */

import { say } from "../hark.js";
import { button, field, h } from "./dom.js";
import { prompt } from "./texts.js";

const BRIEFS = {
  given: ["Write the response", "Answer the prompt as the assistant should."],
  plain: ["Write a request and its response", "Any task that you can think of; make them as different from each other as you can."],
  few_shot: ["Write an instruction with examples", "An instruction, several examples of a query and its response, and a last request with the response that the assistant should give."],
  use_case: ["Write a request for this use case", "A request that someone with this use case could make, and the response to it."],
};

export function show(desk) {
  const { task } = desk.view;
  const edits = Boolean(task.draft);
  const draft = desk.draft(edits ? { response: task.draft } : { examples: [{ query: "", response: "" }] });
  const [title, text] = edits ? ["Mend the draft", "Change whatever makes it a better response; leave what is good."] : BRIEFS[task.style];
  const writes = task.style !== "given";
  const parts = [
    writes && field(draft, "prompt", task.style === "few_shot" ? "Instruction" : "Request", { rows: 4, attributes: { "data-first": true } }),
    task.style === "few_shot" && field(draft, "query", "The last request", { rows: 2 }),
    field(draft, "response", edits ? "The response, mended" : "Response", { rows: edits ? 12 : 8, attributes: { "data-first": !writes } }),
  ].filter(Boolean);
  const response = parts.at(-1).control;
  const count = h("p", { class: "hint", role: "status" });
  const counted = () => { count.textContent = change(task.draft, response.value); };
  response.addEventListener("input", counted);
  const send = () => {
    const empty = Array.from(desk.stage.querySelectorAll("textarea")).find((control) => !control.value.trim());
    if (empty) {
      say("Something is still empty.", { problem: true });
      return empty.focus();
    }
    const { prompt: asked, examples, response: said } = draft.values;
    const shots = task.style === "few_shot" ? { examples, query: draft.values.query } : {};
    return desk.send(edits ? "edit" : "demonstration", { response: said, ...(writes ? { prompt: asked } : {}), ...shots });
  };
  desk.keys.bind(["Ctrl+Enter"], "send", send);
  desk.stage.append(
    h("section", { class: "card brief" }, h("h2", {}, title), h("p", {}, text),
      task.use_case && h("p", {}, h("strong", {}, "Use case: "), task.use_case)),
    task.prompt.length ? prompt(task.prompt) : "",
    edits ? original(task.draft) : "",
    h("section", { class: "card" }, writes && parts[0].box, task.style === "few_shot" && shotsOf(desk, draft),
      task.style === "few_shot" && parts[1].box, parts.at(-1).box,
      h("div", { class: "actions" }, count, button("Send", send, { class: "main" }))));
  counted();
}

const original = (text) => h("details", { class: "card" }, h("summary", {}, "The draft as it was"), h("div", { class: "text" }, text));

const wordsIn = (text) => text.split(/\s+/u).filter(Boolean).length;

function change(before, now) {
  const words = wordsIn(now);
  const counted = words === 1 ? "1 word" : `${words} words`;
  if (!before) return counted;
  if (before === now) return `${counted}, nothing changed yet`;
  const by = words - wordsIn(before);
  return `${counted} (${by > 0 ? "+" : by < 0 ? "−" : "±"}${Math.abs(by)})`;
}

/** Rows of a query and its response. */
function shotsOf(desk, draft) {
  const rows = h("div", {});
  const draw = () => rows.replaceChildren(...draft.values.examples.map((shot, place) => h("fieldset", { class: "shot" },
    h("legend", {}, `Example ${place + 1}`), h("div", { class: "columns" }, ...["query", "response"].map((part) => cell(shot, part, place))),
    draft.values.examples.length > 1 && button("Remove", () => { draft.values.examples.splice(place, 1); draft.save(); draw(); }, { class: "small", "aria-label": `Remove example ${place + 1}` }))));
  const cell = (shot, part, place) => {
    const control = h("textarea", { id: `${part}-${place}`, rows: 2, input: () => { shot[part] = control.value; draft.save(); } });
    control.value = shot[part];
    return h("div", { class: "field" }, h("label", { for: control.id }, part === "query" ? "Query" : "Its response"), control);
  };
  const add = () => {
    draft.values.examples.push({ query: "", response: "" });
    draft.save();
    draw();
    document.getElementById(`query-${draft.values.examples.length - 1}`).focus();
  };
  desk.keys.bind(["Ctrl+Shift+Enter"], "another example", add);
  draw();
  return h("div", {}, rows, button("Another example", add));
}
