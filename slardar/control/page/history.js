// Who has changed what, and the way back; and what happens at the moment.

import { clock } from "./counts.js";
import { confirm } from "./dialog.js";
import { lines, pretty, shown, written } from "./diff.js";
import { byId, h, keyed, text } from "./dom.js";

/** Changes that are asked for at a time, and events that are shown. */
const PAGE = 20;
const EVENTS = 40;

export class History {
  constructor(api, changed) {
    this.api = api;
    this.changed = changed;
    this.isAdmin = false;
    this.changes = [];
    this.hasMore = false;
    this.current = 0;
    this.list = byId("history-list");
    byId("older").addEventListener("click", () => this.#older());
  }

  async refresh() {
    try {
      const found = await this.api.get(`/history?limit=${PAGE}`);
      // Older ones that were asked for stay.
      const last = found.at(-1)?.version ?? 0;
      const rest = this.changes.filter((change) => change.version < last);
      if (!rest.length) this.hasMore = found.length >= PAGE;
      this.changes = [...found, ...rest];
      byId("history").hidden = false;
    } catch (error) {
      if (error.status !== 403) throw error;
      // A token for some names sees no history.
      byId("history").hidden = true;
    }
    this.draw();
  }

  async #older() {
    const before = this.changes.at(-1)?.version;
    const found = await this.api.get(`/history?limit=${PAGE}&before=${before}`);
    this.hasMore = found.length >= PAGE;
    this.changes.push(...found);
    this.draw();
  }

  draw() {
    byId("older").hidden = !this.hasMore;
    byId("history-empty").hidden = this.changes.length > 0;
    const versions = new Map();
    for (const change of this.changes) {
      if (!versions.has(change.version)) versions.set(change.version, []);
      versions.get(change.version).push(change);
    }
    keyed(
      this.list,
      [...versions],
      // Of the oldest version that is known, more may come.
      ([version, changes]) => `${version} ${changes.length}`,
      ([version, changes]) => this.#make(version, changes),
      (item, [version]) => {
        item.back.hidden = !this.isAdmin || version === this.current;
      },
    );
  }

  #make(version, changes) {
    // What the file says is on record with the first change after it, and is not what was asked for.
    const isOfFile = (one) => one.kind === "file" && one.name !== "";
    changes = [...changes.filter((one) => !isOfFile(one)), ...changes.filter(isOfFile)];
    const [change, ...rest] = changes;
    const what = rest.every(isOfFile) && !isOfFile(change) ? named(change) : rest.length ? `${changes.length} things` : named(change);
    const back = h(
      "button",
      { type: "button", "aria-label": `Roll back to this… version ${version}`, on: { click: () => this.#back(version) } },
      "Roll back to this…",
    );
    const details = h("details", {}, h("summary", {}, rest.length ? listed(changes) : first(change.diff)));
    for (const one of changes) {
      if (rest.length) details.append(h("h4", {}, named(one)));
      if (one.diff) details.append(written(one.diff, `what version ${version} has changed`));
    }
    const who = `${change.who}${change.from ? ` from ${change.from}` : ""} · ${change.time}`;
    const item = h(
      "li",
      { data: { version } },
      h("div", { class: "line" }, h("span", { class: "version" }, `v${version}`), h("span", { class: "what" }, what), back),
      h("p", { class: "who" }, who),
      details.childNodes.length > 1 ? details : null,
    );
    item.back = back;
    return item;
  }

  /** What is served now.  The page may not know yet that the configuration has changed. */
  async #now() {
    let version = this.current;
    for (;;) {
      const now = await this.api.call("GET", `/history/${version}`);
      const served = Number(now.etag.replaceAll('"', ""));
      if (served === version) return now;
      version = served;
    }
  }

