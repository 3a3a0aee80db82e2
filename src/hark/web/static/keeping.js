/* Where drafts are kept: in localStorage, which can be read at once, and in IndexedDB, which can say
 * when it is on the disk. Browsers write localStorage to the disk seconds later, so that one that is
 * killed, or a computer that goes off, would lose what was typed last.
 */

const PATIENCE_MS = 3000;
const waiting = new Map();
let flushing = null;

const opened = new Promise((resolve) => {
  try {
    const request = indexedDB.open("hark", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("drafts");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(null);
  } catch {
    resolve(null);
  }
});

// Left before its database is open, a page would be frozen with the request, and those after it would
// wait for it. Browsers do not freeze a page that listens for its end.
const staysAwake = () => {};
window.addEventListener("unload", staysAwake);
opened.then(() => window.removeEventListener("unload", staysAwake));

export function read(name) {
  try {
    return JSON.parse(localStorage.getItem(name));
  } catch {
    return null;
  }
}

/** Returns whether it is kept. */
export function write(name, value) {
  const dated = { ...value, savedAt: Date.now() };
  toDisk(name, dated);
  try {
    localStorage.setItem(name, JSON.stringify(dated));
    return true;
  } catch {
    return false;
  }
}

export function erase(name) {
  toDisk(name, null);
  try {
    localStorage.removeItem(name);
  } catch { /* Nothing could be kept there either. */ }
}

export function namesWith(prefix) {
  try {
    return Object.keys(localStorage).filter((name) => name.startsWith(prefix));
  } catch {
    return [];
  }
}

/** Bring back what localStorage has lost. Where IndexedDB does not answer the page goes on without, and
 *  what is typed is in localStorage alone. */
export const recover = () => Promise.race([
  bringBack(), new Promise((resolve) => { setTimeout(resolve, PATIENCE_MS); }),
]);

async function bringBack() {
  const database = await opened;
  if (!database) return;
  const drafts = database.transaction("drafts").objectStore("drafts");
  const [names, values] = await Promise.all([answerOf(drafts.getAllKeys()), answerOf(drafts.getAll())]);
  names.forEach((name, place) => {
    if (values[place].savedAt > (read(name)?.savedAt ?? 0)) localStorage.setItem(name, JSON.stringify(values[place]));
  });
}

/** Resolves when all is on the disk. */
export const settled = () => flushing ?? Promise.resolve();

function toDisk(name, value) {
  waiting.set(name, value);
  flushing ??= flush().finally(() => { flushing = null; });
}

/** While one change is being written, later ones of a draft replace each other. */
async function flush() {
  const database = await opened;
  while (database && waiting.size) {
    const changes = Array.from(waiting);
    waiting.clear();
    const work = database.transaction("drafts", "readwrite", { durability: "strict" });
    const drafts = work.objectStore("drafts");
    for (const [name, value] of changes) {
      if (value === null) drafts.delete(name);
      else drafts.put(value, name);
    }
    await new Promise((resolve) => { work.oncomplete = work.onabort = resolve; });
  }
}

const answerOf = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});
