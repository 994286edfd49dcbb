// Parts of a page that change without the page: searched as one types, and looked at again.

const TYPING_MS = 250;

const REPLACED = "replaced";
const OVERTAKEN = "overtaken";
const MISSING = "missing";

// Has a part of this page replaced by the same part of the page at an address. What comes late,
// after something else was asked for, is dropped.
async function replacePart(part, address, state) {
  state.asked?.abort();
  const asked = new AbortController();
  state.asked = asked;
  let found = null;
  try {
    const answer = await fetch(address, { signal: asked.signal, headers: { Accept: "text/html" } });
    const text = await answer.text();
    found = new DOMParser().parseFromString(text, "text/html").getElementById(part.id);
  } catch {
    // The network, or the next question: told apart below.
  }
  if (asked.signal.aborted) {
    return OVERTAKEN;
  }
  if (!found) {
    return MISSING;
  }
  part.replaceChildren(...document.importNode(found, true).childNodes);
  offerCopies(part);
  return REPLACED;
}

// The address of what a form asks for, without what is not filled in.
function addressOf(form) {
  const address = new URL(form.action);
  address.search = "";
  for (const [name, value] of new FormData(form)) {
    if (value !== "") {
      address.searchParams.append(name, value);
    }
  }
  return address.href;
}

export function searchAsTyped(form) {
  const part = document.getElementById(form.dataset.search);
  const state = {};
  let timer;
  const search = async () => {
    window.clearTimeout(timer);
    const address = addressOf(form);
    part.setAttribute("aria-busy", "true");
    const became = await replacePart(part, address, state);
    if (became === OVERTAKEN) {
      return;
    }
    part.removeAttribute("aria-busy");
    if (became === REPLACED) {
      window.history.replaceState(null, "", address);
      // Whoever does not see the page hears how many there are, and not all of them.
      const said = part.querySelector("[data-said]")?.dataset.said ?? part.textContent.trim();
      document.getElementById("said").textContent = said;
    } else {
      // A page of another shape: the session has ended, or something is wrong. It says what.
      window.location.assign(address);
    }
  };
  form.addEventListener("input", () => {
    window.clearTimeout(timer);
    timer = window.setTimeout(search, TYPING_MS);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
}

export function lookAgain(part) {
  const box = document.getElementById(part.dataset.switch);
  const state = {};
  box.closest("[hidden]")?.removeAttribute("hidden");
  window.setInterval(async () => {
    const isRead = part.contains(document.activeElement);
    if (box.checked && !document.hidden && !isRead) {
      await replacePart(part, window.location.href, state);
    }
  }, Number(part.dataset.again) * 1000);
}

export function offerCopies(within) {
  for (const button of within.querySelectorAll("button[data-copy]")) {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", () => copy(button));
  }
}

async function copy(button) {
  await navigator.clipboard.writeText(button.dataset.copy);
  const said = button.textContent;
  button.textContent = button.dataset.copied;
  window.setTimeout(() => {
    button.textContent = said;
  }, 1500);
}
