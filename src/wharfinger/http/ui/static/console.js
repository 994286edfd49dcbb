// What every page does; a page works without it. Each part looks for its own elements.

import { watchProgress } from "./progress.js";

for (const section of document.querySelectorAll("[data-progress]")) {
  watchProgress(section);
}
