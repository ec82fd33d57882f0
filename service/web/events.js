/** Server-sent events over fetch: EventSource can't send a key. */

import { address, call, Problem } from "./api.js";
import { pause, whileSeen } from "./refresh.js";

const RETRY_MILLISECONDS = 1000;
const STREAM = { Accept: "text/event-stream" };

/**
 * A job's events as they come, from its first one until it has ended; a connection that breaks is made again where it
 * broke.
 * @param {string} jobId
 * @param {AbortSignal} signal Ends it.
 * @yields {{id: number, type: string, attempt: number, at: string, data: Object}}
 */
export async function* jobEvents(jobId, signal) {
  let last = 0;
  const open = () => call(`/v1/jobs/${jobId}/events`, { headers: { ...STREAM, "Last-Event-ID": String(last) }, signal });
  for await (const event of followed(open, signal)) {
    last = event.id;
    yield event;
  }
}

/**
 * The jobs of a list: at first all, then each that is new or has changed. A page that isn't seen holds no connection,
 * of which a browser has six for a host; the next one begins with all of them again.
 * @param {Object<string, any>} query As `GET /v1/jobs` takes it.
 * @param {AbortSignal} signal Ends it.
 * @yields {Object} As the API has it.
 */
export async function* liveJobs(query, signal) {
  while (!signal.aborted) {
    const seen = await whileSeen(signal);
    yield* followed(() => call(address("/v1/jobs", query), { headers: STREAM, signal: seen }), seen);
  }
}

/** What a stream says, opened again whenever it breaks or ends, until the service says that no more will come. */
async function* followed(open, signal) {
  while (!signal.aborted) {
    try {
      const response = await open();
      if (response.status === 204) return; // there are no more to come
      for await (const data of messages(response.body)) yield JSON.parse(data);
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
