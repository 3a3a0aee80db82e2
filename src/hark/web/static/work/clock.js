/* A countdown by the server's clock. */

import { h } from "./dom.js";

const ANNOUNCED_SECONDS = [60, 30, 10];

/** onEnd: called once, when the deadline of the step has come. */
export function clock(desk, onEnd) {
  const shown = h("span", { class: "clock", role: "timer" });
  const told = h("span", { class: "unseen", role: "status" });
  const end = desk.view.deadline * 1000;
  const signal = desk.stepSignal;
  let before = Infinity;
  const tick = () => {
    if (signal.aborted) return clearInterval(ticking);
    const left = Math.max(0, Math.ceil((end - desk.serverNow()) / 1000));
    shown.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    shown.classList.toggle("soon", left <= 30);
    if (ANNOUNCED_SECONDS.some((mark) => left <= mark && before > mark)) told.textContent = `${left} seconds left`;
    before = left;
    if (left > 0) return null;
    clearInterval(ticking);
    return onEnd();
  };
  const ticking = setInterval(tick, 250);
  tick();
  return h("span", {}, "Time left: ", shown, told);
}
