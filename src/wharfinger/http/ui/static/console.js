// What every page does; a page works without it. Each part looks for its own elements.

import { lookAgain, offerCopies, searchAsTyped } from "./parts.js";
import { watchProgress } from "./progress.js";

for (const section of document.querySelectorAll("[data-progress]")) {
  watchProgress(section);
}
offerCopies(document);
for (const form of document.querySelectorAll("[data-search]")) {
  searchAsTyped(form);
}
for (const part of document.querySelectorAll("[data-again]")) {
  lookAgain(part);
}
