// Server-sent events: bytes come in, cut anywhere, also within a character; the JSON of each event goes out.

/** Every event's value until `[DONE]`; a stream that ends before it has been cut off. */
export async function* events(stream) {
  let rest = "";
  for await (const text of texts(stream)) {
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue; // comments and empty lines between events
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
  throw new TypeError("the stream ended early");
}

async function* texts(stream) {
  const [reader, decoder] = [stream.getReader(), new TextDecoder()];
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) yield decoder.decode(part.value, { stream: true });
    yield decoder.decode();
  } finally {
    await reader.cancel().catch(() => null); // already broken or aborted: there is nothing left to cancel
  }
}
