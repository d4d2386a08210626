// The calls of the control channel, and its events.

/** A call was refused or has failed; `status` is 0 if no answer came. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Milliseconds for a call, and for the next sign of life on a stream of events. */
const PATIENCE = 20000;
const SILENCE = 35000;
/** Milliseconds before a lost stream of events is asked for again: at first, and at most. */
const FIRST_PAUSE = 1000;
const LAST_PAUSE = 15000;

/** Makes calls.  The token is kept here alone, and is gone with the page. */
export class Api {
  #token = null;
  /** Ends the pause before a stream is asked for again. */
  #hurry = () => {};

  /** Use this token from now on; `null` for none. */
  login(token) {
    this.#token = token;
  }

  get hasToken() {
    return this.#token !== null;
  }

  #headers(more) {
    const headers = { ...more };
    if (this.#token !== null) headers.Authorization = `Bearer ${this.#token}`;
    return headers;
  }

  /** The answer to a call: its `value`, its `etag` and its `headers`.  Throws an ApiError. */
  async call(method, path, { body, headers, etag } = {}) {
    const given = this.#headers(headers);
    if (etag) given["If-Match"] = etag;
    let reply, value;
    try {
      reply = await fetch(path, {
        method,
        headers: given,
        body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
        cache: "no-store",
        credentials: "same-origin",
        redirect: "error",
        signal: AbortSignal.timeout(PATIENCE),
      });
      value = await reply.text();
    } catch (error) {
      throw new ApiError(0, `no answer: ${error.message}`);
    }
    try {
      value = JSON.parse(value);
    } catch {
      // An answer in between may be no JSON.
    }
    if (!reply.ok) throw new ApiError(reply.status, value?.msg ?? `status ${reply.status}`);
    return { value, etag: reply.headers.get("ETag"), headers: reply.headers };
  }

  /** The value that a question is answered with. */
  async get(path) {
    return (await this.call("GET", path)).value;
  }

  /** Hand over each event from now on, until `signal` is aborted.  `told(isLive)` is called when the
   * stream begins and when it is lost; it is asked for again and again. */
  async follow(heard, told, signal) {
    let last = "";
    let pause = FIRST_PAUSE;
    while (!signal.aborted) {
      try {
        await this.#read(last, signal, (id, event) => {
          last = id || last;
          if (event) heard(event);
        }, () => {
          pause = FIRST_PAUSE;
          told(true);
        });
      } catch {
        // It is asked for once more, whatever the reason was.
      }
      if (signal.aborted) return;
      told(false);
      await new Promise((done) => {
        this.#hurry = done;
        setTimeout(done, pause);
      });
      pause = Math.min(2 * pause, LAST_PAUSE);
    }
  }

  /** slardar is there again: ask for a lost stream at once. */
  hurry() {
    this.#hurry();
  }

  async #read(last, signal, take, began) {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), SILENCE);
    try {
      const reply = await fetch("/events", {
        // EventSource cannot send a token.
        headers: this.#headers(last ? { "Last-Event-ID": last } : {}),
        cache: "no-store",
        credentials: "same-origin",
        signal: AbortSignal.any([signal, silence.signal]),
      });
      if (!reply.ok) throw new ApiError(reply.status, `status ${reply.status}`);
      began();
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENCE);
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) this.#take(block, take);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #take(block, take) {
    let id = "";
    let data = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("id: ")) id = line.slice(4);
      if (line.startsWith("data: ")) data += line.slice(6);
    }
    take(id, data ? JSON.parse(data) : null);
  }
}

/** The path of a call, with its parts encoded. */
export const path = (...parts) => `/${parts.map(encodeURIComponent).join("/")}`;
