// The difference of two texts, or of two values, line by line.

import { h } from "./dom.js";

/** Lines around a difference that are shown, too. */
const AROUND = 2;
/** Pairs of lines that are compared with each other, at most: that many take some 50 ms. */
const MAX_PAIRS = 4e6;

/** A value as text: what fits on a line is on one line, so that a server is one. */
export function pretty(value, indent = "") {
  const flat = JSON.stringify(value);
  if (value === null || typeof value !== "object" || flat.length <= 2) return flat ?? "null";
  const parts = Object.entries(value);
  const isSimple = parts.every(([, part]) => part === null || typeof part !== "object");
  const isList = Array.isArray(value);
  const [begin, end] = isList ? "[]" : "{}";
  const shown = (key, part, inner) => (isList ? "" : `${JSON.stringify(key)}: `) + pretty(part, inner);
  if (isSimple && flat.length < 160 && indent) {
    return begin + parts.map(([key, part]) => shown(key, part, "")).join(", ") + end;
  }
  const inner = indent + "  ";
  const lines = parts.map(([key, part]) => inner + shown(key, part, inner));
  return `${begin}\n${lines.join(",\n")}\n${indent}${end}`;
}

/** The lines that differ of two values.  A comma does not count: it is another one's that comes or
 * goes behind it. */
export function valueLines(before, after) {
  const [old, now] = [before, after].map((value) => pretty(value).split("\n"));
  const bare = (line) => line.replace(/,$/, "");
  let [i, j] = [0, 0];
  return lines(old.map(bare).join("\n"), now.map(bare).join("\n")).map(([sign]) => {
    if (sign !== "+") i++;
    if (sign !== "-") j++;
    return [sign, sign === "-" ? old[i - 1] : now[j - 1]];
  });
}

/** The lines of two texts: `[sign, line]`, where the sign is `+`, `-` or a space. */
export function lines(before, after) {
  const old = before === "" ? [] : before.split("\n");
  const now = after === "" ? [] : after.split("\n");
  let start = 0;
  while (start < old.length && start < now.length && old[start] === now[start]) start++;
  let end = 0;
  while (
    end < old.length - start &&
    end < now.length - start &&
    old[old.length - 1 - end] === now[now.length - 1 - end]
  ) {
    end++;
  }
  const found = old.slice(0, start).map((line) => [" ", line]);
  const a = old.slice(start, old.length - end);
  const b = now.slice(start, now.length - end);
  found.push(...middle(a, b));
  found.push(...old.slice(old.length - end).map((line) => [" ", line]));
  return found;
}

function middle(a, b) {
  if (!a.length || !b.length || a.length * b.length > MAX_PAIRS) {
    return [...a.map((line) => ["-", line]), ...b.map((line) => ["+", line])];
  }
  // The longest common subsequence, from the end.
  const width = b.length + 1;
  const longest = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      longest[i * width + j] =
        a[i] === b[j]
          ? longest[(i + 1) * width + j + 1] + 1
          : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const found = [];
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) {
      found.push([" ", a[i]]);
      i++;
      j++;
    } else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) {
      found.push(["-", a[i++]]);
    } else {
      found.push(["+", b[j++]]);
    }
  }
  while (i < a.length) found.push(["-", a[i++]]);
  while (j < b.length) found.push(["+", b[j++]]);
  return found;
}

const WORDS = { "+": "added: ", "-": "removed: ", " ": "" };

/** An element with the lines that differ and some around them. */
export function shown(found, name = "difference") {
  const near = found.map(([sign]) => sign !== " ");
  const wanted = found.map((_, place) =>
    near.slice(Math.max(0, place - AROUND), place + AROUND + 1).some(Boolean),
  );
  const box = h("pre", { class: "diff", tabindex: "0", role: "group", "aria-label": name });
  let isLeftOut = false;
  for (const [place, [sign, line]] of found.entries()) {
    if (wanted[place]) {
      box.append(signed(sign, line));
    } else if (!isLeftOut) {
      box.append(h("span", { class: "gap" }, "…\n"));
    }
    isLeftOut = !wanted[place];
  }
  if (!wanted.some(Boolean)) box.replaceChildren(h("span", { class: "gap" }, "no difference\n"));
  return box;
}

function signed(sign, line) {
  const kind = { "+": "added", "-": "removed", " ": "same" }[sign];
  return h(
    "span",
    { class: kind },
    h("span", { class: "unseen" }, WORDS[sign]),
    h("span", { "aria-hidden": "true" }, `${sign} `),
    `${line}\n`,
  );
}

/** An element with a diff that slardar has written: lines that begin with `+`, `-`, or tell of a
 * change. */
export function written(text, name = "difference") {
  const box = h("pre", { class: "diff", tabindex: "0", role: "group", "aria-label": name });
  for (const line of text.split("\n")) {
    const sign = line.match(/^([+-]) (.*)$/s);
    box.append(sign ? signed(sign[1], sign[2]) : h("span", { class: "same" }, `${line}\n`));
  }
  return box;
}
