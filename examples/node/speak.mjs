// Speak with Node 18 or newer, without packages, and hang up in the middle of a sentence.
//
//   node examples/node/speak.mjs "Hello there." hello.pcm
//
// The official package "openai" works as well: new OpenAI({ baseURL: `${url}/v1`, apiKey }).

import { createWriteStream } from "node:fs";

const [text = "Hello there.", path = "hello.pcm"] = process.argv.slice(2);
const url = process.env.VIVAVOCE_URL ?? "http://127.0.0.1:8000";
const key = process.env.VIVAVOCE_API_KEY ?? "none";

function speech(input, signal) {
  return fetch(`${url}/v1/audio/speech`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${key}` },
    body: JSON.stringify({ model: "gpt-4o-mini-tts", voice: "alloy", input, response_format: "pcm" }),
    signal,
  });
}

const response = await speech(text);
if (!response.ok) {
  const { error } = await response.json();
  throw new Error(`${error.code}: ${error.message}`);
}
const file = createWriteStream(path); // 16 bits, mono, 24 kHz
let bytes = 0;
for await (const piece of response.body) {
  bytes += piece.length;
  file.write(piece);
}
file.end();
console.log(`${(bytes / 48000).toFixed(1)} s of sound in ${path}`);

// The caller interrupts: aborting the request frees the engine at once.
const barge = new AbortController();
const interrupted = await speech(`${text} And much more that nobody waits for. `.repeat(10), barge.signal);
for await (const _ of interrupted.body) {
  break; // the first piece is enough; leaving the loop closes the connection
}
barge.abort();
console.log("interrupted after the first piece");
