// A drawing as it comes from the server: lines of JSON, one for each pixel.

/** Asks for something; what the server says against it is the error's text. */
export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is igpt-engine still running?");
  }
  if (!response.ok) throw new Error((await response.text()).trim() || `The server says ${response.status}.`);
  return response;
}

/** A picture file as tokens. */
export async function picture(file) {
  const headers = { "Content-Type": "application/octet-stream" };
  return (await (await ask("picture", { method: "POST", headers, body: file })).json()).tokens;
}

/** The events of a drawing, until it ends or `signal` aborts it. */
export async function* draw(wanted, signal) {
  const headers = { "Content-Type": "application/json" };
  const response = await ask("draw", { method: "POST", headers, body: JSON.stringify(wanted), signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let line = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (line + value).split("\n");
    line = lines.pop();
    for (const text of lines) {
      const event = JSON.parse(text);
      yield event;
      if (event.event === "done" || event.event === "failed") return;
    }
  }
  throw new Error("The drawing was cut off: the server has gone.");
}
