/* The work page: takes an item, lets the module of its kind show it, and sends what comes of it.
 *
 * The page is drawn anew from `GET /assignments/{id}` after each step, so that a reload, another
 * browser and the next step all show the same.
 */

import { Draft, sendSealed } from "../draft.js";
import { Refusal, call, newKey, persist, say, unsay, version } from "../hark.js";
import { Keys } from "../keys.js";
import { Worktime, veil } from "./care.js";
import { h } from "./dom.js";
import { Frame } from "./frame.js";

class Desk {
  constructor(root) {
    this.root = root;
    this.study = root.dataset.study;
    this.correction = root.dataset.correction ? JSON.parse(root.dataset.correction) : null;
    this.keys = new Keys();
    this.frame = new Frame(this);
    this.stepEnd = new AbortController();
    this.owed = null;
    this.atDeadline = false;
    const minutes = root.dataset.breakMinutes;
    this.worktime = new Worktime(minutes ? Number(minutes) : null);
    this.keys.frozen = () => Boolean(this.stage?.inert);
    this.seen = performance.now();
    this.wasVisible = document.visibilityState === "visible";
    this.watch();
  }

  get stepSignal() { return this.stepEnd.signal; }

  /** Milliseconds since 1970 by the server's clock. */
  serverNow() { return Date.now() + this.clockAhead; }

  async start() {
    // Before anything is at stake; only a screening test has items of other kinds.
    await import(`./${this.root.dataset.task}.js`);
    await sendSealed();
    return this.correction ? this.show(this.correction.view) : this.next();
  }

  /** The item that is held, or the next one. */
  async next() {
    const reason = this.worktime.reason();
    if (reason) await this.frame.suggestPause(reason, () => this.worktime.paused());
    const claimed = await persist("POST", `/studies/${this.study}/claims`);
    if (!claimed.assignment_id) return this.frame.nothing(claimed.because);
    this.assignment = claimed.assignment_id;
    return this.refresh();
  }

  async refresh() {
    return this.show(await persist("GET", `/assignments/${this.assignment}`));
  }

  async show(view) {
    const module = await import(`./${view.task.kind}.js`);
    const reveals = view.task.kind === "question" && view.task.answer !== undefined;
    if (!view.next_steps.length && !reveals) return this.next();
    this.stepEnd.abort();
    this.stepEnd = new AbortController();
    this.view = view;
    this.assignment = view.assignment_id;
    this.clockAhead = view.now * 1000 - Date.now();
    this.keys.reset();
    const stage = h("div", { id: "stage" });
    // In the page before it is filled: modules give the focus and measure.
    this.stage = stage;
    this.veil = veil(this, stage);
    this.frame.place(stage, this.veil?.box);
    module.show(this);
    this.frame.count();
    this.frame.bindKeys();
    this.beat();
    return this.stageShown(!stage.inert);
  }

  /** The stage became readable, or was hidden again. */
  stageShown(open) {
    const wanted = open ? this.stage.querySelector("[data-first]") ?? this.stage.querySelector("h2") : document.querySelector(".warning button");
    if (wanted?.tagName === "H2") wanted.tabIndex = -1;
    wanted?.focus({ preventScroll: open });
    if (open) this.seen = performance.now();
  }

  /** The draft of the step that is shown; the answer to be corrected is where it begins. */
  draft(first = {}, step = `step ${this.view.answered.length}`) {
    const name = this.correction ? `correction of ${this.correction.event_id}` : step;
    this.current = new Draft(this.assignment, name, this.correction?.answer ?? first);
    this.frame.remark(this.current);
    return this.current;
  }

  /** A second thing that could be sent at this step. */
  sideDraft(name) {
    return new Draft(this.assignment, `step ${this.view.answered.length} ${name}`);
  }

  /** Send a step. Nothing can be changed meanwhile, and a second press sends nothing.
   *  goesOn: the draft of the page belongs to a step that is still to come. */
  async send(kind, answer, { draft = this.current, goesOn = false } = {}) {
    if (this.sending) return;
    this.sending = true;
    this.account();
    const before = document.activeElement;
    this.stage.inert = true;
    try {
      const receipt = await this.deliver(draft, kind, answer);
      if (!goesOn) {
        this.current.remove();
        this.owed = null;
      }
      this.current = null;
      unsay();
      // What goes wrong from here on is no matter of this label: it is kept.
      await this.after(receipt).catch((error) => this.frame.broken(error));
    } catch (error) {
      this.stage.inert = false;
      before?.focus?.();
      await this.refused(error, draft);
    } finally {
      this.sending = false;
      this.payOwed();
    }
  }

