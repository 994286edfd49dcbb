// Shows how a sync goes while it goes: texts come ready in the viewer's language.

const FINISHED = "finished";

export function watchProgress(section) {
  if (!["queued", "running"].includes(section.dataset.state)) {
    return;
  }
  const source = new EventSource(section.dataset.progress);
  source.addEventListener("progress", (event) => {
    const told = JSON.parse(event.data);
    show(section, told);
    if (told.state === FINISHED) {
      source.close();
      // The rest of the page tells of the list as it was; now there is more to tell.
      window.location.reload();
    }
  });
}

function show(section, told) {
  for (const [name, text] of Object.entries(told.texts)) {
    const element = section.querySelector(`[data-told="${name}"]`);
    if (element && element.textContent !== text) {
      element.textContent = text;
    }
  }
  const bar = section.querySelector("progress");
  bar.max = Math.max(told.total, 1);
  bar.value = told.done;
  section.dataset.state = told.state;
}
