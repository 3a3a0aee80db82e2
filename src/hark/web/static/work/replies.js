/* Replies of models as they are written: server-sent events, read with fetch. */

import { Refusal, headers, pause, refusal, say } from "../hark.js";

const POLL_SECONDS = 1.5;

/** Show replies as they come until both can be read; then draw the page again.
 *
 *  show: {delta(place, text), clear(), waits(reason), failed(reason)}. Where nothing streams, or the stream
 *  breaks, the page asks now and then whether the replies are there.
 */
export async function awaitReplies(desk, show) {
  const signal = desk.stepSignal;
  while (!signal.aborted) {
    const broken = await follow(desk.assignment, signal, show).catch((error) => error);
    if (signal.aborted || await desk.repliesAreThere(signal)) return;
    // 404 is no news: replies may be put there by a program.
    if (broken instanceof Refusal && broken.status !== 404) say(broken.message, { problem: true });
    await pause(POLL_SECONDS);
    if (!signal.aborted && await desk.repliesAreThere(signal)) return;
    show.clear();
  }
}

async function follow(assignment, signal, show) {
  const response = await fetch(`/api/v1/assignments/${assignment}/replies`, {
    headers: { ...headers(), Accept: "text/event-stream" }, cache: "no-store", signal,
  });
  if (!response.ok) throw await refusal(response);
  for await (const { event, data } of eventsOf(response.body)) {
    if (event === "delta") show.delta(data.place, data.text);
    if (event === "done") return;
    if (event === "again") {
      show.clear();
      show.failed("");
    }
    if (event === "failed") {
      show.clear();
      (data.passes ? show.waits : show.failed)(data.message);
      await pause(data.retry_seconds ?? POLL_SECONDS);
      return;
    }
  }
}

/** The events of a stream; comments and unknown fields are passed over. */
export async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const read = readBlock(block);
        if (read) yield read;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function readBlock(block) {
  const fields = { event: "message", data: [] };
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) fields.event = line.slice(6).trim();
    if (line.startsWith("data:")) fields.data.push(line.slice(5).trimStart());
  }
  return fields.data.length ? { event: fields.event, data: JSON.parse(fields.data.join("\n")) } : null;
}