  /** Send a step because its time is over. While something else is on its way it waits, and is sent
   *  if the step is still to be answered then. */
  sendAtDeadline(kind, answer, draft) {
    const step = this.stepSignal;
    const send = async () => {
      if (step.aborted) return;
      this.current ??= draft;
      this.atDeadline = true;
      await this.send(kind, answer, { draft });
      this.atDeadline = false;
    };
    if (!this.sending) return send();
    // Refused at the deadline, the same would be refused again, without end.
    if (!this.atDeadline) this.owed = send;
    return null;
  }

  payOwed() {
    const owed = this.owed;
    this.owed = null;
    owed?.();
  }

  async deliver(draft, kind, answer) {
    const path = this.correction ? `/events/${this.correction.event_id}/corrections` : `/assignments/${this.assignment}/steps`;
    const { msActive, pasted, remark } = this.current;
    const client = { ms_active: Math.round(msActive), pasted_characters: pasted, ui: version, notes: remark };
    draft.seal({ path, body: this.correction ? { answer } : { kind, answer, client } });
    const receipt = await persist("POST", path, { body: draft.request.body, key: draft.key });
    draft.remove();
    return receipt;
  }

  async after(receipt) {
    if (this.correction) return window.location.assign(`/study/${this.study}/done`);
    if (receipt.next_steps.length) return this.refresh();
    this.worktime.itemDone(Object.keys(this.view.categories).length > 0);
    say("Kept. Thank you.");
    this.frame.done += 1;
    const reveals = this.view.task.kind === "question" && this.view.task.reveals;
    return reveals ? this.refresh() : this.next();
  }

  async refused(error, draft) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 401 || error.status === 403) {
      const next = error.status === 401 ? "What you typed is kept: log in, and it is sent." : "What you typed is kept in this browser.";
      return say(`${error.message}. ${next}`, { problem: true });
    }
    draft.unseal();
    say(error.message, { problem: true });
    if (error.status === 409) await this.refresh().then(() => say(error.message, { problem: true }));
    return null;
  }

  /** End a dialogue that could go on. */
  async finish() {
    await this.end(`/assignments/${this.assignment}/finish`, {}, () => {
      say("Kept. Thank you.");
      this.frame.done += 1;
    });
  }

  async skip(reason) {
    await this.end(`/assignments/${this.assignment}/skip`, { reason });
  }

  async end(path, body, ended = () => {}) {
    if (this.sending) return;
    this.sending = true;
    this.stage.inert = true;
    const key = newKey();
    try {
      await persist("POST", path, { body, key });
      this.current?.remove();
      this.current = null;
      this.worktime.itemDone(Object.keys(this.view.categories).length > 0);
      ended();
      await this.next().catch((error) => this.frame.broken(error));
    } catch (error) {
      this.stage.inert = false;
      say(error.message, { problem: true });
    } finally {
      this.sending = false;
      this.payOwed();
    }
  }

  /** The view again; drawn if the models have answered meanwhile. */
  async repliesAreThere(signal) {
    const view = await persist("GET", `/assignments/${this.assignment}`);
    if (signal.aborted || view.waits_for_models) return signal.aborted;
    await this.show(view);
    return true;
  }

  /** Signs of life, three in a lease; none from a page that is open with nobody before it. */
  beat() {
    clearInterval(this.beating);
    if (this.correction || this.view.state !== "open") return;
    const seconds = Number(this.root.dataset.leaseSeconds) / 3;
    this.touched = performance.now();
    this.beating = setInterval(async () => {
      if (performance.now() - this.touched > 3000 * seconds) return;
      try {
        await call("POST", `/assignments/${this.assignment}/heartbeat`);
      } catch (error) {
        if (error instanceof Refusal && error.status === 409) {
          clearInterval(this.beating);
          say("This item was given back, as nothing was heard from this page. You can still finish it.");
        }
      }
    }, seconds * 1000);
  }

  /** Count the time that the page is in front, and what is pasted; notice that somebody is there. */
  watch() {
    for (const sign of ["pointerdown", "pointermove", "keydown", "wheel"]) {
      document.addEventListener(sign, () => { this.touched = performance.now(); }, { capture: true, passive: true });
    }
    document.addEventListener("visibilitychange", () => this.account());
    window.addEventListener("pagehide", () => this.account());
    document.addEventListener("paste", (event) => this.pasted(event, event.clipboardData));
    document.addEventListener("drop", (event) => this.pasted(event, event.dataTransfer));
  }

  account() {
    const now = performance.now();
    if (this.current && this.wasVisible && !this.stage?.inert) {
      this.current.msActive += now - this.seen;
      this.current.save();
    }
    this.seen = now;
    this.wasVisible = document.visibilityState === "visible";
  }

  pasted(event, data) {
    const text = data?.getData("text/plain") ?? "";
    if (!this.current || !text || !event.target.matches?.("textarea, input")) return;
    this.current.pasted += Array.from(text).length;
    this.current.save();
  }
}

const desk = new Desk(document.getElementById("work"));
desk.start().catch((error) => {
  if (!(error instanceof Refusal)) console.error(error);
  desk.frame.broken(error);
});
