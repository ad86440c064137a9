// What pages do besides htmx: nothing here is needed to read or to act.
"use strict";

// A browser keeps the clipboard from pages that came in clear.
if (navigator.clipboard) document.documentElement.classList.add("can-copy");

// Who does not look asks for nothing: a filter of the trigger would need eval.
document.addEventListener("htmx:before:request", (event) => {
  if (document.hidden && event.target.closest("[data-live]")) event.preventDefault();
});

// A link to a question opens its dialog in place; without this script it opens on a page.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-dialog]");
  if (link) {
    const dialog = document.getElementById(link.dataset.dialog);
    if (dialog && dialog.showModal) {
      event.preventDefault();
      dialog.close();
      dialog.classList.remove("inline");
      dialog.showModal();
    }
  }
  const cancel = event.target.closest("dialog [data-cancel]");
  if (cancel && !cancel.closest("dialog").classList.contains("inline")) {
    event.preventDefault();
    cancel.closest("dialog").close();
  }
  const copy = event.target.closest("button[data-copy]");
  if (copy) navigator.clipboard.writeText(copy.dataset.copy).then(() => {
    copy.classList.add("copied");
    copy.setAttribute("aria-label", "Copied");
  });
});

// "/" goes to the search field; no other key does anything of ours.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const search = document.querySelector("input[type=search]");
  if (search) {
    event.preventDefault();
    search.focus();
  }
});
