// The list of upstreams with their servers, and what can be done to a server.

import { Meter, percent, perSecond, quantile, seconds, short } from "./counts.js";
import { path } from "./api.js";
import { confirm, field } from "./dialog.js";
import { lines, pretty, shown } from "./diff.js";
import { attr, byId, h, keyed, newId, text } from "./dom.js";
import { look } from "./flow.js";
import { drawSpark, spark } from "./spark.js";

/** Upstreams on a page of the list. */
const PAGE = 20;

/** Which number stands where in the samples of an upstream. */
const REQUESTS = 0;
const ERRORS = 1;
const RETRIES = 2;

/** What is known of all upstreams and, of those on the screen, of their servers. */
export class Upstreams {
  constructor(api, changed) {
    this.api = api;
    /** Called when other upstreams are to be seen, or something was changed. */
    this.changed = changed;
    /** By name: `name`, `servers`, `up`, `meter`. */
    this.rows = new Map();
    /** By name: what the last answer told, with meters. */
    this.details = new Map();
    this.bounds = [];
    this.isAdmin = false;
    this.page = 0;
    this.open = new Set();
    this.list = byId("upstream-list");
    this.found = [];
    byId("search").addEventListener("input", () => this.#turn(0));
    byId("show").addEventListener("change", () => this.#turn(0));
    byId("sort").addEventListener("change", () => this.#turn(0));
    byId("before").addEventListener("click", () => this.#turn(this.page - 1));
    byId("after").addEventListener("click", () => this.#turn(this.page + 1));
  }

  #turn(page) {
    this.page = page;
    this.draw();
    this.changed(false);
  }

  /** Take what `/overview` has answered. */
  take(overview) {
    this.bounds = overview.bounds;
    if (overview.index) {
      const names = new Set();
      for (const [name, servers, up, requests, errors, retries, sent] of overview.index.rows) {
        names.add(name);
        let row = this.rows.get(name);
        if (!row) this.rows.set(name, (row = { name, meter: new Meter() }));
        row.servers = servers;
        row.up = up;
        row.meter.push(overview.time, [requests, errors, retries, sent]);
      }
      for (const name of this.rows.keys()) {
        if (!names.has(name)) this.rows.delete(name);
      }
    }
    for (const [name, told] of Object.entries(overview.upstreams)) {
      let detail = this.details.get(name);
      if (!detail) {
        detail = { times: new Meter(), servers: new Map() };
        this.details.set(name, detail);
      }
      detail.told = told;
      detail.at = overview.time;
      detail.times.push(overview.time, told.buckets);
      const there = new Set();
      for (const server of told.levels.flat()) {
        there.add(server.address);
        let meter = detail.servers.get(server.address);
        if (!meter) detail.servers.set(server.address, (meter = new Meter()));
        const requests = Object.values(server.codes).reduce((sum, count) => sum + count, 0);
        const failed = Object.values(server.kinds).reduce((sum, count) => sum + count, 0);
        const times = server.buckets ?? told.buckets.map(() => 0);
        // A server may be in several levels.
        if (meter.times.at(-1) !== overview.time) {
          meter.push(overview.time, [requests, server.errors, failed, ...times]);
        }
      }
      for (const address of detail.servers.keys()) {
        if (!there.has(address)) detail.servers.delete(address);
      }
    }
    for (const [name, detail] of this.details) {
      // What is on the screen no more is forgotten after a while.
      if (overview.time - detail.at > 120) this.details.delete(name);
    }
  }

  /** The names of those that are to be seen. */
  visible() {
    return this.found.slice(this.page * PAGE, (this.page + 1) * PAGE).map((row) => row.name);
  }

  /** The busiest upstreams, by name. */
  busiest(count) {
    const rates = [...this.rows.values()].map((row) => [row.meter.rate(REQUESTS) ?? 0, row.name]);
    rates.sort((a, b) => b[0] - a[0] || (a[1] < b[1] ? -1 : 1));
    return rates
      .slice(0, count)
      .map(([, name]) => name)
      .sort();
  }

  /** Show one upstream, and nothing else. */
  show(name) {
    byId("search").value = name;
    byId("show").value = "all";
    this.open.add(name);
    this.#turn(0);
    byId("upstreams").scrollIntoView();
  }

  #search() {
    const wanted = byId("search").value.trim().toLowerCase();
    const which = byId("show").value;
    const order = byId("sort").value;
    const found = [];
    for (const row of this.rows.values()) {
      if (wanted && !row.name.toLowerCase().includes(wanted)) continue;
      if (which === "trouble" && row.up === row.servers && !(row.meter.rate(ERRORS) > 0)) continue;
      if (which === "busy" && !(row.meter.rate(REQUESTS) > 0)) continue;
      found.push(row);
    }
    const place = { busy: REQUESTS, errors: ERRORS }[order];
    const key = new Map();
    for (const row of found) key.set(row, place === undefined ? 0 : (row.meter.rate(place) ?? 0));
    found.sort((a, b) => key.get(b) - key.get(a) || (a.name < b.name ? -1 : 1));
    return found;
  }

  draw() {
    this.found = this.#search();
    const pages = Math.max(1, Math.ceil(this.found.length / PAGE));
    this.page = Math.min(Math.max(0, this.page), pages - 1);
    const rows = this.found.slice(this.page * PAGE, (this.page + 1) * PAGE);
    keyed(this.list, rows, (row) => row.name, (row) => this.#make(row), (item, row) => this.#fill(item, row));
    text(
      byId("upstream-count"),
      this.found.length === this.rows.size
        ? `${this.rows.size} ${this.rows.size === 1 ? "upstream" : "upstreams"}`
        : `${this.found.length} of ${this.rows.size} upstreams`,
    );
    text(byId("page-number"), `Page ${this.page + 1} of ${pages}`);
    byId("pager").hidden = pages < 2;
    byId("before").disabled = this.page === 0;
    byId("after").disabled = this.page === pages - 1;
    byId("upstreams-empty").hidden = this.found.length > 0;
  }

  // One upstream.

  #make(row) {
    const parts = {};
    const cell = (name, label) => {
      parts[name] = h("span", { class: "value" });
      return h("span", { class: `cell ${name}` }, h("span", { class: "label" }, label), " ", parts[name]);
    };
    const inner = h("div", { class: "inner", id: newId(), hidden: true });
    parts.inner = inner;
    parts.toggle = h("button", {
      type: "button",
      class: "toggle",
      "aria-controls": inner.id,
      on: {
        click: () => {
          if (!this.open.delete(row.name)) this.open.add(row.name);
          this.draw();
        },
      },
    }, row.name);
    parts.dots = h("span", { class: "dots", "aria-hidden": "true" });
    parts.picture = spark(96, 22);
    const head = h(
      "div",
      { class: "row" },
      h("h3", {}, parts.toggle),
      h("span", { class: "cell health" }, h("span", { class: "label" }, "servers up"), " ",
        (parts.health = h("span", { class: "value" })), parts.dots),
      h("span", { class: "cell requests" }, h("span", { class: "label" }, "requests"), " ",
        (parts.requests = h("span", { class: "value" })), parts.picture),
      cell("p50", "p50"),
      cell("p99", "p99"),
      cell("errors", "errors"),
      cell("retries", "retries"),
    );
    const item = h("li", { class: "upstream" }, head, inner);
    item.parts = parts;
    return item;
  }

  #fill(item, row) {
    const { parts } = item;
    const rate = row.meter.rate(REQUESTS);
    const errors = row.meter.rate(ERRORS);
    const share = rate ? errors / rate : rate === null ? null : 0;
    text(parts.requests, perSecond(rate));
    text(parts.errors, percent(share));
    attr(parts.errors, "class", share > 0.01 ? "value err" : share > 0 ? "value warn" : "value");
    text(parts.retries, perSecond(row.meter.rate(RETRIES)));
    text(parts.health, `${row.up}/${row.servers}`);
    attr(parts.health, "class", row.up === 0 ? "value err" : row.up < row.servers ? "value warn" : "value");
    drawSpark(parts.picture, row.meter.rates(REQUESTS));
    const detail = this.details.get(row.name);
    const { values } = detail ? detail.times.growth() : { values: [] };
    const most = this.bounds.at(-1);
    text(parts.p50, seconds(quantile(this.bounds, values, 0.5), most));
    text(parts.p99, seconds(quantile(this.bounds, values, 0.99), most));
    const servers = detail ? detail.told.levels.flat() : [];
    keyed(
      parts.dots,
      servers.slice(0, 24).map((server, place) => ({ place, kind: look(server).kind })),
      (dot) => dot.place,
      () => h("i"),
      (dot, { kind }) => attr(dot, "class", kind),
    );
    const isOpen = this.open.has(row.name);
    attr(parts.toggle, "aria-expanded", isOpen);
    parts.inner.hidden = !isOpen;
    if (isOpen && detail) this.#fillInner(parts, row.name, detail);
  }

  #fillInner(parts, name, detail) {
    if (!parts.facts) {
      parts.facts = h("p", { class: "facts" });
      parts.notes = h("div", { class: "notes" });
      parts.levels = h("div");
      parts.foot = h("div", { class: "foot" });
      parts.inner.append(parts.facts, parts.notes, parts.levels, parts.foot);
    }
    const { told } = detail;
    const facts = [`balancer ${told.mode}`, `set by ${told.origin}`];
    if (told.tunnels) facts.push(`${short(told.tunnels)} tunnels`);
    for (const [word, count] of Object.entries(told.counts)) facts.push(`${word.replaceAll("_", " ")} ${short(count)}`);
    text(parts.facts, facts.join(" · "));
    const notes = [told.panic, told.balancer_error && pretty(told.balancer_error)].filter(Boolean);
    keyed(parts.notes, notes, (note) => note, (note) => h("p", { class: "warn" }, note));
    const levels = told.levels.map((servers, place) => ({ place, servers }));
    keyed(
      parts.levels,
      levels,
      (level) => level.place,
      (level) => {
        const list = h("ul", { class: "servers", "aria-label": `Servers of level ${level.place}` });
        const columns = h(
          "li",
          { class: "server columns", "aria-hidden": "true" },
          ["Server", "State", "Weight", "Requests", "p50", "p99", "Errors", "Under way", ""].map((name) => h("span", {}, name)),
        );
        const box = h("div", {}, levels.length > 1 ? h("h4", {}, `Level ${level.place}`) : null, list);
        box.list = list;
        box.columns = columns;
        return box;
      },
      (box, level) =>
        keyed(
          box.list,
          [{ address: "" }, ...level.servers],
          (server) => server.address,
          (server) => (server.address ? this.#makeServer(name, server) : box.columns),
          (item, server) => server.address && this.#fillServer(item, server, detail, told),
        ),
    );
    const canChange = this.isAdmin && told.origin !== "service";
    if (canChange && !parts.foot.firstChild) {
      parts.foot.append(
        h("button", { type: "button", on: { click: () => this.#add(name) } }, "Add a server…"),
      );
    }
    parts.foot.hidden = !canChange;
  }

  // One server.

  #makeServer(upstream, server) {
    const parts = {};
    const cell = (name, label) => {
      parts[name] = h("span", { class: "value" });
      return h("span", { class: `cell ${name}` }, h("span", { class: "label" }, label), " ", parts[name]);
    };
    const { address } = server;
    const act = (word, run) => {
      const button = h("button", { type: "button", on: { click: run } }, word);
      button.setAttribute("aria-label", `${word} ${address}`);
      return button;
    };
    parts.drain = act("Drain", () => this.#drain(upstream, address));
    parts.weigh = act("Weight…", () => this.#weigh(upstream, address));
    parts.remove = act("Remove", () => this.#remove(upstream, address));
    parts.message = h("p", { class: "message" });
    parts.actions = h("span", { class: "actions" }, parts.drain, parts.weigh, parts.remove);
    const item = h(
      "li",
      { class: "server", data: { server: address } },
      h("span", { class: "address" }, address),
      (parts.state = h("span", { class: "state" })),
      cell("weight", "weight"),
      cell("requests", "requests"),
      cell("p50", "p50"),
      cell("p99", "p99"),
      cell("errors", "errors"),
      cell("active", "under way"),
      parts.actions,
      parts.message,
    );
    item.parts = parts;
    return item;
  }

  #fillServer(item, server, detail, told) {
    const { parts } = item;
    const meter = detail.servers.get(server.address);
    const { sign, kind, word } = look(server);
    parts.isDrained = server.state === "drain" || server.state === "down";
    attr(parts.state, "class", `state ${kind}`);
    text(parts.state, `${sign} ${word}`);
    const shownRate = server.notes?.weight ?? null;
    text(parts.weight, shownRate === null ? server.weight : `${server.weight} (${shownRate})`);
    const rate = meter.rate(0);
    const errors = meter.rate(1);
    const failed = meter.rate(2);
    text(parts.requests, perSecond(rate));
    const wrong = Math.max(errors ?? 0, failed ?? 0);
    const share = rate === null ? null : rate ? wrong / rate : 0;
    text(parts.errors, percent(share));
    attr(parts.errors, "class", share > 0.01 ? "value err" : share > 0 ? "value warn" : "value");
    text(parts.active, short(server.active));
    const times = meter.growth().values.slice(3);
    const most = this.bounds.at(-1);
    text(parts.p50, seconds(quantile(this.bounds, times, 0.5), most));
    text(parts.p99, seconds(quantile(this.bounds, times, 0.99), most));
    const message = [];
    if (server.msg) message.push(`${server.msg} (since ${server.lastmodified})`);
    if (server.lookup) message.push(`the name cannot be looked up since ${server.lookup.failing_since}: ${server.lookup.msg}`);
    for (const [key, note] of Object.entries(server.notes ?? {})) {
      message.push(`${key}: ${typeof note === "string" ? note : pretty(note)}`);
    }
    const kinds = Object.entries(server.kinds).map(([name, count]) => `${short(count)} ${name}`);
    if (kinds.length) message.push(`failed attempts so far: ${kinds.join(", ")}`);
    if (server.ejections) message.push(`ejected ${server.ejections} times`);
    text(parts.message, message.join(" · "));
    parts.message.hidden = !message.length;
    parts.actions.hidden = !this.isAdmin || told.origin === "service";
    const drain = parts.isDrained ? "Bring back" : "Drain";
    text(parts.drain, drain);
    attr(parts.drain, "aria-label", `${drain} ${server.address}`);
  }

  // Changes.

  async #read(name) {
    const { value, etag } = await this.api.call("GET", path("upstream", name));
    // Where an upstream has a list of servers, `cluster` says the same once more.
    if (value.servers) delete value.cluster;
    return { value, etag };
  }

  /** What would be shown of an upstream after `edit(copy)`. */
  async #preview(name, edit, note = "") {
    const { value, etag } = await this.#read(name);
    const after = structuredClone(value);
    edit(after);
    const found = lines(pretty(value), pretty(after));
    if (!found.some(([sign]) => sign !== " ")) throw new Error("This changes nothing.");
    return { difference: shown(found), etag, note };
  }

  #done(message) {
    this.changed(true);
    return message;
  }

  #drain(name, address) {
    const item = this.details.get(name)?.told.levels.flat().find((one) => one.address === address);
    const isBack = item?.state === "drain" || item?.state === "down";
    const state = isBack ? "up" : "drain";
    confirm({
      title: isBack ? `Bring ${address} back into ${name}?` : `Drain ${address} of ${name}?`,
      action: isBack ? "Bring it back" : "Drain it",
      prepare: () =>
        this.#preview(
          name,
          (copy) => each(copy, address, (server) => (isBack ? delete server.state : (server.state = state))),
          isBack ? "" : "Requests under way finish; new ones go to other servers.",
        ),
      commit: async (etag) => {
        await this.api.call("PATCH", path("upstream", name, address), { body: { state }, etag });
        return this.#done(isBack ? `${address} is back` : `${address} is draining`);
      },
    });
  }

  #weigh(name, address) {
    const item = this.details.get(name)?.told.levels.flat().find((one) => one.address === address);
    const input = h("input", { type: "number", name: "weight", min: "0", step: "1", value: item?.weight ?? 1 });
    confirm({
      title: `Weight of ${address} in ${name}`,
      action: "Change the weight",
      fields: field("Weight", input),
      prepare: () =>
        this.#preview(name, (copy) => each(copy, address, (server) => (server.weight = whole(input)))),
      commit: async (etag) => {
        const body = { weight: whole(input) };
        await this.api.call("PATCH", path("upstream", name, address), { body, etag });
        return this.#done(`${address} has the weight ${body.weight}`);
      },
    });
    input.select();
  }

