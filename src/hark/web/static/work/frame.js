/* What is around a task: progress, instructions, shortcuts, skipping, pauses, and the end of work. */

import { say } from "../hark.js";
import { shortcutsAreOff, turnShortcuts } from "../keys.js";
import { button, h } from "./dom.js";

const NOTHING = {
  "nothing left": ["Nothing waits for you now", "You have done all that there is. More may come: look in again later."],
  "quota reached": ["You have done your share", "This study asks for no more labels of yours. Thank you."],
  "screening undecided": ["Your test is with the researchers", "You have done every item of the screening test. You will be let in, or not, once they have looked at it."],
  "enough sensitive items today": ["That is enough for today", "What is left may be upsetting, and nobody is given more than so much of it in a day, all studies together. Come back tomorrow."],
};
const REASONS = ["I do not understand it", "I do not know enough about it", "It is broken or makes no sense", "It has personal data in it"];

export class Frame {
  constructor(desk) {
    this.desk = desk;
    const find = (name) => document.getElementById(name);
    Object.assign(this, {
      main: find("place"), tools: find("tools"), keyList: find("keys"), progress: find("progress"),
      instructions: find("instructions"), help: find("help"), skipping: find("skipping"), pausing: find("pausing"), support: find("support"),
    });
    this.done = Number(desk.root.dataset.done);
    this.wireDialogs();
  }

  place(stage, warning) {
    const remark = document.getElementById("remark");
    Object.assign(remark, { value: "", oninput: null, disabled: true });
    this.main.replaceChildren(...[warning, stage].filter(Boolean));
    this.main.setAttribute("aria-busy", "false");
    if (this.support) this.support.hidden = !Object.keys(this.desk.view.categories).length;
    this.tools.hidden = Boolean(this.desk.correction) || this.desk.view.state === "done";
  }

  count() {
    this.progress.textContent = this.done === 1 ? "1 item done" : `${this.done} items done`;
  }

  /** A remark on the item, sent along with the next step. */
  remark(draft) {
    const control = document.getElementById("remark");
    Object.assign(control, { value: draft.remark, disabled: false });
    control.oninput = () => {
      draft.remark = control.value;
      draft.save();
    };
  }

  bindKeys() {
    const { keys } = this.desk;
    const always = { always: true };
    if (this.desk.veil) keys.bind(["v"], "show or hide a sensitive item", this.desk.veil.turn, always);
    if (!this.tools.hidden) {
      keys.bind(["Shift+s"], "skip", () => this.skipping.showModal(), always);
      keys.bind(["Shift+u"], "too upsetting, skip", () => this.desk.skip("too upsetting"), always);
    }
    keys.bind(["Shift+i"], "instructions", () => this.instructions.showModal(), always);
    keys.bind(["Escape"], "leave a text field", () => document.activeElement?.blur(), always);
    keys.bind(["?"], "these keys", () => this.openHelp(), always);
    this.keyList.replaceChildren(keys.list());
  }

  wireDialogs() {
    for (const opener of document.querySelectorAll("[data-opens]")) {
      opener.addEventListener("click", () => {
        if (opener.dataset.opens === "help") this.openHelp();
        else document.getElementById(opener.dataset.opens).showModal();
      });
    }
    for (const closer of document.querySelectorAll("dialog [data-closes]")) {
      closer.addEventListener("click", () => closer.closest("dialog").close());
    }
    document.getElementById("too-upsetting").addEventListener("click", () => this.desk.skip("too upsetting"));
    const reasons = document.getElementById("reasons");
    reasons.replaceChildren(...REASONS.map((reason, place) => h("label", { class: "choice" },
      h("input", { type: "radio", name: "reason", value: reason, required: true, checked: place === 0 }), ` ${reason}`)));
    this.skipping.querySelector("form").addEventListener("submit", () => {
      const given = new FormData(this.skipping.querySelector("form"));
      this.desk.skip(given.get("other").trim() || given.get("reason"));
    });
    const single = document.getElementById("single-keys");
    single.checked = !shortcutsAreOff();
    single.addEventListener("change", () => turnShortcuts(!single.checked));
  }

  openHelp() {
    document.getElementById("help-keys").replaceChildren(this.desk.keys.list());
    this.help.showModal();
  }

  /** Resolves when the labeler goes on; who takes a pause leaves the page. */
  suggestPause(reason, onPaused) {
    document.getElementById("pause-reason").textContent = reason;
    this.main.setAttribute("aria-busy", "true");
    this.pausing.showModal();
    return new Promise((resolve) => {
      this.pausing.addEventListener("close", () => { onPaused(); resolve(); }, { once: true });
    });
  }

  nothing(because) {
    const [title, text] = NOTHING[because] ?? ["Nothing waits for you now", because ?? ""];
    this.end(title, text);
  }

  end(title, text, ...more) {
    this.tools.hidden = true;
    if (this.support) this.support.hidden = true;
    this.keyList.replaceChildren();
    this.desk.keys.reset();
    this.count();
    const heading = h("h2", { tabindex: "-1" }, title);
    this.main.replaceChildren(h("section", { class: "card end" }, heading, h("p", {}, text),
      h("p", { class: "row" }, h("a", { class: "button", href: "/" }, "My studies"),
        h("a", { class: "button", href: `/study/${this.desk.study}/done` }, "My labels"), ...more)));
    this.main.setAttribute("aria-busy", "false");
    heading.focus();
  }

  broken(error) {
    this.end("This cannot go on now", error.message, button("Try again", () => window.location.reload(), { class: "main" }));
    say(error.message, { problem: true });
  }
}
