// Hooks: what runs, how it does, what is staged, and what a version in the shadow does otherwise.

import { path } from "./api.js";
import { percent, seconds, short } from "./counts.js";
import { confirm, field } from "./dialog.js";
import { lines, pretty, shown } from "./diff.js";
import { attr, byId, h, keyed, text } from "./dom.js";

const LANGUAGES = ["python", "lua"];
const KINDS = { active: "ok", failed: "err", suspended: "err", staged: "unknown" };

/** What there is to say of a decision: what it leaves as it is, it has as null. */
const told = (decision) =>
  Object.fromEntries(Object.entries(decision).filter(([, value]) => value !== null));

export class Hooks {
  constructor(api, changed) {
    this.api = api;
    this.changed = changed;
    this.isAdmin = false;
    this.hooks = [];
    /** Reports on versions in the shadow, by language and name. */
    this.shadows = new Map();
    this.list = byId("hook-list");
    byId("stage").addEventListener("click", () => this.#stage());
  }

  /** Ask for all of it, and draw it. */
  async refresh() {
    const answers = await Promise.all(LANGUAGES.map((language) => this.api.get(path(language))));
    const hooks = new Map();
    for (const { modules, staged } of answers) {
      for (const hook of modules) hooks.set(`${hook.language}/${hook.name}`, hook);
      for (const hook of staged) {
        const name = `${hook.language}/${hook.name}`;
        // What was staged and never activated is there alone.
        if (!hooks.has(name)) hooks.set(name, { ...hook, staged: hook, isNew: true });
      }
    }
    this.hooks = [...hooks].sort(([a], [b]) => (a < b ? -1 : 1));
    const shadows = this.hooks.filter(([, hook]) => hook.staged?.shadow);
    const reports = await Promise.all(
      shadows.map(([, hook]) =>
        this.api.get(path(hook.language, hook.name, "shadow")).catch(() => null),
      ),
    );
    this.shadows = new Map(shadows.map(([name], place) => [name, reports[place]]));
    this.draw();
  }

  draw() {
    byId("stage").hidden = !this.isAdmin;
    byId("hooks-empty").hidden = this.hooks.length > 0;
    // Their requests may all fail, and are not those of an upstream.
    const wrong = this.hooks.filter(([, hook]) => hook.state === "failed" || hook.state === "suspended");
    byId("hook-trouble").hidden = !wrong.length;
    text(byId("hook-trouble"), wrong.map(([name, hook]) => `Hook ${name} does not run: it is ${hook.state}.`).join(" "));
    keyed(
      this.list,
      this.hooks,
      ([name]) => name,
      ([name]) => this.#make(name),
      (item, [name, hook]) => this.#fill(item, name, hook),
    );
  }

  #make(name) {
    const parts = { facts: h("p", { class: "facts" }), state: h("span"), staged: h("div", { class: "staged" }) };
    parts.error = h("p", { class: "message" });
    const act = (word, run) =>
      h("button", { type: "button", "aria-label": `${word} ${name}`, on: { click: () => run(item.hook) } }, word);
    parts.stage = act("Stage…", (hook) => this.#stage(hook));
    parts.activate = act("Activate…", (hook) => this.#activate(hook));
    parts.back = act("Roll back…", (hook) => this.#back(hook));
    parts.actions = h("span", { class: "actions" }, parts.stage, parts.activate, parts.back);
    const item = h(
      "li",
      { class: "hook", data: { hook: name } },
      h("div", { class: "line" }, h("h3", {}, name), parts.state, parts.actions),
      parts.facts,
      parts.error,
      parts.staged,
    );
    item.parts = parts;
    return item;
  }

  #fill(item, name, hook) {
    const { parts } = item;
    item.hook = hook;
    text(parts.state, hook.state);
    attr(parts.state, "class", `chip ${KINDS[hook.state] ?? "unknown"}`);
    const facts = hook.isNew
      ? ["not in service"]
      : [
          `version ${hook.version.slice(0, 8)}`,
          `loaded ${hook.time}`,
          `${short(hook.calls)} calls`,
          `${short(hook.errors)} errors`,
          `mean ${seconds(hook.mean_us / 1e6)}`,
          `p99 ${seconds(hook.p99_us / 1e6)}`,
        ];
    if (hook.on_error) facts.push(`on an error: ${hook.on_error}`);
    text(parts.facts, facts.join(" · "));
    const wrong = [hook.error, ...(hook.warnings ?? [])].filter(Boolean);
    text(parts.error, wrong.join(" · "));
    parts.error.hidden = !wrong.length;
    parts.actions.hidden = !this.isAdmin;
    parts.activate.hidden = !hook.staged;
    parts.back.hidden = !hook.previous && !hook.staged?.canary;
    this.#fillStaged(parts.staged, name, hook.staged);
  }

  #fillStaged(box, name, staged) {
    const report = this.shadows.get(name);
    // Built anew only if something differs, so that an opened example stays open.
    const state = JSON.stringify([staged, report]);
    if (box.state === state) return;
    box.state = state;
    const isOpen = box.querySelector("details")?.open;
    box.hidden = !staged;
    if (!staged) return;
    const words = [`staged ${staged.version.slice(0, 8)}`, staged.time];
    if (staged.shadow) words.push("in the shadow");
    if (staged.canary) words.push(`${staged.canary} % of the requests, ${short(staged.calls)} calls, ${short(staged.errors)} errors`);
    box.replaceChildren(h("p", { class: "facts" }, words.join(" · ")));
    for (const warning of staged.warnings ?? []) box.append(h("p", { class: "message" }, warning));
    if (!report) return;
    const share = report.compared ? report.differing / report.compared : null;
    box.append(
      h(
        "p",
        { class: "shadow" },
        h("strong", { class: report.differing ? "warn" : "ok" }, `${short(report.differing)} of ${short(report.compared)} requests differ`),
        share === null ? "" : ` (${percent(share)})`,
        ` · ${short(report.errors)} errors · p99 ${seconds(report.p99_us / 1e6)}`,
        report.active_p99_us === undefined ? "" : `, in service ${seconds(report.active_p99_us / 1e6)}`,
      ),
    );
    const examples = report.examples.filter(Boolean);
    if (!examples.length) return;
    const details = h("details", {}, h("summary", {}, `Examples of requests that differ (${examples.length})`));
    details.open = Boolean(isOpen);
    for (const { active, staged: other, ...request } of examples) {
      details.append(
        h("p", { class: "facts" }, Object.values(request).map((value) => (typeof value === "string" ? value : pretty(value))).join(" ")),
        shown(lines(pretty(told(active)), pretty(told(other))), "in service and in the shadow"),
      );
    }
    box.append(details);
  }

  // Changes.

  async #codes(language, name) {
    try {
      const { value, etag } = await this.api.call("GET", path(language, name, "code"));
      return { codes: value, etag };
    } catch (error) {
      if (error.status !== 404) throw error;
      const { etag } = await this.api.call("GET", path(language));
      return { codes: {}, etag };
    }
  }

