// Where a request would go, and why, drawn step by step.

import { byId, h } from "./dom.js";
import { look } from "./flow.js";
import { pretty, written } from "./diff.js";

const BY = {
  route: "a route fits",
  host: "by its Host",
  wildcard: "by a wildcard",
  default: "the default upstream",
  hook: "a hook has chosen it",
  resource: "a resource names it",
};

/** What a pasted text asks for: a URL, or a host with a path. */
function read(given) {
  const address = /^[a-z][a-z0-9+.-]*:\/\//i.test(given) ? given : `http://${given}`;
  const url = new URL(address);
  return { host: url.host, path: url.pathname + url.search };
}

export function bindExplain(api) {
  const form = byId("explain-form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const answer = byId("explain-answer");
    const query = new URLSearchParams();
    try {
      const { host, path } = read(byId("explain-url").value.trim());
      query.set("host", host);
      query.set("path", path);
      query.set("method", byId("explain-method").value);
      const client = byId("explain-client").value.trim();
      if (client) query.set("client", client);
    } catch {
      answer.replaceChildren(h("p", { class: "problem" }, "Paste a URL such as http://www.example.com/path."));
      return;
    }
    try {
      const told = await api.get(`/explain?${query}`);
      answer.replaceChildren(draw(query, told));
    } catch (error) {
      answer.replaceChildren(h("p", { class: "problem" }, error.message));
    }
  });
}

function step(title, main, ...more) {
  return h("li", { class: "step" }, h("span", { class: "title" }, title), h("strong", {}, main), more);
}

function note(...words) {
  return h("span", { class: "note" }, words);
}

function draw(query, told) {
  const steps = [
    step("Request", `${query.get("method")} ${query.get("host")}${query.get("path")}`, note(`from ${query.get("client") ?? "127.0.0.1"}`)),
  ];
  for (const hook of told.hooks) {
    const chosen = ["upstream", "hash_key", "cluster_key", "status"]
      .filter((key) => hook[key])
      .map((key) => note(`${key.replace("_", " ")} ${typeof hook[key] === "string" ? hook[key] : pretty(hook[key])}`));
    const one = step(`Hook ${hook.outcome}`, hook.hook, chosen, hook.error ? note(hook.error) : null);
    one.classList.add(hook.outcome === "failed" ? "bad" : "hooked");
    if (hook.changes?.length) one.append(written(hook.changes.map((line) => line.replace(/^([+-]) ?/, "$1 ")).join("\n"), "changes of the head"));
    steps.push(one);
  }
  if (told.upstream !== null) {
    steps.push(step("Upstream", told.upstream, note(BY[told.by] ?? told.by), told.route ? note(pretty(told.route)) : null));
    steps.push(step("Balancer", told.balancer, told.level === null ? null : note(`level ${told.level}`), told.hash_key ? note(`key ${told.hash_key}`) : null));
  }
  if (told.server !== null) {
    const last = step("Server", told.server, told.note ? note(told.note) : null);
    last.classList.add("chosen");
    steps.push(last);
  } else if (told.refusal) {
    const last = step("Reply of slardar", String(told.refusal.status), note(told.refusal.reason));
    last.classList.add("bad");
    steps.push(last);
  } else {
    steps.push(step("Server", "not known beforehand", note(told.note)));
  }
  const box = h("div", {}, h("ol", { class: "steps", "aria-label": "The decision" }, steps));
  if (told.panic) box.append(h("p", { class: "warn" }, "So few servers are in service that health is ignored."));
  if (told.last_resort) box.append(h("p", { class: "warn" }, "No server is in service; the last one is asked all the same."));
  if (told.candidates.length) {
    box.append(
      h("h3", {}, "Candidates"),
      h(
        "ul",
        { class: "candidates" },
        told.candidates.map((one) => {
          const { sign, kind, word } = look({ status: one.status });
          const isChosen = one.server === told.server;
          const fate = isChosen ? "gets the request" : one.reason || "could have had it";
          return h(
            "li",
            { class: isChosen ? "chosen" : one.reason ? "out" : "" },
            h("span", { class: "address" }, one.server),
            h("span", { class: `state ${kind}` }, `${sign} ${word}`),
            h("span", { class: "note" }, `level ${one.level} · weight ${one.weight} · ${one.active} under way`),
            h("span", { class: "fate" }, [fate, one.note].filter(Boolean).join(" · ")),
          );
        }),
      ),
    );
  }
  if (told.more) box.append(h("p", {}, `${told.more} more are left out.`));
  return box;
}