  #back(version) {
    confirm({
      title: `Go back to version ${version}?`,
      action: "Go back",
      isDangerous: true,
      prepare: async () => {
        const now = await this.#now();
        const then = await this.api.get(`/history/${version}`);
        const found = lines(...both(now.value, then));
        if (!found.some(([sign]) => sign !== " ")) throw new Error("That is what is served now.");
        const note = "What the file says is not taken back. It becomes a new version, so this can be taken back, too.";
        return { difference: shown(found), etag: now.etag, note };
      },
      commit: async (etag) => {
        const { value } = await this.api.call("POST", `/rollback/${version}`, { etag });
        this.changed(true);
        const file = value.file ? `; the file says otherwise now of ${value.file.join(", ")}` : "";
        return `Back at version ${version}, as version ${value.version}${file}`;
      },
    });
  }
}

/** Texts of two configurations, without what is the same in both. */
function both(now, then) {
  const texts = [[], []];
  for (const part of ["upstreams", "services", "hooks", "settings", "certificates"]) {
    for (const name of Object.keys({ ...now[part], ...then[part] }).sort()) {
      const [old, next] = [now[part]?.[name], then[part]?.[name]];
      if (JSON.stringify(old) === JSON.stringify(next)) continue;
      if (old !== undefined) texts[0].push(`${part} ${name}: ${code(old)}`);
      if (next !== undefined) texts[1].push(`${part} ${name}: ${code(next)}`);
    }
  }
  for (const part of ["routes", "default_upstream"]) {
    if (JSON.stringify(now[part]) === JSON.stringify(then[part])) continue;
    texts[0].push(`${part}: ${pretty(now[part])}`);
    texts[1].push(`${part}: ${pretty(then[part])}`);
  }
  return texts.map((text) => text.join("\n"));
}

/** A value as text; the code of hooks with its lines. */
function code(value) {
  return pretty(value).replaceAll("\\n", "\n");
}

const named = (change) => [change.kind, change.name].filter(Boolean).join(" ");

function listed(changes) {
  const names = changes.slice(0, 3).map(named);
  return changes.length > 3 ? `${names.join(", ")} and ${changes.length - 3} more` : names.join(", ");
}

function first(diff) {
  const [line, ...rest] = diff.split("\n");
  const cut = line.length > 90 ? `${line.slice(0, 89)}…` : line;
  return rest.length ? `${cut} and ${rest.length} more` : cut;
}

const WORDS = {
  health: (event) => [`${event.server} of ${event.upstream} is ${event.status}`, event.reason],
  worker: (event) => [`${event.name} ${event.state}`, event.reason],
  store: (event) => [`the store is ${event.status === "back" ? "back" : event.status}`, event.reason],
  hook_state: (event) => [`hook ${event.name} ${event.state}`, event.reason],
  more: (event) => [`version ${event.version} has changed ${event.count} more things`, ""],
  gap: () => ["some events were missed", ""],
};

/** The last events. */
export class Activity {
  constructor() {
    this.events = [];
    this.list = byId("event-list");
    /** Whether it will be drawn anyway. */
    this.isDrawn = false;
    this.number = 0;
  }

  take(event) {
    this.events.unshift({ ...event, number: this.number++ });
    this.events.length = Math.min(this.events.length, EVENTS);
    // Events that come together are drawn together.
    if (!this.isDrawn) requestAnimationFrame(() => this.draw());
    this.isDrawn = true;
  }

  draw() {
    this.isDrawn = false;
    byId("events-empty").hidden = this.events.length > 0;
    keyed(
      this.list,
      this.events,
      (event) => event.number,
      (event) => {
        const words = WORDS[event.kind];
        const [what, why] = words
          ? words(event)
          : [[event.kind, event.name, `changed by ${event.who}`].filter(Boolean).join(" "), `version ${event.version}`];
        const isBad = ["err", "ended", "failed", "suspended", "error", "stale", "held"].includes(event.status ?? event.state);
        return h(
          "li",
          { class: isBad ? "bad" : "" },
          h("time", {}, clock(event.time)),
          h("span", { class: "what" }, what),
          why ? h("span", { class: "why" }, why) : null,
        );
      },
    );
  }
}
