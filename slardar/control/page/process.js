// The process: workers, generations, the store, services and certificates.

import { seconds, short } from "./counts.js";
import { attr, byId, h, keyed, text } from "./dom.js";

/** Seconds before its end from which a certificate is shown as a warning. */
const SOON = 21 * 86400;

/** A table in a place of its own, that can be scrolled on a narrow screen. */
function table(box, name, columns, rows) {
  if (!box.body) {
    box.body = h("tbody");
    box.replaceChildren(
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "group", "aria-label": name },
        h("table", {}, h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col" }, column)))), box.body),
      ),
    );
  }
  keyed(
    box.body,
    rows,
    (row) => row.key,
    (row) => h("tr", {}, row.cells.map((_, place) => h(place ? "td" : "th", place ? {} : { scope: "row" }))),
    (line, row) => {
      attr(line, "class", row.kind ?? null);
      row.cells.forEach((cell, place) => text(line.children[place], cell));
    },
  );
}

export function drawProcess(overview) {
  const isWhole = overview.workers !== undefined;
  byId("process").hidden = !isWhole;
  if (!isWhole) return;
  const workers = Object.entries(overview.workers).map(([name, about]) => ({
    key: name,
    kind: overview.config_timer[name] === "alive" ? "" : "err",
    cells: [
      name,
      overview.config_timer[name] ?? "–",
      about.pid ?? "–",
      seconds(about.age),
      short(about.connections),
      short(about.requests),
      about.restarts,
      about.version ?? "–",
    ],
  }));
  table(byId("workers"), "Workers", ["Worker", "State", "Pid", "Age", "Connections", "Requests", "Restarts", "Version"], workers);
  const generations = overview.generations.map((one, place) => ({
    key: one.pid,
    kind: place ? "drain" : "",
    cells: [place ? "draining" : "serving", one.pid, seconds(one.age), short(one.connections)],
  }));
  table(byId("generations"), "Generations", ["Generation", "Pid", "Age", "Connections"], generations);

  const { store } = overview;
  const facts = [store.url];
  if (store.since) facts.push(`${store.status} since ${store.since} (${seconds(store.age)})`);
  if (store.reason) facts.push(store.reason);
  if (store.copy) facts.push(`copy in ${store.copy.file}`);
  if (store.copy?.problem) facts.push(store.copy.problem);
  text(byId("store-state"), store.status);
  attr(byId("store-state"), "class", `chip ${store.status === "ok" ? "ok" : "err"}`);
  text(byId("store-facts"), facts.join(" · "));

  const services = Object.entries(overview.services).map(([name, about]) => ({
    key: name,
    kind: about.lookup ? "err" : "",
    cells: [
      name,
      Object.entries(about).filter(([key]) => key !== "lookup" && key !== "servers" && key !== "looked_up").map(([key, value]) => `${key.replaceAll("_", " ")} ${typeof value === "string" ? value : JSON.stringify(value)}`).join(", "),
      short(about.servers),
      about.looked_up ?? "never",
      about.lookup ? `fails since ${about.lookup.failing_since}: ${about.lookup.msg}` : "ok",
    ],
  }));
  byId("services").hidden = !services.length;
  table(byId("service-table"), "Services", ["Service", "Follows", "Servers", "Looked up", "State"], services);

  const wrong = [
    ...Object.entries(overview.failed).map(([key, reason]) => `${key} cannot be used: ${reason}`),
    ...overview.shadowed.map((key) => `${key}: what was set here counts, the file says something else`),
  ];
  byId("wrong").hidden = !wrong.length;
  keyed(byId("wrong-list"), wrong, (line) => line, (line) => h("li", {}, line));
}

/** Show certificates, where slardar tells of them. */
export async function drawCertificates(api) {
  let found = [];
  try {
    found = await api.get("/certificates");
  } catch (error) {
    if (error.status === 0) throw error;
  }
  if (!Array.isArray(found)) found = Object.values(found);
  byId("certificates").hidden = !found.length;
  const rows = found.map((one, place) => {
    const left = ends(one.expires) - Date.now() / 1000;
    return {
      key: `${one.name} ${place}`,
      kind: left < 0 ? "err" : left < SOON ? "warn" : "",
      cells: [
        one.name,
        [one.names].flat().join(", "),
        one.issuer ?? "–",
        left < 0 ? "expired" : Number.isNaN(left) ? String(one.expires) : `in ${seconds(left)}`,
        one.from ?? "–",
      ],
    };
  });
  table(byId("certificate-table"), "Certificates", ["Certificate", "Names", "Issuer", "Expires", "From"], rows);
}

/** The end of a certificate in epoch seconds, from those or from a date. */
function ends(value) {
  return typeof value === "number" ? value : Date.parse(String(value).replace(" ", "T")) / 1000;
}
