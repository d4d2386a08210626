// The picture of what flows: from clients to upstreams to servers, the broader the more.

import { perSecond, short } from "./counts.js";
import { svg, text } from "./dom.js";

/** Upstreams in the picture, and servers of all of them together, at most. */
export const MOST = 6;
const SERVERS = 18;
const ROW = 20;
const GAP = 9;
const TOP = 30;
const BAR = 8;
/** Pixels of a stream: at least, and of the broadest one. */
const THIN = 1.5;
const BROAD = 22;

/** What a server's state looks like: a sign, a class and a word. */
export function look(server) {
  if (server.state === "drain") return { sign: "◐", kind: "drain", word: "draining" };
  if (server.state === "down") return { sign: "■", kind: "drain", word: "down" };
  return {
    ok: { sign: "●", kind: "ok", word: "ok" },
    err: { sign: "✕", kind: "err", word: "failing" },
    unstable: { sign: "▲", kind: "warn", word: "unstable" },
    unchecked: { sign: "○", kind: "unknown", word: "unchecked" },
  }[server.status] ?? { sign: "○", kind: "unknown", word: String(server.status) };
}

/** Draw.  `model`: `clients` (`rate`, `connections`), `upstreams` (`name`, `rate`, `errors`,
 * `servers` with `address`, `rate`, `look`), `others` (`count`, `rate`), `refused` (a rate).  Rates
 * are a second, and may be null.  `choose(name)` is called for an upstream that is clicked. */
export function drawFlow(picture, summary, model, choose) {
  const width = Math.max(300, Math.round(picture.parentNode.clientWidth));
  const isNarrow = width < 620;
  const rows = layOut(model);
  const height = rows.height;
  const x = isNarrow
    ? { clients: 0, upstreams: 26, leave: Math.round(width * 0.52), servers: Math.round(width * 0.61) }
    : {
        clients: 0,
        upstreams: Math.round(width * 0.2),
        leave: Math.round(width * 0.2) + Math.min(290, Math.round(width * 0.3)),
        servers: Math.round(width * 0.74),
      };
  const end = width;
  const broadest = Math.max(...rows.blocks.map((block) => block.rate ?? 0), 1e-9);
  const thick = (rate) => (rate ? THIN + (BROAD - THIN) * (rate / broadest) : THIN);

  const ribbons = svg("g", { class: "ribbons" });
  const nodes = svg("g", { class: "nodes" });
  const labels = svg("g", { class: "labels" });
  const middle = (rows.first + rows.last) / 2;
  const entering = rows.blocks.reduce((sum, block) => sum + thick(block.rate), 0);
  let leaving = middle - entering / 2;
  // Characters between two places: a bold one is a little broader.
  const room = (from, to) => Math.floor((to - from) / (isNarrow ? 6.9 : 7.6));

  for (const block of rows.blocks) {
    const mine = thick(block.rate);
    const center = (block.top + block.bottom) / 2;
    ribbons.append(
      ribbon(x.clients + BAR, leaving + mine / 2, x.upstreams, center, mine, block.kind, !block.rate),
    );
    leaving += mine;
    const box = { x: x.upstreams, y: block.top, width: x.leave - x.upstreams, height: block.bottom - block.top };
    nodes.append(svg("rect", { ...box, rx: 5, class: "node" }));
    nodes.append(bar(x.upstreams, block.top, block.bottom, block.kind));
    const sum = block.servers.reduce((all, server) => all + thick(server.rate), 0);
    let out = center - sum / 2;
    for (const server of block.servers) {
      const part = thick(server.rate);
      ribbons.append(
        ribbon(x.leave, out + part / 2, x.servers, server.y, part, server.kind, !server.rate),
      );
      out += part;
      nodes.append(bar(x.servers, server.y - ROW * 0.36, server.y + ROW * 0.36, server.kind));
      labels.append(
        words(x.servers + BAR + 8, server.y, [
          [server.sign ? `${server.sign} ` : "", `sign ${server.kind}`],
          [cutStart(server.address, room(x.servers + BAR + 24, end) - 7), ""],
          [`  ${perSecond(server.rate)}`, "rate"],
        ]),
      );
    }
    const start = x.upstreams + BAR + 8;
    const numbers = [
      [perSecond(block.rate), "rate"],
      [block.errors ? `  ${short(block.errors)} err/s` : "", "sign err"],
    ];
    // In two lines where there is room for them.
    const isHigh = block.bottom - block.top > 34;
    const left = room(start, x.leave) - (isHigh ? 0 : 8 + (block.errors ? 10 : 0));
    const name = [cut(block.name, left), "name"];
    const label = isHigh
      ? svg("g", {}, words(start, center - 7.5, [name]), words(start, center + 8.5, numbers))
      : words(start, center, [name, ["  ", ""], ...numbers]);
    if (block.choosable) {
      label.classList.add("choosable");
      label.addEventListener("click", () => choose(block.name));
    }
    labels.append(label);
  }
  const half = Math.max(entering / 2, 14);
  nodes.append(bar(x.clients, middle - half, middle + half, "clients"));
  const clients = [
    ["Clients", "name"],
    [`  ${perSecond(model.clients.rate)}`, "rate"],
    [model.clients.connections === null ? "" : `  ${short(model.clients.connections)} conn.`, "rate"],
  ];
  labels.append(words(0, 12, clients));
  if (!isNarrow) {
    labels.append(words(x.upstreams, 12, [["Upstreams", "head"]]));
    labels.append(words(x.servers, 12, [["Servers", "head"]]));
  }
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  picture.setAttribute("height", height);
  picture.classList.toggle("narrow", isNarrow);
  picture.replaceChildren(ribbons, nodes, labels);
  const said = rows.blocks.map((block) => `${block.name} ${perSecond(block.rate)}`).join(", ");
  picture.setAttribute("aria-label", `Requests from clients to upstreams: ${said || "none"}`);
  text(summary, said ? "" : "No upstream has had a request yet.");
}

