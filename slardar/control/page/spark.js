// A line of what a number was in the last minutes.

import { attr, svg } from "./dom.js";

/** An empty picture of this size. */
export function spark(width, height, name = "") {
  const line = svg("path", { class: "line" });
  const area = svg("path", { class: "area" });
  const picture = svg(
    "svg",
    { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" },
    area,
    line,
  );
  if (name) {
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-label", name);
  } else {
    picture.setAttribute("aria-hidden", "true");
  }
  return picture;
}

/** Values in a picture: at least, as if there were so many, and at most. */
const LEAST = 15;
const MOST = 60;

/** Draw values, oldest first, so that the newest is at the right end. */
export function drawSpark(picture, values) {
  const [, , width, height] = picture.getAttribute("viewBox").split(" ").map(Number);
  const known = values.slice(-MOST);
  const most = Math.max(...known, 0);
  const step = width / (Math.max(known.length, LEAST) - 1);
  const start = width - (known.length - 1) * step;
  const spots = known.map((value, place) => {
    const y = most ? height - 1.5 - (value / most) * (height - 3) : height - 1.5;
    return `${(start + place * step).toFixed(1)},${y.toFixed(1)}`;
  });
  const [area, line] = picture.children;
  const path = spots.length > 1 ? `M${spots.join("L")}` : "";
  attr(line, "d", path || "M0,0");
  attr(area, "d", path ? `${path}L${width},${height}L${start.toFixed(1)},${height}Z` : "M0,0");
}
