// The page: asks, takes and draws, again and again while it is looked at.

import { Api } from "./api.js";
import { Meter, percent, perSecond, quantile, seconds, short } from "./counts.js";
import { attr, byId, text } from "./dom.js";
import { MOST, drawFlow, look } from "./flow.js";
import { Activity, History } from "./history.js";
import { Hooks } from "./hooks.js";
import { bindExplain } from "./explain.js";
import { drawCertificates, drawProcess } from "./process.js";
import { drawSpark, spark } from "./spark.js";
import { bindTheme } from "./theme.js";
import { Upstreams } from "./upstreams.js";
import { tell } from "./dialog.js";

/** Milliseconds between two questions; and, in those, between questions about hooks and about
 * certificates. */
const EVERY = 2000;
const HOOKS_EVERY = 3000;
const CERTIFICATES_EVERY = 60000;
/** Upstreams that may be listed with each question: of more of them, the list is asked for seldomer. */
const ROWS = 1500;
/** In the address while the page is loaded anew, because its token is not known any more. */
const GONE = "#token-gone";

class Page {
  constructor() {
    this.api = new Api();
    const changed = (isChange) => this.soon(isChange ? 0 : 120);
    this.upstreams = new Upstreams(this.api, changed);
    this.hooks = new Hooks(this.api, () => this.soon(0, true));
    this.history = new History(this.api, () => this.soon(0, true));
    this.activity = new Activity();
    this.totals = new Meter();
    this.buckets = new Meter();
    this.refused = new Meter();
    this.isLive = false;
    this.isReached = true;
    this.version = null;
    this.overview = null;
    this.asked = 0;
    this.hooksAt = this.certificatesAt = -Infinity;
    this.timer = 0;
    this.isAsking = false;
    this.isStale = false;
    this.stop = new AbortController();
    for (const box of document.querySelectorAll(".tile[data-spark]")) {
      box.picture = spark(120, 26);
      box.append(box.picture);
    }
    bindTheme(byId("theme"));
    bindExplain(this.api);
    byId("login-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#login(byId("token").value);
    });
    byId("logout").addEventListener("click", () => this.#leave(""));
    // What nobody looks at is not asked for.
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && !byId("main").hidden) this.soon(0);
    });
    new ResizeObserver(() => this.#drawFlow()).observe(byId("flow-box"));
  }

  async begin() {
    let needsToken = false;
    try {
      needsToken = (await this.api.get("/page/access")).tokens;
    } catch {
      // The first question tells.
    }
    const isGone = location.hash === GONE;
    if (isGone) history.replaceState(null, "", "/");
    if (needsToken) this.#ask(isGone ? "The token is not known any more." : "");
    else this.#enter();
  }

  // Who looks.

  #ask(problem) {
    byId("login").hidden = false;
    byId("main").hidden = byId("parts").hidden = true;
    text(byId("link"), "");
    byId("logout").hidden = true;
    text(byId("login-problem"), problem);
    byId("token").value = "";
    byId("token").focus();
  }

  async #login(token) {
    this.api.login(token.trim());
    try {
      await this.api.get("/overview");
    } catch (error) {
      this.api.login(null);
      this.#ask(error.status === 401 ? "No such token." : error.message);
      return;
    }
    byId("token").value = "";
    this.#enter();
  }

  /** Ask for a token anew.  Nothing of what was shown stays, nor a dialog that is open. */
  #leave(why) {
    this.api.login(null);
    history.replaceState(null, "", `/${why}`);
    location.reload();
  }

  #enter() {
    byId("login").hidden = true;
    byId("main").hidden = byId("parts").hidden = false;
    byId("logout").hidden = !this.api.hasToken;
    this.api.follow(
      (event) => this.#heard(event),
      (isLive) => {
        // The page polls in any case; events only make it ask at once.
        this.isLive = isLive;
        this.#drawLink();
        if (isLive) this.soon(0);
      },
      this.stop.signal,
    );
    this.soon(0);
  }

  #heard(event) {
    this.activity.take(event);
    this.soon(60, event.kind === "hook_state" || event.kind === "hook");
  }

  // Asking.

  /** Ask in so many milliseconds, or earlier. */
  soon(pause, isHooks = false) {
    if (isHooks) this.hooksAt = -Infinity;
    if (this.isAsking) {
      this.isStale = true;
      return;
    }
    const at = performance.now() + pause;
    if (this.timer && this.timerAt <= at) return;
    clearTimeout(this.timer);
    this.timerAt = at;
    this.timer = setTimeout(() => this.#turn(), pause);
  }

  async #turn() {
    this.timer = 0;
    if (document.hidden) return;
    this.isAsking = true;
    this.isStale = false;
    try {
      await this.#question();
      if (!this.isReached) this.api.hurry();
      this.isReached = true;
    } catch (error) {
      if (error.status === 401) {
        this.stop.abort();
        this.stop = new AbortController();
        this.isAsking = false;
        if (this.api.hasToken) this.#leave(GONE);
        else this.#ask("");
        return;
      }
      // Said once, however often it is asked in vain.
      if (error.status !== 0 && this.isReached) tell(error.message, true);
      this.isReached = false;
    }
    this.isAsking = false;
    this.#drawLink();
    this.soon(this.isStale ? 60 : EVERY);
  }

  async #question() {
    const names = new Set([...this.upstreams.visible(), ...this.upstreams.busiest(MOST)]);
    const query = new URLSearchParams();
    const rounds = Math.ceil(this.upstreams.rows.size / ROWS) || 1;
    if (this.asked++ % rounds === 0) query.set("index", "1");
    for (const name of names) query.append("upstream", name);
    const overview = await this.api.get(`/overview?${query}`);
    const isFirst = this.overview === null;
    this.#take(overview);
    if (isFirst && !names.size && this.upstreams.rows.size) this.soon(0);
    const now = performance.now();
    const isChanged = overview.shd_config_version !== this.version;
    this.version = overview.shd_config_version;
    this.history.current = this.version;
    if (isChanged) await this.history.refresh();
    if (isChanged || now - this.hooksAt > HOOKS_EVERY) {
      this.hooksAt = now;
      await this.hooks.refresh();
    }
    if (now - this.certificatesAt > CERTIFICATES_EVERY) {
      this.certificatesAt = now;
      await drawCertificates(this.api);
    }
  }

  #take(overview) {
    this.overview = overview;
    const isAdmin = overview.caller.role === "admin";
    this.upstreams.isAdmin = this.hooks.isAdmin = this.history.isAdmin = isAdmin;
    byId("read-only").hidden = isAdmin;
    text(byId("who"), overview.caller.who);
    const { totals } = overview;
    const sum = (values) => Object.values(values ?? {}).reduce((all, one) => all + one, 0);
    this.totals.push(overview.time, [totals.requests, totals.errors, totals.retries, totals.bytes_out]);
    this.buckets.push(overview.time, totals.buckets);
    this.refused.push(overview.time, [sum(totals.refused)]);
    this.upstreams.take(overview);
    this.draw();
  }

  // Drawing.

  draw() {
    const { overview } = this;
    const { totals } = overview;
    const rate = this.totals.rate(0);
    const errors = this.totals.rate(1);
    const { values } = this.buckets.growth();
    const most = overview.bounds.at(-1);
    const share = rate ? errors / rate : rate === null ? null : 0;
    this.#tile("requests", perSecond(rate), this.totals.rates(0));
    this.#tile("errors", percent(share), this.totals.rates(1), share > 0.01 ? "err" : share > 0 ? "warn" : "");
    this.#tile("p50", seconds(quantile(overview.bounds, values, 0.5), most));
    this.#tile("p99", seconds(quantile(overview.bounds, values, 0.99), most));
    this.#tile("retries", perSecond(this.totals.rate(2)), this.totals.rates(2));
    const connections = totals.connections && Object.values(totals.connections).reduce((all, one) => all + one, 0);
    this.#tile("connections", short(connections ?? null));
    const rows = [...this.upstreams.rows.values()];
    const up = rows.reduce((all, row) => all + row.up, 0);
    const servers = rows.reduce((all, row) => all + row.servers, 0);
    this.#tile("servers", `${up}/${servers}`, null, up < servers ? "warn" : "");
    text(byId("version"), overview.slardar_version);
    text(byId("config"), `configuration ${overview.shd_config_version} · ${overview.fingerprint.slice(0, 8)} · since ${overview.start_time}`);
    this.upstreams.draw();
    this.#drawFlow();
    drawProcess(overview);
  }

  #tile(name, value, rates = null, kind = "") {
    const box = byId(`tile-${name}`);
    text(box.querySelector("dd"), value);
    attr(box.querySelector("dd"), "class", kind);
    if (rates && box.picture) drawSpark(box.picture, rates);
  }

  #drawFlow() {
    if (this.overview === null) return;
    const names = this.upstreams.busiest(MOST);
    const shown = names.map((name) => {
      const { meter } = this.upstreams.rows.get(name);
      const detail = this.upstreams.details.get(name);
      const servers = (detail?.told.levels.flat() ?? []).map((server) => ({
        address: server.address,
        rate: detail.servers.get(server.address).rate(0),
        look: look(server),
      }));
      return { name, rate: meter.rate(0), errors: meter.rate(1), servers };
    });
    const others = [...this.upstreams.rows.values()].filter((row) => !names.includes(row.name));
    const connections = this.overview.totals.connections;
    const refused = this.refused.rate(0) ?? 0;
    drawFlow(
      byId("flow-picture"),
      byId("flow-empty"),
      {
        clients: {
          rate: this.totals.rate(0) === null ? null : this.totals.rate(0) + refused,
          connections: connections ? Object.values(connections).reduce((all, one) => all + one, 0) : null,
        },
        upstreams: shown,
        others: {
          count: others.length,
          rate: others.reduce((all, row) => all + (row.meter.rate(0) ?? 0), 0),
        },
        refused,
      },
      (name) => this.upstreams.show(name),
    );
  }

  #drawLink() {
    const link = byId("link");
    const [word, kind] = !this.isReached
      ? ["No connection", "err"]
      : this.isLive
        ? ["Live", "ok"]
        : ["Polling", "warn"];
    text(link, word);
    attr(link, "class", `chip ${kind}`);
  }
}

new Page().begin();
