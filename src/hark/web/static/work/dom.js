/* Building pages: text is always a text node, whatever a labeler or a model wrote. */

/** An element. Properties that are functions become listeners; false and null leave one out. */
export function h(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== false && child !== undefined));
  return made;
}

/** A labelled text field that is kept in a draft at every keystroke. */
export function field(draft, name, label, { hint = "", rows = 6, oneLine = false, attributes = {} } = {}) {
  const id = `field-${name}`;
  const control = h(oneLine ? "input" : "textarea", {
    id, ...(oneLine ? { type: "text" } : { rows }), ...attributes,
    "aria-describedby": hint ? `${id}-hint` : null,
    input: () => draft.put({ [name]: control.value }),
  });
  control.value = draft.values[name] ?? "";
  const box = h("div", { class: "field" },
    h("label", { for: id }, label), hint && h("p", { class: "hint", id: `${id}-hint` }, hint), control);
  return { box, control };
}

export const button = (text, act, properties = {}) =>
  h("button", { type: "button", click: act, ...properties }, text);

/** 0 → A */
export const letter = (place) => String.fromCharCode(65 + place);
