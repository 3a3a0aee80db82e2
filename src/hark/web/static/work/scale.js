/* A row of points to choose one from: radio buttons that look like one strip. */

import { h } from "./dom.js";

/** options: [{value, before, text, after, key}]; `before` and `after` are for screen readers.
 *  Returns the fieldset, and `choose(place)` for shortcuts. */
export function scale({ name, legend, options, value, onChoose, ends = null, tone = "", quiet = false }) {
  const inputs = options.map((option) => h("input", {
    type: "radio", name, value: String(option.value), change: () => onChoose(option.value),
  }));
  options.forEach((option, place) => { inputs[place].checked = option.value === value; });
  const points = options.map((option, place) => h("label", { class: `point ${option.tone ?? ""}` },
    inputs[place],
    option.key ? h("kbd", { "aria-hidden": "true" }, option.key) : null,
    h("span", { class: "word" },
      option.before ? hidden(`${option.before} `) : null, option.text,
      option.after ? hidden(` ${option.after}`) : null)));
  const box = h("fieldset", { class: `scale ${tone}`, "data-scale": name },
    h("legend", { class: quiet ? "quiet" : "" }, legend),
    h("div", { class: `points of-${options.length}` }, ...points),
    ends && h("div", { class: "ends", "aria-hidden": "true" }, ...ends.map((end) => h("span", {}, end))));
  const choose = (place) => {
    inputs[place].checked = true;
    inputs[place].focus({ preventScroll: true });
    onChoose(options[place].value);
  };
  box.choose = choose;
  return { box, choose };
}

const hidden = (text) => h("span", { class: "unseen" }, text);

/** Points that are plain numbers, with their key. */
export const numbers = (low, high, words = {}) => Array.from({ length: high - low + 1 }, (_, place) => ({
  value: low + place, key: String(low + place), text: words[low + place] ?? "",
  before: String(low + place),
}));

/** Digits go to the scale that has the focus, if it has such points, or else to the main one. */
export function bindDigits(keys, digits, what, main) {
  keys.bind(digits, what, (place) => {
    const focused = document.activeElement?.closest("[data-scale]");
    if (!focused || focused === main.box) return main.choose(place);
    const points = focused.querySelectorAll("input");
    const wanted = Array.from(points).findIndex((point) => point.parentElement.querySelector("kbd")?.textContent === digits[place]);
    return wanted < 0 ? main.choose(place) : focused.choose(wanted);
  }, { shown: [`${digits[0]}–${digits.at(-1)}`] });
}
