
// Appended to what bindgen writes (`berth.js`): no inline script, so the CSP needs no nonce.
globalThis.__RESOLVED_RESOURCES = [];
globalThis.__SERIALIZED_ERRORS = [];
globalThis.__INCOMPLETE_CHUNKS = [];

(async () => {
  const site = await import(import.meta.url);
  await site.default({ module_or_path: new URL("berth_bg.wasm", import.meta.url) });
  site.hydrate();
  const childrenOf = [];
  const wake = async (node) => {
    for (const element of [...node.children]) {
      const tag = element.localName;
      if (tag === "leptos-island") {
        const island = site[element.dataset.component];
        // Children belong to the island around them.
        childrenOf.at(-1)?.();
        if (island) await island(element);
        else console.error(`no island ${element.dataset.component}: the page and berth.js are of two builds`);
        await wake(element);
      } else if (tag === "leptos-children") {
        childrenOf.push(element.$$on_hydrate);
        await wake(element);
        childrenOf.pop();
      } else {
        await wake(element);
      }
    }
  };
  await wake(document.body);
  document.documentElement.dataset.live = "yes";
})();
