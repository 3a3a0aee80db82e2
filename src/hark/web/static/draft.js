/* What a labeler has typed and chosen, in this browser until the server has it.
 *
 * A draft belongs to a step of an assignment and has the key under which the step will be sent. Once
 * sent, the request is kept as it went out ("sealed"): whoever has not heard that it arrived must
 * send the very same again. It goes when the receipt comes.
 */

import { Refusal, newKey, persist, person, say } from "./hark.js";
import { erase, namesWith, read, recover, settled, write } from "./keeping.js";

const PREFIX = `hark draft ${person} `;
const KEPT_MS = 30 * 86400e3;
let warned = false;

export class Draft {
  /** first: values where nothing was kept. */
  constructor(assignment, step, first = {}) {
    this.name = `${PREFIX}${assignment} ${step}`;
    const kept = read(this.name);
    this.values = kept?.values ?? structuredClone(first);
    this.key = kept?.key ?? newKey();
    this.msActive = kept?.msActive ?? 0;
    this.pasted = kept?.pasted ?? 0;
    this.remark = kept?.remark ?? "";
    this.request = kept?.request ?? null;
  }

  put(changes) {
    Object.assign(this.values, changes);
    this.save();
  }

  save() {
    if (write(this.name, this) || warned) return;
    warned = true;
    say("This browser keeps no drafts: what you type is lost if the page closes.", { problem: true });
  }

  seal(request) {
    this.request = request;
    this.save();
  }

  /** The server refused it: what comes next is another request. */
  unseal() {
    this.request = null;
    this.key = newKey();
    this.save();
  }

  remove() {
    erase(this.name);
  }
}

/** Send what was sent before but never acknowledged, from this page or one that is gone. */
export async function sendSealed() {
  await recover();
  for (const name of namesWith(PREFIX)) {
    const kept = read(name) ?? {};
    if (kept.request) await sendAgain(name, kept);
    else if (Date.now() - (kept.savedAt ?? 0) > KEPT_MS) erase(name);
  }
}

async function sendAgain(name, kept) {
  const { path, body } = kept.request;
  try {
    const receipt = await persist("POST", path, { body, key: kept.key });
    erase(name);
    if (!receipt.repeated) say("A label that had not arrived was sent again and is kept.");
  } catch (error) {
    if (!(error instanceof Refusal) || error.status === 401) throw error;
    // Not allowed now, as for somebody who was turned away: it is kept, and nothing else waits for it.
    if (error.status === 403) return say(`${error.message}. What you typed is kept in this browser.`, { problem: true });
    write(name, { ...kept, request: null, key: newKey() });
  }
}

/** For somebody who is forgotten. */
export async function forgetDrafts() {
  namesWith(PREFIX).forEach(erase);
  await settled();
}
