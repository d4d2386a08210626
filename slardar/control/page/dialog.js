// Dialogs: a change is made only after its difference was shown and confirmed.

import { byId, h, newId, text } from "./dom.js";

/** Open a dialog with a title and a body, and return how to close it.  `buttons` are elements for its
 * foot; a button that closes it is there anyway. */
export function open(title, body, buttons = [], closing = "Cancel") {
  const name = newId();
  const dialog = h("dialog", { "aria-labelledby": name });
  const cancel = h("button", { type: "button", on: { click: () => dialog.close() } }, closing);
  dialog.append(
    h("h2", { id: name }, title),
    h("div", { class: "body" }, body),
    h("div", { class: "foot" }, cancel, buttons),
  );
  dialog.addEventListener("close", () => dialog.remove());
  // A click beside the dialog closes it.
  dialog.addEventListener("mousedown", (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Say something, for eyes and screen readers. */
export function tell(message, isBad = false) {
  const notice = h("p", { class: isBad ? "bad" : "good" }, message);
  byId("notices").append(notice);
  setTimeout(() => notice.remove(), isBad ? 12000 : 5000);
}

/** Have a change confirmed, and make it.
 *
 * `fields` is an element in which the change is described, or null.  `prepare()` returns (a promise
 * of) `{difference, etag, note}`: what is shown, and the version to which the change is made; it
 * throws an Error if the fields do not describe a change.  `commit(etag)` makes the change, and
 * returns what to say.  Was the configuration changed meanwhile, the difference is shown anew. */
export function confirm({ title, fields = null, prepare, commit, action, isDangerous = false }) {
  const difference = h("div", { class: "difference", "aria-live": "polite" });
  const problem = h("p", { class: "problem", role: "alert" });
  const id = newId();
  // The button of the form, though it is not in it: as long as it is disabled, Enter in a field does
  // nothing either.
  const go = h(
    "button",
    { type: "submit", form: id, class: isDangerous ? "danger" : "primary", disabled: true },
    action,
  );
  const form = h("form", { id }, fields, h("h3", {}, "What changes"), difference, problem);
  const dialog = open(title, form, [go]);
  let prepared = null;
  let turn = 0;

  async function show() {
    const mine = ++turn;
    go.disabled = true;
    prepared = null;
    try {
      const found = await prepare();
      if (mine !== turn) return;
      prepared = found;
      difference.replaceChildren(found.difference, ...(found.note ? [h("p", {}, found.note)] : []));
      text(problem, "");
      go.disabled = false;
    } catch (error) {
      if (mine !== turn) return;
      difference.replaceChildren(h("p", { class: "hint" }, "Nothing yet."));
      text(problem, error.message);
    }
  }

  async function make() {
    if (prepared === null) return;
    go.disabled = true;
    try {
      tell(await commit(prepared.etag));
      dialog.close();
    } catch (error) {
      const hasMoved = error.status === 412;
      if (hasMoved) await show();
      text(problem, hasMoved ? "The configuration has changed meanwhile. Look again." : error.message);
      go.disabled = prepared === null;
    }
  }

  let pause = 0;
  form.addEventListener("input", () => {
    go.disabled = true;
    clearTimeout(pause);
    pause = setTimeout(show, 150);
  });
  form.noValidate = true;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    make();
  });
  show();
  return dialog;
}

/** A field with its label. */
export function field(label, input, hint = "") {
  return h("label", { class: "field" }, h("span", {}, label), input, hint && h("small", {}, hint));
}
