/* An order with ties, put right by keyboard, by buttons, or by dragging. */

import { button, h } from "./dom.js";

/** The item of its own group, before or after where it was; out of a tie first. */
export function moved(groups, id, step) {
  const at = groups.findIndex((group) => group.includes(id));
  const without = groups.map((group) => group.filter((one) => one !== id));
  const tied = groups[at].length > 1;
  const to = tied ? (step < 0 ? at : at + 1) : at + (step < 0 ? -1 : 2);
  if (!tied && (at + step < 0 || at + step >= groups.length)) return groups;
  return [...without.slice(0, to), [id], ...without.slice(to)].filter((group) => group.length);
}

/** Tied with what is above it; parted from it if it was. */
export function tied(groups, id) {
  const at = groups.findIndex((group) => group.includes(id));
  const place = groups[at].indexOf(id);
  if (place > 0) {
    const parts = [groups[at].slice(0, place), groups[at].slice(place)];
    return [...groups.slice(0, at), ...parts, ...groups.slice(at + 1)];
  }
  if (at === 0) return groups;
  const rest = groups[at].slice(1);
  return [...groups.slice(0, at - 1), [...groups[at - 1], id], ...(rest.length ? [rest] : []), ...groups.slice(at + 1)];
}

/** Dropped before, onto (a tie) or after another. */
export function dropped(groups, id, target, where) {
  if (id === target) return groups;
  const without = groups.map((group) => group.filter((one) => one !== id)).filter((group) => group.length);
  const at = without.findIndex((group) => group.includes(target));
  if (where === "onto") return without.map((group, place) => (place === at ? [...group, id] : group));
  const to = where === "before" ? at : at + 1;
  return [...without.slice(0, to), [id], ...without.slice(to)];
}

/** cardOf(id) → {title, detail, text}. */
export function order({ groups, cardOf, onChange }) {
  const list = h("ol", { class: "ranks", "aria-label": "Ranking, best first" });
  const news = h("p", { class: "unseen", role: "status" });
  let dragged = null;

  const change = (next, id) => {
    if (next !== groups) {
      groups = next;
      onChange(groups);
      draw();
    }
    cardIn(id)?.focus();
    news.textContent = `${cardOf(id).title} is now ${rankOf(id)}`;
  };
  const rankOf = (id) => {
    const at = groups.findIndex((group) => group.includes(id));
    return `rank ${at + 1}${groups[at].length > 1 ? ", tied" : ""}`;
  };
  const cardIn = (id) => list.querySelector(`[data-id="${CSS.escape(id)}"]`);
  const flat = () => groups.flat();
  const focused = () => document.activeElement?.closest?.(".ranked")?.dataset.id ?? flat()[0];

  const draw = () => list.replaceChildren(...groups.map((group, rank) =>
    h("li", { class: group.length > 1 ? "tie" : "" }, h("span", { class: "rank" }, `${rank + 1}`),
      h("div", { class: "group" }, group.length > 1 && h("p", { class: "hint" }, "Tied"), ...group.map(card)))));

  const card = (id) => {
    const { title, detail, text } = cardOf(id);
    const made = h("article", {
      class: "ranked", draggable: "true", tabindex: "0", "data-id": id, "aria-label": `${title}, ${rankOf(id)}`,
      dragstart: (event) => { dragged = id; event.dataTransfer.setData("text/plain", title); made.classList.add("dragged"); },
      dragend: () => { dragged = null; draw(); },
      dragover: (event) => { if (dragged) { event.preventDefault(); made.dataset.drop = zone(event, made); } },
      dragleave: () => delete made.dataset.drop,
      drop: (event) => { event.preventDefault(); if (dragged) change(dropped(groups, dragged, id, zone(event, made)), dragged); },
    },
    h("div", { class: "row spread" },
      h("h3", {}, h("span", { class: "grip", "aria-hidden": "true" }, "⠿ "), title, h("span", { class: "hint" }, ` ${detail}`)),
      h("div", { class: "row" },
        small("↑", `${title}: up`, () => change(moved(groups, id, -1), id)),
        small("↓", `${title}: down`, () => change(moved(groups, id, 1), id)),
        small("= tie", `${title}: tie with the one above, or part`, () => change(tied(groups, id), id)))),
    h("div", { class: "text clipped", tabindex: "0", role: "group", "aria-label": `Text of ${title}` }, text));
    return made;
  };
  draw();
  return {
    box: h("div", {}, list, news),
    focus: () => cardIn(flat()[0]).focus({ preventScroll: true }),
    bind: (keys) => {
      const step = (by) => cardIn(flat()[Math.min(flat().length - 1, Math.max(0, flat().indexOf(focused()) + by))]).focus();
      keys.bind(["ArrowUp", "ArrowDown"], "choose a response", (place) => step(place ? 1 : -1));
      keys.bind(["Alt+ArrowUp", "Alt+ArrowDown"], "move it", (place) => change(moved(groups, focused(), place ? 1 : -1), focused()));
      keys.bind(["t"], "tie it with the one above, or part them", () => change(tied(groups, focused()), focused()));
    },
  };
}

const small = (text, name, act) => button(text, act, { class: "small", "aria-label": name });

/** Which third of a card the pointer is over. */
function zone(event, card) {
  const { top, height } = card.getBoundingClientRect();
  const share = (event.clientY - top) / height;
  return share < 0.3 ? "before" : share > 0.7 ? "after" : "onto";
}
