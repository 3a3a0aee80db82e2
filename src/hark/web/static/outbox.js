/* On pages without a task: send the labels that never arrived. */

import { sendSealed } from "./draft.js";
import { say } from "./hark.js";

sendSealed().catch((error) => say(error.message, { problem: true }));
