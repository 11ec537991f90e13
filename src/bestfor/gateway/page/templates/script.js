"use strict";
for (const button of document.querySelectorAll("[data-prompt]")) {
  button.addEventListener("click", () => {
    const field = document.getElementById("prompt");
    field.value = button.dataset.prompt;
    field.focus();
  });
}
for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.confirm && !window.confirm(form.dataset.confirm)) {
      event.preventDefault();
      return;
    }
    sessionStorage.setItem("bestfor-scroll", String(window.scrollY));
    // After the form is read: a disabled button would not be sent.
    setTimeout(() => form.querySelectorAll("button").forEach((one) => { one.disabled = true; }));
  });
}
const kept = sessionStorage.getItem("bestfor-scroll");
if (kept !== null) {
  sessionStorage.removeItem("bestfor-scroll");
  window.scrollTo(0, Number(kept));
}
