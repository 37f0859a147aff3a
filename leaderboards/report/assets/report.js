"use strict";
// Sorting, filters and sliders. The page is complete without this script; texts are only ever set as text content.
(() => {
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  // ---- state in the address: #grid.sort=3-descending&grid.filter=unet, so that a view can be bookmarked ----

  const isState = location.hash.includes("=");
  const state = new URLSearchParams(isState ? location.hash.slice(1) : "");
  const remember = (key, value) => {
    if (value) state.set(key, value);
    else state.delete(key);
    try {
      history.replaceState(null, "", state.size ? `#${state}` : location.pathname + location.search);
    } catch {
      // some browsers forbid this for local files; the page works without it
    }
  };

  // ---- tables ----

  const sortKey = (row, column, numeric) => {
    const cell = row.cells[column];
    if (!numeric) return cell.firstChild ? cell.innerText.trim() : "";
    return cell.dataset.v === "" ? null : Number(cell.dataset.v);
  };
  const empty = (key) => key === null || key === "" || key === "–" || Number.isNaN(key);
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true, sensitivity: "base" }));

  const sortRows = (rows, column, numeric, descending) =>
    rows
      .map((row, place) => ({ row, place, key: sortKey(row, column, numeric) }))
      .sort((a, b) => {
        if (empty(a.key) || empty(b.key)) return empty(a.key) - empty(b.key) || a.place - b.place; // empty ones stay last
        return (descending ? compare(b.key, a.key) : compare(a.key, b.key)) || a.place - b.place;
      })
      .map((each) => each.row);

  // Leaf headers in column order, collected from up to two header rows.
  const leaves = (table) => {
    const [first, second] = [...table.tHead.rows].map((row) => [...row.cells]);
    return first.flatMap((cell) => (cell.scope === "colgroup" ? second.splice(0, cell.colSpan) : [cell]));
  };

  const setUpTable = (table) => {
    const name = table.dataset.grid;
    const body = table.tBodies[0];
    const original = [...body.rows];
    const headers = leaves(table);

    const sort = (column, direction) => {
      const header = headers[column];
      headers.forEach((each) => each.setAttribute("aria-sort", each === header ? direction : "none"));
      body.append(...sortRows(original, column, header.classList.contains("n"), direction === "descending"));
    };
    headers.forEach((header, column) => {
      const button = make("button", { type: "button" }, ...header.childNodes);
      if (header.title) button.title = header.title;
      header.replaceChildren(button);
      header.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const now = header.getAttribute("aria-sort");
        const first = header.dataset.first === "desc" ? "descending" : "ascending";
        const next = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
        sort(column, next);
        remember(`${name}.sort`, `${column}-${next}`);
      });
    });

    const search = make("input", { type: "search", placeholder: "Filter rows", "aria-label": `Filter rows of ${table.caption.innerText}` });
    const count = make("span", { role: "status" });
    const tools = make("div", { class: "tools" }, search);
    const protocols = table.dataset.protocols ? JSON.parse(table.dataset.protocols) : [];
    const select = make("select", { "aria-label": "Protocol" }, new Option("all protocols", ""));
    for (const protocol of protocols) select.append(new Option(`protocol ${protocol}`, protocol));
    if (protocols.length) tools.append(select);
    const ran = make("input", { type: "checkbox" });
    if ("someNotRun" in table.dataset) tools.append(make("label", {}, ran, " only rows that were run"));
    tools.append(count);
    if (original.length > 3) table.closest(".grid").prepend(tools);

    const filter = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      let all = 0;
      for (const row of original) {
        const own = row.dataset.protocol ?? "";
        const only = row.dataset.only ?? "";
        const possible = only ? only === select.value : !select.value || !own || own === select.value;
        const text = row.textContent.toLowerCase();
        row.hidden = !(possible && (own || !ran.checked) && words.every((word) => text.includes(word)));
        shown += !row.hidden;
        all += !only || possible;
      }
      count.textContent = shown === all ? `${all} rows` : `${shown} of ${all} rows`;
    };
    const filterAndRemember = () => {
      filter();
      remember(`${name}.filter`, search.value);
      remember(`${name}.protocol`, select.value);
      remember(`${name}.ran`, ran.checked ? "1" : "");
    };
    search.addEventListener("input", filterAndRemember);
    select.addEventListener("change", filterAndRemember);
    ran.addEventListener("change", filterAndRemember);

    search.value = state.get(`${name}.filter`) ?? "";
    if (protocols.includes(state.get(`${name}.protocol`))) select.value = state.get(`${name}.protocol`);
    ran.checked = state.has(`${name}.ran`);
    filter();
    const [column, direction] = (state.get(`${name}.sort`) ?? "").split("-");
    if (headers[column] && ["ascending", "descending"].includes(direction)) sort(Number(column), direction);
  };

  // ---- slider: image, annotation, prediction; each position wipes one picture over the previous one ----

  const setUpViewer = (viewer) => {
    const layers = [...viewer.querySelectorAll(".layer")];
    const names = layers.map((layer) => layer.dataset.name);
    const last = 100 * (layers.length - 1);
    const bar = make("span", { class: "bar", "aria-hidden": "true" });
    const left = make("span", { class: "tag left", "aria-hidden": "true" });
    const right = make("span", { class: "tag right", "aria-hidden": "true" });
    const stage = make("div", { class: "stage" }, ...layers, bar, left, right);
    const slide = make("input", { type: "range", class: "slide", min: 0, max: last, step: 1, "aria-label": names.join(", ") });
    const jump = make("div", { class: "jump" });
    const buttons = names.map((name, place) => {
      const button = make("button", { type: "button" }, name);
      button.addEventListener("click", () => show(100 * place));
      return button;
    });
    jump.append(...buttons);
    viewer.append(stage, slide, jump);
    viewer.classList.add("on");

    const show = (value) => {
      slide.value = value;
      const over = Math.min(layers.length - 1, Math.ceil(value / 100)); // the picture that is being wiped in
      const share = over ? value - 100 * (over - 1) : 0;
      layers.forEach((layer, place) => {
        const visible = place < over ? 100 : place === over && place ? share : place ? 0 : 100;
        layer.style.clipPath = place ? `inset(0 ${100 - visible}% 0 0)` : "";
        layer.setAttribute("aria-hidden", String(visible === 0));
      });
      const whole = value % 100 === 0;
      bar.style.left = `${share}%`;
      bar.hidden = whole;
      left.textContent = whole ? names[value / 100] : names[over];
      right.textContent = whole ? "" : names[over - 1];
      right.hidden = whole;
      slide.setAttribute("aria-valuetext", whole ? left.textContent : `${names[over]} left, ${names[over - 1]} right`);
      buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(value === 100 * place)));
    };
    slide.addEventListener("input", () => show(Number(slide.value)));
    const drag = (event) => {
      if (event.type === "pointermove" && event.buttons === 0) return;
      const box = stage.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      const base = Math.max(0, Math.min(last - 100, 100 * (Math.ceil(Number(slide.value) / 100) - 1)));
      show(base + Math.max(1, Math.round(100 * share))); // 1, not 0: the pair that is compared stays the same
    };
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      drag(event);
    });
    stage.addEventListener("pointermove", drag);
    stage.addEventListener("dragstart", (event) => event.preventDefault());
    show(last - 50);
  };

  document.documentElement.classList.add("js");
  document.querySelectorAll("table[data-grid]").forEach(setUpTable);
  document.querySelectorAll(".viewer").forEach(setUpViewer);
  document.querySelectorAll("details.menu").forEach((menu) => {
    document.addEventListener("click", (event) => menu.contains(event.target) || menu.removeAttribute("open"));
    document.addEventListener("keydown", (event) => event.key === "Escape" && menu.removeAttribute("open"));
  });
})();