  async #stage(hook) {
    let code = "";
    if (hook) {
      const { codes } = await this.#codes(hook.language, hook.name).catch(() => ({ codes: {} }));
      code = (codes.staged ?? codes.active)?.code ?? "";
    }
    const language = h("select", { name: "language", disabled: Boolean(hook) }, LANGUAGES.map((one) => h("option", { selected: one === hook?.language }, one)));
    const name = h("input", { type: "text", name: "name", placeholder: "script.www.example.com", autocomplete: "off", disabled: Boolean(hook), value: hook?.name ?? "" });
    const area = h("textarea", { name: "code", rows: "12", spellcheck: "false", autocomplete: "off" });
    area.value = code;
    const shadow = h("input", { type: "checkbox", name: "shadow" });
    confirm({
      title: hook ? `Stage a version of ${hook.language}/${hook.name}` : "Stage a hook",
      action: "Stage it",
      fields: h(
        "div",
        { class: "fields" },
        field("Language", language),
        field("Name", name, "script.HOST, script.* for every host, or modules.NAME"),
        field("Code", area),
        h("label", { class: "check" }, shadow, " Run it in the shadow: beside the version in service, without effect"),
      ),
      prepare: async () => {
        if (!name.value.trim()) throw new Error("Give a name such as script.www.example.com.");
        if (!area.value.trim()) throw new Error("Give the code.");
        const { codes, etag } = await this.#codes(language.value, name.value.trim());
        const found = lines(codes.active?.code ?? "", area.value);
        const note = "Compared with the version in service. Staging changes nothing for requests.";
        return { difference: shown(found), etag, note };
      },
      commit: async (etag) => {
        const query = shadow.checked ? "?shadow=1" : "";
        const { headers } = await this.api.call("POST", path(language.value, name.value.trim()) + query, { body: area.value, etag });
        this.changed(true);
        const warning = headers.get("X-Slardar-Warning");
        return warning ? `Staged, with a warning: ${warning}` : "Staged";
      },
    });
  }

  #activate(hook) {
    const canary = h("input", { type: "number", name: "canary", min: "0", max: "100", step: "1", placeholder: "100" });
    const isScript = hook.name.startsWith("script.");
    confirm({
      title: `Put the staged version of ${hook.language}/${hook.name} into service?`,
      action: "Activate it",
      fields: isScript ? field("Percent of the requests", canary, "Empty: all of them") : null,
      prepare: async () => {
        const { codes, etag } = await this.#codes(hook.language, hook.name);
        if (!codes.staged) throw new Error("Nothing is staged any more.");
        return { difference: shown(lines(codes.active?.code ?? "", codes.staged.code)), etag };
      },
      commit: async (etag) => {
        const part = Number(canary.value || 100);
        const query = part < 100 ? `?canary=${part}` : "";
        await this.api.call("PUT", path(hook.language, hook.name) + query, { etag });
        this.changed(true);
        return part < 100 ? `In service for ${part} % of the requests` : "In service";
      },
    });
  }

  #back(hook) {
    const isCanary = Boolean(hook.staged?.canary);
    confirm({
      title: `Roll back ${hook.language}/${hook.name}?`,
      action: "Roll it back",
      isDangerous: true,
      prepare: async () => {
        const { codes, etag } = await this.#codes(hook.language, hook.name);
        const before = isCanary ? codes.staged : codes.active;
        const after = isCanary ? codes.active : codes.previous;
        if (!isCanary && !after) throw new Error("There is no version before this one.");
        return { difference: shown(lines(before?.code ?? "", after?.code ?? "")), etag };
      },
      commit: async (etag) => {
        await this.api.call("PUT", `${path(hook.language, hook.name)}?rollback=1`, { etag });
        this.changed(true);
        return "Rolled back";
      },
    });
  }
}