/** Where every row is. */
function layOut(model) {
  const share = Math.max(2, Math.floor(SERVERS / Math.max(1, model.upstreams.length)));
  const blocks = [];
  let y = TOP;
  for (const upstream of model.upstreams) {
    const top = y;
    // "1 more" would take as much room as the server itself.
    const isCut = upstream.servers.length > share + 1;
    const shown = isCut ? busiest(upstream.servers, share) : upstream.servers;
    const servers = shown.map((server) => ({
      address: server.address,
      rate: server.rate,
      sign: server.look.sign,
      kind: server.look.kind,
    }));
    if (isCut) {
      const rest = upstream.servers.filter((server) => !shown.includes(server));
      const rate = rest.reduce((sum, server) => sum + (server.rate ?? 0), 0);
      servers.push({ address: `${rest.length} more`, rate, sign: "", kind: "rest" });
    }
    for (const server of servers) {
      server.y = y + ROW / 2;
      y += ROW;
    }
    if (!servers.length) y += ROW;
    const kind = upstream.errors > 0.05 * (upstream.rate || 1) ? "err" : "ok";
    blocks.push({ ...upstream, servers, top: top + 1, bottom: y - 1, kind, choosable: true });
    y += GAP;
  }
  for (const [name, rate, kind] of [
    [`${model.others.count} more`, model.others.rate, "rest"],
    ["no upstream", model.refused, "err"],
  ]) {
    const isThere = kind === "rest" ? model.others.count > 0 : rate > 0;
    if (!isThere) continue;
    blocks.push({ name, rate, kind, servers: [], top: y + 1, bottom: y + ROW - 1 });
    y += ROW + GAP;
  }
  return { blocks, height: Math.max(y - GAP + 6, TOP + ROW), first: TOP, last: Math.max(y - GAP, TOP + ROW) };
}

/** The servers with the most requests or with trouble, in their own order. */
function busiest(servers, count) {
  const trouble = (server) => (server.look.kind === "err" || server.look.kind === "warn" ? 1e12 : 0);
  const weighed = servers.map((server) => [trouble(server) + (server.rate ?? 0), server]);
  weighed.sort((a, b) => b[0] - a[0]);
  const chosen = new Set(weighed.slice(0, count).map(([, server]) => server));
  return servers.filter((server) => chosen.has(server));
}

function bar(x, top, bottom, kind) {
  return svg("rect", { x, y: top, width: BAR, height: bottom - top, rx: 3, class: `bar ${kind}` });
}

function ribbon(x1, y1, x2, y2, width, kind, isIdle) {
  const bend = (x2 - x1) * 0.5;
  const d = `M${x1},${y1}C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`;
  const name = `ribbon ${kind}${isIdle ? " idle" : ""}`;
  return svg("path", { d, "stroke-width": width.toFixed(1), class: name });
}

function words(x, y, parts) {
  const line = svg("text", { x, y, "dominant-baseline": "central" });
  for (const [part, name] of parts) {
    if (part) line.append(svg("tspan", { class: name, "xml:space": "preserve" }, part));
  }
  return line;
}

/** Of an address the end tells more than the beginning. */
function cutStart(address, most) {
  const room = Math.max(most, 7);
  return address.length > room ? `…${address.slice(1 - room)}` : address;
}

function cut(name, most) {
  const room = Math.max(most, 6);
  return name.length > room ? `${name.slice(0, room - 1)}…` : name;
}