  #add(name) {
    const address = h("input", { type: "text", name: "address", placeholder: "10.0.0.1:8080", autocomplete: "off", required: true });
    const weight = h("input", { type: "number", name: "weight", min: "0", step: "1", value: "1" });
    const body = () => ({ weight: whole(weight) });
    confirm({
      title: `Add a server to ${name}`,
      action: "Add it",
      fields: h("div", { class: "fields" }, field("Address, as host:port", address), field("Weight", weight)),
      prepare: () => {
        const found = address.value.trim().match(/^(\[[^\]]+\]|[^\s/:]+):(\d{1,5})$/);
        if (!found) throw new Error("Give an address such as 10.0.0.1:8080.");
        const server = { host: found[1].replace(/^\[|\]$/g, ""), port: Number(found[2]), ...body() };
        return this.#preview(name, (copy) => lists(copy)[0].push(server));
      },
      commit: async (etag) => {
        const server = address.value.trim();
        await this.api.call("POST", path("upstream", name, server), { body: body(), etag });
        return this.#done(`${server} is added`);
      },
    });
  }

  #remove(name, address) {
    confirm({
      title: `Remove ${address} from ${name}?`,
      action: "Remove it",
      isDangerous: true,
      prepare: () =>
        this.#preview(
          name,
          (copy) => {
            for (const list of lists(copy)) {
              const left = list.filter((server) => key(server) !== address);
              list.splice(0, list.length, ...left);
            }
          },
          "Requests under way finish.",
        ),
      commit: async (etag) => {
        await this.api.call("DELETE", path("upstream", name, address), { etag });
        return this.#done(`${address} is removed`);
      },
    });
  }
}

function whole(input) {
  if (!/^\d+$/.test(input.value)) throw new Error("Give a whole number, 0 or more.");
  return Number(input.value);
}

/** A server's address as slardar writes it. */
const key = ({ host, port }) => (host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`);

/** Every list of servers of an upstream. */
function lists(upstream) {
  if (upstream.servers) return [upstream.servers];
  return Object.values(upstream.cluster ?? {}).map((level) => level.servers);
}

function each(upstream, address, edit) {
  for (const list of lists(upstream)) {
    for (const server of list) if (key(server) === address) edit(server);
  }
}
