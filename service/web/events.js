/** Server-sent events over fetch: EventSource can't send a key. */

import { call, Problem } from "./api.js";
import { pause } from "./refresh.js";

const RETRY_MILLISECONDS = 1000;

/**
 * A job's events as they come, from its first one until it has ended; a connection that breaks is made again where it
 * broke.
 * @param {string} jobId
 * @param {AbortSignal} signal Ends it.
 * @yields {{id: number, type: string, attempt: number, at: string, data: Object}}
 */
export async function* jobEvents(jobId, signal) {
  let last = 0;
  while (!signal.aborted) {
    try {
      const headers = { Accept: "text/event-stream", "Last-Event-ID": String(last) };
      const response = await call(`/v1/jobs/${jobId}/events`, { headers, signal });
      if (response.status === 204) return; // there are no more to come
      for await (const data of messages(response.body)) {
        const event = JSON.parse(data);
        last = event.id;
        yield event;
      }
    } catch (error) {
      if (signal.aborted) return;
      // What a request did wrong stays wrong; a service that is away comes back. A stream that breaks is a TypeError.
      if (error instanceof Problem && error.status >= 400 && error.status < 500) throw error;
    }
    await pause(RETRY_MILLISECONDS, signal);
  }
}

/**
 * The data of each message of an event stream.
 * @param {ReadableStream<Uint8Array>} body
 * @yields {string}
 */
export async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value.replaceAll("\r", "")).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const lines = block.split("\n").filter((line) => line.startsWith("data:"));
        if (lines.length > 0) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // the connection may have broken
  }
}
